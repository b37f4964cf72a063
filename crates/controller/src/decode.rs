//! Objects of the API server become the plain data of the planner. managedFields are read as they
//! arrive and thrown away: they are most of an object's size.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::core::{DynamicObject, PartialObjectMeta};
use regcred_api::{DeletionPolicy, RegistryCredentialSpec, RegistryCredentialStatus, names};
use regcred_dockerconfig::SecretBytes;
use regcred_planner::{InvalidSpec, Marks, Secret, ServiceAccount, StringMap, Uid};
use regcred_sources::SourceSecret;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::intern::Interner;

/// A ServiceAccount as far as regcred reads and writes it.
#[derive(Clone, Debug, Deserialize, Serialize, kube::Resource)]
#[resource(inherit = core::ServiceAccount)]
#[serde(rename_all = "camelCase")]
pub struct SlimServiceAccount {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The list.
    #[serde(default)]
    pub image_pull_secrets: Vec<core::LocalObjectReference>,
}

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
    /// Its deletionPolicy, which is read even where the rest of the spec does not fit.
    pub deletion_policy: DeletionPolicy,
    /// Its status, if it fits our types.
    pub status: Option<RegistryCredentialStatus>,
}

/// A namespace as it was observed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamespaceObject {
    /// UID.
    pub uid: Uid,
    /// Labels.
    pub labels: StringMap,
    /// It carries `regcred.dev/exclude: "true"`.
    pub excluded: bool,
    /// It is being deleted.
    pub terminating: bool,
}

/// Reads a namespace.
pub fn namespace(metadata: ObjectMeta, interner: &mut Interner) -> NamespaceObject {
    NamespaceObject {
        uid: uid(&metadata),
        excluded: is_excluded(&metadata),
        terminating: metadata.deletion_timestamp.is_some(),
        labels: interner.map(metadata.labels.unwrap_or_default()),
    }
}

/// Reads a ServiceAccount.
pub fn service_account(account: SlimServiceAccount, interner: &mut Interner) -> ServiceAccount {
    let metadata = account.metadata;
    let names = account.image_pull_secrets.into_iter().map(|reference| interner.string(&reference.name));
    ServiceAccount {
        image_pull_secrets: names.collect(),
        uid: uid(&metadata),
        resource_version: resource_version(&metadata),
        excluded: is_excluded(&metadata),
        terminating: metadata.deletion_timestamp.is_some(),
        list_manager: list_manager(&metadata).map(|manager| interner.string(manager)),
        labels: interner.map(metadata.labels.unwrap_or_default()),
    }
}

/// Reads a Secret's metadata. `mistyped`: the watch selects Secrets that are no docker configuration.
pub fn secret(object: &PartialObjectMeta<core::Secret>, mistyped: bool, interner: &mut Interner) -> Secret {
    let metadata = &object.metadata;
    let owned = OwnedFields::of(metadata);
    Secret {
        uid: uid(metadata),
        resource_version: resource_version(metadata),
        terminating: metadata.deletion_timestamp.is_some(),
        wrong_type: mistyped,
        immutable: any_manager_has(metadata, "f:immutable"),
        owns_data: owned.data,
        marks: marks(metadata, &owned).map(|marks| interner.marks(marks)),
    }
}

/// Reads a whole Secret of the source namespace. Its bytes move; they are not copied.
pub fn source_secret(secret: core::Secret) -> SourceSecret {
    let bytes = |(key, ByteString(value))| (key, SecretBytes::from(value));
    SourceSecret {
        kind: secret.type_.unwrap_or_else(|| "Opaque".to_owned()),
        data: secret.data.unwrap_or_default().into_iter().map(bytes).collect(),
    }
}

/// Reads a RegistryCredential.
pub fn credential(object: DynamicObject) -> CredentialObject {
    let metadata = object.metadata;
    let mut data = object.data;
    let spec = data.get_mut("spec").map(Value::take).unwrap_or_default();
    let status = data.get_mut("status").map(Value::take).unwrap_or_default();
    let annotation = |key: &str| metadata.annotations.as_ref()?.get(key).cloned();
    CredentialObject {
        uid: uid(&metadata),
        generation: metadata.generation,
        created: metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        deleting: metadata.deletion_timestamp.is_some(),
        requested_at: annotation(names::REQUESTED_AT_ANNOTATION),
        deletion_policy: deletion_policy(&spec),
        spec: serde_json::from_value(spec).map_err(|_| InvalidSpec::Undecodable),
        status: serde_json::from_value(status).ok(),
        resource_version: metadata.resource_version.unwrap_or_default(),
        finalizers: metadata.finalizers.unwrap_or_default(),
    }
}

