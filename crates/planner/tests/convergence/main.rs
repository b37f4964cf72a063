//! Properties of planning, over generated worlds: from any state, after a crash at any step, repeated passes reach one
//! end and stop there; nothing foreign is ever touched; every prefix of a plan is a legal state.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

#[path = "../fixture/mod.rs"]
mod fixture;
mod generate;
mod model;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use model::Cluster;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use regcred_api::{ConflictPolicy, DeletionPolicy};
use regcred_planner::{Goal, Memory, Plan, Step, StepError, plan};

/// Passes after which a world that still changes counts as one that never settles.
const MAX_PASSES: usize = 60;

/// The operator, as far as planning goes: a memory and a clock.
#[derive(Clone, Default)]
struct Operator {
    memory: Memory,
    seconds: i64,
}

impl Operator {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_000_000 + self.seconds).unwrap()
    }

    fn plan(&self, cluster: &Cluster) -> Plan {
        let plan = plan(&cluster.observe(self.memory.clone()), self.now());
        assert!(plan.wake_at.is_none_or(|at| at > self.now()), "a look that is due at once never rests");
        plan
    }

    /// One pass that stops after `limit` steps, as a crash would make it. Returns how many steps there were.
    fn pass(&mut self, cluster: &mut Cluster, limit: usize) -> usize {
        let plan = self.plan(cluster);
        let taken = plan.steps.len().min(limit);
        let results: Vec<_> = plan.steps[..taken].iter().map(|step| cluster.take(step)).collect();
        let partial = Plan { steps: plan.steps[..taken].to_vec(), ..plan.clone() };
        let now = self.now();
        self.memory.record(&partial, &results, now);
        plan.steps.len()
    }

    /// Passes until there is nothing to do, and nothing that comes back by itself.
    fn settle(&mut self, cluster: &mut Cluster) {
        for _ in 0..MAX_PASSES {
            let wake_at = self.plan(cluster).wake_at;
            let steps = self.pass(cluster, usize::MAX);
            match self.memory.wake_at(self.now()).into_iter().chain(wake_at).min() {
                Some(at) if steps == 0 => {
                    self.seconds += at.duration_since(self.now()).as_secs() + 1;
                }
                None if steps == 0 => return,
                _ => self.seconds += 1,
            }
        }
        panic!("never settles: {cluster:#?}\n{:#?}", self.plan(cluster));
    }
}

