//! What the programs of this crate share: which repository is meant, and what they print in the end.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "for people at a terminal")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::Error;

/// The repository that this was built from.
pub fn repository() -> Result<PathBuf, Error> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    path.canonicalize().map_err(|source| Error::File { path, source })
}

/// Prints where the image is with its digest, or in the program's name what went wrong.
pub fn ended(program: &str, output: &Path, digest: Result<String, Error>) -> ExitCode {
    match digest {
        Ok(digest) => {
            println!("{} {digest}", output.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}
