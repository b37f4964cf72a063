//! Where processor time goes during a workload: that of kube-apiserver by its own profile (`/debug/pprof/profile`), read with
//! `go tool pprof`, and that of the subject by `perf`.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    Error, Result,
    error::InFile as _,
    record::{Machine, Workload},
};

/// From the request for a profile until the API server surely samples.
const LEAD: Duration = Duration::from_millis(300);
/// Samples of the subject in a second: an odd number, so that they do not keep pace with a timer.
const FREQUENCY: &str = "997";

/// What part of kube-apiserver a sample belongs to: the first whose functions are on its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// Admission policies, their conversions included.
    Policies,
    /// Server-side apply and the fields that managers own.
    Apply,
    /// etcd and the way to it.
    Storage,
    /// Watches and their cache.
    Watches,
    /// Who asks, and whether they may.
    Access,
    /// The audit log, by which the rig counts.
    Audit,
    /// Encoding and decoding of objects.
    Encoding,
    /// TLS and the network.
    Network,
    /// Garbage collection and scheduling of the Go runtime.
    Runtime,
    /// Everything else.
    Other,
}

/// Each part with what the names of its functions contain, in the order in which they are tried: a policy that calls the runtime
/// is a policy. Storage is on the stack of whatever an update calls back, so it comes after those.
const PARTS: [(Part, &[&str]); 9] = [
    (Part::Policies, &["/admission/plugin/policy/", "/google/cel-go/", "apiserver/pkg/cel"]),
    (Part::Apply, &["structured-merge-diff", "/managedfields"]),
    // Writes go through the cache, too, so only what delivers events is named.
    (
        Part::Watches,
        &[
            "cacher.(*cacheWatcher)",
            "cacher.(*Cacher).dispatch",
            "cacher.(*watchCache)",
            "client-go/tools/cache.(*Reflector)",
            "handlers.(*WatchServer)",
            "handlers.(*watchEncoder)",
        ],
    ),
    (
        Part::Access,
        &[
            "pkg/auth/authorizer",
            "apiserver/pkg/authorization/",
            "apiserver/pkg/authentication/",
            "kubernetes/pkg/serviceaccount",
        ],
    ),
    (Part::Audit, &["apiserver/pkg/audit.", "apiserver/plugin/pkg/audit"]),
    (Part::Encoding, &["/runtime/serializer", "encoding/json", "sigs.k8s.io/json", "sigs.k8s.io/yaml"]),
    (Part::Storage, &["/storage/etcd3", "go.etcd.io/", "google.golang.org/grpc"]),
    (Part::Network, &["crypto/tls", "net/http.(*http2Framer)", "internal/poll."]),
    (
        Part::Runtime,
        &[
            "runtime.gcBgMarkWorker",
            "runtime.mcall",
            "runtime.mstart",
            "runtime.bgsweep",
            "runtime.bgscavenge",
        ],
    ),
];

impl Part {
    /// All parts, as a table shows them.
    pub const ALL: [Self; 10] = [
        Self::Policies,
        Self::Apply,
        Self::Storage,
        Self::Watches,
        Self::Access,
        Self::Audit,
        Self::Encoding,
        Self::Network,
        Self::Runtime,
        Self::Other,
    ];

    fn of(stack: &[&str]) -> Self {
        let is_on = |names: &[&str]| stack.iter().any(|call| names.iter().any(|name| call.contains(name)));
        PARTS.iter().find(|(_, names)| is_on(names)).map_or(Self::Other, |(part, _)| *part)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policies => "policies",
            Self::Apply => "apply",
            Self::Storage => "storage",
            Self::Watches => "watches",
            Self::Access => "authentication, authorisation",
            Self::Audit => "audit (the rig's)",
            Self::Encoding => "encoding",
            Self::Network => "network",
            Self::Runtime => "Go runtime",
            Self::Other => "other",
        })
    }
}

/// The profiles of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profiles {
    /// When it began, as RFC 3339.
    pub began: String,
    /// What it ran on.
    pub machine: Machine,
    /// Namespaces in the workloads.
    pub namespaces: usize,
    /// One for each subject and workload.
    pub profiles: Vec<Profile>,
}

/// What kube-apiserver did while a subject did a workload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The subject's name.
    pub subject: String,
    /// What it did.
    pub workload: Workload,
    /// Milliseconds of processor time of each part of kube-apiserver.
    pub api_server: BTreeMap<Part, f64>,
    /// The functions that took the most, for people: kube-apiserver's, and the subject's where `perf` is installed.
    #[serde(skip)]
    pub top: String,
}

impl Profiles {
    /// Reads them; `None` if there are none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&std::fs::read(path).in_file(path)?)?))
    }

    /// Writes them, and the top of each beside them.
    pub fn write(&self, path: &Path) -> Result<()> {
        let folder = path.with_extension("");
        std::fs::create_dir_all(&folder).in_file(&folder)?;
        for profile in &self.profiles {
            let file = folder.join(format!("{}-{}.txt", profile.subject, profile.workload));
            std::fs::write(&file, &profile.top).in_file(&file)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n").in_file(path)
    }
}

/// A profile under way.
pub(crate) struct Recording {
    folder: PathBuf,
    period: Duration,
    own: Option<std::process::Child>,
}

