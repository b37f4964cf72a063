//! Field ownership: which manager owns which field, and what server-side apply makes of that
//! (sigs.k8s.io/structured-merge-diff, and k8s.io/apimachinery, managedfields).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::schema::{Shape, blank, is_empty};

/// Elements of a path as `fieldsV1` writes them: `f:name`, `v:value`, `k:key`.
pub type Path = Vec<String>;
type Paths = BTreeSet<Path>;

/// Members of metadata that no manager owns.
const UNOWNED: [&str; 7] = [
    "f:name",
    "f:namespace",
    "f:uid",
    "f:resourceVersion",
    "f:generation",
    "f:creationTimestamp",
    "f:managedFields",
];

/// Who writes, and how.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Writer {
    /// Field manager.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: &'static str,
    /// Whether through the subresource `status`.
    pub status: bool,
}

/// A field that another manager holds.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// That manager, in the words of Kubernetes.
    pub manager: String,
    /// The field, as causes name it: `.data..dockerconfigjson`.
    pub field: String,
}

/// What one manager owns.
#[derive(Clone, Debug)]
struct Entry {
    writer: Writer,
    time: Value,
    fields: Paths,
}

/// What differs between two states of an object.
#[derive(Debug, Default)]
struct Difference {
    /// Added or modified.
    changed: Paths,
    removed: Paths,
}

/// The entries after an update by `writer` turned `before` into `after`.
pub fn after_update(kind: Kind, before: &Value, after: &Value, writer: &Writer, now: &str) -> Value {
    let difference = difference(kind, before, after, writer);
    let mut entries = read(before);
    if entries.is_empty() && before["metadata"]["uid"].is_string() {
        // What once lost its entries is followed again from the first apply on.
        return json!([]);
    }
    for entry in &mut entries {
        entry.lose(&difference);
    }
    if !difference.changed.is_empty() {
        own(&mut entries, writer, difference.changed, now);
    }
    write(kind, entries)
}

/// Server-side apply. The fields in conflict where it is not forced.
pub fn apply(
    kind: Kind,
    live: &Value,
    applied: &Value,
    writer: &Writer,
    force: bool,
    now: &str,
) -> Result<Value, Vec<Conflict>> {
    let mut entries = read(live);
    if entries.is_empty() && live["metadata"]["uid"].is_string() {
        let unknown =
            Writer { manager: "before-first-apply".to_owned(), operation: "Update", status: writer.status };
        own(&mut entries, &unknown, difference(kind, &blank(kind), live, &unknown).changed, now);
    }
    let (last, mut others): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| entry.writer == *writer);
    let wanted = owned_paths(kind, applied, writer);
    let mut merged = live.clone();
    merge(&mut merged, applied, Shape::of(kind));
    let owned: Paths = others.iter().flat_map(|entry| &entry.fields).chain(&wanted).cloned().collect();
    for path in last.iter().flat_map(|entry| &entry.fields).filter(|path| !owned.contains(*path)) {
        take_out(&mut merged, abandoned(path, &owned, Shape::of(kind)));
    }
    let difference = difference(kind, live, &merged, writer);
    let conflicts = conflicts(kind, &others, &difference);
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    for entry in &mut others {
        entry.lose(&difference);
    }
    let unchanged = difference.changed.is_empty() && difference.removed.is_empty();
    let time = match last.first() {
        Some(entry) if unchanged => entry.time.clone(),
        None if unchanged => Value::Null,
        _ => json!(now),
    };
    others.push(Entry { writer: writer.clone(), time, fields: wanted });
    merged["metadata"]["managedFields"] = write(kind, others);
    Ok(merged)
}

fn conflicts(kind: Kind, others: &[Entry], difference: &Difference) -> Vec<Conflict> {
    let mut others: Vec<&Entry> = others.iter().collect();
    others.sort_by_key(|entry| entry.writer.clone());
    let held = |entry: &Entry| {
        let manager = entry.writer.described(kind);
        let mut fields: Vec<Path> = entry.fields.intersection(&difference.changed).cloned().collect();
        fields.sort_by_key(as_listed);
        fields.into_iter().map(move |path| Conflict { manager: manager.clone(), field: dotted(&path) })
    };
    others.into_iter().flat_map(held).collect()
}

