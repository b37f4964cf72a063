//! The loop by namespace: observe, plan, apply, until there is nothing to do; then report.
//!
//! Why a namespace and not a credential: all credentials of one ServiceAccount travel in one
//! patch, a new namespace costs no pass over the cluster, and one bad namespace stops no other.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use regcred_index::Index;
use regcred_planner::{PairReport, Plan, StepError, World, changes, outcomes, plan};
use tokio::time::Instant;

use super::{apply, next};
use crate::context::Context;
use crate::journal::Named;
use crate::queue::Lane;

/// Plans that one pass carries out before it gives its worker to another namespace. Two are usual: the work, and
/// what follows from it.
const MAX_ROUNDS: usize = 5;
/// How long a start waits for finalizers. A write without one costs a second write of the same list, no more.
const FINALIZER_PATIENCE: Duration = Duration::from_secs(2);

/// Takes namespaces from the queue until the operator is told to stop. Every RegistryCredential has its first visits
/// before, so that a start writes each list once, with all names.
pub(crate) async fn work(context: Arc<Context>) {
    tokio::select! {
        biased;
        () = context.stage.stopping.cancelled() => return,
        () = first_visits(&context) => {}
    }
    while let Some(work) = next(&context, &context.queues.namespaces).await {
        let deleting = pass(&context, &work.key).await;
        work.done();
        // A RegistryCredential may go once all passes are done, this one too.
        for credential in deleting {
            context.queues.credentials.push(credential, Lane::Urgent);
        }
    }
}

/// Sources that need no network cannot hang, and one that waits for a registry counts as looked at. A finalizer can, on somebody's webhook, and is not waited for long.
async fn first_visits(context: &Context) {
    visited(context, Index::awaits_local_sources).await;
    let finalizers = visited(context, Index::awaits_finalizers);
    let _in_time = tokio::time::timeout(FINALIZER_PATIENCE, finalizers).await;
}

/// Waits until no RegistryCredential is waited for any more.
async fn visited(context: &Context, is_awaited: fn(&Index) -> bool) {
    loop {
        let visited = context.visited.notified();
        if !is_awaited(&context.index()) {
            return;
        }
        visited.await;
    }
}

/// One pass over a namespace: after a plan was carried out it plans again, on the view that includes the answers,
/// because the event of a write may have come before its answer and will not come again. What it reports comes from
/// the last plan. Returns the RegistryCredentials being deleted whose numbers it changed.
async fn pass(context: &Context, name: &Arc<str>) -> Vec<Arc<str>> {
    context.metrics.passes.inc();
    for _ in 0..MAX_ROUNDS {
        let now = context.now();
        let Some((world, plan)) = next_plan(context, name, now) else {
            return report(context, name, Vec::new());
        };
        if plan.steps.is_empty() {
            return conclude(context, &world, &plan, now);
        }
        let results = apply::apply(context, &plan).await;
        context.index().record(&plan, &results, context.now());
        note_changes(context, &world, &plan, &results);
    }
    // Something new each time: others are served before this goes on.
    context.queues.namespaces.push(name.clone(), Lane::Bulk);
    let now = context.now();
    next_plan(context, name, now).map_or_else(Vec::new, |(world, plan)| conclude(context, &world, &plan, now))
}

/// `None` if the namespace does not exist.
fn next_plan(context: &Context, name: &Arc<str>, now: Timestamp) -> Option<(World, Plan)> {
    let world = context.index().observe(name)?;
    let plan = plan(&world, now);
    Some((world, plan))
}

/// Notes for the log what the steps changed. The loop of statuses tells it, once all passes are done.
fn note_changes(context: &Context, world: &World, plan: &Plan, results: &[Result<(), StepError>]) {
    let mut changed = Vec::new();
    for (step, result) in plan.steps.iter().zip(results) {
        let had_copy = |uid: &str, target: &str| context.ledger().had_copy(&plan.namespace, uid, target);
        changed.extend(changes(world, plan, step, *result, had_copy));
    }
    for change in changed {
        let credential = change.credential.clone();
        context.journal.note(&plan.namespace, change);
        // Only now: a status that is looked at between the two would not find it.
        context.queues.status(credential);
    }
}

/// Remembers and reports what a plan found, none of whose steps were executed. Comes back when something that was
/// in back-off at the time of the plan may be tried.
fn conclude(context: &Context, world: &World, plan: &Plan, now: Timestamp) -> Vec<Arc<str>> {
    let name = &plan.namespace;
    let concluded = {
        let mut index = context.index();
        let memory = index.record(plan, &[], now);
        memory.map(|memory| (outcomes(plan, &[], memory, now), memory.wake_at(now)))
    };
    let (reports, wake_at) = concluded.unwrap_or_default();
    log_faults(context, world, name, &reports);
    if let Some(at) = wake_at.into_iter().chain(plan.wake_at).min() {
        context.queues.namespaces.push_at(name.clone(), Instant::now() + until(at, context.now()));
    }
    report(context, name, reports)
}

