//! The workloads, each on one subject. What is common: a mark in the audit log, the trigger, the wait until the
//! last pair is right, the wait until the subject rests, and only then the counts.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::{Api, Client, api::PostParams};
use regcred_tests::audit::{Entries, Entry, Mark};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    Error, Result,
    cluster::{ALL, TENTH, in_parallel, object},
    least_writes::{self, Call},
    observer::Seen,
    profile::{Profile, Recording},
    record::{Sample, Series, Workload},
    subject::{DEADLINE, Session},
    usage::{self, Usage},
};

/// The longest that a subject may go on afterwards.
const REST_DEADLINE: Duration = Duration::from_mins(2);
/// Longer than operators commonly wait before they write a status again.
const HELD_BACK: Duration = Duration::from_secs(7);
/// How many credentials W2 has.
pub const MANY: usize = 50;
/// The password that sources begin with, and the one after a rotation.
pub const PASSWORDS: [&str; 2] = ["first-password", "second-password"];

/// A namespace, its label and its credential apart from all others. A ServiceAccount that is served there shows that
/// the subject is awake; what that costs is not counted.
pub const MARKER: (&str, &str) = ("marker", "bench-marker");

/// What a workload is to bring about.
#[derive(Debug, Clone)]
pub struct Task {
    /// Which one.
    pub workload: Workload,
    /// Where.
    pub namespaces: Vec<String>,
    /// Which Secrets.
    pub secrets: Vec<String>,
    /// The least writes that do it.
    pub least: usize,
    /// The least writes themselves, for a subject that sends them as they are.
    pub calls: Vec<Call>,
    /// The label by which the namespaces are selected.
    pub label: &'static str,
}

impl Task {
    /// Every Secret into every namespace.
    pub fn cold(workload: Workload, namespaces: &[String], secrets: &[String], label: &'static str) -> Self {
        Self {
            workload,
            least: namespaces.len() * (secrets.len() + 1),
            calls: least_writes::cold(namespaces, secrets, PASSWORDS[0]),
            namespaces: namespaces.to_vec(),
            secrets: secrets.to_vec(),
            label,
        }
    }

    fn rotation(namespaces: &[String], secret: &str) -> Self {
        Self {
            workload: Workload::Rotation,
            least: namespaces.len(),
            calls: least_writes::rotation(namespaces, secret, PASSWORDS[1]),
            namespaces: namespaces.to_vec(),
            secrets: vec![secret.to_owned()],
            label: ALL,
        }
    }

    fn deletion(of: &Self) -> Self {
        Self {
            workload: Workload::Deletion,
            calls: least_writes::deletion(&of.namespaces, &of.secrets),
            ..of.clone()
        }
    }

    fn pairs(&self) -> Vec<(String, String)> {
        let each = self.namespaces.iter().map(|namespace| (namespace, &self.secrets));
        each.flat_map(|(namespace, secrets)| secrets.iter().map(|secret| (namespace.clone(), secret.clone())))
            .collect()
    }
}

/// The names of the Secrets that W2 asks for; the first is that of all other workloads.
pub fn secret_names() -> Vec<String> {
    (0..MANY).map(|number| format!("bench-{number:02}")).collect()
}

/// What every meter showed before a workload.
pub(crate) struct Meters {
    mark: Mark,
    subject: Usage,
    api_server: Usage,
}

