//! What `kubectl regcred audit` costs whoever runs it, and the API server, in a large cluster: measured, held to bounds, and
//! written into `docs/kubectl-regcred.md`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use regcred_tests::audit::Entries;
use regcred_tests::binaries::{kubernetes_version, workspace_binary};
use regcred_tests::{ControlPlane, Identity, Options, image, install, wait::try_eventually};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::{in_parallel, object};
use crate::error::InFile as _;
use crate::usage::Usage;
use crate::{Error, Result, goals::mebibytes};

/// The page that has the measurement, between these marks.
const PAGE: &str = "docs/kubectl-regcred.md";
const MARKS: [&str; 2] = ["<!-- cost: written by just plugin-cost -->\n", "<!-- end of cost -->\n"];
/// Namespaces over which the workloads are spread; every second one is served.
const NAMESPACES: usize = 20;
/// The widest line that a table may have.
const WIDTH: usize = 120;
/// The most processor time and memory that an audit may take.
const MOST_SECONDS: f64 = 10.0;
const MOST_BYTES: u64 = 100 * 1024 * 1024;
/// How often the process is looked at while it runs. Its peak can only be missed if it rose after the last look.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
const SOON: Duration = Duration::from_mins(1);

/// How large the cluster is, and how it is read.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Pods.
    pub pods: usize,
    /// Deployments that own them.
    pub workloads: usize,
    /// Pods of a page; as the plugin is used, `None` leaves that to it.
    pub page: Option<usize>,
    /// The plugin as it is released, which takes minutes to build.
    pub released: bool,
}

/// What an audit cost.
#[derive(Debug)]
pub struct Cost {
    /// Lists of Pods.
    pub pages: usize,
    /// All requests.
    pub requests: usize,
    /// Those for Secrets.
    pub secrets: usize,
    /// Memory and processor time.
    pub usage: Usage,
    /// From start to end.
    pub elapsed: Duration,
    /// The table.
    pub table: String,
}

/// Makes a cluster of this size, and audits it once.
pub async fn measure(size: Size, say: &impl Fn(&str)) -> Result<Cost> {
    // It blocks, and nothing else runs yet.
    let program = if size.released {
        image::plugin()?
    } else {
        workspace_binary("regcred-plugin", "kubectl-regcred", &[])?
    };
    let control_plane = ControlPlane::start(Options::default()).await?;
    install::install_crd(&control_plane).await?;
    let rig = Rig { client: control_plane.admin().await?, control_plane, size };
    rig.fill(say).await?;
    say("auditing");
    let mark = rig.control_plane.audit().mark();
    let who = rig.control_plane.user("auditor", &["system:masters"])?;
    let run = audit(&program, &who, size)?;
    let asked = rig.control_plane.audit().since(mark).by(&who.name);
    Ok(run.cost(asked))
}

struct Rig {
    client: Client,
    control_plane: ControlPlane,
    size: Size,
}

impl Rig {
    async fn fill(&self, say: &impl Fn(&str)) -> Result<()> {
        say("making namespaces");
        let namespaces = (0..NAMESPACES).map(|number| {
            let pull = if number.is_multiple_of(2) { "private" } else { "public" };
            object::<Namespace>(json!({"metadata": {"name": namespace(number), "labels": {"pull": pull}}}))
        });
        let api = Api::<Namespace>::all(self.client.clone());
        in_parallel(namespaces, async |one| api.create(&PostParams::default(), &one?).await).await?;
        for number in 0..NAMESPACES {
            self.until_settled(&namespace(number)).await?;
        }
        // It would take away Pods whose owners do not exist.
        self.control_plane.stop_controller_manager();
        self.credential().await?;
        say(&format!("making {} Pods", self.size.pods));
        let made = in_parallel(0..self.size.pods, async |number| self.pod(number).await);
        made.await
    }

    async fn until_settled(&self, namespace: &str) -> Result<()> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        try_eventually("the ServiceAccount", SOON, async || {
            accounts.get("default").await.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        Ok(())
    }

    /// No operator runs: what is selected is said by the spec alone.
    async fn credential(&self) -> Result<()> {
        let kind = GroupVersionKind::gvk("regcred.dev", "v1alpha1", "RegistryCredential");
        let resource = ApiResource::from_gvk_with_plural(&kind, "registrycredentials");
        let credential = object(json!({
            "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "metadata": {"name": "platform-pull"},
            "spec": {
                "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": "bot"}}}],
                "namespaces": {"selector": {"matchLabels": {"pull": "private"}}},
            },
        }))?;
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
        api.create(&PostParams::default(), &credential).await?;
        Ok(())
    }

    /// One Pod of a Deployment, as large as Pods are, with the status that a kubelet gives it.
    async fn pod(&self, number: usize) -> kube::Result<()> {
        let workload = number % self.size.workloads;
        let pods = Api::<Pod>::namespaced(self.client.clone(), &namespace(workload % NAMESPACES));
        let name = format!("app-{workload:04}-5d8f7c9b6d-{number:05}");
        pods.create(&PostParams::default(), &object(pod(&name, workload))?).await?;
        let status = Patch::Merge(json!({"status": {"containerStatuses": [container_status(workload)]}}));
        pods.patch_status(&name, &PatchParams::default(), &status).await.map(drop)
    }
}

fn namespace(number: usize) -> String {
    format!("team-with-a-long-name-{number:02}")
}

fn image(workload: usize) -> String {
    format!("ghcr.io/acme-corporation/platform/service-{workload:04}:2026.11.30")
}

