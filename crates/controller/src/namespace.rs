//! The loop by namespace: observe, plan, apply, report.
//!
//! Why a namespace and not a credential: all credentials of one ServiceAccount travel in one
//! patch, a new namespace costs no pass over the cluster, and one bad namespace stops no other.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use regcred_planner::{PairReport, Plan, StepError, outcomes, plan};
use tokio::time::Instant;

use crate::queue::Lane;
use crate::{Context, apply, clock, status};

/// Takes namespaces from the queue until the operator is told to stop. Every RegistryCredential has
/// its visit first, so that a start writes each list once, with all names.
pub async fn work(context: Arc<Context>) {
    tokio::select! {
        () = crate::wait_for(&context.stage.stopping) => return,
        () = context.credentials.done_before(context.credentials.next_ticket()) => {}
    }
    loop {
        let work = tokio::select! {
            biased;
            () = crate::wait_for(&context.stage.stopping) => return,
            work = context.namespaces.next() => work,
        };
        let deleting = pass(&context, &work.key).await;
        work.done();
        // A RegistryCredential may go once all passes are done, this one too.
        for credential in deleting {
            context.credentials.push(credential, Lane::Urgent);
        }
    }
}

/// One pass over a namespace. Returns the RegistryCredentials on their way out whose numbers it changed.
async fn pass(context: &Context, name: &Arc<str>) -> Vec<Arc<str>> {
    context.metrics.passes.inc();
    let now = clock::now();
    let Some(world) = context.index().observe(name, now) else {
        return report(context, name, Vec::new());
    };
    let plan = plan(&world, now);
    let results = apply::apply(context, &plan).await;
    let (reports, wake_at) = record(context, &plan, &results);
    let deleting = report(context, name, reports);
    if !plan.steps.is_empty() {
        context.namespaces.push(name.clone(), Lane::Urgent);
    }
    if let Some(at) = wake_at {
        context.namespaces.push_at(name.clone(), at);
    }
    deleting
}

/// Takes the results into memory. Returns what became of each pair, and when to come back.
fn record(
    context: &Context,
    plan: &Plan,
    results: &[Result<(), StepError>],
) -> (Vec<PairReport>, Option<Instant>) {
    let now = clock::now();
    let mut index = context.index();
    let memory = index.memory(&plan.namespace);
    memory.record(plan, results, now);
    let reports = outcomes(plan, results, memory, now);
    let wake_at = memory.wake_at(now).map(|at| Instant::now() + until(at, now));
    (reports, wake_at)
}

/// Takes the reports into the ledger. Returns the RegistryCredentials on their way out whose numbers changed.
fn report(context: &Context, namespace: &Arc<str>, reports: Vec<PairReport>) -> Vec<Arc<str>> {
    let changed = context.ledger().replace(namespace, reports);
    if changed.is_empty() {
        return Vec::new();
    }
    let index = context.index();
    let entries = index.credentials.iter().map(|((_, name), entry)| (name, &entry.planned));
    let concerned: Vec<_> = entries.filter(|(_, planned)| changed.contains(&planned.uid)).collect();
    for (name, _) in &concerned {
        status::soon(context, (*name).clone());
    }
    concerned.into_iter().filter(|(_, planned)| planned.deleting).map(|(name, _)| name.clone()).collect()
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
