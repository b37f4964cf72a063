//! Finds or builds the programs of a node: the kubelet, the scheduler, the network plugins and the program of test
//! images with Go; containerd, runc and docker-registry from a folder, from `PATH`, or unpacked from Debian's packages.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    binaries::{self, Tool, cache_folder, cached, lock, say},
    error::{Context as _, Error, Result},
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
    let named = std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = named.into_iter().chain(std::env::split_paths(&path));
    if let Some(found) = folders.map(|folder| folder.join(name)).find(|path| path.is_file()) {
        return Ok(found);
    }
    Ok(debian()?.join(folder).join(name))
}

/// Debian's packages, unpacked and not installed.
fn debian() -> Result<PathBuf> {
    let cache = cache_folder()?;
    let folder = cache.join(DEBIAN);
    let _lock = lock(&cache.join("lock"))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    say(&format!("fetching {} from Debian's packages into {}", PACKAGES.join(", "), folder.display()));
    let packages = tempfile::tempdir_in(&cache).context("make a folder for packages")?;
    download(packages.path())?;
    let unpacked = packages.path().join("unpacked");
    for entry in std::fs::read_dir(packages.path()).context("list the packages")? {
        let path = entry.context("list the packages")?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("--extract").arg(&path).arg(&unpacked))?;
        }
    }
    std::fs::rename(&unpacked, &folder).context(format!("rename to {}", folder.display()))?;
    Ok(folder)
}

/// With the package lists as they are; where they are missing or too old, with new ones.
fn download(folder: &Path) -> Result<()> {
    let fetch = || {
        // Root hands the download to a user of its own, who may not write here.
        let as_root = ["-o", "APT::Sandbox::User=root", "download", "-qq"];
        run(Command::new("apt-get").args(as_root).args(PACKAGES).current_dir(folder))
    };
    fetch().or_else(|_| {
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        fetch()
    })
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let reason = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let remedy = format!(
        "{program}: {reason}. They come from Debian's packages; elsewhere install {} or name a folder that holds \
         them in {FOLDER_VARIABLE}",
        PACKAGES.join(", ")
    );
    Err(Error::Missing { program: "the container runtime".to_owned(), remedy })
}
