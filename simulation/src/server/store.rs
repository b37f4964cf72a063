//! The objects, and the log of everything that happened to them. No request, no time but the one that is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::names::{SECRET_KEY, SECRET_TYPE};
use serde_json::{Value, json};

use super::fields::{self, Writer};
use super::kind::{Key, Kind};
use super::refusal::{Cause, Refusal};
use super::schema;

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

    /// An object as it is, and as it last was with another value of this member.
    pub fn last_two(&self, key: &Key, member: impl Fn(&Object) -> &Value) -> Vec<&Object> {
        let mut versions =
            self.log.iter().rev().filter(|change| change.key == *key).map(|change| &change.after);
        let Some(last) = versions.next() else { return Vec::new() };
        let before = versions.find(|version| member(version) != member(last));
        std::iter::once(last).chain(before).collect()
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
        self.admit_into_namespace(key)?;
        if object["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()) {
            return Err(Refusal::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        if let Some(live) = self.objects.get(key) {
            return Err(Refusal::already_exists(key, is_terminating(live)));
        }
        object["metadata"]["name"] = json!(key.name);
        schema::fill(key.kind, &mut object);
        if let Some(cause) = lacking_in_secret(&object).filter(|_| key.kind == Kind::Secret) {
            return Err(Refusal::invalid(key, &[cause]));
        }
        if writer.operation == "Update" {
            object["metadata"]["managedFields"] =
                fields::after_update(key.kind, &schema::blank(key.kind), &object, writer, &stamp(now));
            schema::drop_empty_metadata(&mut object);
        }
        self.fill(key, &mut object, now);
        Ok(self.commit(key, object))
    }

    fn fill(&mut self, key: &Key, object: &mut Value, now: Timestamp) {
        self.uids += 1;
        object["apiVersion"] = json!(key.kind.api_version());
        object["kind"] = json!(key.kind.name());
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", self.uids));
        metadata["creationTimestamp"] = json!(stamp(now));
        if key.kind.is_namespaced() {
            metadata["namespace"] = json!(key.namespace);
        }
        if key.kind.has_generation() {
            metadata["generation"] = json!(1);
        }
        match key.kind {
            Kind::Namespace => {
                object["spec"] = json!({"finalizers": ["kubernetes"]});
                object["status"] = json!({"phase": "Active"});
            }
            Kind::RegistryCredential => drop(object.as_object_mut().map(|members| members.remove("status"))),
            _ => {}
        }
    }

    fn admit_into_namespace(&self, key: &Key) -> Result<(), Refusal> {
        if !key.kind.is_namespaced() {
            return Ok(());
        }
        let namespace = self.find(&Key::new(Kind::Namespace, "", &key.namespace))?;
        if is_terminating(&namespace) { Err(Refusal::terminating(key)) } else { Ok(()) }
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
        is_made_from(key, &before, &object)?;
        let uid = object["metadata"]["uid"].take();
        keep_what_nobody_writes(key.kind, &before, &mut object, writer);
        schema::fill(key.kind, &mut object);
        is_allowed(key, &before, &object, &uid)?;
        if same_but_for_times(&before, &object) {
            return Ok(before);
        }
        if writer.operation == "Update" {
            object["metadata"]["managedFields"] =
                fields::after_update(key.kind, &before, &object, writer, &stamp(now));
            schema::drop_empty_metadata(&mut object);
        }
        if key.kind.has_generation() && object["spec"] != before["spec"] {
            raise_generation(&mut object);
        }
        if is_terminating(&object) && finalizers(&object).is_empty() && key.kind != Kind::Namespace {
            self.remove(key, (*before).clone());
            return Ok(Arc::new(object));
        }
        Ok(self.commit(key, object))
    }

    /// Begins or completes a deletion. What there is to show of the object after that.
    pub fn delete(
        &mut self,
        key: &Key,
        propagation: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<Object>, Refusal> {
        let before = self.find(key)?;
        let mut object = (*before).clone();
        if key.kind.is_collected() {
            propagate(&mut object, propagation);
        }
        if finalizers(&object).is_empty() && key.kind != Kind::Namespace {
            let last = self.remove(key, object);
            return Ok((key.kind == Kind::ServiceAccount).then_some(last));
        }
        if !is_terminating(&before) {
            begin_deletion(key.kind, &mut object, now);
        }
        Ok(Some(if object == *before { before } else { self.commit(key, object) }))
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

/// The finalizer of this propagation takes the place of the other (k8s.io/apiserver, registry/generic/registry).
fn propagate(object: &mut Value, propagation: Option<&str>) {
    const FINALIZERS: [&str; 2] = ["orphan", "foregroundDeletion"];
    let mut all = finalizers(object);
    let wanted = match propagation {
        Some("Foreground") => Some("foregroundDeletion"),
        Some("Orphan") => Some("orphan"),
        Some(_) => None,
        None => FINALIZERS.into_iter().find(|own| all.iter().any(|other| other == own)),
    };
    all.retain(|own| !FINALIZERS.contains(&own.as_str()));
    all.extend(wanted.map(str::to_owned));
    if all != finalizers(object) {
        object["metadata"]["finalizers"] = json!(all);
        schema::drop_empty_metadata(object);
    }
}

fn begin_deletion(kind: Kind, object: &mut Value, now: Timestamp) {
    object["metadata"]["deletionTimestamp"] = json!(stamp(now));
    if kind == Kind::Namespace {
        object["status"]["phase"] = json!("Terminating");
    } else {
        object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    }
    if kind.has_generation() {
        raise_generation(object);
    }
}

fn is_made_from(key: &Key, before: &Value, object: &Value) -> Result<(), Refusal> {
    let given = |member: &str| object["metadata"][member].as_str().filter(|given| !given.is_empty());
    if given("resourceVersion").is_some_and(|given| before["metadata"]["resourceVersion"] != given) {
        return Err(Refusal::modified(key));
    }
    Ok(())
}

fn keep_what_nobody_writes(kind: Kind, before: &Value, object: &mut Value, writer: &Writer) {
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
    match kind {
        Kind::RegistryCredential if writer.status => {
            let status = object.get("status").cloned();
            let entries = object["metadata"]["managedFields"].clone();
            *object = before.clone();
            keep(&json!({"status": status}), object, "status");
            object["metadata"]["managedFields"] = entries;
        }
        Kind::RegistryCredential => keep(before, object, "status"),
        Kind::Namespace => ["spec", "status"].into_iter().for_each(|member| keep(before, object, member)),
        _ => {}
    }
}

fn keep(before: &Value, object: &mut Value, member: &str) {
    match before.get(member) {
        Some(value) => object[member] = value.clone(),
        None => drop(object.as_object_mut().map(|members| members.remove(member))),
    }
}

fn is_allowed(key: &Key, before: &Value, object: &Value, uid: &Value) -> Result<(), Refusal> {
    let mut causes = Vec::new();
    let new: Vec<String> =
        finalizers(object).into_iter().filter(|own| !finalizers(before).contains(own)).collect();
    if is_terminating(before) && !new.is_empty() {
        let why = format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {}",
            go_strings(&new)
        );
        causes.push(("FieldValueForbidden", "metadata.finalizers", why));
    }
    if uid.as_str().is_some_and(|uid| before["metadata"]["uid"] != uid) {
        let why = format!("Invalid value: {uid}: field is immutable");
        causes.push(("FieldValueInvalid", "metadata.uid", why));
    }
    if key.kind == Kind::Secret {
        causes.extend(fixed_in_secret(before, object));
        causes.extend(lacking_in_secret(object));
    }
    if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid(key, &causes)) }
}

fn fixed_in_secret(before: &Value, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if object["type"] != before["type"] {
        let why = format!("Invalid value: {}: field is immutable", object["type"]);
        causes.push(("FieldValueInvalid", "type", why));
    }
    let changed = [("immutable", object["immutable"] != true), ("data", object["data"] != before["data"])];
    for (member, changed) in changed {
        if before["immutable"] == true && changed {
            let why = "Forbidden: field is immutable when `immutable` is set".to_owned();
            causes.push(("FieldValueForbidden", member, why));
        }
    }
    causes
}

fn lacking_in_secret(object: &Value) -> Option<Cause> {
    let lacks = object["type"] == SECRET_TYPE && object["data"][SECRET_KEY].is_null();
    lacks.then(|| ("FieldValueRequired", "data[.dockerconfigjson]", "Required value".to_owned()))
}

/// A slice of strings as Go prints it.
fn go_strings(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[]string{{{}}}", quoted.join(", "))
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
