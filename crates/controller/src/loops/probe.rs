//! The loop by RegistryCredential that asks registries whether credentials are good: one question in a pass, so that nobody
//! with many slow registries keeps the others waiting.

use std::sync::Arc;
use std::time::Duration;

use regcred_api::{ConditionStatus, Reason};
use regcred_planner::Verdict;
use tokio::time::{Instant, timeout};

use super::next;
use crate::context::Context;
use crate::probes::{Asking, Probe};
use crate::queue::Lane;

/// How long all requests of one question may take.
const LIMIT: Duration = Duration::from_secs(40);

/// Takes RegistryCredentials from the queue until the operator is told to stop.
pub(crate) async fn work(context: Arc<Context>) {
    while let Some(work) = next(&context, &context.queues.probes).await {
        visit(&context, &work.key).await;
        work.done();
    }
}

async fn visit(context: &Context, name: &Arc<str>) {
    if is_forgotten(context, name) {
        return;
    }
    if let Some(asking) = context.probes.begin(name, context.now()) {
        ask(context, asking).await;
    }
    if context.probes.is_awaited(name) {
        context.queues.probes.push(name.clone(), Lane::Urgent);
    } else if let Some(at) = context.probes.next_at(name) {
        let wait = Duration::try_from(at.duration_since(context.now())).unwrap_or_default();
        context.queues.probes.push_at(name.clone(), Instant::now() + wait);
    }
}

/// Those for which copies wait come first: a registry that does not answer holds up nobody's rotation.
pub(super) fn lane(context: &Context, name: &Arc<str>) -> Lane {
    if context.probes.is_awaited(name) { Lane::Urgent } else { Lane::Bulk }
}

/// Forgets the questions of a RegistryCredential that is gone or idle. The index is locked meanwhile: a look at its sources
/// that follows asks them anew.
fn is_forgotten(context: &Context, name: &Arc<str>) -> bool {
    let index = context.index();
    let is_wanted = index.credential(name).is_some_and(|entry| entry.wanted_sources().is_some());
    if !is_wanted {
        context.probes.forget(name);
    }
    !is_wanted
}

/// Asks, and tells everybody whom the answer concerns.
async fn ask(context: &Context, mut asking: Asking<'_>) {
    let Probe { server, login, verification, .. } = &asking.probe;
    let asked = timeout(LIMIT, context.verifier.verify(server, login, &verification.proof)).await;
    let (verdict, retry_after) = asked.unwrap_or_else(|_| (no_answer(server), Duration::ZERO));
    context.metrics.registry_asked(verdict.reason);
    tracing::info!(%server, reason = %verdict.reason, "a registry was asked about a credential");
    let concerned = context.probes.end(&mut asking, verdict, retry_after, context.now());
    for (name, copies_wait) in concerned {
        if copies_wait {
            context.queues.sources.push(name.clone(), Lane::Urgent);
        }
        let lane = lane(context, &name);
        context.queues.probes.push(name.clone(), lane);
        context.queues.status(name);
    }
}

fn no_answer(server: &impl std::fmt::Display) -> Verdict {
    let message = format!("{server} does not answer in {} s; it is asked again", LIMIT.as_secs());
    Verdict { status: ConditionStatus::Unknown, reason: Reason::Unreachable, message }
}
