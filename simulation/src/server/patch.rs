//! Patches, but for those of server-side apply.

use serde_json::{Value, json};

use super::refusal::Refusal;

/// Lists that a strategic merge patch merges: where, and by which member; none for lists of plain values.
const MERGED: [(&str, &str, Option<&str>); 3] = [
    ("/metadata", "ownerReferences", Some("uid")),
    ("/metadata", "finalizers", None),
    ("", "secrets", Some("name")),
];

/// JSON merge patch (RFC 7386).
pub fn merge(at: &mut Value, patch: &Value) {
    json_patch::merge(at, patch);
}

/// Strategic merge patch: as above, but some lists are merged, and `$patch: delete` takes an item out.
pub fn strategic(at: &mut Value, patch: &Value) {
    let mut rest = patch.clone();
    for (parent, member, key) in MERGED {
        let given = rest.pointer_mut(parent).and_then(Value::as_object_mut);
        let given = given.and_then(|members| members.remove(member));
        match (given, at.pointer_mut(parent)) {
            (Some(Value::Null), Some(parent)) => parent[member] = json!([]),
            (Some(items), Some(parent)) => merge_list(parent, member, &items, key),
            _ => {}
        }
    }
    json_patch::merge(at, &rest);
}

/// What the patch names comes first (k8s.io/apimachinery, util/strategicpatch).
fn merge_list(parent: &mut Value, member: &str, items: &Value, key: Option<&str>) {
    let is_same = |one: &Value, other: &Value| key.map_or(one == other, |key| one[key] == other[key]);
    let live = parent[member].as_array().cloned().unwrap_or_default();
    let items = items.as_array().cloned().unwrap_or_default();
    let place = |item: &Value| live.iter().position(|own| is_same(own, item));
    let named = items.iter().filter(|item| item["$patch"] != "delete").map(|item| {
        let mut merged = place(item).map_or(Value::Null, |at| live[at].clone());
        json_patch::merge(&mut merged, item);
        merged
    });
    let mut rest = live.iter().filter(|own| !items.iter().any(|item| is_same(own, item))).cloned().peekable();
    let mut all = Vec::new();
    for item in named {
        while rest.peek().is_some_and(|own| place(&item).is_some_and(|at| place(own) < Some(at))) {
            all.extend(rest.next());
        }
        all.push(item);
    }
    all.extend(rest);
    parent[member] = json!(all);
}

/// JSON patch (RFC 6902).
pub fn json(at: &mut Value, operations: &Value) -> Result<(), Refusal> {
    let operations: json_patch::Patch = serde_json::from_value(operations.clone())
        .map_err(|error| Refusal::new(400, "BadRequest", format!("error decoding patch: {error}")))?;
    json_patch::patch(at, &operations).map_err(|_| Refusal::unfitting_patch())
}
