//! Everything that decides what is written in one namespace. Equal worlds give equal plans.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::DeletionPolicy;

use crate::copy::SecretCopy;
use crate::memory::Memory;
use crate::observed::{Marks, Namespace, Secret, ServiceAccount, Uid};
use crate::validate::{InvalidSpec, Scope, Validated};

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
    /// What it lays claim to; known even if the rest of the spec is invalid.
    pub scope: Arc<Scope>,
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

    /// Whether nothing is written for it: it is suspended, or its spec is invalid.
    pub fn is_idle(&self) -> bool {
        !self.deleting && self.spec.as_ref().map_or(true, |spec| spec.suspend)
    }

    /// The target name that it has a claim to in this namespace. One whose spec is invalid keeps its claim; a name
    /// that the operator may not write was never its own.
    pub fn claimed_name(&self, namespace: &Namespace) -> Option<&Arc<str>> {
        let claims = match &self.spec {
            _ if self.deleting => false,
            Ok(spec) => spec.namespaces.selects(namespace),
            Err(InvalidSpec::TargetNameNotAllowed) => false,
            Err(_) => self.scope.covers(namespace),
        };
        claims.then_some(&self.scope.target_name)
    }
}

impl World {
    /// The credential with this UID.
    pub fn credential(&self, uid: &str) -> Option<&Arc<Credential>> {
        self.credentials.iter().find(|credential| &*credential.uid == uid)
    }

    /// The credential whose copy this Secret is: by the annotation, or by what else is left where somebody changed
    /// that. `None` for a foreign Secret, and for one whose RegistryCredential no longer exists: garbage collection
    /// removes those.
    pub fn owner_of(&self, secret: &Secret) -> Option<&Arc<Credential>> {
        let marks = secret.marks.as_ref()?;
        let by_uid = |uid: &Option<Uid>| uid.as_ref().and_then(|uid| self.credential(uid));
        let by_name = || {
            let name = marks.credential_name.as_ref().filter(|_| secret.owns_data)?;
            self.credentials.iter().find(|credential| credential.name == *name)
        };
        by_uid(&marks.credential_uid).or_else(|| by_uid(&marks.owner_uid)).or_else(by_name)
    }

    /// Whether a Secret that holds the credential's target name may become its copy: it is the copy of some
    /// credential, was restored with the UID of a former one and the label of one that has this target name, or was
    /// left by one by `deletionPolicy: Retain`.
    pub fn may_become_copy(&self, secret: &Secret, credential: &Credential) -> bool {
        let named = |name: &Option<Arc<str>>| name.as_ref() == Some(&credential.name);
        // Nobody collects what a credential with Retain left behind that ended while another had its name.
        let is_unowned =
            |marks: &Marks| secret.owns_data && marks.credential_uid.is_some() && marks.owner_uid.is_none();
        // After a restore from a backup another credential may be the older one than before.
        let is_rival = |name: &Arc<str>| {
            let target = &credential.scope.target_name;
            self.credentials.iter().any(|rival| rival.name == *name && rival.scope.target_name == *target)
        };
        let restored_or_retained = |marks: &Marks| {
            (marks.credential_name.as_ref().is_some_and(is_rival) && marks.credential_uid.is_some())
                || named(&marks.retained_from)
                || is_unowned(marks)
        };
        self.owner_of(secret).is_some() || secret.marks.as_deref().is_some_and(restored_or_retained)
    }

    /// Whether the credential's copy is in place under its present target name. Before its sources were read, data
    /// that nobody edited is as good as any.
    pub fn has_copy(&self, credential: &Credential) -> bool {
        let is_copy = |secret: &Secret| match &credential.copy {
            _ if secret.terminating || secret.wrong_type => false,
            Some(copy) => copy.matches(secret),
            None => {
                secret.owns_data && self.owner_of(secret).is_some_and(|owner| owner.uid == credential.uid)
            }
        };
        self.secrets.get(&credential.scope.target_name).is_some_and(is_copy)
    }
}
