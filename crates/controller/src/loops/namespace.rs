//! The loop by namespace: observe, plan, apply, until there is nothing to do; then report.
//!
//! Why a namespace and not a credential: all credentials of one ServiceAccount travel in one
//! patch, a new namespace costs no pass over the cluster, and one bad namespace stops no other.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use regcred_index::Index;
use regcred_planner::{PairReport, Plan, outcomes, plan};
use tokio::time::Instant;

use super::{apply, next};
use crate::context::Context;
use crate::queue::Lane;

/// Plans that one pass carries out before it gives its worker to another namespace. Two are usual: the work, and
/// what follows from it.
const MAX_ROUNDS: usize = 5;
/// How long a start waits for finalizers. A write without one costs a second write of the same list, no more.
const FINALIZER_PATIENCE: Duration = Duration::from_secs(2);

/// Takes namespaces from the queue until the operator is told to stop. Every RegistryCredential has its first visits
/// before, so that a start writes each list once, with all names.
pub(crate) async fn work(context: Arc<Context>) {
    tokio::select! {
        () = context.stage.stopping.cancelled() => return,
        () = first_visits(&context) => {}
    }
    while let Some(work) = next(&context, &context.queues.namespaces).await {
        let deleting = pass(&context, &work.key).await;
        work.done();
        // A RegistryCredential may go once all passes are done, this one too.
        for credential in deleting {
            context.queues.credentials.push(credential, Lane::Urgent);
        }
    }
}

/// Sources that need no network cannot hang. A finalizer can, on somebody's webhook, and is not waited for long.
async fn first_visits(context: &Context) {
    visited(context, Index::awaits_local_sources).await;
    let finalizers = visited(context, Index::awaits_finalizers);
    let _in_time = tokio::time::timeout(FINALIZER_PATIENCE, finalizers).await;
}

/// Waits until no RegistryCredential is waited for any more.
async fn visited(context: &Context, is_awaited: fn(&Index) -> bool) {
    loop {
        let visited = context.visited.notified();
        if !is_awaited(&context.index()) {
            return;
        }
        visited.await;
    }
}

/// One pass over a namespace: after a plan was carried out it plans again, on the view that includes the answers,
/// because the event of a write may have come before its answer and will not come again. What it reports comes from
/// the last plan. Returns the RegistryCredentials being deleted whose numbers it changed.
async fn pass(context: &Context, name: &Arc<str>) -> Vec<Arc<str>> {
    context.metrics.passes.inc();
    for _ in 0..MAX_ROUNDS {
        let Some(plan) = next_plan(context, name) else { return report(context, name, Vec::new()) };
        if plan.steps.is_empty() {
            return conclude(context, name, &plan);
        }
        let results = apply::apply(context, &plan).await;
        context.index().memory(name).record(&plan, &results, context.now());
    }
    context.queues.namespaces.push(name.clone(), Lane::Bulk);
    let plan = next_plan(context, name);
    plan.map_or_else(Vec::new, |plan| conclude(context, name, &plan))
}

/// `None` if the namespace does not exist.
fn next_plan(context: &Context, name: &Arc<str>) -> Option<Plan> {
    let now = context.now();
    let world = {
        let mut index = context.index();
        index.note_lists(name, now);
        index.observe(name)?
    };
    Some(plan(&world, now))
}

/// Remembers and reports what a plan found, none of whose steps were executed. Comes back when something that is
/// held back may be tried.
fn conclude(context: &Context, name: &Arc<str>, plan: &Plan) -> Vec<Arc<str>> {
    let now = context.now();
    let (reports, wake_at) = {
        let mut index = context.index();
        let memory = index.memory(name);
        memory.record(plan, &[], now);
        (outcomes(plan, &[], memory, now), memory.wake_at(now))
    };
    if let Some(at) = wake_at {
        context.queues.namespaces.push_at(name.clone(), Instant::now() + until(at, now));
    }
    report(context, name, reports)
}

/// Takes the reports into the ledger. Returns the RegistryCredentials being deleted whose numbers changed.
fn report(context: &Context, namespace: &Arc<str>, reports: Vec<PairReport>) -> Vec<Arc<str>> {
    let changed = context.ledger().replace(namespace, reports);
    if changed.is_empty() {
        return Vec::new();
    }
    let index = context.index();
    let entries = index.credentials().iter().map(|(name, entry)| (name, &entry.planned));
    let concerned: Vec<_> = entries.filter(|(_, planned)| changed.contains(&planned.uid)).collect();
    for (name, _) in &concerned {
        context.queues.status((*name).clone());
    }
    concerned.into_iter().filter(|(_, planned)| planned.deleting).map(|(name, _)| name.clone()).collect()
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