/// Paths are listed leaves first, at each depth.
fn as_listed(path: &Path) -> Vec<(bool, String)> {
    let last = path.len().saturating_sub(1);
    path.iter().enumerate().map(|(depth, element)| (depth < last, element.clone())).collect()
}

impl Writer {
    fn described(&self, kind: Kind) -> String {
        let status = if self.status { " with subresource \"status\"" } else { "" };
        let using =
            if self.operation == "Update" { format!(" using {}", kind.api_version()) } else { String::new() };
        format!("{:?}{status}{using}", self.manager)
    }
}

impl Entry {
    fn lose(&mut self, difference: &Difference) {
        self.fields.retain(|path| !difference.changed.contains(path) && !difference.removed.contains(path));
    }
}

fn own(entries: &mut Vec<Entry>, writer: &Writer, fields: Paths, now: &str) {
    match entries.iter_mut().find(|entry| entry.writer == *writer) {
        Some(entry) => {
            entry.fields.extend(fields);
            entry.time = json!(now);
        }
        None => entries.push(Entry { writer: writer.clone(), time: json!(now), fields }),
    }
}

/// A path as causes name it.
fn dotted(path: &Path) -> String {
    let element = |element: &String| match element.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("v:", value)) => format!("[={value}]"),
        Some((_, key)) => {
            let key: BTreeMap<String, Value> = serde_json::from_str(key).unwrap_or_default();
            let terms: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", terms.join(","))
        }
        None => String::new(),
    };
    path.iter().map(element).collect()
}

/// Whether a write through the main resource or the subresource can own a field at all.
fn may_own(kind: Kind, path: &Path, writer: &Writer) -> bool {
    let (first, second) = (path.first().map(String::as_str), path.get(1).map(String::as_str));
    match first {
        Some("f:apiVersion" | "f:kind") | None => false,
        Some("f:metadata") if writer.status && kind == Kind::RegistryCredential => false,
        Some("f:metadata") => second.is_some_and(|member| !UNOWNED.contains(&member)),
        Some("f:spec") if kind == Kind::RegistryCredential => !writer.status,
        Some("f:status") => writer.status,
        _ => true,
    }
}

fn owned_paths(kind: Kind, object: &Value, writer: &Writer) -> Paths {
    let mut found = Paths::new();
    collect(&mut Path::new(), object, Shape::of(kind), &mut found);
    found.retain(|path| may_own(kind, path, writer));
    found
}

/// Every path of a value that an apply of it owns.
fn collect(path: &mut Path, value: &Value, shape: &Shape, found: &mut Paths) {
    match (shape, value) {
        (Shape::Leaf, _) => drop(found.insert(path.clone())),
        (Shape::Struct(_) | Shape::Map(_), Value::Object(members)) => {
            for (name, child) in members {
                let (below, named) = shape.member(name);
                path.push(format!("f:{name}"));
                collect(path, child, below, found);
                if !named || child.is_null() || child.as_object().is_some_and(Map::is_empty) {
                    found.insert(path.clone());
                }
                path.pop();
            }
        }
        (Shape::Set | Shape::Keyed(..), Value::Array(items)) => {
            for item in items {
                path.push(element(shape, item));
                collect(path, item, item_shape(shape), found);
                found.insert(path.clone());
                path.pop();
            }
        }
        _ => {}
    }
}

fn item_shape(shape: &Shape) -> &Shape {
    if let Shape::Keyed(_, below) = shape { below } else { &Shape::Leaf }
}

/// How an item of a list is told from the others.
fn element(shape: &Shape, item: &Value) -> String {
    match shape {
        Shape::Keyed(keys, _) => {
            let key: BTreeMap<&String, &Value> = keys.iter().map(|key| (key, &item[key])).collect();
            format!("k:{}", serde_json::to_string(&key).unwrap_or_default())
        }
        _ => format!("v:{item}"),
    }
}

