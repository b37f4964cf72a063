//! Patches of every kind that the operator and the people of the simulation send.

use serde_json::{Value, json};

use super::refusal::Refusal;

/// JSON merge patch (RFC 7386).
pub fn merge(at: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        *at = patch.clone();
        return;
    };
    if !at.is_object() {
        *at = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            drop(at.as_object_mut().map(|members| members.remove(name)));
        } else {
            merge(&mut at[name], value);
        }
    }
    drop_empty_maps(at);
}

/// Strategic merge patch: as above, but that ownerReferences are merged by uid, and `$patch: delete` takes one out.
pub fn strategic(at: &mut Value, patch: &Value) {
    let mut rest = patch.clone();
    let owners = rest["metadata"].as_object_mut().and_then(|metadata| metadata.remove("ownerReferences"));
    for owner in owners.as_ref().and_then(Value::as_array).into_iter().flatten() {
        merge_owner(&mut at["metadata"], owner);
    }
    merge(at, &rest);
}

fn merge_owner(metadata: &mut Value, owner: &Value) {
    let mut owners = metadata["ownerReferences"].as_array().cloned().unwrap_or_default();
    owners.retain(|own| own["uid"] != owner["uid"]);
    if owner["$patch"] != "delete" {
        owners.push(owner.clone());
    }
    metadata["ownerReferences"] = json!(owners);
    if owners.is_empty() {
        drop(metadata.as_object_mut().map(|members| members.remove("ownerReferences")));
    }
}

/// JSON patch (RFC 6902): `test`, `add` and `remove` on members of objects.
pub fn json(at: &mut Value, operations: &Value) -> Result<(), Refusal> {
    for operation in operations.as_array().into_iter().flatten() {
        let path = operation["path"].as_str().unwrap_or_default();
        let (parent, member) = path.rsplit_once('/').unwrap_or_default();
        let (value, parent) = (&operation["value"], at.pointer_mut(parent));
        let Some(parent) = parent.filter(|parent| parent.is_object()) else {
            return Err(Refusal::invalid("the path does not exist"));
        };
        match operation["op"].as_str() {
            Some("add") => parent[member] = value.clone(),
            Some("test") if parent[member] == *value => {}
            _ => return Err(Refusal::invalid("testing value failed, or an operation that is not served")),
        }
    }
    Ok(())
}

/// Go leaves empty maps of a typed object out.
fn drop_empty_maps(at: &mut Value) {
    if let Some(members) = at.as_object_mut() {
        members.retain(|name, value| {
            !matches!(name.as_str(), "labels" | "annotations" | "data")
                || value.as_object().is_none_or(|map| !map.is_empty())
        });
    }
}
