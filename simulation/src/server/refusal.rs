//! What the server refuses, as the `Status` that Kubernetes answers.

use serde_json::{Value, json};

/// A refused request.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// `reason` of the Status.
    pub reason: &'static str,
    /// `message` of the Status.
    pub message: String,
    /// `details.causes`: reason and field.
    pub causes: Vec<(&'static str, String)>,
    /// `details.retryAfterSeconds`.
    pub retry_after: u32,
}

impl Refusal {
    /// A refusal with a message.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), causes: Vec::new(), retry_after: 0 }
    }

    /// 404.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(404, "NotFound", format!("{what} not found"))
    }

    /// 409 because the object is no longer what the request was made from.
    pub fn conflict(why: &str) -> Self {
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled: {why}"))
    }

    /// 409 because the name is taken.
    pub fn already_exists(what: impl std::fmt::Display) -> Self {
        Self::new(409, "AlreadyExists", format!("{what} already exists"))
    }

    /// 422.
    pub fn invalid(message: &str) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// 410.
    pub fn expired() -> Self {
        Self::new(410, "Expired", "too old resource version")
    }

    /// 403 as namespaces that are being deleted answer a creation.
    pub fn terminating(namespace: &str) -> Self {
        let message =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        Self {
            causes: vec![("NamespaceTerminating", "metadata.namespace".to_owned())],
            ..Self::new(403, "Forbidden", message)
        }
    }

    /// The body of the answer.
    pub fn status(&self) -> Value {
        let causes: Vec<_> = self
            .causes
            .iter()
            .map(|(reason, field)| json!({"reason": reason, "field": field, "message": ""}))
            .collect();
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
            "details": {"causes": causes, "retryAfterSeconds": self.retry_after},
        })
    }
}