fn difference(kind: Kind, old: &Value, new: &Value, writer: &Writer) -> Difference {
    let mut found = Difference::default();
    compare(&mut Path::new(), Some(old), Some(new), Shape::of(kind), &mut found);
    found.changed.retain(|path| may_own(kind, path, writer));
    found.removed.retain(|path| may_own(kind, path, writer));
    found
}

fn compare(path: &mut Path, old: Option<&Value>, new: Option<&Value>, shape: &Shape, found: &mut Difference) {
    let hollow = |value: Option<&Value>| value.is_none_or(is_empty);
    let whole = matches!(shape, Shape::Leaf) || (hollow(old) && hollow(new));
    if !whole {
        let (old, new) = (children(old, shape), children(new, shape));
        let elements: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for element in elements {
            let below = below(shape, element);
            path.push(element.clone());
            compare(path, old.get(element).copied(), new.get(element).copied(), below, found);
            path.pop();
        }
    }
    match (old, new) {
        (None, _) => drop(found.changed.insert(path.clone())),
        (_, None) => drop(found.removed.insert(path.clone())),
        (Some(old), Some(new)) if whole && old != new => drop(found.changed.insert(path.clone())),
        _ => {}
    }
}

fn children<'a>(value: Option<&'a Value>, shape: &Shape) -> BTreeMap<String, &'a Value> {
    match value {
        Some(Value::Object(members)) => {
            members.iter().map(|(name, child)| (format!("f:{name}"), child)).collect()
        }
        Some(Value::Array(items)) => items.iter().map(|item| (element(shape, item), item)).collect(),
        _ => BTreeMap::new(),
    }
}

fn below<'a>(shape: &'a Shape, element: &str) -> &'a Shape {
    element.strip_prefix("f:").map_or_else(|| item_shape(shape), |name| shape.member(name).0)
}

fn merge(at: &mut Value, applied: &Value, shape: &Shape) {
    match (shape, applied) {
        (Shape::Struct(_) | Shape::Map(_), Value::Object(members)) => {
            if !at.is_object() {
                *at = json!({});
            }
            for (name, value) in members {
                merge(&mut at[name], value, shape.member(name).0);
            }
        }
        (Shape::Set | Shape::Keyed(..), Value::Array(items)) => merge_items(at, items, shape),
        _ => *at = applied.clone(),
    }
}

/// In the order of what is applied; what only the live list has keeps its place as far as that goes
/// (sigs.k8s.io/structured-merge-diff, typed/merge.go).
fn merge_items(at: &mut Value, items: &[Value], shape: &Shape) {
    let live = at.as_array().cloned().unwrap_or_default();
    let named: BTreeMap<String, &Value> = live.iter().map(|item| (element(shape, item), item)).collect();
    let wanted: Vec<String> = items.iter().map(|item| element(shape, item)).collect();
    let mut shared = wanted.iter().filter(|name| named.contains_key(*name)).peekable();
    let mut rest = live.iter().map(|item| (element(shape, item), item)).peekable();
    let mut merged = Vec::new();
    for (name, item) in wanted.iter().zip(items) {
        while let Some((own, kept)) = rest.peek() {
            if !wanted.contains(own) {
                merged.push((*kept).clone());
            } else if own == name || shared.peek() == Some(&own) {
                break;
            }
            rest.next();
        }
        let mut value = named.get(name).map_or(Value::Null, |own| (*own).clone());
        merge(&mut value, item, item_shape(shape));
        merged.push(value);
        if shared.peek() == Some(&name) {
            shared.next();
        }
        rest.next_if(|(own, _)| own == name);
    }
    merged.extend(rest.filter(|(own, _)| !wanted.contains(own)).map(|(_, item)| item.clone()));
    *at = Value::Array(merged);
}

