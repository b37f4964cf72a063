//! Which credential governs each target name in a namespace, and what that means for the entries
//! of that name on ServiceAccounts and for the Secret itself.

use std::collections::{BTreeMap, BTreeSet};
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

/// What happens to entries of a name on ServiceAccounts. Only entries that regcred marked as its own are ever taken
/// off.
#[derive(Clone, Copy, Debug)]
pub enum Entries<'a> {
    /// Selected ServiceAccounts have it, the others lose it.
    Attach(&'a Validated),
    /// It is a former target name of this credential: a ServiceAccount loses it once it has the present one.
    Superseded(&'a Credential),
    /// Nothing.
    Untouched,
    /// Every ServiceAccount loses it.
    Detach,
    /// Every ServiceAccount keeps it, and it is no longer ours.
    Release,
}

/// What happens to a Secret.
#[derive(Clone, Copy, Debug)]
pub enum Fate<'a> {
    /// It becomes the credential's copy.
    Ensure,
    /// It stays the credential's copy under a former target name, until the present one is in place.
    Keep(&'a Secret),
    /// Nothing, for now.
    Untouched,
    /// Nothing: it has a mark of the credential and is not its copy.
    Mistaken,
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
    /// Names that ServiceAccounts carry as ours and that no credential has anything to do with any more.
    pub orphans: BTreeSet<Arc<str>>,
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
        let name_of =
            |credential: &'a Arc<Credential>| Some((credential, credential.claimed_name(&world.namespace)?));
        let mut claiming: Vec<_> = world.credentials.iter().filter_map(name_of).collect();
        claiming.sort_by_key(|(credential, _)| (credential.created, credential.name.clone()));
        for (credential, name) in claiming {
            if let Some(winner) = self.by_name.get(name) {
                self.lost.push((credential, winner.credential));
            } else {
                self.by_name.insert(name.clone(), wanted(world, credential));
            }
        }
    }

    fn add_leftover_secrets(&mut self, world: &'a World) {
        for (name, secret) in &world.secrets {
            if self.by_name.contains_key(name) {
                continue;
            }
            if let Some(credential) = world.owner_of(secret) {
                self.by_name.insert(name.clone(), leftover_secret(world, credential, name, secret));
            }
        }
    }

    /// There may be entries without a copy, because the source never gave one. While some credential is idle, an
    /// entry that is nobody's may be one of its own from before, and stays.
    fn add_leftover_entries(&mut self, world: &'a World) {
        let marked = world.service_accounts.values().flat_map(|account| &account.marked);
        let unclaimed: BTreeSet<_> = marked.filter(|name| !self.by_name.contains_key(*name)).collect();
        let is_any_idle = world.credentials.iter().any(|credential| credential.is_idle());
        for name in unclaimed {
            match former_owner(world, name) {
                Some(credential) => {
                    let entries = leftover_entries(credential);
                    self.by_name.insert(name.clone(), Claim { credential, entries, secret: Fate::Untouched });
                }
                None if is_any_idle => {}
                None => {
                    self.orphans.insert(name.clone());
                }
            }
        }
    }
}

/// The credential of this target name that no longer selects the namespace; one that is being deleted if there is
/// one, because it waits for its entries to be taken off.
fn former_owner<'a>(world: &'a World, name: &Arc<str>) -> Option<&'a Arc<Credential>> {
    let candidates = world.credentials.iter().filter(|credential| credential.scope.target_name == *name);
    candidates.min_by_key(|credential| (!credential.deleting, credential.created, credential.name.clone()))
}

/// A name that a credential wants here.
fn wanted<'a>(world: &'a World, credential: &'a Arc<Credential>) -> Claim<'a> {
    let (entries, secret) = match &credential.spec {
        Ok(spec) if !spec.suspend && credential.finalized => match obstacle(world, credential, spec) {
            Some(error) => (Entries::Detach, Fate::Refused(error)),
            None => (Entries::Attach(spec), Fate::Ensure),
        },
        _ => (Entries::Untouched, Fate::Untouched),
    };
    Claim { credential, entries, secret }
}

/// Why the Secret cannot be written, if so. A Secret that the operator does not watch (one of another
/// type) shows only in the answer to a write, so memory is asked too.
fn obstacle(world: &World, credential: &Credential, spec: &Validated) -> Option<StepError> {
    let name = &spec.target_name;
    let refused = world.memory.hold(&Object::Secret(name.clone())).map(|hold| hold.error);
    let Some(secret) = world.secrets.get(name) else {
        return refused.filter(|error| matches!(error, StepError::NameConflict | StepError::TypeMismatch));
    };
    if secret.wrong_type {
        Some(StepError::TypeMismatch)
    } else if world.may_become_copy(secret, credential) {
        None
    } else if spec.adopt && !secret.immutable {
        // One that is immutable could only be adopted by deleting it.
        refused.filter(|error| *error == StepError::AdoptNotAllowed)
    } else {
        Some(StepError::NameConflict)
    }
}

/// Whether some credential is read from the Secret of this name here.
fn is_read(world: &World, name: &str) -> bool {
    let reads = |credential: &Arc<Credential>| credential.spec.as_ref().is_ok_and(|spec| spec.reads(name));
    world.namespace.is_own && world.credentials.iter().any(reads)
}

/// A copy in a namespace that its credential no longer selects, or under its former target name.
fn leftover_secret<'a>(
    world: &'a World,
    credential: &'a Arc<Credential>,
    name: &str,
    secret: &'a Secret,
) -> Claim<'a> {
    let selecting = credential.active_spec().filter(|spec| spec.namespaces.selects(&world.namespace));
    // Whoever may write a Secret may write a mark on it, which must not let us delete it where nothing was wanted.
    let was_wanted = credential.deleting
        && credential.scope.target_name.as_ref() == name
        && credential.scope.covers(&world.namespace);
    let is_ours = was_wanted || secret.copy_of.as_ref() == Some(&credential.uid);
    let if_ours = |fate| if is_ours { fate } else { Fate::Mistaken };
    let (entries, secret) = match selecting {
        _ if secret.wrong_type || credential.is_idle() || is_read(world, name) => {
            (Entries::Untouched, Fate::Untouched)
        }
        Some(_) => (Entries::Superseded(credential), if_ours(Fate::Keep(secret))),
        None => (leftover_entries(credential), if_ours(Fate::Remove(secret))),
    };
    Claim { credential, entries, secret }
}

/// What happens to the entries of a name that is no longer wanted.
fn leftover_entries(credential: &Credential) -> Entries<'static> {
    match credential.deletion_policy {
        _ if credential.is_idle() => Entries::Untouched,
        DeletionPolicy::Delete => Entries::Detach,
        DeletionPolicy::Retain => Entries::Release,
    }
}
