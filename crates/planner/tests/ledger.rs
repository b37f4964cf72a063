//! The sums over all namespaces: kept up to date report by report, they equal those of a fresh start.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::at;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use regcred_api::Reason;
use regcred_planner::{AccountCounts, Fault, Ledger, Object, PairReport, Role, State};

const CREDENTIALS: [&str; 3] = ["uid-a", "uid-b", "uid-c"];
const NAMESPACES: [&str; 3] = ["n1", "n2", "n3"];

fn fault(reason: Reason, since: i64) -> Fault {
    Fault {
        reason,
        message: Arc::from("what is wrong and what to do"),
        since: at(since),
        retrying: false,
        retry_at: None,
    }
}

fn conflict(credential: &str, target: &str, since: i64) -> PairReport {
    PairReport {
        credential: Arc::from(credential),
        role: Role::Wanted,
        target: Arc::from(target),
        secret: State::Failed,
        accounts: AccountCounts::default(),
        kept: false,
        failures: vec![(Object::Secret(Arc::from(target)), fault(Reason::NameConflict, since))],
    }
}

fn report() -> impl Strategy<Value = PairReport> {
    let state = prop::sample::select(vec![State::Synced, State::Pending, State::Failed]);
    let credential = prop::sample::select(&CREDENTIALS[..]);
    (credential, prop::bool::weighted(0.3), state, 0_usize..4, 0_usize..3).prop_map(
        |(credential, departing, secret, attached, failed)| {
            let failures = (0..failed).map(|number| {
                (Object::ServiceAccount(Arc::from(format!("a{number}"))), fault(Reason::Contested, 0))
            });
            PairReport {
                credential: Arc::from(credential),
                role: if departing { Role::Departing } else { Role::Wanted },
                target: Arc::from("pull"),
                secret,
                accounts: AccountCounts { matched: attached + failed, attached, failed, contested: failed },
                kept: false,
                failures: failures.collect(),
            }
        },
    )
}

/// One report for each credential.
fn reports() -> impl Strategy<Value = Vec<PairReport>> {
    prop::collection::vec(report(), 0..4).prop_map(|mut reports| {
        reports.sort_by(|one, other| one.credential.cmp(&other.credential));
        reports.dedup_by(|one, other| one.credential == other.credential);
        reports
    })
}

#[test]
fn sums_after_many_reports_are_those_of_the_last_reports() {
    let passes = prop::collection::vec((prop::sample::select(&NAMESPACES[..]), reports()), 0..12);
    let rng_seed = RngSeed::Fixed(1);
    let config =
        ProptestConfig { cases: 500, failure_persistence: None, rng_seed, ..ProptestConfig::default() };
    proptest!(config, |(passes in passes)| {
        let (mut ledger, mut last) = (Ledger::default(), BTreeMap::new());
        for (namespace, reports) in passes {
            ledger.replace(&Arc::from(namespace), reports.clone());
            last.insert(namespace, reports);
        }
        let mut fresh = Ledger::default();
        for (namespace, reports) in last {
            fresh.replace(&Arc::from(namespace), reports);
        }
        for credential in CREDENTIALS {
            prop_assert_eq!(ledger.tally(credential), fresh.tally(credential));
        }
    });
}

#[test]
fn only_credentials_whose_sums_change_are_named() {
    let mut ledger = Ledger::default();
    let namespace: Arc<str> = Arc::from("n1");
    let first = vec![conflict("uid-a", "pull", 0)];
    assert_eq!(ledger.replace(&namespace, first.clone()), [Arc::from("uid-a")]);
    assert_eq!(ledger.replace(&namespace, first), [], "the same again");
    let other = vec![conflict("uid-b", "pull", 0)];
    assert_eq!(ledger.replace(&namespace, other), [Arc::from("uid-a"), Arc::from("uid-b")]);
    assert_eq!(ledger.tally("uid-a"), regcred_planner::Tally::default());
}

#[test]
fn a_failure_keeps_the_time_of_its_first_report() {
    let mut ledger = Ledger::default();
    let namespace: Arc<str> = Arc::from("n1");
    let pass = |second| vec![conflict("uid-a", "former", second), conflict("uid-a", "pull", second)];
    ledger.replace(&namespace, pass(0));
    assert_eq!(ledger.replace(&namespace, pass(9)), [], "in each of two reports of one credential");
    assert!(ledger.tally("uid-a").failures.values().all(|fault| fault.since == at(0)));
}

#[test]
fn a_failure_for_another_reason_begins_anew() {
    let mut ledger = Ledger::default();
    let namespace: Arc<str> = Arc::from("n1");
    ledger.replace(&namespace, vec![conflict("uid-a", "pull", 0)]);
    let mut other = conflict("uid-a", "pull", 9);
    other.failures[0].1.reason = Reason::TypeMismatch;
    ledger.replace(&namespace, vec![other]);
    assert!(ledger.tally("uid-a").failures.values().all(|fault| fault.since == at(9)));
}

#[test]
fn a_forgotten_credential_has_no_sums() {
    let mut ledger = Ledger::default();
    let namespace: Arc<str> = Arc::from("n1");
    ledger.replace(&namespace, vec![conflict("uid-a", "pull", 0), conflict("uid-b", "pull", 0)]);
    ledger.forget("uid-a");
    assert_eq!(ledger.tally("uid-a"), regcred_planner::Tally::default());
    assert_eq!(ledger.replace(&namespace, Vec::new()), [Arc::from("uid-b")], "nothing is subtracted twice");
}

#[test]
fn a_copy_under_another_name_is_not_the_copy_that_was_there() {
    let mut ledger = Ledger::default();
    let report = PairReport { secret: State::Synced, failures: Vec::new(), ..conflict("uid-a", "former", 0) };
    ledger.replace(&Arc::from("n1"), vec![report]);
    assert!(ledger.had_copy("n1", "uid-a", "former"));
    assert!(!ledger.had_copy("n1", "uid-a", "new"), "after its RegistryCredential was renamed there");
    assert!(!ledger.had_copy("n1", "uid-b", "former") && !ledger.had_copy("n2", "uid-a", "former"));
}