/// The most of a path that nobody owns anything of any more: a member that the schema names goes with all that is in
/// it, whoever put it there.
fn abandoned<'a>(path: &'a Path, owned: &Paths, shape: &Shape) -> &'a [String] {
    let is_owned =
        |part: &[String]| owned.range(part.to_vec()..).next().is_some_and(|next| next.starts_with(part));
    let mut shape = shape;
    for (depth, element) in path.iter().enumerate() {
        let named = element.strip_prefix("f:").is_some_and(|name| shape.member(name).1);
        let part = &path[..=depth];
        if named && part != ["f:metadata"] && !is_owned(part) {
            return part;
        }
        shape = below(shape, element);
    }
    path
}

fn take_out(object: &mut Value, path: &[String]) {
    let Some((last, parent)) = path.split_last() else { return };
    let Some(parent) = find(object, parent) else { return };
    if let (Some(members), Some(name)) = (parent.as_object_mut(), last.strip_prefix("f:")) {
        members.remove(name);
    } else if let Some(items) = parent.as_array_mut() {
        items.retain(|item| !is_item(item, last));
    }
}

fn find<'a>(object: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    let mut at = object;
    for element in path {
        at = match element.strip_prefix("f:") {
            Some(name) => at.get_mut(name)?,
            None => at.as_array_mut()?.iter_mut().find(|item| is_item(item, element))?,
        };
    }
    Some(at)
}

fn is_item(item: &Value, element: &str) -> bool {
    match element.split_at_checked(2) {
        Some(("v:", value)) => serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item),
        Some(("k:", key)) => {
            let key: BTreeMap<String, Value> = serde_json::from_str(key).unwrap_or_default();
            key.iter().all(|(name, value)| item[name] == *value)
        }
        _ => false,
    }
}

fn read(object: &Value) -> Vec<Entry> {
    let entries = object["metadata"]["managedFields"].as_array();
    entries.into_iter().flatten().map(read_entry).collect()
}

fn read_entry(entry: &Value) -> Entry {
    let mut fields = Paths::new();
    paths(&mut Path::new(), &entry["fieldsV1"], &mut fields);
    let writer = Writer {
        manager: entry["manager"].as_str().unwrap_or_default().to_owned(),
        operation: if entry["operation"] == "Apply" { "Apply" } else { "Update" },
        status: entry["subresource"] == "status",
    };
    Entry { writer, time: entry["time"].clone(), fields }
}

fn paths(path: &mut Path, tree: &Value, found: &mut Paths) {
    let Some(members) = tree.as_object().filter(|members| !members.is_empty()) else {
        found.insert(path.clone());
        return;
    };
    for (element, below) in members {
        if element == "." {
            found.insert(path.clone());
            continue;
        }
        path.push(element.clone());
        paths(path, below, found);
        path.pop();
    }
}

/// Applies come first, then the earlier (k8s.io/apimachinery, managedfields/internal).
fn write(kind: Kind, mut entries: Vec<Entry>) -> Value {
    entries.retain(|entry| !entry.fields.is_empty());
    let time = |entry: &Entry| entry.time.as_str().unwrap_or_default().to_owned();
    entries.sort_by_key(|entry| (entry.writer.operation, time(entry), entry.writer.clone()));
    Value::Array(entries.iter().map(|entry| write_entry(kind, entry)).collect())
}

fn write_entry(kind: Kind, entry: &Entry) -> Value {
    let mut tree = json!({});
    for path in &entry.fields {
        plant(&mut tree, path, &entry.fields);
    }
    let mut written = json!({
        "manager": entry.writer.manager, "operation": entry.writer.operation, "apiVersion": kind.api_version(),
        "fieldsType": "FieldsV1", "fieldsV1": tree,
    });
    if !entry.time.is_null() {
        written["time"] = entry.time.clone();
    }
    if entry.writer.status {
        written["subresource"] = json!("status");
    }
    written
}

/// A path that has others below it is a leaf named `.` there.
fn plant(tree: &mut Value, path: &Path, all: &Paths) {
    let mut at = tree;
    for element in path {
        at = &mut at[element.as_str()];
        if at.is_null() {
            *at = json!({});
        }
    }
    let next = all.range::<Path, _>((Bound::Excluded(path), Bound::Unbounded)).next();
    if next.is_some_and(|next| next.starts_with(path)) {
        at["."] = json!({});
    }
}
