//! What is decided, as plain data: a plan, its steps, and what each credential gets.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::{Reason, names};

use crate::copy::SecretCopy;
use crate::error::StepError;
use crate::observed::{Secret, Uid};

/// What is written, as the key of holds and failures.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Object {
    /// A Secret of this name.
    Secret(Arc<str>),
    /// A ServiceAccount of this name.
    ServiceAccount(Arc<str>),
}

impl Object {
    /// Whether it is a Secret.
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Merge patch with the whole new list.
    PatchServiceAccount(ListPatch),
    /// Server-side apply.
    ApplySecret {
        /// What to write.
        copy: Arc<SecretCopy>,
        /// The Secret to be overwritten, with force; `None`: no Secret is known, so without force.
        over: Option<Precondition>,
    },
    /// Merge patch of the data and of the annotations that tell of it: nothing else differs.
    RotateSecret {
        /// What to write.
        copy: Arc<SecretCopy>,
        /// The Secret to be changed.
        over: Precondition,
    },
    /// The same merge patch of what is there already, if nobody changed it without a trace.
    VerifySecret {
        /// What to write.
        copy: Arc<SecretCopy>,
        /// The Secret that was observed.
        over: Precondition,
    },
    /// Delete and apply: the only way past `immutable: true`.
    RecreateSecret {
        /// What to write.
        copy: Arc<SecretCopy>,
        /// The Secret to be deleted first.
        over: Precondition,
    },
    /// Delete.
    DeleteSecret(Removal),
    /// Remove our marks and keep the rest.
    ReleaseSecret(Removal),
}

/// What a step does to one thing, as far as somebody else may undo it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Deed {
    /// To what.
    pub subject: Subject,
    /// What.
    pub act: Act,
}

/// What somebody else may undo changes of: the key of fights.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Subject {
    /// A Secret of this name.
    Secret(Arc<str>),
    /// What a Secret of this name holds, at which we look by writing it.
    Content(Arc<str>),
    /// This name on a ServiceAccount, or our mark for it.
    Entry { account: Uid, name: Arc<str> },
}

/// What is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    /// It is written with this content: the digest of all that shows of it without reading data.
    Write(u64),
    /// It is removed.
    Remove,
}

/// What a write is planned from; it fails if the object is no longer that.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Precondition {
    /// UID that was observed.
    pub uid: Uid,
    /// Version that was observed.
    pub resource_version: Arc<str>,
}

impl Precondition {
    /// The Secret must still be the one that was observed.
    pub fn of(secret: &Secret) -> Self {
        Self { uid: secret.uid.clone(), resource_version: secret.resource_version.clone() }
    }
}

/// A new list for a ServiceAccount.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListPatch {
    /// The ServiceAccount.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Uid,
    /// The version that the list was planned from.
    pub resource_version: Arc<str>,
    /// The whole new list.
    pub list: Vec<Arc<str>>,
    /// Names that it adds.
    pub attach: BTreeSet<Arc<str>>,
    /// Names that it removes.
    pub detach: BTreeSet<Arc<str>>,
    /// Names that it keeps, and that are no longer ours.
    pub unmark: BTreeSet<Arc<str>>,
    /// All names that are ours afterwards.
    pub marked: BTreeSet<Arc<str>>,
}

/// A Secret that is deleted or released.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Removal {
    /// Its name.
    pub name: Arc<str>,
    /// What was observed.
    pub over: Precondition,
    /// UID of the credential it was made for.
    pub credential: Uid,
    /// Name of that credential.
    pub credential_name: Arc<str>,
}

/// What is to be done in one namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The requests, in order.
    pub steps: Vec<Step>,
    /// What each credential concerned gets here.
    pub pairs: Vec<Pair>,
    /// When there will be something to do without any event.
    pub wake_at: Option<Timestamp>,
}

/// What one credential gets in one namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// UID of the credential.
    pub credential: Uid,
    /// Target name.
    pub target: Arc<str>,
    /// What it has to do with that name.
    pub role: Role,
    /// The goal of the Secret.
    pub secret: Goal,
    /// The goal of each selected ServiceAccount.
    pub accounts: Vec<(Arc<str>, Goal)>,
    /// The goal of each ServiceAccount that cannot be rid of the name now.
    pub stuck: Vec<(Arc<str>, Goal)>,
}

/// What a credential has to do with a target name in a namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It wants a copy here.
    Wanted,
    /// It only has something to be removed here.
    Departing,
    /// A Secret carries a mark of it and is not its copy.
    Mistaken,
}

/// What a plan means for one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// It is as desired.
    InPlace,
    /// It is as desired once this step is executed.
    Step(usize),
    /// It waits for a watch event.
    Waiting,
    /// It stays for now, under a former target name.
    Kept,
    /// It failed before, and its back-off is not over.
    Held {
        /// Why it failed.
        error: StepError,
        /// Since when.
        since: Timestamp,
    },
    /// It is refused.
    Refused {
        /// Why.
        reason: Reason,
        /// What is wrong and what to do.
        message: String,
        /// When it is tried again, where that is known.
        retry_at: Option<Timestamp>,
    },
}

