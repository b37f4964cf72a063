//! The plan of a namespace: an ordered list of steps, each one request, and for each credential
//! what it gets and what it cannot have.
//!
//! The order makes it safe to stop after any step: first imagePullSecrets, then Secrets that are
//! written, last Secrets that are removed. So no ServiceAccount that we manage names a Secret that we
//! deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::{DeletionPolicy, Reason};

use crate::claim::{Claim, Claims, Entries, Fate};
use crate::error::StepError;
use crate::observed::{Secret, ServiceAccount};
use crate::service_account::ListChange;
use crate::step::{Goal, ListPatch, Object, Pair, Plan, Precondition, Removal, Step};
use crate::world::{Credential, World};

/// What is to be done in this namespace at this time.
pub fn plan(world: &World, now: Timestamp) -> Plan {
    let mut planner = Planner {
        world,
        now,
        plan: Plan { namespace: world.namespace.name.clone(), ..Plan::default() },
        goals: BTreeMap::new(),
        still_named: BTreeSet::new(),
    };
    if !world.namespace.terminating {
        let claims = Claims::settle(world);
        planner.plan_lists(&claims);
        planner.plan_secrets(&claims);
        planner.plan_lost(&claims);
    }
    planner.plan
}

struct Planner<'a> {
    world: &'a World,
    now: Timestamp,
    plan: Plan,
    /// The goal of each ServiceAccount whose list must change.
    goals: BTreeMap<Arc<str>, Goal>,
    /// Names to be removed from a list that cannot be written now: their Secrets must not be deleted yet.
    still_named: BTreeSet<Arc<str>>,
}

impl<'a> Planner<'a> {
    fn plan_lists(&mut self, claims: &Claims<'a>) {
        for (name, account) in &self.world.service_accounts {
            if account.terminating {
                continue;
            }
            let change = ListChange::new(name, account, claims, &self.world.memory);
            if !change.present.is_empty() {
                self.plan.present.insert(name.clone(), (account.uid.clone(), change.present.clone()));
            }
            if !change.is_empty() {
                let goal = self.plan_list(name, account, &change);
                self.goals.insert(name.clone(), goal);
            }
        }
    }

    fn plan_list(&mut self, name: &Arc<str>, account: &ServiceAccount, change: &ListChange) -> Goal {
        let object = Object::ServiceAccount(name.clone());
        if let Some(goal) = self.hold(&object, Some(&account.resource_version)) {
            self.still_named.extend(change.detach.iter().cloned());
            return goal;
        }
        let contested = self.contested(name, change);
        let change = if contested.is_some() { change.without_attach() } else { change.clone() };
        if change.is_empty() {
            return contested.unwrap_or(Goal::InPlace);
        }
        let step = self.push(Step::PatchServiceAccount(ListPatch {
            name: name.clone(),
            uid: account.uid.clone(),
            resource_version: account.resource_version.clone(),
            list: change.apply_to(&account.image_pull_secrets),
            attach: change.attach,
            detach: change.detach,
        }));
        contested.unwrap_or(step)
    }

    /// While an account is contested nothing is added, but our own names may still be removed.
    fn contested(&self, name: &str, change: &ListChange) -> Option<Goal> {
        let contest = self.world.memory.contest(name, self.now)?;
        let who = contest.manager.as_deref().unwrap_or("somebody");
        let message = format!(
            "{who} keeps taking the entry off; let it list {} too, or exclude the ServiceAccount",
            change.attach.iter().map(|name| &**name).collect::<Vec<_>>().join(", "),
        );
        Some(Goal::Refused { reason: Reason::Contested, message })
    }

    fn plan_secrets(&mut self, claims: &Claims<'a>) {
        let mut removals = Vec::new();
        for (name, claim) in &claims.by_name {
            match claim.secret {
                Fate::Remove(secret) => removals.push((name, claim, secret)),
                Fate::Ensure | Fate::Untouched | Fate::Refused(_) => self.plan_wanted(name, claim),
            }
        }
        for (name, claim, secret) in removals {
            self.plan_removal(name, claim, secret);
        }
    }

    fn plan_wanted(&mut self, name: &Arc<str>, claim: &Claim<'a>) {
        let secret = match claim.secret {
            Fate::Ensure => self.plan_copy(name, claim.credential),
            Fate::Refused(error) => self.plan_refused(name, claim.credential, error),
            Fate::Untouched | Fate::Remove(_) => self.untouched(name, claim.credential),
        };
        let departing = !self.is_desired(name, claim.credential);
        if departing && !self.is_still_named(name) {
            return;
        }
        let accounts = self.accounts(name, claim);
        self.plan.pairs.push(Pair {
            credential: claim.credential.uid.clone(),
            target: name.clone(),
            departing,
            secret,
            accounts,
        });
    }

    fn plan_copy(&mut self, name: &Arc<str>, credential: &Credential) -> Goal {
        let existing = self.world.secrets.get(name);
        let Some(copy) = &credential.copy else {
            return self.untouched(name, credential);
        };
        if existing.is_some_and(|secret| copy.matches(secret)) {
            return Goal::InPlace;
        }
        if existing.is_some_and(|secret| secret.terminating) {
            return Goal::Waiting;
        }
        let from = existing.map(|secret| &secret.resource_version);
        if let Some(goal) = self.hold(&Object::Secret(name.clone()), from) {
            return goal;
        }
        let copy = copy.clone();
        self.push(match existing {
            Some(secret) if secret.immutable => Step::RecreateSecret { copy, over: Precondition::of(secret) },
            _ => Step::ApplySecret { copy, over: existing.map(Precondition::of) },
        })
    }

