//! What status says, state by state, and that it says nothing twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fixture::at;
use regcred_api::{
    ConditionStatus, ConditionType, NamespaceCounts, Reason, RegistryCredentialStatus, ServiceAccountCounts,
};
use regcred_dockerconfig::SecretBytes;
use regcred_planner::{
    Answer, Credential, Event, Fault, InvalidSpec, Object, Observed, Payload, ResolvedRegistry, SecretCopy,
    SourceNote, SourceState, Tally, Verdict, Verified, report,
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
        retry_at: None,
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
    Observed {
        credential,
        generation: Some(3),
        request: None,
        source,
        verified: None,
        tally,
        in_progress: false,
    }
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
    SourceState::Failed { reason, message, registries: None }
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

/// The message of a condition.
fn message(status: &RegistryCredentialStatus, kind: ConditionType) -> &str {
    &status.condition(kind).unwrap().message
}

#[test]
fn a_suspended_object_keeps_the_last_word_and_says_that_it_is_from_before() {
    let (good, in_place) = (resolved("1"), tally(1, 1, &[]));
    let (before, _) = report(None, &observed(&credential(&json!({})), Some(&good), &in_place), at(0));
    let suspended = credential(&json!({"suspend": true}));
    let (status, events) = report(Some(&before), &observed(&suspended, None, &in_place), at(5));
    assert_eq!(conditions(&status), ["True/Succeeded", "False/Suspended", "absent"]);
    assert_eq!(condition(&status, ConditionType::SourceReady), "True/Resolved");
    let (ready, source) =
        (message(&status, ConditionType::Ready), message(&status, ConditionType::SourceReady));
    assert_eq!(ready, "spec.suspend is set, and this is from before: 1 of 1 namespace in sync");
    assert_eq!(source, "spec.suspend is set, and this is from before: every server has a credential");
    assert_eq!(events, []);
    let (again, events) = report(Some(&status), &observed(&suspended, None, &in_place), at(9));
    assert_eq!((again, events), (status.clone(), Vec::new()), "it is said once");
    let (resumed, _) =
        report(Some(&status), &observed(&credential(&json!({})), Some(&good), &in_place), at(11));
    assert_eq!(message(&resumed, ConditionType::Ready), "1 of 1 namespace in sync");
}

#[test]
fn an_invalid_spec_keeps_what_was_said_and_says_that_what_is_in_place_stays() {
    let plain = credential(&json!({}));
    let conflict = tally(3, 2, &[("payments", secret(), Reason::NameConflict)]);
    let (before, _) = report(None, &observed(&plain, Some(&resolved("1")), &conflict), at(0));
    let mut invalid = plain.clone();
    invalid.spec = Err(InvalidSpec::NoSource);
    let nothing = tally(0, 0, &[]);
    let (status, events) = report(Some(&before), &observed(&invalid, None, &nothing), at(5));
    assert_eq!(conditions(&status), ["False/Stalled", "absent", "True/InvalidSpec"]);
    for kind in [ConditionType::Ready, ConditionType::Stalled] {
        let told = message(&status, kind);
        assert!(told.ends_with("; until then what is in place stays as it is"), "{told}");
    }
    for (kind, was) in [
        (ConditionType::SourceReady, "True/Resolved"),
        (ConditionType::SecretsSynced, "False/NameConflict"),
        (ConditionType::ServiceAccountsAttached, "False/PartiallyAttached"),
    ] {
        assert_eq!(condition(&status, kind), was);
        let told = format!("the spec is invalid, and this is from before: {}", message(&before, kind));
        assert_eq!(message(&status, kind), told);
    }
    assert_eq!((status.namespaces, &status.summary), (before.namespaces, &before.summary));
    assert_eq!(events.iter().map(|event| event.reason).collect::<Vec<_>>(), [Reason::InvalidSpec]);
    let (again, events) = report(Some(&status), &observed(&invalid, None, &nothing), at(9));
    assert_eq!((again, events), (status, Vec::new()), "it is said once");
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

/// The reasons and notes of the events between two states.
fn events_between(before: &Tally, after: &Tally) -> Vec<(Reason, String)> {
    let (plain, good) = (credential(&json!({})), resolved("1"));
    let (status, _) = report(None, &observed(&plain, Some(&good), before), at(0));
    let (_, events) = report(Some(&status), &observed(&plain, Some(&good), after), at(5));
    events.into_iter().map(|event| (event.reason, event.note)).collect()
}

/// Sums with one Secret that fails, for this cause.
fn failing(reason: Reason, message: &str) -> Tally {
    let mut tally = tally(3, 2, &[("payments", secret(), reason)]);
    tally.failures.values_mut().for_each(|fault| fault.message = Arc::from(message));
    tally
}

#[test]
fn a_write_that_fails_is_an_event_when_it_begins_whatever_its_code() {
    let (well, busy) = (tally(3, 3, &[]), failing(Reason::WriteFailed, "no answer (HTTP 503); tried again"));
    let note = "payments: no answer (HTTP 503); tried again".to_owned();
    assert_eq!(events_between(&well, &busy), [(Reason::WriteFailed, note)]);
    let other = failing(Reason::WriteFailed, "no answer (HTTP 500); tried again");
    assert_eq!(events_between(&busy, &other), []);
}

#[test]
fn another_cause_of_the_same_reason_is_an_event() {
    let first = failing(Reason::Rejected, "admission webhook a refused the write");
    let other = failing(Reason::Rejected, "admission webhook b refused the write");
    let note = "payments: admission webhook b refused the write".to_owned();
    assert_eq!(events_between(&first, &other), [(Reason::Rejected, note)]);
    let renamed = |who: &str| failing(Reason::Contested, &format!("the field manager \"{who}\" changes it"));
    assert_eq!(events_between(&renamed("a"), &renamed("b")), [], "a tenant's text alone is no news");
    let source = |message: &str| SourceState::Failed {
        reason: Reason::SourceInvalid,
        message: message.to_owned(),
        registries: None,
    };
    let (plain, none) = (credential(&json!({})), tally(1, 0, &[]));
    let (before, other) = (source("Secret s has no key a"), source("Secret s, key b: the password is empty"));
    let (status, _) = report(None, &observed(&plain, Some(&before), &none), at(0));
    let (_, events) = report(Some(&status), &observed(&plain, Some(&other), &none), at(5));
    let reasons: Vec<_> = events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, [Reason::SourceInvalid]);
}

#[test]
fn a_failure_beyond_those_that_status_lists_is_not_told_again_and_again() {
    let names: Vec<String> = (0..25).map(|number| format!("n{number:02}")).collect();
    let mut many: Vec<_> = names.iter().map(|name| (name.as_str(), secret(), Reason::NameConflict)).collect();
    many.last_mut().unwrap().2 = Reason::Contested;
    let mut many = tally(42, 17, &many);
    many.service_accounts.contested = 0;
    assert_eq!(events_between(&many, &many), []);
}

#[test]
fn a_selection_that_shrinks_to_nothing_is_an_event() {
    let reasons = |before, after| -> Vec<Reason> {
        events_between(&before, &after).into_iter().map(|(reason, _)| reason).collect()
    };
    assert_eq!(reasons(tally(3, 3, &[]), tally(0, 0, &[])), [Reason::NoNamespaceSelected]);
    assert_eq!(reasons(tally(0, 0, &[]), tally(0, 0, &[])), []);
}

#[test]
fn what_holds_up_a_deletion_is_an_event_also_if_it_was_known_before() {
    let refused = failing(Reason::Rejected, "admission webhook a refused the write");
    let (plain, good) = (credential(&json!({})), resolved("1"));
    let mut leaving = plain.clone();
    leaving.deleting = true;
    let (before, _) = report(None, &observed(&plain, Some(&good), &refused), at(0));
    let (blocked, events) = report(Some(&before), &observed(&leaving, Some(&good), &refused), at(5));
    let note = "being deleted; payments: admission webhook a refused the write".to_owned();
    assert_eq!(events, [Event { reason: Reason::Rejected, note }]);
    let (_, again) = report(Some(&blocked), &observed(&leaving, Some(&good), &refused), at(10));
    assert_eq!(again, []);
}

#[test]
fn a_contest_says_when_regcred_tries_again_and_how_to_ask() {
    let (plain, good) = (credential(&json!({})), resolved("1"));
    let mut paused =
        failing(Reason::Contested, "somebody keeps changing the Secret, and it is wrong now; stop it");
    let key = (Arc::from("shop"), secret());
    let mut later = paused.failures.values().next().unwrap().clone();
    later.retry_at = Some(at(40 * 60 + 1));
    paused.failures.values_mut().for_each(|fault| fault.retry_at = Some(at(30 * 60)));
    paused.failures.insert(key, later);
    let (status, events) = report(None, &observed(&plain, Some(&good), &paused), at(0));
    let why = "payments, shop: Contested (somebody keeps changing the Secret, and it is wrong now; stop it; tried \
               again at 14:17 UTC); to try now: kubectl annotate regcred pull regcred.dev/requestedAt=$(date -Is) \
               --overwrite";
    assert_eq!(message(&status, ConditionType::Ready), format!("2 of 3 namespaces in sync; {why}"));
    assert!(
        status.failures[1].message.ends_with("stop it; tried again at 14:27 UTC"),
        "{:?}",
        status.failures
    );
    assert!(events[0].note.ends_with(" --overwrite"), "{events:?}");
    paused.failures.values_mut().for_each(|fault| fault.retry_at = Some(at(50 * 60)));
    let (_, again) = report(Some(&status), &observed(&plain, Some(&good), &paused), at(60));
    assert_eq!(again, [], "another pause is no news");
}

/// A credential whose copies hold a token, and what its source says of it.
fn with_token(fingerprint: &str, ends: i64) -> (Credential, Vec<ResolvedRegistry>) {
    let spec = fixture::spec(&json!({}));
    let payload = Payload {
        content: SecretBytes::from(b"{}".to_vec()),
        fingerprint: fingerprint.repeat(32),
        servers: Arc::from(["ghcr.io".to_owned()]),
        expires_at: Some(at(ends)),
    };
    let registry = ResolvedRegistry {
        server: "ghcr.io".to_owned(),
        kind: "ECR",
        fingerprint: fingerprint.repeat(8),
        expires_at: Some(at(ends)),
        renew_at: Some(at(ends / 2)),
    };
    let mut credential = fixture::credential("pull", &spec, None);
    let validated = credential.active_spec().unwrap().clone();
    let copy = SecretCopy::new(&credential.name, &credential.uid, &validated, payload);
    credential.copy = Some(Arc::new(copy));
    (credential, vec![registry])
}

#[test]
fn status_says_when_each_credential_ends_also_while_no_new_one_comes() {
    let (credential, registries) = with_token("1", 7200);
    let good = SourceState::Resolved { registries, note: None };
    let in_place = tally(1, 1, &[]);
    let (status, _) = report(None, &observed(&credential, Some(&good), &in_place), at(0));
    let registry = &status.registries[0];
    assert_eq!((registry.source.as_str(), registry.expires_at.as_ref().unwrap().0), ("ECR", at(7200)));
    assert_eq!(registry.next_refresh_at.as_ref().unwrap().0, at(3600));
    assert_eq!(status.fingerprint.as_deref(), Some(&*"1".repeat(32)));
    assert_eq!(status.summary.next_expiry, Some(at(7200).to_string()));

    let gone = Credential { copy: None, ..credential };
    let none = failed(Reason::Throttled);
    let (after, _) = report(Some(&status), &observed(&gone, Some(&none), &in_place), at(60));
    assert_eq!((&after.registries, &after.fingerprint), (&status.registries, &status.fingerprint));
    assert_eq!(after.summary.next_expiry, status.summary.next_expiry, "the copies hold what they held");
    assert_eq!(condition(&after, ConditionType::Ready), "False/SourceNotReady");
}

#[test]
fn what_is_known_of_the_copies_is_told_beside_a_server_that_has_lost_its_entry() {
    let (credential, registries) = with_token("2", 7200);
    let message = "quay.io: the last token has expired".to_owned();
    let partial = SourceState::Failed { reason: Reason::Expired, message, registries: Some(registries) };
    let (status, events) = report(None, &observed(&credential, Some(&partial), &tally(1, 1, &[])), at(0));
    assert_eq!(status.registries.len(), 1);
    assert_eq!(condition(&status, ConditionType::SourceReady), "False/Expired");
    assert!(events.iter().any(|event| event.reason == Reason::Expired), "{events:?}");
}

#[test]
fn what_ends_soon_is_an_event_once_and_ready_stays() {
    let (credential, registries) = with_token("3", 7200);
    let noted = |reason| {
        let note = Some(SourceNote { reason, message: "ghcr.io expires within 7 days".to_owned() });
        SourceState::Resolved { registries: registries.clone(), note }
    };
    let in_place = tally(1, 1, &[]);
    let soon = noted(Reason::ExpiringSoon);
    let (first, events) = report(None, &observed(&credential, Some(&soon), &in_place), at(0));
    let (second, again) = report(Some(&first), &observed(&credential, Some(&soon), &in_place), at(60));
    let told = |events: &[Event], of| events.iter().filter(|event| event.reason == of).count();
    assert_eq!((told(&events, Reason::ExpiringSoon), told(&again, Reason::ExpiringSoon)), (1, 0));
    assert_eq!(condition(&first, ConditionType::SourceReady), "True/ExpiringSoon");
    let over = noted(Reason::Expired);
    let (last, events) = report(Some(&second), &observed(&credential, Some(&over), &in_place), at(120));
    assert_eq!(told(&events, Reason::Expired), 1);
    assert_eq!(condition(&last, ConditionType::SourceReady), "False/Expired");
    assert_eq!(condition(&last, ConditionType::Ready), "True/Succeeded", "the registry may still take it");
}

fn verified(server: &str, status: ConditionStatus, reason: Reason) -> Verified {
    let verdict = Verdict { status, reason, message: format!("{server} says {reason}") };
    let answer = Answer { verdict, checked_at: at(5), next_at: at(3605) };
    Verified {
        server: server.to_owned(),
        kind: "Secret",
        fingerprint: "abc".to_owned(),
        hold: false,
        answer: Some(answer),
        is_late: false,
    }
}

/// The status of a credential that is in place everywhere, and the reasons of the events on the way there.
fn asked(
    old: Option<&RegistryCredentialStatus>,
    verified: Option<&[Verified]>,
) -> (RegistryCredentialStatus, Vec<Reason>) {
    let (credential, source, tally) = (credential(&json!({})), resolved("abc"), tally(2, 2, &[]));
    let observed = Observed { verified, ..observed(&credential, Some(&source), &tally) };
    let (status, events) = report(old, &observed, at(10));
    (status, events.into_iter().map(|event| event.reason).collect())
}

#[test]
fn a_credential_that_its_registry_rejects_is_not_ready_and_told_once() {
    let rejected = [verified("ghcr.io", ConditionStatus::False, Reason::Rejected)];
    let (status, events) = asked(None, Some(&rejected));
    assert_eq!(condition(&status, ConditionType::CredentialsVerified), "False/Rejected");
    assert_eq!(conditions(&status), ["False/Rejected", "True/WaitingForSource", "absent"]);
    assert_eq!(events, [Reason::Rejected]);
    let (again, events) = asked(Some(&status), Some(&rejected));
    assert_eq!((&again, events.as_slice()), (&status, [].as_slice()));
    let verification = status.registries[0].verification.as_ref().unwrap();
    assert_eq!((&*verification.reason, &*verification.fingerprint), ("Rejected", "abc"));
    let good = [verified("ghcr.io", ConditionStatus::True, Reason::LoginVerified)];
    let (status, events) = asked(Some(&status), Some(&good));
    assert_eq!(condition(&status, ConditionType::CredentialsVerified), "True/LoginVerified");
    assert_eq!(
        (&*condition(&status, ConditionType::Ready), events.as_slice()),
        ("True/Succeeded", [Reason::Synced].as_slice())
    );
}

#[test]
fn a_rejection_names_the_secret_that_is_to_be_mended() {
    let mut rejected = verified("ghcr.io", ConditionStatus::False, Reason::Rejected);
    let words = "ghcr.io rejects the user and password (HTTP 401); put good ones into the source";
    rejected.answer.as_mut().unwrap().verdict.message = words.to_owned();
    let (status, _) = asked(None, Some(&[rejected]));
    let told = "ghcr.io rejects the user and password (HTTP 401); put good ones into Secret s of the source namespace";
    assert_eq!(message(&status, ConditionType::CredentialsVerified), told);
    assert_eq!(message(&status, ConditionType::Ready), told);
}

#[test]
fn an_answer_about_a_credential_that_no_copy_has_is_kept_in_status_too() {
    let rejected = [verified("ghcr.io", ConditionStatus::False, Reason::Rejected)];
    let (credential, tally) = (credential(&json!({})), tally(2, 0, &[]));
    let message = "ghcr.io says Rejected".to_owned();
    let source = SourceState::Failed { reason: Reason::Rejected, message, registries: None };
    let observed = Observed { verified: Some(&rejected), ..observed(&credential, Some(&source), &tally) };
    let (status, events) = report(None, &observed, at(10));
    assert_eq!(status.registries[0].verification.as_ref().unwrap().reason, "Rejected");
    assert_eq!(events.iter().map(|event| event.reason).collect::<Vec<_>>(), [Reason::Rejected]);
    let (again, _) = report(Some(&status), &observed, at(20));
    assert_eq!(again, status);
}

#[test]
fn a_second_password_that_no_copy_gets_is_not_told_of_beside_the_first() {
    let held = |fingerprint: &str, seconds: i64| {
        let mut own = Verified {
            hold: true,
            fingerprint: fingerprint.to_owned(),
            ..verified("ghcr.io", ConditionStatus::False, Reason::Rejected)
        };
        own.answer.as_mut().unwrap().checked_at = at(seconds);
        own
    };
    let (credential, tally) = (credential(&json!({})), tally(2, 0, &[]));
    let message = "ghcr.io says Rejected".to_owned();
    let source = SourceState::Failed { reason: Reason::Rejected, message, registries: None };
    let told = |old: Option<&RegistryCredentialStatus>, own: Verified, seconds: i64| {
        let own = [own];
        let observed = Observed { verified: Some(&own), ..observed(&credential, Some(&source), &tally) };
        report(old, &observed, at(seconds)).0
    };
    let first = told(None, held("first", 5), 10);
    let waiting = told(Some(&first), Verified { answer: None, ..held("second", 0) }, 20);
    assert_eq!(waiting.registries, first.registries, "until there is an answer");
    let second = told(Some(&waiting), held("second", 25), 30);
    let (registry, before) = (&second.registries[0], &first.registries[0]);
    assert_eq!((&*before.fingerprint, &*registry.fingerprint), ("first", "second"));
    let asked = registry.verification.as_ref().unwrap();
    assert_eq!((&registry.refreshed_at, &*asked.fingerprint), (&asked.checked_at, "second"));
}

#[test]
fn what_copies_keep_stays_beside_what_was_rejected_when_nothing_more_is_known() {
    // Its status is written in the second of the answer.
    let mut good = [verified("ghcr.io", ConditionStatus::True, Reason::LoginVerified)];
    good[0].answer.as_mut().unwrap().checked_at = at(10);
    let (before, _) = asked(None, Some(&good));
    let rejected = verified("ghcr.io", ConditionStatus::False, Reason::Rejected);
    let rejected = [Verified { hold: true, fingerprint: "new".to_owned(), ..rejected }];
    let (credential, tally) = (credential(&json!({})), tally(2, 2, &[]));
    let message = "ghcr.io says Rejected".to_owned();
    let source = SourceState::Failed { reason: Reason::Rejected, message, registries: None };
    let observed = Observed { verified: Some(&rejected), ..observed(&credential, Some(&source), &tally) };
    let (status, _) = report(Some(&before), &observed, at(20));
    let (again, _) = report(Some(&status), &observed, at(30));
    assert_eq!(again.registries[0].fingerprint, before.registries[0].fingerprint);
    assert_eq!(again.registries[0].verification.as_ref().unwrap().fingerprint, "new");
}

#[test]
fn a_registry_that_does_not_answer_makes_nothing_unready() {
    let silent = [verified("ghcr.io", ConditionStatus::Unknown, Reason::Unreachable)];
    let (status, events) = asked(None, Some(&silent));
    assert_eq!(condition(&status, ConditionType::CredentialsVerified), "Unknown/Unreachable");
    assert_eq!(
        (&*condition(&status, ConditionType::Ready), events.as_slice()),
        ("True/Succeeded", [Reason::Synced].as_slice())
    );
}

#[test]
fn ready_waits_for_the_first_answer_and_a_new_credential_leaves_the_last_one_in_place() {
    let waiting = [Verified { answer: None, ..verified("ghcr.io", ConditionStatus::True, Reason::Resolved) }];
    let (status, _) = asked(None, Some(&waiting));
    assert_eq!(condition(&status, ConditionType::CredentialsVerified), "Unknown/NotChecked");
    assert_eq!(condition(&status, ConditionType::Ready), "False/Progressing");
    let good = [verified("ghcr.io", ConditionStatus::True, Reason::PullVerified)];
    let (before, _) = asked(None, Some(&good));
    let (status, events) = asked(Some(&before), Some(&waiting));
    assert_eq!((status, events), (before, vec![]));
}

#[test]
fn while_nobody_looks_the_last_answers_stay_and_go_where_verification_is_off() {
    let good = [verified("ghcr.io", ConditionStatus::True, Reason::LoginVerified)];
    let (before, _) = asked(None, Some(&good));
    let (status, _) = asked(Some(&before), None);
    assert_eq!(status, before);
    let (status, _) = asked(Some(&before), Some(&[]));
    assert_eq!(condition(&status, ConditionType::CredentialsVerified), "absent");
    assert_eq!(status.registries[0].verification, None);
}
