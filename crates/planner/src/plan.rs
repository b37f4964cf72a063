//! The plan of a namespace: an ordered list of steps, each one request, and for each credential
//! what it gets and what it cannot have.
//!
//! The order makes it safe to stop after any step: first imagePullSecrets, then Secrets that are
//! written, last Secrets that are removed. So no ServiceAccount that we manage names a Secret that we
//! deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use regcred_api::{DeletionPolicy, Reason, names};

use crate::claim::{Claim, Claims, Entries, Fate};
use crate::copy::SecretCopy;
use crate::error::StepError;
use crate::observed::{Secret, ServiceAccount, Trust};
use crate::service_account::ListChange;
use crate::step::{Deed, Goal, ListPatch, Object, Pair, Plan, Precondition, Removal, Role, Step};
use crate::words::quoted;
use crate::world::{Credential, World};

/// How much of a name that a user chose a message quotes.
const NAME_LENGTH: usize = 40;
/// The longest name of a RegistryCredential.
const CREDENTIAL_NAME_LENGTH: usize = 63;

/// What is said of a Secret that somebody gave a mark of a credential.
const MISTAKEN: &str = "Secret carries marks of this RegistryCredential and is not its copy in full, so it is left \
                        alone; delete it, or take the label and annotations of regcred.dev off it";

