//! The loops of regcred: watch, plan, apply, report.
//!
//! [`run`] only wires them together. Everything that decides lives in `regcred-planner`;
//! everything here either keeps what was observed, or talks to the API server.
//!
//! | file | what it holds |
//! |---|---|
//! | [`client`] | the two clients: deadlines, retries, the pulse of the watches |
//! | [`watch`] | one task for each watch: follow, back off, fall back |
//! | [`decode`] | objects of the API server become plain data |
//! | [`shelf`], [`index`], [`intern`] | what was observed, as plain state |
//! | [`trigger`] | an event becomes the keys that need a pass |
//! | [`queue`] | keys that wait for a pass |
//! | [`credential`] | loop by RegistryCredential: finalizer, sources, the copy to be |
//! | [`namespace`] | loop by namespace: observe, plan, apply, report |
//! | [`apply`] | one request for each step: the only writer of Secrets and ServiceAccounts |
//! | [`status`], [`event`] | the only writer of status, and the events of its transitions |
//! | [`lease`] | which replica works |
//! | [`fingerprint`] | the keyed digest, and its key |
//! | [`metrics`], [`clock`], [`error`] | numbers, time, what can go wrong at start |

pub mod apply;
pub mod client;
pub mod clock;
pub mod credential;
pub mod decode;
pub mod error;
pub mod event;
#[cfg(test)]
mod fake;
pub mod fingerprint;
pub mod index;
pub mod intern;
pub mod lease;
pub mod metrics;
pub mod namespace;
pub mod queue;
pub mod shelf;
pub mod status;
pub mod trigger;
pub mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use regcred_planner::{Ledger, Settings};
use tokio::sync::{Notify, watch as signal};
use tokio::task::JoinSet;

use crate::client::Clients;
use crate::fingerprint::FingerprintKey;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::queue::Queue;

pub use error::Error;

/// How long writes in flight may take after the operator was told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// What the operator was started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where sources, the lease and the fingerprint key live.
    pub source_namespace: String,
    /// The only Secret names that may be watched and written; empty: any.
    pub target_names: Vec<String>,
    /// Namespaces that are worked on at once.
    pub concurrency: usize,
    /// Whether a lease decides which replica works.
    pub lease: bool,
    /// Name of this replica in the lease and in events.
    pub identity: String,
}

/// What the loops share.
#[derive(Debug)]
pub struct Context {
    clients: Clients,
    options: Options,
    index: Mutex<Index>,
    ledger: Mutex<Ledger>,
    /// Every watch delivered a whole list once.
    indexed: signal::Sender<bool>,
    namespaces: Queue<Arc<str>>,
    credentials: Queue<Arc<str>>,
    statuses: Queue<Arc<str>>,
    /// The target names in use may have changed.
    targets_changed: Notify,
    metrics: Metrics,
    stage: Stage,
}

/// How far the operator has come, for whoever waits for it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Every index was complete once, and the fingerprint key is there.
    pub complete: signal::Sender<bool>,
    /// This replica works.
    pub leading: signal::Sender<bool>,
    /// The operator was told to stop.
    pub stopping: signal::Sender<bool>,
    /// Work has ended, and the lease may be given back.
    drained: signal::Sender<bool>,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            complete: signal::Sender::new(false),
            leading: signal::Sender::new(false),
            stopping: signal::Sender::new(false),
            drained: signal::Sender::new(false),
        }
    }
}

impl Context {
    fn index(&self) -> MutexGuard<'_, Index> {
        locked(&self.index)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        locked(&self.ledger)
    }

    /// Waits until there is something to plan from and this replica may write.
    async fn may_work(&self) {
        wait_for(&self.stage.complete).await;
        wait_for(&self.stage.leading).await;
    }

    async fn drained(&self) {
        wait_for(&self.stage.drained).await;
    }

    fn is_stopping(&self) -> bool {
        *self.stage.stopping.borrow()
    }
}

/// Runs the operator until `stage.stopping` is set, then lets writes in flight end and gives the
/// lease back.
pub async fn run(clients: Clients, options: Options, metrics: Metrics, stage: Stage) -> Result<(), Error> {
    let settings = Settings { target_names: options.target_names.clone() };
    let context = Arc::new(Context {
        index: Mutex::new(Index::new(settings, &options.source_namespace)),
        ledger: Mutex::default(),
        indexed: signal::Sender::new(false),
        namespaces: Queue::default(),
        credentials: Queue::default(),
        statuses: Queue::default(),
        targets_changed: Notify::new(),
        clients,
        options,
        metrics,
        stage,
    });
    // Lists come in while the key is looked up.
    let watches = watch::spawn_all(&context);
    let Some(key) = until_stopped(&context.stage, prepare(&context)).await else {
        return Ok(());
    };
    let key = Arc::new(key?);
    // Who cannot work does not compete for the lease.
    let elector = tokio::spawn(lease::run(context.clone()));
    while !context.is_stopping() {
        context.may_work_or_stop().await;
        work_while_leading(&context, &key).await;
    }
    drop(watches);
    context.stage.drained.send_replace(true);
    // The elector gives the lease back once work has ended; a panic there is a lease that expires.
    let _released = elector.await;
    Ok(())
}

/// Waits for all that work needs. Returns the key of fingerprints.
async fn prepare(context: &Context) -> Result<FingerprintKey, Error> {
    let key = fingerprint::load(&context.clients.write, &context.options).await?;
    wait_for(&context.indexed).await;
    context.stage.complete.send_replace(true);
    Ok(key)
}

impl Context {
    async fn may_work_or_stop(&self) {
        tokio::select! {
            () = self.may_work() => {}
            () = wait_for(&self.stage.stopping) => {}
        }
    }
}

/// Works until the lease is lost, which ends everything at once, or the operator is told to stop,
/// which lets passes in progress end.
async fn work_while_leading(context: &Arc<Context>, key: &Arc<FingerprintKey>) {
    let mut workers = JoinSet::new();
    for _ in 0..context.options.concurrency {
        workers.spawn(namespace::work(context.clone()));
    }
    workers.spawn(credential::work(context.clone(), key.clone()));
    workers.spawn(status::work(context.clone()));
    let mut leading = context.stage.leading.subscribe();
    tokio::select! {
        _ = leading.wait_for(|leading| !leading) => tracing::warn!("lost the lease; work stops"),
        () = wait_for(&context.stage.stopping) => {
            let drained = async { while workers.join_next().await.is_some() {} };
            if tokio::time::timeout(DRAIN, drained).await.is_err() {
                tracing::warn!("writes in flight did not end in time");
            }
        }
    }
    workers.shutdown().await;
}

/// The output of `work`, unless the operator is told to stop first.
async fn until_stopped<T>(stage: &Stage, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        output = work => Some(output),
        () = wait_for(&stage.stopping) => None,
    }
}

async fn wait_for(flag: &signal::Sender<bool>) {
    // The sender lives as long as the context, so waiting on it cannot fail.
    let mut flag = flag.subscribe();
    let _set = flag.wait_for(|set| *set).await;
}

/// Locks; a panic under the lock ends the process (release) or the test, so the state is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
