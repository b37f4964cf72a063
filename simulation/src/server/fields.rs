//! Field ownership, as far as our kinds need it: which manager owns which field, and what server-side apply makes
//! of that. Lists are atomic, but for finalizers (a set) and ownerReferences (a map by uid).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// Elements of a path as `fieldsV1` writes them: `f:name`, `v:value`, `k:key`.
pub type Path = Vec<String>;
type Leaves = BTreeMap<Path, Value>;

/// Members that no manager owns.
const UNOWNED: [&str; 9] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// Who writes, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Writer {
    /// Field manager.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: &'static str,
    /// Whether through the subresource `status`.
    pub status: bool,
}

/// What one manager owns.
#[derive(Clone, Debug)]
struct Entry {
    writer: (String, String, bool),
    time: Value,
    fields: BTreeSet<Path>,
}

/// The entries after an update by `writer` turned `before` into `after`.
pub fn after_update(before: &Value, after: &Value, writer: &Writer, now: &str) -> Value {
    let (old, new) = (leaves(before), leaves(after));
    let changed: BTreeSet<Path> = different(&new, &old);
    let gone: BTreeSet<Path> = old.keys().filter(|path| !new.contains_key(*path)).cloned().collect();
    let mut entries = read(before);
    for entry in &mut entries {
        entry.fields.retain(|path| !changed.contains(path) && !gone.contains(path));
    }
    if !changed.is_empty() || !gone.is_empty() {
        own(&mut entries, writer, changed, now);
    }
    write(entries)
}

/// Server-side apply. The fields in conflict where it is not forced.
pub fn apply(
    live: &Value,
    applied: &Value,
    writer: &Writer,
    force: bool,
    now: &str,
) -> Result<Value, Vec<Path>> {
    let (stands, wanted) = (leaves(live), leaves(applied));
    let changed = different(&wanted, &stands);
    let mut entries = read(live);
    let identity = identity(writer);
    let (own_entries, mut others): (Vec<Entry>, Vec<Entry>) =
        entries.drain(..).partition(|entry| entry.writer == identity);
    let contested: Vec<Path> = changed
        .iter()
        .filter(|path| others.iter().any(|entry| entry.fields.contains(*path)))
        .cloned()
        .collect();
    if !force && !contested.is_empty() {
        return Err(contested);
    }
    for entry in &mut others {
        entry.fields.retain(|path| !contested.contains(path));
    }
    let mut merged = live.clone();
    for path in own_entries.iter().flat_map(|entry| &entry.fields) {
        let kept = wanted.contains_key(path) || others.iter().any(|entry| entry.fields.contains(path));
        if !kept {
            remove(&mut merged, path);
        }
    }
    for (path, value) in &wanted {
        set(&mut merged, path, value.clone());
    }
    let same = own_entries.first().is_some_and(|entry| entry.fields.iter().eq(wanted.keys()));
    let time = own_entries
        .first()
        .filter(|_| same && changed.is_empty())
        .map_or(json!(now), |entry| entry.time.clone());
    others.push(Entry { writer: identity, time, fields: wanted.into_keys().collect() });
    merged["metadata"]["managedFields"] = write(others);
    Ok(merged)
}

/// A path as causes name it: `.data..dockerconfigjson`.
pub fn dotted(path: &Path) -> String {
    path.iter().flat_map(|element| [".", element.split_once(':').map_or("", |(_, name)| name)]).collect()
}

fn different(of: &Leaves, from: &Leaves) -> BTreeSet<Path> {
    of.iter().filter(|(path, value)| from.get(*path) != Some(value)).map(|(path, _)| path.clone()).collect()
}

fn identity(writer: &Writer) -> (String, String, bool) {
    (writer.manager.clone(), writer.operation.to_owned(), writer.status)
}

fn own(entries: &mut Vec<Entry>, writer: &Writer, fields: BTreeSet<Path>, now: &str) {
    let identity = identity(writer);
    match entries.iter_mut().find(|entry| entry.writer == identity) {
        Some(entry) => {
            entry.fields.extend(fields);
            entry.time = json!(now);
        }
        None => entries.push(Entry { writer: identity, time: json!(now), fields }),
    }
}

