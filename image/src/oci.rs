//! The parts of which an OCI image is made (opencontainers/image-spec): blobs, what describes them, and archives.

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::Architecture;

/// The media type of manifests.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of indexes.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of layers that are not compressed.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The media type of layers compressed by gzip.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The name and the content of the file that says that a folder or an archive is a layout.
pub const LAYOUT_FILE: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Content and its digest.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `sha256:` and hexadecimal digits.
    pub digest: String,
    /// The content.
    pub content: Vec<u8>,
}

impl Blob {
    /// Any content.
    pub fn new(content: Vec<u8>) -> Self {
        let bytes = digest(&SHA256, &content);
        let hex: Vec<String> = bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { digest: format!("sha256:{}", hex.concat()), content }
    }

    /// A document.
    pub fn json(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    /// The configuration of an image of one layer: how its program is run, and the layer before compression.
    pub fn config(architecture: Architecture, run: &Value, layer: &Self) -> Self {
        Self::json(&json!({
            "architecture": architecture.to_string(),
            "os": "linux",
            "config": run,
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        }))
    }

    /// The manifest of an image of one layer.
    pub fn manifest(config: &Self, layer: &Self, layer_type: &str) -> Self {
        Self::json(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": [layer.descriptor(layer_type)],
        }))
    }

    /// What refers to it.
    pub fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.content.len() })
    }

    /// Its file in a layout.
    pub fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

/// A file of an archive, or a folder where the path ends in a slash.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Where.
    pub path: &'a str,
    /// Who may do what, as in `chmod`.
    pub mode: u32,
    /// The content.
    pub content: &'a [u8],
}

/// A tar archive. Everything belongs to root, so that the user of an image can change nothing, and has no time, so
/// that the same content gives the same bytes.
pub fn archive(entries: &[Entry<'_>]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for Entry { path, mode, content } in entries {
        let mut header = tar::Header::new_ustar();
        let is_folder = path.ends_with('/');
        header.set_entry_type(if is_folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
        archive.append_data(&mut header, path, *content)?;
    }
    archive.into_inner()
}
