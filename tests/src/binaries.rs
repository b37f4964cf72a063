//! Finds or builds the programs: first a `KUBEBUILDER_ASSETS` folder, then our cache, then a build with Go.
//!
//! The cache lies outside any one checkout and is keyed by version, so a fresh clone starts at once. Builds are
//! guarded by a file lock and written under a temporary name, so test binaries may run side by side.

use std::{
    collections::hash_map::DefaultHasher,
    fs::File,
    hash::{Hash as _, Hasher as _},
    io::{Write as _, stderr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    error::{Context as _, Error, Result},
    release,
};

/// The folder of the Go module that declares the programs of a control plane as tools.
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/controlplane");
const GO_MOD: &str = include_str!("../controlplane/go.mod");
/// Helm has a module of its own: the two would not agree on the versions of what they share.
const HELM_MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/helm");
const HELM_GO_MOD: &str = include_str!("../helm/go.mod");
const HELM: &str = "helm.sh/helm/v4";

const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);

/// A program that Go builds.
#[derive(Clone, Copy)]
pub(crate) struct Tool<'a> {
    /// Its name in the cache.
    pub(crate) name: &'a str,
    pub(crate) package: &'a str,
    /// The folder of the module that declares it.
    pub(crate) module: &'a str,
    /// The version of Kubernetes beside which it is kept, and which it says it is of.
    pub(crate) version: &'a str,
}

/// Where the programs of a control plane are.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// kube-controller-manager.
    pub kube_controller_manager: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
}

impl Binaries {
    /// Finds the programs, and builds those that are nowhere. Blocks, for minutes if it builds.
    pub fn locate() -> Result<Self> {
        Ok(Self {
            etcd: locate("etcd", "go.etcd.io/etcd/server/v3")?,
            kube_apiserver: release::program("kube-apiserver")?,
            kube_controller_manager: release::program("kube-controller-manager")?,
            kubectl: kubernetes("kubectl")?,
        })
    }
}

/// The Go program that asks the kubelet's keyring which credentials an image gets; built again whenever its
/// source has changed.
pub fn keyring() -> Result<PathBuf> {
    let name = format!("keyring-{:016x}", keyring_fingerprint()?);
    cached(Tool { name: &name, package: "./keyring", module: MODULE, version: kubernetes_version() })
}

/// Helm, in the version that its Go module asks for.
pub fn helm() -> Result<PathBuf> {
    let name = format!("helm-{}", required_version(HELM_GO_MOD, HELM));
    let package = format!("{HELM}/cmd/helm");
    cached(Tool { name: &name, package: &package, module: HELM_MODULE, version: kubernetes_version() })
}

/// The operator: `REGCRED_BINARY`, or what `cargo build` makes of this checkout (once per process).
pub fn operator_binary() -> Result<PathBuf> {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = BINARY.get() {
        return Ok(path.clone());
    }
    let path = match std::env::var_os("REGCRED_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build_operator()?,
    };
    Ok(BINARY.get_or_init(|| path).clone())
}

/// The Kubernetes version that the Go module asks for, such as `1.36.4`.
pub fn kubernetes_version() -> &'static str {
    required_version(GO_MOD, "k8s.io/kubernetes")
}

fn required_version(go_mod: &'static str, module: &str) -> &'static str {
    let version =
        |line: &'static str| line.trim().strip_prefix(module)?.strip_prefix(" v")?.split(' ').next();
    go_mod.lines().find_map(version).expect("go.mod requires the module")
}

/// A program of Kubernetes.
pub(crate) fn kubernetes(name: &str) -> Result<PathBuf> {
    locate(name, &format!("k8s.io/kubernetes/cmd/{name}"))
}

fn locate(name: &str, package: &str) -> Result<PathBuf> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(|folder| PathBuf::from(folder).join(name));
    match assets {
        Some(path) if path.is_file() => Ok(path),
        _ => cached(Tool { name, package, module: MODULE, version: kubernetes_version() }),
    }
}

/// The program, from the cache or built into it.
pub(crate) fn cached(tool: Tool<'_>) -> Result<PathBuf> {
    let folder = folder_of(tool.version)?;
    let path = folder.join(tool.name);
    if path.is_file() {
        return Ok(path);
    }
    let _lock = lock(&folder.join("lock"))?;
    // Whoever held the lock before us may have built it.
    if !path.is_file() {
        build(tool, &path)?;
    }
    Ok(path)
}

/// Where programs are kept that go with the usual version.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    folder_of(kubernetes_version())
}