fn leaves(object: &Value) -> Leaves {
    let mut found = Leaves::new();
    for (member, value) in object.as_object().into_iter().flatten() {
        match member.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => metadata_leaves(value, &mut found),
            _ => walk(&mut vec![format!("f:{member}")], value, &mut found),
        }
    }
    found
}

fn metadata_leaves(metadata: &Value, found: &mut Leaves) {
    for (member, value) in metadata.as_object().into_iter().flatten() {
        if !UNOWNED.contains(&member.as_str()) {
            walk(&mut vec!["f:metadata".to_owned(), format!("f:{member}")], value, found);
        }
    }
}

fn walk(path: &mut Path, value: &Value, found: &mut Leaves) {
    let children: Vec<(String, &Value)> = match (value, path.last().map(String::as_str)) {
        (Value::Null, _) => return,
        (Value::Object(members), _) => {
            members.iter().map(|(name, value)| (format!("f:{name}"), value)).collect()
        }
        (Value::Array(items), Some("f:ownerReferences")) => {
            items.iter().map(|item| (owner_key(item), item)).collect()
        }
        (Value::Array(items), Some("f:finalizers")) => {
            items.iter().map(|item| (format!("v:{item}"), item)).collect()
        }
        _ => {
            found.insert(path.clone(), value.clone());
            return;
        }
    };
    for (element, child) in children {
        let is_item = !element.starts_with("f:");
        path.push(element);
        if is_item {
            found.insert(path.clone(), child.clone());
        } else {
            walk(path, child, found);
        }
        path.pop();
    }
}

fn owner_key(owner: &Value) -> String {
    format!("k:{}", json!({"uid": owner["uid"]}))
}

fn set(at: &mut Value, path: &[String], value: Value) {
    let Some((element, rest)) = path.split_first() else {
        *at = value;
        return;
    };
    if let Some(name) = element.strip_prefix("f:") {
        set(&mut at[name], rest, value);
        return;
    }
    if !at.is_array() {
        *at = json!([]);
    }
    let Some(items) = at.as_array_mut() else { return };
    match items.iter_mut().find(|item| is_item(item, element)) {
        Some(item) => *item = value,
        None => items.push(value),
    }
}

fn is_item(item: &Value, element: &str) -> bool {
    element == format!("v:{item}") || element == owner_key(item)
}

fn remove(at: &mut Value, path: &[String]) {
    let Some((element, rest)) = path.split_first() else { return };
    if let Some(items) = at.as_array_mut() {
        items.retain(|item| !is_item(item, element));
        return;
    }
    let (Some(members), Some(name)) = (at.as_object_mut(), element.strip_prefix("f:")) else { return };
    if let Some(member) = members.get_mut(name) {
        remove(member, rest);
        if rest.is_empty() || is_empty(member) {
            members.remove(name);
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

fn read(object: &Value) -> Vec<Entry> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().map(read_entry).collect()
}

fn read_entry(entry: &Value) -> Entry {
    let text = |member: &str| entry[member].as_str().unwrap_or_default().to_owned();
    let mut fields = BTreeSet::new();
    paths(&mut Vec::new(), &entry["fieldsV1"], &mut fields);
    Entry {
        writer: (text("manager"), text("operation"), entry["subresource"] == "status"),
        time: entry["time"].clone(),
        fields,
    }
}

fn paths(path: &mut Path, tree: &Value, found: &mut BTreeSet<Path>) {
    let Some(members) = tree.as_object().filter(|members| !members.is_empty()) else {
        found.insert(path.clone());
        return;
    };
    for (element, below) in members {
        path.push(element.clone());
        paths(path, below, found);
        path.pop();
    }
}

fn write(entries: Vec<Entry>) -> Value {
    let owning = entries.into_iter().filter(|entry| !entry.fields.is_empty());
    Value::Array(owning.map(|entry| write_entry(&entry)).collect())
}

fn write_entry(entry: &Entry) -> Value {
    let mut tree = json!({});
    for path in &entry.fields {
        let mut at = &mut tree;
        for element in path {
            at = &mut at[element.as_str()];
            if at.is_null() {
                *at = json!({});
            }
        }
    }
    let (manager, operation, status) = &entry.writer;
    let mut written = json!({
        "manager": manager, "operation": operation, "apiVersion": "v1", "time": entry.time,
        "fieldsType": "FieldsV1", "fieldsV1": tree,
    });
    if *status {
        written["subresource"] = json!("status");
    }
    written
}
