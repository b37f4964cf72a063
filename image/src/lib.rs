//! regcred's container image as an OCI layout (opencontainers/image-spec, image-layout.md): one layer with a static
//! binary, the certificates of public authorities, and a user that is not root. No shell, no package manager, no
//! clock: the same binaries give the same digest, and the same source the same binaries.

pub mod build;
pub mod oci;
pub mod plugin;
pub mod program;
pub mod release;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::oci::{Blob, Entry, INDEX, LAYER_GZIP, LAYOUT_FILE, MANIFEST, archive};

/// The user in the image, as distroless images have it.
const USER: u64 = 65532;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A binary that a scratch image cannot run.
    #[error(
        "{path} is not a static executable for {architecture}: build it for the musl target of that architecture"
    )]
    Unfit {
        /// Which.
        path: PathBuf,
        /// As Go names it, like the OCI specification.
        architecture: Architecture,
    },
    /// The repository does not hold what a release needs.
    #[error("{0}")]
    Release(String),
    /// A binary could not be built.
    #[error("`{command}`: {reason}")]
    Build {
        /// What was run.
        command: String,
        /// Why it failed.
        reason: String,
    },
}

/// An architecture, named as the OCI specification does, which follows Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Architecture {
    /// `x86_64`.
    Amd64,
    /// `aarch64`.
    Arm64,
}

impl Architecture {
    /// Of the machine that this runs on, if an image can be made for it.
    pub fn of_this_machine() -> Option<Self> {
        [Self::Amd64, Self::Arm64].into_iter().find(|each| each.rust_name() == std::env::consts::ARCH)
    }

    fn rust_name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// Writes a layout into `folder` with an image for each binary, under the tag `version`. Returns the digest of its
/// index, which is what to pin.
pub fn write(folder: &Path, version: &str, binaries: &[(Architecture, PathBuf)]) -> Result<String, Error> {
    let layout = Layout { folder };
    layout.clear()?;
    let mut manifests = Vec::new();
    for (architecture, path) in binaries {
        let binary = std::fs::read(path).map_err(|source| Error::File { path: path.clone(), source })?;
        if !is_static_executable(&binary, *architecture) {
            return Err(Error::Unfit { path: path.clone(), architecture: *architecture });
        }
        manifests.push(layout.image(version, *architecture, &binary)?);
    }
    let index = Blob::json(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }));
    let mut tagged = layout.blob(INDEX, &index)?;
    tagged["annotations"] = json!({ "org.opencontainers.image.ref.name": version });
    let entry = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [tagged] });
    layout.file("index.json", entry.to_string().as_bytes())?;
    layout.file(LAYOUT_FILE.0, LAYOUT_FILE.1)?;
    Ok(index.digest)
}

struct Layout<'a> {
    folder: &'a Path,
}

impl Layout<'_> {
    /// Takes an earlier layout away; a folder that holds none is left alone.
    fn clear(&self) -> Result<(), Error> {
        let blobs = self.folder.join("blobs");
        if self.folder.join(LAYOUT_FILE.0).is_file() && blobs.is_dir() {
            std::fs::remove_dir_all(&blobs).map_err(|source| Error::File { path: blobs, source })?;
        }
        Ok(())
    }

    /// Returns the descriptor of its manifest.
    fn image(&self, version: &str, architecture: Architecture, binary: &[u8]) -> Result<Value, Error> {
        let content = self.in_memory(layer(binary))?;
        let compressed = Blob::new(self.in_memory(gzip(&content))?);
        let run = json!({
            "User": format!("{USER}:{USER}"),
            "Entrypoint": ["/regcred"],
            "Cmd": ["run"],
            "ExposedPorts": { "8080/tcp": {} },
            "Labels": {
                "org.opencontainers.image.title": "regcred",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        });
        let config = Blob::config(architecture, &run, &Blob::new(content));
        let manifest = Blob::manifest(&config, &compressed, LAYER_GZIP);
        self.write_blob(&config)?;
        self.write_blob(&compressed)?;
        let mut descriptor = self.blob(MANIFEST, &manifest)?;
        descriptor["platform"] = json!({ "architecture": architecture.to_string(), "os": "linux" });
        Ok(descriptor)
    }

    /// Returns its descriptor.
    fn blob(&self, media_type: &str, blob: &Blob) -> Result<Value, Error> {
        self.write_blob(blob)?;
        Ok(blob.descriptor(media_type))
    }

    fn write_blob(&self, blob: &Blob) -> Result<(), Error> {
        self.file(&blob.path(), &blob.content)
    }

    fn file(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.folder.join(name);
        let written = match path.parent() {
            Some(parent) => std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, content)),
            None => std::fs::write(&path, content),
        };
        written.map_err(|source| Error::File { path, source })
    }

    /// Writing to memory fails only with a broken archive; the error names the layout's folder.
    fn in_memory(&self, outcome: std::io::Result<Vec<u8>>) -> Result<Vec<u8>, Error> {
        outcome.map_err(|source| Error::File { path: self.folder.to_owned(), source })
    }
}

