//! Builds the operator and writes its image: see `just image`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use regcred_image::{Architecture, Error, build, write};

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
    match make(&arguments) {
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

/// Returns the digest to pin.
fn make(arguments: &Arguments) -> Result<String, Error> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let repository = repository.canonicalize().map_err(|source| Error::File { path: repository, source })?;
    let binary = |architecture: &Architecture| {
        Ok((*architecture, build::binary(&repository, build::OPERATOR, *architecture)?))
    };
    let binaries = arguments.architecture.iter().map(binary).collect::<Result<Vec<_>, _>>()?;
    write(&arguments.output, &arguments.tag, &binaries)
}
