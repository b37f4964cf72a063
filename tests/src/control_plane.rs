//! etcd, kube-apiserver and kube-controller-manager as child processes: start, restart, users, compaction.
//!
//! A [`ControlPlane`] may lie in a static and serve all tests of a test binary, each in a runtime of its own:
//! nothing in it belongs to a runtime, and every client is made anew.

use std::{
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::{
    audit::AuditLog,
    binaries::{Binaries, say},
    error::{Context as _, Error, Result},
    identity::{Identity, Proof},
    install_crypto_provider, plain_http,
    process::{Launch, Process, Supervisor},
    release,
    site::Site,
    wait::try_eventually,
};

const START_DEADLINE: Duration = Duration::from_secs(90);
const START_ATTEMPTS: usize = 3;
/// kubectl itself would wait a week for what it deletes.
const KUBECTL_DEADLINE: Duration = Duration::from_mins(5);
const TOKEN_LIFETIME: Duration = Duration::from_hours(24);

/// What differs from one control plane to another.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further flags of kube-apiserver, such as `--watch-cache=false`.
    pub api_server_flags: Vec<String>,
    /// Further flags of kube-controller-manager.
    pub controller_manager_flags: Vec<String>,
}

/// How a kubectl command ended.
#[derive(Debug, Clone)]
pub struct KubectlOutput {
    /// The exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A running control plane. Fields are dropped in this order: the programs end, then the folder is deleted.
pub struct ControlPlane {
    controller_manager: Mutex<Option<Process>>,
    api_server: Mutex<Option<Process>>,
    etcd: Process,
    supervisor: Supervisor,
    site: Site,
    binaries: Binaries,
    options: Options,
    /// Numbers files, so that no two users share one.
    counter: AtomicUsize,
}

impl ControlPlane {
    /// Starts a control plane, and returns once ServiceAccounts appear in it.
    pub async fn start(options: Options) -> Result<Self> {
        install_crypto_provider();
        let binaries =
            tokio::task::spawn_blocking(Binaries::locate).await.expect("locating programs panicked")?;
        let mut attempt = 1;
        loop {
            match Self::start_once(binaries.clone(), options.clone()).await {
                Err(error) if error.is_port_clash() && attempt < START_ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn start_once(binaries: Binaries, options: Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("regcred-").tempdir().context("make a folder")?;
        let supervisor = Supervisor::start(folder.path())?;
        let site = Site::prepare(&folder.keep())?;
        if std::env::var_os("REGCRED_KEEP").is_some() {
            say(&format!("REGCRED_KEEP is set: {} stays", site.folder.display()));
        }
        let etcd = supervisor.spawn(&site.launch_etcd(&binaries))?;
        let (api_server, controller_manager) = (Mutex::new(None), Mutex::new(None));
        let counter = AtomicUsize::new(0);
        let this =
            Self { controller_manager, api_server, etcd, supervisor, site, binaries, options, counter };
        this.start_api_server().await?;
        this.start_controller_manager().await?;
        Ok(this)
    }

    /// Starts kube-apiserver on its old port, unless it runs, and waits until it is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        if self.api_server.lock().unwrap().as_ref().is_some_and(Process::is_running) {
            return Ok(());
        }
        let flags = [&self.options.api_server_flags[..], &release::api_server_flags()?].concat();
        let process = self.supervisor.spawn(&self.site.launch_api_server(&self.binaries, &flags))?;
        *self.api_server.lock().unwrap() = Some(process);
        let client = self.admin().await?;
        let look =
            async || client.request_text(get("/readyz")).await.map(drop).map_err(|error| error.to_string());
        self.supervised("kube-apiserver to be ready", look).await
    }

    /// Kills kube-apiserver; etcd keeps the data. Nothing is flushed or said goodbye to, as in a crash.
    fn stop_api_server(&self) {
        drop(self.api_server.lock().unwrap().take());
    }

    /// Ends kube-controller-manager: from now on nobody makes ServiceAccounts, ends namespaces or collects garbage.
    pub fn stop_controller_manager(&self) {
        drop(self.controller_manager.lock().unwrap().take());
    }

    async fn start_controller_manager(&self) -> Result<()> {
        let flags = &self.options.controller_manager_flags;
        let process = self.supervisor.spawn(&self.site.launch_controller_manager(&self.binaries, flags))?;
        *self.controller_manager.lock().unwrap() = Some(process);
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin().await?, "default");
        let look = async || accounts.get("default").await.map(drop).map_err(|error| error.to_string());
        self.supervised("ServiceAccount default/default", look).await
    }

