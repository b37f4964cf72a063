//! Writes the files of `deploy` that are made from others: see `regcred_tests::chart`.

#![allow(clippy::print_stderr, reason = "the only place where this program can say why it failed")]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match regcred_tests::chart::generate().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate: {error}");
            ExitCode::FAILURE
        }
    }
}
