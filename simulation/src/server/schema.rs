//! What Kubernetes knows of the fields of each kind: which lists and maps belong to several managers at once, and
//! which values are filled in.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::kind::Kind;

/// How a value is owned (sigs.k8s.io/structured-merge-diff, schema).
#[derive(Clone, Debug)]
pub enum Shape {
    /// As one.
    Leaf,
    /// Member by member, with members that the schema names.
    Struct(BTreeMap<String, Shape>),
    /// Member by member, whatever their names.
    Map(Box<Shape>),
    /// Item by item.
    Set,
    /// Item by item, told apart by these members.
    Keyed(Vec<String>, Box<Shape>),
}

static SHAPES: LazyLock<BTreeMap<Kind, Shape>> =
    LazyLock::new(|| Kind::ALL.into_iter().map(|kind| (kind, shape(kind))).collect());

/// The schema of a RegistryCredential, as the CRD gives it.
static CREDENTIAL: LazyLock<Value> = LazyLock::new(|| {
    let definition = serde_json::to_value(regcred_api::crd::definition()).unwrap_or_default();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
});

impl Shape {
    /// The shape of a kind's objects.
    pub fn of(kind: Kind) -> &'static Self {
        SHAPES.get(&kind).unwrap_or(&Self::Leaf)
    }

    /// The shape of a member, and whether the schema names it.
    pub fn member(&self, name: &str) -> (&Self, bool) {
        match self {
            Self::Struct(members) => members.get(name).map_or((&Self::Leaf, false), |shape| (shape, true)),
            Self::Map(shape) => (shape, false),
            _ => (&Self::Leaf, false),
        }
    }
}

fn members<const COUNT: usize>(members: [(&str, Shape); COUNT]) -> Shape {
    Shape::Struct(members.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect())
}

fn keyed(key: &str) -> Shape {
    Shape::Keyed(vec![key.to_owned()], Box::new(Shape::Leaf))
}

fn text_map() -> Shape {
    Shape::Map(Box::new(Shape::Leaf))
}

fn leaves(names: &[&str]) -> Shape {
    Shape::Struct(names.iter().map(|name| ((*name).to_owned(), Shape::Leaf)).collect())
}

fn metadata() -> Shape {
    members([
        ("annotations", text_map()),
        ("finalizers", Shape::Set),
        ("labels", text_map()),
        ("ownerReferences", keyed("uid")),
    ])
}

fn shape(kind: Kind) -> Shape {
    let Shape::Struct(mut shape) = body(kind) else { return Shape::Leaf };
    shape.insert("metadata".to_owned(), metadata());
    Shape::Struct(shape)
}

fn body(kind: Kind) -> Shape {
    match kind {
        Kind::Namespace => members([("spec", leaves(&["finalizers"])), ("status", leaves(&["phase"]))]),
        Kind::ServiceAccount => members([
            ("automountServiceAccountToken", Shape::Leaf),
            ("imagePullSecrets", Shape::Leaf),
            ("secrets", keyed("name")),
        ]),
        Kind::Secret => members([("data", text_map()), ("immutable", Shape::Leaf), ("type", Shape::Leaf)]),
        Kind::Lease => members([(
            "spec",
            leaves(&[
                "acquireTime",
                "holderIdentity",
                "leaseDurationSeconds",
                "leaseTransitions",
                "preferredHolder",
                "renewTime",
                "strategy",
            ]),
        )]),
        Kind::Event => {
            let Shape::Struct(mut event) = leaves(&[
                "action",
                "eventTime",
                "note",
                "reason",
                "regarding",
                "related",
                "reportingController",
                "reportingInstance",
                "type",
            ]) else {
                return Shape::Leaf;
            };
            event.insert("series".to_owned(), leaves(&["count", "lastObservedTime"]));
            Shape::Struct(event)
        }
        Kind::RegistryCredential => from_schema(&CREDENTIAL),
    }
}

fn from_schema(schema: &Value) -> Shape {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => return Shape::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            let keys = keys.filter_map(|key| key.as_str().map(str::to_owned)).collect();
            return Shape::Keyed(keys, Box::new(from_schema(&schema["items"])));
        }
        _ => {}
    }
    if schema["additionalProperties"].is_object() {
        return Shape::Map(Box::new(from_schema(&schema["additionalProperties"])));
    }
    match schema["properties"].as_object() {
        Some(properties) if schema["x-kubernetes-map-type"] != "atomic" => {
            Shape::Struct(properties.iter().map(|(name, own)| (name.clone(), from_schema(own))).collect())
        }
        _ => Shape::Leaf,
    }
}

/// Fills in what the API server fills in as it reads an object, and drops what it does not know or does not keep.
pub fn fill(kind: Kind, object: &mut Value) {
    match kind {
        Kind::Secret if object["type"].is_null() => object["type"] = json!("Opaque"),
        Kind::Lease if object["spec"].is_null() => object["spec"] = json!({}),
        Kind::Event => {
            for (member, value) in blank(kind).as_object().into_iter().flatten() {
                if object[member].is_null() {
                    object[member] = value.clone();
                }
            }
        }
        Kind::Namespace => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        Kind::RegistryCredential => {
            for part in ["spec", "status"] {
                if let Some(value) = object.get_mut(part) {
                    fill_from(&CREDENTIAL["properties"][part], value);
                }
            }
        }
        _ => {}
    }
    drop_empty(kind, object);
}

/// What a kind's objects hold before anybody writes.
pub fn blank(kind: Kind) -> Value {
    match kind {
        Kind::Namespace => json!({"metadata": {}, "spec": {}, "status": {}}),
        Kind::Lease => json!({"metadata": {}, "spec": {}}),
        Kind::Event => json!({
            "metadata": {}, "deprecatedSource": {},
            "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": null,
        }),
        _ => json!({"metadata": {}}),
    }
}

fn fill_from(schema: &Value, value: &mut Value) {
    if let (Some(properties), Some(members)) = (schema["properties"].as_object(), value.as_object_mut()) {
        members.retain(|name, _| properties.contains_key(name));
        for (name, schema) in properties {
            fill_member(schema, name, members);
        }
    } else if let Some(items) = value.as_array_mut() {
        for item in items {
            fill_from(&schema["items"], item);
        }
    }
}

fn fill_member(schema: &Value, name: &str, members: &mut Map<String, Value>) {
    let default = &schema["default"];
    let lacking = members.get(name).is_none_or(|value| value.is_null() && schema["nullable"] != true);
    if lacking && !default.is_null() {
        members.insert(name.to_owned(), default.clone());
    }
    if let Some(value) = members.get_mut(name) {
        fill_from(schema, value);
    }
}

/// Go leaves empty maps and lists of typed objects out.
fn drop_empty(kind: Kind, object: &mut Value) {
    drop_empty_metadata(object);
    if kind != Kind::RegistryCredential {
        drop_empty_members(object, &["data", "imagePullSecrets", "secrets"]);
    }
}

const METADATA: [&str; 5] = ["labels", "annotations", "finalizers", "ownerReferences", "managedFields"];

/// The same in metadata, which is typed in every kind.
pub fn drop_empty_metadata(object: &mut Value) {
    drop_empty_members(&mut object["metadata"], &METADATA);
}

fn drop_empty_members(object: &mut Value, names: &[&str]) {
    if let Some(members) = object.as_object_mut() {
        members.retain(|name, value| !names.contains(&name.as_str()) || !is_empty(value));
    }
}

/// Whether a value is null, or a map or list without content.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
