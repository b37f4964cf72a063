//! The objects, and the log of everything that happened to them. No request, no time but the one that is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::fields::{self, Writer};
use super::kind::{Key, Kind};
use super::refusal::Refusal;

/// An object, shared by the store and its log.
pub type Object = Arc<Value>;

/// What happened to an object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version that it made.
    pub revision: u64,
    /// Which object.
    pub key: Key,
    /// What it was.
    pub before: Option<Object>,
    /// What it is; for a deletion, what it last was.
    pub after: Object,
    /// Whether it is gone.
    pub deleted: bool,
    /// When, in simulated time.
    pub at: tokio::time::Instant,
}

/// Everything that is stored.
#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<Key, Object>,
    log: Vec<Change>,
    revision: u64,
    compacted: u64,
    uids: u64,
}

/// The time of a version, as metadata holds it.
pub fn stamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Store {
    /// The newest version.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest version from which a watch may go on.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Forgets the log up to now.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
    }

    /// What happened after a version.
    pub fn since(&self, revision: u64) -> &[Change] {
        let first = self.log.partition_point(|change| change.revision <= revision);
        &self.log[first..]
    }

    /// What an object last was, whether it still exists or not.
    pub fn last(&self, key: &Key) -> Option<&Object> {
        self.log.iter().rev().find(|change| change.key == *key).map(|change| &change.after)
    }

    /// An object.
    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// An object, or 404.
    pub fn find(&self, key: &Key) -> Result<Object, Refusal> {
        self.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(key))
    }

    /// The objects of a kind, in one namespace or in all.
    pub fn list(&self, kind: Kind, namespace: Option<&str>) -> Vec<Object> {
        let first = Key::new(kind, namespace.unwrap_or_default(), "");
        let of_kind = self.objects.range(first..).take_while(|(key, _)| key.kind == kind);
        let wanted = of_kind.take_while(|(key, _)| namespace.is_none_or(|wanted| key.namespace == wanted));
        wanted.map(|(_, object)| object.clone()).collect()
    }

    /// Stores a new object.
    pub fn create(
        &mut self,
        key: &Key,
        mut object: Value,
        writer: &Writer,
        now: Timestamp,
    ) -> Result<Object, Refusal> {
        if self.objects.contains_key(key) {
            return Err(Refusal::already_exists(key));
        }
        self.admit_into_namespace(key)?;
        if object["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()) {
            return Err(Refusal::conflict("resourceVersion should not be set on objects to be created"));
        }
        if object["metadata"]["uid"].is_string() {
            return Err(Refusal::conflict("Precondition failed: UID in precondition"));
        }
        self.fill(key, &mut object, now);
        if object["metadata"]["managedFields"].is_null() {
            object["metadata"]["managedFields"] =
                fields::after_update(&json!({}), &object, writer, &stamp(now));
        }
        Ok(self.commit(key, object))
    }

    fn fill(&mut self, key: &Key, object: &mut Value, now: Timestamp) {
        self.uids += 1;
        object["apiVersion"] = json!(key.kind.api_version());
        object["kind"] = json!(key.kind.name());
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(format!("uid-{:05}", self.uids));
        metadata["creationTimestamp"] = json!(stamp(now));
        metadata["name"] = json!(key.name);
        if key.kind.is_namespaced() {
            metadata["namespace"] = json!(key.namespace);
        }
        if key.kind.has_generation() {
            metadata["generation"] = json!(1);
        }
        match key.kind {
            Kind::Namespace => object["spec"]["finalizers"] = json!(["kubernetes"]),
            Kind::Secret if object["type"].is_null() => object["type"] = json!("Opaque"),
            Kind::RegistryCredential => drop(object.as_object_mut().map(|members| members.remove("status"))),
            _ => {}
        }
    }

    fn admit_into_namespace(&self, key: &Key) -> Result<(), Refusal> {
        if !key.kind.is_namespaced() {
            return Ok(());
        }
        let namespace = self.find(&Key::new(Kind::Namespace, "", &key.namespace))?;
        if is_terminating(&namespace) { Err(Refusal::terminating(&key.namespace)) } else { Ok(()) }
    }

    /// Stores another state of an object, if it was made from the one that stands.
    pub fn update(
        &mut self,
        key: &Key,
        mut object: Value,
        writer: &Writer,
        now: Timestamp,
    ) -> Result<Object, Refusal> {
        let before = self.find(key)?;
        is_made_from(&before, &object)?;
        keep_what_nobody_writes(&before, &mut object, writer);
        is_allowed(key.kind, &before, &object)?;
        if same_but_for_times(&before, &object) {
            return Ok(before);
        }
        if key.kind.has_generation() && object["spec"] != before["spec"] {
            raise_generation(&mut object);
        }
        if writer.operation == "Update" {
            object["metadata"]["managedFields"] = fields::after_update(&before, &object, writer, &stamp(now));
        }
        let over = is_terminating(&object) && finalizers(&object).is_empty() && key.kind != Kind::Namespace;
        Ok(if over { self.remove(key, object) } else { self.commit(key, object) })
    }

    /// Begins or completes a deletion. `None`: the object is gone.
    pub fn delete(
        &mut self,
        key: &Key,
        finalizer: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<Object>, Refusal> {
        let mut object = (*self.find(key)?).clone();
        let was_terminating = is_terminating(&object);
        if let Some(finalizer) = finalizer.filter(|_| !was_terminating) {
            let mut all = finalizers(&object);
            all.push(finalizer.to_owned());
            object["metadata"]["finalizers"] = json!(all);
        }
        if finalizers(&object).is_empty() && key.kind != Kind::Namespace {
            self.remove(key, object);
            return Ok(None);
        }
        if was_terminating {
            return Ok(Some(self.find(key)?));
        }
        object["metadata"]["deletionTimestamp"] = json!(stamp(now));
        object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        if key.kind.has_generation() {
            raise_generation(&mut object);
        }
        Ok(Some(self.commit(key, object)))
    }

    /// Removes a namespace whose content is gone.
    pub fn finalize_namespace(&mut self, name: &str) {
        let key = Key::new(Kind::Namespace, "", name);
        if let Some(object) = self.get(&key).cloned() {
            self.remove(&key, (*object).clone());
        }
    }

    fn commit(&mut self, key: &Key, object: Value) -> Object {
        let before = self.objects.get(key).cloned();
        let after = self.record(key, before, object, false);
        self.objects.insert(key.clone(), after.clone());
        after
    }

    fn remove(&mut self, key: &Key, object: Value) -> Object {
        let before = self.objects.remove(key);
        self.record(key, before, object, true)
    }

    fn record(&mut self, key: &Key, before: Option<Object>, mut object: Value, deleted: bool) -> Object {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let after = Arc::new(object);
        self.log.push(Change {
            revision: self.revision,
            key: key.clone(),
            before,
            after: after.clone(),
            deleted,
            at: tokio::time::Instant::now(),
        });
        after
    }
}

