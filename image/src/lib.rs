//! regcred's container image as an OCI layout (opencontainers/image-spec, image-layout.md): one layer with a static
//! binary, the certificates of public authorities, and a user that is not root. No shell, no package manager, no
//! clock: the same binaries give the same digest, and the same source the same binaries.

pub mod build;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// The user in the image, as distroless images have it.
const USER: u64 = 65532;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

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
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let mut tagged = layout.json_blob(INDEX, &index)?;
    let digest = tagged["digest"].as_str().unwrap_or_default().to_owned();
    tagged["annotations"] = json!({ "org.opencontainers.image.ref.name": version });
    layout.file(
        "index.json",
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [tagged] }).to_string().as_bytes(),
    )?;
    layout.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(digest)
}

struct Layout<'a> {
    folder: &'a Path,
}

impl Layout<'_> {
    /// Takes an earlier layout away; a folder that holds none is left alone.
    fn clear(&self) -> Result<(), Error> {
        let blobs = self.folder.join("blobs");
        if self.folder.join("oci-layout").is_file() && blobs.is_dir() {
            std::fs::remove_dir_all(&blobs).map_err(|source| Error::File { path: blobs, source })?;
        }
        Ok(())
    }

    /// Returns the descriptor of its manifest.
    fn image(&self, version: &str, architecture: Architecture, binary: &[u8]) -> Result<Value, Error> {
        let layer = self.in_memory(layer(binary))?;
        let compressed = self.in_memory(gzip(&layer))?;
        let config = json!({
            "architecture": architecture.to_string(),
            "os": "linux",
            "config": {
                "User": format!("{USER}:{USER}"),
                "Entrypoint": ["/regcred"],
                "Cmd": ["run"],
                "ExposedPorts": { "8080/tcp": {} },
                "Labels": {
                    "org.opencontainers.image.title": "regcred",
                    "org.opencontainers.image.version": version,
                    "org.opencontainers.image.licenses": "Apache-2.0",
                },
            },
            "rootfs": { "type": "layers", "diff_ids": [sha256(&layer)] },
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.json_blob(CONFIG, &config)?,
            "layers": [self.blob(LAYER, &compressed)?],
        });
        let mut descriptor = self.json_blob(MANIFEST, &manifest)?;
        descriptor["platform"] = json!({ "architecture": architecture.to_string(), "os": "linux" });
        Ok(descriptor)
    }

    fn json_blob(&self, media_type: &str, value: &Value) -> Result<Value, Error> {
        self.blob(media_type, value.to_string().as_bytes())
    }

    /// Returns its descriptor.
    fn blob(&self, media_type: &str, content: &[u8]) -> Result<Value, Error> {
        let digest = sha256(content);
        self.file(&format!("blobs/{}", digest.replace(':', "/")), content)?;
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": content.len() }))
    }

    fn file(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.folder.join(name);
        let written = match path.parent() {
            Some(parent) => std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, content)),
            None => std::fs::write(&path, content),
        };
        written.map_err(|source| Error::File { path, source })
    }

    /// Writing to memory fails only with a broken archive, which is told of the layout's folder.
    fn in_memory(&self, outcome: std::io::Result<Vec<u8>>) -> Result<Vec<u8>, Error> {
        outcome.map_err(|source| Error::File { path: self.folder.to_owned(), source })
    }
}

/// The one layer, as tar.
fn layer(binary: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let passwd = format!("nonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n");
    for folder in ["etc/", "etc/ssl/", "etc/ssl/certs/"] {
        entry(&mut archive, tar::EntryType::Directory, folder, 0o755, &[])?;
    }
    entry(&mut archive, tar::EntryType::Regular, "etc/passwd", 0o644, passwd.as_bytes())?;
    entry(
        &mut archive,
        tar::EntryType::Regular,
        "etc/ssl/certs/ca-certificates.crt",
        0o644,
        authorities().as_bytes(),
    )?;
    entry(&mut archive, tar::EntryType::Regular, "regcred", 0o755, binary)?;
    archive.into_inner()
}

/// Owned by root, so that the user of the image can change nothing, and of no time.
fn entry(
    archive: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
    archive.append_data(&mut header, path, content)
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

fn sha256(content: &[u8]) -> String {
    let bytes = digest(&SHA256, content);
    let hex: Vec<String> = bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
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
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may fail loudly")]
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
            assert_eq!(sha256(&content), format!("sha256:{}", blob.file_name().to_str().unwrap()));
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