fn deletion_policy(spec: &Value) -> DeletionPolicy {
    match spec.get("deletionPolicy").and_then(Value::as_str) {
        Some("Retain") => DeletionPolicy::Retain,
        _ => DeletionPolicy::Delete,
    }
}

/// What server-side apply by our field manager still owns on a Secret.
#[derive(Default)]
struct OwnedFields {
    data: bool,
    labels: BTreeSet<String>,
    annotations: BTreeSet<String>,
}

impl OwnedFields {
    fn of(metadata: &ObjectMeta) -> Self {
        let ours = |entry: &&ManagedFieldsEntry| {
            entry.manager.as_deref() == Some(names::FIELD_MANAGER)
                && entry.operation.as_deref() == Some("Apply")
        };
        let entries = metadata.managed_fields.iter().flatten();
        let mut owned = Self::default();
        for fields in entries.filter(ours).filter_map(|entry| entry.fields_v1.as_ref()) {
            let metadata = &fields.0["f:metadata"];
            owned.data |= fields.0["f:data"].get(format!("f:{}", names::SECRET_KEY)).is_some();
            owned.labels.extend(field_names(&metadata["f:labels"]));
            owned.annotations.extend(field_names(&metadata["f:annotations"]));
        }
        owned
    }
}

/// The members of a field set: `f:name` is the field `name`; `.` is the set itself.
fn field_names(fields: &Value) -> impl Iterator<Item = String> {
    let names = fields.as_object().into_iter().flat_map(|members| members.keys());
    names.filter_map(|name| name.strip_prefix("f:")).map(str::to_owned)
}

fn any_manager_has(metadata: &ObjectMeta, field: &str) -> bool {
    let entries = metadata.managed_fields.iter().flatten();
    entries.filter_map(|entry| entry.fields_v1.as_ref()).any(|fields| fields.0.get(field).is_some())
}

/// The manager that last wrote `imagePullSecrets`: an atomic list has one owner.
fn list_manager(metadata: &ObjectMeta) -> Option<&str> {
    let writers = metadata.managed_fields.iter().flatten().filter(|entry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:imagePullSecrets").is_some())
    });
    // Without an owner, the last writer of anything took it off.
    let writer = writers.max_by_key(|e| e.time.clone()).or_else(|| {
        let others = metadata.managed_fields.iter().flatten();
        others.filter(|e| e.manager.as_deref() != Some(names::FIELD_MANAGER)).max_by_key(|e| e.time.clone())
    });
    writer?.manager.as_deref()
}

fn marks(metadata: &ObjectMeta, owned: &OwnedFields) -> Option<Marks> {
    let empty = BTreeMap::new();
    let labels = metadata.labels.as_ref().unwrap_or(&empty);
    let annotations = metadata.annotations.as_ref().unwrap_or(&empty);
    let owner_uid = metadata.owner_references.iter().flatten().find_map(|owner| {
        let group = owner.api_version.split('/').next();
        (group == Some(names::GROUP) && owner.kind == "RegistryCredential").then(|| Arc::from(&*owner.uid))
    });
    let annotated = annotations.get(names::CREDENTIAL_UID_ANNOTATION).map(|uid| Arc::from(uid.as_str()));
    let marks = Marks {
        credential_uid: annotated.or_else(|| owner_uid.clone()),
        credential_name: labels.get(names::CREDENTIAL_LABEL).map(|name| Arc::from(name.as_str())),
        labels: only(labels, &owned.labels),
        annotations: only(annotations, &owned.annotations),
        owner_uid,
    };
    (marks.credential_uid.is_some() || marks.credential_name.is_some()).then_some(marks)
}

fn only(all: &BTreeMap<String, String>, keys: &BTreeSet<String>) -> BTreeMap<String, String> {
    all.iter().filter(|(key, _)| keys.contains(*key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn is_excluded(metadata: &ObjectMeta) -> bool {
    let annotations = metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.get(names::EXCLUDE_ANNOTATION).is_some_and(|value| value == "true"))
}

fn uid(metadata: &ObjectMeta) -> Uid {
    Arc::from(metadata.uid.as_deref().unwrap_or_default())
}

fn resource_version(metadata: &ObjectMeta) -> Arc<str> {
    Arc::from(metadata.resource_version.as_deref().unwrap_or_default())
}
