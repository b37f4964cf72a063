//! Everything that decides what is written in one namespace. Equal worlds give equal plans.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::DeletionPolicy;

use crate::copy::SecretCopy;
use crate::memory::Memory;
use crate::observed::{Namespace, Secret, ServiceAccount, Uid};
use crate::validate::{InvalidSpec, Validated};

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
    /// What is remembered of earlier passes over this namespace.
    pub memory: Memory,
}

/// A RegistryCredential, as far as planning needs it.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Uid,
    /// When it was created: the older of two gets a target name.
    pub created: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
    /// Our finalizer is on it, so that what is written for it will be cleaned up.
    pub finalized: bool,
    /// What happens to copies that are no longer desired; known even if the rest of the spec is invalid.
    pub deletion_policy: DeletionPolicy,
    /// Its spec, or what is wrong with it.
    pub spec: Result<Arc<Validated>, InvalidSpec>,
    /// The desired Secret of every selected namespace; `None` while the source gives nothing.
    pub copy: Option<Arc<SecretCopy>>,
}

impl Credential {
    /// The spec, if it can be carried out and the object is not being deleted.
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
    /// RegistryCredential no longer exists: garbage collection removes those.
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
