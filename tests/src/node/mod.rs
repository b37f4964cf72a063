//! A node: containerd, runc, the kubelet and a scheduler beside the control plane, in namespaces of their own, so that
//! real Pods pull real images from real registries.
//!
//! [`enter`] comes first, before any thread: it starts the program anew in a network namespace of its own, in which
//! the API server has its cluster IP and Pods have addresses. What needs the network of the machine (building and
//! fetching programs) is done before that.
//!
//! | file | what it is for |
//! |---|---|
//! | [`programs`] | finds, fetches or builds what a node needs |
//! | `init.sh` | process 1 of the node |
//! | [`oci`] | small images for Pods |
//! | [`registry`], [`token_server`] | a private registry, by password or by token |

pub mod oci;
pub mod programs;
pub mod registry;
pub mod token_server;

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use self::{
    oci::Image,
    programs::Programs,
    registry::{Authentication, Login, Registry},
    token_server::TokenServer,
};
use crate::{
    binaries::{self, Binaries},
    control_plane::{ControlPlane, Options},
    error::{Context as _, Error, Result},
    image,
    process::{Launch, Process},
    site::free_addresses,
    wait::try_eventually,
};

/// Set in the program that runs in the namespace.
const INSIDE: &str = "REGCRED_INSIDE_NODE";
/// The folder of the operator's image, if it is built already.
const IMAGE: &str = "REGCRED_NODE_IMAGE";
/// Host names need no DNS where the node is called so.
const NODE: &str = "localhost";
/// Where Pods find what listens on the node.
pub const ADDRESS: &str = "10.99.0.1";
/// The cluster IP of the service `kubernetes`, and its port.
const API_SERVICE: &str = "10.0.0.1:443";
const PAUSE: &str = "regcred.test/pause:1";
/// Beyond the controllers of every control plane here: what Deployments, Jobs, drains and Pods of a lost node need.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,daemonset-controller,job-controller,\
                           node-lifecycle-controller,pod-garbage-collector-controller,disruption-controller,\
                           clusterrole-aggregation-controller";
const INIT: &str = include_str!("init.sh");
/// How `unshare` starts process 1 of a node: whatever it starts and mounts ends with it.
const NAMESPACES: [&str; 7] =
    ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"];
