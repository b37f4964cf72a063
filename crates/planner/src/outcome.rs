//! What became of a plan, for each credential that it concerns.

use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::Reason;

use crate::error::StepError;
use crate::memory::Memory;
use crate::observed::Uid;
use crate::step::{Goal, Object, Pair, Plan, Role};
use regcred_api::Class;

/// One credential in one namespace after a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct PairReport {
    /// UID of the credential.
    pub credential: Uid,
    /// What the credential has to do with the namespace.
    pub role: Role,
    /// Name of the Secret.
    pub target: Arc<str>,
    /// State of the Secret.
    pub secret: State,
    /// Selected ServiceAccounts, counted by state.
    pub accounts: AccountCounts,
    /// The target name is a former one, under which the credential keeps its copy here for now.
    pub kept: bool,
    /// What is not in place, and why.
    pub failures: Vec<(Object, Fault)>,
}

/// State of a Secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// As desired.
    Synced,
    /// Not written yet, or waiting for its source.
    Pending,
    /// Refused, or the write failed.
    Failed,
}

/// Selected ServiceAccounts of one namespace, counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AccountCounts {
    /// Selected.
    pub matched: usize,
    /// With the name.
    pub attached: usize,
    /// Without the name, because a write failed or was refused.
    pub failed: usize,
    /// Without the name, because somebody keeps removing it.
    pub contested: usize,
}

/// Why something is not in place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// As in conditions.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub message: Arc<str>,
    /// Since when.
    pub since: Timestamp,
    /// Whether it is retried without a user acting.
    pub retrying: bool,
    /// When somebody's fight is taken up again. No part of the message, so that equal causes are told as one.
    pub retry_at: Option<Timestamp>,
}

/// What became of each pair. `results` are those of `plan.steps`; `memory` has recorded them.
pub fn outcomes(
    plan: &Plan,
    results: &[Result<(), StepError>],
    memory: &Memory,
    now: Timestamp,
) -> Vec<PairReport> {
    let judge = Judge { results, memory, now };
    plan.pairs.iter().filter_map(|pair| judge.pair(pair)).collect()
}

struct Judge<'a> {
    results: &'a [Result<(), StepError>],
    memory: &'a Memory,
    now: Timestamp,
}

impl Judge<'_> {
    /// `None` once a departing credential has nothing here any more.
    fn pair(&self, pair: &Pair) -> Option<PairReport> {
        let mut failures = Vec::new();
        let object = Object::Secret(pair.target.clone());
        let secret = self.state(&pair.secret, &object, &mut failures);
        if pair.role == Role::Departing && secret == State::Synced {
            return None;
        }
        let accounts = self.accounts(pair, &mut failures);
        for (name, goal) in &pair.stuck {
            self.state(goal, &Object::ServiceAccount(name.clone()), &mut failures);
        }
        if let Some(refused) = failures.iter().find(|(object, _)| object.is_secret()).and_then(name_refused) {
            // The Secret's own failure says it already.
            failures.retain(|(object, fault)| object.is_secret() || fault.reason != refused);
        }
        Some(PairReport {
            credential: pair.credential.clone(),
            role: pair.role,
            target: pair.target.clone(),
            secret,
            accounts,
            kept: pair.secret == Goal::Kept,
            failures,
        })
    }

    fn accounts(&self, pair: &Pair, failures: &mut Vec<(Object, Fault)>) -> AccountCounts {
        let mut accounts = AccountCounts { matched: pair.accounts.len(), ..AccountCounts::default() };
        for (name, goal) in &pair.accounts {
            let before = failures.len();
            match self.state(goal, &Object::ServiceAccount(name.clone()), failures) {
                State::Synced => accounts.attached += 1,
                State::Failed => accounts.failed += 1,
                State::Pending => {}
            }
            accounts.contested +=
                failures[before..].iter().filter(|(_, fault)| fault.reason == Reason::Contested).count();
        }
        accounts
    }

    fn state(&self, goal: &Goal, object: &Object, failures: &mut Vec<(Object, Fault)>) -> State {
        let fault = match goal {
            Goal::InPlace => return State::Synced,
            Goal::Waiting | Goal::Kept => return State::Pending,
            Goal::Held { error, since } => fault(*error, *since),
            Goal::Refused { reason, message, retry_at } => {
                Some(Fault { retry_at: *retry_at, ..self.refused(*reason, message) })
            }
            Goal::Step(index) => match self.results.get(*index) {
                Some(Ok(())) => return State::Synced,
                Some(Err(error)) => fault(*error, self.since(object)),
                None => None,
            },
        };
        match fault {
            Some(fault) => {
                failures.push((object.clone(), fault));
                State::Failed
            }
            None => State::Pending,
        }
    }

    fn refused(&self, reason: Reason, message: &str) -> Fault {
        Fault { reason, message: Arc::from(message), since: self.now, retrying: false, retry_at: None }
    }

    fn since(&self, object: &Object) -> Timestamp {
        self.memory.hold(object).map_or(self.now, |hold| hold.since)
    }
}

/// Why the credential cannot have the target name, if that is what stands in the way.
fn name_refused((_, fault): &(Object, Fault)) -> Option<Reason> {
    let of_name = matches!(fault.reason, Reason::NameConflict | Reason::TypeMismatch | Reason::TargetClaimed);
    of_name.then_some(fault.reason)
}

/// A conflict, or an object that was just deleted, needs no report: the next pass settles it.
fn fault(error: StepError, since: Timestamp) -> Option<Fault> {
    let passing = matches!(error, StepError::Conflict) || error.class() == Class::Wait;
    (!passing).then(|| Fault {
        reason: error.reason(),
        message: Arc::from(error.to_string()),
        since,
        retrying: error.class() == Class::Retry,
        retry_at: None,
    })
}