impl Recording {
    /// Records for this long, into this folder. `process` is the subject, or zero.
    pub(crate) fn start(folder: &Path, period: Duration, process: u32) -> Self {
        let file = folder.join("perf.data");
        let seconds = format!("{:.1}", (period + LEAD).as_secs_f64());
        let own = (process != 0).then(|| {
            let mut perf = Command::new("perf");
            perf.args(["record", "--quiet", "--freq", FREQUENCY, "--pid", &process.to_string(), "--output"]);
            perf.arg(&file)
                .args(["--", "sleep", &seconds])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        });
        Self { folder: folder.to_owned(), period, own: own.and_then(std::io::Result::ok) }
    }

    /// Records kube-apiserver while `work` is done, which should end within the period.
    pub(crate) async fn around<T>(
        &self,
        client: &Client,
        work: impl Future<Output = Result<T>>,
    ) -> Result<(T, Vec<u8>)> {
        let later = async {
            sleep(LEAD).await;
            work.await
        };
        let (done, profile) = tokio::join!(later, api_server_profile(client, self.period + LEAD));
        Ok((done?, profile?))
    }

    /// What was recorded.
    pub(crate) fn read(self, subject: &str, workload: Workload, profile: &[u8]) -> Result<Profile> {
        let file = self.folder.join("kube-apiserver.pprof");
        std::fs::write(&file, profile).in_file(&file)?;
        let traces = pprof(&["-traces", "-unit=ms"], &file)?;
        let top = pprof(&["-top", "-cum", "-nodecount=60", "-unit=ms"], &file)?;
        let own = self.own_top()?;
        Ok(Profile {
            subject: subject.to_owned(),
            workload,
            api_server: parts(&traces),
            top: format!(
                "kube-apiserver, by its own profile, callees included\n\n{top}\n{subject}, by perf\n\n{own}"
            ),
        })
    }

    fn own_top(self) -> Result<String> {
        let Some(mut own) = self.own else {
            return Ok(
                "not recorded: perf does not start, or nothing runs that could be watched\n".to_owned()
            );
        };
        let file = self.folder.join("perf.data");
        own.wait().in_file(&file)?;
        let mut report = Command::new("perf");
        report.args([
            "report",
            "--stdio",
            "--no-children",
            "--percent-limit",
            "0.7",
            "--sort",
            "dso,symbol",
            "--input",
        ]);
        let text = text(&report.arg(&file).output().in_file(&file)?, "perf report")?;
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        Ok(lines.fold(String::new(), |text, line| text + line.trim_end() + "\n"))
    }
}

async fn api_server_profile(client: &Client, period: Duration) -> Result<Vec<u8>> {
    let seconds = period.as_secs_f64().ceil();
    let request = http::Request::get(format!("/debug/pprof/profile?seconds={seconds}")).body(Body::empty());
    let request = request.map_err(kube::Error::HttpError)?;
    let body = client.send(request).await?.into_body();
    Ok(body.collect().await?.to_bytes().to_vec())
}

fn pprof(arguments: &[&str], file: &Path) -> Result<String> {
    let output = Command::new("go").args(["tool", "pprof"]).args(arguments).arg(file).output();
    text(&output.in_file(Path::new("go"))?, "go tool pprof")
}

fn text(output: &Output, program: &str) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Profile { program: program.to_owned(), reason: told })
}

/// Milliseconds of each part, from what `go tool pprof -traces` prints: stacks between rules, each with its time beside the
/// innermost function, and under it who called it.
fn parts(traces: &str) -> BTreeMap<Part, f64> {
    let mut parts = BTreeMap::new();
    for stack in traces.split("-----------+").skip(1) {
        let mut lines = stack.lines().skip(1);
        let Some((time, innermost)) = lines.next().and_then(|line| line.trim().split_once(' ')) else {
            continue;
        };
        let Some(time) = time.strip_suffix("ms").and_then(|time| time.parse::<f64>().ok()) else { continue };
        let calls: Vec<&str> = std::iter::once(innermost).chain(lines).map(str::trim).collect();
        *parts.entry(Part::of(&calls)).or_default() += time;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_belongs_to_the_first_part_that_is_on_it() {
        let traces = "File: kube-apiserver\nType: cpu\n\
             -----------+-------------------------------------------------------\n\
             \x20     10ms   runtime.mallocgc\n\
             \x20            github.com/google/cel-go/interpreter.(*evalAnd).Eval\n\
             \x20            k8s.io/apiserver/pkg/storage/etcd3.(*store).GuaranteedUpdate\n\
             -----------+-------------------------------------------------------\n\
             \x20     20ms   syscall.write\n\
             \x20            go.etcd.io/etcd/client/v3.(*kv).Do (inline)\n\
             -----------+-------------------------------------------------------\n\
             \x20     30ms   runtime.futex\n\
             \x20            runtime.mcall\n\
             -----------+-------------------------------------------------------\n";
        let expected = [(Part::Policies, 10.0), (Part::Storage, 20.0), (Part::Runtime, 30.0)];
        assert_eq!(parts(traces), expected.into());
    }

    #[test]
    fn every_part_is_shown() {
        for (part, _) in PARTS {
            assert!(Part::ALL.contains(&part), "{part}");
        }
    }
}
