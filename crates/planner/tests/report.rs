//! What status says, state by state, and that it says nothing twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fixture::at;
use regcred_api::{ConditionType, NamespaceCounts, Reason, RegistryCredentialStatus, ServiceAccountCounts};
use regcred_planner::{
    Credential, Event, Fault, InvalidSpec, Object, Observed, ResolvedRegistry, SourceState, Tally, report,
};
use serde_json::json;

fn credential(fields: &serde_json::Value) -> Credential {
    fixture::credential("pull", &fixture::spec(fields), None)
}

fn resolved(fingerprint: &str) -> SourceState {
    let registry = ResolvedRegistry {
        server: "ghcr.io".to_owned(),
        kind: "Secret",
        fingerprint: fingerprint.to_owned(),
        expires_at: None,
        renew_at: None,
    };
    SourceState::Resolved { registries: vec![registry], note: None }
}

fn tally(matched: usize, synced: usize, faults: &[(&str, Object, Reason)]) -> Tally {
    let failed = faults.iter().filter(|(_, object, _)| object.is_secret()).count();
    let fault = |reason: Reason| Fault {
        reason,
        message: Arc::from("what is wrong and what to do"),
        since: at(0),
        retrying: false,
    };
    let contested = faults.iter().filter(|(.., reason)| *reason == Reason::Contested).count();
    Tally {
        namespaces: NamespaceCounts { matched, synced, failed },
        service_accounts: ServiceAccountCounts {
            matched,
            attached: synced - contested,
            failed: faults.len(),
            contested,
        },
        departing: BTreeSet::new(),
        kept: BTreeMap::new(),
        failures: faults
            .iter()
            .map(|(ns, object, reason)| ((Arc::from(*ns), object.clone()), fault(*reason)))
            .collect(),
    }
}

fn secret() -> Object {
    Object::Secret(Arc::from("pull"))
}

fn observed<'a>(
    credential: &'a Credential,
    source: Option<&'a SourceState>,
    tally: &'a Tally,
) -> Observed<'a> {
    Observed { credential, generation: Some(3), request: None, source, tally, in_progress: false }
}

/// A condition as `status/reason`.
fn condition(status: &RegistryCredentialStatus, kind: ConditionType) -> String {
    status.condition(kind).map_or_else(|| "absent".to_owned(), |c| format!("{}/{}", c.status, c.reason))
}

fn conditions(status: &RegistryCredentialStatus) -> [String; 3] {
    [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled]
        .map(|kind| condition(status, kind))
}

/// Checks Ready, Reconciling and Stalled, and that every condition speaks of this generation.
fn expect(
    what: &str,
    credential: &Credential,
    source: Option<&SourceState>,
    tally: &Tally,
    wanted: [&str; 3],
) {
    let (status, _) = report(None, &observed(credential, source, tally), at(0));
    assert_eq!(conditions(&status), wanted, "{what}");
    assert_eq!(status.observed_generation, Some(3));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
}

#[test]
fn work_under_way_or_done_has_its_conditions() {
    let plain = credential(&json!({}));
    let mut leaving = plain.clone();
    leaving.deleting = true;
    let (good, missing) = (resolved("1"), failed(Reason::SourceNotFound));
    let progressing = ["False/Progressing", "True/Progressing", "absent"];
    let waiting = ["False/SourceNotReady", "True/WaitingForSource", "absent"];
    expect("first visit", &plain, None, &tally(0, 0, &[]), progressing);
    expect("no source", &plain, Some(&missing), &tally(2, 0, &[]), waiting);
    expect("on the way", &plain, Some(&good), &tally(2, 1, &[]), progressing);
    expect("leaving", &leaving, Some(&good), &tally(0, 0, &[]), progressing);
    expect("in place", &plain, Some(&good), &tally(2, 2, &[]), ["True/Succeeded", "absent", "absent"]);
    let nothing = ["True/NoNamespaceSelected", "absent", "absent"];
    expect("nothing selected", &plain, Some(&good), &tally(0, 0, &[]), nothing);
}

#[test]
fn what_a_user_must_mend_has_its_conditions() {
    let plain = credential(&json!({}));
    let mut invalid = plain.clone();
    invalid.spec = Err(InvalidSpec::NoSource);
    let good = resolved("1");
    let conflict = tally(42, 41, &[("payments", secret(), Reason::NameConflict)]);
    let claimed = tally(2, 1, &[("payments", secret(), Reason::TargetClaimed)]);
    let contested =
        tally(2, 2, &[("payments", Object::ServiceAccount(Arc::from("default")), Reason::Contested)]);
    expect("conflict", &plain, Some(&good), &conflict, ["False/PartiallySynced", "absent", "absent"]);
    expect("contested", &plain, Some(&good), &contested, ["False/PartiallyAttached", "absent", "absent"]);
    expect("claimed", &plain, Some(&good), &claimed, ["False/Stalled", "absent", "True/TargetClaimed"]);
    expect("invalid", &invalid, None, &tally(0, 0, &[]), ["False/Stalled", "absent", "True/InvalidSpec"]);
}

fn failed(reason: Reason) -> SourceState {
    let message = "Secret s does not exist; create it".to_owned();
    SourceState::Failed { reason, message, registries: Vec::new() }
}