/// The name under which containerd has the operator's image once it is imported.
pub const OPERATOR_IMAGE: &str = "regcred.test/regcred";
/// Removes the cgroups once the node's processes are gone, which takes a moment after the first of them has ended.
const FINALLY: &str = r#"
tries=0
while [ "$tries" -lt 600 ]; do
  tries=$((tries + 1))
  left=
  for group in /sys/fs/cgroup/CGROUP /sys/fs/cgroup/*/CGROUP; do
    [ -d "$group" ] || continue
    find "$group" -depth -type d -exec rmdir {} + 2> /dev/null || left=yes
  done
  [ -n "$left" ] || break
  sleep 0.1
done
"#;
/// What a node does, tried in namespaces that end with it.
const TRIAL: &str = r#"
set -e
ip link add node0 type bridge
ip link add veth0 type veth peer name veth1
mount -t tmpfs tmpfs /run
mkdir "$FOLDER/lower" "$FOLDER/upper" "$FOLDER/work"
mount -t overlay -o "lowerdir=$FOLDER/lower,upperdir=$FOLDER/upper,workdir=$FOLDER/work" overlay "$FOLDER/lower"
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/memory; do
  [ -f "$hierarchy/cgroup.procs" ] || continue
  mkdir "$hierarchy/regcred-trial-$$"
  rmdir "$hierarchy/regcred-trial-$$"
done
"#;
const READY_DEADLINE: Duration = Duration::from_mins(2);

/// A cluster with one node. Fields are dropped in this order.
pub struct Node {
    processes: Vec<Process>,
    control_plane: ControlPlane,
    programs: Programs,
    operator_image: PathBuf,
    forwarders: Vec<JoinHandle<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.forwarders.iter().for_each(JoinHandle::abort);
    }
}

/// Moves this program into a network namespace of its own by starting it there anew; returns only there. Call it
/// before there are threads. Whatever is missing, a right or a program, is named in the error.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return prepare_network();
    }
    ensure_namespaces()?;
    Binaries::locate()?;
    binaries::helm()?;
    Programs::locate()?;
    let image = std::env::var_os(IMAGE).map_or_else(image::layout, |image| Ok(image.into()))?;
    let program = std::env::current_exe().context("find this program")?;
    let error = Command::new("unshare")
        .args(["--net", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "yes")
        .env(IMAGE, image)
        .exec();
    Err(error).context("start unshare")
}

/// A command that starts this program once more, to be a node of its own beside this one.
pub fn another() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.env_remove(INSIDE);
    Ok(command)
}

/// The cgroup of the node that this process, or another, started: a name below each hierarchy.
pub fn cgroup(process: u32) -> String {
    format!("regcred-{process}")
}

/// Tries what a node does, in a child that ends at once.
fn ensure_namespaces() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NoNode("root, for containers, mounts and network devices".to_owned()));
    }
    let folder = tempfile::tempdir().context("make a folder")?;
    let output = Command::new("unshare")
        .arg("--net")
        .args(NAMESPACES)
        .args(["sh", "-c", TRIAL])
        .env("FOLDER", folder.path())
        .stdin(Stdio::null())
        .output()
        .context("start unshare")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::NoNode(format!(
        "network, mount and pid namespaces, a bridge, veth, cgroups, and overlay mounts in {}; a trial failed: {said}",
        std::env::temp_dir().display()
    )))
}

/// The loopback device, the node's own address, and that of the API server inside the cluster.
fn prepare_network() -> Result<()> {
    for arguments in [
        "link set lo up".to_owned(),
        "link add node0 type bridge".to_owned(),
        format!("addr add {ADDRESS}/24 dev node0"),
        "link set node0 up".to_owned(),
        "addr add 10.0.0.1/32 dev lo".to_owned(),
    ] {
        let output = Command::new("ip").args(arguments.split(' ')).output().context("start ip")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Unexpected(format!("ip {arguments}: {}", said.trim())));
        }
    }
    Ok(())
}

impl Node {
    /// Starts a control plane and a node, and returns once the node is ready. Only after [`enter`].
    pub async fn start() -> Result<Self> {
        let operator_image = std::env::var_os(IMAGE)
            .map(PathBuf::from)
            .ok_or_else(|| Error::Unexpected("node::enter was not called".to_owned()))?;
        let programs =
            tokio::task::spawn_blocking(Programs::locate).await.expect("locating programs panicked")?;
        let control_plane = ControlPlane::start(Options {
            api_server_flags: vec![
                "--authorization-mode=Node".to_owned(),
                "--enable-admission-plugins=NodeRestriction".to_owned(),
                format!("--advertise-address={ADDRESS}"),
            ],
            controller_manager_flags: vec![format!("--controllers={CONTROLLERS}")],
        })
        .await?;
        let listener = TcpListener::bind(API_SERVICE).await.context(format!("listen at {API_SERVICE}"))?;
        let forwarders = vec![tokio::spawn(forward(listener, control_plane.api_address()))];
        let mut this = Self { processes: Vec::new(), control_plane, programs, operator_image, forwarders };
        this.start_scheduler()?;
        this.start_kubelet()?;
        this.wait_ready().await?;
        Ok(this)
    }

    /// The cluster.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// Runs kubectl as cluster administrator; what it prints, or an error with what it complains of.
    pub async fn kubectl(&self, arguments: &[&str], stdin: &str) -> Result<String> {
        self.control_plane.kubectl(self.control_plane.admin_identity(), arguments, stdin).await?.success()
    }

    /// Starts a registry that is known to the node by this host name, as in `registry.test:5000/acme/app`.
    pub async fn registry(&self, host: &str, logins: &[Login]) -> Result<Registry> {
        self.start_registry(host, &Authentication::Passwords(logins)).await
    }

    /// As [`Self::registry`], behind a token server.
    pub async fn registry_behind(&self, host: &str, server: &TokenServer) -> Result<Registry> {
        self.start_registry(host, &Authentication::Tokens(server)).await
    }

    /// Lets Pods reach a registry, too: its address for them.
    pub async fn open_to_pods(&mut self, registry: &Registry) -> Result<SocketAddr> {
        let listener = TcpListener::bind((ADDRESS, 0)).await.context(format!("listen at {ADDRESS}"))?;
        let address = listener.local_addr().context("ask for the address of a listener")?;
        self.forwarders.push(tokio::spawn(forward(listener, registry.address())));
        Ok(address)
    }

    async fn start_registry(&self, host: &str, authentication: &Authentication<'_>) -> Result<Registry> {
        let folder =
            self.control_plane.folder().join(format!("registry-{}", self.control_plane.next_number()));
        let spawn = |launch: &Launch| self.control_plane.spawn(launch);
        let registry = Registry::start(&self.programs.registry, folder, authentication, spawn).await?;
        self.route(host, &registry)?;
        Ok(registry)
    }

    /// Lets containerd find this host name at that registry (containerd, docs/hosts.md).
    pub fn route(&self, host: &str, registry: &Registry) -> Result<()> {
        let folder = self.folder().join("hosts").join(host);
        std::fs::create_dir_all(&folder).context(format!("create {}", folder.display()))?;
        let url = format!("http://{}", registry.address());
        let hosts =
            format!("server = \"{url}\"\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        std::fs::write(folder.join("hosts.toml"), hosts).context(format!("write the hosts of {host}"))
    }

    /// An image that no node has yet.
    pub fn new_image(&self, label: &str) -> Result<Image> {
        Image::new(&self.programs.app, label)
    }

    /// Brings the operator's image into containerd as [`OPERATOR_IMAGE`], with its version as the tag.
    pub async fn import_operator(&self) -> Result<()> {
        let archive = self.folder().join("operator.tar");
        let mut tar = tokio::process::Command::new("tar");
        tar.arg("--create").arg("--file").arg(&archive).arg("--directory").arg(&self.operator_image).arg(".");
        succeed(tar).await?;
        let mut import = tokio::process::Command::new(&self.programs.ctr);
        import.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io", "images", "import"]);
        import.args(["--base-name", OPERATOR_IMAGE]).arg(&archive);
        succeed(import).await
    }

    fn folder(&self) -> PathBuf {
        self.control_plane.folder().join("node")
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("c.sock")
    }

    fn start_scheduler(&mut self) -> Result<()> {
        let scheduler = self.control_plane.user("system:kube-scheduler", &["system:masters"])?;
        let launch = Launch {
            name: "kube-scheduler".to_owned(),
            program: self.programs.scheduler.clone(),
            arguments: vec![
                format!("--kubeconfig={}", scheduler.kubeconfig.display()),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
            ],
            environment: Vec::new(),
        };
        self.processes.push(self.control_plane.spawn(&launch)?);
        Ok(())
    }

    fn start_kubelet(&mut self) -> Result<()> {
        let folder = self.folder();
        std::fs::create_dir_all(folder.join("cni")).context("make the node's folder")?;
        std::fs::create_dir_all(folder.join("hosts")).context("make the node's folder")?;
        let cgroup = cgroup(std::process::id());
        Image::new(&self.programs.app, "pause")?.write_archive(PAUSE, &folder.join("pause.tar"))?;
        let [address] = free_addresses()?;
        let files = [
            (folder.join("containerd.toml"), self.containerd_settings()),
            (folder.join("kubelet.json"), self.kubelet_settings(&cgroup, address)),
            (folder.join("cni/10-regcred.conflist"), network_settings(&folder)),
            (folder.join("resolv.conf"), String::new()),
            (folder.join("init.sh"), INIT.to_owned()),
            (self.control_plane.folder().join("finally.sh"), FINALLY.replace("CGROUP", &cgroup)),
        ];
        for (path, content) in files {
            std::fs::write(&path, content).context(format!("write {}", path.display()))?;
        }
        let launch = self.launch_node(&folder, &cgroup)?;
        self.processes.push(self.control_plane.spawn(&launch)?);
        Ok(())
    }

    fn launch_node(&self, folder: &Path, cgroup: &str) -> Result<Launch> {
        let kubelet = self.control_plane.user(&format!("system:node:{NODE}"), &["system:nodes"])?;
        let programs = &self.programs;
        let beside =
            |path: &Path| path.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        let path = [&programs.containerd, &programs.runc].map(|program| beside(program)).join(":");
        let environment = [
            ("FOLDER", folder.display().to_string()),
            ("CGROUP", cgroup.to_owned()),
            ("CONTAINERD", programs.containerd.display().to_string()),
            ("CTR", programs.ctr.display().to_string()),
            ("SOCKET", self.socket().display().to_string()),
            ("KUBELET", programs.kubelet.display().to_string()),
            ("KUBECONFIG", kubelet.kubeconfig.display().to_string()),
            ("NODE", NODE.to_owned()),
            ("ADDRESS", ADDRESS.to_owned()),
            ("LD_LIBRARY_PATH", programs.libraries.display().to_string()),
            ("PATH", format!("{path}:{}", std::env::var("PATH").unwrap_or_default())),
        ];
        let script = ["/bin/sh".to_owned(), folder.join("init.sh").display().to_string()];
        Ok(Launch {
            name: "node".to_owned(),
            program: PathBuf::from("unshare"),
            arguments: NAMESPACES.map(str::to_owned).into_iter().chain(script).collect(),
            environment: environment.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        })
    }

    fn containerd_settings(&self) -> String {
        let (folder, socket) = (self.folder(), self.socket());
        let (folder, socket) = (folder.display(), socket.display());
        let (plugins, runc) = (self.programs.plugins.display(), self.programs.runc.display());
        format!(
            r#"version = 2
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/hosts"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        SystemdCgroup = false
"#
        )
    }

    fn kubelet_settings(&self, cgroup: &str, address: SocketAddr) -> String {
        let folder = self.folder();
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{cgroup}"),
            "failSwapOn": false,
            "address": address.ip(),
            "port": address.port(),
            "readOnlyPort": 0,
            "healthzPort": 0,
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
            "oomScoreAdj": 0,
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            // Nobody answers there; without one the kubelet warns at each Pod.
            "clusterDNS": ["10.0.0.10"],
            "resolvConf": folder.join("resolv.conf"),
            "volumePluginDir": folder.join("kubelet/volume-plugins"),
            "podLogsDir": folder.join("kubelet/pod-logs"),
            "makeIPTablesUtilChains": false,
            "evictionHard": {
                "memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%",
                "nodefs.inodesFree": "1%",
            },
            "imageGCHighThresholdPercent": 100,
            "imageMinimumGCAge": "24h",
            "nodeStatusUpdateFrequency": "10s",
            // Fifty Pods at once are not to wait for the kubelet's own client.
            "kubeAPIQPS": 200,
            "kubeAPIBurst": 400,
            "registryPullQPS": 0,
            "maxPods": 250,
        })
        .to_string()
    }

    async fn wait_ready(&self) -> Result<()> {
        let path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        let ready = try_eventually("the node to be ready", READY_DEADLINE, async || {
            if let Some(ended) = self.processes.iter().find(|process| !process.is_running()) {
                return Ok(Err(ended.failure("ended before the node was ready")));
            }
            match self.kubectl(&["get", "node", NODE, "--output", path], "").await {
                Ok(status) if status == "True" => Ok(Ok(())),
                Ok(status) => Err(format!("Ready is {status:?}")),
                Err(error) => Err(error.to_string()),
            }
        });
        match (ready.await, self.processes.last()) {
            (Ok(outcome), _) => outcome,
            (Err(error), Some(node)) => Err(node.failure(error.to_string())),
            (Err(error), None) => Err(error),
        }
    }
}

/// Stands in for kube-proxy: whoever connects to the listener speaks to what listens on loopback.
async fn forward(listener: TcpListener, to: SocketAddr) {
    while let Ok((mut inbound, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut outbound = TcpStream::connect(to).await?;
            tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await
        });
    }
}

/// Every Pod has an address of its own on a bridge (containernetworking, "Network Configuration").
fn network_settings(folder: &Path) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "regcred",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": folder.join("addresses"),
                "ranges": [[{ "subnet": "10.88.0.0/24" }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
    .to_string()
}

async fn succeed(mut command: tokio::process::Command) -> Result<()> {
    let text = format!("{:?}", command.as_std());
    let output = command.output().await.context(format!("run {text}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Err(Error::Unexpected(format!("{text}: {}", said.trim())))
}
