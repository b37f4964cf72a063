//! What Kubernetes itself does: ServiceAccounts of new namespaces, the content of namespaces that end, garbage
//! collection.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::names::ACCOUNTS;
use crate::server::{Key, Kind, Object, Server, Store, Writer, finalizers, is_terminating};
use crate::trace::Trace;

const CONTROLLER: &str = "controllers";

/// Runs the controllers: after each change they look at everything, some time later.
pub async fn run(server: Server, trace: Trace) {
    loop {
        let changed = server.changed().notified();
        while server.write(|store, now| round(store, now, &trace)) {
            sleep(Duration::from_millis(fastrand::u64(1..400))).await;
        }
        changed.await;
        sleep(Duration::from_millis(fastrand::u64(1..1_500))).await;
    }
}

/// One thing that is to be done, if there is any.
fn round(store: &mut Store, now: Timestamp, trace: &Trace) -> bool {
    default_account(store, now, trace)
        || namespace_content(store, now, trace)
        || waiting_owner(store, now, trace)
        || orphan(store, now, trace)
}

fn default_account(store: &mut Store, now: Timestamp, trace: &Trace) -> bool {
    let namespaces = store.list(Kind::Namespace, None);
    let mut lacking = namespaces.iter().filter(|namespace| !is_terminating(namespace)).map(|namespace| {
        let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
        Key::new(Kind::ServiceAccount, name, ACCOUNTS[0])
    });
    let Some(key) = lacking.find(|key| store.get(key).is_none()) else { return false };
    trace.note(CONTROLLER, &format!("make {key}"));
    store.create(&key, json!({"metadata": {}}), &writer(), now).is_ok()
}

fn namespace_content(store: &mut Store, now: Timestamp, trace: &Trace) -> bool {
    let namespaces = store.list(Kind::Namespace, None);
    let Some(namespace) = namespaces.iter().find(|namespace| is_terminating(namespace)) else { return false };
    let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
    let mut content =
        [Kind::Secret, Kind::ServiceAccount].into_iter().flat_map(|kind| store.list(kind, Some(name)));
    if let Some(object) = content.next() {
        return delete(store, &object, now, trace);
    }
    trace.note(CONTROLLER, &format!("namespace {name} is gone"));
    store.finalize_namespace(name);
    true
}

/// Garbage collection: what has lost its owner goes, and what an owner in foreground deletion owns.
fn waiting_owner(store: &mut Store, now: Timestamp, trace: &Trace) -> bool {
    let owners = owners(store);
    let gone = |owner: &Value| match owners.get(owner["uid"].as_str().unwrap_or_default()) {
        None => true,
        Some(owner) => finalizers(owner).iter().any(|finalizer| finalizer == "foregroundDeletion"),
    };
    let secrets = store.list(Kind::Secret, None);
    let lost = secrets.into_iter().find(|secret| {
        let references = secret["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        !references.is_empty() && references.iter().all(gone)
    });
    if let Some(secret) = lost {
        return delete(store, &secret, now, trace);
    }
    owners.values().any(|owner| release(store, owner, "foregroundDeletion", now, trace))
}

/// Orphaning: references to the owner come off once, then its finalizer.
fn orphan(store: &mut Store, now: Timestamp, trace: &Trace) -> bool {
    let owners = owners(store);
    let orphaning = |owner: &&Object| finalizers(owner).iter().any(|own| own == "orphan");
    let Some(owner) = owners.values().find(orphaning) else { return false };
    for secret in store.list(Kind::Secret, None) {
        free(store, &secret, &owner["metadata"]["uid"], now, trace);
    }
    release(store, owner, "orphan", now, trace)
}

fn free(store: &mut Store, secret: &Object, uid: &Value, now: Timestamp, trace: &Trace) {
    let mut freed = (**secret).clone();
    let Some(references) = freed["metadata"]["ownerReferences"].as_array_mut() else { return };
    references.retain(|reference| reference["uid"] != *uid);
    if references.is_empty() {
        freed["metadata"].as_object_mut().map(|metadata| metadata.remove("ownerReferences"));
    }
    let key = Key::of(Kind::Secret, secret);
    if store.update(&key, freed, &writer(), now).is_ok_and(|after| after != *secret) {
        trace.disturbed(CONTROLLER, &format!("orphan {key}"));
    }
}

fn owners(store: &Store) -> BTreeMap<String, Object> {
    let credentials = store.list(Kind::RegistryCredential, None).into_iter();
    credentials
        .map(|object| (object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), object))
        .collect()
}

fn release(store: &mut Store, owner: &Object, finalizer: &str, now: Timestamp, trace: &Trace) -> bool {
    let mut all = finalizers(owner);
    let Some(at) = all.iter().position(|own| own == finalizer) else { return false };
    all.remove(at);
    let key = Key::of(Kind::RegistryCredential, owner);
    trace.note(CONTROLLER, &format!("take {finalizer} off {key}"));
    let mut freed = (**owner).clone();
    freed["metadata"]["finalizers"] = json!(all);
    store.update(&key, freed, &writer(), now).is_ok()
}

fn delete(store: &mut Store, object: &Object, now: Timestamp, trace: &Trace) -> bool {
    let kind = if object["kind"] == Kind::Secret.name() { Kind::Secret } else { Kind::ServiceAccount };
    let key = Key::of(kind, object);
    trace.disturbed(CONTROLLER, &format!("delete {key}"));
    store.delete(&key, None, now).is_ok()
}

fn writer() -> Writer {
    Writer { manager: "kube-controller-manager".to_owned(), operation: "Update", status: false }
}
