//! Small images for Pods, made in memory: one layer with the program of test images and a label, so that no two
//! images are the same. Written as an archive for containerd, or pushed to a registry.

use std::path::Path;

use regcred_image::{
    Architecture,
    oci::{self, Blob, Entry, LAYOUT_FILE, MANIFEST},
};
use serde_json::json;

use crate::error::{Context as _, Error, Result};

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its only layer, and its configuration.
    pub blobs: [Blob; 2],
    /// Its manifest.
    pub manifest: Blob,
}

impl Image {
    /// An image of this program, which says `label` when it starts.
    pub fn new(program: &Path, label: &str) -> Result<Self> {
        let program = std::fs::read(program).context(format!("read {}", program.display()))?;
        let layer = Blob::new(archive(&[
            Entry { path: "app", mode: 0o755, content: &program },
            Entry { path: "label", mode: 0o644, content: label.as_bytes() },
        ])?);
        let architecture = Architecture::of_this_machine()
            .ok_or_else(|| Error::Unexpected(format!("no images for {}", std::env::consts::ARCH)))?;
        let run = json!({ "Entrypoint": ["/app", label], "User": "65535:65535" });
        let config = Blob::config(architecture, &run, &layer);
        let manifest = Blob::manifest(&config, &layer, oci::LAYER);
        Ok(Self { manifest, blobs: [layer, config] })
    }

    /// Writes an archive of an OCI layout that holds it under this name.
    pub fn write_archive(&self, name: &str, path: &Path) -> Result<()> {
        let mut manifest = self.manifest.descriptor(MANIFEST);
        manifest["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string();
        let blobs = self.blobs.iter().chain([&self.manifest]);
        let blobs: Vec<(String, &[u8])> = blobs.map(|blob| (blob.path(), blob.content.as_slice())).collect();
        let files = [LAYOUT_FILE, ("index.json", index.as_bytes())];
        let files = files.into_iter().chain(blobs.iter().map(|(path, content)| (path.as_str(), *content)));
        let entries: Vec<Entry<'_>> =
            files.map(|(path, content)| Entry { path, mode: 0o644, content }).collect();
        std::fs::write(path, archive(&entries)?).context(format!("write {}", path.display()))
    }
}

fn archive(entries: &[Entry<'_>]) -> Result<Vec<u8>> {
    oci::archive(entries).context("make an archive")
}
