//! Which Kubernetes a control plane is of. `REGCRED_KUBERNETES` is a minor version that the usual kube-apiserver emulates
//! (`1.33`), or a whole version whose programs are built for it (`1.30.14`), from a Go module that is written here.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    binaries::{self, Tool, cached, folder_of, say},
    error::{Context as _, Error, Result},
};

const VARIABLE: &str = "REGCRED_KUBERNETES";
/// Go has changed what it does by default since older releases were made.
const HEAD: &str = "module regcred.dev/controlplane\n\ngo 1.26.0\n\ngodebug default=go1.23\n\n";

/// A version of Kubernetes.
#[derive(Debug, PartialEq, Eq)]
enum Release {
    /// The one that the Go module of the tests asks for.
    Usual,
    /// As the usual one emulates it.
    Emulated(String),
    /// Another, with programs of its own.
    Other(String),
}

impl Release {
    fn chosen() -> Result<Self> {
        Self::of(&std::env::var(VARIABLE).unwrap_or_default())
    }

    fn of(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        let numbers =
            parts.iter().all(|part| !part.is_empty() && part.chars().all(|char| char.is_ascii_digit()));
        match parts.len() {
            1 if text.is_empty() => Ok(Self::Usual),
            3 if text == binaries::kubernetes_version() => Ok(Self::Usual),
            2 if numbers => Ok(Self::Emulated(text.to_owned())),
            3 if numbers => Ok(Self::Other(text.to_owned())),
            _ => Err(Error::Unexpected(format!(
                "{VARIABLE} is {text:?}: give a version such as 1.30.14, or 1.33 to have it emulated"
            ))),
        }
    }
}

/// Flags with which kube-apiserver emulates the chosen version, if it is to.
pub(crate) fn api_server_flags() -> Result<Vec<String>> {
    Ok(match Release::chosen()? {
        Release::Emulated(minor) => vec![format!("--emulated-version={minor}")],
        Release::Usual | Release::Other(_) => Vec::new(),
    })
}

/// A program of the chosen version; built for minutes where it is not in the cache.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    match Release::chosen()? {
        Release::Usual | Release::Emulated(_) => binaries::kubernetes(name),
        Release::Other(version) => other(name, &version),
    }
}

fn other(name: &str, version: &str) -> Result<PathBuf> {
    let program = folder_of(version)?.join(name);
    if program.is_file() {
        return Ok(program);
    }
    let module = module(version)?.display().to_string();
    let package = format!("k8s.io/kubernetes/cmd/{name}");
    cached(Tool { name, package: &package, module: &module, version })
}

/// The folder of a Go module that asks for this version: it is to be written once.
fn module(version: &str) -> Result<PathBuf> {
    let folder = folder_of(version)?.join("module");
    let file = folder.join("go.mod");
    if !file.is_file() {
        std::fs::create_dir_all(&folder).context(format!("create {}", folder.display()))?;
        let kubernetes = go_mod_of(version, &folder)?;
        let unfinished = folder.join("go.mod.unfinished");
        std::fs::write(&unfinished, go_mod(version, &kubernetes)).context("write go.mod")?;
        std::fs::rename(&unfinished, &file).context(format!("rename to {}", file.display()))?;
    }
    Ok(folder)
}

/// The go.mod of Kubernetes itself.
fn go_mod_of(version: &str, folder: &Path) -> Result<String> {
    let module = format!("k8s.io/kubernetes@v{version}");
    say(&format!("asking the Go module proxy for {module}"));
    let mut command = Command::new("go");
    command.args(["mod", "download", "-json", &module]).current_dir(folder).stdin(Stdio::null());
    let output = command.env("GOTOOLCHAIN", "local").output().context("run go mod download")?;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let Some(path) = answer["GoMod"].as_str().filter(|_| output.status.success()) else {
        let remedy = format!("there is no {module}: {}", answer["Error"]);
        return Err(Error::Missing { program: format!("Kubernetes {version}"), remedy });
    };
    std::fs::read_to_string(path).context(format!("read {path}"))
}

/// A module that asks for Kubernetes, and has the libraries that are released with it where its own go.mod has folders.
fn go_mod(version: &str, kubernetes: &str) -> String {
    let library = format!("v0{}", version.strip_prefix('1').unwrap_or(version));
    let released: BTreeSet<&str> = kubernetes
        .lines()
        .filter(|line| line.contains("=> ./staging/") || line.split_whitespace().any(|word| word == "v0.0.0"))
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with("k8s.io/")))
        .collect();
    let mut text = format!("{HEAD}require k8s.io/kubernetes v{version}\n\nreplace (\n");
    for module in released {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\t{module} => {module} {library}");
    }
    text + ")\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_emulated_or_built() {
        for (text, expected) in [
            ("", Some(Release::Usual)),
            (binaries::kubernetes_version(), Some(Release::Usual)),
            ("1.33", Some(Release::Emulated("1.33".to_owned()))),
            ("1.30.14", Some(Release::Other("1.30.14".to_owned()))),
            ("latest", None),
            ("v1.30.14", None),
            ("1", None),
            ("1..3", None),
        ] {
            assert_eq!(Release::of(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn the_libraries_of_a_release_come_in_its_version() {
        let theirs = "require (\n\tk8s.io/api v0.0.0\n\tk8s.io/utils v0.0.0-20230726121419-3b25d923346b\n)\nreplace (\n\
                      \tk8s.io/api => ./staging/src/k8s.io/api\n\tk8s.io/cri-api => ./staging/src/k8s.io/cri-api\n)\n";
        let module = go_mod("1.30.14", theirs);
        assert!(module.contains("require k8s.io/kubernetes v1.30.14\n"), "{module}");
        let replaced: Vec<_> = module.lines().filter(|line| line.contains("=>")).collect();
        assert_eq!(
            replaced,
            ["\tk8s.io/api => k8s.io/api v0.30.14", "\tk8s.io/cri-api => k8s.io/cri-api v0.30.14"]
        );
    }
}
