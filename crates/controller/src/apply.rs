//! Takes the steps of a plan: one request each, in order. The only place that writes Secrets and
//! ServiceAccounts. What comes back goes into the index at once, so that the next plan is made on
//! a view at least as new as our own last write.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, ValidationDirective};
use kube::core::{PartialObjectMeta, Status};
use regcred_api::{RegistryCredential, names};
use regcred_planner::{ListPatch, Plan, Precondition, Removal, SecretCopy, Step, StepError};
use serde_json::{Value, json};

use crate::Context;
use crate::client::CALL_DEADLINE;
use crate::decode::{self, SlimServiceAccount};
use crate::shelf::{Origin, version};

/// Takes every step that can be taken. One that fails stops only those that depend on it.
pub async fn apply(context: &Context, plan: &Plan) -> Vec<Result<(), StepError>> {
    let writer = Writer { context, namespace: &plan.namespace };
    let mut results: Vec<Result<(), StepError>> = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let result = match obstacle(step, &plan.steps, &results) {
            Some(error) => Err(error),
            None => writer.take(step).await,
        };
        results.push(result);
    }
    results
}

/// Why a step must not be taken after what happened to the steps before it.
fn obstacle(step: &Step, steps: &[Step], results: &[Result<(), StepError>]) -> Option<StepError> {
    let failed = || steps.iter().zip(results).filter_map(|(step, result)| Some((step, result.err()?)));
    if failed().any(|(_, error)| error == StepError::NamespaceTerminating) {
        return Some(StepError::NamespaceTerminating);
    }
    failed().any(|(earlier, _)| step.depends_on(earlier)).then_some(StepError::Blocked)
}

struct Writer<'a> {
    context: &'a Context,
    namespace: &'a Arc<str>,
}

impl Writer<'_> {
    async fn take(&self, step: &Step) -> Result<(), StepError> {
        let write = async {
            match step {
                Step::PatchServiceAccount(patch) => self.patch_service_account(patch).await,
                Step::ApplySecret { copy, over } => self.apply_secret(copy, over.as_ref()).await,
                Step::RecreateSecret { copy, over } => {
                    self.delete_secret(&copy.name, over).await?;
                    self.apply_secret(copy, None).await
                }
                Step::DeleteSecret(removal) => self.delete_secret(&removal.name, &removal.over).await,
                Step::ReleaseSecret(removal) => self.release_secret(removal).await,
            }
        };
        let result = tokio::time::timeout(CALL_DEADLINE, write).await.unwrap_or(Err(StepError::NoAnswer));
        self.context.metrics.step_taken(step, result);
        if let Err(error) = result {
            tracing::debug!(namespace = %self.namespace, object = ?step.object(), %error, "a write failed");
        }
        result
    }

    async fn patch_service_account(&self, patch: &ListPatch) -> Result<(), StepError> {
        let api: Api<SlimServiceAccount> =
            Api::namespaced(self.context.clients.write.clone(), self.namespace);
        let body = json!({
            "metadata": {"resourceVersion": &*patch.resource_version},
            "imagePullSecrets": patch.list.iter().map(|name| json!({"name": &**name})).collect::<Vec<_>>(),
        });
        let written =
            api.patch(&patch.name, &as_manager(), &Patch::Merge(body)).await.map_err(|e| classify(&e))?;
        let version = version(written.metadata.resource_version.as_deref());
        let mut index = self.context.index();
        let account = decode::service_account(written, &mut index.interner);
        index.service_accounts.apply(
            (self.namespace.clone(), patch.name.clone()),
            version,
            account,
            Origin::OwnWrite,
        );
        Ok(())
    }

    async fn apply_secret(&self, copy: &SecretCopy, over: Option<&Precondition>) -> Result<(), StepError> {
        let params = PatchParams { force: over.is_some(), ..as_manager() };
        let body = Patch::Apply(manifest(copy, over));
        let written = self.secrets().patch_metadata(&copy.name, &params, &body).await;
        self.take_in(&copy.name, &written.map_err(|error| classify(&error))?);
        Ok(())
    }

    async fn release_secret(&self, removal: &Removal) -> Result<(), StepError> {
        let body = Patch::Strategic(unmark(removal));
        let written = self.secrets().patch_metadata(&removal.name, &as_manager(), &body).await;
        self.take_in(&removal.name, &written.map_err(|error| classify(&error))?);
        Ok(())
    }

    async fn delete_secret(&self, name: &str, over: &Precondition) -> Result<(), StepError> {
        let preconditions = Preconditions {
            uid: Some(over.uid.to_string()),
            resource_version: Some(over.resource_version.to_string()),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.secrets().delete(name, &params).await.map_err(|error| classify(&error)) {
            Ok(_) | Err(StepError::Gone) => {}
            Err(error) => return Err(error),
        }
        self.context.index().note_deleted_secret(&(self.namespace.clone(), Arc::from(name)));
        Ok(())
    }

    fn take_in(&self, name: &str, written: &PartialObjectMeta<Secret>) {
        let mut index = self.context.index();
        let version = version(written.metadata.resource_version.as_deref());
        let secret = decode::secret(written, false, &mut index.interner);
        let key = (self.namespace.clone(), index.interner.string(name));
        index.apply_own_secret(key, version, secret);
    }

    /// Asks for metadata in the answers: the content never comes back.
    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.context.clients.write.clone(), self.namespace)
    }
}

