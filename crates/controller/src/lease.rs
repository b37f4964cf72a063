//! Which replica works. The Lease saves work; it does not provide safety: two active leaders are
//! harmless, because every write is planned from a version.
//!
//! Like client-go's leaderelection.go, a candidate judges expiry by its own clock, from when it
//! last saw the record change, and never by the timestamps in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::core::Status;
use regcred_api::Class;
use regcred_planner::{StepError, quoted};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::calls::{CallError, Objects};
use crate::context::Context;
use crate::news::News;
use crate::refusal::refusal;

/// Name of the Lease, in the operator's own namespace.
const NAME: &str = "regcred";
/// A record that does not change for so long has no holder.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long stops working.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often the leader renews.
const RENEW: Duration = Duration::from_secs(5);
/// How often a candidate looks, and a leader tries again.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) const FORBIDDEN: &str = "the operator may not read or write the lease, so this replica does not work; grant it get \
                         and update on Lease regcred in its own namespace";
pub(crate) const MISSING: &str = "the Lease regcred does not exist in the operator's own namespace, so this replica does not work; apply \
                       the chart or deploy/install.yaml again (Argo CD leaves Leases out: see deploy/gitops)";

/// How long RegistryCredentials may lack a status for their present spec while somebody else holds the lease. A replica
/// that works writes one within seconds.
const IDLE_HOLDER: Duration = Duration::from_mins(2);
/// How much of a holder's name is passed on: anybody who may write the lease chooses it.
const HOLDER_LENGTH: usize = 80;

/// A Lease. Anybody who may write it decides what is in it, so each member stays text until it is read; what is not
/// ours goes back as it came.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Record {
    metadata: Members,
    spec: Option<Members>,
}

type Members = BTreeMap<String, Box<RawValue>>;

/// What an elector remembers.
#[derive(Debug, Default)]
struct Elector {
    /// The record last seen, and since when it has not changed.
    seen: Option<(Option<String>, Instant)>,
    renewed: Option<Instant>,
    /// When this replica last held the lease, until somebody else is seen to hold it.
    held: Option<Instant>,
    /// Who took the lease from this replica before it had expired, and still has it.
    usurper: Option<String>,
    /// Since when another holder leaves a RegistryCredential without a status.
    idle_since: Option<Instant>,
    /// Why looks fail, and since when.
    failing: Option<(StepError, Instant)>,
    /// What the log told of that.
    news: News<(), StepError>,
}

/// What a look at the lease came to.
#[derive(Debug)]
enum Held {
    /// It is ours, and renewed.
    Ours,
    /// Somebody else holds it.
    Others(String),
    /// Somebody else wrote it first; the next look tells who holds it.
    Contended,
}

/// Keeps `stage.leading` true while this replica holds the lease. Without a lease it leads at once.
/// Ends when the operator is told to stop, after work has ended.
pub(crate) async fn run(context: Arc<Context>) {
    if !context.options.lease {
        context.stage.leading.send_replace(true);
        return;
    }
    let leases = context.calls.leases();
    let mut elector = Elector::default();
    while !context.stage.stopping.is_cancelled() {
        let pause = elector.turn(&context, &leases).await;
        let _stopping = tokio::time::timeout(pause, context.stage.stopping.cancelled()).await;
    }
    context.stage.drained.cancelled().await;
    if elector.renewed.is_some() {
        release(&context, &leases).await;
    }
}

impl Elector {
    /// One look at the lease. Returns how long to wait for the next. A leader counts from the beginning of its last
    /// renewal, because the record may have been written at once and the answer come late.
    async fn turn(&mut self, context: &Context, leases: &Objects) -> Duration {
        let now = Instant::now();
        let deadline = self.renewed.unwrap_or(now) + RENEW_DEADLINE;
        let held = tokio::time::timeout_at(deadline, self.hold(context, leases)).await;
        let held = held.map_or(Err(CallError::NoAnswer), |held| held.map_err(CallError::from));
        self.note_holder(context, &held, now);
        let trouble = match &held {
            Ok(Held::Others(holder)) => self.trouble_with_holder(holder),
            _ => None,
        };
        self.note_failure(context, held.as_ref().err().map(CallError::meaning), trouble, now);
        match held {
            Ok(Held::Ours) => {
                self.renewed = Some(now);
                lead(context, true);
                return RENEW.saturating_sub(now.elapsed());
            }
            Ok(Held::Others(_) | Held::Contended) => {
                self.renewed = None;
                lead(context, false);
            }
            Err(_) => {
                if self.renewed.is_none_or(|at| at.elapsed() >= RENEW_DEADLINE) {
                    self.renewed = None;
                    lead(context, false);
                }
            }
        }
        RETRY
    }

