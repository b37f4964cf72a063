//! What a step changes, as an admin tells changes apart: a first copy, another content, or what somebody had undone.

use std::sync::Arc;

use regcred_api::names;

use crate::copy::SecretCopy;
use crate::error::StepError;
use crate::observed::Secret;
use crate::plan::opponent;
use crate::step::{ListPatch, Object, Plan, Role, Step};
use crate::world::World;

/// Something that a step changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Name of the RegistryCredential for which.
    pub credential: Arc<str>,
    /// What was changed.
    pub object: Object,
    /// In which way.
    pub kind: ChangeKind,
}

/// In which way something was changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChangeKind {
    /// A namespace got its copy.
    Made,
    /// A copy got what its RegistryCredential gives now.
    Updated,
    /// What somebody had changed or taken away was put right.
    Mended {
        /// Who had, as far as Kubernetes knows.
        undone_by: String,
    },
    /// A copy was deleted.
    Deleted,
    /// A copy stays, and is nobody's any more.
    Left,
    /// A ServiceAccount got an entry.
    Attached,
    /// An entry was taken off a ServiceAccount.
    Detached,
}

/// What a step of the plan for this world changed. `had_copy(uid, target)`: the RegistryCredential had its copy under this
/// name when the namespace was last looked at.
pub fn changes(
    world: &World,
    plan: &Plan,
    step: &Step,
    result: Result<(), StepError>,
    had_copy: impl Fn(&str, &str) -> bool,
) -> Vec<Change> {
    let of_copy = |copy: &SecretCopy, kind| vec![Change::of(&copy.credential_name, step, kind)];
    match (step, result) {
        (Step::VerifySecret { copy, .. }, Err(StepError::Undone)) => of_copy(copy, mended(None)),
        (_, Err(_)) | (Step::VerifySecret { .. }, Ok(())) => Vec::new(),
        (
            Step::ApplySecret { copy, .. }
            | Step::RotateSecret { copy, .. }
            | Step::RecreateSecret { copy, .. },
            Ok(()),
        ) => of_copy(copy, kind_of_write(world, copy, had_copy(&copy.credential_uid, &copy.name))),
        (Step::DeleteSecret(removal), Ok(())) => {
            vec![Change::of(&removal.credential_name, step, ChangeKind::Deleted)]
        }
        (Step::ReleaseSecret(removal), Ok(())) => {
            vec![Change::of(&removal.credential_name, step, ChangeKind::Left)]
        }
        (Step::PatchServiceAccount(patch), Ok(())) => of_list(world, plan, step, patch),
    }
}

impl Change {
    fn of(credential: &Arc<str>, step: &Step, kind: ChangeKind) -> Self {
        Self { credential: credential.clone(), object: step.object(), kind }
    }
}

fn kind_of_write(world: &World, copy: &SecretCopy, had_copy: bool) -> ChangeKind {
    let existing = world.secrets.get(&copy.name);
    match existing.and_then(|secret| Some((secret, world.owner_of(secret)?))) {
        None if had_copy && existing.is_none() => mended(None),
        None => ChangeKind::Made,
        Some((_, owner)) if owner.uid != copy.credential_uid => ChangeKind::Made,
        Some((secret, _)) if is_as_we_left_it(secret) => ChangeKind::Updated,
        Some((secret, _)) => mended(secret.manager.as_deref()),
    }
}

/// Whether nobody touched the data, or what every copy carries.
fn is_as_we_left_it(secret: &Secret) -> bool {
    let ours = |marks: &crate::Marks| {
        marks.credential_uid.is_some()
            && marks.credential_name.is_some()
            && marks.annotations.contains_key(names::FINGERPRINT_ANNOTATION)
    };
    secret.owns_data && !secret.immutable && secret.marks.as_deref().is_some_and(ours)
}

fn of_list(world: &World, plan: &Plan, step: &Step, patch: &ListPatch) -> Vec<Change> {
    let account = world.service_accounts.get(&patch.name);
    let attached = |name: &Arc<str>| {
        let undone = account.filter(|account| account.marks(name));
        let kind = undone.map_or(ChangeKind::Attached, |account| mended(account.list_manager.as_deref()));
        Some(Change::of(credential_of(world, plan, name, Role::Wanted)?, step, kind))
    };
    let detached = |name: &Arc<str>| {
        let credential = credential_of(world, plan, name, Role::Departing)
            .or_else(|| credential_of(world, plan, name, Role::Wanted))?;
        Some(Change::of(credential, step, ChangeKind::Detached))
    };
    patch.attach.iter().filter_map(attached).chain(patch.detach.iter().filter_map(detached)).collect()
}

/// For whom this target name is written, or taken off.
fn credential_of<'a>(world: &'a World, plan: &Plan, target: &Arc<str>, role: Role) -> Option<&'a Arc<str>> {
    let pair = plan.pairs.iter().find(|pair| pair.target == *target && pair.role == role)?;
    world.credential(&pair.credential).map(|credential| &credential.name)
}

fn mended(manager: Option<&str>) -> ChangeKind {
    ChangeKind::Mended { undone_by: opponent(manager) }
}
