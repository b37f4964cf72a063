//! Which credential governs each target name in a namespace, and what that means for the entries
//! of that name on ServiceAccounts and for the Secret itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use regcred_api::DeletionPolicy;

use crate::error::StepError;
use crate::observed::Secret;
use crate::step::Object;
use crate::validate::Validated;
use crate::world::{Credential, World};

/// What happens to one target name in a namespace.
#[derive(Debug)]
pub struct Claim<'a> {
    /// The credential that governs it.
    pub credential: &'a Arc<Credential>,
    /// What happens to entries of that name on ServiceAccounts.
    pub entries: Entries<'a>,
    /// What happens to the Secret of that name.
    pub secret: Fate<'a>,
}

/// What happens to entries of a name on ServiceAccounts.
#[derive(Clone, Copy, Debug)]
pub enum Entries<'a> {
    /// Selected ServiceAccounts have it, the others do not.
    Attach(&'a Validated),
    /// Nothing.
    Untouched,
    /// Every ServiceAccount loses them.
    Detach,
    /// Only entries that memory saw while they were desired are removed: a foreign Secret has the name
    /// now, and its owner may have added the other entries.
    DetachSeen,
}

/// What happens to a Secret.
#[derive(Clone, Copy, Debug)]
pub enum Fate<'a> {
    /// It becomes the credential's copy.
    Ensure,
    /// Nothing, for now.
    Untouched,
    /// It cannot be written.
    Refused(StepError),
    /// It is deleted or released, as it is no longer desired.
    Remove(&'a Secret),
}

/// The claims of a namespace by target name, and the credentials that lost theirs.
#[derive(Debug, Default)]
pub struct Claims<'a> {
    /// What governs each name.
    pub by_name: BTreeMap<Arc<str>, Claim<'a>>,
    /// Credentials whose target name an older one has, with that older one.
    pub lost: Vec<(&'a Arc<Credential>, &'a Arc<Credential>)>,
}

impl<'a> Claims<'a> {
    /// Decides on every name that a credential wants here, and on every name with a leftover copy or entry.
    pub fn settle(world: &'a World) -> Self {
        let mut claims = Self::default();
        claims.add_wanted(world);
        claims.add_leftover_secrets(world);
        claims.add_leftover_entries(world);
        claims
    }

    /// The older credential wins. Of two that were made in the same second, as from one file, the first by name wins:
    /// in each cluster of a fleet the same.
    fn add_wanted(&mut self, world: &'a World) {
        let mut wanting: Vec<_> = world
            .credentials
            .iter()
            .filter_map(|credential| Some((credential, credential.active_spec()?)))
            .filter(|(_, spec)| spec.namespaces.selects(&world.namespace))
            .collect();
        wanting.sort_by_key(|(credential, _)| (credential.created, credential.name.clone()));
        for (credential, spec) in wanting {
            if let Some(winner) = self.by_name.get(spec.target_name.as_str()) {
                self.lost.push((credential, winner.credential));
            } else {
                let name = Arc::from(spec.target_name.as_str());
                let claim = wanted(world, credential, spec);
                self.by_name.insert(name, claim);
            }
        }
    }

    fn add_leftover_secrets(&mut self, world: &'a World) {
        for (name, secret) in &world.secrets {
            if self.by_name.contains_key(name) {
                continue;
            }
            if let Some(credential) = world.owner_of(secret) {
                self.by_name.insert(name.clone(), leftover_secret(credential, secret));
            }
        }
    }

    /// A credential that is being deleted may have entries but no copy, because its source never gave
    /// one. Under a foreign Secret only entries that memory saw are known to be its own.
    fn add_leftover_entries(&mut self, world: &'a World) {
        for credential in world.credentials.iter().filter(|credential| credential.deleting) {
            let Ok(spec) = &credential.spec else { continue };
            let name: Arc<str> = Arc::from(spec.target_name.as_str());
            if self.by_name.contains_key(&name) || !spec.namespaces.selects(&world.namespace) {
                continue;
            }
            let gone = !world.secrets.contains_key(&name);
            let entries = match leftover_entries(credential) {
                Entries::Detach if !gone => Entries::DetachSeen,
                entries => entries,
            };
            self.by_name.insert(name, Claim { credential, entries, secret: Fate::Untouched });
        }
    }
}

/// A name that a credential wants here.
fn wanted<'a>(world: &'a World, credential: &'a Arc<Credential>, spec: &'a Validated) -> Claim<'a> {
    let (entries, secret) = if spec.suspend || !credential.finalized {
        (Entries::Untouched, Fate::Untouched)
    } else if let Some(error) = obstacle(world, spec) {
        (Entries::DetachSeen, Fate::Refused(error))
    } else {
        (Entries::Attach(spec), Fate::Ensure)
    };
    Claim { credential, entries, secret }
}

/// Why the Secret cannot be written, if so. A Secret that the operator does not watch (one of another
/// type) shows only in the answer to a write, so memory is asked too.
fn obstacle(world: &World, spec: &Validated) -> Option<StepError> {
    let name = spec.target_name.as_str();
    let refused = world.memory.hold(&Object::Secret(Arc::from(name))).map(|hold| hold.error);
    let Some(secret) = world.secrets.get(name) else {
        return refused.filter(|error| matches!(error, StepError::NameConflict | StepError::TypeMismatch));
    };
    if secret.wrong_type {
        Some(StepError::TypeMismatch)
    } else if world.owner_of(secret).is_some() {
        None
    } else if spec.adopt && !secret.immutable {
        // One that is immutable could only be adopted by deleting it.
        refused.filter(|error| *error == StepError::AdoptNotAllowed)
    } else {
        Some(StepError::NameConflict)
    }
}

/// A copy in a namespace that its credential no longer selects, or under its former target name.
fn leftover_secret<'a>(credential: &'a Arc<Credential>, secret: &'a Secret) -> Claim<'a> {
    let idle = credential.spec.as_ref().map_or(true, |spec| spec.suspend);
    if secret.wrong_type || (idle && !credential.deleting) {
        return Claim { credential, entries: Entries::Untouched, secret: Fate::Untouched };
    }
    Claim { credential, entries: leftover_entries(credential), secret: Fate::Remove(secret) }
}

/// What happens to the entries of a copy that is removed. With `from: None` others wrote them.
fn leftover_entries(credential: &Credential) -> Entries<'static> {
    let not_ours = credential.spec.as_ref().is_ok_and(|spec| spec.service_accounts.is_none());
    match credential.deletion_policy {
        DeletionPolicy::Delete if !not_ours => Entries::Detach,
        DeletionPolicy::Delete | DeletionPolicy::Retain => Entries::Untouched,
    }
}
