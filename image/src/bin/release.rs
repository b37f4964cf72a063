//! Makes the files of a release: see `just release`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use regcred_image::{Architecture, Error, build, release::Release};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Makes the files of a release of regcred. Pushes and signs nothing.
#[derive(Parser)]
#[command(name = "regcred-release")]
struct Arguments {
    /// Needs no tag, and no section of the version in CHANGELOG.md
    #[arg(long)]
    dry_run: bool,
    /// The tag of the release, which must be `v` and the version
    #[arg(long, required_unless_present = "dry_run")]
    tag: Option<String>,
    /// Registry and owner under which image and chart are to be pushed
    #[arg(long, default_value = "ghcr.io/regcred")]
    registry: String,
    /// For which machines; arm64 needs gcc-aarch64-linux-gnu on others
    #[arg(long, value_enum, value_delimiter = ',', default_value = "amd64,arm64")]
    architecture: Vec<Architecture>,
    /// Folder of the files
    #[arg(long, value_name = "FOLDER", default_value = "target/dist")]
    output: PathBuf,
    /// A further file, such as an SBOM
    #[arg(long = "add", value_name = "FILE")]
    further: Vec<PathBuf>,
    /// The program Helm
    #[arg(long, default_value = "helm")]
    helm: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match make(&arguments) {
        Ok(digest) => {
            println!("{} {digest}", arguments.output.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("regcred-release: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the digest of the image.
fn make(arguments: &Arguments) -> Result<String, Error> {
    let wanted = format!("v{VERSION}");
    if let Some(tag) = arguments.tag.as_ref().filter(|tag| **tag != wanted) {
        return Err(Error::Release(format!(
            "the tag is {tag:?}, but this is version {VERSION}: tag it {wanted}"
        )));
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let repository = repository.canonicalize().map_err(|source| Error::File { path: repository, source })?;
    let binary =
        |architecture: &Architecture| Ok((*architecture, build::binary(&repository, *architecture)?));
    let binaries = arguments.architecture.iter().map(binary).collect::<Result<Vec<_>, Error>>()?;
    let release = Release {
        repository: &repository,
        output: &arguments.output,
        registry: &arguments.registry,
        version: VERSION,
        binaries: &binaries,
        further: &arguments.further,
        helm: &arguments.helm,
        draft: arguments.dry_run,
    };
    release.make()
}