/// Logs what is not in place. The same reason in other namespaces, and in other words, is told by status: messages hold
/// what tenants write, such as names of field managers, so each could make as many as it likes.
fn log_faults(context: &Context, world: &World, namespace: &Arc<str>, reports: &[PairReport]) {
    for report in reports {
        let Some(credential) = world.credential(&report.credential).map(|found| &found.name) else {
            continue;
        };
        for (object, fault) in &report.failures {
            if let Some(unsaid) = context.troubles.faults.note(credential.clone(), fault.reason) {
                let (object, reason, cause) = (Named(object), fault.reason, &fault.message);
                tracing::warn!(
                    %credential, %namespace, %object, %reason, %cause, unsaid, "something is not in place"
                );
            }
        }
    }
}

/// Takes the reports into the ledger. Returns the RegistryCredentials being deleted whose numbers changed.
fn report(context: &Context, namespace: &Arc<str>, reports: Vec<PairReport>) -> Vec<Arc<str>> {
    let changed = {
        let mut ledger = context.ledger();
        let changed = ledger.replace(namespace, reports);
        if !changed.is_empty() {
            context.metrics.contested(ledger.contested());
        }
        changed
    };
    if changed.is_empty() {
        return Vec::new();
    }
    let index = context.index();
    let entries = index.credentials().iter().map(|(name, entry)| (name, &entry.planned));
    let concerned: Vec<_> = entries.filter(|(_, planned)| changed.contains(&planned.uid)).collect();
    for (name, _) in &concerned {
        context.queues.status((*name).clone());
    }
    concerned.into_iter().filter(|(_, planned)| planned.deleting).map(|(name, _)| name.clone()).collect()
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use regcred_api::Reason;
    use regcred_index::{Body, Event, Origin, Received, SecretScope, SourceLook};
    use regcred_planner::{Payload, SourceState};
    use serde_json::{Value, json};

    use super::*;
    use crate::fake;

    fn put<T: Body>(object: &Value) -> Event<T> {
        let received: Received<T> = serde_json::from_str(&object.to_string()).expect("an object with a name");
        Event::Put(received, Origin::Watch)
    }

    fn name() -> Arc<str> {
        Arc::from("pull")
    }

    fn shop() -> Arc<str> {
        Arc::from("shop")
    }

    /// A namespace and a RegistryCredential that wants a Secret there, with no entry on a list.
    fn observe_inputs(context: &Context) {
        let mut index = context.index();
        let namespace = json!({"metadata": {"name": "shop", "uid": "n1", "resourceVersion": "1"}});
        index.ingest_namespace(put(&namespace));
        index.ingest_credential(put(&json!({
            "metadata": {
                "name": "pull", "uid": "c1", "generation": 1, "resourceVersion": "2",
                "finalizers": [regcred_api::names::FINALIZER],
            },
            "spec": {
                "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": "bot"}}}],
                "namespaces": {"from": "All"}, "serviceAccounts": {"from": "None"},
            },
        })));
    }

    fn give(context: &Context, fingerprint: &str) {
        let mut index = context.index();
        let spec = index.credential(&name()).and_then(|entry| entry.wanted_sources().cloned());
        let payload = Payload {
            content: b"{}".to_vec().into(),
            fingerprint: fingerprint.to_owned(),
            servers: ["ghcr.io".to_owned()].into(),
            expires_at: None,
        };
        let state = SourceState::Resolved { registries: Vec::new(), note: None };
        let spec = spec.expect("a spec whose sources are wanted");
        let look = SourceLook { spec, request: None, state, payload: Some(payload), retrying: false };
        index.take_look(&name(), look);
    }

    /// The answer to an apply, by an API server whose webhook takes the team's label for its own.
    fn changed_by_a_webhook(applied: &Value, version: usize) -> Value {
        let mut metadata = applied["metadata"].clone();
        let fields = |value: &Value| -> Value {
            value.as_object().unwrap().keys().map(|key| (format!("f:{key}"), json!({}))).collect()
        };
        let labels = fields(&metadata["labels"]);
        let annotations = fields(&metadata["annotations"]);
        metadata["labels"]["app.kubernetes.io/managed-by"] = json!("the webhook");
        metadata["namespace"] = json!("shop");
        metadata["uid"] = json!("s1");
        metadata["resourceVersion"] = json!(version.to_string());
        metadata["managedFields"] = json!([{
            "manager": "regcred", "operation": "Apply",
            "fieldsV1": {
                "f:data": {"f:.dockerconfigjson": {}},
                "f:metadata": {"f:labels": labels, "f:annotations": annotations},
            },
        }]);
        json!({"metadata": metadata})
    }

    /// Passes over the namespace for so long.
    async fn work_for(context: &Context, time: Duration) {
        let passes = async {
            loop {
                let work = context.queues.namespaces.next().await;
                pass(context, &work.key).await;
                work.done();
            }
        };
        let _over = tokio::time::timeout(time, passes).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_that_changes_what_is_written_is_named_and_not_fought() {
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = writes.clone();
        let context = fake::context("a", move |_, _, body| {
            let version = 100 + counted.fetch_add(1, Ordering::Relaxed);
            (200, changed_by_a_webhook(&body, version))
        });
        observe_inputs(&context);
        give(&context, "1");
        context.queues.namespace(shop());
        work_for(&context, Duration::from_mins(1)).await;
        assert!((2..=6).contains(&writes.load(Ordering::Relaxed)), "{writes:?} in a minute");
        let failures = context.ledger().tally("c1").failures;
        let reasons: Vec<_> = failures.values().map(|fault| fault.reason).collect();
        assert_eq!(reasons, [Reason::Contested]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_listed_before_its_namespaces_is_settled_after_their_passes() {
        let context = fake::context("a", |_, _, _| (500, json!({})));
        observe_inputs(&context);
        context.queues.namespace(shop());
        crate::start_over(&context);
        assert!(!context.queues.is_settled(&name()));
        work_for(&context, Duration::from_secs(1)).await;
        assert!(context.queues.is_settled(&name()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_works_again_writes_no_credential_of_the_last_time() {
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = writes.clone();
        let context = fake::context("a", move |_, _, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            (500, json!({}))
        });
        observe_inputs(&context);
        give(&context, "outdated");
        crate::start_over(&context);
        context.queues.namespace(shop());
        work_for(&context, Duration::from_secs(1)).await;
        assert_eq!(writes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn nobody_hides_a_fault_by_causing_many_of_another_kind() {
        let context = fake::context("a", |_, _, _| (500, json!({})));
        observe_inputs(&context);
        let world = context.index().observe(&shop()).expect("an observed namespace");
        let fault = |reason, message: String| {
            let object = regcred_planner::Object::Secret(name());
            let since = context.now();
            let fault = regcred_planner::Fault {
                reason,
                message: message.into(),
                since,
                retrying: true,
                retry_at: None,
            };
            (object, fault)
        };
        let contested =
            (0..100).map(|number| fault(Reason::Contested, format!("undone by the field manager m{number}")));
        let report = PairReport {
            credential: Arc::from("c1"),
            role: regcred_planner::Role::Wanted,
            target: name(),
            secret: regcred_planner::State::Failed,
            accounts: regcred_planner::AccountCounts::default(),
            kept: false,
            failures: contested.chain([fault(Reason::Forbidden, "not allowed".to_owned())]).collect(),
        };
        let told = fake::logged(|| log_faults(&context, &world, &shop(), &[report]));
        assert_eq!(told.lines().count(), 2, "{told}");
        assert!(told.contains("reason=Contested") && told.contains("reason=Forbidden"), "{told}");
    }

    #[tokio::test]
    async fn a_replica_that_works_again_tells_no_end_of_the_last_times_troubles() {
        let context = fake::context("a", |_, _, _| (500, json!({})));
        let _first = context.troubles.sources.note(name(), Reason::SourceNotFound);
        crate::start_over(&context);
        assert!(!context.troubles.sources.over(&name()), "another replica may have told the end of it");
    }

    #[tokio::test(start_paused = true)]
    async fn no_secret_is_deleted_whose_entry_a_webhook_puts_back() {
        let context = fake::context("a", |method, path, _| {
            assert!(method == "PATCH" && path.ends_with("/serviceaccounts/default"), "{method} {path}");
            let metadata = json!({"namespace": "shop", "name": "default", "uid": "a1", "resourceVersion": "9", "annotations": {"regcred.dev/attached": "pull"}});
            (200, json!({"metadata": metadata, "imagePullSecrets": [{"name": "pull"}]}))
        });
        observe_inputs(&context);
        {
            let mut index = context.index();
            let account = json!({
                "metadata": {
                    "namespace": "shop", "name": "default", "uid": "a1", "resourceVersion": "5",
                    "annotations": {"regcred.dev/attached": "pull"},
                },
                "imagePullSecrets": [{"name": "pull"}],
            });
            index.ingest_service_account(put(&account));
            let copy = json!({"metadata": {
                "namespace": "shop", "name": "pull", "uid": "s1", "resourceVersion": "6",
                "annotations": {"regcred.dev/credential-uid": "c1"},
            }});
            index.ingest_secret(&SecretScope { name: None, wrong_type: false }, put(&copy));
            index.ingest_credential(put(&json!({
                "metadata": {
                    "name": "pull", "uid": "c1", "generation": 2, "resourceVersion": "7",
                    "finalizers": [regcred_api::names::FINALIZER],
                },
                "spec": {
                    "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": "bot"}}}],
                    "namespaces": {"matchNames": ["elsewhere"]},
                },
            })));
        }
        context.queues.namespace(shop());
        work_for(&context, Duration::from_secs(3)).await;
    }
}
