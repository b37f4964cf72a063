//! Finds or builds the programs of a node: the kubelet, the scheduler, the network plugins and the program of test
//! images with Go; containerd, runc and docker-registry from a folder, from `PATH`, or unpacked from Debian's packages.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use crate::{
    binaries::{self, Tool, cache_folder, cached},
    debian::Packages,
    error::{Context as _, Result},
};

/// The folder of the Go module with the network plugins, and with the program of test images.
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node");
/// Of Debian 12 or later. libseccomp2 is there for runc, where the machine has none.
const PACKAGES: [&str; 4] = ["containerd", "runc", "docker-registry", "libseccomp2"];
/// A folder that holds containerd, ctr, containerd-shim-runc-v2, runc and docker-registry.
const FOLDER_VARIABLE: &str = "REGCRED_NODE_PROGRAMS";

/// Where the programs of a node are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// kubelet.
    pub kubelet: PathBuf,
    /// kube-scheduler.
    pub scheduler: PathBuf,
    /// containerd; its shim is beside it, or in `PATH`.
    pub containerd: PathBuf,
    /// containerd's client.
    pub ctr: PathBuf,
    /// runc.
    pub runc: PathBuf,
    /// docker-registry.
    pub registry: PathBuf,
    /// A folder with libseccomp, where runc needs one.
    pub libraries: PathBuf,
    /// A folder with the network plugins.
    pub plugins: PathBuf,
    /// The static program in test images.
    pub app: PathBuf,
}

impl Programs {
    /// Finds the programs, and fetches or builds those that are nowhere. Blocks, for minutes if it builds.
    pub fn locate() -> Result<Self> {
        Ok(Self {
            kubelet: binaries::kubernetes("kubelet")?,
            scheduler: binaries::kubernetes("kube-scheduler")?,
            containerd: runtime("containerd", "usr/bin")?,
            ctr: runtime("ctr", "usr/bin")?,
            runc: runtime("runc", "usr/sbin")?,
            registry: registry()?,
            libraries: cache_folder()?
                .join(DEBIAN)
                .join("usr/lib")
                .join(format!("{}-linux-gnu", std::env::consts::ARCH)),
            plugins: plugins()?,
            app: app()?,
        })
    }
}

/// docker-registry alone, for tests without a node.
pub fn registry() -> Result<PathBuf> {
    runtime("docker-registry", "usr/bin")
}

fn plugins() -> Result<PathBuf> {
    let folder = cache_folder()?.join("cni");
    std::fs::create_dir_all(&folder).context(format!("create {}", folder.display()))?;
    for (name, kind) in [("bridge", "main"), ("loopback", "main"), ("host-local", "ipam")] {
        let package = format!("github.com/containernetworking/plugins/plugins/{kind}/{name}");
        cached(Tool {
            name: &format!("cni/{name}"),
            package: &package,
            module: MODULE,
            version: binaries::kubernetes_version(),
        })?;
    }
    Ok(folder)
}

fn app() -> Result<PathBuf> {
    let source = Path::new(MODULE).join("app/main.go");
    let mut hasher = DefaultHasher::new();
    std::fs::read(&source).context(format!("read {}", source.display()))?.hash(&mut hasher);
    cached(Tool {
        name: &format!("app-{:016x}", hasher.finish()),
        package: "./app",
        module: MODULE,
        version: binaries::kubernetes_version(),
    })
}

const DEBIAN: &str = "debian";

/// A program of the container runtime: from the folder that a variable names, from `PATH`, or from Debian.
fn runtime(name: &str, folder: &str) -> Result<PathBuf> {
    let packages = Packages {
        what: "the container runtime",
        names: &PACKAGES,
        folder: DEBIAN,
        variable: FOLDER_VARIABLE,
    };
    packages.program(name, folder)
}
