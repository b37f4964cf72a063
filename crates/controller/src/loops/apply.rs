//! Executes the steps of a plan: one request each, in order. The only place that writes Secrets and
//! ServiceAccounts. Answers are ingested at once, so that the next plan is made on
//! a view at least as new as our own last write.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use regcred_api::{RegistryCredential, names};
use regcred_index::{Received, SecretBody};
use regcred_planner::{ListPatch, Plan, Precondition, Removal, SecretCopy, Step, StepError};
use serde_json::{Value, json};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use crate::calls::{answer, as_manager};
use crate::context::Context;
use crate::journal::Named;
use crate::metrics::name;
use crate::watch;

/// Executes every step that can be. One that fails stops only those that depend on it.
pub(crate) async fn apply(context: &Context, plan: &Plan) -> Vec<Result<(), StepError>> {
    let writer = Writer { context, namespace: &plan.namespace };
    let mut results: Vec<Result<(), StepError>> = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let result = match plan.obstacle(&results) {
            Some(error) => Err(error),
            None => writer.execute(step).await,
        };
        results.push(result);
    }
    results
}

/// No object is larger, in bytes: etcd takes no larger request.
const LARGEST_OBJECT: usize = 1_572_864;

struct Writer<'a> {
    context: &'a Context,
    namespace: &'a Arc<str>,
}

impl Writer<'_> {
    async fn execute(&self, step: &Step) -> Result<(), StepError> {
        let begun = Instant::now();
        let result = match step {
            Step::PatchServiceAccount(patch) => self.patch_service_account(patch).await,
            Step::ApplySecret { copy, over } => self.apply_secret(copy, over.as_ref()).await,
            Step::RotateSecret { copy, over } => self.rotate_secret(copy, over).await,
            Step::VerifySecret { copy, over } => self.verify_secret(copy, over).await,
            Step::RecreateSecret { copy, over } => match self.delete_secret(&copy.name, over).await {
                Ok(()) => self.apply_secret(copy, None).await,
                refused => refused,
            },
            Step::DeleteSecret(removal) => self.delete_secret(&removal.name, &removal.over).await,
            Step::ReleaseSecret(removal) => self.release_secret(removal).await,
        };
        self.context.metrics.step_executed(step, result, begun.elapsed());
        let object = step.object();
        let object = tracing::field::display(Named(&object));
        if let Err(error) = result {
            tracing::debug!(namespace = %self.namespace, step = name(step), object, %error, "a write failed");
        } else {
            tracing::debug!(namespace = %self.namespace, step = name(step), object, "written");
        }
        result
    }

    async fn patch_service_account(&self, patch: &ListPatch) -> Result<(), StepError> {
        let answer_size = self.context.index().size_of_service_account(self.namespace, &patch.name);
        let _room = self.context.room.to_write(answer_size).await;
        let body = Patch::Merge(list(patch));
        let accounts = self.context.calls.service_accounts(self.namespace);
        let written = answer(accounts.patch(&patch.name, &as_manager(), &body)).await?;
        let kept = |name: &Arc<str>| written.body().is_some_and(|account| account.keeps(name));
        // A webhook may put an entry back in the very request: its Secret must not be deleted then.
        let put_back = patch.detach.iter().any(kept);
        watch::ingest_written_service_account(self.context, written);
        if put_back { Err(StepError::Undone) } else { Ok(()) }
    }

    async fn apply_secret(&self, copy: &SecretCopy, over: Option<&Precondition>) -> Result<(), StepError> {
        let _room = self.room(copy).await;
        let params = PatchParams { force: over.is_some(), ..as_manager() };
        let written = self.patch_secret(&copy.name, &params, Patch::Apply(manifest(copy, over))).await;
        written.map(drop).map_err(StepError::of_copy)
    }

    /// It takes the API server less than an apply: nothing is merged by schema.
    async fn rotate_secret(&self, copy: &SecretCopy, over: &Precondition) -> Result<(), StepError> {
        let _room = self.room(copy).await;
        let mut body = content(copy, over);
        // Those that the copy has no longer are taken off.
        for key in names::CONTENT_ANNOTATIONS.iter().filter(|key| !copy.annotations.contains_key(**key)) {
            body["metadata"]["annotations"][*key] = Value::Null;
        }
        let written = self.patch_secret(&copy.name, &as_manager(), Patch::Merge(body)).await;
        written.map(drop).map_err(StepError::of_copy)
    }

    /// A patch to what is there already makes no new version. What others put beside it is no business of this.
    async fn verify_secret(&self, copy: &SecretCopy, over: &Precondition) -> Result<(), StepError> {
        let _room = self.room(copy).await;
        let body = Patch::Merge(content(copy, over));
        let version = self.patch_secret(&copy.name, &as_manager(), body).await.map_err(StepError::of_copy)?;
        if version == *over.resource_version { Ok(()) } else { Err(StepError::Undone) }
    }

    /// Room for what is sent and for the answer, which repeats the metadata that others wrote.
    async fn room(&self, copy: &SecretCopy) -> Option<SemaphorePermit<'_>> {
        let answer_size = self.context.index().size_of_secret(self.namespace, &copy.name);
        self.context.room.to_write(copy.payload.content.expose().len() + answer_size).await
    }

    async fn release_secret(&self, removal: &Removal) -> Result<(), StepError> {
        let answer_size = self.context.index().size_of_secret(self.namespace, &removal.name);
        let _room = self.context.room.to_write(answer_size).await;
        self.patch_secret(&removal.name, &as_manager(), Patch::Strategic(unmark(removal))).await.map(drop)
    }

    /// Returns the version of the Secret that the answer has.
    async fn patch_secret(
        &self,
        name: &str,
        params: &PatchParams,
        body: Patch<Value>,
    ) -> Result<String, StepError> {
        let written = answer(self.secrets().patch(name, params, &body)).await?;
        let version = written.resource_version().to_owned();
        watch::ingest_written_secret(self.context, written);
        Ok(version)
    }

    /// The answer to a deletion is short, but where a finalizer keeps the Secret: then it is all of it, of a size that
    /// nobody knows.
    async fn delete_secret(&self, name: &Arc<str>, over: &Precondition) -> Result<(), StepError> {
        let held = self.context.index().is_secret_held(self.namespace, name);
        let _room = self.context.room.to_write(if held { LARGEST_OBJECT } else { 0 }).await;
        let preconditions = Preconditions {
            uid: Some(over.uid.to_string()),
            resource_version: Some(over.resource_version.to_string()),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match answer(self.secrets().delete(name, &params)).await.map_err(StepError::from) {
            Ok(_) | Err(StepError::Gone) => {}
            Err(error) => return Err(error),
        }
        self.context.index().note_deleted_secret(self.namespace, name, over);
        Ok(())
    }

    fn secrets(&self) -> Api<Received<SecretBody>> {
        self.context.calls.secrets(self.namespace)
    }
}

