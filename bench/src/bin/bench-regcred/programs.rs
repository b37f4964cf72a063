//! Builds what is measured, as it is released.

use regcred_bench::{Result, subject::Programs};
use regcred_tests::binaries::workspace_binary;

/// For cargo: the names of functions, which a release does not have.
const WITH_SYMBOLS: [&str; 2] = ["--config", "profile.release.strip='none'"];

/// The operator (`REGCRED_BINARY`, or a release build of this checkout) and the bare writer.
pub(crate) fn build() -> Result<Programs> {
    build_with(&[])
}

/// The same with the names of the operator's functions.
pub(crate) fn build_with_symbols() -> Result<Programs> {
    build_with(&WITH_SYMBOLS)
}

fn build_with(further: &[&str]) -> Result<Programs> {
    let arguments = [&["--release"], further].concat();
    let regcred = match std::env::var_os("REGCRED_BINARY") {
        Some(path) => path.into(),
        None => workspace_binary("regcred", "regcred", &arguments)?,
    };
    Ok(Programs { regcred, bare_writer: workspace_binary("regcred-bench", "bare-writer", &arguments)? })
}
