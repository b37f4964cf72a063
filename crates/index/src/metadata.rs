//! `metadata`, as far as regcred reads it. Anybody who may write an object decides what is in it, so every
//! type here accepts whatever the API server stores: times stay text, because Go accepts years that jiff does not,
//! and what is not read is skipped without building it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use regcred_api::names;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The longest qualified name: 253 characters of a domain, a slash, 63 of a name.
const LONGEST_FINALIZER: usize = 317;

/// Labels or annotations.
pub(crate) type Strings = BTreeMap<String, String>;

/// The members of `metadata` that regcred reads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) creation_timestamp: Option<String>,
    deletion_timestamp: Option<IgnoredAny>,
    labels: Option<Strings>,
    annotations: Option<Strings>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<OwnerReference>>,
    managed_fields: Option<Vec<ManagedFields>>,
}

/// An entry of `ownerReferences`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct OwnerReference {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) uid: String,
}

/// An entry of `managedFields`: what one field manager owns by one operation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ManagedFields {
    pub(crate) manager: Option<String>,
    pub(crate) operation: Option<String>,
    /// RFC 3339 in UTC, as the API server writes it: later times are larger as text, too.
    pub(crate) time: Option<String>,
    #[serde(rename = "fieldsV1")]
    pub(crate) fields: Option<FieldSet>,
}

/// The fields of a `fieldsV1` that regcred looks for. It is a tree of maps in which `f:name` is a field
/// (sigs.k8s.io/structured-merge-diff, fieldpath/serialize.go).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FieldSet {
    #[serde(rename = "f:metadata")]
    pub(crate) metadata: MetadataFields,
    #[serde(rename = "f:data")]
    pub(crate) data: FieldNames,
    #[serde(rename = "f:immutable")]
    pub(crate) immutable: Option<IgnoredAny>,
    #[serde(rename = "f:imagePullSecrets")]
    pub(crate) image_pull_secrets: Option<IgnoredAny>,
}

/// The fields below `f:metadata`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MetadataFields {
    #[serde(rename = "f:labels")]
    pub(crate) labels: FieldNames,
    #[serde(rename = "f:annotations")]
    pub(crate) annotations: FieldNames,
}

/// The names of the fields in one map of a `fieldsV1`.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldNames(pub(crate) BTreeSet<String>);

impl Metadata {
    pub(crate) fn is_being_deleted(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// Whether the annotation on it opts the object out.
    pub(crate) fn is_excluded(&self) -> bool {
        self.annotation(names::EXCLUDE_ANNOTATION).is_some_and(names::opts_out)
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    pub(crate) fn take_finalizers(&mut self) -> Vec<String> {
        self.finalizers.take().unwrap_or_default()
    }

    /// The first finalizer, unless it is longer than any may be.
    pub(crate) fn first_finalizer(&self) -> Option<&str> {
        let first = self.finalizers.as_ref()?.first()?;
        (first.len() <= LONGEST_FINALIZER).then_some(first)
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = (&String, &String)> {
        self.labels.iter().flatten()
    }

    pub(crate) fn annotations(&self) -> impl Iterator<Item = (&String, &String)> {
        self.annotations.iter().flatten()
    }

    pub(crate) fn owners(&self) -> impl Iterator<Item = &OwnerReference> {
        self.owner_references.iter().flatten()
    }

    pub(crate) fn managed_fields(&self) -> impl Iterator<Item = &ManagedFields> {
        self.managed_fields.iter().flatten()
    }
}

impl ManagedFields {
    /// Whether this is what regcred's field manager owns.
    pub(crate) fn is_ours(&self) -> bool {
        self.manager.as_deref() == Some(names::FIELD_MANAGER)
    }

    /// Whether it is owned by server-side apply.
    pub(crate) fn is_applied(&self) -> bool {
        self.operation.as_deref() == Some("Apply")
    }
}

impl<'de> Deserialize<'de> for FieldNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldNamesVisitor)
    }
}

struct FieldNamesVisitor;

impl<'de> Visitor<'de> for FieldNamesVisitor {
    type Value = FieldNames;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of a fieldsV1")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldNames, A::Error> {
        let mut names = BTreeSet::new();
        while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            // `.` is the map itself, and no field.
            if let Some(name) = key.strip_prefix("f:") {
                names.insert(name.to_owned());
            }
        }
        Ok(FieldNames(names))
    }
}
