//! Prometheus, from Debian's package: a server that scrapes an operator, and promtool.

use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    control_plane::ControlPlane,
    debian::Packages,
    error::{Context as _, Error, Result},
    plain_http,
    process::{Launch, Process},
    wait::try_eventually,
};

/// How long a start may take.
const START: Duration = Duration::from_secs(30);

fn program(name: &str) -> Result<PathBuf> {
    let packages = Packages {
        what: "Prometheus",
        names: &["prometheus"],
        folder: "debian-prometheus",
        variable: "REGCRED_PROMETHEUS_PROGRAMS",
    };
    packages.program(name, "usr/bin")
}

/// Runs promtool; what it says is in the error where it fails.
pub fn promtool(arguments: &[&str], folder: &std::path::Path) -> Result<String> {
    let output = Command::new(program("promtool")?).args(arguments).current_dir(folder).output();
    let output = output.context("run promtool")?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(text) } else { Err(Error::Unexpected(text)) }
}

/// A server that scrapes one target every second.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

impl Prometheus {
    /// Starts a server that scrapes this address.
    pub async fn start(control_plane: &ControlPlane, target: SocketAddr) -> Result<Self> {
        let data = tempfile::tempdir().context("make a folder for Prometheus")?;
        let config = data.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: regcred\n  static_configs:\n  - targets: ['{target}']\n"
        );
        std::fs::write(&config, text).context("write the configuration of Prometheus")?;
        let address = free_address()?;
        let arguments = vec![
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", data.path().join("data").display()),
            format!("--web.listen-address={address}"),
        ];
        let program = tokio::task::spawn_blocking(|| program("prometheus")).await;
        let program = program.map_err(|error| Error::Unexpected(error.to_string()))??;
        let name = format!("prometheus-{}", control_plane.next_number());
        let launch = Launch { name, program, arguments, environment: Vec::new() };
        let started = Self { process: control_plane.spawn(&launch)?, address, _data: data };
        started.wait_ready().await?;
        Ok(started)
    }

    async fn wait_ready(&self) -> Result<()> {
        let look = async || match plain_http::get(self.address, "/-/ready").await {
            Ok(reply) if reply.status == 200 => Ok(Ok(())),
            _ if !self.process.is_running() => Ok(Err(self.process.failure("ended before it was ready"))),
            Ok(reply) => Err(reply.body),
            Err(error) => Err(error.to_string()),
        };
        try_eventually("Prometheus to be ready", START, look).await?
    }

    /// What an expression gives now: each series with its labels and value.
    pub async fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let reply = plain_http::get(self.address, &path).await?;
        let answer: Value = serde_json::from_str(&reply.body)
            .map_err(|error| Error::Unexpected(format!("{error}: {}", reply.body)))?;
        let Some(series) = answer["data"]["result"].as_array() else {
            return Err(Error::Unexpected(format!("{expression}: {answer}")));
        };
        let number = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse().ok());
        let series = series.iter().map(|one| (one["metric"].clone(), number(one).unwrap_or(f64::NAN)));
        Ok(series.collect())
    }
}

/// As a query of an address has it: everything but letters and digits as its bytes.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn free_address() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    listener.local_addr().context("find a free port")
}
