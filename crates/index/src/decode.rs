//! Objects of the API server become the plain data of the planner. managedFields are read as they arrive and
//! not kept: they are most of an object's size.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use regcred_api::{DeletionPolicy, NamespaceSelection, RegistryCredentialSpec};
use regcred_api::{RegistryCredential, RegistryCredentialStatus, names};
use regcred_dockerconfig::SecretBytes;
use regcred_planner::{
    InvalidSpec, MAX_ENTRIES, Marks, Scope, Secret, ServiceAccount, StringMap, Trust, Uid,
};
use regcred_sources::{Purpose, SourceSecret};
use serde::Deserialize;
use serde_json::Value;

use crate::interest::{CopyKeys, Interest};
use crate::intern::Interner;
use crate::metadata::{FieldSet, Metadata, Strings};
use crate::received::Body;

/// How many names of an annotation count that are not on the list.
const MAX_MARKED: usize = 64;
/// The longest name of a Secret.
const LONGEST_NAME: usize = 253;
/// The longest value of an annotation that a spec may ask for, in bytes: 1,024 characters.
const LONGEST_VALUE: usize = 4096;

/// A namespace as it is received.
#[derive(Clone, Deserialize)]
pub struct NamespaceBody {
    metadata: Metadata,
}

/// A ServiceAccount as it is received.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountBody {
    metadata: Metadata,
    image_pull_secrets: Option<Vec<Reference>>,
}

/// An entry of `imagePullSecrets`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Reference {
    name: String,
}

/// The metadata of a Secret as it is received. The operator never asks for the data.
#[derive(Clone, Deserialize)]
pub struct SecretBody {
    metadata: Metadata,
}

/// A whole Secret of the source namespace as it is received.
#[derive(Clone, Deserialize)]
pub struct SourceSecretBody {
    metadata: Metadata,
    #[serde(rename = "type")]
    kind: Option<String>,
    data: Option<std::collections::BTreeMap<String, ByteString>>,
}

/// A RegistryCredential as it is received.
#[derive(Clone, Deserialize)]
pub struct CredentialBody {
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl ServiceAccountBody {
    /// Whether the list has this name, as an entry of ours.
    pub fn keeps(&self, name: &str) -> bool {
        self.image_pull_secrets.iter().flatten().any(|entry| entry.name == name)
            && attached(&self.metadata).any(|own| own == name)
    }
}

macro_rules! body {
    ($body:ty, $kind:ty, metadata_only: $metadata_only:literal) => {
        impl Body for $body {
            type Kind = $kind;
            const METADATA_ONLY: bool = $metadata_only;

            fn metadata(&self) -> &Metadata {
                &self.metadata
            }
        }
    };
}

body!(NamespaceBody, core::Namespace, metadata_only: true);
body!(ServiceAccountBody, core::ServiceAccount, metadata_only: false);
body!(SecretBody, core::Secret, metadata_only: true);
body!(SourceSecretBody, core::Secret, metadata_only: false);
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

/// A namespace as it was observed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamespaceObject {
    /// UID.
    pub uid: Uid,
    /// Labels, as far as selectors name them.
    pub labels: StringMap,
    /// The annotation `regcred.dev/exclude` opts it out.
    pub excluded: bool,
    /// It is being deleted.
    pub terminating: bool,
}

pub(crate) fn namespace(body: &NamespaceBody, kept: &Interest, interner: &mut Interner) -> NamespaceObject {
    let metadata = &body.metadata;
    NamespaceObject {
        uid: Arc::from(metadata.uid.as_str()),
        excluded: metadata.is_excluded(),
        terminating: metadata.is_being_deleted(),
        labels: labels(metadata, kept, interner),
    }
}

