//! The operator as a child process, with its own ServiceAccount and the RBAC that we ship, never as admin: a gap
//! in the RBAC then fails a test.

use std::{net::SocketAddr, path::PathBuf, process::ExitStatus, sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::task::spawn_blocking;

use crate::{
    binaries,
    control_plane::ControlPlane,
    error::{Error, Result},
    identity::Identity,
    install::{OPERATOR_NAMESPACE, OPERATOR_SERVICE_ACCOUNT},
    plain_http::{self, Reply},
    process::{Launch, Process},
    wait::try_eventually,
};

const READY_DEADLINE: Duration = Duration::from_secs(30);
const LISTEN_DEADLINE: Duration = Duration::from_secs(10);
/// What the operator prints before the address it serves health and metrics on.
const LISTENING: &str = "listening on ";

/// How an operator is started.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// The program, to run an older version beside this one; by default what cargo builds here.
    pub binary: Option<PathBuf>,
    /// The namespace of source Secrets.
    pub source_namespace: String,
    /// Compete for the leader lease? Without it, the operator works at once.
    pub lease: bool,
    /// The only Secret names it may write; all names if empty.
    pub target_names: Vec<String>,
    /// Another address of the API server, such as the proxy's.
    pub api_url: Option<String>,
    /// Whose rights it has; by default those of our own ServiceAccount.
    pub identity: Option<Identity>,
    /// What it logs.
    pub log_level: String,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Further environment variables.
    pub environment: Vec<(String, String)>,
}

impl Default for OperatorOptions {
    fn default() -> Self {
        Self {
            binary: None,
            source_namespace: OPERATOR_NAMESPACE.to_owned(),
            lease: false,
            target_names: Vec::new(),
            api_url: None,
            identity: None,
            // Everything, so that the search for leaks has everything to search.
            log_level: "trace".to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// A running operator; dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    process: Arc<Process>,
    user: String,
}

impl Operator {
    /// Starts an operator. It is not ready yet: see [`Self::wait_ready`].
    pub async fn start(control_plane: &ControlPlane, options: OperatorOptions) -> Result<Self> {
        let program = match &options.binary {
            Some(path) => path.clone(),
            None => spawn_blocking(binaries::operator_binary).await.expect("the build panicked")?,
        };
        let identity = match &options.identity {
            Some(identity) => identity.clone(),
            None => control_plane.service_account(OPERATOR_NAMESPACE, OPERATOR_SERVICE_ACCOUNT).await?,
        };
        let identity = match &options.api_url {
            Some(url) => identity.at(url)?,
            None => identity,
        };
        let name = format!("operator-{}", control_plane.next_number());
        let arguments = arguments(&options, &identity);
        let launch = Launch { name, program, arguments, environment: options.environment };
        Ok(Self { process: Arc::new(control_plane.spawn(&launch)?), user: identity.name })
    }

    /// The user name it has in the audit log.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Waits until `/readyz` answers 200.
    pub async fn wait_ready(&self) -> Result<()> {
        let look = async || match self.get("/readyz").await {
            _ if !self.is_running() => Ok(Err(self.process.failure("ended before it was ready"))),
            Ok(reply) if reply.status == 200 => Ok(Ok(())),
            Ok(reply) => Err(format!("{} {}", reply.status, reply.body)),
            Err(error) => Err(error.to_string()),
        };
        match try_eventually("the operator to be ready", READY_DEADLINE, look).await {
            Ok(outcome) => outcome,
            Err(timeout) => Err(self.process.failure(timeout.to_string())),
        }
    }

    /// The answer of `/readyz`, whatever it is.
    pub async fn readyz(&self) -> Result<Reply> {
        self.get("/readyz").await
    }

    /// The answer of `/healthz`, whatever it is.
    pub async fn healthz(&self) -> Result<Reply> {
        self.get("/healthz").await
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> Result<String> {
        let reply = self.get("/metrics").await?;
        match reply.status {
            200 => Ok(reply.body),
            status => Err(Error::Unexpected(format!("/metrics: {status} {}", reply.body))),
        }
    }

    /// Where it serves health and metrics.
    pub async fn address(&self) -> Result<SocketAddr> {
        let look = async || {
            let stdout = self.process.stdout();
            let address = stdout.lines().find_map(|line| line.split_once(LISTENING)?.1.trim().parse().ok());
            match address {
                Some(address) => Ok(Ok(address)),
                None if self.is_running() => Err("no such line on standard output".to_owned()),
                None => Ok(Err(self.process.failure("ended before it said where it listens"))),
            }
        };
        match try_eventually("`listening on`", LISTEN_DEADLINE, look).await {
            Ok(outcome) => outcome,
            Err(timeout) => Err(self.process.failure(timeout.to_string())),
        }
    }

    async fn get(&self, path: &str) -> Result<Reply> {
        plain_http::get(self.address().await?, path).await
    }

    /// SIGKILL; when this returns, it is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// SIGTERM, and waits for its end.
    pub async fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.wait(within).await
    }

    /// Waits for an end that it comes to by itself.
    pub async fn wait(&self, within: Duration) -> Result<ExitStatus> {
        self.process.wait(within).await
    }

    /// SIGSTOP: it pauses, and its connections stay open.
    pub fn pause(&self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// SIGCONT: it continues as if nothing had happened.
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// False once it has ended.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Its process id, to read `/proc` by.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// All that it has written, on both streams.
    pub fn logs(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }

    /// The process, which a scene ends if the test has not.
    pub(crate) fn process(&self) -> Arc<Process> {
        self.process.clone()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
    }
}

fn arguments(options: &OperatorOptions, identity: &Identity) -> Vec<String> {
    let kubeconfig = identity.kubeconfig.display().to_string();
    let fixed = ["run", "--kubeconfig", &kubeconfig, "--listen", "127.0.0.1:0", "--log-format", "json"];
    let chosen = ["--source-namespace", &options.source_namespace, "--log-level", &options.log_level];
    let lease = (!options.lease).then_some("--no-lease");
    let targets = options.target_names.iter().flat_map(|name| ["--target-name", name]);
    let all = fixed.into_iter().chain(chosen).chain(lease).chain(targets);
    all.map(str::to_owned).chain(options.arguments.iter().cloned()).collect()
}
