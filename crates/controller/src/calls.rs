//! Requests to the API server, other than watches: typed handles, the deadline, the field manager, and what an
//! answer means. Only the lease has a deadline of its own besides, because it must be renewed before it expires.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{PatchParams, ValidationDirective};
use kube::core::Status;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client};
use regcred_api::names;
use regcred_index::{CredentialBody, Received, SecretBody, ServiceAccountBody};
use regcred_planner::StepError;

/// The longest time for one request that is no watch, whatever trickles in.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Handles for what the operator writes.
#[derive(Clone)]
pub(crate) struct Calls {
    client: Client,
    source_namespace: String,
}

/// Why a call did not give what it was made for.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The API server refused it, or could not serve it.
    Refused(Box<Status>),
    /// The API server answered, and the answer could not be read. A write was made all the same.
    Unreadable,
    /// No answer in time, or no connection. A write may have been made.
    NoAnswer,
}

impl Calls {
    pub(crate) fn new(client: Client, source_namespace: &str) -> Self {
        Self { client, source_namespace: source_namespace.to_owned() }
    }

    /// Answers to patches hold metadata alone. That to a delete may be the whole Secret, where a finalizer keeps it; its
    /// data is skipped unread.
    pub(crate) fn secrets(&self, namespace: &str) -> Api<Received<SecretBody>> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn service_accounts(&self, namespace: &str) -> Api<Received<ServiceAccountBody>> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn credentials(&self) -> Api<Received<CredentialBody>> {
        Api::all(self.client.clone())
    }

    /// Secrets of the source namespace, where the fingerprint key is.
    pub(crate) fn own_secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.source_namespace)
    }

    pub(crate) fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.source_namespace)
    }

    /// Writes events in the name of this replica.
    pub(crate) fn recorder(&self, identity: &str) -> Recorder {
        let reporter =
            Reporter { controller: names::FIELD_MANAGER.to_owned(), instance: Some(identity.to_owned()) };
        Recorder::new(self.client.clone(), reporter)
    }
}

/// Makes a call, for at most [`DEADLINE`].
pub(crate) async fn answer<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(CallError::NoAnswer),
    }
}

/// The parameters of every patch. Our bodies are made of typed fields, so the API server need not look for
/// unknown ones.
pub(crate) fn as_manager() -> PatchParams {
    PatchParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        field_validation: Some(ValidationDirective::Ignore),
        ..PatchParams::default()
    }
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            kube::Error::SerdeError(_) => Self::Unreadable,
            _ => Self::NoAnswer,
        }
    }
}

impl CallError {
    /// The HTTP status, for logs; 0 without one. The text of an error never reaches a log: it may quote what could
    /// not be decoded.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Refused(status) => status.code,
            Self::Unreadable | Self::NoAnswer => 0,
        }
    }

    /// Whether the object changed or went since it was observed: its watch brings what it is now.
    pub(crate) fn is_outdated(&self) -> bool {
        matches!(self.code(), 404 | 409)
    }
}

/// What an answer means for a step.
impl From<CallError> for StepError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(status) => refusal(&status),
            CallError::Unreadable => Self::UnreadableAnswer,
            CallError::NoAnswer => Self::NoAnswer,
        }
    }
}

fn refusal(status: &Status) -> StepError {
    match status.code {
        403 if has_cause(status, "NamespaceTerminating") => StepError::NamespaceTerminating,
        // ResourceQuota has no cause of its own (k8s.io/apiserver, pkg/admission/plugin/resourcequota).
        403 if status.message.contains("exceeded quota") => StepError::QuotaExceeded,
        403 if status.message.contains(names::ADOPT_SETTING) => StepError::AdoptNotAllowed,
        403 if status.message.contains("ValidatingAdmissionPolicy") => StepError::Rejected(403),
        403 => StepError::Forbidden,
        404 => StepError::Gone,
        409 if conflicts_on(status, ".type") => StepError::TypeMismatch,
        409 if has_cause(status, "FieldManagerConflict") => StepError::NameConflict,
        409 => StepError::Conflict,
        413 => StepError::TooLarge,
        // Somebody set `immutable` since the Secret was observed; its watch will say so.
        422 if status.message.contains("field is immutable") => StepError::Conflict,
        429 | 500.. => {
            let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            StepError::Unavailable { code: status.code, retry_after }
        }
        code => StepError::Rejected(code),
    }
}

fn has_cause(status: &Status, reason: &str) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == reason)
}

fn conflicts_on(status: &Status, field: &str) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict" && cause.field == field)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(code: u16, message: &str, causes: &[(&str, &str)]) -> kube::Error {
        let causes: Vec<_> =
            causes.iter().map(|(reason, field)| json!({"reason": reason, "field": field})).collect();
        let status =
            json!({"code": code, "message": message, "details": {"causes": causes, "retryAfterSeconds": 3}});
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn each_answer_of_the_api_server_has_its_meaning() {
        let conflict = "FieldManagerConflict";
        for (error, meaning) in [
            (refused(403, "", &[("NamespaceTerminating", "")]), StepError::NamespaceTerminating),
            (refused(403, "secrets is forbidden: exceeded quota: q", &[]), StepError::QuotaExceeded),
            (refused(403, "User cannot patch", &[]), StepError::Forbidden),
            (
                refused(403, "policy 'cage' denied request: taking over needs cage.allowAdopt", &[]),
                StepError::AdoptNotAllowed,
            ),
            (refused(403, "ValidatingAdmissionPolicy 'p' denied request: no", &[]), StepError::Rejected(403)),
            (refused(404, "", &[]), StepError::Gone),
            (refused(409, "", &[]), StepError::Conflict),
            (refused(409, "", &[(conflict, ".data..dockerconfigjson")]), StepError::NameConflict),
            (refused(409, "", &[(conflict, ".data.x"), (conflict, ".type")]), StepError::TypeMismatch),
            (refused(413, "", &[]), StepError::TooLarge),
            (
                refused(422, "data: Forbidden: field is immutable when `immutable` is set", &[]),
                StepError::Conflict,
            ),
            (refused(422, "denied by policy", &[]), StepError::Rejected(422)),
            (refused(429, "", &[]), StepError::Unavailable { code: 429, retry_after: 3 }),
            (refused(503, "", &[]), StepError::Unavailable { code: 503, retry_after: 3 }),
            (kube::Error::LinesCodecMaxLineLengthExceeded, StepError::NoAnswer),
            (kube::Error::SerdeError(serde::de::Error::custom("odd")), StepError::UnreadableAnswer),
        ] {
            let shown = format!("{error:?}");
            assert_eq!(StepError::from(CallError::from(error)), meaning, "{shown}");
        }
    }
}
