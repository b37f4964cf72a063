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
    say("building the operator's image, if it is not there: two to five minutes");
    let failed = |error: regcred_image::Error| Error::Unexpected(format!("the image: {error}"));
    let architecture = Architecture::of_this_machine()
        .ok_or_else(|| Error::Unexpected(format!("no image for {}", std::env::consts::ARCH)))?;
    let repository = repository()
        .canonicalize()
        .map_err(|source| Error::Io { context: "find the repository".to_owned(), source })?;
    let binary = build::binary(&repository, architecture).map_err(failed)?;
    let folder = repository.join("target/image-of-tests");
    // Another test process may read it, or write it too.
    let _lock = lock(&repository.join("target/image-of-tests.lock"))?;
    write(&folder, TAG, &[(architecture, binary)]).map_err(failed)?;
    Ok(LAYOUT.get_or_init(|| folder).clone())
}
