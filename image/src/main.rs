//! Writes the image from binaries that are there: see `just image`, which builds them.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use regcred_image::{Architecture, write};

/// Writes regcred's container image as an OCI layout.
#[derive(Parser)]
struct Arguments {
    /// Static binary for linux/amd64
    #[arg(long, value_name = "FILE")]
    amd64: Option<PathBuf>,
    /// Static binary for linux/arm64
    #[arg(long, value_name = "FILE")]
    arm64: Option<PathBuf>,
    /// Folder of the layout
    #[arg(long, value_name = "FOLDER", default_value = "target/image")]
    output: PathBuf,
    /// Tag
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let amd64 = arguments.amd64.map(|path| (Architecture::Amd64, path));
    let arm64 = arguments.arm64.map(|path| (Architecture::Arm64, path));
    let binaries: Vec<_> = amd64.into_iter().chain(arm64).collect();
    if binaries.is_empty() {
        eprintln!("regcred-image: give --amd64 or --arm64, or both");
        return ExitCode::FAILURE;
    }
    match write(&arguments.output, &arguments.version, &binaries) {
        Ok(digest) => {
            println!("{} {digest}", arguments.output.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("regcred-image: {error}");
            ExitCode::FAILURE
        }
    }
}