    /// A foreign Secret that the operator watches is not written. One that showed only in the answer to a
    /// write is tried again after a back-off, because no event says that it was deleted or may be adopted.
    fn plan_refused(&mut self, name: &Arc<str>, credential: &Credential, error: StepError) -> Goal {
        let existing = self.world.secrets.get(name);
        let try_again = existing.is_none() || error == StepError::AdoptNotAllowed;
        let hold = self.hold(&Object::Secret(name.clone()), None);
        match (try_again, hold, &credential.copy) {
            (true, None, Some(copy)) => {
                self.push(Step::ApplySecret { copy: copy.clone(), over: existing.map(Precondition::of) })
            }
            (true, Some(waiting), _) => waiting,
            _ => Goal::Refused { reason: error.reason(), message: error.to_string() },
        }
    }

    /// An existing copy whose data nobody edited counts as in place, although nothing is written now.
    fn untouched(&self, name: &Arc<str>, credential: &Credential) -> Goal {
        let serves = |secret: &Secret| {
            secret.owns_data && self.world.owner_of(secret).is_some_and(|owner| owner.uid == credential.uid)
        };
        if self.world.secrets.get(name).is_some_and(serves) { Goal::InPlace } else { Goal::Waiting }
    }

    fn plan_removal(&mut self, name: &Arc<str>, claim: &Claim<'a>, secret: &Secret) {
        let blocked = self.still_named.contains(name) || secret.terminating;
        let object = Object::Secret(name.clone());
        let goal = match self.hold(&object, Some(&secret.resource_version)) {
            Some(goal) => goal,
            None if blocked => Goal::Waiting,
            None => self.push(removal(name, claim.credential, secret)),
        };
        self.plan.pairs.push(Pair {
            credential: claim.credential.uid.clone(),
            target: name.clone(),
            departing: true,
            secret: goal,
            accounts: Vec::new(),
        });
    }

    /// Whether the credential wants this name here: a leftover copy is not one more namespace to count.
    fn is_desired(&self, name: &str, credential: &Credential) -> bool {
        credential
            .active_spec()
            .is_some_and(|spec| spec.target_name == name && spec.namespaces.selects(&self.world.namespace))
    }

    /// Whether some list still has this name, which is being removed.
    fn is_still_named(&self, name: &Arc<str>) -> bool {
        let detached = |step: &Step| match step {
            Step::PatchServiceAccount(patch) => patch.detach.contains(name),
            _ => false,
        };
        self.still_named.contains(name) || self.plan.steps.iter().any(detached)
    }

    fn accounts(&self, name: &Arc<str>, claim: &Claim<'a>) -> Vec<(Arc<str>, Goal)> {
        let Some(spec) = claim.credential.active_spec() else { return Vec::new() };
        let selected = |(account, observed): &(&Arc<str>, &ServiceAccount)| {
            spec.service_accounts.selects(account, observed)
        };
        let accounts = self.world.service_accounts.iter().filter(selected);
        accounts
            .map(|(account, observed)| (account.clone(), self.account(name, claim, account, observed)))
            .collect()
    }

    fn account(
        &self,
        name: &Arc<str>,
        claim: &Claim<'a>,
        account: &Arc<str>,
        observed: &ServiceAccount,
    ) -> Goal {
        let listed = observed.image_pull_secrets.contains(name);
        match (claim.entries, claim.secret) {
            (Entries::Attach(_), _) if listed => Goal::InPlace,
            (Entries::Attach(_), _) => self.goals.get(account).cloned().unwrap_or(Goal::Waiting),
            (_, Fate::Refused(error)) => Goal::Refused { reason: error.reason(), message: error.to_string() },
            _ if listed => Goal::InPlace,
            _ => Goal::Waiting,
        }
    }

    fn plan_lost(&mut self, claims: &Claims<'a>) {
        for (loser, winner) in &claims.lost {
            let Some(spec) = loser.active_spec() else { continue };
            let refused = Goal::Refused { reason: Reason::TargetClaimed, message: lost_to(loser, winner) };
            let selected = self.world.service_accounts.iter();
            let selected = selected.filter(|(name, account)| spec.service_accounts.selects(name, account));
            let accounts = selected.map(|(name, _)| (name.clone(), refused.clone())).collect();
            self.plan.pairs.push(Pair {
                credential: loser.uid.clone(),
                target: Arc::from(spec.target_name.as_str()),
                departing: false,
                secret: refused,
                accounts,
            });
        }
    }

    fn hold(&self, object: &Object, resource_version: Option<&Arc<str>>) -> Option<Goal> {
        let hold = self.world.memory.hold(object)?;
        let binds = hold.binds(resource_version, self.now);
        binds.then_some(Goal::Held { error: hold.error, since: hold.since })
    }

    fn push(&mut self, step: Step) -> Goal {
        self.plan.steps.push(step);
        Goal::Step(self.plan.steps.len() - 1)
    }
}

/// Which rule decided.
fn lost_to(loser: &Credential, winner: &Credential) -> String {
    let older = winner.created < loser.created;
    let rule = if older { "is older" } else { "was made in the same second and is the first by name" };
    format!("RegistryCredential {} has this target name too and {rule}", winner.name)
}

fn removal(name: &Arc<str>, credential: &Credential, secret: &Secret) -> Step {
    let removal =
        Removal { name: name.clone(), over: Precondition::of(secret), credential: credential.uid.clone() };
    match credential.deletion_policy {
        DeletionPolicy::Delete => Step::DeleteSecret(removal),
        DeletionPolicy::Retain => Step::ReleaseSecret(removal),
    }
}
