//! What is remembered of earlier passes over a namespace. It is never stored: losing it costs a few
//! writes at the most, never an invariant.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::error::StepError;
use crate::step::{Act, Deed, Object, Plan, Step, Subject};
use regcred_api::Class;

/// Writes of one thing within [`FIGHT_WINDOW`], each undone by somebody else, after which it is contested.
const FIGHT_WRITES: u32 = 3;
/// How far back writes count, and the first pause for what is contested.
const FIGHT_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// The longest pause for what is contested.
const FIGHT_MAX_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// How long after its end a back-off counts for the next: nothing that exists waits as long for a try.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(2);

/// How many things are remembered as written. A tenant may make ever new Secrets that are removed again.
const MAX_FIGHTS: usize = 4096;

/// The memory of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// A tree would take a kilobyte for the two entries that most namespaces have.
    fights: HashMap<Subject, Fight>,
    holds: BTreeMap<Object, Hold>,
}

/// What was done last to one thing, and how often again: it is a fight once others keep undoing it. Doing something
/// else to it ends that.
#[derive(Clone, Debug)]
struct Fight {
    act: Act,
    first: Timestamp,
    last: Timestamp,
    writes: u32,
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
    /// Remembers what became of a plan. `results` are those of `plan.steps`, in their order.
    pub fn record(&mut self, plan: &Plan, results: &[Result<(), StepError>], now: Timestamp) {
        self.fights.retain(|_, fight| !fight.is_over(now));
        self.holds.retain(|_, hold| hold.retry_at + FORGOTTEN_AFTER > now);
        for (step, result) in plan.steps.iter().zip(results) {
            match result {
                Ok(()) | Err(StepError::Undone) => {
                    self.holds.remove(&step.object());
                    step.deeds().into_iter().for_each(|deed| self.did(deed, now));
                    if let (Step::VerifySecret { copy, .. }, Err(_)) = (step, result) {
                        self.did(Deed::write(copy), now);
                    }
                }
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

    /// Ends every back-off and fight that concerns one of these target names: an admin asks for a try now.
    pub fn forgive(&mut self, targets: &BTreeSet<Arc<str>>) {
        self.fights.retain(|subject, _| !targets.contains(subject.target()));
        self.holds.retain(|object, _| match object {
            Object::Secret(name) => !targets.contains(name),
            Object::ServiceAccount(_) => false,
        });
    }

    /// Until when this is not to be done, because it was done again and again, each time undone by somebody else.
    pub(crate) fn contested_until(&self, deed: &Deed, now: Timestamp) -> Option<Timestamp> {
        let fight = self.fights.get(&deed.subject).filter(|fight| fight.act == deed.act);
        fight.and_then(Fight::next).filter(|next| *next > now)
    }

    /// When the next back-off or pause ends, after `now`.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let holds = self.holds.values().map(|hold| hold.retry_at);
        let fights = self.fights.values().filter_map(Fight::next);
        holds.chain(fights).filter(|at| *at > now).min()
    }

    fn did(&mut self, Deed { subject, act }: Deed, now: Timestamp) {
        if let Some(fight) = self.fights.get_mut(&subject).filter(|fight| fight.act == act) {
            return fight.again(now);
        }
        if self.fights.len() >= MAX_FIGHTS {
            self.forget_older_half();
        }
        self.fights.insert(subject, Fight { act, first: now, last: now, writes: 1 });
    }

    fn forget_older_half(&mut self) {
        // Many may be of one moment, and then the names decide, so that equal worlds are remembered alike.
        let mut keys: Vec<_> =
            self.fights.iter().map(|(subject, fight)| (fight.last, subject.clone())).collect();
        let middle = keys.len() / 2;
        let (older, ..) = keys.select_nth_unstable(middle);
        for (_, subject) in older {
            self.fights.remove(subject);
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

impl Fight {
    fn again(&mut self, now: Timestamp) {
        if self.writes < FIGHT_WRITES && now.duration_since(self.first) > FIGHT_WINDOW {
            (self.first, self.writes) = (now, 0);
        }
        self.last = now;
        self.writes = self.writes.saturating_add(1);
    }

    /// The pause after the last write: none at first, then doubling.
    fn pause(&self) -> SignedDuration {
        match self.writes.checked_sub(FIGHT_WRITES) {
            Some(pauses) => FIGHT_WINDOW.saturating_mul(1 << pauses.min(8)).min(FIGHT_MAX_PAUSE),
            None => SignedDuration::ZERO,
        }
    }

    /// When it may be done again, if not at once.
    fn next(&self) -> Option<Timestamp> {
        (self.writes >= FIGHT_WRITES).then(|| self.last + self.pause())
    }

    /// Whether the last write has stood: it would have been repeated by now.
    fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.last) > self.pause() + FIGHT_WINDOW
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{Precondition, Removal};

    fn removal(name: &str) -> Step {
        let over = Precondition { uid: Arc::from("s1"), resource_version: Arc::from("1") };
        let credential: Arc<str> = Arc::from("c1");
        Step::DeleteSecret(Removal {
            name: Arc::from(name),
            over,
            credential_name: credential.clone(),
            credential,
        })
    }

    fn record(memory: &mut Memory, names: impl Iterator<Item = String>, now: Timestamp) {
        let steps: Vec<_> = names.map(|name| removal(&name)).collect();
        let results = vec![Ok(()); steps.len()];
        memory.record(&Plan { steps, ..Plan::default() }, &results, now);
    }

    #[test]
    fn of_too_many_writes_of_one_moment_half_are_remembered() {
        let now = Timestamp::from_second(0).unwrap();
        let remembered = || {
            let mut memory = Memory::default();
            record(&mut memory, (0..=MAX_FIGHTS).map(|number| number.to_string()), now);
            let mut subjects: Vec<_> = memory.fights.into_keys().map(|it| it.target().to_string()).collect();
            subjects.sort();
            subjects
        };
        assert_eq!(remembered().len(), MAX_FIGHTS / 2 + 1);
        assert_eq!(remembered(), remembered(), "equal worlds are remembered alike");
    }

    #[test]
    fn a_tenant_who_makes_ever_new_secrets_does_not_grow_the_memory() {
        let mut memory = Memory::default();
        let second = |second| Timestamp::from_second(second).unwrap();
        for round in 0..20 {
            let names = (0..1000).map(|number| format!("{round}-{number}"));
            record(&mut memory, names.chain(["contested".to_owned()]), second(round));
        }
        assert!(memory.fights.len() <= MAX_FIGHTS, "{}", memory.fights.len());
        let deed = Deed::remove(&Arc::from("contested"));
        assert!(memory.contested_until(&deed, second(20)).is_some(), "what goes on is remembered");
    }
}
