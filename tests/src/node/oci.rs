//! Small images for Pods, made in memory: one layer with the program of test images and a label, so that no two
//! images are the same. Written as an archive for containerd, or pushed to a registry.

use std::path::Path;

use regcred_image::Architecture;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::error::{Context as _, Error, Result};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Content and its digest.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `sha256:` and hexadecimal digits.
    pub digest: String,
    /// The content.
    pub content: Vec<u8>,
}

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its only layer, and its configuration.
    pub blobs: [Blob; 2],
    /// Its manifest.
    pub manifest: Blob,
}

impl Blob {
    fn new(content: Vec<u8>) -> Self {
        let hex: Vec<String> =
            digest(&SHA256, &content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { digest: format!("sha256:{}", hex.concat()), content }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.content.len() })
    }
}

impl Image {
    /// The media type of manifests.
    pub const MEDIA_TYPE: &'static str = MANIFEST;

    /// An image of this program, which says `label` when it starts.
    pub fn new(program: &Path, label: &str) -> Result<Self> {
        let program = std::fs::read(program).context(format!("read {}", program.display()))?;
        let entries = [("app", program.as_slice(), 0o755), ("label", label.as_bytes(), 0o644)];
        let layer = Blob::new(archive(&entries)?);
        let architecture = Architecture::of_this_machine()
            .ok_or_else(|| Error::Unexpected(format!("no images for {}", std::env::consts::ARCH)))?;
        let config = json!({
            "architecture": architecture.to_string(),
            "os": "linux",
            "config": { "Entrypoint": ["/app", label], "User": "65535:65535" },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        });
        let config = Blob::new(config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": [layer.descriptor(LAYER)],
        });
        Ok(Self { manifest: Blob::new(manifest.to_string().into_bytes()), blobs: [layer, config] })
    }

    /// Writes an archive of an OCI layout that holds it under this name.
    pub fn write_archive(&self, name: &str, path: &Path) -> Result<()> {
        let mut manifest = self.manifest.descriptor(MANIFEST);
        manifest["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string();
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        let blobs = self.blobs.iter().chain([&self.manifest]);
        let names: Vec<(String, &[u8])> = blobs
            .map(|blob| (format!("blobs/{}", blob.digest.replace(':', "/")), blob.content.as_slice()))
            .collect();
        let mut entries: Vec<(&str, &[u8], u32)> =
            vec![("oci-layout", layout, 0o644), ("index.json", index.as_bytes(), 0o644)];
        entries.extend(names.iter().map(|(name, content)| (name.as_str(), *content, 0o644)));
        std::fs::write(path, archive(&entries)?).context(format!("write {}", path.display()))
    }
}

/// A tar archive of files: name, content, mode.
fn archive(entries: &[(&str, &[u8], u32)]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content, mode) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).context(format!("archive {name}"))?;
    }
    builder.into_inner().context("end an archive")
}