/// Where programs are kept that go with a version of Kubernetes.
pub(crate) fn folder_of(version: &str) -> Result<PathBuf> {
    let home = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = home("REGCRED_CACHE")
        .or_else(|| home("XDG_CACHE_HOME").map(|cache| cache.join("regcred")))
        .or_else(|| home("HOME").map(|home| home.join(".cache/regcred")))
        .ok_or_else(|| {
            Error::Unexpected("set HOME or REGCRED_CACHE: where may programs be cached?".into())
        })?;
    let folder = cache.join(format!("kubernetes-{version}"));
    std::fs::create_dir_all(&folder).context(format!("create {}", folder.display()))?;
    Ok(folder)
}

/// Waits until nobody else builds.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).context(format!("create {}", path.display()))?;
    if file.try_lock().is_err() {
        say(&format!("waiting for another build: {} is locked", path.display()));
        file.lock().context(format!("lock {}", path.display()))?;
    }
    Ok(file)
}

fn build(tool: Tool<'_>, path: &Path) -> Result<()> {
    let Tool { name, package, module, .. } = tool;
    say(&format!(
        "building {name} ({package}) into {}; once per version. On two cores kube-apiserver, \
         kube-controller-manager and helm take 3 to 8 minutes each, the rest a minute",
        path.display()
    ));
    let unfinished = path.with_extension("unfinished");
    let child = go_build(tool, &unfinished).spawn().map_err(|error| missing_go(name, &error))?;
    let status = report_progress(name, child)?;
    if !status.success() {
        let reason = format!("`go build {package}` in {module} failed ({status}); its messages are above");
        return Err(Error::Missing { program: name.to_owned(), remedy: reason });
    }
    std::fs::rename(&unfinished, path).context(format!("rename to {}", path.display()))
}

fn go_build(tool: Tool<'_>, output: &Path) -> Command {
    let version = tool.version;
    let (major, minor) = version.split_once('.').unwrap_or((version, ""));
    let minor = minor.split('.').next().unwrap_or_default();
    let stamp = "k8s.io/component-base/version.git";
    let flags = format!("-s -w -X {stamp}Version=v{version} -X {stamp}Major={major} -X {stamp}Minor={minor}");
    let mut command = Command::new("go");
    command.args(["build", "-trimpath", "-ldflags", &flags, "-o"]).arg(output).arg(tool.package);
    command.current_dir(tool.module).env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").stdin(Stdio::null());
    if version != kubernetes_version() {
        // Its module was written a moment ago, and names no more than Kubernetes.
        command.env("GOFLAGS", "-mod=mod");
    }
    command
}

fn missing_go(name: &str, error: &std::io::Error) -> Error {
    let go = GO_MOD.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or_default();
    let remedy = format!(
        "it is neither in KUBEBUILDER_ASSETS nor in the cache, and `go` does not start ({error}). Install Go {go} \
         or later (https://go.dev/dl), or point KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, \
         kube-controller-manager and kubectl"
    );
    Error::Missing { program: name.to_owned(), remedy }
}

pub(crate) fn report_progress(name: &str, mut child: Child) -> Result<ExitStatus> {
    let start = Instant::now();
    let mut next = PROGRESS_INTERVAL;
    loop {
        if let Some(status) = child.try_wait().context(format!("wait for {name}"))? {
            say(&format!("{name}: {status} after {} s", start.elapsed().as_secs()));
            return Ok(status);
        }
        if start.elapsed() >= next {
            say(&format!("still making {name}: {} s", start.elapsed().as_secs()));
            next += PROGRESS_INTERVAL;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn keyring_fingerprint() -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for file in ["go.mod", "go.sum", "keyring/main.go"] {
        let path = Path::new(MODULE).join(file);
        std::fs::read(&path).context(format!("read {}", path.display()))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn build_operator() -> Result<PathBuf> {
    say("building the operator: cargo build --package regcred");
    workspace_binary("regcred", "regcred", &[])
}

/// A program of this workspace as cargo builds it, with further arguments such as `--release`.
pub fn workspace_binary(package: &str, binary: &str, further: &[&str]) -> Result<PathBuf> {
    let output = regcred_image::build::cargo(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(["build", "--package", package, "--bin", binary, "--message-format=json-render-diagnostics"])
        .args(further)
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo build")?;
    let remedy = format!("`cargo build --package {package}` failed; its messages are above");
    let executable = output.status.success().then(|| executable(&output.stdout, binary)).flatten();
    executable.ok_or(Error::Missing { program: binary.to_owned(), remedy })
}

/// The path of the binary, from the messages cargo prints.
fn executable(messages: &[u8], binary: &str) -> Option<PathBuf> {
    let messages = messages.split(|byte| *byte == b'\n');
    let mut artifacts = messages.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    artifacts.find_map(|message| {
        let is_wanted = message["target"]["name"] == binary;
        message["executable"].as_str().filter(|_| is_wanted).map(PathBuf::from)
    })
}

/// Writes to the real standard error: the test runner would swallow what is printed, and whoever waits for
/// minutes must see why.
pub(crate) fn say(line: &str) {
    let _ = writeln!(stderr(), "regcred-tests: {line}");
}
