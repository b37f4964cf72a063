//! The loop by RegistryCredential: put the finalizer on, and take it off once no copy and no entry
//! of it is left.

use std::sync::Arc;
use std::time::Duration;

use kube::api::Patch;
use regcred_api::names;
use regcred_index::CredentialObject;
use regcred_planner::{Credential, Role, plan};
use serde_json::json;
use tokio::time::Instant;

use super::failures::Failures;
use super::next;
use crate::calls::{answer, as_manager};
use crate::context::Context;
use crate::watch;

/// How soon a finalizer that was planned from an outdated object is tried again, and how soon a RegistryCredential that
/// is being deleted is looked at again while namespaces are queued.
const SOON: Duration = Duration::from_secs(1);

/// Takes RegistryCredentials from the queue until the operator is told to stop.
pub(crate) async fn work(context: Arc<Context>, failures: Arc<Failures>) {
    while let Some(work) = next(&context, &context.queues.credentials).await {
        visit(&context, &work.key, &failures).await;
        work.done();
        context.visited.notify_waiters();
    }
}

async fn visit(context: &Context, name: &Arc<str>, failures: &Failures) {
    let Some((object, planned)) =
        context.index().credential(name).map(|entry| (entry.object.clone(), entry.planned.clone()))
    else {
        context.troubles.forget(name);
        return failures.forget(name);
    };
    if let Some(at) = failures.wait_until(name) {
        return context.queues.credentials.push_at(name.clone(), at);
    }
    if planned.deleting && planned.finalized {
        finish_deletion(context, name, &object, &planned, failures).await;
    } else if !planned.finalized && planned.active_spec().is_some_and(|spec| !spec.suspend) {
        let finalizers = object.finalizers.iter().cloned().chain([names::FINALIZER.to_owned()]).collect();
        write_finalizers(context, name, &object, finalizers, failures).await;
    }
}

/// Takes the finalizer off once no namespace holds anything of this credential. Planning once more
/// for every namespace makes sure of it, from what is observed and not from what was counted.
async fn finish_deletion(
    context: &Context,
    name: &Arc<str>,
    object: &CredentialObject,
    planned: &Credential,
    failures: &Failures,
) {
    let settled =
        context.queues.is_settled(name) && context.ledger().tally(&planned.uid).departing.is_empty();
    if !settled || holds_anything(context, planned) {
        context.queues.credentials.push_at(name.clone(), Instant::now() + SOON);
        return;
    }
    let others = object.finalizers.iter().filter(|finalizer| *finalizer != names::FINALIZER);
    write_finalizers(context, name, object, others.cloned().collect(), failures).await;
}

fn holds_anything(context: &Context, planned: &Credential) -> bool {
    let concerned = context.index().concerned(&[Some(planned)]);
    let now = context.now();
    concerned.iter().any(|namespace| {
        let world = context.index().observe(namespace);
        world.is_some_and(|world| {
            let pairs = plan(&world, now).pairs;
            pairs.iter().any(|pair| pair.role == Role::Departing && pair.credential == planned.uid)
        })
    })
}

async fn write_finalizers(
    context: &Context,
    name: &Arc<str>,
    object: &CredentialObject,
    finalizers: Vec<String>,
    failures: &Failures,
) {
    let body = Patch::Merge(json!({
        "metadata": {"uid": &*object.uid, "resourceVersion": object.resource_version, "finalizers": finalizers},
    }));
    let written = answer(context.calls.credentials().patch(name, &as_manager(), &body)).await;
    if written.is_ok() {
        failures.forget(name);
    }
    match written {
        // The answer to the last write of an object that is being deleted must not bring it back.
        Ok(_) if object.deleting => context.index().note_released(name, &object.uid),
        Ok(written) => watch::ingest_written_credential(context, written),
        Err(error) if error.is_outdated() => {
            context.queues.credentials.push_at(name.clone(), Instant::now() + SOON);
        }
        Err(error) => {
            let cause = error.meaning();
            context.metrics.credential_write_failed("finalizer");
            let (retry_at, is_news) = failures.note(name, cause);
            if is_news {
                tracing::warn!(credential = %name, %cause, "the finalizer could not be written; trying again");
            }
            context.queues.credentials.push_at(name.clone(), retry_at);
        }
    }
}
