//! What the operator may never do, looked at as it does it.

use http::{Method, Request, Response};
use regcred_api::names;
use serde_json::Value;

use crate::names::{HOME, TARGETS};
use crate::oracle;
use crate::server::{Key, Kind, Object, Server, Store, Target, is_terminating};
use crate::trace::Trace;

/// Lets the server answer, and takes down what was wrong with the request.
pub fn watched(server: &Server, trace: &Trace, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
    let target = Target::parse(request.uri().path()).filter(|_| *request.method() != Method::GET);
    let Some(target) = target else { return server.answer(request) };
    let key = target.key();
    let before = server.store().get(&key).cloned();
    let revision = server.store().revision();
    let is_dry_run = request.uri().query().is_some_and(|query| query.contains("dryRun"));
    if target.kind != Kind::Lease && !is_dry_run {
        trace.asked();
    }
    let response = server.answer(request);
    let after = server.store().get(&key).cloned();
    if server.store().revision() != revision && target.kind != Kind::Lease {
        trace.wrote(&key);
        let body = serde_json::from_slice(request.body()).unwrap_or_default();
        let wrong = wrong(&server.store(), &key, request, &body, before.as_ref(), after.as_ref());
        if let Some(wrong) = wrong {
            trace.violation(format!("{key}: {wrong}"));
        }
    }
    response
}

/// Takes down that a replica begins a write while another holds the lease.
pub fn may_ask(server: &Server, trace: &Trace, identity: Option<&str>, request: &Request<Vec<u8>>) {
    let target = Target::parse(request.uri().path()).filter(|_| *request.method() != Method::GET);
    let concerns =
        target.is_some_and(|target| target.kind != Kind::Lease && target.namespace.as_deref() != Some(HOME));
    let lease = server.store().get(&Key::new(Kind::Lease, HOME, "regcred")).cloned();
    let (true, Some(identity), Some(lease)) = (concerns, identity, lease) else { return };
    let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
    if holder.is_some_and(|holder| holder != identity) {
        let path = request.uri().path();
        trace.violation(format!(
            "{identity} writes {path} while {} holds the lease",
            holder.unwrap_or_default()
        ));
    }
}

fn wrong(
    store: &Store,
    key: &Key,
    request: &Request<Vec<u8>>,
    body: &Value,
    before: Option<&Object>,
    after: Option<&Object>,
) -> Option<&'static str> {
    match key.kind {
        Kind::Secret => wrong_with_secret(store, key, request, body, before),
        Kind::ServiceAccount => wrong_with_account(body, before, after),
        _ => None,
    }
}

fn wrong_with_secret(
    store: &Store,
    key: &Key,
    request: &Request<Vec<u8>>,
    body: &Value,
    before: Option<&Object>,
) -> Option<&'static str> {
    let preconditions = &body["preconditions"];
    let guarded = preconditions["uid"].is_string() && preconditions["resourceVersion"].is_string();
    if *request.method() == Method::DELETE && !guarded {
        return Some("deleted without uid and resourceVersion");
    }
    let before = before?;
    if !is_marked(before) {
        return Some("a foreign Secret was written");
    }
    if *request.method() == Method::DELETE && takes_the_last_copy(store, key, before) {
        return Some("the copy under a former name was deleted, and there was none under the present one");
    }
    let forced = request.uri().query().is_some_and(|query| query.contains("force=true"));
    let from = &body["metadata"];
    let guarded = from["uid"].is_string() && from["resourceVersion"].is_string();
    (forced && !guarded).then_some("written over without uid and resourceVersion")
}

fn wrong_with_account(body: &Value, before: Option<&Object>, after: Option<&Object>) -> Option<&'static str> {
    if !body["metadata"]["resourceVersion"].is_string() {
        return Some("a list was written without resourceVersion");
    }
    let (Some(before), Some(after)) = (before, after) else { return Some("a ServiceAccount came or went") };
    let theirs = theirs(before);
    let mut kept = entries(after);
    kept.retain(|name| theirs.contains(name));
    (distinct(&kept) != distinct(&theirs)).then_some("entries of others changed")
}

/// Whether this is the copy of a credential that goes by another name now, and the namespace never had another copy of
/// it: a rename must leave it.
fn takes_the_last_copy(store: &Store, key: &Key, copy: &Value) -> bool {
    let uid = &copy["metadata"]["annotations"][names::CREDENTIAL_UID_ANNOTATION];
    let all = store.list(Kind::RegistryCredential, None).into_iter();
    let owner = all.into_iter().find(|credential| credential["metadata"]["uid"] == *uid);
    let renamed = owner.is_some_and(|owner| {
        oracle::target(&owner) != key.name
            && !is_terminating(&owner)
            && is_surely_selected(store, &owner, key)
    });
    let another = TARGETS.iter().filter(|name| **name != key.name).any(|name| {
        let last = store.last(&Key::new(Kind::Secret, &key.namespace, name));
        last.is_some_and(|last| last["metadata"]["annotations"][names::CREDENTIAL_UID_ANNOTATION] == *uid)
    });
    // One that is immutable is made again at once.
    renamed && !another && copy["immutable"] != true
}

/// Whether a credential selects the namespace of a Secret, also to somebody who has not heard of the last change of
/// either: the watches of two kinds race.
fn is_surely_selected(store: &Store, credential: &Object, secret: &Key) -> bool {
    let namespace = Key::new(Kind::Namespace, "", &secret.namespace);
    let credential = Key::new(Kind::RegistryCredential, "", &oracle::text(credential, "name"));
    let namespaces = store.last_two(&namespace, |object| &object["metadata"]["labels"]);
    let credentials = store.last_two(&credential, |object| &object["spec"]);
    let selects =
        |credential: &Object| namespaces.iter().all(|namespace| oracle::selects(credential, namespace));
    !namespaces.is_empty() && credentials.iter().all(|credential| selects(credential))
}

/// Whether anything on a Secret says that it is a copy.
pub fn is_marked(secret: &Value) -> bool {
    let metadata = &secret["metadata"];
    metadata["labels"][names::CREDENTIAL_LABEL].is_string()
        || metadata["annotations"][names::CREDENTIAL_UID_ANNOTATION].is_string()
        || metadata["annotations"][names::RETAINED_FROM_ANNOTATION].is_string()
}

/// The names on a list, in their order.
pub fn entries(account: &Value) -> Vec<&str> {
    let all = account["imagePullSecrets"].as_array().into_iter().flatten();
    all.filter_map(|entry| entry["name"].as_str()).collect()
}

/// The names that the operator's mark calls its own.
pub fn marked(account: &Value) -> Vec<&str> {
    let text = account["metadata"]["annotations"][names::ATTACHED_ANNOTATION].as_str().unwrap_or_default();
    text.split(',').filter(|name| !name.is_empty()).collect()
}

fn theirs(account: &Value) -> Vec<&str> {
    let ours = marked(account);
    entries(account).into_iter().filter(|name| !ours.contains(name)).collect()
}

/// Each name once, in the order of its first.
fn distinct<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for name in names {
        if !distinct.contains(name) {
            distinct.push(*name);
        }
    }
    distinct
}