    /// Waits for something, and gives up as soon as one of the programs has ended.
    async fn supervised(&self, what: &str, mut look: impl AsyncFnMut() -> Result<(), String>) -> Result<()> {
        let outcome = try_eventually(what, START_DEADLINE, async || {
            if self.ended_program().is_some() {
                return Ok(());
            }
            look().await
        });
        let outcome = outcome.await;
        match self.ended_program() {
            Some(failure) => Err(failure),
            None => outcome.map_err(|error| self.with_api_server_log(error)),
        }
    }

    fn ended_program(&self) -> Option<Error> {
        let failed =
            |process: &Process| process.exit_status().map(|how| process.failure(format!("ended: {how}")));
        let optional = |slot: &Mutex<Option<Process>>| slot.lock().unwrap().as_ref().and_then(failed);
        failed(&self.etcd)
            .or_else(|| optional(&self.api_server))
            .or_else(|| optional(&self.controller_manager))
    }

    fn with_api_server_log(&self, error: Error) -> Error {
        match self.api_server.lock().unwrap().as_ref() {
            Some(process) => process.failure(error.to_string()),
            None => error,
        }
    }

    /// Starts a program beside the control plane, with a life no longer than ours.
    pub fn spawn(&self, launch: &Launch) -> Result<Process> {
        self.supervisor.spawn(launch)
    }

    /// Lets everything live on when we end; forget this value then. Returns the id of the process whose end ends it.
    pub fn keep(&self) -> Result<u32> {
        self.supervisor.keep()
    }

    /// The ids of the control plane's processes.
    pub fn process_ids(&self) -> Vec<u32> {
        let optional = |slot: &Mutex<Option<Process>>| slot.lock().unwrap().as_ref().map(Process::id);
        let ids = [Some(self.etcd.id()), optional(&self.api_server), optional(&self.controller_manager)];
        ids.into_iter().flatten().collect()
    }

    /// The id of kube-apiserver's process.
    ///
    /// # Panics
    /// While it is stopped.
    pub fn api_server(&self) -> u32 {
        self.api_server.lock().unwrap().as_ref().map(Process::id).expect("kube-apiserver runs")
    }

    /// The folder with logs, keys and kubeconfigs; it is deleted with the control plane.
    pub fn folder(&self) -> &Path {
        &self.site.folder
    }

    /// A number that no caller has been given before.
    pub fn next_number(&self) -> usize {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// The API server's URL.
    pub fn api_url(&self) -> String {
        self.site.api_url()
    }

    /// The API server's address.
    pub fn api_address(&self) -> SocketAddr {
        self.site.api_server
    }

    /// The certificate of the authority that signed the API server's.
    pub fn ca_pem(&self) -> &str {
        self.site.authority.certificate()
    }

    /// The authority itself, to sign a proxy's certificate with.
    pub fn authority(&self) -> &crate::pki::Authority {
        &self.site.authority
    }

    /// The programs in use.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The audit log.
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.site.audit_log())
    }

    /// The cluster administrator.
    pub fn admin_identity(&self) -> &Identity {
        &self.site.admin
    }

    /// A client of the cluster administrator, for the calling runtime.
    pub async fn admin(&self) -> Result<Client> {
        self.site.admin.client().await
    }

