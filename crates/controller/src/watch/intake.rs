//! The one door through which a listed, watched or answered object becomes state, and the keys to requeue. The
//! index stays locked until they are in their queues: nobody sees the one without the other.

use std::collections::BTreeSet;

use regcred_index::{
    CredentialBody, CredentialChange, Event, NamespaceBody, Origin, Received, SecretBody, SecretScope,
    ServiceAccountBody, SourceSecretBody,
};

use crate::context::Context;

/// How many objects that cannot be read are remembered by name. More are only counted.
const MAX_REMEMBERED: usize = 256;

/// Objects that could not be read and were logged, so that each is logged once.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(BTreeSet<(&'static str, String)>);

pub(super) fn namespace(context: &Context, event: Event<NamespaceBody>) {
    for name in context.index().ingest_namespace(event) {
        context.queues.namespace(name);
    }
}

pub(super) fn service_account(context: &Context, event: Event<ServiceAccountBody>) {
    for namespace in context.index().ingest_service_account(event) {
        context.queues.namespace(namespace);
    }
}

pub(super) fn secret(context: &Context, scope: &SecretScope, event: Event<SecretBody>) {
    for namespace in context.index().ingest_secret(scope, event) {
        context.queues.namespace(namespace);
    }
}

pub(super) fn source(context: &Context, event: Event<SourceSecretBody>) {
    for credential in context.index().ingest_source(event) {
        context.queues.source_changed(credential);
    }
}

pub(super) fn credential(context: &Context, event: Event<CredentialBody>) {
    let mut index = context.index();
    for change in index.ingest_credential(event) {
        let look = index.credential(&change.name).is_some_and(|entry| entry.is_look_due());
        if look {
            context.queues.source(change.name.clone());
        }
        requeue(context, change);
    }
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

impl Unreadable {
    /// Whether this object was not logged yet.
    fn is_new(&mut self, kind: &'static str, object: String) -> bool {
        self.0.len() < MAX_REMEMBERED && self.0.insert((kind, object))
    }
}

/// Says once that an object is skipped because it cannot be read, and counts it each time.
pub(super) fn note_unreadable<T>(context: &Context, kind: &'static str, received: &Received<T>) {
    if received.is_readable() {
        return;
    }
    context.metrics.object_unreadable(kind);
    let object = format!("{received:?}");
    if context.unreadable.lock().is_new(kind, object.clone()) {
        tracing::warn!(kind, object, "the object does not fit its type and is skipped; see it with kubectl get --output json");
    }
}