    /// Notes who holds the lease. No replica of ours takes one that has not expired.
    fn note_holder(&mut self, context: &Context, held: &Result<Held, CallError>, now: Instant) {
        match held {
            Ok(Held::Ours) => (self.held, self.usurper, self.idle_since) = (Some(now), None, None),
            Ok(Held::Others(holder)) => {
                if self.held.take().is_some_and(|at| at.elapsed() < DURATION) {
                    self.usurper = Some(holder.clone());
                    context.metrics.leases_lost_by_force.inc();
                    tracing::warn!(lease = NAME, "{}", taken_by_force(holder));
                } else if self.usurper.as_ref() != Some(holder) {
                    self.usurper = None;
                }
                let idle = context.index().credentials().lack_status();
                self.idle_since = idle.then(|| self.idle_since.unwrap_or(now));
            }
            Ok(Held::Contended) | Err(_) => {}
        }
    }

    /// What is wrong with the holder of the lease, and what to do.
    fn trouble_with_holder(&self, holder: &str) -> Option<String> {
        let idle = self.idle_since.is_some_and(|since| since.elapsed() >= IDLE_HOLDER);
        match &self.usurper {
            Some(usurper) => Some(taken_by_force(usurper)),
            None => idle.then(|| idle_holder(holder)),
        }
    }

    /// Logs each cause for which looks at the lease fail, once in five minutes, and that they no longer do. A replica whose looks are
    /// refused, or fail for long, is not ready: it works only as long as another one need not.
    fn note_failure(
        &mut self,
        context: &Context,
        failure: Option<StepError>,
        trouble: Option<String>,
        now: Instant,
    ) {
        let before = self.failing;
        let namespace = &context.options.source_namespace;
        let since = before.map_or(now, |(_, since)| since);
        self.failing = failure.map(|cause| (cause, since));
        if let Some(cause) = failure {
            context.metrics.lease_failures.inc();
            if self.news.note((), cause).is_some() {
                tracing::warn!(lease = NAME, %namespace, cause = words(cause), "the lease cannot be read or written");
            }
        } else if self.news.over(&()) {
            tracing::info!(lease = NAME, %namespace, "the lease can be read and written again");
        }
        let needs_user = |cause: StepError| cause.class() == Class::UserMustAct || cause == StepError::Gone;
        let lasting = |cause| needs_user(cause) || since.elapsed() >= RENEW_DEADLINE;
        let trouble = failure.filter(|cause| lasting(*cause)).map(words).or(trouble);
        context.stage.lease_trouble.send_if_modified(|told| {
            let changed = *told != trouble;
            *told = trouble;
            changed
        });
    }

    /// Takes or renews the lease, if it is ours, free or expired.
    async fn hold(&mut self, context: &Context, leases: &Objects) -> Result<Held, kube::Error> {
        let mut record: Record = leases.get(NAME).await?.ok_or_else(missing)?;
        let other = record.holder().filter(|holder| *holder != context.options.identity);
        let ours = other.is_none() && record.holder().is_some();
        let stood_still = self.stood_still(record.version());
        if let Some(holder) = other.filter(|_| stood_still < DURATION) {
            return Ok(Held::Others(holder));
        }
        record.renew(context, ours);
        won(leases.replace(NAME, &record.to_send()).await)
    }

    fn stood_still(&mut self, version: Option<String>) -> Duration {
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed(),
            _ => {
                self.seen = Some((version, Instant::now()));
                Duration::ZERO
            }
        }
    }
}

impl Record {
    fn holder(&self) -> Option<String> {
        read(self.spec.as_ref()?, "holderIdentity").filter(|holder: &String| !holder.is_empty())
    }

    fn version(&self) -> Option<String> {
        read(&self.metadata, "resourceVersion")
    }

