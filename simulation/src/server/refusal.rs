//! What the server refuses, as the `Status` that Kubernetes answers (k8s.io/apimachinery, api/errors).

use serde_json::{Value, json};

use super::fields::Conflict;
use super::kind::{Key, Kind};

/// A refused request.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// `reason` of the Status; empty for none.
    pub reason: &'static str,
    /// `message` of the Status.
    pub message: String,
    /// `details` of the Status.
    pub details: Value,
}

/// Why an object is invalid: reason, field, and what is wrong with it.
pub type Cause = (&'static str, &'static str, String);

impl Refusal {
    /// A refusal with a message.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    /// 404 for a path that is not served.
    pub fn not_served() -> Self {
        Self {
            details: json!({}),
            ..Self::new(404, "NotFound", "the server could not find the requested resource")
        }
    }

    /// 404.
    pub fn not_found(key: &Key) -> Self {
        Self::about(key, 404, "NotFound", format!("{} not found", quoted(key)))
    }

    /// 409 because the object is no longer what the request was made from.
    pub fn conflict(key: &Key, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {}: {why}", quoted(key));
        Self::about(key, 409, "Conflict", message)
    }

    /// 409 because a precondition of a deletion does not hold.
    pub fn unmet(key: &Key, name: &str, asked: &str, live: &str) -> Self {
        if key.kind == Kind::Namespace {
            return Self::conflict(key, &precondition(name, asked, live));
        }
        let why = if name == "UID" { "deleted and then recreated" } else { "modified" };
        let (kind, object) = (internal_kind(key.kind), &key.name);
        let message = format!(
            "Operation cannot be fulfilled on {kind} {object:?}: the {name} in the precondition ({asked}) does \
             not match the {name} in record ({live}). The object might have been {why}"
        );
        Self { details: internal_details(key), ..Self::new(409, "Conflict", message) }
    }

    /// 409 because a PUT is for another object of the name.
    pub fn another(key: &Key, asked: &str, live: &str) -> Self {
        let group = if key.kind == Kind::RegistryCredential { "regcred.dev/" } else { "" };
        let namespace = if key.namespace.is_empty() { String::new() } else { format!("{}/", key.namespace) };
        let path = format!("/registry/{group}{}/{namespace}{}", key.kind.plural(), key.name);
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {path}, ResourceVersion: 0, AdditionalErrorMsg: {}",
            precondition("UID", asked, live)
        );
        Self::conflict(key, &why)
    }

    /// 422 because only a version tells what an update was made from.
    pub fn lacks_version(key: &Key) -> Self {
        let (field, why) = ("metadata.resourceVersion", "Invalid value: 0: must be specified for an update");
        let message = format!("{} is invalid: {field}: {why}", quoted(key));
        let mut refusal = Self::about(key, 422, "Invalid", message);
        refusal.details["causes"] = json!([{"reason": "FieldValueInvalid", "message": why, "field": field}]);
        refusal
    }

    /// 409 because somebody else has changed the object.
    pub fn modified(key: &Key) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(key, why)
    }

    /// 409 because the name is taken.
    pub fn already_exists(key: &Key, terminating: bool) -> Self {
        let why = if terminating { "object is being deleted: " } else { "" };
        Self::about(key, 409, "AlreadyExists", format!("{why}{} already exists", quoted(key)))
    }

    /// 409 of server-side apply.
    pub fn owned_by_others(conflicts: &[Conflict]) -> Self {
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|conflict| {
                let message = format!("conflict with {}", conflict.manager);
                json!({"reason": "FieldManagerConflict", "message": message, "field": conflict.field})
            })
            .collect();
        let details = json!({"causes": causes});
        Self { details, ..Self::new(409, "Conflict", conflict_message(conflicts)) }
    }

    /// 422 because of some fields.
    pub fn invalid(key: &Key, causes: &[Cause]) -> Self {
        let said: Vec<String> = causes.iter().map(|(_, field, why)| format!("{field}: {why}")).collect();
        let said = if let [one] = &said[..] { one.clone() } else { format!("[{}]", said.join(", ")) };
        let message = format!("{} {:?} is invalid: {said}", internal_kind(key.kind), key.name);
        let mut refusal = Self { details: internal_details(key), ..Self::new(422, "Invalid", message) };
        refusal.details["causes"] = causes
            .iter()
            .flat_map(|(reason, field, why)| {
                // Metadata is looked at by the registry and by the strategy of the kind.
                let times = if field.starts_with("metadata.") { 2 } else { 1 };
                vec![json!({"reason": reason, "message": why, "field": field}); times]
            })
            .collect();
        refusal
    }

    /// 422 because a patch does not fit the object.
    pub fn unfitting_patch() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self { details: json!({}), ..Self::new(422, "Invalid", message) }
    }

    /// 400 because a field cannot be selected by.
    pub fn unselectable(kind: Kind, field: &str) -> Self {
        let message = match kind {
            Kind::ServiceAccount | Kind::Lease => format!(
                "\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            ),
            _ => format!("field label not supported: {field}"),
        };
        Self::new(400, "BadRequest", message)
    }

    /// 410.
    pub fn expired() -> Self {
        Self::new(410, "Expired", "too old resource version")
    }

    /// 403 as namespaces that are being deleted answer a creation.
    pub fn terminating(key: &Key) -> Self {
        let namespace = &key.namespace;
        let message = format!(
            "{} is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
            quoted(key)
        );
        let mut refusal = Self::about(key, 403, "Forbidden", message);
        refusal.details["causes"] = json!([{
            "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        refusal
    }

    fn about(key: &Key, code: u16, reason: &'static str, message: String) -> Self {
        let mut details = json!({"name": key.name, "kind": key.kind.plural()});
        if let Some(group) = key.kind.group() {
            details["group"] = json!(group);
        }
        Self { details, ..Self::new(code, reason, message) }
    }

    /// The body of the answer.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}

fn precondition(name: &str, asked: &str, live: &str) -> String {
    format!("Precondition failed: {name} in precondition: {asked}, {name} in object meta: {live}")
}

fn quoted(key: &Key) -> String {
    let group = key.kind.group().map(|group| format!(".{group}")).unwrap_or_default();
    format!("{}{group} {:?}", key.kind.plural(), key.name)
}

/// The group in which a kind is kept: Events are the core's.
fn internal_group(kind: Kind) -> Option<&'static str> {
    kind.group().filter(|_| kind != Kind::Event)
}

fn internal_kind(kind: Kind) -> String {
    let group = internal_group(kind).map(|group| format!(".{group}")).unwrap_or_default();
    format!("{}{group}", kind.name())
}

fn internal_details(key: &Key) -> Value {
    let mut details = json!({"name": key.name, "kind": key.kind.name()});
    if let Some(group) = internal_group(key.kind) {
        details["group"] = json!(group);
    }
    details
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [conflict] = conflicts {
        let Conflict { manager, field } = conflict;
        return format!("Apply failed with 1 conflict: conflict with {manager}: {field}");
    }
    let of_one = |conflicts: &[Conflict]| {
        let fields: Vec<String> = conflicts.iter().map(|conflict| format!("- {}", conflict.field)).collect();
        format!("conflicts with {}:\n{}", conflicts[0].manager, fields.join("\n"))
    };
    let managers = conflicts.chunk_by(|one, other| one.manager == other.manager);
    let managers: Vec<String> = managers.map(of_one).collect();
    format!("Apply failed with {} conflicts: {}", conflicts.len(), managers.join("\n"))
}