impl Session<'_> {
    pub(crate) fn read_meters(&self) -> Result<Meters> {
        Ok(Meters {
            mark: self.cluster.control_plane.audit().mark(),
            subject: Usage::of(self.process_id()).unwrap_or_default(),
            api_server: Usage::of(self.cluster.api_server())?,
        })
    }

    /// Everything that can be counted, once the subject rests.
    pub(crate) async fn sample(&self, workload: Workload, before: &Meters) -> Result<Sample> {
        let subject = match self.process_id() {
            0 => Usage::default(),
            process => usage::settled(process, REST_DEADLINE).await?,
        };
        let api_server = Usage::of(self.cluster.api_server())?;
        let entries = self.cluster.control_plane.audit().since(before.mark);
        Ok(Sample {
            throttled: entries.iter().filter(|entry| entry.code == 429).count(),
            requests: requests(entries, self.user()),
            cpu_seconds: subject.cpu_seconds - before.subject.cpu_seconds,
            api_server_cpu_seconds: api_server.cpu_seconds - before.api_server.cpu_seconds,
            resident: subject.resident,
            peak: subject.peak,
            ..Sample::new(workload, &self.subject.name)
        })
    }

    async fn run(
        &mut self,
        task: &Task,
        trigger: impl AsyncFnOnce(&mut Self) -> Result<()>,
        mut done: impl FnMut(&Seen) -> Result<Vec<Instant>, String>,
    ) -> Result<Sample> {
        let before = self.read_meters()?;
        let began = Instant::now();
        if self.subject.is_one_shot() {
            self.start(&task.calls)?;
        } else {
            trigger(self).await?;
        }
        let completions = self.cluster.observer.until(&task.workload.to_string(), DEADLINE, &mut done).await;
        let completions = completions.map_err(|error| self.undone(task.workload, &error))?;
        let mut sample = self.sample(task.workload, &before).await?;
        if self.subject.is_one_shot() {
            sample.cpu_seconds += before.subject.cpu_seconds;
            self.finished().await?;
        }
        let after = |at: &Instant| at.saturating_duration_since(began).as_secs_f64();
        sample.seconds = completions.iter().map(after).fold(0.0, f64::max);
        let first = completions.iter().map(after).fold(f64::INFINITY, f64::min);
        sample.series.insert(Series::FirstPairSeconds, vec![first]);
        sample.namespaces = task.namespaces.len();
        sample.credentials = task.secrets.len();
        sample.pairs = task.namespaces.len() * task.secrets.len();
        sample.least_writes = task.least;
        Ok(sample)
    }

    fn undone(&self, workload: Workload, error: &Error) -> Error {
        let subject = self.subject.name.clone();
        Error::Undone { subject, workload: workload.to_string(), reason: error.to_string() }
    }

    /// W1, W2 and the tenth of W1: every Secret into every namespace.
    pub async fn cold(&mut self, task: &Task) -> Result<Sample> {
        if !self.subject.is_one_shot() {
            for secret in &task.secrets {
                self.apply_source(secret, PASSWORDS[0]).await?;
            }
        }
        let done = self.all_hold(task, PASSWORDS[0]);
        let trigger = async |this: &mut Self| this.apply_credentials(&task.secrets, task.label).await;
        self.run(task, trigger, done).await
    }

    /// Profiles of W1 and W3, after one W1 that warms up and tells how long it takes. The subject does not run before and after.
    pub(crate) async fn profiles(&mut self, namespaces: &[String]) -> Result<[Profile; 2]> {
        let [all, ..] = cold_tasks(namespaces);
        if !self.subject.is_one_shot() {
            self.start(&[])?;
            self.ready().await?;
        }
        let seconds = self.cold(&all).await?.seconds;
        self.deletion(&all).await?;
        let period = Duration::from_secs_f64(seconds * 1.5);
        let secret = all.secrets[0].clone();
        let cold = self.profiled(period, Workload::Cold, async |this| this.cold(&all).await).await?;
        let rotation = async |this: &mut Self| this.rotation(namespaces, &secret).await;
        let rotation = self.profiled(period, Workload::Rotation, rotation).await?;
        self.deletion(&all).await?;
        self.stop().await?;
        Ok([cold, rotation])
    }

    async fn profiled(
        &mut self,
        period: Duration,
        workload: Workload,
        work: impl AsyncFnOnce(&mut Self) -> Result<Sample>,
    ) -> Result<Profile> {
        let folder = self.cluster.control_plane.folder().to_owned();
        let (client, subject) = (self.cluster.client.clone(), self.subject.name.clone());
        let recording = Recording::start(&folder, period, self.process_id());
        let (_, profile) = recording.around(&client, work(self)).await?;
        recording.read(&subject, workload, &profile)
    }

    /// W3: a new password in all namespaces.
    pub async fn rotation(&mut self, namespaces: &[String], secret: &str) -> Result<Sample> {
        let task = Task::rotation(namespaces, secret);
        let done = self.all_hold(&task, PASSWORDS[1]);
        let trigger = async |this: &mut Self| this.apply_source(secret, PASSWORDS[1]).await;
        self.run(&task, trigger, done).await
    }

    /// W9: nothing is left, the credentials neither: one applied anew while it is being deleted would be deleted too.
    pub async fn deletion(&mut self, of: &Task) -> Result<Sample> {
        let task = Task::deletion(of);
        let pairs = task.pairs();
        let mut next = 0;
        let done = move |seen: &Seen| {
            while let Some((namespace, secret)) = pairs.get(next) {
                if !seen.is_gone(namespace, secret) {
                    return Err(format!("{namespace}/{secret} is still there"));
                }
                next += 1;
            }
            Ok(seen.last_event().into_iter().collect())
        };
        let trigger = async |this: &mut Self| this.remove_credentials(&task.secrets).await;
        self.run(&task, trigger, done).await
    }

    /// When each pair was right; looks at none twice once it was.
    fn all_hold(
        &self,
        task: &Task,
        password: &'static str,
    ) -> impl FnMut(&Seen) -> Result<Vec<Instant>, String> + use<> {
        let pairs = task.pairs();
        let attaches = self.subject.attaches;
        let mut completions = Vec::new();
        move |seen| {
            while let Some((namespace, secret)) = pairs.get(completions.len()) {
                let held = seen.holds(namespace, secret, password);
                let attached = seen.attached(namespace, "default", secret);
                match (held, attached) {
                    (Some(held), Some(attached)) if attaches => completions.push(held.max(attached)),
                    (Some(held), _) if !attaches => completions.push(held),
                    _ => {
                        return Err(format!(
                            "{namespace}/{secret}, {} before it were right",
                            completions.len()
                        ));
                    }
                }
            }
            Ok(completions.clone())
        }
    }

    /// Waits until the subject has sent nothing for a while: what it holds back to send it with more is work left
    /// over from before.
    pub(crate) async fn come_to_rest(&self) {
        let end = Instant::now() + REST_DEADLINE;
        loop {
            let mark = self.cluster.control_plane.audit().mark();
            sleep(HELD_BACK).await;
            let sent = requests(self.cluster.control_plane.audit().since(mark), self.user());
            if sent.is_empty() || Instant::now() >= end {
                return;
            }
        }
    }

    /// W4: somebody else writes, and nothing is there to do.
    pub async fn steady(&self, period: Duration) -> Result<Sample> {
        self.come_to_rest().await;
        let before = self.read_meters()?;
        let foreign = self.cluster.start_foreign_writer(Duration::from_millis(100));
        sleep(period).await;
        let after = Usage::of(self.process_id())?;
        let latencies = foreign.stop();
        let mut sample = self.sample(Workload::Steady, &before).await?;
        sample.cpu_seconds = after.cpu_seconds - before.subject.cpu_seconds;
        sample.seconds = period.as_secs_f64();
        sample.series.insert(Series::ForeignWriteMilliseconds, latencies);
        Ok(sample)
    }

    /// W5: new namespaces, all at once.
    pub async fn new_namespaces(
        &mut self,
        count: usize,
        secret: &str,
        password: &'static str,
    ) -> Result<Sample> {
        let names: Vec<String> = (0..count).map(|number| format!("burst-{number:05}")).collect();
        let task = Task::cold(Workload::NewNamespaces, &names, &[secret.to_owned()], ALL);
        let done = self.all_hold(&task, password);
        let new = names.iter().map(|name| (name.clone(), &[ALL] as &[&str])).collect();
        let trigger = async |this: &mut Self| this.cluster.make_namespaces(new).await;
        let sample = self.run(&task, trigger, done).await?;
        self.cluster.delete_namespaces(&names).await?;
        usage::settled(self.process_id(), REST_DEADLINE).await?;
        Ok(sample)
    }

    /// P6: ServiceAccounts one after the other in a quiet cluster, and beside it what two bare requests take.
    pub async fn quiet_accounts(&self, namespace: &str, secret: &str, count: usize) -> Result<Sample> {
        let before = self.read_meters()?;
        let (mut attached, mut bare) = (Vec::new(), Vec::new());
        for number in 0..count {
            let account = format!("quiet-{number}");
            let sent = self.cluster.make_account(namespace, &account).await?;
            attached.push(milliseconds(sent, self.attached(namespace, &account, secret).await?));
            // The same two requests without an operator, in a namespace that is none of its business.
            let sent = self.cluster.make_account("bench-rig", &account).await?;
            self.cluster.attach("bench-rig", &account, secret).await?;
            bare.push(milliseconds(sent, Instant::now()));
        }
        let mut sample = self.sample(Workload::QuietAccounts, &before).await?;
        sample.pairs = count;
        sample.least_writes = count;
        sample.series.insert(Series::AttachMilliseconds, attached);
        sample.series.insert(Series::BareMilliseconds, bare);
        let each = |namespace: &str| {
            (0..count).map(move |n| (namespace.to_owned(), format!("quiet-{n}"))).collect::<Vec<_>>()
        };
        self.cluster.delete_accounts([each(namespace), each("bench-rig")].concat()).await?;
        Ok(sample)
    }

    async fn attached(&self, namespace: &str, account: &str, secret: &str) -> Result<Instant> {
        let look = |seen: &Seen| {
            seen.attached(namespace, account, secret).ok_or_else(|| format!("{namespace}/{account}"))
        };
        self.cluster.observer.until("a name on a ServiceAccount", DEADLINE, look).await
    }

    /// W6: ServiceAccounts in existing namespaces, so many in each second.
    pub async fn account_burst(
        &self,
        namespaces: &[String],
        secret: &str,
        rate: f64,
        period: Duration,
    ) -> Result<Sample> {
        let before = self.read_meters()?;
        let began = Instant::now();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = (rate * period.as_secs_f64()) as usize;
        let accounts: Vec<(String, String)> =
            (0..count).map(|n| (namespaces[n % namespaces.len()].clone(), format!("burst-{n}"))).collect();
        let created = self.create_accounts(&accounts, Duration::from_secs_f64(1.0 / rate)).await?;
        let mut attached = Vec::new();
        for (namespace, account, sent) in &created {
            attached.push(milliseconds(*sent, self.attached(namespace, account, secret).await?));
        }
        let seconds = began.elapsed().as_secs_f64();
        let mut sample = self.sample(Workload::AccountBurst, &before).await?;
        sample.seconds = seconds;
        (sample.pairs, sample.least_writes) = (count, count);
        sample.series.insert(Series::AttachMilliseconds, attached);
        sample.series.insert(Series::RatePerSecond, vec![rate]);
        self.cluster.delete_accounts(accounts).await?;
        usage::settled(self.process_id(), REST_DEADLINE).await?;
        Ok(sample)
    }

    /// Sent on schedule whether earlier ones were answered or not: a slow server must not slow the load.
    async fn create_accounts(
        &self,
        accounts: &[(String, String)],
        interval: Duration,
    ) -> Result<Vec<(String, String, Instant)>> {
        let mut clock = tokio::time::interval(interval);
        let mut creating = Vec::new();
        for (namespace, account) in accounts {
            clock.tick().await;
            let client = self.cluster.client.clone();
            creating.push(tokio::spawn(create_account(client, namespace.clone(), account.clone())));
        }
        let mut created = Vec::new();
        for task in creating {
            created.push(task.await.map_err(|error| self.undone(Workload::AccountBurst, &lost(&error)))??);
        }
        Ok(created)
    }

    /// W7: a restart with everything in sync; beside it, how long a bare list of the same data takes. `seconds` is
    /// the time until it is ready.
    pub async fn restart(&mut self, bare: &mut Session<'_>) -> Result<Sample> {
        self.come_to_rest().await;
        self.stop().await?;
        let list_began = Instant::now();
        bare.start(&least_writes::lists())?;
        bare.finished().await?;
        let list_seconds = list_began.elapsed().as_secs_f64();
        let before = Meters { subject: Usage::default(), ..self.read_meters()? };
        let began = Instant::now();
        self.start(&[])?;
        self.ready().await?;
        let seconds = began.elapsed().as_secs_f64();
        self.is_awake("after-restart").await?;
        let mut sample = self.sample(Workload::Restart, &before).await?;
        sample.seconds = seconds;
        sample.series.insert(Series::BareListSeconds, vec![list_seconds]);
        Ok(sample)
    }

    /// Puts the marker's credential in place.
    pub async fn place_marker(&self) -> Result<()> {
        self.apply_source(MARKER.1, PASSWORDS[0]).await?;
        self.apply_credentials(&[MARKER.1.to_owned()], MARKER.0).await?;
        self.attached(MARKER.0, "default", MARKER.1).await.map(drop)
    }

    /// Takes the marker's credential away.
    pub async fn remove_marker(&self) -> Result<()> {
        self.remove_credentials(&[MARKER.1.to_owned()]).await
    }

    async fn is_awake(&self, account: &str) -> Result<()> {
        self.cluster.make_account(MARKER.0, account).await?;
        self.attached(MARKER.0, account, MARKER.1).await?;
        self.cluster.delete_accounts(vec![(MARKER.0.to_owned(), account.to_owned())]).await
    }

    /// W8: every watch ends and its version is too old to go on from, again and again.
    pub async fn dropped_watches(&self, times: usize) -> Result<Sample> {
        self.come_to_rest().await;
        // The API server will be another process, so its meter starts over.
        let before = Meters { api_server: Usage::default(), ..self.read_meters()? };
        for number in 0..times {
            self.cluster.control_plane.expire_watches().await?;
            self.is_awake(&format!("after-drop-{number}")).await?;
            usage::settled(self.process_id(), REST_DEADLINE).await?;
        }
        self.sample(Workload::DroppedWatches, &before).await
    }

    /// P13 and P8: W1 while somebody else writes, and while small credentials come in.
    pub async fn cold_among_others(
        &mut self,
        task: &Task,
        small: &[(String, &'static str)],
    ) -> Result<Sample> {
        let interval = Duration::from_millis(20);
        let baseline = self.cluster.start_foreign_writer(interval);
        sleep(Duration::from_secs(5)).await;
        let baseline = baseline.stop();
        let foreign = self.cluster.start_foreign_writer(interval);
        let mut sample = match small {
            [] => self.cold(task).await?,
            small => self.cold_with_small(task, small).await?,
        };
        // The writer goes on while the subject comes to rest; only what came before that counts.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let during = (sample.seconds / interval.as_secs_f64()) as usize;
        let mut latencies = foreign.stop();
        latencies.truncate(during);
        let is_alone = small.is_empty();
        sample.workload = if is_alone { Workload::ColdBesideAWriter } else { Workload::ColdBesideSmallOnes };
        sample.series.insert(Series::ForeignBaselineMilliseconds, baseline);
        sample.series.insert(Series::ForeignWriteMilliseconds, latencies);
        Ok(sample)
    }

    async fn cold_with_small(&mut self, task: &Task, small: &[(String, &'static str)]) -> Result<Sample> {
        self.apply_source(&task.secrets[0], PASSWORDS[0]).await?;
        for (secret, _) in small {
            self.apply_source(secret, PASSWORDS[0]).await?;
        }
        let before = self.read_meters()?;
        let began = Instant::now();
        self.apply_credentials(&task.secrets, task.label).await?;
        let mut waits = Vec::new();
        let mut done = self.all_hold(task, PASSWORDS[0]);
        for (secret, label) in small {
            let sent = Instant::now();
            self.apply_credentials(std::slice::from_ref(secret), label).await?;
            let look = |seen: &Seen| seen.attached(label, "default", secret).ok_or_else(|| (*secret).clone());
            let at = self.cluster.observer.until("a small credential", DEADLINE, look).await?;
            // One that came when the large one was through waited for nothing.
            if done(&self.cluster.observer.seen()).is_ok() {
                break;
            }
            waits.push(milliseconds(sent, at));
        }
        let completions = self.cluster.observer.until(&task.workload.to_string(), DEADLINE, done).await?;
        let mut sample = self.sample(task.workload, &before).await?;
        sample.seconds = completions
            .iter()
            .map(|at| at.saturating_duration_since(began).as_secs_f64())
            .fold(0.0, f64::max);
        sample.series.insert(Series::SmallCredentialMilliseconds, waits);
        let small: Vec<String> = small.iter().map(|(secret, _)| secret.clone()).collect();
        self.remove_credentials(&small).await?;
        Ok(sample)
    }

    /// W11: namespaces and their Pods, made together. The share of Pods that carry the name is in the series.
    pub async fn first_pods(&self, workload: Workload, count: usize, secret: &str) -> Result<Sample> {
        let before = self.read_meters()?;
        let names: Vec<String> = (0..count).map(|number| format!("race-{number:05}")).collect();
        let carried = Mutex::new(Vec::new());
        in_parallel(&names, async |name| {
            let entries = first_pod(&self.cluster.client, name).await?;
            let carries = f64::from(u8::from(entries.iter().any(|entry| entry == secret)));
            carried.lock().unwrap_or_else(PoisonError::into_inner).push(carries);
            Ok(())
        })
        .await?;
        let mut sample = self.sample(workload, &before).await?;
        sample.namespaces = count;
        let carried = carried.into_inner().unwrap_or_else(PoisonError::into_inner);
        sample.series.insert(Series::CarriesTheName, carried);
        self.cluster.delete_namespaces(&names).await?;
        Ok(sample)
    }
}

/// Makes a namespace and a Pod in it; returns the names of the Pod's pull Secrets.
async fn first_pod(client: &Client, namespace: &str) -> kube::Result<Vec<String>> {
    let made: Namespace = object(json!({ "metadata": { "name": namespace, "labels": { ALL: "true" } } }))?;
    Api::all(client.clone()).create(&PostParams::default(), &made).await?;
    let pod: Pod = object(json!({
        "metadata": { "name": "first" },
        "spec": { "containers": [{ "name": "main", "image": "registry.example.com/app" }] },
    }))?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    // As a controller does: a Pod is refused until its ServiceAccount is there, and is tried again.
    let pod = loop {
        match pods.create(&PostParams::default(), &pod).await {
            Err(kube::Error::Api(status)) if status.code == 403 => sleep(Duration::from_millis(10)).await,
            answer => break answer?,
        }
    };
    let entries = pod.spec.and_then(|spec| spec.image_pull_secrets).unwrap_or_default();
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

async fn create_account(
    client: Client,
    namespace: String,
    name: String,
) -> Result<(String, String, Instant)> {
    let api: Api<ServiceAccount> = Api::namespaced(client, &namespace);
    let account = object(json!({ "metadata": { "name": name } }))?;
    let sent = Instant::now();
    api.create(&PostParams::default(), &account).await?;
    Ok((namespace, name, sent))
}

fn lost(error: &tokio::task::JoinError) -> Error {
    Error::Rig(regcred_tests::Error::Unexpected(error.to_string()))
}

pub(crate) fn milliseconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1000.0
}

fn requests(entries: Entries, user: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let counted =
        |entry: &Entry| entry.namespace != MARKER.0 && entry.name != MARKER.1 && !entry.is_dry_run();
    for entry in entries.by(user).without("leases").filter(counted).iter() {
        *counts.entry(format!("{} {}", entry.verb, entry.full_resource())).or_default() += 1;
    }
    counts
}

/// Every tenth namespace.
pub fn tenth(namespaces: &[String]) -> Vec<String> {
    namespaces.iter().step_by(10).cloned().collect()
}

/// W1 on all namespaces, on a tenth of them, and W2.
pub fn cold_tasks(namespaces: &[String]) -> [Task; 3] {
    let secrets = secret_names();
    let (all, few) = (namespaces, tenth(namespaces));
    [
        Task::cold(Workload::Cold, all, &secrets[..1], ALL),
        Task::cold(Workload::ColdOnATenth, &few, &secrets[..1], TENTH),
        Task::cold(Workload::ManyCredentials, &few, &secrets, TENTH),
    ]
}