    fn renew(&mut self, context: &Context, ours: bool) {
        let spec = self.spec.get_or_insert_default();
        let now = MicroTime(context.now());
        let transitions: i64 = read(spec, "leaseTransitions").unwrap_or(0);
        write(spec, "holderIdentity", &context.options.identity);
        write(spec, "leaseDurationSeconds", &DURATION.as_secs());
        write(spec, "leaseTransitions", &(transitions + i64::from(!ours)));
        write(spec, "renewTime", &now);
        if !ours {
            write(spec, "acquireTime", &now);
        }
    }

    /// The API server keeps its own `managedFields` where a write has none.
    fn to_send(&self) -> serde_json::Value {
        let metadata: BTreeMap<_, _> =
            self.metadata.iter().filter(|(name, _)| *name != "managedFields").collect();
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": self.spec,
        })
    }
}

/// A member; `None` where it is missing or something else.
fn read<T: for<'a> Deserialize<'a>>(members: &Members, name: &str) -> Option<T> {
    serde_json::from_str(members.get(name)?.get()).ok()
}

fn write(members: &mut Members, name: &str, value: &impl Serialize) {
    if let Ok(value) = serde_json::value::to_raw_value(value) {
        members.insert(name.to_owned(), value);
    }
}

/// Why the lease is out of reach, and what to do.
fn words(cause: StepError) -> String {
    match cause {
        StepError::Forbidden => FORBIDDEN.to_owned(),
        StepError::Gone => MISSING.to_owned(),
        other => other.to_string(),
    }
}

/// The operator makes no Lease: RBAC cannot limit by name what may be created.
fn missing() -> kube::Error {
    kube::Error::Api(Box::new(Status::failure("the Lease does not exist", "NotFound").with_code(404)))
}

fn shown(holder: &str) -> String {
    quoted(holder, HOLDER_LENGTH).unwrap_or_else(|| "somebody".to_owned())
}

pub(crate) fn taken_by_force(holder: &str) -> String {
    format!(
        "{} took the lease before it had expired, which no replica of regcred does, so this one does not work; look in \
         the audit log for who writes Lease regcred in the operator's namespace and take that right away; the lease then \
         expires by itself",
        shown(holder)
    )
}

pub(crate) fn idle_holder(holder: &str) -> String {
    format!(
        "{} holds the lease and writes no status, so nothing is done; if that is no Pod of regcred, take the right to \
         write Lease regcred away from whoever does, and it expires by itself; else look at that Pod's log",
        shown(holder)
    )
}

/// A conflict means that another replica was faster.
fn won(result: Result<(), kube::Error>) -> Result<Held, kube::Error> {
    match result {
        Ok(()) => Ok(Held::Ours),
        Err(kube::Error::Api(status)) if refusal(&status) == StepError::Conflict => Ok(Held::Contended),
        Err(error) => Err(error),
    }
}

fn lead(context: &Context, leading: bool) {
    let changed = context.stage.leading.send_if_modified(|now| std::mem::replace(now, leading) != leading);
    if changed && leading {
        tracing::info!(identity = context.options.identity, "this replica leads");
    }
}

