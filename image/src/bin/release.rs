//! Makes the files of a release: see `just release`.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use regcred_image::{
    Architecture, Error, build,
    plugin::{ELSEWHERE, Platform},
    program::{ended, repository},
    release::Release,
};

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
    /// Where the files of releases are downloaded, for krew
    #[arg(long, default_value = concat!(env!("CARGO_PKG_REPOSITORY"), "/releases/download"))]
    downloads: String,
    /// Folder with the binaries of the kubectl plugin that are built on their own systems, as in
    /// `kubectl-regcred_darwin_arm64/kubectl-regcred`; a dry run takes those that there are
    #[arg(long, value_name = "FOLDER", default_value = "target/plugins")]
    plugins: PathBuf,
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
    ended("regcred-release", &arguments.output, make(&arguments))
}

/// Returns the digest of the image.
fn make(arguments: &Arguments) -> Result<String, Error> {
    let wanted = format!("v{VERSION}");
    if let Some(tag) = arguments.tag.as_ref().filter(|tag| **tag != wanted) {
        return Err(Error::Release(format!(
            "the tag is {tag:?}, but this is version {VERSION}: tag it {wanted}"
        )));
    }
    let repository = repository()?;
    let build = |program| build::binaries(&repository, program, &arguments.architecture);
    let binaries = build(build::OPERATOR)?;
    let own = build(build::PLUGIN)?.into_iter();
    let mut plugins: Vec<_> = own.map(|(architecture, path)| (Platform::linux(architecture), path)).collect();
    plugins.extend(built_elsewhere(arguments)?);
    let release = Release {
        repository: &repository,
        output: &arguments.output,
        registry: &arguments.registry,
        version: VERSION,
        binaries: &binaries,
        plugins: &plugins,
        downloads: &arguments.downloads,
        further: &arguments.further,
        helm: &arguments.helm,
        draft: arguments.dry_run,
    };
    release.make()
}

/// The plugin's binaries for systems other than Linux. Only a dry run may lack some.
fn built_elsewhere(arguments: &Arguments) -> Result<Vec<(Platform, PathBuf)>, Error> {
    let all = ELSEWHERE.map(|platform| (platform, platform.binary_in(&arguments.plugins)));
    let (found, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, path)| path.is_file());
    match missing.first() {
        Some((platform, path)) if !arguments.dry_run => Err(Error::Release(format!(
            "the plugin for {platform} is not at {}: build it there, or name the folder by --plugins",
            path.display()
        ))),
        _ => Ok(found),
    }
}
