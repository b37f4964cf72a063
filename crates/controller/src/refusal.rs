//! What a refusal of the API server means for a step. A refused object may be quoted in the text of an answer, so of
//! that text only the name of a webhook or policy is taken, from the place where the API server itself writes it.

use std::collections::BTreeSet;

use kube::core::Status;
use parking_lot::Mutex;
use regcred_api::names;
use regcred_planner::{Gate, StepError};

/// Names of webhooks and policies that are kept, for the life of the process; further ones are not shown.
const MAX_NAMES: usize = 64;
/// The longest name of a webhook or policy (RFC 1123 subdomain, as Kubernetes checks it).
const MAX_NAME_LEN: usize = 253;

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// What the API server, or what it asks before it writes, means by this answer. A webhook may refuse with any code,
/// so it is looked for first.
pub(crate) fn refusal(status: &Status) -> StepError {
    if let Some(error) = admission(status) {
        return error;
    }
    match status.code {
        403 => forbidden(status),
        404 => StepError::Gone,
        409 if has_cause(status, "FieldManagerConflict", ".type") => StepError::TypeMismatch,
        409 if has_reason(status, "FieldManagerConflict") => StepError::NameConflict,
        409 => StepError::Conflict,
        413 => StepError::TooLarge,
        422 => invalid(status),
        429 | 500.. => unavailable(status),
        code => StepError::Rejected(code),
    }
}

/// An answer that a webhook or policy is the cause of (k8s.io/apiserver: pkg/admission/plugin/webhook/errors,
/// pkg/util/webhook, pkg/admission/plugin/policy).
fn admission(status: &Status) -> Option<StepError> {
    let text = status.message.as_str();
    if let Some(after) = text.strip_prefix("admission webhook \"") {
        return Some(StepError::Denied(Gate::Webhook(quoted(after, '"'))));
    }
    if let Some(after) = text.strip_prefix("Internal error occurred: failed calling webhook \"") {
        return Some(StepError::WebhookUnavailable(Gate::Webhook(quoted(after, '"'))));
    }
    let reason = text.split_once(" is forbidden: ").map_or(text, |(_, reason)| reason);
    let after =
        ["ValidatingAdmissionPolicy '", "policy '"].iter().find_map(|before| reason.strip_prefix(before))?;
    Some(if after.contains(names::ADOPT_SETTING) {
        StepError::AdoptNotAllowed
    } else if after.contains(names::METADATA_SETTING) {
        StepError::MetadataNotAllowed
    } else {
        StepError::Denied(Gate::Policy(quoted(after, '\'')))
    })
}

fn forbidden(status: &Status) -> StepError {
    let text = status.message.as_str();
    let says = |part: &str| text.contains(part);
    if has_reason(status, "NamespaceTerminating") {
        StepError::NamespaceTerminating
    } else if says(" is forbidden: User \"") {
        StepError::Forbidden
    // ResourceQuota has no cause of its own (k8s.io/apiserver, pkg/admission/plugin/resourcequota).
    } else if says("exceeded quota: ") || says("insufficient quota to ") {
        StepError::QuotaExceeded
    // A quota that was just made, or an API server that has just started.
    } else if says("status unknown for quota: ") || says("not yet ready to handle request") {
        unavailable(status)
    } else {
        StepError::Rejected(403)
    }
}

/// What validation found (k8s.io/kubernetes, pkg/apis/core/validation, `ValidateSecretUpdate`).
fn invalid(status: &Status) -> StepError {
    if has_cause(status, "FieldValueForbidden", "data")
        || has_cause(status, "FieldValueForbidden", "immutable")
    {
        return StepError::Immutable;
    }
    if has_cause(status, "FieldValueInvalid", "type") {
        return StepError::TypeMismatch;
    }
    if has_cause(status, "FieldValueTooLong", "data") {
        return StepError::TooLarge;
    }
    let fields = [
        ("metadata.labels", "target.metadata.labels"),
        ("metadata.annotations", "target.metadata.annotations"),
        ("metadata.name", "target.name"),
    ];
    let found = fields.iter().find(|(field, _)| causes(status).any(|cause| cause.field == *field));
    found.map_or(StepError::Rejected(422), |(_, ours)| StepError::InvalidField(ours))
}

fn unavailable(status: &Status) -> StepError {
    let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    StepError::Unavailable { code: status.code, retry_after }
}

fn causes(status: &Status) -> impl Iterator<Item = &kube::core::response::StatusCause> {
    status.details.iter().flat_map(|details| &details.causes)
}

fn has_reason(status: &Status, reason: &str) -> bool {
    causes(status).any(|cause| cause.reason == reason)
}

fn has_cause(status: &Status, reason: &str, field: &str) -> bool {
    causes(status).any(|cause| cause.reason == reason && cause.field == field)
}

/// The name before the closing quote; `None` for what is no name.
fn quoted(text: &str, quote: char) -> Option<&'static str> {
    let (name, _) = text.split_once(quote)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    (!name.is_empty() && name.len() <= MAX_NAME_LEN && name.chars().all(is_plain)).then(|| kept(name))?
}

