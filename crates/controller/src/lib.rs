//! The loops of regcred: watch, plan, apply, report.
//!
//! [`run`] only wires them together. Everything that decides lives in `regcred-planner`, what was observed in
//! `regcred-index`; everything here handles concurrency (watches, queues, lease) or talks to the API server.
//!
//! | file | what it holds |
//! |---|---|
//! | `context` | what the loops share, and what the operator was started with |
//! | `watch` | the watches, and how an object that they deliver becomes state |
//! | `wake` | what is requeued after a change |
//! | `loops` | the reconcile loops: finalizer, source, probe, namespace, status |
//! | `calls`, `refusal` | requests; what the API server means where it refuses one |
//! | `queue`, `pause` | keys that wait for a pass; pauses that double |
//! | `cage` | whether the policies that limit the operator's token are in force |
//! | `lease` | leader election: which replica works |
//! | `fingerprint` | the keyed digest, and its key |
//! | `identities` | ServiceAccounts and keys with which clouds are asked for tokens |
//! | `probes`, `verifier` | what registries said of credentials, and who asks them |
//! | `client` | the two clients, and when a watch last delivered anything |
//! | `observed`, `mint` | each request to the API server, and each to an issuer, is counted |
//! | `journal` | what the log tells of the work, in sums |
//! | `news` | which troubles are logged now, and which were a moment ago |
//! | `room` | room in memory for large writes and for lists in pages |
//! | `unreadable` | objects that are skipped, each logged once |
//! | `messages` | a test: every message of the product, graded |
//! | `metrics`, `clock`, `entropy`, `error` | numbers, time, random bytes, what can go wrong at start |

mod cage;
mod calls;
mod client;
mod clock;
mod context;
mod entropy;
mod error;
#[cfg(test)]
mod fake;
mod fingerprint;
mod identities;
mod journal;
mod lease;
mod loops;
#[cfg(test)]
mod messages;
mod metrics;
mod mint;
mod news;
mod observed;
mod pause;
mod probes;
mod queue;
mod refusal;
mod room;
mod unreadable;
mod verifier;
mod wake;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::context::{Context, wait_for};
use crate::fingerprint::FingerprintKey;

pub use cage::Cage;
pub use client::{COMMIT, Clients, Pulse, VERSION};
pub use clock::Clock;
pub use context::{Issuers, Options, Registries, Stage};
pub use entropy::Entropy;
pub use error::Error;
pub use metrics::Metrics;
pub use verifier::Verifier;

/// How long writes in flight may take after the operator was told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Finalizers that are written at once: one that hangs on a slow webhook does not hold up the others.
const CREDENTIAL_WORKERS: usize = 4;
/// Statuses that are written at once, for the same reason.
const STATUS_WORKERS: usize = 4;
/// RegistryCredentials whose Secrets are read at once.
const SOURCE_WORKERS: usize = 4;
/// RegistryCredentials for which clouds are asked at once: those hang, and hold up nothing but each other.
const REMOTE_SOURCE_WORKERS: usize = 16;
/// Registries that are asked at once: one that does not answer takes up to a minute, and holds up nothing but itself.
const PROBE_WORKERS: usize = 16;

/// Runs the operator until `stage.stopping` is cancelled, then lets writes in flight end and gives the
/// lease back.
pub async fn run(clients: Clients, options: Options, metrics: Metrics, stage: Stage) -> Result<(), Error> {
    let context = Context::new(clients, options, metrics, stage);
    // Lists come in while the key is looked up.
    let watches = watch::spawn_all(&context);
    let prepared = context.stage.stopping.run_until_cancelled(prepare(&context)).await;
    let Some(key) = prepared.transpose()?.map(Arc::new) else { return Ok(()) };
    let cage = AbortOnDropHandle::new(tokio::spawn(cage::watch(context.clone())));
    // A replica that cannot work does not compete for the lease.
    let elector = AbortOnDropHandle::new(tokio::spawn(lease::run(context.clone())));
    while context.stage.stopping.run_until_cancelled(context.may_work()).await.is_some() {
        work_while_leading(&context, &key).await;
    }
    drop((watches, cage));
    context.stage.drained.cancel();
    // The elector gives the lease back once work has ended; a panic there is a lease that expires.
    let _released = elector.await;
    Ok(())
}

/// Waits for all that work needs. Returns the key of fingerprints.
async fn prepare(context: &Context) -> Result<FingerprintKey, Error> {
    let Options { source_namespace, entropy, .. } = &context.options;
    let key = fingerprint::load(&context.calls.own_secrets(), source_namespace, entropy).await?;
    wait_for(&context.indexed).await;
    context.stage.complete.send_replace(true);
    Ok(key)
}

/// Works until the lease is lost, which ends everything at once, or the operator is told to stop,
/// which lets passes in progress end.
async fn work_while_leading(context: &Arc<Context>, key: &Arc<FingerprintKey>) {
    start_over(context);
    context.metrics.leader.set(1);
    let mut workers = spawn_workers(context, key);
    let mut leading = context.stage.leading.subscribe();
    tokio::select! {
        biased;
        _ = leading.wait_for(|leading| !leading) => tracing::warn!("lost the lease; work stops"),
        () = context.stage.stopping.cancelled() => {
            let drained = async { while workers.join_next().await.is_some() {} };
            if tokio::time::timeout(DRAIN, drained).await.is_err() {
                tracing::warn!("writes in flight did not end in time");
            }
        }
    }
    workers.shutdown().await;
    context.journal.tell_rest();
    context.metrics.leader.set(0);
    context.metrics.told.forget_all();
}

/// What this replica knew, and told of troubles, when it last worked may be outdated: it must not bring back a credential that another
/// replica has replaced since. No status is final before the namespaces that are queued by now had their passes: lists
/// come in any order, so a RegistryCredential may have been observed before the namespaces that it selects.
fn start_over(context: &Context) {
    context.tokens.forget();
    context.probes.forget_all();
    context.troubles.start_over();
    let mut index = context.index();
    for (name, _) in index.credentials().iter() {
        context.queues.await_passes(name);
    }
    for name in index.start_over() {
        let asks_network = index.credential(&name).is_some_and(|entry| !entry.has_local_sources());
        context.queues.source(name, asks_network);
    }
}

fn spawn_workers(context: &Arc<Context>, key: &Arc<FingerprintKey>) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    for _ in 0..context.options.concurrency {
        workers.spawn(loops::namespace::work(context.clone()));
    }
    workers.spawn(loops::verification::work(context.clone()));
    let failures = Arc::default();
    for _ in 0..CREDENTIAL_WORKERS {
        workers.spawn(loops::credential::work(context.clone(), Arc::clone(&failures)));
    }
    for _ in 0..SOURCE_WORKERS {
        workers.spawn(loops::source::work(context.clone(), key.clone()));
    }
    for _ in 0..REMOTE_SOURCE_WORKERS {
        workers.spawn(loops::source::work_remote(context.clone(), key.clone()));
    }
    for _ in 0..PROBE_WORKERS {
        workers.spawn(loops::probe::work(context.clone()));
    }
    let (paces, failures) = (Arc::default(), Arc::default());
    for _ in 0..STATUS_WORKERS {
        workers.spawn(loops::status::work(context.clone(), Arc::clone(&paces), Arc::clone(&failures)));
    }
    workers
}