    /// A user by client certificate, with no rights but those of its groups.
    pub fn user(&self, name: &str, groups: &[&str]) -> Result<Identity> {
        let proof = Proof::Certificate(self.site.authority.client(name, groups)?);
        self.write_identity(name, &proof)
    }

    /// A ServiceAccount by token, as a Pod would get it; valid for a day.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Identity> {
        let spec = TokenRequestSpec {
            expiration_seconds: i64::try_from(TOKEN_LIFETIME.as_secs()).ok(),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin().await?, namespace);
        let reply = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let reply = reply.context(format!("request a token for ServiceAccount {namespace}/{name}"))?;
        let token = reply.status.map(|status| status.token).unwrap_or_default();
        self.write_identity(&format!("system:serviceaccount:{namespace}:{name}"), &Proof::Token(token))
    }

    fn write_identity(&self, name: &str, proof: &Proof) -> Result<Identity> {
        let file = self.site.folder.join(format!("user-{}.kubeconfig", self.next_number()));
        Identity::write(name, &file, &self.api_url(), self.ca_pem(), proof)
    }

    /// Runs kubectl as somebody, with text for its standard input; its failure is in the output, not an error.
    pub async fn kubectl(&self, who: &Identity, arguments: &[&str], stdin: &str) -> Result<KubectlOutput> {
        let mut child = tokio::process::Command::new(&self.binaries.kubectl)
            .args(arguments)
            .env_clear()
            .env("HOME", &self.site.folder)
            .env("KUBECONFIG", &who.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start kubectl")?;
        let mut pipe = child.stdin.take().expect("standard input is a pipe");
        // A kubectl that does not read its input closes the pipe; that is no failure of ours.
        let _ = pipe.write_all(stdin.as_bytes()).await;
        drop(pipe);
        let output = tokio::time::timeout(KUBECTL_DEADLINE, child.wait_with_output()).await;
        let output = output
            .map_err(|_| {
                Error::timeout(&format!("kubectl {}", arguments.join(" ")), KUBECTL_DEADLINE, "no end")
            })?
            .context("wait for kubectl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Ok(KubectlOutput { status: output.status, stdout, stderr })
    }

    /// Discards all history in etcd: only the current state of each object is left.
    ///
    /// The API server answers watches from a cache of its own, so a watch from an old resourceVersion still succeeds,
    /// unless it was started with `--watch-cache=false`; [`Self::expire_watches`] empties that cache too.
    async fn compact_etcd(&self) -> Result<()> {
        let range = self.etcd_request("/v3/kv/range", &json!({ "key": "AA==" })).await?;
        let revision = range["header"]["revision"].as_str().unwrap_or_default();
        self.etcd_request("/v3/kv/compaction", &json!({ "revision": revision, "physical": true })).await?;
        Ok(())
    }

    /// Makes every resourceVersion handed out so far too old to watch from: such a watch gets an error event with
    /// code 410. Restarts the API server.
    pub async fn expire_watches(&self) -> Result<()> {
        self.stop_api_server();
        self.compact_etcd().await?;
        self.start_api_server().await
    }

    async fn etcd_request(&self, path: &str, body: &serde_json::Value) -> Result<serde_json::Value> {
        let reply = plain_http::post(self.site.etcd, path, body).await?;
        let value = serde_json::from_str(&reply.body).ok().filter(|_| reply.status == 200);
        value.ok_or_else(|| Error::Unexpected(format!("etcd {path}: {} {}", reply.status, reply.body)))
    }
}

impl KubectlOutput {
    /// The standard output of a command that succeeded; standard error as the error otherwise.
    pub fn success(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        Err(Error::Unexpected(format!("kubectl: {}: {}{}", self.status, self.stdout, self.stderr)))
    }
}

/// A GET of a path, for [`Client::request_text`].
pub(crate) fn get(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).expect("a valid path")
}
