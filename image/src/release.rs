//! The files of a release: the image, a chart and manifests that name it by its digest, the binaries, the kubectl plugin with
//! the manifest by which krew finds it, notes, and checksums
//! of all that is downloaded. Nothing is pushed and nothing signed.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Architecture, Error,
    oci::Blob,
    plugin::{self, Platform},
    write,
};

/// The file of checksums, as `sha256sum --check` reads it.
pub const CHECKSUMS: &str = "checksums.txt";
/// krew's manifest of the kubectl plugin.
pub const KREW: &str = "krew.yaml";
/// What changed, from the changelog.
pub const NOTES: &str = "notes.md";

/// What a release is made of.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    /// The folder of the repository.
    pub repository: &'a Path,
    /// The folder of the files. What an earlier release left there is deleted.
    pub output: &'a Path,
    /// Registry and owner under which image and chart are to be pushed, such as `ghcr.io/regcred`.
    pub registry: &'a str,
    /// The version, without `v`.
    pub version: &'a str,
    /// The operator for each architecture.
    pub binaries: &'a [(Architecture, PathBuf)],
    /// The kubectl plugin for each platform.
    pub plugins: &'a [(Platform, PathBuf)],
    /// Where the files of releases are downloaded: a version and a file's name follow.
    pub downloads: &'a str,
    /// Further files to be downloaded, such as an SBOM.
    pub further: &'a [PathBuf],
    /// The program Helm.
    pub helm: &'a Path,
    /// Take what is not released yet for the notes, where the changelog has no section of this version.
    pub draft: bool,
}

impl Release<'_> {
    /// Makes the files; returns the digest of the image, which the layout in `image` has under the version as its tag.
    pub fn make(&self) -> Result<String, Error> {
        self.check_version()?;
        let notes = self.notes()?;
        self.clear()?;
        let digest = write(&self.output.join("image"), self.version, self.binaries)?;
        for (architecture, binary) in self.binaries {
            copy(binary, &self.output.join(format!("regcred-linux-{architecture}")))?;
        }
        for file in self.further {
            copy(file, &self.output.join(file.file_name().unwrap_or_default()))?;
        }
        self.plugins()?;
        self.manifests(&digest)?;
        self.chart(&digest)?;
        self.checksums()?;
        // What is said of a release is no file of it.
        save(&self.output.join(NOTES), &notes)?;
        Ok(digest)
    }

    fn check_version(&self) -> Result<(), Error> {
        let path = self.repository.join("deploy/chart/Chart.yaml");
        let chart = read(&path)?;
        for key in ["version", "appVersion"] {
            if !chart.lines().any(|line| line == format!("{key}: {}", self.version)) {
                let problem =
                    format!("{} has another {key} than {}: correct it", path.display(), self.version);
                return Err(Error::Release(problem));
            }
        }
        Ok(())
    }

    /// The section of the changelog about this version.
    fn notes(&self) -> Result<String, Error> {
        let path = self.repository.join("CHANGELOG.md");
        let changelog = read(&path)?;
        let unreleased = || self.draft.then(|| section(&changelog, "Unreleased")).flatten();
        section(&changelog, self.version).or_else(unreleased).ok_or_else(|| {
            let problem = format!("{} has no section \"## {}\": write it", path.display(), self.version);
            Error::Release(problem)
        })
    }

    fn clear(&self) -> Result<(), Error> {
        let at = |source| Error::File { path: self.output.to_owned(), source };
        // A folder of something else is not deleted.
        if self.output.join(CHECKSUMS).is_file() {
            std::fs::remove_dir_all(self.output).map_err(at)?;
        }
        std::fs::create_dir_all(self.output).map_err(at)
    }

    /// The archives of the kubectl plugin, and krew's manifest of them.
    fn plugins(&self) -> Result<(), Error> {
        let mut archives = Vec::new();
        for (platform, binary) in self.plugins {
            let packed = plugin::packed(self.repository, *platform, binary)?;
            save(&self.output.join(platform.archive_name()), &packed)?;
            archives.push((*platform, packed));
        }
        let manifest = plugin::manifest(self.repository, self.version, self.downloads, &archives)?;
        save(&self.output.join(KREW), &manifest)
    }

    /// The manifests for kubectl.
    fn manifests(&self, digest: &str) -> Result<(), Error> {
        let install = self.repository.join("deploy/install.yaml");
        let usual = format!("image: \"regcred:{}\"", self.version);
        let pinned = format!("image: \"{}/regcred@{digest}\"", self.registry);
        let text = replaced(&install, &read(&install)?, &usual, &pinned)?;
        save(&self.output.join("install.yaml"), &text)?;
        let birth = "attach-at-birth.yaml";
        copy(&self.repository.join("deploy").join(birth), &self.output.join(birth))
    }

    /// The chart, with this very image as its default.
    fn chart(&self, digest: &str) -> Result<(), Error> {
        let source = self.output.join("chart");
        copy_folder(&self.repository.join("deploy/chart"), &source)?;
        let path = source.join("values.yaml");
        let repository = format!("\n  repository: {}/regcred\n", self.registry);
        let values = replaced(&path, &read(&path)?, "\n  repository: regcred\n", &repository)?;
        let values = replaced(&path, &values, "\n  digest: \"\"\n", &format!("\n  digest: {digest}\n"))?;
        save(&path, &values)?;
        self.package(&source)?;
        std::fs::remove_dir_all(&source).map_err(|error| Error::File { path: source, source: error })
    }

    fn package(&self, source: &Path) -> Result<(), Error> {
        let failed = |reason| Error::Build { command: format!("{} package", self.helm.display()), reason };
        let mut command = Command::new(self.helm);
        command.arg("package").arg(source).arg("--destination").arg(self.output);
        let output = command
            .output()
            .map_err(|error| failed(format!("{error}; install Helm, or name it by --helm")))?;
        let reason = || format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(()) } else { Err(failed(reason())) }
    }

    fn checksums(&self) -> Result<(), Error> {
        let at = |source| Error::File { path: self.output.to_owned(), source };
        let mut lines = String::new();
        let entries =
            std::fs::read_dir(self.output).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(at)?;
        let mut files: Vec<PathBuf> =
            entries.iter().map(std::fs::DirEntry::path).filter(|path| path.is_file()).collect();
        files.sort();
        for path in files {
            let content =
                std::fs::read(&path).map_err(|source| Error::File { path: path.clone(), source })?;
            let digest = Blob::new(content).digest;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{}  {name}", digest.trim_start_matches("sha256:"));
        }
        save(&self.output.join(CHECKSUMS), &lines)
    }
}

