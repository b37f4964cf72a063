//! What is remembered of earlier passes over a namespace. It is never stored: losing it costs a few
//! writes at the most, never an invariant.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::error::StepError;
use crate::observed::{ServiceAccount, Uid};
use crate::step::{Object, Plan, Step};
use regcred_api::Class;

/// Removals within [`CONTEST_WINDOW`] that make a ServiceAccount contested.
const CONTEST_REMOVALS: usize = 3;
/// How far back removals count.
const CONTEST_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// The longest pause for a contested ServiceAccount.
const CONTEST_MAX_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// The memory of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// By account, in order. A map would take a kilobyte where there is one account, as in most namespaces.
    attached: Vec<Attached>,
    contests: BTreeMap<Arc<str>, Contest>,
    holds: BTreeMap<Object, Hold>,
}

/// Desired names that a ServiceAccount had at the last pass.
#[derive(Clone, Debug)]
struct Attached {
    account: Arc<str>,
    uid: Uid,
    /// In order.
    names: Vec<Arc<str>>,
}

/// Somebody else removes our names from a ServiceAccount.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contest {
    removals: Vec<Timestamp>,
    pauses: u32,
    paused_until: Option<Timestamp>,
    /// The field manager that did it last.
    pub manager: Option<Arc<str>>,
}

/// A write that failed, in its back-off.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    /// Why it failed.
    pub error: StepError,
    /// When it first failed.
    pub since: Timestamp,
    /// When the back-off ends.
    pub retry_at: Timestamp,
    attempts: u32,
    planned_from: Option<Arc<str>>,
}

impl Memory {
    /// Compares the ServiceAccounts with what was last seen. If a name that we saw attached is missing,
    /// somebody else removed it: our own passes forget what they detach.
    pub fn note(&mut self, accounts: &BTreeMap<Arc<str>, ServiceAccount>, now: Timestamp) {
        self.contests.retain(|name, _| accounts.contains_key(name));
        self.attached.retain(|attached| {
            accounts.get(&attached.account).is_some_and(|account| account.uid == attached.uid)
        });
        for attached in &mut self.attached {
            let Some(account) = accounts.get(&attached.account) else { continue };
            let before = attached.names.len();
            attached.names.retain(|entry| account.image_pull_secrets.contains(entry));
            if attached.names.len() < before {
                let contest = self.contests.entry(attached.account.clone()).or_default();
                contest.removed(account.list_manager.clone(), now);
            }
        }
    }

    /// Remembers what a pass found and did. `results` are those of `plan.steps`, in their order.
    pub fn record(&mut self, plan: &Plan, results: &[Result<(), StepError>], now: Timestamp) {
        for (account, (uid, names)) in &plan.present {
            self.saw(account, uid, names);
        }
        if plan.steps.is_empty() {
            // Whatever was undone before, and is not asked for any more, is in place.
            self.holds.retain(|_, hold| hold.error != StepError::Undone || hold.retry_at > now);
        }
        for (step, result) in plan.steps.iter().zip(results) {
            match result {
                Ok(()) => self.succeeded(step),
                // It is planned again once what it depends on succeeds.
                Err(StepError::Blocked) => {}
                Err(error) => self.failed(&plan.namespace, step, *error, now),
            }
        }
    }

    /// The back-off of an object, even if it is over.
    pub(crate) fn hold(&self, object: &Object) -> Option<&Hold> {
        self.holds.get(object)
    }

    /// Ends the back-off of an object: what was in the way is deleted, so the next try may be made at once.
    pub fn forget_hold(&mut self, object: &Object) {
        self.holds.remove(object);
    }

    /// The contest over a ServiceAccount, while it is paused.
    pub(crate) fn contest(&self, account: &str, now: Timestamp) -> Option<&Contest> {
        self.contests.get(account).filter(|contest| contest.paused_until.is_some_and(|until| until > now))
    }

    /// Whether this name was seen on this ServiceAccount while it was desired there.
    pub(crate) fn saw_attached(&self, account: &str, name: &str) -> bool {
        self.find(account).is_ok_and(|at| self.attached[at].names.iter().any(|own| **own == *name))
    }