fn pod(name: &str, workload: usize) -> Value {
    let variables = (0..30).map(|at| json!({"name": format!("SETTING_{at}"), "value": "v".repeat(60)}));
    json!({
        "metadata": {
            "name": name, "labels": {"app": format!("app-{workload:04}"), "pod-template-hash": "5d8f7c9b6d"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("app-{workload:04}-5d8f7c9b6d"),
                                 "uid": format!("replica-set-{workload}"), "controller": true}],
        },
        "spec": {"containers": [{"name": "app", "image": image(workload), "env": variables.collect::<Vec<_>>()}]},
    })
}

/// Three of four have pulled.
fn container_status(workload: usize) -> Value {
    let fails = (workload / NAMESPACES).is_multiple_of(4);
    let state = if fails {
        json!({"waiting": {"reason": "ImagePullBackOff", "message": "401 Unauthorized"}})
    } else {
        json!({"running": {}})
    };
    json!({"name": "app", "image": image(workload), "imageID": if fails { "" } else { "sha256:1" },
        "ready": !fails, "restartCount": 0, "state": state})
}

/// A run that has ended.
struct Run {
    usage: Usage,
    elapsed: Duration,
    table: String,
}

fn audit(program: &Path, who: &Identity, size: Size) -> Result<Run> {
    let table = who.kubeconfig.with_extension("table");
    let file = std::fs::File::create(&table).in_file(&table)?;
    let mut command = Command::new(program);
    command.args(["audit", "--all-namespaces"]).env_clear().env("KUBECONFIG", &who.kubeconfig);
    if let Some(page) = size.page {
        command.args(["--chunk-size", &page.to_string()]);
    }
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(file).spawn().in_file(program)?;
    let usage = watched(child, program)?;
    let elapsed = began.elapsed();
    Ok(Run { usage, elapsed, table: std::fs::read_to_string(&table).in_file(&table)? })
}

/// The most that a process took until it ended.
fn watched(mut child: Child, program: &Path) -> Result<Usage> {
    let mut most = Usage::default();
    loop {
        // An ended process is there until it is waited for: it then has its processor time still, and no memory.
        let now = Usage::of(child.id())?;
        most = Usage { peak: most.peak.max(now.peak), cpu_seconds: now.cpu_seconds, ..now };
        match child.try_wait().in_file(program)? {
            None => std::thread::sleep(LOOK_INTERVAL),
            Some(status) if status.success() => return Ok(most),
            Some(status) => return Err(undone(&format!("it ended with {status}"))),
        }
    }
}

impl Run {
    fn cost(self, asked: Entries) -> Cost {
        let counts = asked.counts();
        Cost {
            pages: counts.of("list", "pods"),
            requests: counts.total(),
            secrets: asked.of("secrets").counts().total(),
            usage: self.usage,
            elapsed: self.elapsed,
            table: self.table,
        }
    }
}

impl Cost {
    /// An error if a bound does not hold that does not depend on the machine: requests, and the width of the table.
    pub fn check_counts(&self, size: Size) -> Result<()> {
        let pages = size.pods.div_ceil(size.page.unwrap_or(500));
        if self.pages != pages {
            return Err(undone(&format!("{} lists of Pods, not {pages}", self.pages)));
        }
        if self.requests != pages + 3 {
            return Err(undone(&format!(
                "{} requests, with {pages} for Pods, and one for each other kind",
                self.requests
            )));
        }
        if self.secrets > 0 {
            return Err(undone(&format!("{} requests for Secrets", self.secrets)));
        }
        let findings = self.table.lines().filter(|line| line.starts_with("FAIL") || line.starts_with("RISK"));
        let (count, widest) = (findings.clone().count(), findings.map(|line| line.chars().count()).max());
        if count == 0 || widest > Some(WIDTH) {
            return Err(undone(&format!("{count} findings, the widest of {widest:?} columns")));
        }
        Ok(())
    }

    /// An error if it took more memory or time than an audit of ten thousand Pods may.
    pub fn check_usage(&self) -> Result<()> {
        let Usage { peak, cpu_seconds, .. } = self.usage;
        if cpu_seconds < MOST_SECONDS && peak < MOST_BYTES {
            return Ok(());
        }
        Err(undone(&format!("{cpu_seconds:.1} s of processor time and {:.0} MiB", mebibytes(peak))))
    }

    /// Writes the measurement into the documentation.
    pub fn publish(&self, size: Size) -> Result<()> {
        let path = install::repository().join(PAGE);
        let page = std::fs::read_to_string(&path).in_file(&path)?;
        let missing = || undone(&format!("{PAGE} has not both marks of the measurement"));
        let (before, rest) = page.split_once(MARKS[0]).ok_or_else(missing)?;
        let (_, after) = rest.split_once(MARKS[1]).ok_or_else(missing)?;
        let [begin, end] = MARKS;
        let page = format!("{before}{begin}{}{end}{after}", self.paragraph(size));
        std::fs::write(&path, page).in_file(&path)
    }

    fn paragraph(&self, size: Size) -> String {
        let Usage { peak, cpu_seconds, .. } = self.usage;
        format!(
            "`audit --all-namespaces` over {} Pods of {} workloads took {cpu_seconds:.1} s of processor time, {:.1} s in all and at most \
             {:.0} MiB of\nmemory: {} requests, {} of them for Pods, none for a Secret (Kubernetes {}; `just plugin-cost` measures it\n\
             again, and fails from {MOST_SECONDS:.0} s or {:.0} MiB on).\n",
            size.pods,
            size.workloads,
            self.elapsed.as_secs_f64(),
            mebibytes(peak),
            self.requests,
            self.pages,
            kubernetes_version(),
            mebibytes(MOST_BYTES),
        )
    }
}

fn undone(reason: &str) -> Error {
    let [subject, workload] = ["kubectl regcred", "audit"].map(str::to_owned);
    Error::Undone { subject, workload, reason: reason.to_owned() }
}
