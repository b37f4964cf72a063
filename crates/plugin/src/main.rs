//! `kubectl regcred`: why a Pod does not pull, who cannot pull, and what a RegistryCredential holds together. It decides
//! nothing by itself: what is selected, claimed and attached is said by the operator's own planner, what a kubelet finds by
//! its own matching.
//!
//! | file | what it holds |
//! |---|---|
//! | `args` | the command line |
//! | `pod` | a Pod, as far as pulling is concerned |
//! | `kubeconfig` | kubeconfigs, and in sentences what is wrong with one |
//! | `cluster` | reads of the API server, which may be refused |
//! | `install` | reads of an installation, for `check` |
//! | `file` | RegistryCredentials of a file, as they would be once applied |
//! | `run` | from the command line to a report |
//! | `scene` | a cluster as it was read: one plain value |
//! | `copies` | what status says of copies, and no more |
//! | `mend` | the command that mends a cause |
//! | `diagnose` | why an image finds no entry: ten reasons |
//! | `text` | text of others, as it may be shown |
//! | `progress` | tells a terminal what takes long |
//! | `print` | tables, JSON, YAML and names |
//! | `picture` | pictures of a terminal, for the documentation: a test |
//! | `complete` | what a shell may complete |
//! | `probe` | asks registries, for `explain --probe` |
//! | `verbs` | one file for each verb |

mod args;
mod cluster;
mod complete;
mod copies;
mod diagnose;
mod file;
mod install;
mod kubeconfig;
mod mend;
#[cfg(test)]
mod picture;
mod pod;
mod print;
mod probe;
mod progress;
mod run;
mod scene;
mod text;
mod verbs;

use std::io::Write as _;
use std::process::ExitCode;

use args::Args;
use clap::Parser as _;

/// An error, also one of the command line: 2 says that there are findings.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are printed, and are no error.
            let _unheard = error.print();
            return if error.use_stderr() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
        }
    };
    match run::run(&args) {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(error) => {
            let _unheard = writeln!(std::io::stderr(), "error: {}", text::sentence(&error.to_string()));
            ExitCode::from(FAILED)
        }
    }
}
