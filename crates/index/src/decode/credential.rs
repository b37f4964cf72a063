//! A RegistryCredential, as it is received and as it is kept. What does not fit its type is read as far as it can be.

use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::{DeletionPolicy, NamespaceSelection, RegistryCredentialSpec};
use regcred_api::{RegistryCredential, RegistryCredentialStatus, names};
use regcred_planner::{InvalidSpec, Scope, Uid};
use serde::Deserialize;
use serde_json::Value;

use super::common::body;
use crate::metadata::Metadata;
use crate::received::Body;

/// A RegistryCredential as it is received.
#[derive(Clone, Deserialize)]
pub struct CredentialBody {
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

body!(CredentialBody, RegistryCredential, metadata_only: false);

/// A RegistryCredential as it was observed.
#[derive(Clone, Debug)]
pub struct CredentialObject {
    /// UID.
    pub uid: Uid,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// When it was made.
    pub created: Timestamp,
    /// It has a deletionTimestamp.
    pub deleting: bool,
    /// Its finalizers, in order.
    pub finalizers: Vec<String>,
    /// The annotation `regcred.dev/requestedAt`.
    pub requested_at: Option<String>,
    /// Its spec, if it fits our types.
    pub spec: Result<RegistryCredentialSpec, InvalidSpec>,
    /// Its target name and namespaces, which are read even where the rest of the spec does not fit.
    pub scope: Arc<Scope>,
    /// Its deletionPolicy, likewise.
    pub deletion_policy: DeletionPolicy,
    /// Its status, if it fits our types.
    pub status: Option<RegistryCredentialStatus>,
}

pub(crate) fn credential(body: CredentialBody) -> CredentialObject {
    let mut metadata = body.metadata;
    let created = metadata.creation_timestamp.as_deref().and_then(|time| time.parse().ok());
    CredentialObject {
        uid: Arc::from(metadata.uid.as_str()),
        generation: metadata.generation,
        created: created.unwrap_or(Timestamp::UNIX_EPOCH),
        deleting: metadata.is_being_deleted(),
        requested_at: metadata.annotation(names::REQUESTED_AT_ANNOTATION).map(str::to_owned),
        scope: Arc::new(scope(&metadata.name, &body.spec)),
        deletion_policy: deletion_policy(&body.spec),
        spec: serde_json::from_value(body.spec).map_err(|_| InvalidSpec::Undecodable),
        status: serde_json::from_value(body.status).ok(),
        finalizers: metadata.take_finalizers(),
        resource_version: metadata.resource_version,
    }
}

fn scope(name: &str, spec: &Value) -> Scope {
    let target = spec.pointer("/target/name").and_then(Value::as_str);
    let namespaces = spec.get("namespaces").and_then(|value| NamespaceSelection::deserialize(value).ok());
    Scope::new(name, target, namespaces.as_ref())
}

fn deletion_policy(spec: &Value) -> DeletionPolicy {
    match spec.get("deletionPolicy").and_then(Value::as_str) {
        Some("Retain") => DeletionPolicy::Retain,
        _ => DeletionPolicy::Delete,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decode::fixtures::read;

    #[test]
    fn what_an_invalid_spec_lays_claim_to_is_read_as_far_as_it_can_be() {
        let scope = |spec: Value| {
            let scope = credential(read(&json!({"metadata": {"name": "pull"}, "spec": spec}))).scope;
            (scope.target_name.to_string(), scope.namespaces.is_some())
        };
        assert_eq!(scope(json!({"registries": 7, "namespaces": {"from": "All"}})), ("pull".to_owned(), true));
        assert_eq!(scope(json!({"target": {"name": "t"}, "namespaces": 7})), ("t".to_owned(), false));
        assert_eq!(scope(json!(null)), ("pull".to_owned(), false));
    }

    #[test]
    fn a_credential_whose_spec_does_not_fit_keeps_its_deletion_policy() {
        let object = json!({
            "metadata": {"name": "pull", "uid": "c1", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z",
                         "finalizers": ["other"], "annotations": {"regcred.dev/requestedAt": "now"}},
            "spec": {"registries": 7, "deletionPolicy": "Retain"},
            "status": {"conditions": "none"},
        });
        let credential = credential(read(&object));
        assert_eq!(credential.spec.err(), Some(InvalidSpec::Undecodable));
        assert_eq!(credential.deletion_policy, DeletionPolicy::Retain);
        assert_eq!((credential.generation, credential.status.is_some()), (Some(3), false));
        assert_eq!(credential.created.to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(
            (credential.finalizers, credential.requested_at.as_deref()),
            (vec!["other".to_owned()], Some("now"))
        );
    }
}