/// Our bodies are made of typed fields, so the API server need not look for unknown ones.
fn as_manager() -> PatchParams {
    PatchParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        field_validation: Some(ValidationDirective::Ignore),
        ..PatchParams::default()
    }
}

/// The whole Secret as server-side apply takes it: what it no longer mentions goes away.
fn manifest(copy: &SecretCopy, over: Option<&Precondition>) -> Value {
    let mut metadata = json!({
        "name": copy.name,
        "labels": copy.labels,
        "annotations": copy.annotations,
    });
    if copy.owned {
        metadata["ownerReferences"] = json!([{
            "apiVersion": <RegistryCredential as kube::Resource>::api_version(&()),
            "kind": <RegistryCredential as kube::Resource>::kind(&()),
            "name": &*copy.credential_name,
            "uid": &*copy.credential_uid,
        }]);
    }
    if let Some(over) = over {
        metadata["resourceVersion"] = json!(&*over.resource_version);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": names::SECRET_TYPE,
        "data": {names::SECRET_KEY: STANDARD.encode(copy.payload.content.expose())},
    })
}

/// A strategic merge patch, because it can take one ownerReference out by its key.
fn unmark(removal: &Removal) -> Value {
    json!({
        "metadata": {
            "uid": &*removal.over.uid,
            "resourceVersion": &*removal.over.resource_version,
            "labels": {names::MANAGED_BY_LABEL: null, names::CREDENTIAL_LABEL: null},
            "annotations": {
                names::CREDENTIAL_UID_ANNOTATION: null,
                names::SERVERS_ANNOTATION: null,
                names::FINGERPRINT_ANNOTATION: null,
                names::EXPIRES_AT_ANNOTATION: null,
            },
            "ownerReferences": [{"$patch": "delete", "uid": &*removal.credential}],
        },
    })
}

/// What an answer means for a step.
pub fn classify(error: &kube::Error) -> StepError {
    let kube::Error::Api(status) = error else { return StepError::NoAnswer };
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
    use super::*;

    fn refusal(code: u16, message: &str, causes: &[(&str, &str)]) -> kube::Error {
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
            (refusal(403, "", &[("NamespaceTerminating", "")]), StepError::NamespaceTerminating),
            (refusal(403, "secrets is forbidden: exceeded quota: q", &[]), StepError::QuotaExceeded),
            (refusal(403, "User cannot patch", &[]), StepError::Forbidden),
            (
                refusal(403, "policy 'cage' denied request: taking over needs cage.allowAdopt", &[]),
                StepError::AdoptNotAllowed,
            ),
            (refusal(403, "ValidatingAdmissionPolicy 'p' denied request: no", &[]), StepError::Rejected(403)),
            (refusal(404, "", &[]), StepError::Gone),
            (refusal(409, "", &[]), StepError::Conflict),
            (refusal(409, "", &[(conflict, ".data..dockerconfigjson")]), StepError::NameConflict),
            (refusal(409, "", &[(conflict, ".data.x"), (conflict, ".type")]), StepError::TypeMismatch),
            (refusal(413, "", &[]), StepError::TooLarge),
            (
                refusal(422, "data: Forbidden: field is immutable when `immutable` is set", &[]),
                StepError::Conflict,
            ),
            (refusal(422, "denied by policy", &[]), StepError::Rejected(422)),
            (refusal(429, "", &[]), StepError::Unavailable { code: 429, retry_after: 3 }),
            (refusal(503, "", &[]), StepError::Unavailable { code: 503, retry_after: 3 }),
            (kube::Error::LinesCodecMaxLineLengthExceeded, StepError::NoAnswer),
        ] {
            assert_eq!(classify(&error), meaning, "{error:?}");
        }
    }
}
