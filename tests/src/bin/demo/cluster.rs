//! The cluster that the story plays on: an embedded control plane, with a node or without, or one of the user's.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use regcred_tests::{
    ControlPlane, Options,
    binaries::operator_binary,
    error::{Context as _, Error, Result},
    install::{OPERATOR_NAMESPACE, OPERATOR_SERVICE_ACCOUNT, repository},
    node::Node,
    process::{Launch, Process, Supervisor},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command, task::spawn_blocking};

/// A cluster, and the kubectl to speak to it as its administrator.
pub(crate) struct Cluster {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    home: Home,
}

/// Who ends what the story starts.
enum Home {
    Embedded(Box<ControlPlane>),
    WithNode(Box<Node>),
    Yours(Supervisor, tempfile::TempDir),
}

impl Cluster {
    /// The cluster of this kubeconfig, or a new one.
    pub(crate) async fn open(kubeconfig: Option<&Path>) -> Result<Self> {
        let Some(kubeconfig) = kubeconfig else {
            let control_plane = ControlPlane::start(Options::default()).await?;
            let kubectl = control_plane.binaries().kubectl.clone();
            let kubeconfig = control_plane.admin_identity().kubeconfig.clone();
            return Ok(Self { kubectl, kubeconfig, home: Home::Embedded(Box::new(control_plane)) });
        };
        let kubeconfig =
            kubeconfig.canonicalize().context(format!("read kubeconfig {}", kubeconfig.display()))?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let home = Home::Yours(Supervisor::start(folder.path())?, folder);
        Ok(Self { kubectl: PathBuf::from("kubectl"), kubeconfig, home })
    }

    /// A new cluster with a node, on which Pods run. Only after [`node::enter`](regcred_tests::node::enter).
    pub(crate) async fn with_node() -> Result<Self> {
        let node = Node::start().await?;
        let kubectl = node.control_plane().binaries().kubectl.clone();
        let kubeconfig = node.control_plane().admin_identity().kubeconfig.clone();
        Ok(Self { kubectl, kubeconfig, home: Home::WithNode(Box::new(node)) })
    }

    /// The node, if the cluster has one of ours.
    pub(crate) fn node(&self) -> Option<&Node> {
        match &self.home {
            Home::WithNode(node) => Some(node),
            Home::Embedded(_) | Home::Yours(..) => None,
        }
    }

    /// Whether the cluster ends with the story.
    pub(crate) fn is_embedded(&self) -> bool {
        !matches!(self.home, Home::Yours(..))
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The kubectl that the story uses, which need not be on `PATH`.
    pub(crate) fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// What kubectl prints for these arguments, run in the repository.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(arguments, "").await
    }

    /// The same, with text on standard input.
    pub(crate) async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments).current_dir(repository()).env("KUBECONFIG", &self.kubeconfig);
        if self.is_embedded() {
            // kubectl's cache is deleted with the cluster.
            command.env("HOME", self.folder());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start kubectl")?;
        if let Some(mut pipe) = child.stdin.take() {
            // A kubectl that does not read its input closes the pipe; that is no failure of ours.
            let _ = pipe.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await.context("run kubectl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let said = text(&output.stdout) + &text(&output.stderr);
        Err(Error::Unexpected(format!("kubectl {}: {}", arguments.join(" "), said.trim())))
    }

    /// Starts the operator from this repository, with the ServiceAccount that the manifests made and further arguments.
    pub(crate) async fn start_operator(&self, further: Vec<String>) -> Result<Process> {
        let program = spawn_blocking(operator_binary)
            .await
            .map_err(std::io::Error::from)
            .context("build the operator")??;
        let kubeconfig = self.operator_kubeconfig().await?.display().to_string();
        let arguments = [
            "run",
            "--kubeconfig",
            &kubeconfig,
            "--source-namespace",
            OPERATOR_NAMESPACE,
            "--listen",
            "127.0.0.1:0",
        ];
        let launch = Launch {
            name: "operator".to_owned(),
            program,
            arguments: arguments.into_iter().map(str::to_owned).chain(further).collect(),
            environment: Vec::new(),
        };
        match &self.home {
            Home::Embedded(control_plane) => control_plane.spawn(&launch),
            Home::WithNode(node) => node.control_plane().spawn(&launch),
            Home::Yours(supervisor, _) => supervisor.spawn(&launch),
        }
    }

    /// The administrator's kubeconfig with the operator's token in the place of the administrator.
    async fn operator_kubeconfig(&self) -> Result<PathBuf> {
        let token = [
            "create",
            "token",
            OPERATOR_SERVICE_ACCOUNT,
            "--namespace",
            OPERATOR_NAMESPACE,
            "--duration=24h",
        ];
        let token = self.kubectl(&token).await?;
        let view =
            self.kubectl(&["config", "view", "--raw", "--minify", "--flatten", "--output=json"]).await?;
        let mut config: Value =
            serde_json::from_str(&view).map_err(std::io::Error::from).context("read it")?;
        config["users"][0]["user"] = json!({ "token": token.trim() });
        let path = self.folder().join("operator.kubeconfig");
        std::fs::write(&path, config.to_string()).context("write the operator's kubeconfig")?;
        Ok(path)
    }

    fn folder(&self) -> &Path {
        match &self.home {
            Home::Embedded(control_plane) => control_plane.folder(),
            Home::WithNode(node) => node.control_plane().folder(),
            Home::Yours(_, folder) => folder.path(),
        }
    }

    /// Leaves the embedded control plane and the operator running. Returns the process whose end stops them.
    pub(crate) fn keep(self, operator: Process) -> Result<Option<u32>> {
        let keeper = match &self.home {
            Home::Embedded(control_plane) => Some(control_plane.keep()?),
            Home::WithNode(_) | Home::Yours(..) => None,
        };
        if keeper.is_some() {
            // Dropping them would end them.
            std::mem::forget(operator);
            std::mem::forget(self);
        }
        Ok(keeper)
    }
}
