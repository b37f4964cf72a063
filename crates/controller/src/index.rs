//! Everything that was observed, as plain state: events go in, and the keys that need a pass come
//! out. It does no I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use regcred_planner::{
    Credential, Memory, Namespace, Payload, Secret, SecretCopy, ServiceAccount, Settings, SourceState, World,
    validate,
};
use regcred_sources::{SecretReader, SourceSecret};
use tokio::time::Instant;

use crate::decode::{CredentialObject, NamespaceObject};
use crate::intern::Interner;
use crate::queue::Ticket;
use crate::shelf::{Key, Origin, Shelf, Version};

/// Which Secrets a watch delivers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretScope {
    /// Only Secrets of this name.
    pub name: Option<Arc<str>>,
    /// Secrets that are no docker configuration, rather than those that are.
    pub mistyped: bool,
}

impl SecretScope {
    /// One scope for every Secret watch that the settings call for. With listed target names each
    /// is watched by name, which RBAC by name allows; the type tells a copy from a stranger.
    pub fn all(target_names: &[String]) -> Vec<Self> {
        if target_names.is_empty() {
            return vec![Self { name: None, mistyped: false }];
        }
        let both = |name: &String| {
            [false, true].map(|mistyped| Self { name: Some(Arc::from(name.as_str())), mistyped })
        };
        target_names.iter().flat_map(both).collect()
    }

    /// The Secrets of a target name that are no docker configuration, where names are not listed.
    pub fn strangers(name: &Arc<str>) -> Self {
        Self { name: Some(name.clone()), mistyped: true }
    }

    /// The field selector of the watch.
    pub fn field_selector(&self) -> String {
        let sign = if self.mistyped { "!=" } else { "=" };
        let kind = format!("type{sign}{}", regcred_api::names::SECRET_TYPE);
        self.name.as_ref().map_or(kind.clone(), |name| format!("metadata.name={name},{kind}"))
    }

    fn covers_copy(&self, name: &str) -> bool {
        !self.mistyped && self.name.as_ref().is_none_or(|own| **own == *name)
    }
}

/// A RegistryCredential and what was made of it.
#[derive(Debug)]
pub struct CredentialEntry {
    /// As observed.
    pub object: CredentialObject,
    /// As the planner takes it.
    pub planned: Arc<Credential>,
    /// What its sources gave; `None` before the first look at this generation.
    pub source: Option<SourceState>,
    /// The request for a refresh that was last acted on.
    pub handled_request: Option<String>,
    /// When its source last sent out another copy than before.
    pub rotated_at: Option<Instant>,
    /// Once everything pushed before it is done, every namespace has seen the last change.
    pub settled_after: Ticket,
}

/// Everything that was observed.
#[derive(Debug)]
pub struct Index {
    settings: Settings,
    own_namespace: Arc<str>,
    /// Shares what many objects have in common.
    pub interner: Interner,
    /// Namespaces.
    pub namespaces: Shelf<NamespaceObject>,
    /// ServiceAccounts.
    pub service_accounts: Shelf<ServiceAccount>,
    /// Secrets, a shelf for each watch.
    pub secrets: Vec<(SecretScope, Shelf<Secret>)>,
    /// RegistryCredentials.
    pub credentials: Shelf<CredentialEntry>,
    /// Secrets of the source namespace.
    pub sources: Shelf<Arc<SourceSecret>>,
    memories: HashMap<Arc<str>, Memory>,
    planned: Arc<[Arc<Credential>]>,
}

impl Index {
    /// An empty index for an operator with these settings, at home in this namespace.
    pub fn new(settings: Settings, own_namespace: &str) -> Self {
        let scopes = SecretScope::all(&settings.target_names);
        Self {
            settings,
            own_namespace: Arc::from(own_namespace),
            interner: Interner::default(),
            namespaces: Shelf::default(),
            service_accounts: Shelf::default(),
            secrets: scopes.into_iter().map(|scope| (scope, Shelf::default())).collect(),
            credentials: Shelf::default(),
            sources: Shelf::default(),
            memories: HashMap::new(),
            planned: Arc::from([]),
        }
    }

    /// Whether every watch delivered a whole list once. Nothing is planned before.
    pub fn is_complete(&self) -> bool {
        self.namespaces.is_complete()
            && self.service_accounts.is_complete()
            && self.credentials.is_complete()
            && self.sources.is_complete()
            && self.secrets.iter().all(|(_, shelf)| shelf.is_complete())
    }

    /// What the planner is to know of a namespace; `None` if it does not exist.
    pub fn observe(&mut self, name: &Arc<str>, now: Timestamp) -> Option<World> {
        let namespace = self.namespace(name)?;
        let service_accounts: BTreeMap<_, _> = self
            .service_accounts
            .in_namespace(name)
            .map(|(name, account)| (name.clone(), account.clone()))
            .collect();
        let memory = self.memories.entry(name.clone()).or_default();
        memory.note(&service_accounts, now);
        let memory = memory.clone();
        Some(World {
            namespace,
            secrets: self.secrets_in(name),
            service_accounts,
            credentials: self.planned.clone(),
            memory,
        })
    }

