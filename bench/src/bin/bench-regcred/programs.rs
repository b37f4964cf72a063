//! Builds what is measured, as it is released.

use std::process::Stdio;

use regcred_bench::{Error, Result, error::InFile as _, subject::Programs};
use regcred_tests::install::repository;

/// The operator (`REGCRED_BINARY`, or a release build of this checkout) and the bare writer.
pub(crate) fn build() -> Result<Programs> {
    let regcred = match std::env::var_os("REGCRED_BINARY") {
        Some(path) => path.into(),
        None => built("regcred", "regcred")?,
    };
    Ok(Programs { regcred, bare_writer: built("regcred-bench", "bare-writer")? })
}

fn built(package: &str, binary: &str) -> Result<std::path::PathBuf> {
    let mut command = regcred_image::build::cargo(&repository());
    command.args(["build", "--release", "--package", package, "--bin", binary]);
    command.args(["--message-format=json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.in_file(std::path::Path::new("cargo"))?;
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let mut messages = messages.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let executable = messages.find_map(|message| {
        let ours = message["target"]["name"] == binary;
        message["executable"].as_str().filter(|_| ours).map(std::path::PathBuf::from)
    });
    let remedy = format!("`cargo build --release --package {package}` failed; its messages are above");
    executable.ok_or_else(|| Error::Rig(regcred_tests::Error::Missing { program: binary.to_owned(), remedy }))
}
