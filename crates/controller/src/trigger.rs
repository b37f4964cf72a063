//! An event becomes the keys that need a pass. The index has taken the event in already.

use std::sync::Arc;
use std::time::Duration;

use regcred_api::SourceMember;
use regcred_planner::Credential;
use tokio::time::Instant;

use crate::Context;
use crate::index::{Index, cluster_key};
use crate::queue::{Lane, Patience};
use crate::status;

/// A change for no more namespaces than this does not wait behind one for thousands.
const FEW: usize = 64;
/// RegistryCredentials that are applied together reach a ServiceAccount in one patch: those that follow
/// each other by no more than this. kubectl and GitOps tools take some ten milliseconds for each.
const TOGETHER: Patience = Patience { quiet: Duration::from_millis(100), at_most: Duration::from_secs(2) };
/// The shortest time between two versions of a copy that a changing source sends out.
const ROTATION_INTERVAL: Duration = Duration::from_secs(2);

/// Something in a namespace changed.
pub fn namespace(context: &Context, name: Arc<str>) {
    context.namespaces.push(name, Lane::Urgent);
}

/// A RegistryCredential changed, and these namespaces are concerned.
pub fn credential(context: &Context, index: &mut Index, name: &Arc<str>, concerned: Vec<Arc<str>>) {
    new_copies(context, index, name, concerned);
    context.credentials.push(name.clone(), Lane::Urgent);
    status::soon(context, name.clone());
}

/// A RegistryCredential puts something else into these namespaces than before, and others may come with it.
pub fn new_copies(context: &Context, index: &mut Index, name: &Arc<str>, concerned: Vec<Arc<str>>) {
    if !concerned.is_empty() {
        let lane = lane(&concerned);
        context.namespaces.gather(concerned, lane, TOGETHER);
        await_passes(context, index, name);
    }
}

/// The copies of a RegistryCredential in these namespaces have another content. That concerns no list, so it
/// waits for nothing.
pub fn rotation(context: &Context, index: &mut Index, name: &Arc<str>, concerned: Vec<Arc<str>>) {
    let lane = lane(&concerned);
    tracing::info!(credential = %name, namespaces = concerned.len(), "a new credential goes out");
    for namespace in concerned {
        context.namespaces.push(namespace, lane);
    }
    index.note_rotation(name, Instant::now());
    await_passes(context, index, name);
}

fn lane(concerned: &[Arc<str>]) -> Lane {
    if concerned.len() <= FEW { Lane::Urgent } else { Lane::Bulk }
}

fn await_passes(context: &Context, index: &mut Index, name: &Arc<str>) {
    if let Some(entry) = index.credentials.get_mut(&cluster_key(name)) {
        entry.settled_after = context.namespaces.next_ticket();
    }
}

/// A Secret of the source namespace changed.
pub fn source(context: &Context, index: &Index, secret: &str) {
    let drawing = index.credentials.iter().filter(|(_, entry)| draws_on(&entry.planned, secret));
    for ((_, name), entry) in drawing {
        context.credentials.push_at(name.clone(), not_too_soon(entry.rotated_at));
    }
}

/// A first rotation goes out at once; those that follow on its heels go out together.
fn not_too_soon(rotated_at: Option<Instant>) -> Instant {
    let now = Instant::now();
    rotated_at.map_or(now, |at| now.max(at + ROTATION_INTERVAL))
}

/// Whether a credential takes anything from this source Secret.
pub fn draws_on(credential: &Credential, secret: &str) -> bool {
    let Ok(spec) = &credential.spec else { return false };
    let by_server = spec.registries.iter().any(|registry| match &registry.source {
        SourceMember::Secret(reference) => reference.name == secret,
    });
    by_server || spec.docker_config_secrets.iter().any(|name| name == secret)
}