/// What a changelog has under the heading of this name.
fn section(changelog: &str, name: &str) -> Option<String> {
    let mut sections = changelog.split("\n## ").skip(1).filter_map(|section| section.split_once('\n'));
    let is_meant = |heading: &str| {
        heading.split([' ', ']']).next().is_some_and(|first| first.trim_start_matches('[') == name)
    };
    let (_, text) = sections.find(|(heading, _)| is_meant(heading))?;
    Some(format!("{}\n", text.trim()))
}

/// The text with its one part changed. A text that has it never or twice is not the one that was meant.
fn replaced(path: &Path, text: &str, part: &str, by: &str) -> Result<String, Error> {
    match text.matches(part).count() {
        1 => Ok(text.replacen(part, by, 1)),
        count => {
            Err(Error::Release(format!("{} has {:?} {count} times, not once", path.display(), part.trim())))
        }
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn save(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    std::fs::write(path, content).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::copy(from, to).map(drop).map_err(|source| Error::File { path: from.to_owned(), source })
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Error> {
    let at = |source| Error::File { path: from.to_owned(), source };
    std::fs::create_dir_all(to).map_err(at)?;
    for entry in std::fs::read_dir(from).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() { copy_folder(&path, &target)? } else { copy(&path, &target)? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_the_section_of_the_version_and_no_other() {
        let changelog = "# Changelog\n\n## Unreleased\n\nnew\n\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- b\n\n## 0.1.0\n\n- a\n";
        let found = |name| section(changelog, name);
        assert_eq!(found("0.2.0").as_deref(), Some("### Added\n\n- b\n"));
        assert_eq!(found("0.1.0").as_deref(), Some("- a\n"));
        assert_eq!(found("Unreleased").as_deref(), Some("new\n"));
        assert_eq!(found("0.1"), None);
    }

    #[test]
    fn what_is_not_there_once_is_not_replaced() {
        let replace = |text| replaced(Path::new("f"), text, "a", "b");
        assert_eq!(replace("xa").unwrap(), "xb");
        assert!(replace("x").is_err() && replace("aa").is_err());
    }
}