#[test]
fn a_message_begins_with_the_number_and_names_three() {
    let plain = credential(&json!({}));
    let good = resolved("1");
    let one = tally(42, 41, &[("payments", secret(), Reason::NameConflict)]);
    let (status, _) = report(None, &observed(&plain, Some(&good), &one), at(0));
    let message = &status.condition(ConditionType::Ready).unwrap().message;
    assert_eq!(message, "41 of 42 namespaces in sync; payments: NameConflict (what is wrong and what to do)");
    let names: Vec<String> = (0..25).map(|number| format!("n{number:02}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), secret(), Reason::NameConflict)).collect();
    let tally = tally(42, 17, &many);
    let (status, _) = report(None, &observed(&plain, Some(&good), &tally), at(0));
    let message = &status.condition(ConditionType::Ready).unwrap().message;
    assert!(
        message.starts_with("17 of 42 namespaces in sync; n00, n01, n02 and 22 more: NameConflict"),
        "{message}"
    );
    assert_eq!((status.failures.len(), status.failures_omitted), (20, 5));
}

#[test]
fn the_same_state_gives_the_same_status_at_any_later_time_and_after_a_restart() {
    let plain = credential(&json!({}));
    let good = resolved("1");
    let mut tally = tally(3, 2, &[("payments", secret(), Reason::NameConflict)]);
    let (first, events) = report(None, &observed(&plain, Some(&good), &tally), at(0));
    assert_eq!(events.len(), 1, "{events:?}");
    // A restarted operator has forgotten since when.
    for fault in tally.failures.values_mut() {
        fault.since = at(999);
    }
    let (second, events) = report(Some(&first), &observed(&plain, Some(&good), &tally), at(999));
    assert_eq!(second, first);
    assert_eq!(events, []);
}

#[test]
fn transition_times_move_with_the_status_value_alone() {
    let plain = credential(&json!({}));
    let good = resolved("1");
    let transition = |status: &RegistryCredentialStatus| {
        status.condition(ConditionType::Ready).unwrap().last_transition_time.0
    };
    let (broken, _) =
        report(None, &observed(&plain, Some(&failed(Reason::SourceNotFound)), &tally(1, 0, &[])), at(0));
    let (other, _) = report(Some(&broken), &observed(&plain, Some(&good), &tally(1, 0, &[])), at(10));
    assert_eq!(transition(&other), at(0), "still False, for another reason");
    let (well, events) = report(Some(&other), &observed(&plain, Some(&good), &tally(1, 1, &[])), at(20));
    assert_eq!(transition(&well), at(20));
    let synced = Event { reason: Reason::Synced, note: "1 namespace in sync".to_owned() };
    assert_eq!(events, [synced]);
}

#[test]
fn a_suspended_object_keeps_the_last_word_on_readiness() {
    let good = resolved("1");
    let in_place = tally(1, 1, &[]);
    let (before, _) = report(None, &observed(&credential(&json!({})), Some(&good), &in_place), at(0));
    let suspended = credential(&json!({"suspend": true}));
    let (status, _) = report(Some(&before), &observed(&suspended, Some(&good), &in_place), at(5));
    assert_eq!(conditions(&status), ["True/Succeeded", "False/Suspended", "absent"]);
}

#[test]
fn a_rotation_is_reported_once_with_its_time() {
    let plain = credential(&json!({}));
    let in_place = tally(1, 1, &[]);
    let (before, _) = report(None, &observed(&plain, Some(&resolved("1")), &in_place), at(0));
    let (after, events) = report(Some(&before), &observed(&plain, Some(&resolved("2")), &in_place), at(5));
    assert_eq!(after.registries[0].refreshed_at.0, at(5));
    assert_eq!(events.iter().map(|event| event.reason).collect::<Vec<_>>(), [Reason::CredentialRefreshed]);
    let (broken, _) =
        report(Some(&after), &observed(&plain, Some(&failed(Reason::SourceInvalid)), &in_place), at(9));
    assert_eq!(broken.registries, after.registries, "what the copies still hold");
}

#[test]
fn a_contest_over_what_should_be_gone_is_reported_once_and_leaves_the_object_ready() {
    let (credential, source) = (credential(&json!({})), resolved("0a"));
    let mut tally = tally(1, 1, &[("team-b", secret(), Reason::Contested)]);
    tally.namespaces.failed = 0;
    tally.service_accounts = ServiceAccountCounts { matched: 1, attached: 1, failed: 0, contested: 0 };
    let observed = observed(&credential, Some(&source), &tally);
    let (status, events) = report(None, &observed, at(0));
    assert_eq!(condition(&status, ConditionType::Ready), "True/Succeeded");
    let secrets = status.condition(ConditionType::SecretsSynced).unwrap();
    assert_eq!(secrets.message, "1 of 1 namespace in sync; team-b: Contested (what is wrong and what to do)");
    let contested: Vec<_> = events.iter().filter(|event| event.reason == Reason::Contested).collect();
    assert_eq!(
        contested.iter().map(|it| &*it.note).collect::<Vec<_>>(),
        ["team-b: what is wrong and what to do"]
    );
    let (_, again) = report(Some(&status), &observed, at(60));
    assert!(again.is_empty(), "{again:?}");
}
