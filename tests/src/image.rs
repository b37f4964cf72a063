//! The operator's image, built from this checkout as `just image` does, for this machine alone.

use std::{path::PathBuf, sync::OnceLock};

use regcred_image::{Architecture, build, write};

use crate::{
    binaries::{lock, say},
    error::{Error, Result},
    install::repository,
};

/// The tag of the image, which the chart asks for.
const TAG: &str = env!("CARGO_PKG_VERSION");

/// The folder of the OCI layout; built once per process. Blocks, for minutes the first time.
pub fn layout() -> Result<PathBuf> {
    static LAYOUT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = LAYOUT.get() {
        return Ok(path.clone());
    }
    let (architecture, binary) = binary(build::OPERATOR)?;
    let repository = repository();
    let folder = repository.join("target/image-of-tests");
    // Another test process may read it, or write it too.
    let _lock = lock(&repository.join("target/image-of-tests.lock"))?;
    write(&folder, TAG, &[(architecture, binary)]).map_err(|error| failed(&error))?;
    Ok(LAYOUT.get_or_init(|| folder).clone())
}

/// The operator as images ship it: `REGCRED_BINARY`, or built from this checkout. Blocks, for minutes the first time.
pub fn operator() -> Result<PathBuf> {
    match std::env::var_os("REGCRED_BINARY") {
        Some(path) => Ok(PathBuf::from(path)),
        None => binary(build::OPERATOR).map(|(_, path)| path),
    }
}

/// The kubectl plugin as releases have it, built from this checkout. Blocks, for minutes the first time.
pub fn plugin() -> Result<PathBuf> {
    binary(build::PLUGIN).map(|(_, path)| path)
}

fn binary(program: build::Program) -> Result<(Architecture, PathBuf)> {
    say("building a program as releases have it, if it is not there: two to five minutes");
    let architecture = Architecture::of_this_machine()
        .ok_or_else(|| Error::Unexpected(format!("no image for {}", std::env::consts::ARCH)))?;
    let repository = repository()
        .canonicalize()
        .map_err(|source| Error::Io { context: "find the repository".to_owned(), source })?;
    let path = build::binary(&repository, program, architecture).map_err(|error| failed(&error))?;
    Ok((architecture, path))
}

fn failed(error: &regcred_image::Error) -> Error {
    Error::Unexpected(format!("the image: {error}"))
}
