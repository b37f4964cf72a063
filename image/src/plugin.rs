//! The kubectl plugin as it is downloaded: an archive for each platform, and the manifest by which krew finds them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::oci::{Blob, Entry, archive};
use crate::{Architecture, Error, gzip, is_static_executable};

/// The manifest, as it is in the repository: without the version and the platforms.
pub const MANIFEST: &str = "deploy/krew/regcred.yaml";
/// The name of the program.
const PROGRAM: &str = "kubectl-regcred";
/// What a shell calls that completes the plugin's command line.
const COMPLETION: &str = "kubectl_complete-regcred";

/// An operating system, as Go and krew call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// The binary is static.
    Linux,
    /// macOS.
    Darwin,
    /// The program's name ends with `.exe`.
    Windows,
}

/// Where a binary runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// The operating system.
    pub system: System,
    /// The architecture.
    pub architecture: Architecture,
}

/// The platforms of a release whose binaries are not built where the release is made: that takes their own systems.
pub const ELSEWHERE: [Platform; 3] = [
    Platform { system: System::Darwin, architecture: Architecture::Amd64 },
    Platform { system: System::Darwin, architecture: Architecture::Arm64 },
    Platform { system: System::Windows, architecture: Architecture::Amd64 },
];

impl std::fmt::Display for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Linux => "linux",
            Self::Darwin => "darwin",
            Self::Windows => "windows",
        })
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}", self.system, self.architecture)
    }
}

impl Platform {
    /// Linux, on this architecture.
    pub fn linux(architecture: Architecture) -> Self {
        Self { system: System::Linux, architecture }
    }

    /// The name of its archive.
    pub fn archive_name(self) -> String {
        format!("{PROGRAM}_{self}.tar.gz")
    }

    /// The name of the program in it.
    pub fn program(self) -> String {
        let suffix = if self.system == System::Windows { ".exe" } else { "" };
        format!("{PROGRAM}{suffix}")
    }

    /// Where its binary is in a folder that has one folder for each platform, named as its archive.
    pub fn binary_in(self, folder: &Path) -> PathBuf {
        folder.join(format!("{PROGRAM}_{self}")).join(self.program())
    }
}

/// The archive of a platform, compressed: the program, the licence, and what a shell calls that completes. The same files give
/// the same bytes.
pub fn packed(repository: &Path, platform: Platform, binary: &Path) -> Result<Vec<u8>, Error> {
    let program = read(binary)?;
    if platform.system == System::Linux && !is_static_executable(&program, platform.architecture) {
        return Err(Error::Unfit { path: binary.to_owned(), architecture: platform.architecture });
    }
    let licence = read(&repository.join("LICENSE"))?;
    let completion = read(&repository.join("crates/plugin").join(COMPLETION))?;
    let entries = [
        Entry { path: "LICENSE", mode: 0o644, content: &licence },
        Entry { path: &platform.program(), mode: 0o755, content: &program },
        Entry { path: COMPLETION, mode: 0o755, content: &completion },
    ];
    let packed = archive(&entries).and_then(|archive| gzip(&archive));
    packed.map_err(|source| Error::File { path: binary.to_owned(), source })
}

/// krew's manifest: what the repository says of the plugin, with a version, and where the archive of each platform is to be found.
pub fn manifest(
    repository: &Path,
    version: &str,
    downloads: &str,
    archives: &[(Platform, Vec<u8>)],
) -> Result<String, Error> {
    let path = repository.join(MANIFEST);
    let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    let incomplete =
        || Error::Release(format!("{} has no line \"spec:\" of its own: write it", path.display()));
    let (head, rest) = text.split_once("\nspec:\n").ok_or_else(incomplete)?;
    // What is said of the file in the repository is not true of this one.
    let head: String =
        head.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    let mut manifest = format!("{head}spec:\n  version: v{version}\n{rest}  platforms:\n");
    for (platform, archive) in archives {
        let digest = Blob::new(archive.clone()).digest;
        let Platform { system, architecture } = platform;
        // Writing to a String cannot fail.
        let _ = write!(
            manifest,
            "  - selector:\n      matchLabels:\n        os: {system}\n        arch: {architecture}\n    \
             uri: {downloads}/v{version}/{}\n    sha256: {}\n    bin: {}\n",
            platform.archive_name(),
            digest.trim_start_matches("sha256:"),
            platform.program(),
        );
    }
    Ok(manifest)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}