fn check(cases: u32, property: impl Fn(Cluster, Vec<model::Change>, usize)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let input = (generate::cluster(), prop::collection::vec(generate::change(), 0..6), 0_usize..6);
    let outcome = runner.run(&input, |(cluster, changes, crash)| {
        property(cluster, changes, crash);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn after_a_plan_there_is_nothing_more_to_do() {
    check(3_000, |mut cluster, _, _| {
        let mut operator = Operator::default();
        operator.pass(&mut cluster, usize::MAX);
        // A second pass may follow up on what the first could only see afterwards; a third has nothing.
        operator.pass(&mut cluster, usize::MAX);
        let plan = operator.plan(&cluster);
        assert_eq!(plan.steps, [], "{cluster:#?}");
    });
}

#[test]
fn equal_worlds_give_equal_plans_in_whatever_order_credentials_come() {
    check(3_000, |mut cluster, _, _| {
        let plan = Operator::default().plan(&cluster);
        cluster.credentials.reverse();
        assert_eq!(Operator::default().plan(&cluster), plan);
    });
}

#[test]
fn a_crash_at_any_step_leads_to_the_same_end() {
    check(3_000, |cluster, _, crash| {
        let (mut calm, mut crashed) = (cluster.clone(), cluster);
        Operator::default().settle(&mut calm);
        Operator::default().pass(&mut crashed, crash);
        Operator::default().settle(&mut crashed);
        assert_eq!(crashed.end_state(), calm.end_state());
    });
}

#[test]
fn whatever_others_do_in_between_it_settles_and_leaves_what_is_theirs() {
    check(3_000, |mut cluster, changes, crash| {
        let mut operator = Operator::default();
        operator.pass(&mut cluster, crash);
        for change in changes {
            cluster.change(&change);
            operator.pass(&mut cluster, crash);
        }
        let theirs = cluster.foreign();
        operator.settle(&mut cluster);
        assert_eq!(cluster.foreign(), theirs, "{cluster:#?}");
    });
}

#[test]
fn every_prefix_of_a_plan_is_a_legal_state() {
    check(3_000, |mut cluster, changes, _| {
        let mut operator = Operator::default();
        operator.settle(&mut cluster);
        for change in changes {
            cluster.change(&change);
        }
        let plan = operator.plan(&cluster);
        assert!(writes_are_distinct(&plan), "{plan:#?}");
        for step in &plan.steps {
            let before = cluster.clone();
            let (result, verifies) = (cluster.take(step), matches!(step, Step::VerifySecret { .. }));
            let expected = result == Ok(()) || (verifies && result == Err(StepError::Undone));
            assert!(expected, "a fresh plan meets no refusal: {result:?} to {step:#?} on {before:#?}");
            let changed = cluster.versions() != before.versions();
            assert!(changed || verifies, "a write that changes nothing: {step:#?}");
            if let Step::DeleteSecret(removal) = step {
                assert!(before.is_ours(&removal.name), "{removal:?} on {before:#?}");
                let naming = cluster.managed_lists_with(&removal.name);
                assert!(naming.is_empty(), "{naming:?} still name {}", removal.name);
            }
            if let Step::ApplySecret { copy, .. } = step {
                assert!(!cluster.uid_changed(&before, &copy.name), "{copy:?}");
            }
        }
    });
}

#[test]
fn a_source_that_gives_nothing_deletes_and_overwrites_nothing() {
    check(3_000, |mut cluster, _, _| {
        Operator::default().settle(&mut cluster);
        cluster.drop_all_sources();
        let plan = Operator::default().plan(&cluster);
        let harmless = |step: &Step| matches!(step, Step::PatchServiceAccount(_));
        assert!(plan.steps.iter().all(harmless), "{plan:#?}");
    });
}

#[test]
fn the_generator_reaches_every_kind_of_step_and_refusal() {
    let seen = std::cell::RefCell::new(BTreeSet::new());
    check(3_000, |mut cluster, changes, _| {
        let mut operator = Operator::default();
        operator.pass(&mut cluster, usize::MAX);
        for change in changes {
            cluster.change(&change);
        }
        let plan = operator.plan(&cluster);
        let mut seen = seen.borrow_mut();
        seen.extend(plan.steps.iter().map(|step| match step {
            Step::PatchServiceAccount(patch) if !patch.attach.is_empty() => "attach",
            Step::PatchServiceAccount(patch) if patch.detach.is_empty() => "unmark",
            Step::PatchServiceAccount(_) => "detach",
            Step::ApplySecret { over: None, .. } => "apply",
            Step::ApplySecret { over: Some(_), .. } => "apply over",
            Step::RotateSecret { .. } => "rotate",
            Step::VerifySecret { .. } => "verify",
            Step::RecreateSecret { .. } => "recreate",
            Step::DeleteSecret(_) => "delete",
            Step::ReleaseSecret(_) => "release",
        }));
        seen.extend(plan.pairs.iter().filter_map(|pair| match &pair.secret {
            Goal::Refused { reason, .. } => Some(reason.as_str()),
            Goal::Kept => Some("kept"),
            _ => None,
        }));
    });
    let all = [
        "NameConflict",
        "TargetClaimed",
        "TypeMismatch",
        "apply",
        "apply over",
        "rotate",
        "attach",
        "delete",
        "detach",
        "kept",
        "recreate",
        "release",
        "unmark",
        "verify",
    ];
    assert_eq!(seen.into_inner(), BTreeSet::from(all));
}

/// One write for each object.
fn writes_are_distinct(plan: &Plan) -> bool {
    let objects: BTreeSet<_> = plan.steps.iter().map(Step::object).collect();
    objects.len() == plan.steps.len()
}

/// Whatever is undone, and in whichever direction: three writes, and then one in a while.
#[test]
fn every_fight_ends_in_a_pause_that_grows() {
    let settled = || {
        let mut cluster = generate::one_credential();
        Operator::default().settle(&mut cluster);
        cluster
    };
    let deselected = || {
        let mut cluster = settled();
        cluster.credentials[0].spec.namespaces.match_names = vec!["elsewhere".to_owned()];
        cluster.credentials[0].spec.namespaces.from = regcred_api::NamespacesFrom::Selected;
        cluster
    };
    let before = settled();
    let (copy, account) = (before.secrets["t0"].clone(), before.accounts["default"].clone());
    fight("taking an entry off", settled(), |cluster| cluster.take_off("default", "t0"));
    fight("taking the mark off with it", settled(), |cluster| {
        cluster.take_off("default", "t0");
        cluster.change(&model::Change::TakeMark(1));
    });
    fight("editing a copy", settled(), |cluster| cluster.change(&model::Change::EditData(0)));
    fight("deleting a copy", settled(), |cluster| cluster.change(&model::Change::DeleteSecret(0)));
    fight("freezing a copy", settled(), |cluster| cluster.change(&model::Change::Freeze(0)));
    fight("making a copy again", deselected(), |cluster| {
        cluster.put_back_secret("t0", &copy);
    });
    let mut renamed = settled();
    renamed.change(&model::Change::Rename(0));
    fight("taking off when a former copy was superseded", renamed, |cluster| cluster.take_time("t0"));
    fight("putting an entry back", deselected(), |cluster| cluster.put_back_account("default", &account));
}

fn fight(what: &str, mut cluster: Cluster, undo: impl Fn(&mut Cluster)) {
    let mut operator = Operator::default();
    let mut writes = Vec::new();
    for _ in 0..20_000 {
        undo(&mut cluster);
        if operator.pass(&mut cluster, usize::MAX) > 0 {
            writes.push(operator.now());
        }
        operator.seconds += 5;
    }
    let gaps: Vec<_> = writes.windows(2).map(|pair| pair[1].duration_since(pair[0])).collect();
    let short = gaps.iter().filter(|gap| **gap < SignedDuration::from_mins(10)).count();
    assert!((1..=5).contains(&short), "{what}: {gaps:?}");
    assert!(gaps.iter().max().unwrap() >= &SignedDuration::from_hours(1), "{what}: {gaps:?}");
}

/// Nor does a crash at any step of it, or a source that gives nothing.
#[test]
fn a_rename_takes_nothing_away_before_the_new_name_works() {
    for trouble in [
        None,
        Some(model::Change::CreateForeign { target: 1, wrong_type: false }),
        Some(model::Change::CreateForeign { target: 1, wrong_type: true }),
        Some(model::Change::LoseSource(0)),
    ] {
        let mut cluster = generate::one_credential();
        let mut operator = Operator::default();
        operator.settle(&mut cluster);
        if let Some(change) = &trouble {
            cluster.change(change);
        }
        cluster.change(&model::Change::Rename(0));
        for _ in 0..20 {
            operator.pass(&mut cluster, 1);
            assert!(cluster.works("default"), "{trouble:?}: {cluster:#?}");
        }
        operator.settle(&mut cluster);
        assert!(cluster.works("default"), "{trouble:?}: {cluster:#?}");
        assert_eq!(cluster.is_ours("t0"), trouble.is_some(), "{trouble:?}");
    }
}

#[test]
fn what_others_take_off_a_copy_is_put_back() {
    let mut cluster = generate::one_credential();
    let mut operator = Operator::default();
    operator.settle(&mut cluster);
    let whole = cluster.end_state();
    for damage in [
        model::Change::EditData(0),
        model::Change::TakeLabel(0),
        model::Change::TakeAnnotation(0),
        model::Change::Forge(0),
        model::Change::Freeze(0),
        model::Change::DeleteSecret(0),
    ] {
        cluster.change(&damage);
        assert_ne!(cluster.end_state(), whole, "{damage:?}");
        operator.settle(&mut cluster);
        assert_eq!(cluster.end_state(), whole, "{damage:?}");
    }
}

#[test]
fn attaching_waits_for_no_source() {
    let mut cluster = generate::one_credential();
    cluster.drop_all_sources();
    let plan = Operator::default().plan(&cluster);
    assert!(matches!(plan.steps.as_slice(), [Step::PatchServiceAccount(_)]), "{plan:#?}");
}

/// One that may not be had is not named, and is tried again so seldom that nobody minds; once it may be had, it is
/// taken over and named.
#[test]
fn a_refused_adoption_leaves_no_name_behind_and_is_made_when_it_may_be() {
    let mut cluster = generate::one_credential();
    let spec = &mut cluster.credentials[0].spec;
    spec.deletion_policy = DeletionPolicy::Retain;
    spec.target.conflict_policy = ConflictPolicy::Adopt;
    let name: Arc<str> = Arc::from("t0");
    cluster.secrets.insert(name.clone(), model::StoredSecret::foreign(7, false));
    cluster.caged = true;
    let mut operator = Operator::default();
    let mut tries = 0;
    for _ in 0..3600 {
        let plan = operator.plan(&cluster);
        tries += plan.steps.iter().filter(|step| matches!(step, Step::ApplySecret { .. })).count();
        operator.pass(&mut cluster, usize::MAX);
        operator.seconds += 1;
    }
    assert!((2..=30).contains(&tries), "{tries} in an hour");
    assert!(cluster.accounts["default"].list.is_empty() && cluster.secrets["t0"].marks.is_none());

    cluster.caged = false;
    operator.settle(&mut cluster);
    assert_eq!(cluster.accounts["default"].list, [name]);
    assert!(cluster.is_ours("t0"));
}