impl Step {
    /// What it writes.
    pub fn object(&self) -> Object {
        match self {
            Self::PatchServiceAccount(patch) => Object::ServiceAccount(patch.name.clone()),
            Self::ApplySecret { copy, .. }
            | Self::RotateSecret { copy, .. }
            | Self::VerifySecret { copy, .. }
            | Self::RecreateSecret { copy, .. } => Object::Secret(copy.name.clone()),
            Self::DeleteSecret(removal) | Self::ReleaseSecret(removal) => {
                Object::Secret(removal.name.clone())
            }
        }
    }

    /// The version of the object it was planned from.
    pub fn planned_from(&self) -> Option<&Arc<str>> {
        match self {
            Self::PatchServiceAccount(patch) => Some(&patch.resource_version),
            Self::ApplySecret { over, .. } => over.as_ref().map(|over| &over.resource_version),
            Self::RotateSecret { over, .. }
            | Self::VerifySecret { over, .. }
            | Self::RecreateSecret { over, .. } => Some(&over.resource_version),
            Self::DeleteSecret(removal) | Self::ReleaseSecret(removal) => {
                Some(&removal.over.resource_version)
            }
        }
    }

    /// What it does, each of which somebody else may undo.
    pub(crate) fn deeds(&self) -> Vec<Deed> {
        match self {
            Self::PatchServiceAccount(patch) => {
                let attached = patch.attach.iter().map(|name| Deed::attach(&patch.uid, name));
                let detached = patch.detach.iter().chain(&patch.unmark);
                attached.chain(detached.map(|name| Deed::detach(&patch.uid, name))).collect()
            }
            Self::ApplySecret { copy, .. }
            | Self::RotateSecret { copy, .. }
            | Self::RecreateSecret { copy, .. } => vec![Deed::write(copy)],
            Self::VerifySecret { copy, .. } => vec![Deed::look(&copy.name)],
            Self::DeleteSecret(removal) | Self::ReleaseSecret(removal) => {
                vec![Deed::remove(&removal.name)]
            }
        }
    }

    /// Whether this step must not be executed after `failed` failed.
    fn depends_on(&self, failed: &Self) -> bool {
        match (self, failed) {
            (
                Self::DeleteSecret(removal) | Self::ReleaseSecret(removal),
                Self::PatchServiceAccount(patch),
            ) => patch.detach.contains(&removal.name) || patch.unmark.contains(&removal.name),
            _ => false,
        }
    }
}

impl Deed {
    /// A copy of this content is written.
    pub fn write(copy: &SecretCopy) -> Self {
        // The time is another at each try; that there is one makes a content of its own.
        let is_time = |key: &str| key == names::SUPERSEDED_AT_ANNOTATION;
        let annotations: Vec<_> =
            copy.annotations.iter().map(|(key, value)| (key, (!is_time(key)).then_some(value))).collect();
        let mut hasher = DefaultHasher::new();
        (&copy.labels, annotations, copy.owned).hash(&mut hasher);
        Self { subject: Subject::Secret(copy.name.clone()), act: Act::Write(hasher.finish()) }
    }

    /// A copy is written to see whether it holds what it says.
    pub fn look(secret: &Arc<str>) -> Self {
        Self { subject: Subject::Content(secret.clone()), act: Act::Write(0) }
    }

    /// A copy is deleted or released.
    pub fn remove(secret: &Arc<str>) -> Self {
        Self { subject: Subject::Secret(secret.clone()), act: Act::Remove }
    }

    /// A name is put on a ServiceAccount.
    pub fn attach(account: &Uid, name: &Arc<str>) -> Self {
        Self { subject: Subject::entry(account, name), act: Act::Write(0) }
    }

    /// A name, or our mark for it, is taken off a ServiceAccount.
    pub fn detach(account: &Uid, name: &Arc<str>) -> Self {
        Self { subject: Subject::entry(account, name), act: Act::Remove }
    }
}

impl Subject {
    fn entry(account: &Uid, name: &Arc<str>) -> Self {
        Self::Entry { account: account.clone(), name: name.clone() }
    }

    /// The target name that it is about.
    pub fn target(&self) -> &Arc<str> {
        match self {
            Self::Secret(name) | Self::Content(name) | Self::Entry { name, .. } => name,
        }
    }
}

impl Plan {
    /// Why the next step must not be executed after what became of those before it.
    pub fn obstacle(&self, results: &[Result<(), StepError>]) -> Option<StepError> {
        let next = self.steps.get(results.len())?;
        let failed =
            || self.steps.iter().zip(results).filter_map(|(step, result)| Some((step, result.err()?)));
        if failed().any(|(_, error)| error == StepError::NamespaceTerminating) {
            return Some(StepError::NamespaceTerminating);
        }
        failed().any(|(earlier, _)| next.depends_on(earlier)).then_some(StepError::Blocked)
    }
}
