//! Which replica works. The Lease saves work; it does not provide safety: two active leaders are
//! harmless, because every write is planned from a version.
//!
//! Like client-go's leaderelection.go, a candidate judges expiry by its own clock, from when it
//! last saw the record change, and never by the timestamps in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use regcred_api::Class;
use regcred_planner::StepError;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::calls::{CallError, Objects};
use crate::context::Context;
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

pub(crate) const FORBIDDEN: &str = "the operator may not read or write the lease, so this replica does not work; grant it get, \
                         create and update on Lease regcred in its own namespace";

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
    /// Why looks fail, and since when.
    failing: Option<(StepError, Instant)>,
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
        self.note_failure(context, held.as_ref().err().map(CallError::meaning), now);
        match held {
            Ok(true) => {
                self.renewed = Some(now);
                lead(context, true);
                return RENEW.saturating_sub(now.elapsed());
            }
            Ok(false) => {
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

    /// Logs each cause for which looks at the lease fail once, and that they no longer do. A replica whose looks are
    /// refused, or fail for long, is not ready: it works only as long as another one need not.
    fn note_failure(&mut self, context: &Context, failure: Option<StepError>, now: Instant) {
        let before = self.failing;
        let namespace = &context.options.source_namespace;
        let since = before.map_or(now, |(_, since)| since);
        self.failing = failure.map(|cause| (cause, since));
        if let Some(cause) = failure {
            context.metrics.lease_failures.inc();
            if before.map(|(cause, _)| cause) != Some(cause) {
                tracing::warn!(lease = NAME, %namespace, cause = words(cause), "the lease cannot be read or written");
            }
        } else if before.is_some() {
            tracing::info!(lease = NAME, %namespace, "the lease can be read and written again");
        }
        let lasting =
            |cause: StepError| cause.class() == Class::UserMustAct || since.elapsed() >= RENEW_DEADLINE;
        let trouble = failure.filter(|cause| lasting(*cause)).map(words);
        context.stage.lease_trouble.send_if_modified(|told| {
            let changed = *told != trouble;
            *told = trouble;
            changed
        });
    }

    /// Takes or renews the lease, if it is ours, free or expired.
    async fn hold(&mut self, context: &Context, leases: &Objects) -> Result<bool, kube::Error> {
        let Some(mut record) = leases.get::<Record>(NAME).await? else {
            return won(leases.create(&fresh(context)).await);
        };
        let holder = record.holder();
        let ours = holder.as_deref() == Some(context.options.identity.as_str());
        let stood_still = self.stood_still(record.version());
        if !ours && holder.is_some() && stood_still < DURATION {
            return Ok(false);
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
    if cause == StepError::Forbidden { FORBIDDEN.to_owned() } else { cause.to_string() }
}

/// A conflict means that another replica was faster.
fn won(result: Result<(), kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(()) => Ok(true),
        Err(kube::Error::Api(status)) if refusal(&status) == StepError::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}

fn lead(context: &Context, leading: bool) {
    let changed = context.stage.leading.send_if_modified(|now| std::mem::replace(now, leading) != leading);
    if changed && leading {
        tracing::info!(identity = context.options.identity, "this replica leads");
    }
}

fn fresh(context: &Context) -> serde_json::Value {
    let mut record = Record::default();
    write(&mut record.metadata, "name", &NAME);
    record.renew(context, false);
    record.to_send()
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
    if !matches!(given_back, Ok(Ok(()))) {
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
    #[derive(Clone, Default)]
    struct Server(Arc<Mutex<Option<Value>>>);

    impl Server {
        fn answer(&self, method: &str, mut sent: Value) -> (u16, Value) {
            let mut kept = self.0.lock();
            let version =
                |lease: &Value| lease["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
            match (method, &*kept) {
                ("GET", Some(lease)) => (200, lease.clone()),
                ("GET", None) => (404, json!({"status": "Failure", "code": 404, "reason": "NotFound"})),
                ("PUT", Some(lease)) if version(lease) != version(&sent) => conflict(),
                ("POST", Some(_)) => conflict(),
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
