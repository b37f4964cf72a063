//! All observed objects enter the index here, and the keys that they concern are requeued. The index stays locked
//! until those keys are queued, so that nobody sees new state whose keys are not queued yet.

use regcred_index::{
    CredentialBody, CredentialChange, Event, Index, NamespaceBody, Origin, Received, SecretBody, SecretScope,
    ServiceAccountBody, SourceSecretBody,
};

use crate::context::Context;

pub(super) fn namespace(context: &Context, event: Event<NamespaceBody>) {
    let listed = matches!(event, Event::ListEnds);
    let mut index = context.index();
    for name in index.ingest_namespace(event) {
        context.queues.namespace(name);
    }
    if listed {
        admit_credentials(context, &mut index);
    }
}

pub(super) fn service_account(context: &Context, event: Event<ServiceAccountBody>) {
    let listed = matches!(event, Event::ListEnds);
    let mut index = context.index();
    for namespace in index.ingest_service_account(event) {
        context.queues.namespace(namespace);
    }
    if listed {
        admit_credentials(context, &mut index);
    }
}

pub(super) fn secret(context: &Context, scope: &SecretScope, event: Event<SecretBody>) {
    for namespace in context.index().ingest_secret(scope, event) {
        context.queues.namespace(namespace);
    }
}

pub(super) fn source(context: &Context, event: Event<SourceSecretBody>) {
    let listed = matches!(event, Event::ListEnds);
    let mut index = context.index();
    for credential in index.ingest_source(event) {
        context.queues.source_changed(credential);
    }
    if listed {
        admit_credentials(context, &mut index);
    }
}

pub(super) fn credential(context: &Context, event: Event<CredentialBody>) {
    let mut index = context.index();
    let changes = index.ingest_credential(event);
    take_credentials(context, &index, changes);
}

/// RegistryCredentials that waited for this list are in force now.
fn admit_credentials(context: &Context, index: &mut Index) {
    let changes = index.admit_credentials();
    take_credentials(context, index, changes);
}

fn take_credentials(context: &Context, index: &Index, changes: Vec<CredentialChange>) {
    for change in changes {
        if let Some(entry) = index.credential(&change.name).filter(|entry| entry.is_look_due()) {
            context.queues.source(change.name.clone(), !entry.has_local_sources());
        }
        requeue(context, change);
    }
    context.lists.ask(index);
    context.targets_changed.notify_one();
}

fn requeue(context: &Context, change: CredentialChange) {
    if let Some(uid) = &change.gone {
        context.ledger().forget(uid);
    }
    if change.deleted {
        context.queues.deleted_credential(&change.name, change.concerned);
    } else {
        context.queues.credential(&change.name, change.concerned);
    }
}

/// A RegistryCredential as our own write left it.
pub(crate) fn ingest_written_credential(context: &Context, written: Received<CredentialBody>) {
    credential(context, Event::Put(written, Origin::OwnWrite));
}

/// A ServiceAccount as our own write left it. The pass that wrote it plans again, so nothing is requeued.
pub(crate) fn ingest_written_service_account(context: &Context, written: Received<ServiceAccountBody>) {
    context.index().ingest_service_account(Event::Put(written, Origin::OwnWrite));
}

/// A Secret as our own write left it. The pass that wrote it plans again, so nothing is requeued.
pub(crate) fn ingest_written_secret(context: &Context, written: Received<SecretBody>) {
    context.index().ingest_written_secret(written);
}

/// Says once that an object is skipped because it cannot be read, and counts it each time.
pub(super) fn note_unreadable<T>(context: &Context, kind: &'static str, received: &Received<T>) {
    if received.is_readable() {
        return;
    }
    context.metrics.object_unreadable(kind);
    context.unreadable.log_once(kind, format!("{received:?}"));
}
