//! Builds the operator and writes its image: see `just image`.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use regcred_image::{
    Architecture, Error, build,
    program::{ended, repository},
    write,
};

/// Builds regcred for Linux and writes its container image as an OCI layout.
#[derive(Parser)]
struct Arguments {
    /// For which machines; arm64 needs gcc-aarch64-linux-gnu on others
    #[arg(long, value_enum, value_delimiter = ',', default_value = "amd64,arm64")]
    architecture: Vec<Architecture>,
    /// Folder of the layout
    #[arg(long, value_name = "FOLDER", default_value = "target/image")]
    output: PathBuf,
    /// Tag
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ended("regcred-image", &arguments.output, make(&arguments))
}

/// Returns the digest to pin.
fn make(arguments: &Arguments) -> Result<String, Error> {
    let binaries = build::binaries(&repository()?, build::OPERATOR, &arguments.architecture)?;
    write(&arguments.output, &arguments.tag, &binaries)
}
