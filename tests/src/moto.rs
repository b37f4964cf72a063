//! moto, a stand-in for AWS that others wrote (PyPI): a second opinion on what Amazon is sent and answers. It comes by pip
//! into a virtual environment in the cache, once for each list of versions.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{
    binaries::{cache_folder, lock, report_progress, say},
    error::{Context as _, Error, Result},
    process::{Launch, Process, Supervisor},
    site::free_addresses,
    wait::try_eventually,
};

const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/moto/requirements.txt");
const START_DEADLINE: Duration = Duration::from_mins(1);

/// A running moto, as a server for all of AWS; dropping it ends it.
pub struct Moto {
    address: SocketAddr,
    folder: TempDir,
    _process: Process,
    _supervisor: Supervisor,
}

/// A request as moto got it.
#[derive(Debug)]
pub struct Asked {
    /// `Authorization`; empty if there was none.
    pub authorization: String,
    /// The body.
    pub body: String,
}

impl Moto {
    /// Installs it if need be, and starts it on loopback.
    pub async fn start() -> Result<Self> {
        let program = tokio::task::spawn_blocking(python).await.expect("the installation panicked")?;
        let folder = tempfile::tempdir().context("make a folder for moto")?;
        let [address] = free_addresses()?;
        let [host, port] = [address.ip().to_string(), address.port().to_string()];
        let setting = |name: &str, value: String| (name.to_owned(), value);
        let launch = Launch {
            name: "moto".to_owned(),
            program,
            arguments: ["-m", "moto.server", "--host", &host, "--port", &port].map(str::to_owned).to_vec(),
            environment: vec![
                setting("MOTO_ENABLE_RECORDING", "true".to_owned()),
                setting("MOTO_RECORDER_FILEPATH", record(folder.path()).display().to_string()),
            ],
        };
        let supervisor = Supervisor::start(folder.path())?;
        let process = supervisor.spawn(&launch)?;
        let look = async || match TcpStream::connect(address).await {
            _ if !process.is_running() => Ok(Err(process.failure("ended before it listened"))),
            Ok(_) => Ok(Ok(())),
            Err(error) => Err(error.to_string()),
        };
        try_eventually("moto to listen", START_DEADLINE, look).await??;
        Ok(Self { address, folder, _process: process, _supervisor: supervisor })
    }

    /// Where requests for any host of AWS should go.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests, in order.
    pub fn asked(&self) -> Result<Vec<Asked>> {
        let text = std::fs::read_to_string(record(self.folder.path())).context("read what moto recorded")?;
        text.lines().map(asked).collect()
    }
}

fn record(folder: &Path) -> PathBuf {
    folder.join("requests.jsonl")
}

fn asked(line: &str) -> Result<Asked> {
    let unreadable = || Error::Unexpected(format!("moto recorded {line}"));
    let line: Value = serde_json::from_str(line).map_err(|_| unreadable())?;
    let body = line["body"].as_str().and_then(|body| STANDARD.decode(body).ok()).ok_or_else(unreadable)?;
    let authorization = line["headers"]["Authorization"].as_str().unwrap_or_default().to_owned();
    Ok(Asked { authorization, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The Python of the virtual environment that has moto.
fn python() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(REQUIREMENTS).context(format!("read {REQUIREMENTS}"))?.hash(&mut hasher);
    let cache = cache_folder()?;
    let folder = cache.join(format!("moto-{:016x}", hasher.finish()));
    let python = folder.join("bin/python");
    if python.is_file() {
        return Ok(python);
    }
    let _lock = lock(&cache.join("moto.lock"))?;
    // Whoever held the lock before us may have installed it.
    if !python.is_file() {
        install(&folder)?;
    }
    Ok(python)
}

/// Installs beside the folder first, so that what is there is whole. Scripts of the environment name their first folder,
/// but its Python finds its own modules wherever it is.
fn install(folder: &Path) -> Result<()> {
    say(&format!("installing moto into {}; about a minute, once per version", folder.display()));
    let unfinished = folder.with_extension("unfinished");
    for leftover in [&*unfinished, folder] {
        if leftover.exists() {
            std::fs::remove_dir_all(leftover).context(format!("remove {}", leftover.display()))?;
        }
    }
    let mut environment = Command::new("python3");
    environment.args(["-m", "venv"]).arg(&unfinished);
    run(environment, "Python 3 with its module venv is needed: on Debian, apt-get install python3-venv")?;
    let mut pip = Command::new(unfinished.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    pip.args(["--retries", "2", "--timeout", "20", "--requirement", REQUIREMENTS]);
    run(pip, "pip needs the network once, or an index of your own (PIP_INDEX_URL)")?;
    std::fs::rename(&unfinished, folder).context(format!("rename to {}", folder.display()))
}

fn run(mut command: Command, advice: &str) -> Result<()> {
    let line = format!("{command:?}");
    let missing = |why: String| {
        let remedy = format!("`{line}` {why}. {advice}");
        Error::Missing { program: "moto".to_owned(), remedy }
    };
    let child = command.stdin(Stdio::null()).spawn();
    let child = child.map_err(|error| missing(format!("does not start ({error})")))?;
    let status = report_progress("moto", child)?;
    if status.success() {
        return Ok(());
    }
    Err(missing(format!("failed ({status}); its messages are above")))
}