    /// The memory of a namespace.
    pub fn memory(&mut self, namespace: &Arc<str>) -> &mut Memory {
        self.memories.entry(namespace.clone()).or_default()
    }

    /// Forgets what earlier passes left: the namespace is gone, or is another of the same name.
    pub fn forget_memory(&mut self, namespace: &Arc<str>) {
        self.memories.remove(namespace);
    }

    /// The entry of a RegistryCredential.
    pub fn credential(&self, name: &Arc<str>) -> Option<&CredentialEntry> {
        self.credentials.get(&cluster_key(name))
    }

    /// Takes in a RegistryCredential. What its sources gave stays while its spec does. Returns the
    /// namespaces that the change concerns.
    pub fn apply_credential(
        &mut self,
        name: &Arc<str>,
        version: Version,
        object: CredentialObject,
        origin: Origin,
    ) -> Vec<Arc<str>> {
        let mut entry = self.entry(name, object);
        let before = self.credential(name).map(|old| old.planned.clone());
        let same = self.credential(name).filter(|old| same_spec(old, &entry));
        let settled = same.is_some_and(|old| same_stage(&old.planned, &entry.planned));
        if let Some(old) = same {
            entry.source.clone_from(&old.source);
            entry.handled_request.clone_from(&old.handled_request);
            entry.rotated_at = old.rotated_at;
            entry.settled_after = old.settled_after;
            let (spec, copy) = (old.planned.spec.clone(), old.planned.copy.clone());
            entry.planned = Arc::new(Credential { spec, copy, ..(*entry.planned).clone() });
        }
        let after = entry.planned.clone();
        if !self.credentials.apply(cluster_key(name), version, entry, origin) || settled {
            self.snapshot();
            return Vec::new();
        }
        self.snapshot();
        self.concerned(&[before.as_deref(), Some(&*after)])
    }

    /// Drops the shelf of a watch that ended.
    pub fn drop_secrets(&mut self, scope: &SecretScope) {
        self.secrets.retain(|(own, _)| own != scope);
    }

    /// Takes in the end of a RegistryCredential.
    pub fn delete_credential(
        &mut self,
        name: &Arc<str>,
        version: Version,
    ) -> Option<(CredentialEntry, Vec<Arc<str>>)> {
        let entry = self.credentials.delete(&cluster_key(name), version)?;
        self.snapshot();
        let concerned = self.concerned(&[Some(&*entry.planned)]);
        Some((entry, concerned))
    }

    /// Ends a list of RegistryCredentials.
    pub fn finish_credentials(&mut self) -> Vec<(Key, CredentialEntry)> {
        let gone = self.credentials.finish();
        self.snapshot();
        gone
    }

    /// Takes in what the sources of a RegistryCredential gave, unless its spec changed since.
    /// Returns the namespaces that the change concerns.
    pub fn set_source(
        &mut self,
        name: &Arc<str>,
        seen: &Credential,
        source: SourceState,
        payload: Option<Payload>,
    ) -> Vec<Arc<str>> {
        let Some(entry) = self.credentials.get_mut(&cluster_key(name)) else { return Vec::new() };
        if !same_planned_spec(&entry.planned, seen) {
            return Vec::new();
        }
        entry.source = Some(source);
        entry.handled_request.clone_from(&entry.object.requested_at);
        let copy = match (&entry.planned.spec, payload) {
            (Ok(spec), Some(payload)) => {
                Some(Arc::new(SecretCopy::new(&entry.planned.name, &entry.planned.uid, spec, payload)))
            }
            _ => None,
        };
        if entry.planned.copy == copy {
            return Vec::new();
        }
        entry.planned = Arc::new(Credential { copy, ..(*entry.planned).clone() });
        let after = entry.planned.clone();
        self.snapshot();
        self.concerned(&[Some(&*after)])
    }

    /// Notes that its source sent out another copy than before.
    pub fn note_rotation(&mut self, name: &Arc<str>, at: Instant) {
        if let Some(entry) = self.credentials.get_mut(&cluster_key(name)) {
            entry.rotated_at = Some(at);
        }
    }

    /// Notes that our finalizer is off a RegistryCredential. Its watch says when it is gone.
    pub fn note_released(&mut self, name: &Arc<str>) {
        if let Some(entry) = self.credentials.get_mut(&cluster_key(name)) {
            entry.planned = Arc::new(Credential { finalized: false, ..(*entry.planned).clone() });
        }
    }

