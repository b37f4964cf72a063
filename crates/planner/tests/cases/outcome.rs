//! What a case gives: its plan, and the status of each credential after it was executed.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use jiff::SignedDuration;
use regcred_api::{ConditionType, Reason, RegistryCredentialStatus};
use regcred_planner::{
    Credential, Ledger, ListPatch, Object, Observed, Plan, ResolvedRegistry, SourceNote, SourceState, Step,
    StepError, World, outcomes, plan, report,
};

use crate::case::{Case, now};

/// The expected part of a case, as its file has it after `plan: |`.
pub(crate) fn of(case: &Case) -> String {
    let mut world = case.world();
    let plan = plan(&world, now());
    let results = execute(case, &plan);
    world.memory.record(&plan, &results, now());
    let mut ledger = Ledger::default();
    ledger.replace(&world.namespace.name, outcomes(&plan, &results, &world.memory, now()));
    let mut text = steps(&plan, &results);
    text.push_str("status: |\n");
    for credential in &*world.credentials {
        status(&mut text, credential, &ledger, &source(case, &credential.name));
    }
    if world.credentials.is_empty() {
        text.push_str("  nothing\n");
    }
    if let Some(wait) = next(&world, &plan) {
        writeln!(text, "  back-off: {wait}").unwrap();
    }
    text
}

/// Executes the steps as the controller does: after a failure, without those that depend on it.
fn execute(case: &Case, plan: &Plan) -> Vec<Result<(), StepError>> {
    let objects: BTreeSet<_> = plan.steps.iter().map(|step| name(&step.object())).collect();
    let unknown: Vec<_> = case.answered().into_iter().filter(|object| !objects.contains(*object)).collect();
    assert!(unknown.is_empty(), "{}: no step writes {unknown:?}", case.rule);
    let mut results: Vec<Result<(), StepError>> = Vec::new();
    for step in &plan.steps {
        let obstacle = plan.obstacle(&results);
        results.push(obstacle.map_or_else(|| case.answer(&name(&step.object())), Err));
    }
    results
}

fn steps(plan: &Plan, results: &[Result<(), StepError>]) -> String {
    let mut text = String::new();
    for (step, result) in plan.steps.iter().zip(results) {
        let answer = result.map_or_else(|error| format!("  # {error:?}"), |()| String::new());
        writeln!(text, "  {}{answer}", sentence(step)).unwrap();
    }
    if plan.steps.is_empty() {
        text.push_str("  nothing\n");
    }
    text
}

fn sentence(step: &Step) -> String {
    let object = name(&step.object());
    match step {
        Step::PatchServiceAccount(patch) => {
            let marked = |name: &Arc<str>| if patch.marked.contains(name) { "*" } else { "" };
            let list: Vec<_> = patch.list.iter().map(|name| format!("{name}{}", marked(name))).collect();
            format!("patch {object}: {} → [{}]", changes(patch), list.join(", "))
        }
        Step::ApplySecret { copy, over: None } => {
            format!("apply {object} of {}, which must not exist", copy.credential_name)
        }
        Step::ApplySecret { copy, over: Some(over) } => {
            format!("apply {object} of {} over version {}", copy.credential_name, over.resource_version)
        }
        Step::RotateSecret { copy, over } => {
            format!("rotate {object} of {} at version {}", copy.credential_name, over.resource_version)
        }
        Step::VerifySecret { copy, over } => {
            format!("verify {object} of {} at version {}", copy.credential_name, over.resource_version)
        }
        Step::RecreateSecret { copy, .. } => format!("delete and apply {object} of {}", copy.credential_name),
        Step::DeleteSecret(_) => format!("delete {object}"),
        Step::ReleaseSecret(_) => format!("release {object}: remove the marks, keep the data"),
    }
}

fn changes(patch: &ListPatch) -> String {
    let attach = patch.attach.iter().map(|name| format!("+{name}"));
    let detach = patch.detach.iter().map(|name| format!("-{name}"));
    let unmark = patch.unmark.iter().map(|name| format!("{name} is not ours"));
    attach.chain(detach).chain(unmark).collect::<Vec<_>>().join(" ")
}

fn name(object: &Object) -> String {
    match object {
        Object::Secret(name) => format!("Secret {name}"),
        Object::ServiceAccount(name) => format!("ServiceAccount {name}"),
    }
}

/// One line of conditions, the message of `Ready`, the event of a conflict, and one line for each failure.
fn status(text: &mut String, credential: &Credential, ledger: &Ledger, source: &SourceState) {
    let observed = Observed {
        credential,
        generation: Some(1),
        request: None,
        source: Some(source),
        verified: None,
        tally: &ledger.tally(&credential.uid),
        in_progress: false,
    };
    let (status, events) = report(None, &observed, now());
    writeln!(text, "  {}: {}{}", credential.name, conditions(&status), counts(&status)).unwrap();
    writeln!(text, "    {}", status.condition(ConditionType::Ready).unwrap().message).unwrap();
    for event in events.iter().filter(|event| event.reason == Reason::SourceConflict) {
        writeln!(text, "    event {}: {}", event.reason, event.note).unwrap();
    }
    for failure in &status.failures {
        writeln!(text, "    {} {}: {}", failure.kind, failure.name, failure.reason).unwrap();
    }
}

fn source(case: &Case, credential: &str) -> SourceState {
    if case.source_is_missing(credential) {
        let message = "Secret s does not exist in the source namespace; create it there".to_owned();
        return SourceState::Failed { reason: Reason::SourceNotFound, message, registries: None };
    }
    let (server, fingerprint) = ("ghcr.io".to_owned(), "12345678".to_owned());
    let registries =
        vec![ResolvedRegistry { server, kind: "Secret", fingerprint, expires_at: None, renew_at: None }];
    let conflict = |message: &str| SourceNote { reason: Reason::SourceConflict, message: message.to_owned() };
    SourceState::Resolved { registries, note: case.conflict(credential).map(conflict) }
}

/// How many of the selected namespaces and ServiceAccounts are as desired.
fn counts(status: &RegistryCredentialStatus) -> String {
    let count = |text: &str, of: &str| if text.is_empty() { String::new() } else { format!(", {text} {of}") };
    let summary = &status.summary;
    count(&summary.namespaces, "namespaces") + &count(&summary.service_accounts, "ServiceAccounts")
}

/// Conditions in the order of status, without those that only repeat `Ready`.
fn conditions(status: &RegistryCredentialStatus) -> String {
    let routine = [
        "SourceReady=True/Resolved",
        "SourceReady=False/SourceNotFound",
        "SecretsSynced=True/AllSynced",
        "SecretsSynced=False/PartiallySynced",
        "ServiceAccountsAttached=True/AllAttached",
        "ServiceAccountsAttached=False/PartiallyAttached",
    ];
    let all = status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason));
    all.filter(|condition| !routine.contains(&condition.as_str())).collect::<Vec<_>>().join(" ")
}

/// When the next back-off, pause or grace period ends.
fn next(world: &World, plan: &Plan) -> Option<String> {
    let wake_at = [world.memory.wake_at(now()), plan.wake_at].into_iter().flatten().min();
    let seconds = wake_at?.duration_since(now()).as_secs();
    let whole = SignedDuration::from_secs(seconds);
    Some(if seconds == 0 { "less than 1s".to_owned() } else { format!("{whole:#}") })
}