/// Whether an object is being deleted.
pub fn is_terminating(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<String> {
    let all = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    all.filter_map(|finalizer| finalizer.as_str().map(str::to_owned)).collect()
}

fn is_made_from(before: &Value, object: &Value) -> Result<(), Refusal> {
    for (member, why) in
        [("uid", "Precondition failed: UID"), ("resourceVersion", "the object has been modified")]
    {
        let given = object["metadata"][member].as_str().filter(|given| !given.is_empty());
        if given.is_some_and(|given| before["metadata"][member] != given) {
            return Err(Refusal::conflict(why));
        }
    }
    Ok(())
}

fn keep_what_nobody_writes(before: &Value, object: &mut Value, writer: &Writer) {
    let kept = [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "name",
        "namespace",
    ];
    for member in kept {
        keep(&before["metadata"], &mut object["metadata"], member);
    }
    if writer.operation == "Update" {
        keep(&before["metadata"], &mut object["metadata"], "managedFields");
    }
    for member in ["apiVersion", "kind"] {
        keep(before, object, member);
    }
    if before["kind"] == "RegistryCredential" {
        if writer.status {
            let status = object["status"].take();
            *object = before.clone();
            object["status"] = status;
        } else {
            keep(before, object, "status");
        }
    }
}

fn keep(before: &Value, object: &mut Value, member: &str) {
    match before.get(member) {
        Some(value) => object[member] = value.clone(),
        None => drop(object.as_object_mut().map(|members| members.remove(member))),
    }
}

fn is_allowed(kind: Kind, before: &Value, object: &Value) -> Result<(), Refusal> {
    if is_terminating(before) && finalizers(object).iter().any(|own| !finalizers(before).contains(own)) {
        return Err(Refusal::invalid("no new finalizers can be added if the object is being deleted"));
    }
    if kind != Kind::Secret {
        return Ok(());
    }
    if object["type"] != before["type"] {
        return Err(Refusal::invalid("type: Invalid value: field is immutable"));
    }
    let fixed = before["immutable"] == true;
    if fixed && (object["data"] != before["data"] || object["immutable"] != true) {
        return Err(Refusal::invalid("data: Forbidden: field is immutable when `immutable` is set"));
    }
    Ok(())
}

fn same_but_for_times(before: &Value, after: &Value) -> bool {
    let timeless = |object: &Value| {
        let mut object = object.clone();
        if let Some(entries) = object["metadata"]["managedFields"].as_array_mut() {
            for entry in entries {
                entry["time"].take();
            }
        }
        object
    };
    timeless(before) == timeless(after)
}

fn raise_generation(object: &mut Value) {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    object["metadata"]["generation"] = json!(generation + 1);
}