    /// When the next back-off or pause ends, after `now`.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let holds = self.holds.values().map(|hold| hold.retry_at);
        let contests = self.contests.values().filter_map(|contest| contest.paused_until);
        holds.chain(contests).filter(|at| *at > now).min()
    }

    fn succeeded(&mut self, step: &Step) {
        // Whether it lasts shows in the next plan.
        self.holds.retain(|object, hold| hold.error == StepError::Undone || *object != step.object());
        match step {
            Step::PatchServiceAccount(patch) => {
                self.saw(&patch.name, &patch.uid, &patch.attach);
                self.detached(&patch.name, &patch.detach);
            }
            // A released Secret keeps its entries, so they are no longer ours to detach.
            Step::ReleaseSecret(removal) => self.forget(&removal.name),
            Step::ApplySecret { .. } | Step::RecreateSecret { .. } | Step::DeleteSecret(_) => {}
        }
    }

    /// The position of an account, or the position at which to insert it.
    fn find(&self, account: &str) -> Result<usize, usize> {
        self.attached.binary_search_by(|attached| (*attached.account).cmp(account))
    }

    fn saw(&mut self, account: &Arc<str>, uid: &Uid, names: &BTreeSet<Arc<str>>) {
        let at = self.find(account).unwrap_or_else(|at| {
            if self.attached.is_empty() {
                // A vector would begin with room for four.
                self.attached.reserve_exact(1);
            }
            let names = Vec::with_capacity(names.len());
            self.attached.insert(at, Attached { account: account.clone(), uid: uid.clone(), names });
            at
        });
        let known = &mut self.attached[at].names;
        for name in names {
            if let Err(at) = known.binary_search(name) {
                known.insert(at, name.clone());
            }
        }
    }

    fn detached(&mut self, account: &str, names: &BTreeSet<Arc<str>>) {
        if let Ok(at) = self.find(account) {
            self.attached[at].names.retain(|name| !names.contains(name));
        }
    }

    fn forget(&mut self, secret: &str) {
        for attached in &mut self.attached {
            attached.names.retain(|name| **name != *secret);
        }
    }

    fn failed(&mut self, namespace: &str, step: &Step, error: StepError, now: Timestamp) {
        let object = step.object();
        let earlier = self.holds.remove(&object);
        let attempts = earlier.as_ref().map_or(0, |hold| hold.attempts) + 1;
        // A busy API server at the retry does not mean that adopting is allowed now.
        let refused =
            |hold: &&Hold| hold.error == StepError::AdoptNotAllowed && error.class() == Class::Retry;
        let error = earlier.as_ref().filter(refused).map_or(error, |hold| hold.error);
        let since = earlier.filter(|hold| hold.error == error).map_or(now, |hold| hold.since);
        let retry_at = now + backoff(namespace, error, attempts);
        let planned_from = step.planned_from().cloned();
        self.holds.insert(object, Hold { error, since, retry_at, attempts, planned_from });
    }
}

impl Hold {
    /// Whether a write planned from this version of the object must still wait.
    pub(crate) fn binds(&self, resource_version: Option<&Arc<str>>, now: Timestamp) -> bool {
        let superseded = matches!(self.error, StepError::Conflict | StepError::Gone)
            && self.planned_from.as_ref() != resource_version;
        self.retry_at > now && !superseded
    }
}

impl Contest {
    fn removed(&mut self, manager: Option<Arc<str>>, now: Timestamp) {
        self.manager = manager.or_else(|| self.manager.take());
        self.removals.retain(|at| now.duration_since(*at) <= CONTEST_WINDOW);
        self.removals.push(now);
        // After a first pause, one more removal is enough.
        let tolerated = if self.pauses == 0 { CONTEST_REMOVALS } else { 1 };
        if self.removals.len() >= tolerated {
            let pause = CONTEST_WINDOW.saturating_mul(1 << self.pauses.min(8)).min(CONTEST_MAX_PAUSE);
            self.paused_until = Some(now + pause);
            self.pauses += 1;
            self.removals.clear();
        }
    }
}

/// The back-off after this number of failures in a row.
fn backoff(namespace: &str, error: StepError, attempts: u32) -> SignedDuration {
    let (first, growth, longest) = match (error, error.class()) {
        (StepError::Conflict, _) => (100, 2_i64, 10_000),
        (_, Class::Retry) => (1_000, 2, 60_000),
        (_, Class::UserMustAct) => (1_000, 4, 300_000),
        (_, Class::Wait) => (5_000, 2, 60_000),
    };
    let asked = match error {
        StepError::Unavailable { retry_after, .. } => i64::from(retry_after) * 1_000,
        _ => 0,
    };
    let millis = growth.saturating_pow(attempts - 1).saturating_mul(first).min(longest).max(asked);
    SignedDuration::from_millis(millis + jitter(namespace, attempts, millis))
}

/// Up to a quarter more, derived from the name: namespaces that failed together retry at different
/// times, and equal worlds still give equal plans.
fn jitter(namespace: &str, attempts: u32, millis: i64) -> i64 {
    let mut hasher = DefaultHasher::new();
    (namespace, attempts).hash(&mut hasher);
    let share = i64::try_from(hasher.finish() % 256).unwrap_or(0);
    millis * share / 1024
}