    /// Namespaces that one of these versions of a RegistryCredential selects, or that hold a copy.
    pub fn concerned(&self, versions: &[Option<&Credential>]) -> Vec<Arc<str>> {
        let holds_copy = |name: &Arc<str>| {
            self.secrets.iter().flat_map(|(_, shelf)| shelf.in_namespace(name)).any(|(_, secret)| {
                let uid = secret.marks.as_ref().and_then(|marks| marks.credential_uid.as_ref());
                versions.iter().flatten().any(|version| uid == Some(&version.uid))
            })
        };
        let selects = |namespace: &Namespace| {
            let specs = versions.iter().flatten().filter_map(|version| version.spec.as_ref().ok());
            specs.into_iter().any(|spec| spec.namespaces.selects(namespace))
        };
        let names = self.namespaces.iter().map(|((_, name), _)| name);
        names
            .filter(|name| self.namespace(name).is_some_and(|ns| selects(&ns)) || holds_copy(name))
            .cloned()
            .collect()
    }

    /// The target names of all RegistryCredentials.
    pub fn target_names(&self) -> BTreeSet<Arc<str>> {
        let specs = self.planned.iter().filter_map(|credential| credential.spec.as_ref().ok());
        specs.map(|spec| Arc::from(spec.target_name.as_str())).collect()
    }

    /// The shelf for a scope; a new one if there is none yet.
    pub fn secrets_mut(&mut self, scope: &SecretScope) -> &mut Shelf<Secret> {
        let at = self.secrets.iter().position(|(own, _)| own == scope).unwrap_or_else(|| {
            self.secrets.push((scope.clone(), Shelf::default()));
            self.secrets.len() - 1
        });
        &mut self.secrets[at].1
    }

    /// Takes in a Secret that came back from our own write.
    pub fn apply_own_secret(&mut self, key: Key, version: Version, secret: Secret) {
        let shelf = self.secrets.iter_mut().find(|(scope, _)| scope.covers_copy(&key.1));
        if let Some((_, shelf)) = shelf {
            shelf.apply(key, version, secret, Origin::OwnWrite);
        }
    }

    /// Notes that we deleted a Secret. Its watch says when it is gone; until then nothing is
    /// planned for it.
    pub fn note_deleted_secret(&mut self, key: &Key) {
        for (_, shelf) in &mut self.secrets {
            if let Some(secret) = shelf.get_mut(key) {
                secret.terminating = true;
            }
        }
    }

    fn namespace(&self, name: &Arc<str>) -> Option<Namespace> {
        let object = self.namespaces.get(&cluster_key(name))?;
        Some(Namespace {
            name: name.clone(),
            labels: object.labels.clone(),
            excluded: object.excluded,
            terminating: object.terminating,
            is_own: *name == self.own_namespace,
        })
    }

    fn secrets_in(&self, namespace: &Arc<str>) -> BTreeMap<Arc<str>, Secret> {
        let all = self.secrets.iter().flat_map(|(_, shelf)| shelf.in_namespace(namespace));
        all.map(|(name, secret)| (name.clone(), secret.clone())).collect()
    }

    fn entry(&self, name: &Arc<str>, object: CredentialObject) -> CredentialEntry {
        let spec = object.spec.as_ref().map_err(Clone::clone);
        let spec = spec.and_then(|spec| validate(name, spec, &self.settings)).map(Arc::new);
        let planned = Credential {
            name: name.clone(),
            uid: object.uid.clone(),
            created: object.created,
            deleting: object.deleting,
            finalized: object.finalizers.iter().any(|f| f == regcred_api::names::FINALIZER),
            deletion_policy: object.deletion_policy,
            spec,
            copy: None,
        };
        let handled_request = object.status.as_ref().and_then(|status| status.last_handled_request.clone());
        CredentialEntry {
            object,
            planned: Arc::new(planned),
            source: None,
            handled_request,
            rotated_at: None,
            settled_after: 0,
        }
    }

    fn snapshot(&mut self) {
        self.planned = self.credentials.iter().map(|(_, entry)| entry.planned.clone()).collect();
    }
}

/// The key of a cluster-scoped object.
pub fn cluster_key(name: &Arc<str>) -> Key {
    (Arc::from(""), name.clone())
}

impl SecretReader for Index {
    fn read(&self, name: &str) -> Option<Arc<SourceSecret>> {
        self.sources.iter().find(|((_, own), _)| **own == *name).map(|(_, secret)| secret.clone())
    }
}

fn same_spec(old: &CredentialEntry, new: &CredentialEntry) -> bool {
    old.object.uid == new.object.uid && old.object.generation == new.object.generation
}

fn same_stage(old: &Credential, new: &Credential) -> bool {
    old.deleting == new.deleting && old.finalized == new.finalized
}

fn same_planned_spec(now: &Credential, seen: &Credential) -> bool {
    let same = match (&now.spec, &seen.spec) {
        (Ok(now), Ok(seen)) => Arc::ptr_eq(now, seen),
        _ => false,
    };
    now.uid == seen.uid && same
}
