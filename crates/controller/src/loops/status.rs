//! The loop that writes status: at most once in an interval for each RegistryCredential, and only
//! if it differs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::Patch;
use parking_lot::Mutex;
use regcred_api::RegistryCredentialStatus;
use regcred_planner::{Event, Observed, StepError, report};
use serde_json::json;
use tokio::time::Instant;

use super::failures::Failures;
use super::{event, next};
use crate::calls::{answer, as_manager};
use crate::context::Context;
use crate::watch;

/// The shortest time between two writes of one status.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a first status waits for the passes to end: most clusters go straight to the result.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
/// How often an object is looked at while its namespaces are queued.
const WATCHFUL: Duration = Duration::from_millis(100);

/// The pace of each status, shared by the workers.
pub(crate) type Paces = Mutex<HashMap<Arc<str>, Pace>>;

/// When a status was written, and since when it waits for passes to end.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    written: Option<Instant>,
    unsettled: Option<Instant>,
}

/// A desired status, and the object it is for.
struct Draft {
    uid: Arc<str>,
    status: RegistryCredentialStatus,
    events: Vec<Event>,
    differs: bool,
    in_progress: bool,
    first: bool,
}

/// Takes RegistryCredentials from the queue until the operator is told to stop.
pub(crate) async fn work(context: Arc<Context>, paces: Arc<Paces>, failures: Arc<Failures>) {
    while let Some(work) = next(&context, &context.queues.statuses).await {
        visit(&context, &work.key, &paces, &failures).await;
        work.done();
    }
}

async fn visit(context: &Context, name: &Arc<str>, paces: &Paces, failures: &Failures) {
    let Some(draft) = draft(context, name) else {
        paces.lock().remove(name);
        context.metrics.told.forget(name);
        failures.forget(name);
        tell_changes(context, name);
        return;
    };
    context.metrics.told.tell(name, &draft.status);
    if !draft.in_progress {
        tell(context, name, &draft.status);
    }
    let failing = failures.wait_until(name).filter(|_| draft.differs);
    let wait_until = failing.or_else(|| later(&draft, paces.lock().entry(name.clone()).or_default()));
    if let Some(at) = wait_until {
        context.queues.statuses.push_at(name.clone(), at);
    } else if draft.differs {
        write(context, name, draft, failures).await;
    }
}

/// Logs what was done for a RegistryCredential whose passes are done, and that nothing is wrong any more.
fn tell(context: &Context, name: &Arc<str>, status: &RegistryCredentialStatus) {
    let told_all = tell_changes(context, name);
    if told_all && status.failures.is_empty() && context.troubles.faults.over(name) {
        tracing::info!(credential = %name, "everything is in place again");
    }
}

/// Logs what was done for a RegistryCredential, or comes back where its last lines are too recent. Returns whether all
/// is told.
fn tell_changes(context: &Context, name: &Arc<str>) -> bool {
    let later = context.journal.tell(name);
    if let Some(at) = later {
        context.queues.statuses.push_at(name.clone(), at);
    }
    later.is_none()
}

/// When to look again; `None` for a status that is written now, if it differs. While namespaces are queued, a
/// status waits for them: one that speaks of this spec already so long that a restart writes nothing.
fn later(draft: &Draft, pace: &mut Pace) -> Option<Instant> {
    let now = Instant::now();
    let patience = if draft.first { FIRST_PATIENCE } else { INTERVAL };
    if !draft.in_progress {
        pace.unsettled = None;
    } else if *pace.unsettled.get_or_insert(now) + patience > now {
        return Some(now + WATCHFUL);
    }
    let next = pace.written.map(|at| at + INTERVAL).filter(|next| draft.differs && *next > now);
    let wait = next.or_else(|| (draft.in_progress && !draft.differs).then_some(now + WATCHFUL));
    if wait.is_none() && draft.differs {
        pace.written = Some(now);
    }
    wait
}

fn draft(context: &Context, name: &Arc<str>) -> Option<Draft> {
    let index = context.index();
    let entry = index.credential(name)?;
    let old = entry.object.status.as_ref();
    let in_progress =
        !context.queues.is_settled(name) || (entry.source.is_none() && entry.wanted_sources().is_some());
    let tally = context.ledger().tally(&entry.planned.uid);
    let verified = entry.wanted_sources().and_then(|_| context.probes.verified(name, context.now()));
    let is_asked = in_progress || context.probes.is_forced(name);
    let observed = Observed {
        credential: &entry.planned,
        generation: entry.object.generation,
        request: if is_asked { last_request(old) } else { entry.handled_request.clone() },
        source: entry.source.as_ref(),
        verified: verified.as_deref(),
        tally: &tally,
        in_progress,
    };
    let (status, events) = report(old, &observed, context.now());
    Some(Draft {
        uid: entry.planned.uid.clone(),
        differs: old != Some(&status),
        first: old.is_none_or(|old| old.observed_generation != entry.object.generation),
        status,
        events,
        in_progress,
    })
}

/// A request is answered once the passes that it asked for are done; until then the last one stays.
fn last_request(old: Option<&RegistryCredentialStatus>) -> Option<String> {
    old.and_then(|status| status.last_handled_request.clone())
}

/// Writes the whole status in one operation of a JSON patch, so that nothing stale stays in it.
async fn write(context: &Context, name: &Arc<str>, draft: Draft, failures: &Failures) {
    let operations = json!([
        {"op": "test", "path": "/metadata/uid", "value": &*draft.uid},
        {"op": "add", "path": "/status", "value": draft.status},
    ]);
    let Ok(operations) = serde_json::from_value(operations) else { return };
    let patch: Patch<()> = Patch::Json(operations);
    match answer(context.calls.credentials().patch_status(name, &as_manager(), &patch)).await {
        Ok(written) => {
            failures.forget(name);
            context.metrics.statuses_written.inc();
            watch::ingest_written_credential(context, written);
            event::publish(context, name, &draft.uid, draft.events).await;
        }
        Err(error) if error.meaning() == StepError::Gone => {}
        Err(error) => {
            let cause = error.meaning();
            context.metrics.credential_write_failed("status");
            let (retry_at, is_news) = failures.note(name, cause);
            if is_news {
                tracing::warn!(credential = %name, %cause, "the status could not be written; trying again");
            }
            context.queues.statuses.push_at(name.clone(), retry_at);
        }
    }
}
