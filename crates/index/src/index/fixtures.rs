//! Objects and looks that the tests of several files ingest.

use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::Reason;
use regcred_dockerconfig::SecretBytes;
use regcred_planner::{
    Payload, Plan, Precondition, Removal, Settings, SourceState, Step, StepError, Validated,
};
use serde_json::{Value, json};

use super::state::Index;
use crate::credentials::SourceLook;
use crate::event::Event;
use crate::received::{Body, Received};
use crate::scope::SecretScope;
use crate::shelf::Origin;

pub(super) const COPIES: SecretScope = SecretScope { name: None, wrong_type: false };

pub(super) fn index() -> Index {
    Index::new(Settings::default(), "regcred-system")
}

pub(super) fn received<T: Body>(object: &Value) -> Received<T> {
    serde_json::from_str(&object.to_string()).expect("an object with a name")
}

pub(super) fn put<T: Body>(object: &Value) -> Event<T> {
    Event::Put(received(object), Origin::Watch)
}

pub(super) fn namespace(name: &str, uid: &str, version: u64, labels: &Value) -> Value {
    json!({"metadata": {"name": name, "uid": uid, "resourceVersion": version.to_string(), "labels": labels}})
}

pub(super) fn secret(uid: &str, version: u64) -> Value {
    json!({"metadata": {
        "namespace": "shop", "name": "pull", "uid": uid, "resourceVersion": version.to_string(),
        "annotations": {"regcred.dev/credential-uid": "c1"},
    }})
}

pub(super) fn credential(uid: &str, version: u64, generation: i64, spec: &Value) -> Value {
    let mut whole = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": "bot"}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": "yes"}}},
    });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({
        "metadata": {
            "name": "pull", "uid": uid, "resourceVersion": version.to_string(), "generation": generation,
            "finalizers": ["regcred.dev/cleanup"],
        },
        "spec": whole,
    })
}

pub(super) fn name() -> Arc<str> {
    Arc::from("pull")
}

/// Two namespaces, of which `shop` is selected, and one credential.
pub(super) fn served() -> Index {
    let mut index = index();
    index.ingest_credential(put(&credential("c1", 3, 1, &json!({}))));
    index.ingest_namespace(put(&namespace("shop", "n1", 1, &json!({"pull": "yes"}))));
    index.ingest_namespace(put(&namespace("other", "n2", 2, &json!({}))));
    index
}

pub(super) fn spec_of(index: &Index) -> Arc<Validated> {
    index.credential(&name()).expect("an entry").planned.spec.clone().expect("a valid spec")
}

pub(super) fn payload(content: &str) -> Payload {
    Payload {
        content: SecretBytes::from(content.as_bytes().to_vec()),
        fingerprint: content.to_owned(),
        servers: ["ghcr.io".to_owned()].into(),
        expires_at: None,
    }
}

pub(super) fn resolved() -> SourceState {
    SourceState::Resolved { registries: Vec::new(), note: None }
}

pub(super) fn failed() -> SourceState {
    SourceState::Failed { reason: Reason::SourceNotFound, message: String::new(), registries: None }
}

pub(super) fn look(
    index: &mut Index,
    spec: &Arc<Validated>,
    state: SourceState,
    payload: Option<Payload>,
) -> Vec<Arc<str>> {
    let request = index.credential(&name()).expect("an entry").object.requested_at.clone();
    let look = SourceLook { spec: spec.clone(), request, state, payload, retrying: false };
    index.take_look(&name(), look)
}

pub(super) fn copy_of(index: &Index) -> Option<String> {
    let copy = index.credential(&name())?.planned.copy.clone()?;
    Some(format!("{} as {}", copy.payload.fingerprint, copy.name))
}

/// In `shop`, long ago.
pub(super) fn refuse_deletion(index: &mut Index, secret: &str) {
    let over = Precondition { uid: Arc::from("s1"), resource_version: Arc::from("5") };
    let (credential, credential_name) = (Arc::from("c1"), name());
    let step = Step::DeleteSecret(Removal { name: Arc::from(secret), over, credential, credential_name });
    let plan = Plan { namespace: Arc::from("shop"), steps: vec![step], ..Plan::default() };
    index.record(&plan, &[Err(StepError::Forbidden)], Timestamp::UNIX_EPOCH);
}

pub(super) fn is_held_back(index: &Index) -> bool {
    let world = index.observe(&Arc::from("shop")).expect("a namespace");
    world.memory.wake_at(Timestamp::UNIX_EPOCH).is_some()
}