/// Gives the lease back, so that the next replica need not wait for it to expire.
async fn release(context: &Context, leases: &Objects) {
    let give_back = async {
        let Some(mut record) = leases.get::<Record>(NAME).await? else { return Ok(()) };
        if record.holder().as_deref() != Some(context.options.identity.as_str()) {
            return Ok(());
        }
        record.spec.get_or_insert_default().remove("holderIdentity");
        leases.replace(NAME, &record.to_send()).await
    };
    let given_back = tokio::time::timeout(RENEW_DEADLINE, give_back).await;
    if matches!(given_back, Ok(Ok(()))) {
        tracing::info!(lease = NAME, "the lease was given back");
    } else {
        tracing::warn!("the lease could not be given back; it expires by itself");
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;
    use crate::context::wait_for;
    use crate::fake;

    /// A Lease as an API server keeps it: a version that must match, and changes with each write.
    #[derive(Clone)]
    struct Server(Arc<Mutex<Option<Value>>>);

    impl Default for Server {
        fn default() -> Self {
            Self(Arc::new(Mutex::new(Some(json!({"metadata": {"name": NAME, "resourceVersion": "1"}})))))
        }
    }

    impl Server {
        fn answer(&self, method: &str, mut sent: Value) -> (u16, Value) {
            let mut kept = self.0.lock();
            let version =
                |lease: &Value| lease["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
            match (method, &*kept) {
                ("GET", Some(lease)) => (200, lease.clone()),
                ("GET", None) => (404, json!({"status": "Failure", "code": 404, "reason": "NotFound"})),
                ("PUT", Some(lease)) if version(lease) != version(&sent) => conflict(),
                _ => {
                    let next = version(&sent).parse::<u64>().unwrap() + 1;
                    sent["metadata"]["resourceVersion"] = json!(next.to_string());
                    *kept = Some(sent.clone());
                    (200, sent)
                }
            }
        }

        fn holder(&self) -> Value {
            self.0.lock().as_ref().map(|lease| lease["spec"]["holderIdentity"].clone()).unwrap_or_default()
        }

        fn replica(&self, identity: &str) -> Arc<Context> {
            let server = self.clone();
            fake::context(identity, move |method, _, body| server.answer(method, body))
        }
    }

    fn conflict() -> (u16, Value) {
        (409, json!({"status": "Failure", "code": 409, "reason": "Conflict"}))
    }

    async fn within(limit: Duration, flag: &tokio::sync::watch::Sender<bool>) -> bool {
        tokio::time::timeout(limit, wait_for(flag)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_the_other_takes_over_once_the_record_stood_still() {
        let server = Server::default();
        let (first, second) = (server.replica("first"), server.replica("second"));
        let leader = tokio::spawn(run(first.clone()));
        assert!(within(Duration::from_secs(1), &first.stage.leading).await);
        tokio::spawn(run(second.clone()));
        assert!(!within(Duration::from_mins(1), &second.stage.leading).await, "two leaders");
        leader.abort();
        assert!(within(DURATION + RENEW + RETRY, &second.stage.leading).await);
        assert_eq!(server.holder(), "second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_stops_gives_the_lease_back_after_its_work_ended() {
        let server = Server::default();
        let replica = server.replica("only");
        let elector = tokio::spawn(run(replica.clone()));
        assert!(within(Duration::from_secs(1), &replica.stage.leading).await);
        replica.stage.stopping.cancel();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(server.holder(), "only", "given back while work went on");
        replica.stage.drained.cancel();
        elector.await.unwrap();
        assert_eq!(server.holder(), Value::Null);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_cannot_renew_stops_before_the_lease_expires() {
        let server = Server::default();
        let broken = Arc::new(Mutex::new(false));
        let (kept, cut) = (server.clone(), broken.clone());
        let replica =
            fake::context(
                "only",
                move |method, _, body| {
                    if *cut.lock() { (500, json!({})) } else { kept.answer(method, body) }
                },
            );
        tokio::spawn(run(replica.clone()));
        assert!(within(Duration::from_secs(1), &replica.stage.leading).await);
        *broken.lock() = true;
        let mut leading = replica.stage.leading.subscribe();
        let lost = leading.wait_for(|leading| !leading);
        assert!(tokio::time::timeout(DURATION, lost).await.is_ok());
    }

    /// Somebody writes another holder into the lease, and renews it every second if `for_ever`.
    fn usurp(server: &Server, for_ever: bool) -> tokio::task::JoinHandle<()> {
        let server = server.clone();
        tokio::spawn(async move {
            loop {
                if let Some(lease) = server.0.lock().as_mut() {
                    let version = lease["metadata"]["resourceVersion"].as_str().unwrap();
                    let next = version.parse::<u64>().unwrap() + 1;
                    lease["metadata"]["resourceVersion"] = json!(next.to_string());
                    lease["spec"]["holderIdentity"] = json!("evil (run: curl)");
                }
                if !for_ever {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
    }

    async fn trouble(replica: &Context) -> String {
        let mut trouble = replica.stage.lease_trouble.subscribe();
        let told = tokio::time::timeout(Duration::from_mins(5), trouble.wait_for(Option::is_some)).await;
        told.expect("it is told").unwrap().clone().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_taken_before_it_expired_is_told_until_this_replica_leads_again() {
        let server = Server::default();
        let replica = server.replica("only");
        tokio::spawn(run(replica.clone()));
        assert!(within(Duration::from_secs(1), &replica.stage.leading).await);
        usurp(&server, false);
        let told = trouble(&replica).await;
        assert!(told.starts_with("\"evilruncurl\" took the lease before it had expired"), "{told}");
        assert_eq!(replica.metrics.leases_lost_by_force.get(), 1);
        assert!(within(DURATION + RENEW, &replica.stage.leading).await, "nobody renews it");
        assert_eq!(*replica.stage.lease_trouble.borrow(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_renewed_for_ever_by_somebody_who_does_no_work_is_told() {
        let server = Server::default();
        *server.0.lock() = Some(json!({"metadata": {"name": "regcred", "resourceVersion": "1"}, "spec": {}}));
        usurp(&server, true);
        let replica = server.replica("only");
        tokio::spawn(run(replica.clone()));
        tokio::time::sleep(IDLE_HOLDER * 2).await;
        assert_eq!(*replica.stage.lease_trouble.borrow(), None, "there is nothing to do");
        let mut credential = json!({
            "metadata": {"name": "pull", "uid": "c1", "generation": 2, "resourceVersion": "5"},
            "spec": {"namespaces": {"from": "All"}}, "status": {"observedGeneration": 1},
        });
        let put = |object: &Value| {
            let received = serde_json::from_str(&object.to_string()).unwrap();
            regcred_index::Event::Put(received, regcred_index::Origin::Watch)
        };
        replica.index().ingest_credential(put(&credential));
        let told = trouble(&replica).await;
        assert!(told.contains("holds the lease and writes no status"), "{told}");
        credential["metadata"]["resourceVersion"] = json!("6");
        credential["status"]["observedGeneration"] = json!(2);
        replica.index().ingest_credential(put(&credential));
        let mut trouble = replica.stage.lease_trouble.subscribe();
        assert!(tokio::time::timeout(RETRY * 3, trouble.wait_for(Option::is_none)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_may_not_use_the_lease_says_why_it_does_not_work() {
        let server = Server::default();
        let forbidden = Arc::new(Mutex::new(true));
        let (kept, refuse) = (server.clone(), forbidden.clone());
        let replica = fake::context("only", move |method, _, body| {
            let message = "leases \"regcred\" is forbidden: User \"regcred\" cannot get resource \"leases\"";
            let status = json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": message});
            if *refuse.lock() { (403, status) } else { kept.answer(method, body) }
        });
        tokio::spawn(run(replica.clone()));
        let mut trouble = replica.stage.lease_trouble.subscribe();
        let told = trouble.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(told.as_deref(), Some(FORBIDDEN));
        *forbidden.lock() = false;
        assert!(within(RETRY * 2, &replica.stage.leading).await);
        assert_eq!(*replica.stage.lease_trouble.borrow(), None);
        assert!(replica.metrics.lease_failures.get() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_missing_is_told_and_used_once_somebody_makes_it() {
        let server = Server::default();
        let made = server.0.lock().take();
        let replica = server.replica("only");
        tokio::spawn(run(replica.clone()));
        let mut trouble = replica.stage.lease_trouble.subscribe();
        let told = trouble.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(told.as_deref(), Some(MISSING));
        assert_eq!(*server.0.lock(), None, "made by the operator");
        *server.0.lock() = made;
        assert!(within(RETRY * 2, &replica.stage.leading).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_wrote_on_a_lease_goes_back_as_it_came() {
        let server = Server::default();
        *server.0.lock() = Some(json!({
            "metadata": {
                "name": "regcred", "resourceVersion": "7", "labels": {"team": "platform"},
                "managedFields": [{"time": "9999-12-31T23:59:59Z"}],
            },
            "spec": {"holderIdentity": "", "leaseTransitions": 3, "strategy": "OldestEmulationVersion"},
        }));
        let replica = server.replica("only");
        tokio::spawn(run(replica.clone()));
        assert!(within(Duration::from_secs(1), &replica.stage.leading).await);
        let lease = server.0.lock().clone().unwrap();
        assert_eq!(lease["metadata"]["labels"]["team"], "platform");
        assert_eq!(lease["spec"]["strategy"], "OldestEmulationVersion");
        assert_eq!(lease["spec"]["leaseTransitions"], 4);
    }
}
