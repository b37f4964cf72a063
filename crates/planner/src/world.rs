//! What was observed, as plain data. Equal worlds give equal plans.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::DeletionPolicy;

use crate::memory::Memory;
use crate::secret::SecretCopy;
use crate::validate::{InvalidSpec, Validated};

/// UID of an object, as the API server made it.
pub type Uid = Arc<str>;

/// Labels or annotations, shared between the many objects that carry the same.
pub type StringMap = Arc<BTreeMap<String, String>>;

/// Everything that decides what is written in one namespace.
#[derive(Clone, Debug)]
pub struct World {
    /// The namespace.
    pub namespace: Namespace,
    /// Secrets of this namespace that the operator watches, by name.
    pub secrets: BTreeMap<Arc<str>, Secret>,
    /// ServiceAccounts of this namespace, by name.
    pub service_accounts: BTreeMap<Arc<str>, ServiceAccount>,
    /// Every RegistryCredential of the cluster, in no order that matters.
    pub credentials: Arc<[Arc<Credential>]>,
    /// What earlier passes over this namespace left behind.
    pub memory: Memory,
}

/// A namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: StringMap,
    /// It carries `regcred.dev/exclude: "true"`.
    pub excluded: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// It is the namespace of the operator, which `from: All` does not take.
    pub is_own: bool,
}

/// A ServiceAccount.
#[derive(Clone, Debug)]
pub struct ServiceAccount {
    /// UID.
    pub uid: Uid,
    /// The version that a patch is planned from.
    pub resource_version: Arc<str>,
    /// Its labels.
    pub labels: StringMap,
    /// It carries `regcred.dev/exclude: "true"`.
    pub excluded: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// Names in `imagePullSecrets`, in order, as they stand there.
    pub image_pull_secrets: Vec<Arc<str>>,
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
    /// It is being deleted and only waits for a finalizer.
    pub terminating: bool,
    /// Its type is not `kubernetes.io/dockerconfigjson`.
    pub mistyped: bool,
    /// Somebody set `immutable`, so its data cannot be changed any more.
    pub immutable: bool,
    /// regcred's field manager still owns the data: nobody edited it since.
    pub owns_data: bool,
    /// What marks it as regcred's, if anything does.
    pub marks: Option<Arc<Marks>>,
}

/// What regcred left on a Secret. Labels and annotations are those that its field manager still
/// owns, so that what others add is no drift, and what they change is.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Marks {
    /// UID of the RegistryCredential, from the annotation or else the ownerReference.
    pub credential_uid: Option<Uid>,
    /// Name of the RegistryCredential, from the label.
    pub credential_name: Option<Arc<str>>,
    /// Labels that regcred owns.
    pub labels: BTreeMap<String, String>,
    /// Annotations that regcred owns.
    pub annotations: BTreeMap<String, String>,
    /// UID in an ownerReference to a RegistryCredential.
    pub owner_uid: Option<Uid>,
}

/// A RegistryCredential, as far as planning needs it.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Uid,
    /// When it was made: the older of two wins a target name.
    pub created: Timestamp,
    /// It has a deletionTimestamp.
    pub deleting: bool,
    /// Our finalizer is on it, so that what is written for it will be cleaned up.
    pub finalized: bool,
    /// What happens to copies that are no longer wanted; known even where the rest is invalid.
    pub deletion_policy: DeletionPolicy,
    /// Its spec, or what is wrong with it.
    pub spec: Result<Arc<Validated>, InvalidSpec>,
    /// The Secret that every selected namespace gets; none while the source gives nothing.
    pub copy: Option<Arc<SecretCopy>>,
}

impl Credential {
    /// The spec, if it can be carried out and the object is not on its way out.
    pub fn active_spec(&self) -> Option<&Arc<Validated>> {
        self.spec.as_ref().ok().filter(|_| !self.deleting)
    }
}

impl World {
    /// The credential with this UID.
    pub fn credential(&self, uid: &str) -> Option<&Arc<Credential>> {
        self.credentials.iter().find(|credential| &*credential.uid == uid)
    }

    /// The credential whose copy this Secret is. `None` for a foreign Secret, and for one whose
    /// RegistryCredential is gone: garbage collection removes those.
    pub fn owner_of(&self, secret: &Secret) -> Option<&Arc<Credential>> {
        let marks = secret.marks.as_ref()?;
        match &marks.credential_uid {
            Some(uid) => self.credential(uid),
            // Somebody removed the annotation, but our field manager still owns the content.
            None if secret.owns_data => {
                let name = marks.credential_name.as_ref()?;
                self.credentials.iter().find(|credential| credential.name == *name)
            }
            None => None,
        }
    }
}
