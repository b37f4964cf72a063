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

use crate::{Context, clock};

/// Name of the Lease, in the operator's own namespace.
const NAME: &str = "regcred";
/// A record that stands still for so long has no holder.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long stops working.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often the leader renews.
const RENEW: Duration = Duration::from_secs(5);
/// How often a candidate looks, and a leader tries again.
const RETRY: Duration = Duration::from_secs(1);

/// What an elector remembers.
#[derive(Debug, Default)]
struct Elector {
    /// The record last seen, and since when it stands still.
    seen: Option<(Option<String>, Instant)>,
    renewed: Option<Instant>,
}

/// Keeps `stage.leading` true while this replica holds the lease. Without a lease it leads at once.
/// Ends when the operator is told to stop, after work has ended.
pub async fn run(context: Arc<Context>) {
    if !context.options.lease {
        context.stage.leading.send_replace(true);
        return;
    }
    let api: Api<Lease> = Api::namespaced(context.clients.write.clone(), &context.options.source_namespace);
    let mut elector = Elector::default();
    while !context.is_stopping() {
        let pause = elector.turn(&context, &api).await;
        let _stopping = tokio::time::timeout(pause, crate::wait_for(&context.stage.stopping)).await;
    }
    context.drained().await;
    if elector.renewed.is_some() {
        release(&context, &api).await;
    }
}

impl Elector {
    /// One look at the lease. Returns how long to wait for the next.
    async fn turn(&mut self, context: &Context, api: &Api<Lease>) -> Duration {
        let now = Instant::now();
        let held = tokio::time::timeout(RENEW_DEADLINE, self.hold(&context.options.identity, api)).await;
        match held {
            Ok(Ok(true)) => {
                self.renewed = Some(now);
                lead(context, true);
                return RENEW;
            }
            Ok(Ok(false)) => {
                self.renewed = None;
                lead(context, false);
            }
            Ok(Err(_)) | Err(_) => {
                if self.renewed.is_none_or(|at| at.elapsed() >= RENEW_DEADLINE) {
                    self.renewed = None;
                    lead(context, false);
                }
            }
        }
        RETRY
    }

    /// Takes or renews the lease, if it is ours, free or expired.
    async fn hold(&mut self, identity: &str, api: &Api<Lease>) -> Result<bool, kube::Error> {
        let Some(mut lease) = api.get_opt(NAME).await? else {
            return won(api.create(&PostParams::default(), &fresh(identity)).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        let ours = holder.as_deref() == Some(identity);
        let stood_still = self.stood_still(lease.metadata.resource_version.clone());
        if !ours && holder.is_some() && stood_still < DURATION {
            return Ok(false);
        }
        lease.spec = Some(renewed(spec, identity, ours));
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

fn fresh(identity: &str) -> Lease {
    Lease {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        spec: Some(renewed(LeaseSpec::default(), identity, false)),
    }
}

fn renewed(spec: LeaseSpec, identity: &str, ours: bool) -> LeaseSpec {
    let now = MicroTime(clock::now());
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
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