/// The one layer, as tar.
fn layer(binary: &[u8]) -> std::io::Result<Vec<u8>> {
    let passwd = format!("nonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n");
    let authorities = authorities();
    let folder = |path| Entry { path, mode: 0o755, content: &[] };
    archive(&[
        folder("etc/"),
        folder("etc/ssl/"),
        folder("etc/ssl/certs/"),
        Entry { path: "etc/passwd", mode: 0o644, content: passwd.as_bytes() },
        Entry { path: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: authorities.as_bytes() },
        Entry { path: "regcred", mode: 0o755, content: binary },
    ])
}

/// The certificates of public authorities, as PEM.
fn authorities() -> String {
    let pem = |certificate: &[u8]| {
        let text = STANDARD.encode(certificate);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|line| str::from_utf8(line).ok()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|certificate| pem(certificate.as_ref())).collect()
}

fn gzip(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}

/// A 64-bit ELF file for this machine that asks for no dynamic linker (System V ABI, "Program Header": `PT_INTERP`).
fn is_static_executable(binary: &[u8], architecture: Architecture) -> bool {
    let machine: u16 = match architecture {
        Architecture::Amd64 => 62,
        Architecture::Arm64 => 183,
    };
    let is_elf = binary.starts_with(b"\x7fELF\x02\x01") && half(binary, 18) == Some(machine);
    is_elf && !program_headers(binary).any(|kind| kind == Some(3))
}

fn half(binary: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(binary.get(at..at + 2)?.try_into().ok()?))
}

/// The type of each program header.
fn program_headers(binary: &[u8]) -> impl Iterator<Item = Option<u32>> {
    let start = binary.get(32..40).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let start = usize::try_from(start.unwrap_or_default()).unwrap_or(usize::MAX);
    let (size, count) = (half(binary, 54).unwrap_or_default(), half(binary, 56).unwrap_or_default());
    (0..usize::from(count)).map(move |number| {
        let at = start.checked_add(number * usize::from(size))?;
        Some(u32::from_le_bytes(binary.get(at..at.checked_add(4)?)?.try_into().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header for amd64 with one program header of this type.
    fn elf(kind: u32) -> Vec<u8> {
        let mut bytes = vec![0; 120];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18] = 62;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes
    }

    fn write_one(binary: &[u8]) -> Result<(tempfile::TempDir, String), Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("binary");
        std::fs::write(&path, binary).unwrap();
        let digest = write(&folder.path().join("layout"), "1.0", &[(Architecture::Amd64, path)])?;
        Ok((folder, digest))
    }

    #[test]
    fn the_same_binary_gives_the_same_digest() {
        let (_first, one) = write_one(&elf(1)).unwrap();
        let (_second, other) = write_one(&elf(1)).unwrap();
        assert_eq!(one, other);
    }

    #[test]
    fn every_blob_is_what_its_descriptor_says() {
        let (folder, _) = write_one(&elf(1)).unwrap();
        let blobs = folder.path().join("layout/blobs/sha256");
        let mut count = 0;
        for blob in std::fs::read_dir(blobs).unwrap() {
            let blob = blob.unwrap();
            let content = std::fs::read(blob.path()).unwrap();
            assert_eq!(Blob::new(content).digest, format!("sha256:{}", blob.file_name().to_str().unwrap()));
            count += 1;
        }
        assert_eq!(count, 4, "index, manifest, configuration, layer");
    }

    #[test]
    fn the_layer_holds_the_binary_and_nothing_that_its_user_could_change() {
        let layer = layer(&elf(1)).unwrap();
        let mut archive = tar::Archive::new(layer.as_slice());
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (header.uid().unwrap(), header.mtime().unwrap(), header.mode().unwrap() & 0o022),
                (0, 0, 0)
            );
            names.push(entry.path().unwrap().display().to_string());
        }
        assert_eq!(
            names,
            [
                "etc/",
                "etc/ssl/",
                "etc/ssl/certs/",
                "etc/passwd",
                "etc/ssl/certs/ca-certificates.crt",
                "regcred"
            ]
        );
    }

    #[test]
    fn a_binary_that_needs_a_dynamic_linker_is_refused() {
        let error = write_one(&elf(3)).unwrap_err().to_string();
        assert!(error.contains("musl"), "{error}");
        assert!(write_one(b"#!/bin/sh\n").is_err());
    }
}