/// The name for the life of the process: an error can then be copied, and names a cluster has few of.
fn kept(name: &str) -> Option<&'static str> {
    let mut names = NAMES.lock();
    if let Some(known) = names.get(name) {
        return Some(*known);
    }
    if names.len() >= MAX_NAMES {
        return None;
    }
    let name: &'static str = Box::leak(name.into());
    names.insert(name);
    Some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meaning(code: u16, message: &str, causes: &[(&str, &str)]) -> StepError {
        let causes: Vec<_> =
            causes.iter().map(|(reason, field)| json!({"reason": reason, "field": field})).collect();
        let status =
            json!({"code": code, "message": message, "details": {"causes": causes, "retryAfterSeconds": 3}});
        refusal(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn the_api_server_means_what_its_code_and_causes_say() {
        let conflict = "FieldManagerConflict";
        let rbac = "secrets \"pull\" is forbidden: User \"regcred\" cannot patch resource \"secrets\"";
        let immutable =
            "Secret \"pull\" is invalid: data: Forbidden: field is immutable when `immutable` is set";
        let (unready, busy) = (StepError::Unavailable { code: 403, retry_after: 3 }, |code| {
            StepError::Unavailable { code, retry_after: 3 }
        });
        for (code, message, causes, expected) in [
            (403, "", &[("NamespaceTerminating", "")][..], StepError::NamespaceTerminating),
            (
                403,
                "secrets \"pull\" is forbidden: exceeded quota: q, requested",
                &[],
                StepError::QuotaExceeded,
            ),
            (403, "secrets \"pull\" is forbidden: status unknown for quota: q", &[], unready),
            (403, "secrets \"pull\" is forbidden: not yet ready to handle request", &[], unready),
            (403, rbac, &[], StepError::Forbidden),
            (403, "secrets \"pull\" is forbidden: a plugin says no", &[], StepError::Rejected(403)),
            (404, "", &[], StepError::Gone),
            (409, "", &[], StepError::Conflict),
            (409, "", &[(conflict, ".data..dockerconfigjson")], StepError::NameConflict),
            (409, "", &[(conflict, ".data.x"), (conflict, ".type")], StepError::TypeMismatch),
            (413, "", &[], StepError::TooLarge),
            (422, immutable, &[("FieldValueForbidden", "data")], StepError::Immutable),
            (422, "", &[("FieldValueInvalid", "type")], StepError::TypeMismatch),
            (422, "", &[("FieldValueTooLong", "data")], StepError::TooLarge),
            (
                422,
                "",
                &[("FieldValueInvalid", "metadata.labels")],
                StepError::InvalidField("target.metadata.labels"),
            ),
            (422, "", &[("FieldValueInvalid", "spec.x")], StepError::Rejected(422)),
            (429, "", &[], busy(429)),
            (503, "", &[], busy(503)),
            (418, "", &[], StepError::Rejected(418)),
        ] {
            assert_eq!(meaning(code, message, causes), expected, "{code} {message} {causes:?}");
        }
    }

    #[test]
    fn a_webhook_or_policy_is_named_whatever_its_code() {
        let webhook = StepError::Denied(Gate::Webhook(Some("w.example.com")));
        for code in [400, 403, 404, 409, 422, 429, 500] {
            let text = "admission webhook \"w.example.com\" denied the request: exceeded quota: \"x\"";
            assert_eq!(meaning(code, text, &[]), webhook, "{code}");
        }
        let dead = "Internal error occurred: failed calling webhook \"w.example.com\": failed to call: EOF";
        let unavailable = StepError::WebhookUnavailable(Gate::Webhook(Some("w.example.com")));
        assert_eq!(meaning(500, dead, &[]), unavailable);
        let policy = StepError::Denied(Gate::Policy(Some("p")));
        for text in [
            "secrets \"pull\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            "policy 'p' with binding 'b' denied request: no",
        ] {
            assert_eq!(meaning(422, text, &[]), policy, "{text}");
        }
        let cage = "secrets \"pull\" is forbidden: ValidatingAdmissionPolicy 'cage' with binding 'cage' denied \
                    request: taking over needs cage.allowAdopt";
        assert_eq!(meaning(403, cage, &[]), StepError::AdoptNotAllowed);
        let cage = cage.replace("allowAdopt", "metadataKeys");
        assert_eq!(meaning(403, &cage, &[]), StepError::MetadataNotAllowed);
    }

    #[test]
    fn what_is_no_name_is_not_shown() {
        let unnamed = StepError::Denied(Gate::Webhook(None));
        for name in ["", "pass word", "a\nb", "user:password", "é", &"n".repeat(254)] {
            let text = format!("admission webhook \"{name}\" denied the request");
            assert_eq!(meaning(403, &text, &[]), unnamed, "{name}");
        }
        assert_eq!(meaning(403, "admission webhook \"without an end", &[]), unnamed);
        // The free text of somebody else is no place to read a name from.
        let text = "secrets \"pull\" is forbidden: he said: admission webhook \"x\" denied the request";
        assert_eq!(meaning(403, text, &[]), StepError::Rejected(403));
    }
}
