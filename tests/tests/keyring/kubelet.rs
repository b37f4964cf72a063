//! The small Go program around the kubelet's own packages, asked through pipes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde::Deserialize;

use crate::generate::Case;

/// What the kubelet tries for an image, first to last, or why it cannot.
pub(crate) type Answer = Result<Vec<Login>, String>;

/// The running program.
pub(crate) struct Kubelet(Child);

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    error: String,
    #[serde(default)]
    creds: Vec<Login>,
}

/// A user name and a password.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Login {
    #[serde(rename = "U")]
    pub(crate) username: String,
    #[serde(rename = "P")]
    pub(crate) password: String,
}

impl Kubelet {
    /// Builds it if need be, and starts it.
    pub(crate) fn start() -> Self {
        let program = regcred_tests::binaries::keyring().unwrap_or_else(|error| panic!("{error}"));
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(command.spawn().expect("start the kubelet's keyring"))
    }

    /// Asks about every case. A thread writes, so that neither side waits for the other's pipe.
    pub(crate) fn ask(mut self, cases: &[Case]) -> Vec<Answer> {
        let mut stdin = self.0.stdin.take().unwrap();
        let stdout = BufReader::new(self.0.stdout.take().unwrap());
        let questions: Vec<String> = cases.iter().map(|case| serde_json::to_string(case).unwrap()).collect();
        let writer = thread::spawn(move || {
            for question in questions {
                writeln!(stdin, "{question}").unwrap();
            }
        });
        let answers = stdout.lines().map(|line| answer(&line.unwrap())).collect();
        writer.join().unwrap();
        self.0.wait().unwrap();
        answers
    }
}

fn answer(line: &str) -> Answer {
    let reply: Reply = serde_json::from_str(line).unwrap();
    if reply.error.is_empty() { Ok(reply.creds) } else { Err(reply.error) }
}