/// The whole list, and the annotation that says which of its entries are ours.
fn list(patch: &ListPatch) -> Value {
    let marked = patch.marked.iter().map(|name| &**name).collect::<Vec<_>>().join(",");
    let marked = if marked.is_empty() { Value::Null } else { json!(marked) };
    json!({
        "metadata": {
            "resourceVersion": &*patch.resource_version,
            "annotations": {names::ATTACHED_ANNOTATION: marked},
        },
        "imagePullSecrets": patch.list.iter().map(|name| json!({"name": &**name})).collect::<Vec<_>>(),
    })
}

/// The whole Secret as server-side apply takes it: what it no longer mentions is removed.
fn manifest(copy: &SecretCopy, over: Option<&Precondition>) -> Value {
    let mut metadata = json!({
        "name": &*copy.name,
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
        // Without the UID an apply makes a Secret anew that somebody has just deleted, whatever the version says.
        metadata["uid"] = json!(&*over.uid);
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

/// The data, and the annotations that change with it.
fn content(copy: &SecretCopy, over: &Precondition) -> Value {
    let is_content = |key: &str| names::CONTENT_ANNOTATIONS.contains(&key);
    let annotations = copy.annotations.iter().filter(|(key, _)| is_content(key));
    json!({
        "metadata": {
            "uid": &*over.uid,
            "resourceVersion": &*over.resource_version,
            "annotations": annotations.collect::<BTreeMap<_, _>>(),
        },
        "data": {names::SECRET_KEY: STANDARD.encode(copy.payload.content.expose())},
    })
}

/// A strategic merge patch, because it can take one ownerReference out by its key. What is left says whose it was, so
/// that a RegistryCredential of that name may take it back.
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
                names::SUPERSEDED_AT_ANNOTATION: null,
                names::RETAINED_FROM_ANNOTATION: &*removal.credential_name,
            },
            "ownerReferences": [{"$patch": "delete", "uid": &*removal.credential}],
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use regcred_index::{Event, Origin, SecretScope};
    use regcred_planner::Payload;

    use super::*;
    use crate::fake;

    fn plan_of(step: Step) -> Plan {
        Plan { namespace: Arc::from("shop"), steps: vec![step], ..Plan::default() }
    }

    /// A copy of so many bytes.
    fn copy_of(bytes: usize) -> Arc<SecretCopy> {
        let payload = Payload {
            content: vec![b'x'; bytes].into(),
            fingerprint: String::new(),
            servers: Arc::from([]),
            expires_at: None,
        };
        Arc::new(SecretCopy {
            name: Arc::from("pull"),
            credential_uid: Arc::from("c1"),
            credential_name: Arc::from("pull"),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owned: false,
            payload,
        })
    }

    /// A context whose API server refuses everything, and how many requests it got.
    fn refusing() -> (Arc<Context>, Arc<AtomicUsize>) {
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = writes.clone();
        let context = fake::context("a", move |_, _, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            (500, json!({}))
        });
        (context, writes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_copy_waits_for_room_and_a_small_one_needs_none() {
        let (context, writes) = refusing();
        let written = async |bytes: usize| {
            let plan = plan_of(Step::ApplySecret { copy: copy_of(bytes), over: None });
            let in_time = tokio::time::timeout(Duration::from_secs(1), apply(&context, &plan)).await;
            (in_time.is_ok(), writes.load(Ordering::Relaxed))
        };
        let all = context.room.to_write(usize::MAX).await;
        assert_eq!(written(900_000).await, (false, 0));
        assert_eq!(written(1_000).await, (true, 1));
        drop(all);
        assert_eq!(written(900_000).await, (true, 2));
        assert_eq!(written(900_000).await, (true, 3), "a write that failed gave its room back");
    }

    /// A ServiceAccount and a Secret as a tenant leaves them, with annotations of so many bytes and a finalizer.
    fn observe(context: &Context, bytes: usize) {
        let metadata = json!({
            "name": "pull", "namespace": "shop", "uid": "u", "resourceVersion": "5", "finalizers": ["a.com/b"],
            "annotations": {"note": "x".repeat(bytes)},
        });
        let text = json!({"metadata": metadata}).to_string();
        let mut index = context.index();
        let account = serde_json::from_str(&text).unwrap();
        index.ingest_service_account(Event::Put(account, Origin::Watch));
        index.ingest_secret(
            &SecretScope::all(&[])[0],
            Event::Put(serde_json::from_str(&text).unwrap(), Origin::Watch),
        );
    }

    /// Every write, each of an object with the name `pull`.
    fn every_step() -> [Step; 7] {
        let over = Precondition { uid: Arc::from("u"), resource_version: Arc::from("5") };
        let name: Arc<str> = Arc::from("pull");
        let (credential, credential_name) = (Arc::from("c1"), name.clone());
        let removal = Removal { name: name.clone(), over: over.clone(), credential, credential_name };
        let patch = ListPatch {
            name,
            uid: over.uid.clone(),
            resource_version: over.resource_version.clone(),
            list: Vec::new(),
            attach: BTreeSet::new(),
            detach: BTreeSet::new(),
            unmark: BTreeSet::new(),
            marked: BTreeSet::new(),
        };
        [
            Step::PatchServiceAccount(patch),
            Step::ApplySecret { copy: copy_of(9), over: Some(over.clone()) },
            Step::RotateSecret { copy: copy_of(9), over: over.clone() },
            Step::VerifySecret { copy: copy_of(9), over: over.clone() },
            Step::RecreateSecret { copy: copy_of(9), over },
            Step::DeleteSecret(removal.clone()),
            Step::ReleaseSecret(removal),
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_whose_answer_is_large_waits_for_room() {
        let (context, writes) = refusing();
        observe(&context, 900_000);
        let all = context.room.to_write(usize::MAX).await;
        for step in every_step() {
            let plan = plan_of(step);
            let in_time = tokio::time::timeout(Duration::from_secs(1), apply(&context, &plan)).await;
            assert!(in_time.is_err(), "{:?}", plan.steps[0].object());
        }
        assert_eq!(writes.load(Ordering::Relaxed), 0);
        drop(all);
        for step in every_step() {
            apply(&context, &plan_of(step)).await;
        }
        assert_eq!(writes.load(Ordering::Relaxed), every_step().len());
    }
}