/// What is to be done in this namespace at this time.
pub fn plan(world: &World, now: Timestamp) -> Plan {
    let mut planner = Planner {
        world,
        now,
        plan: Plan { namespace: world.namespace.name.clone(), ..Plan::default() },
        lists: BTreeMap::new(),
        unattached: BTreeMap::new(),
        still_named: BTreeMap::new(),
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
    lists: BTreeMap<Arc<str>, Goal>,
    /// ServiceAccounts and names that are not put on them, and why.
    unattached: BTreeMap<(Arc<str>, Arc<str>), Goal>,
    /// Names to be removed from lists that cannot be written now, with these lists and why: their Secrets must not
    /// be deleted yet.
    still_named: BTreeMap<Arc<str>, Vec<(Arc<str>, Goal)>>,
}

impl<'a> Planner<'a> {
    fn plan_lists(&mut self, claims: &Claims<'a>) {
        for (name, account) in &self.world.service_accounts {
            if account.terminating {
                continue;
            }
            let change = ListChange::new(self.world, name, account, claims);
            for target in &change.no_room {
                self.unattached.insert((name.clone(), target.clone()), refused(StepError::ListTooLong));
            }
            if !change.is_empty() {
                self.plan_list(name, account, change);
            }
        }
    }

    fn plan_list(&mut self, name: &Arc<str>, account: &ServiceAccount, change: ListChange) {
        if let Some(goal) = self.hold(&Object::ServiceAccount(name.clone()), Some(&account.resource_version))
        {
            let unmark = change.unmark.iter().filter(|target| account.lists(target));
            for target in change.detach.iter().chain(unmark) {
                self.note_still_named(target, name, &goal);
            }
            self.lists.insert(name.clone(), goal);
            return;
        }
        let change = self.without_contested(name, account, change);
        if change.is_empty() {
            return;
        }
        let step = self.push(Step::PatchServiceAccount(ListPatch {
            name: name.clone(),
            uid: account.uid.clone(),
            resource_version: account.resource_version.clone(),
            list: change.apply_to(&account.image_pull_secrets),
            marked: change.marked_after(&account.marked),
            attach: change.attach,
            detach: change.detach,
            unmark: change.unmark,
        }));
        self.lists.insert(name.clone(), step);
    }

    /// The change less what others keep undoing, which is noted.
    fn without_contested(
        &mut self,
        name: &Arc<str>,
        account: &ServiceAccount,
        mut change: ListChange,
    ) -> ListChange {
        let (memory, now) = (&self.world.memory, self.now);
        let who = opponent(account.list_manager.as_deref());
        let attach = |target: &Arc<str>| memory.contested_until(&Deed::attach(&account.uid, target), now);
        let detach = |target: &Arc<str>| memory.contested_until(&Deed::detach(&account.uid, target), now);
        for target in change.attach.extract_if(.., |target| attach(target).is_some()) {
            let message = format!(
                "{who} keeps taking the entry off, and it is off now; let it list {target} too, or exclude the \
                 ServiceAccount"
            );
            let goal = contested(message, attach(&target));
            self.unattached.insert((name.clone(), target), goal);
        }
        for target in change.detach.extract_if(.., |target| detach(target).is_some()) {
            let message = format!(
                "{who} keeps putting the entry back, and it is there now; take {target} out of what it writes"
            );
            let stuck = (name.clone(), contested(message, detach(&target)));
            self.still_named.entry(target).or_default().push(stuck);
        }
        for target in change.unmark.extract_if(.., |target| detach(target).is_some()) {
            if account.lists(&target) {
                let message = format!(
                    "{who} keeps putting the mark of {target} back, and it is there now; let it leave \
                     regcred.dev/attached alone"
                );
                let stuck = (name.clone(), contested(message, detach(&target)));
                self.still_named.entry(target).or_default().push(stuck);
            }
        }
        change
    }

    fn note_still_named(&mut self, target: &Arc<str>, account: &Arc<str>, goal: &Goal) {
        self.still_named.entry(target.clone()).or_default().push((account.clone(), goal.clone()));
    }

    fn plan_secrets(&mut self, claims: &Claims<'a>) {
        let mut removals = Vec::new();
        for (name, claim) in &claims.by_name {
            match claim.secret {
                Fate::Remove(secret) => removals.push((name, claim, secret)),
                Fate::Keep(secret) if self.is_overdue(name, claim.credential, secret) => {
                    removals.push((name, claim, secret));
                }
                Fate::Keep(secret) => self.plan_kept(name, claim.credential, secret),
                Fate::Mistaken => self.plan_mistaken(name, claim.credential),
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
            Fate::Untouched | Fate::Keep(_) | Fate::Mistaken | Fate::Remove(_) => {
                self.untouched(name, claim.credential)
            }
        };
        if self.is_desired(name, claim.credential) {
            let accounts = self.accounts(name, claim);
            self.push_pair(name, claim.credential, secret, accounts);
        } else if self.is_still_named(name) {
            self.push_departing(name, claim.credential, secret);
        }
    }

    fn push_pair(
        &mut self,
        name: &Arc<str>,
        credential: &Credential,
        secret: Goal,
        accounts: Vec<(Arc<str>, Goal)>,
    ) {
        let (credential, target, stuck) = (credential.uid.clone(), name.clone(), self.stuck(name));
        self.plan.pairs.push(Pair { credential, target, role: Role::Wanted, secret, accounts, stuck });
    }

    fn push_departing(&mut self, name: &Arc<str>, credential: &Credential, secret: Goal) {
        self.push_other(name, credential, Role::Departing, secret);
    }

    fn push_other(&mut self, name: &Arc<str>, credential: &Credential, role: Role, secret: Goal) {
        let (credential, target, stuck) = (credential.uid.clone(), name.clone(), self.stuck(name));
        self.plan.pairs.push(Pair { credential, target, role, secret, accounts: Vec::new(), stuck });
    }

    /// A Secret that somebody gave a mark of this credential is left alone and told of, one in each namespace. While the
    /// credential is being deleted nobody asks for more.
    fn plan_mistaken(&mut self, name: &Arc<str>, credential: &Credential) {
        let is_told = |pair: &Pair| pair.role == Role::Mistaken && pair.credential == credential.uid;
        if self.is_still_named(name) {
            self.push_departing(name, credential, Goal::Waiting);
        } else if !credential.deleting && !self.plan.pairs.iter().any(is_told) {
            let (reason, message) = (Reason::NameConflict, MISTAKEN.to_owned());
            let goal = Goal::Refused { reason, message, retry_at: None };
            self.push_other(name, credential, Role::Mistaken, goal);
        }
    }

    fn plan_copy(&mut self, name: &Arc<str>, credential: &Credential) -> Goal {
        match &credential.copy {
            Some(copy) => self.ensure(copy.clone()),
            None => self.untouched(name, credential),
        }
    }

    /// Makes the Secret of the copy's name this copy.
    fn ensure(&mut self, copy: Arc<SecretCopy>) -> Goal {
        let existing = self.world.secrets.get(&copy.name);
        if let Some(secret) = existing.filter(|secret| secret.terminating) {
            return waiting_for_end(secret);
        }
        if let Some(secret) = existing.filter(|secret| copy.matches(secret)) {
            return self.verify(copy, secret);
        }
        let object = Object::Secret(copy.name.clone());
        let from = existing.map(|secret| &secret.resource_version);
        // A policy that makes copies immutable leaves no trace in managedFields: only the refusal shows it.
        let frozen = self.world.memory.hold(&object).is_some_and(|hold| hold.error == StepError::Immutable);
        if let Some(goal) = self.hold(&object, from).filter(|_| !frozen) {
            return goal;
        }
        if let Some(until) = self.world.memory.contested_until(&Deed::write(&copy), self.now) {
            return contested_copy(existing, "and it is wrong now", until);
        }
        self.push(match existing {
            Some(secret) if secret.immutable || frozen => {
                Step::RecreateSecret { copy, over: Precondition::of(secret) }
            }
            Some(secret) if copy.differs_in_content(secret) => {
                Step::RotateSecret { copy, over: Precondition::of(secret) }
            }
            _ => Step::ApplySecret { copy, over: existing.map(Precondition::of) },
        })
    }

    /// What shows on this Secret is as the copy has it. If somebody wrote it since our own write, writing it again tells
    /// whether its data is, too: that changes nothing where it is.
    fn verify(&mut self, copy: Arc<SecretCopy>, secret: &Secret) -> Goal {
        let (memory, deed) = (&self.world.memory, Deed::look(&copy.name));
        if secret.trust != Trust::Doubtful {
            return Goal::InPlace;
        }
        if let Some(until) = memory.contested_until(&Deed::write(&copy), self.now) {
            return contested_copy(Some(secret), "and it may be wrong now", until);
        }
        if memory.contested_until(&deed, self.now).is_some() {
            return Goal::InPlace;
        }
        let object = Object::Secret(copy.name.clone());
        let held = self.hold(&object, Some(&secret.resource_version));
        held.unwrap_or_else(|| self.push(Step::VerifySecret { copy, over: Precondition::of(secret) }))
    }

    /// A copy under a former target name stays right as long as it stays. Once the present one is in place and no
    /// ServiceAccount needs the former one any more, it says since when.
    fn plan_kept(&mut self, name: &Arc<str>, credential: &Credential, secret: &Secret) {
        let told = superseded_at(secret);
        let since = told.or_else(|| self.is_superseded(name, credential).then_some(self.now));
        // Where its time is over it waits for the present one, which announces itself.
        let until = told.and_then(|since| kept_until(credential, since));
        if let Some(until) = until.filter(|until| *until > self.now) {
            self.wake_at(until);
        }
        let goal = match &credential.copy {
            Some(copy) => self.ensure(Arc::new(copy.under_former_name(name, since))),
            None => Goal::InPlace,
        };
        let goal = if goal == Goal::InPlace { Goal::Kept } else { goal };
        self.push_departing(name, credential, goal);
    }

    /// Whether nothing in the namespace needs the copy under a former name any more, other than Pods that run.
    fn is_superseded(&self, name: &Arc<str>, credential: &Credential) -> bool {
        let needs =
            |account: &ServiceAccount| !account.terminating && account.marks(name) && account.lists(name);
        self.world.has_copy(credential) && !self.world.service_accounts.values().any(needs)
    }

    /// Whether the time that a copy stays under a former name is over.
    fn is_overdue(&self, name: &Arc<str>, credential: &Credential, secret: &Secret) -> bool {
        let since = superseded_at(secret).unwrap_or(self.now);
        self.is_superseded(name, credential)
            && kept_until(credential, since).is_none_or(|until| until <= self.now)
    }

    fn wake_at(&mut self, at: Timestamp) {
        let wake_at = self.plan.wake_at.map_or(at, |earlier| earlier.min(at));
        self.plan.wake_at = Some(wake_at);
    }

    /// A foreign Secret that the operator watches is not written. One that showed only in the answer to a
    /// write is tried again after a back-off, because no event says that it was deleted or may be adopted.
    fn plan_refused(&mut self, name: &Arc<str>, credential: &Credential, error: StepError) -> Goal {
        let existing = self.world.secrets.get(name);
        let try_again = error == StepError::AdoptNotAllowed || existing.is_none();
        let hold = self.hold(&Object::Secret(name.clone()), None);
        match (try_again, hold, &credential.copy) {
            (true, None, Some(copy)) => {
                self.push(Step::ApplySecret { copy: copy.clone(), over: existing.map(Precondition::of) })
            }
            (true, Some(waiting), _) => waiting,
            _ => {
                let existing = existing.filter(|secret| !secret.wrong_type);
                let left = existing.and_then(|secret| left_behind(secret, credential));
                left.unwrap_or_else(|| refused(error))
            }
        }
    }

    /// An existing copy whose data nobody edited counts as in place, although nothing is written now.
    fn untouched(&self, name: &Arc<str>, credential: &Credential) -> Goal {
        let serves = |secret: &Secret| {
            let owned = self.world.owner_of(secret).is_some_and(|owner| owner.uid == credential.uid);
            secret.owns_data && !secret.terminating && owned
        };
        if self.world.secrets.get(name).is_some_and(serves) { Goal::InPlace } else { Goal::Waiting }
    }

    fn plan_removal(&mut self, name: &Arc<str>, claim: &Claim<'a>, secret: &Secret) {
        if secret.terminating && claim.credential.deleting && !self.is_still_named(name) {
            // It ends once others let it, and that is nothing to wait for.
            return;
        }
        let object = Object::Secret(name.clone());
        let deed = Deed::remove(name);
        let goal = if let Some(goal) = self.hold(&object, Some(&secret.resource_version)) {
            goal
        } else if self.still_named.contains_key(name) {
            Goal::Waiting
        } else if secret.terminating {
            waiting_for_end(secret)
        } else if let Some(until) = self.world.memory.contested_until(&deed, self.now) {
            let who = opponent(secret.manager.as_deref());
            let message = format!(
                "{who} keeps making the Secret again, and it is there now; take it out of what makes it"
            );
            contested(message, Some(until))
        } else {
            self.push(removal(name, claim.credential, secret))
        };
        self.push_departing(name, claim.credential, goal);
    }

    /// ServiceAccounts that cannot be rid of a name now.
    fn stuck(&self, name: &Arc<str>) -> Vec<(Arc<str>, Goal)> {
        self.still_named.get(name).cloned().unwrap_or_default()
    }

    /// Whether the credential wants this name here: a leftover copy is not one more namespace to count.
    fn is_desired(&self, name: &str, credential: &Credential) -> bool {
        credential
            .active_spec()
            .is_some_and(|spec| *spec.target_name == *name && spec.namespaces.selects(&self.world.namespace))
    }

    /// Whether some list still has this name, which is being removed.
    fn is_still_named(&self, name: &Arc<str>) -> bool {
        let detached = |step: &Step| match step {
            Step::PatchServiceAccount(patch) => patch.detach.contains(name) || patch.unmark.contains(name),
            _ => false,
        };
        self.still_named.contains_key(name) || self.plan.steps.iter().any(detached)
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
        let listed = observed.lists(name);
        let list = || {
            let unattached = self.unattached.get(&(account.clone(), name.clone()));
            unattached.or_else(|| self.lists.get(account)).cloned().unwrap_or(Goal::Waiting)
        };
        match (claim.entries, claim.secret) {
            (Entries::Attach(_), _) if listed => Goal::InPlace,
            (Entries::Attach(_), _) => list(),
            (_, Fate::Refused(error)) => refused(error),
            _ if listed => Goal::InPlace,
            _ => Goal::Waiting,
        }
    }

    fn plan_lost(&mut self, claims: &Claims<'a>) {
        for (loser, winner) in &claims.lost {
            let Some(spec) = loser.active_spec() else { continue };
            let (reason, message) = (Reason::TargetClaimed, lost_to(loser, winner));
            let refused = Goal::Refused { reason, message, retry_at: None };
            let selected = self.world.service_accounts.iter();
            let selected = selected.filter(|(name, account)| spec.service_accounts.selects(name, account));
            let accounts = selected.map(|(name, _)| (name.clone(), refused.clone())).collect();
            self.plan.pairs.push(Pair {
                credential: loser.uid.clone(),
                target: spec.target_name.clone(),
                role: Role::Wanted,
                secret: refused,
                accounts,
                stuck: Vec::new(),
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

fn refused(error: StepError) -> Goal {
    Goal::Refused { reason: error.reason(), message: error.to_string(), retry_at: None }
}

/// The way out where another RegistryCredential left the Secret by Retain: one of that name would take it back.
fn left_behind(secret: &Secret, credential: &Credential) -> Option<Goal> {
    let origin = quoted(secret.marks.as_ref()?.retained_from.as_ref()?, CREDENTIAL_NAME_LENGTH)?;
    let adopts = credential.active_spec().is_some_and(|spec| spec.adopt);
    let remedy = if adopts {
        "delete it, or choose another target.name"
    } else {
        "delete it, choose another target.name, or take it over with conflictPolicy: Adopt"
    };
    let message =
        format!("Secret was left here by RegistryCredential {origin} (deletionPolicy: Retain); {remedy}");
    Some(Goal::Refused { reason: Reason::NameConflict, message, retry_at: None })
}

fn contested(message: String, retry_at: Option<Timestamp>) -> Goal {
    Goal::Refused { reason: Reason::Contested, message, retry_at }
}

/// Somebody keeps undoing what is written to a Secret, and what is left of it is said in these words.
fn contested_copy(existing: Option<&Secret>, state: &str, until: Timestamp) -> Goal {
    let who = opponent(existing.and_then(|secret| secret.manager.as_deref()));
    let (what, state) = match existing {
        Some(_) => ("changing", state),
        None => ("deleting", "and it is missing now"),
    };
    let message = format!(
        "{who} keeps {what} the Secret, {state}; make it leave the Secrets with the label regcred.dev/credential \
         alone, or exclude the namespace"
    );
    contested(message, Some(until))
}

/// A Secret that is being deleted is made again once it is gone.
fn waiting_for_end(secret: &Secret) -> Goal {
    let Some(finalizer) = &secret.held_by else { return Goal::Waiting };
    let who = quoted(finalizer, NAME_LENGTH)
        .map_or_else(|| "a finalizer".to_owned(), |name| format!("the finalizer {name}"));
    let message = format!("{who} keeps the deleted Secret; have it taken off, so that the Secret can end");
    contested(message, None)
}

/// Who undoes what we write, as far as Kubernetes knows.
pub fn opponent(manager: Option<&str>) -> String {
    let name = manager.and_then(|name| quoted(name, NAME_LENGTH));
    name.map_or_else(|| "somebody".to_owned(), |name| format!("the field manager {name}"))
}

/// Since when a copy under a former name is superseded, if we said so on it.
fn superseded_at(secret: &Secret) -> Option<Timestamp> {
    secret.marks.as_ref()?.annotations.get(names::SUPERSEDED_AT_ANNOTATION)?.parse().ok()
}

/// When a copy that is superseded since then may go; `None` where no clock tells such a time.
fn kept_until(credential: &Credential, since: Timestamp) -> Option<Timestamp> {
    let grace = SignedDuration::try_from(credential.active_spec()?.rename_grace).ok()?;
    since.checked_add(grace).ok()
}

fn removal(name: &Arc<str>, credential: &Credential, secret: &Secret) -> Step {
    let removal = Removal {
        name: name.clone(),
        over: Precondition::of(secret),
        credential: credential.uid.clone(),
        credential_name: credential.name.clone(),
    };
    match credential.deletion_policy {
        DeletionPolicy::Delete => Step::DeleteSecret(removal),
        DeletionPolicy::Retain => Step::ReleaseSecret(removal),
    }
}
