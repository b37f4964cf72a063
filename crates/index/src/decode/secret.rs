//! The metadata of a Secret, as it is received; the planner's type is what is kept of it. Drift shows in managedFields.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use regcred_api::names;
use regcred_planner::{Marks, Secret, Trust};
use serde::Deserialize;

use super::common::{body, last_other_writer, short};
use crate::interest::CopyKeys;
use crate::intern::Interner;
use crate::metadata::{FieldSet, Metadata, Strings};
use crate::received::Body;

/// The longest value of an annotation that a spec may ask for, in bytes: 1,024 characters.
const LONGEST_VALUE: usize = 4096;

/// The metadata of a Secret as it is received. The operator never asks for the data.
#[derive(Clone, Deserialize)]
pub struct SecretBody {
    metadata: Metadata,
}

body!(SecretBody, core::Secret, metadata_only: true);

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

/// What our field manager still owns on a Secret: all that server-side apply wrote, and of what a merge patch wrote the data and
/// the annotations that tell of it. regcred patches nothing else, so whatever more is owned that way is somebody else's.
#[derive(Default)]
pub(super) struct OwnedFields {
    data: bool,
    labels: BTreeSet<String>,
    annotations: BTreeSet<String>,
}

impl OwnedFields {
    fn of(metadata: &Metadata) -> Self {
        let ours = metadata.managed_fields().filter(|entry| entry.is_ours());
        let mut owned = Self::default();
        for (entry, fields) in ours.filter_map(|entry| Some((entry, entry.fields.as_ref()?))) {
            let annotations = fields.metadata.annotations.0.iter();
            let is_patched = |key: &&String| names::CONTENT_ANNOTATIONS.contains(&key.as_str());
            owned.data |= fields.data.0.contains(names::SECRET_KEY);
            owned
                .annotations
                .extend(annotations.filter(|key| entry.is_applied() || is_patched(key)).cloned());
            if entry.is_applied() {
                owned.labels.extend(fields.metadata.labels.0.iter().cloned());
            }
        }
        owned
    }
}

fn fields_of(metadata: &Metadata) -> impl Iterator<Item = &FieldSet> {
    metadata.managed_fields().filter_map(|entry| entry.fields.as_ref())
}

fn data_manager(metadata: &Metadata) -> Option<&str> {
    last_other_writer(metadata, |fields| fields.data.0.contains(names::SECRET_KEY))
}

pub(super) fn marks(metadata: &Metadata, owned: &OwnedFields, kept: &CopyKeys) -> Option<Marks> {
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
    use serde_json::{Value, json};

    use super::*;
    use crate::decode::fixtures::{interests, managed, read};

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
    fn data_that_another_manager_owns_is_drift() {
        for (manager, operation) in [("kubectl-edit", "Update"), ("argocd", "Apply")] {
            let secret =
                observed(&copy(&[managed(manager, operation, "2026-01-01T00:00:00Z", &our_fields())]));
            assert!(!secret.owns_data, "{manager} {operation}");
            assert!(secret.marks.expect("marks").labels.is_empty(), "{manager} {operation}");
        }
    }

    /// regcred patches data and the annotations that tell of it; whoever else writes under its name gains nothing by it.
    #[test]
    fn of_what_our_name_patched_only_data_and_what_tells_of_it_is_ours() {
        let fields = json!({
            "f:data": {"f:.dockerconfigjson": {}},
            "f:metadata": {
                "f:labels": {"f:team": {}},
                "f:annotations": {"f:regcred.dev/fingerprint": {}, "f:regcred.dev/credential-uid": {}, "f:note": {}},
            },
        });
        let mut metadata = copy(&[managed("regcred", "Update", "2026-01-01T00:00:00Z", &fields)]);
        metadata["annotations"]["regcred.dev/fingerprint"] = json!("f1");
        let secret = observed(&metadata);
        assert!(secret.owns_data);
        let marks = secret.marks.expect("marks");
        assert_eq!(marks.annotations.keys().collect::<Vec<_>>(), ["regcred.dev/fingerprint"]);
        assert!(marks.labels.is_empty() && !marks.owns_more);
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
    fn immutable_shows_whoever_set_it() {
        let frozen = managed("kubectl", "Update", "2026-01-01T00:00:00Z", &json!({"f:immutable": {}}));
        assert!(observed(&json!({"name": "a", "managedFields": [frozen]})).immutable);
        assert!(!observed(&json!({"name": "a"})).immutable);
    }
}
