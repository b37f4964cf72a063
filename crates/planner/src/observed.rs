//! What was observed of the objects of a cluster, as plain data.

use std::collections::BTreeMap;
use std::sync::Arc;

/// UID of an object, as the API server made it.
pub type Uid = Arc<str>;

/// Labels or annotations, shared between the many objects that carry the same.
pub type StringMap = Arc<BTreeMap<String, String>>;

/// How many entries of `imagePullSecrets` regcred writes. The admission policy that ships with it has the same number.
pub const MAX_ENTRIES: usize = 64;

/// A namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels, as far as selectors name them.
    pub labels: StringMap,
    /// The annotation `regcred.dev/exclude` opts it out.
    pub excluded: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// It is the namespace of the operator, which `from: All` does not select.
    pub is_own: bool,
}

/// A ServiceAccount.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceAccount {
    /// UID.
    pub uid: Uid,
    /// The version that a patch is planned from.
    pub resource_version: Arc<str>,
    /// Its labels, as far as selectors name them.
    pub labels: StringMap,
    /// The annotation `regcred.dev/exclude` opts it out.
    pub excluded: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// Names in `imagePullSecrets`, in order. Where the list is `oversized`, only some of them.
    pub image_pull_secrets: Vec<Arc<str>>,
    /// Names that the annotation `regcred.dev/attached` calls regcred's own, in order, on the list or not.
    pub marked: Vec<Arc<str>>,
    /// Its list is longer than regcred writes, or has a name longer than any Secret's. It is nobody's but its
    /// writer's, and nothing on it counts as marked.
    pub oversized: bool,
    /// The field manager that last wrote the list.
    pub list_manager: Option<Arc<str>>,
}

/// A Secret, seen without its data.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read off metadata")]
pub struct Secret {
    /// UID, the precondition of a delete.
    pub uid: Uid,
    /// The version that a write is planned from.
    pub resource_version: Arc<str>,
    /// It is being deleted.
    pub terminating: bool,
    /// The finalizer that it then waits for.
    pub held_by: Option<Arc<str>>,
    /// Its type is not `kubernetes.io/dockerconfigjson`.
    pub wrong_type: bool,
    /// Somebody set `immutable`, so its data cannot be changed any more.
    pub immutable: bool,
    /// regcred's field manager still owns the data: nobody edited it since.
    pub owns_data: bool,
    /// Where it is not: the field manager that last wrote it.
    pub manager: Option<Arc<str>>,
    /// What marks it as regcred's, if anything does.
    pub marks: Option<Arc<Marks>>,
    /// UID of the RegistryCredential whose copy it is in full, or was when it was observed before.
    pub copy_of: Option<Uid>,
    /// How sure it is that its data is what its metadata say.
    pub trust: Trust,
}

/// How sure it is that a Secret holds what its metadata say. Whoever applies under the name of regcred's field manager
/// leaves no other trace than a new version.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Trust {
    /// This version is the answer to our own write.
    Confirmed,
    /// It was so when it was first observed: by an earlier process, or by another replica.
    #[default]
    Assumed,
    /// Somebody wrote it since, or it is time to look.
    Doubtful,
}

/// What regcred wrote on a Secret. Labels and annotations are those that its field manager still
/// owns, so that what others add is no drift, and what they change is; of those only what some copy carries is kept.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Marks {
    /// UID of the RegistryCredential, from the annotation.
    pub credential_uid: Option<Uid>,
    /// Name of the RegistryCredential, from the label.
    pub credential_name: Option<Arc<str>>,
    /// Labels that regcred owns.
    pub labels: BTreeMap<String, String>,
    /// Annotations that regcred owns.
    pub annotations: BTreeMap<String, String>,
    /// regcred's field manager owns more labels or annotations, which no copy carries: of a former spec, or of somebody
    /// who wrote under its name.
    pub owns_more: bool,
    /// UID in an ownerReference to a RegistryCredential.
    pub owner_uid: Option<Uid>,
    /// Name of the RegistryCredential that left it by `deletionPolicy: Retain`.
    pub retained_from: Option<Arc<str>>,
}

impl Marks {
    /// UID of the RegistryCredential whose copy a Secret with these marks is, if nothing speaks against it.
    ///
    /// `owns_data`: regcred's field manager owns the data.
    pub fn in_full(&self, owns_data: bool) -> Option<&Uid> {
        let uid = self.credential_uid.as_ref().filter(|_| owns_data && self.credential_name.is_some());
        uid.filter(|uid| self.owner_uid.as_ref().is_none_or(|owner| owner == *uid))
    }
}

impl ServiceAccount {
    /// Whether its list has this name.
    pub fn lists(&self, name: &str) -> bool {
        self.image_pull_secrets.iter().any(|entry| **entry == *name)
    }

    /// Whether regcred put this name there.
    pub fn marks(&self, name: &str) -> bool {
        self.marked.iter().any(|own| **own == *name)
    }
}
