//! Requests to the API server, other than watches: typed handles, the deadline, the field manager, and whether there
//! is an answer. Only the lease has a deadline of its own besides, because it must be renewed before it expires.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{GetParams, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::{Request, Status};
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client, Resource};
use regcred_api::names;
use regcred_index::{CredentialBody, Received, SecretBody, ServiceAccountBody};
use regcred_planner::StepError;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::refusal::refusal;

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
    pub(crate) fn own_secrets(&self) -> Objects {
        self.own::<Secret>()
    }

    /// Leases of the source namespace.
    pub(crate) fn leases(&self) -> Objects {
        self.own::<Lease>()
    }

    /// ServiceAccounts of the source namespace.
    pub(crate) fn own_service_accounts(&self) -> Objects {
        self.own::<ServiceAccount>()
    }

    fn own<K: Resource<DynamicType = ()>>(&self) -> Objects {
        let path = K::url_path(&(), Some(&self.source_namespace));
        Objects { client: self.client.clone(), paths: Request::new(path) }
    }

    /// Writes events in the name of this replica.
    pub(crate) fn recorder(&self, identity: &str) -> Recorder {
        let reporter =
            Reporter { controller: names::FIELD_MANAGER.to_owned(), instance: Some(identity.to_owned()) };
        Recorder::new(self.client.clone(), reporter)
    }
}

/// Objects of one kind in the source namespace, each read as a type of the caller's: Kubernetes' own types refuse
/// times that the API server stores.
#[derive(Clone)]
pub(crate) struct Objects {
    client: Client,
    paths: Request,
}

impl Objects {
    /// `None` if there is no such object.
    pub(crate) async fn get<T: DeserializeOwned>(&self, name: &str) -> kube::Result<Option<T>> {
        match self.send(self.paths.get(name, &GetParams::default())).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Posts to a subresource, as a TokenRequest is.
    pub(crate) async fn create_of<T: DeserializeOwned>(
        &self,
        subresource: &str,
        name: &str,
        object: &impl Serialize,
    ) -> kube::Result<T> {
        let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
        self.send(self.paths.create_subresource(subresource, name, &PostParams::default(), body)).await
    }

    pub(crate) async fn replace(&self, name: &str, object: &impl Serialize) -> kube::Result<()> {
        let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
        self.send(self.paths.replace(name, &PostParams::default(), body)).await.map(|_: IgnoredAny| ())
    }

    pub(crate) async fn patch(
        &self,
        name: &str,
        params: &PatchParams,
        patch: &Patch<impl Serialize>,
    ) -> kube::Result<()> {
        self.send(self.paths.patch(name, params, patch)).await.map(|_: IgnoredAny| ())
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> kube::Result<T> {
        self.client.request(request.map_err(kube::Error::BuildRequest)?).await
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

    /// What it means, in words that hold nothing of the answer's text.
    pub(crate) fn meaning(&self) -> StepError {
        match self {
            Self::Refused(status) => refusal(status),
            Self::Unreadable => StepError::UnreadableAnswer,
            Self::NoAnswer => StepError::NoAnswer,
        }
    }

    /// Whether the object changed or went since it was observed: its watch brings what it is now.
    pub(crate) fn is_outdated(&self) -> bool {
        matches!(self.meaning(), StepError::Gone | StepError::Conflict)
    }
}

/// What an answer means for a step.
impl From<CallError> for StepError {
    fn from(error: CallError) -> Self {
        error.meaning()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_without_a_readable_answer_is_told_apart() {
        for (error, meaning) in [
            (kube::Error::LinesCodecMaxLineLengthExceeded, StepError::NoAnswer),
            (kube::Error::SerdeError(serde::de::Error::custom("odd")), StepError::UnreadableAnswer),
        ] {
            let shown = format!("{error:?}");
            assert_eq!(StepError::from(CallError::from(error)), meaning, "{shown}");
        }
    }
}
