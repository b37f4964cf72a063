//! Which replica works. The Lease saves work; it does not provide safety: two active leaders are
//! harmless, because every write is planned from a version.
//!
//! Like client-go's leaderelection.go, a candidate judges expiry by its own clock, from when it
//! last saw the record change, and never by the timestamps in it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use tokio::time::Instant;

use crate::calls::CallError;
use crate::context::Context;

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

const FORBIDDEN: &str =
    "the lease may not be read or written, so this replica does not work; grant get, create and update on it";

/// What an elector remembers.
#[derive(Debug, Default)]
struct Elector {
    /// The record last seen, and since when it has not changed.
    seen: Option<(Option<String>, Instant)>,
    renewed: Option<Instant>,
    /// The last look failed, and that was logged.
    failing: bool,
}

/// Keeps `stage.leading` true while this replica holds the lease. Without a lease it leads at once.
/// Ends when the operator is told to stop, after work has ended.
pub(crate) async fn run(context: Arc<Context>) {
    if !context.options.lease {
        context.stage.leading.send_replace(true);
        return;
    }
    let api = context.calls.leases();
    let mut elector = Elector::default();
    while !context.stage.stopping.is_cancelled() {
        let pause = elector.turn(&context, &api).await;
        let _stopping = tokio::time::timeout(pause, context.stage.stopping.cancelled()).await;
    }
    context.stage.drained.cancelled().await;
    if elector.renewed.is_some() {
        release(&context, &api).await;
    }
}

impl Elector {
    /// One look at the lease. Returns how long to wait for the next. A leader counts from the beginning of its last
    /// renewal, because the record may have been written at once and the answer come late.
    async fn turn(&mut self, context: &Context, api: &Api<Lease>) -> Duration {
        let now = Instant::now();
        let deadline = self.renewed.unwrap_or(now) + RENEW_DEADLINE;
        let held = tokio::time::timeout_at(deadline, self.hold(context, api)).await;
        let held = held.map_or(Err(CallError::NoAnswer), |held| held.map_err(CallError::from));
        self.log_failure(context, held.as_ref().err());
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

    /// Logs once that looks at the lease begin to fail, and once that they no longer do.
    fn log_failure(&mut self, context: &Context, failure: Option<&CallError>) {
        let before = std::mem::replace(&mut self.failing, failure.is_some());
        let namespace = &context.options.source_namespace;
        match failure.map(CallError::code) {
            Some(403) if !before => {
                tracing::warn!(lease = NAME, %namespace, "{FORBIDDEN}");
            }
            Some(code) if !before => {
                tracing::warn!(lease = NAME, %namespace, code, "the lease cannot be read or written; trying again");
            }
            None if before => {
                tracing::info!(lease = NAME, %namespace, "the lease can be read and written again");
            }
            _ => {}
        }
    }

    /// Takes or renews the lease, if it is ours, free or expired.
    async fn hold(&mut self, context: &Context, api: &Api<Lease>) -> Result<bool, kube::Error> {
        let Some(mut lease) = api.get_opt(NAME).await? else {
            return won(api.create(&PostParams::default(), &fresh(context)).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        let ours = holder.as_deref() == Some(context.options.identity.as_str());
        let stood_still = self.stood_still(lease.metadata.resource_version.clone());
        if !ours && holder.is_some() && stood_still < DURATION {
            return Ok(false);
        }
        lease.spec = Some(renewed(spec, context, ours));
        won(api.replace(NAME, &PostParams::default(), &lease).await)
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

/// A conflict means that another replica was faster.
fn won(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

fn lead(context: &Context, leading: bool) {
    let changed = context.stage.leading.send_if_modified(|now| std::mem::replace(now, leading) != leading);
    if changed && leading {
        tracing::info!(identity = context.options.identity, "this replica leads");
    }
}

fn fresh(context: &Context) -> Lease {
    Lease {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        spec: Some(renewed(LeaseSpec::default(), context, false)),
    }
}

fn renewed(spec: LeaseSpec, context: &Context, ours: bool) -> LeaseSpec {
    let now = MicroTime(context.now());
    LeaseSpec {
        holder_identity: Some(context.options.identity.clone()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if ours { spec.acquire_time } else { Some(now.clone()) },
        lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(!ours)),
        renew_time: Some(now),
        ..spec
    }
}

/// Gives the lease back, so that the next replica need not wait for it to expire.
async fn release(context: &Context, api: &Api<Lease>) {
    let give_back = async {
        let Some(mut lease) = api.get_opt(NAME).await? else { return Ok(()) };
        let Some(spec) = &mut lease.spec else { return Ok(()) };
        if spec.holder_identity.as_deref() == Some(context.options.identity.as_str()) {
            spec.holder_identity = None;
            api.replace(NAME, &PostParams::default(), &lease).await?;
        }
        Ok::<_, kube::Error>(())
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
}