/// The labels that some selector names.
fn labels(metadata: &Metadata, kept: &Interest, interner: &mut Interner) -> StringMap {
    let kept = metadata.labels().filter(|(key, _)| kept.keeps(key));
    interner.map(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
}

pub(crate) fn service_account(
    body: &ServiceAccountBody,
    kept: &Interest,
    interner: &mut Interner,
) -> ServiceAccount {
    let metadata = &body.metadata;
    let list = Entries::read(metadata, body.image_pull_secrets.as_deref().unwrap_or_default());
    let mut shared = |names: Vec<&str>| names.into_iter().map(|name| interner.string(name)).collect();
    ServiceAccount {
        image_pull_secrets: shared(list.names),
        marked: shared(list.marked),
        oversized: list.oversized,
        uid: Arc::from(metadata.uid.as_str()),
        resource_version: Arc::from(metadata.resource_version.as_str()),
        excluded: metadata.is_excluded(),
        terminating: metadata.is_being_deleted(),
        list_manager: short(list_manager(metadata)).map(|manager| interner.string(&manager)),
        labels: labels(metadata, kept, interner),
    }
}

/// `wrong_type`: the watch selects Secrets that are no docker configuration.
pub(crate) fn secret(
    body: &SecretBody,
    wrong_type: bool,
    kept: &CopyKeys,
    interner: &mut Interner,
) -> Secret {
    let metadata = &body.metadata;
    let owned = OwnedFields::of(metadata);
    let marks = marks(metadata, &owned, kept).map(|marks| interner.marks(marks));
    Secret {
        uid: Arc::from(metadata.uid.as_str()),
        resource_version: Arc::from(metadata.resource_version.as_str()),
        terminating: metadata.is_being_deleted(),
        held_by: metadata.first_finalizer().map(|name| interner.string(name)),
        wrong_type,
        immutable: fields_of(metadata).any(|fields| fields.immutable.is_some()),
        owns_data: owned.data,
        manager: short(data_manager(metadata))
            .filter(|_| !owned.data)
            .map(|manager| interner.string(&manager)),
        copy_of: marks.as_ref().and_then(|marks| marks.in_full(owned.data).cloned()),
        trust: Trust::default(),
        marks,
    }
}

/// The bytes of a source move; they are not copied.
pub(crate) fn source_secret(body: SourceSecretBody) -> SourceSecret {
    let bytes = |(key, ByteString(value))| (key, SecretBytes::from(value));
    SourceSecret {
        kind: body.kind.unwrap_or_else(|| "Opaque".to_owned()),
        version: format!("{}/{}", body.metadata.uid, body.metadata.resource_version),
        labelled: body.metadata.label(names::SOURCE_LABEL) == Some("true"),
        expires_at: body
            .metadata
            .annotation(names::EXPIRES_AT_ANNOTATION)
            .map(|text| text.chars().take(65).collect()),
        purpose: purpose(&body.metadata),
        data: body.data.unwrap_or_default().into_iter().map(bytes).collect(),
    }
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

/// The annotations by which Kubernetes and OpenShift tie a Secret with a token to its ServiceAccount. OpenShift makes
/// such Secrets of type `kubernetes.io/dockercfg`.
const OF_SERVICE_ACCOUNT: [&str; 2] =
    ["kubernetes.io/service-account.name", "openshift.io/internal-registry-auth-token.service-account"];

/// What a Secret of the source namespace is made for, where that is no source.
fn purpose(metadata: &Metadata) -> Option<Purpose> {
    if marks(metadata, &OwnedFields::default(), &CopyKeys::default()).is_some() {
        Some(Purpose::Copy)
    } else if OF_SERVICE_ACCOUNT.iter().any(|key| metadata.annotation(key).is_some()) {
        Some(Purpose::ServiceAccount)
    } else {
        (metadata.label(names::SOURCE_LABEL) == Some("identity")).then_some(Purpose::Identity)
    }
}

/// The names in the annotation that says which entries are ours.
fn attached(metadata: &Metadata) -> impl Iterator<Item = &str> {
    let text = metadata.annotation(names::ATTACHED_ANNOTATION).unwrap_or_default();
    text.split(',').map(str::trim).filter(|name| (1..=LONGEST_NAME).contains(&name.len()))
}

/// What counts of a list and of the annotation about it, whoever wrote them.
struct Entries<'a> {
    names: Vec<&'a str>,
    marked: Vec<&'a str>,
    oversized: bool,
}

impl<'a> Entries<'a> {
    /// Of a list that is not written anyway, only the names that the annotation has, too: they are in place. Of marked
    /// names that are not on the list only the first few count.
    fn read(metadata: &'a Metadata, list: &'a [Reference]) -> Self {
        let names = || list.iter().map(|entry| entry.name.as_str());
        let oversized = list.len() > MAX_ENTRIES || names().any(|name| name.len() > LONGEST_NAME);
        let on_list: BTreeSet<&str> = names().collect();
        let (listed, others): (BTreeSet<&str>, BTreeSet<&str>) =
            attached(metadata).partition(|name| on_list.contains(name));
        if oversized {
            let names = listed.into_iter().take(MAX_ENTRIES).collect();
            return Self { names, marked: Vec::new(), oversized };
        }
        let marked: BTreeSet<&str> = others.into_iter().take(MAX_MARKED).chain(listed).collect();
        Self { names: names().collect(), marked: marked.into_iter().collect(), oversized }
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

/// What server-side apply by our field manager still owns on a Secret.
#[derive(Default)]
struct OwnedFields {
    data: bool,
    labels: BTreeSet<String>,
    annotations: BTreeSet<String>,
}

impl OwnedFields {
    fn of(metadata: &Metadata) -> Self {
        let ours = metadata.managed_fields().filter(|entry| entry.is_our_apply());
        let mut owned = Self::default();
        for fields in ours.filter_map(|entry| entry.fields.as_ref()) {
            owned.data |= fields.data.0.contains(names::SECRET_KEY);
            owned.labels.extend(fields.metadata.labels.0.iter().cloned());
            owned.annotations.extend(fields.metadata.annotations.0.iter().cloned());
        }
        owned
    }
}

fn fields_of(metadata: &Metadata) -> impl Iterator<Item = &FieldSet> {
    metadata.managed_fields().filter_map(|entry| entry.fields.as_ref())
}

/// The manager that last wrote `imagePullSecrets`: an atomic list has one owner.
fn list_manager(metadata: &Metadata) -> Option<&str> {
    last_other_writer(metadata, |fields| fields.image_pull_secrets.is_some())
}

fn data_manager(metadata: &Metadata) -> Option<&str> {
    last_other_writer(metadata, |fields| fields.data.0.contains(names::SECRET_KEY))
}

/// The manager, other than our own, that last wrote a field. Where none owns it, the last writer of anything took it
/// off.
fn last_other_writer(metadata: &Metadata, owns: impl Fn(&FieldSet) -> bool) -> Option<&str> {
    let others = || {
        let all = metadata.managed_fields();
        all.filter(|entry| entry.manager.as_deref() != Some(names::FIELD_MANAGER))
    };
    let owners = others().filter(|entry| entry.fields.as_ref().is_some_and(&owns));
    let writer = owners.max_by_key(|entry| &entry.time);
    writer.or_else(|| others().max_by_key(|entry| &entry.time))?.manager.as_deref()
}

/// A name or UID, unless it is longer than any.
fn short(text: Option<&str>) -> Option<Arc<str>> {
    text.filter(|text| text.len() <= LONGEST_NAME).map(Arc::from)
}

fn marks(metadata: &Metadata, owned: &OwnedFields, kept: &CopyKeys) -> Option<Marks> {
    let owner_uid = metadata.owners().find_map(|owner| {
        let group = owner.api_version.split('/').next();
        let ours = group == Some(names::GROUP) && owner.kind == "RegistryCredential";
        short(Some(&owner.uid)).filter(|_| ours)
    });
    let labels = metadata.labels().filter(|(key, _)| owned.labels.contains(*key));
    let annotations = metadata.annotations().filter(|(key, _)| owned.annotations.contains(*key));
    let (labels, more_labels) = kept_of(labels, |key| kept.keep_label(key));
    let (annotations, more_annotations) = kept_of(annotations, |key| kept.keep_annotation(key));
    let marks = Marks {
        credential_uid: short(metadata.annotation(names::CREDENTIAL_UID_ANNOTATION)),
        credential_name: metadata.label(names::CREDENTIAL_LABEL).map(Arc::from),
        labels,
        annotations,
        owns_more: more_labels || more_annotations,
        owner_uid,
        retained_from: short(metadata.annotation(names::RETAINED_FROM_ANNOTATION)),
    };
    let is_marked = marks.credential_uid.is_some()
        || marks.owner_uid.is_some()
        || marks.credential_name.is_some()
        || marks.retained_from.is_some();
    is_marked.then_some(marks)
}

/// What is kept of labels or annotations, and whether there are others.
fn kept_of<'a>(
    all: impl Iterator<Item = (&'a String, &'a String)>,
    keeps: impl Fn(&str) -> bool,
) -> (Strings, bool) {
    let (mut kept, mut more) = (Strings::new(), false);
    for (key, value) in all {
        if keeps(key) && value.len() <= LONGEST_VALUE {
            kept.insert(key.clone(), value.clone());
        } else {
            more = true;
        }
    }
    (kept, more)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::interest::{Asked, Interests};
    use crate::received::{Received, Undecodable};

    fn read<T: Body>(object: &Value) -> T {
        let received: Received<T> = serde_json::from_str(&object.to_string()).expect("an object with a name");
        received.into_body().expect("one that fits its type")
    }

    fn managed(manager: &str, operation: &str, time: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    /// Of credentials that select by `pull`, and whose copies carry `team`.
    fn interests() -> Interests {
        let names = |name: &str| [Arc::from(name)].into();
        let mut interests = Interests::default();
        interests.add(&Asked {
            namespace_labels: names("pull"),
            account_labels: names("pull"),
            copy_labels: names("team"),
            ..Asked::default()
        });
        interests
    }

    fn observed(metadata: &Value) -> Secret {
        let kept = interests().copies;
        secret(&read(&json!({"metadata": metadata})), false, &kept, &mut Interner::default())
    }

    fn our_fields() -> Value {
        json!({
            "f:data": {".": {}, "f:.dockerconfigjson": {}},
            "f:metadata": {
                "f:labels": {"f:regcred.dev/credential": {}, "f:team": {}},
                "f:annotations": {"f:regcred.dev/credential-uid": {}},
            },
        })
    }

    fn copy(managed_fields: &[Value]) -> Value {
        json!({
            "name": "pull", "namespace": "shop", "uid": "s1", "resourceVersion": "7",
            "labels": {"regcred.dev/credential": "pull", "team": "a", "theirs": "x"},
            "annotations": {"regcred.dev/credential-uid": "c1", "note": "theirs"},
            "managedFields": managed_fields,
        })
    }

    #[test]
    fn only_what_our_apply_owns_counts_as_ours() {
        let secret = observed(&copy(&[
            managed(
                "kubectl",
                "Update",
                "2026-01-02T00:00:00Z",
                &json!({"f:metadata": {"f:labels": {"f:theirs": {}}}}),
            ),
            managed("regcred", "Apply", "2026-01-01T00:00:00Z", &our_fields()),
        ]));
        assert!(secret.owns_data);
        let marks = secret.marks.expect("marks");
        assert_eq!(marks.labels.keys().collect::<Vec<_>>(), ["regcred.dev/credential", "team"]);
        assert_eq!(marks.annotations.keys().collect::<Vec<_>>(), ["regcred.dev/credential-uid"]);
    }

    #[test]
    fn data_that_another_manager_or_operation_owns_is_drift() {
        for (manager, operation) in [("kubectl-edit", "Update"), ("regcred", "Update"), ("argocd", "Apply")] {
            let secret =
                observed(&copy(&[managed(manager, operation, "2026-01-01T00:00:00Z", &our_fields())]));
            assert!(!secret.owns_data, "{manager} {operation}");
            assert!(secret.marks.expect("marks").labels.is_empty(), "{manager} {operation}");
        }
    }

    #[test]
    fn the_annotated_credential_and_the_owner_are_read_apart() {
        let owner = |api_version: &str, kind: &str| json!([{"apiVersion": api_version, "kind": kind, "name": "pull", "uid": "c2"}]);
        let uids = |metadata: Value| {
            let marks = observed(&metadata).marks.map(|marks| (*marks).clone()).unwrap_or_default();
            [marks.credential_uid, marks.owner_uid]
                .map(|uid| uid.map_or(String::new(), |uid| uid.to_string()))
        };
        let ours = owner("regcred.dev/v1alpha1", "RegistryCredential");
        let annotated = json!({"name": "a", "annotations": {"regcred.dev/credential-uid": "c1"}, "ownerReferences": ours});
        assert_eq!(uids(annotated), ["c1", "c2"]);
        assert_eq!(uids(json!({"name": "a", "ownerReferences": ours})), ["", "c2"]);
        for foreign in [
            owner("v1", "RegistryCredential"),
            owner("regcred.dev/v1alpha1", "Other"),
            owner("regcred.devil/v1", "RegistryCredential"),
        ] {
            assert_eq!(uids(json!({"name": "a", "ownerReferences": foreign})), ["", ""], "{foreign}");
        }
    }

    #[test]
    fn a_secret_without_our_marks_is_foreign() {
        assert_eq!(
            observed(&json!({"name": "a", "labels": {"app.kubernetes.io/managed-by": "regcred"}})).marks,
            None
        );
        assert!(
            observed(&json!({"name": "a", "labels": {"regcred.dev/credential": "pull"}})).marks.is_some()
        );
    }

    #[test]
    fn what_else_somebody_wrote_under_our_name_is_known_and_not_kept() {
        let mut metadata = copy(&[managed("regcred", "Apply", "2026-01-01T00:00:00Z", &our_fields())]);
        assert!(!observed(&metadata).marks.unwrap().owns_more);
        metadata["labels"]["team"] = json!("x".repeat(5000));
        let marks = observed(&metadata).marks.unwrap();
        assert!(marks.owns_more && !marks.labels.contains_key("team"));
        for kind in ["labels", "annotations"] {
            let mut fields = our_fields();
            fields["f:metadata"][format!("f:{kind}")]["f:note"] = json!({});
            let mut metadata = copy(&[managed("regcred", "Apply", "2026-01-01T00:00:00Z", &fields)]);
            metadata[kind]["note"] = json!("x".repeat(1000));
            let marks = observed(&metadata).marks.unwrap();
            assert!(marks.owns_more, "{kind}");
            assert!(!marks.labels.contains_key("note") && !marks.annotations.contains_key("note"));
        }
    }

    #[test]
    fn of_labels_only_those_are_kept_that_a_selector_names() {
        let many: serde_json::Map<_, _> = (0..30_000)
            .map(|number| (format!("l{number}"), json!("x")))
            .chain([("pull".into(), json!("yes"))])
            .collect();
        let account = account(&json!({"name": "default", "labels": many}), &json!([]));
        assert_eq!(account.labels.iter().collect::<Vec<_>>(), [(&"pull".to_owned(), &"yes".to_owned())]);
    }

    #[test]
    fn immutable_shows_whoever_set_it() {
        let frozen = managed("kubectl", "Update", "2026-01-01T00:00:00Z", &json!({"f:immutable": {}}));
        assert!(observed(&json!({"name": "a", "managedFields": [frozen]})).immutable);
        assert!(!observed(&json!({"name": "a"})).immutable);
    }

    fn account(metadata: &Value, list: &Value) -> ServiceAccount {
        let object = json!({"metadata": metadata, "imagePullSecrets": list});
        service_account(&read(&object), &interests().service_accounts, &mut Interner::default())
    }

    #[test]
    fn a_list_is_read_as_it_is_with_its_repeats() {
        let names = |list: Value| account(&json!({"name": "default"}), &list).image_pull_secrets;
        assert_eq!(
            names(json!([{"name": "b"}, {"name": "a"}, {"name": "b"}, {}])),
            ["b", "a", "b", ""].map(Arc::from)
        );
        assert!(names(Value::Null).is_empty());
    }

    #[test]
    fn marks_of_entries_are_read_however_they_are_written_and_not_without_end() {
        let marked = |text: &str| {
            let metadata = json!({"name": "default", "annotations": {"regcred.dev/attached": text}});
            account(&metadata, &json!([])).marked
        };
        assert_eq!(marked("b,a"), ["a", "b"].map(Arc::from));
        assert_eq!(marked(" b ,, b,"), ["b"].map(Arc::from));
        assert!(marked("").is_empty() && marked(&"x".repeat(254)).is_empty());
        let many: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
        assert_eq!(marked(&many.join(",")).len(), 64);
        let metadata = json!({"name": "default", "annotations": {"regcred.dev/attached": many.join(",")}});
        let list: Vec<_> = many[9_000..9_050].iter().map(|name| json!({"name": name})).collect();
        assert_eq!(account(&metadata, &json!(list)).marked.len(), 114, "what is on the list is known anyway");
    }

    #[test]
    fn of_a_list_that_is_never_written_only_our_own_entries_are_kept() {
        let metadata = json!({"name": "default", "annotations": {"regcred.dev/attached": "pull,former"}});
        let named = |names: &[String]| {
            let list: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
            account(&metadata, &json!(list))
        };
        let mut names: Vec<_> = (0..63).map(|number| format!("n{number}")).collect();
        names.push("pull".to_owned());
        let full = named(&names);
        assert!(!full.oversized && full.image_pull_secrets.len() == 64 && full.marks("former"));
        let longer = [names.clone(), vec!["n64".to_owned()]].concat();
        names[0] = "x".repeat(254);
        for names in [longer, names] {
            let account = named(&names);
            assert!(account.oversized && account.marked.is_empty(), "{names:?}");
            assert_eq!(account.image_pull_secrets, [Arc::from("pull")]);
        }
    }

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
    fn the_writer_of_a_list_is_its_owner_or_else_the_last_other_writer() {
        let list = json!({"f:imagePullSecrets": {}});
        let manager = |managed_fields: &[Value]| {
            account(&json!({"name": "default", "managedFields": managed_fields}), &json!([])).list_manager
        };
        let helm = managed("helm", "Update", "2026-01-01T00:00:00Z", &list);
        let later = managed("kubectl", "Update", "2026-01-02T00:00:00Z", &json!({"f:metadata": {}}));
        let ours = managed("regcred", "Update", "9999-12-31T23:59:59Z", &json!({}));
        assert_eq!(manager(&[helm, later.clone(), ours.clone()]).as_deref(), Some("helm"));
        assert_eq!(manager(&[later, ours]).as_deref(), Some("kubectl"));
        assert_eq!(manager(&[]), None);
    }

    #[test]
    fn a_namespace_is_read_with_what_excludes_it() {
        let kept = interests().namespaces;
        let read = |metadata: Value| {
            namespace(&read(&json!({"metadata": metadata})), &kept, &mut Interner::default())
        };
        let plain = read(json!({"name": "a", "uid": "n1", "labels": {"pull": "yes"}}));
        assert_eq!((plain.excluded, plain.terminating, plain.labels["pull"].as_str()), (false, false, "yes"));
        for (value, excluded) in [
            ("true", true),
            ("True", true),
            ("1", true),
            ("yes", true),
            ("no", true),
            ("false", false),
            ("", false),
        ] {
            let annotations = json!({"regcred.dev/exclude": value});
            assert_eq!(
                read(json!({"name": "a", "annotations": annotations})).excluded,
                excluded,
                "{value:?}"
            );
        }
        assert!(read(json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"})).terminating);
    }

    #[test]
    fn what_the_api_server_stores_is_read_however_odd() {
        let deep = (0..500).fold(json!({}), |inner, _| json!({"f:x": inner}));
        for metadata in [
            json!({"name": "a", "labels": null, "annotations": null, "managedFields": null, "ownerReferences": null}),
            json!({"name": "a", "managedFields": [managed("x", "Update", "9999-12-31T23:59:59Z", &json!({}))]}),
            json!({"name": "a", "managedFields": [managed("x", "Update", "0001-01-01T00:00:00Z", &deep)]}),
            json!({"name": "a", "managedFields": [{"manager": "x", "fieldsV1": null}, {}]}),
            json!({"name": "a", "deletionTimestamp": "9999-12-31T23:59:59Z", "selfLink": 7, "unknown": [[]]}),
        ] {
            let object = json!({"metadata": metadata, "unknown": {"x": 1}, "secrets": null});
            read::<ServiceAccountBody>(&object);
            read::<SecretBody>(&object);
            read::<NamespaceBody>(&object);
            read::<SourceSecretBody>(&object);
            read::<CredentialBody>(&object);
        }
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

    #[test]
    fn a_source_is_read_with_what_it_is_made_for() {
        let read = |metadata: Value| {
            let source = source_secret(read(&json!({"metadata": metadata})));
            (source.labelled, source.purpose)
        };
        let labelled = |value: &str| json!({"name": "bot", "labels": {"regcred.dev/source": value}});
        assert_eq!(read(labelled("true")), (true, None));
        assert_eq!(read(labelled("identity")), (false, Some(Purpose::Identity)));
        assert_eq!(read(labelled("True")), (false, None));
        let mark = json!({"regcred.dev/credential-uid": "c1"});
        assert_eq!(read(json!({"name": "bot", "annotations": mark})), (false, Some(Purpose::Copy)));
        let mark = json!({"regcred.dev/credential": "pull"});
        assert_eq!(read(json!({"name": "bot", "labels": mark})), (false, Some(Purpose::Copy)));
        for key in OF_SERVICE_ACCOUNT {
            let annotated = json!({"name": "regcred-dockercfg", "annotations": {key: "regcred"}});
            assert_eq!(read(annotated), (false, Some(Purpose::ServiceAccount)), "{key}");
        }
    }

    #[test]
    fn the_data_of_a_source_is_decoded_and_its_type_defaults_to_opaque() {
        let source = source_secret(read(&json!({"metadata": {"name": "bot"}, "data": {"user": "Ym90"}})));
        assert_eq!(source.kind, "Opaque");
        assert_eq!(source.data["user"].expose(), b"bot");
    }

    #[test]
    fn an_object_that_does_not_fit_is_named_and_fails_nothing_else() {
        let text =
            r#"{"metadata": {"name": "odd", "namespace": "shop", "resourceVersion": "9"}, "data": {"k": 7}}"#;
        let received: Received<SourceSecretBody> = serde_json::from_str(text).expect("one with a name");
        assert_eq!(
            (received.namespace(), received.name(), received.resource_version()),
            ("shop", "odd", "9")
        );
        assert_eq!(format!("{received:?}"), "shop/odd");
        assert_eq!(received.into_body().err(), Some(Undecodable));

        let list = format!(
            r#"{{"apiVersion":"v1","kind":"SecretList","metadata":{{}},"items":[{text},{{"metadata":{{"name":"good"}}}}]}}"#
        );
        let list: kube_core::ObjectList<Received<SourceSecretBody>> =
            serde_json::from_str(&list).expect("a list");
        let readable: Vec<_> = list.items.iter().map(Received::is_readable).collect();
        assert_eq!(readable, [false, true]);

        let event = format!(r#"{{"type":"MODIFIED","object":{text}}}"#);
        let event: kube_core::watch::WatchEvent<Received<SourceSecretBody>> =
            serde_json::from_str(&event).expect("an event");
        assert!(matches!(event, kube_core::watch::WatchEvent::Modified(received) if !received.is_readable()));
    }
}
