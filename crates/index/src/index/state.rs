//! The state itself, and what is asked of it. It does no I/O and knows no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use regcred_planner::{Memory, Namespace, Secret, ServiceAccount, Settings, World};
use regcred_sources::{SecretReader, SourceSecret};

use crate::credentials::{CredentialEntry, Credentials};
use crate::decode::NamespaceObject;
use crate::interest::Interests;
use crate::intern::Interner;
use crate::received::Received;
use crate::scope::SecretScope;
use crate::shelf::{Key, Shelf, Version, cluster_key, version};

/// Everything that was observed.
#[derive(Debug)]
pub struct Index {
    pub(super) own_namespace: Arc<str>,
    pub(super) interests: Interests,
    pub(super) interner: Interner,
    pub(super) namespaces: Shelf<NamespaceObject>,
    pub(super) service_accounts: Shelf<ServiceAccount>,
    /// A shelf for each watch.
    pub(super) secrets: Vec<(SecretScope, Shelf<Secret>)>,
    pub(super) credentials: Credentials,
    pub(super) sources: Shelf<Arc<SourceSecret>>,
    pub(super) memories: HashMap<Arc<str>, Memory>,
}

/// A watch of whose objects is kept only what some RegistryCredential asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listed {
    /// Namespaces, with the labels that selectors name.
    Namespaces,
    /// ServiceAccounts, likewise.
    ServiceAccounts,
    /// Source Secrets that are named.
    Sources,
}

impl Index {
    /// An empty index for an operator with these settings, at home in this namespace.
    pub fn new(settings: Settings, own_namespace: &str) -> Self {
        let scopes = SecretScope::all(&settings.target_names);
        Self {
            own_namespace: Arc::from(own_namespace),
            interests: Interests::default(),
            interner: Interner::default(),
            namespaces: Shelf::default(),
            service_accounts: Shelf::default(),
            secrets: scopes.into_iter().map(|scope| (scope, Shelf::default())).collect(),
            credentials: Credentials::new(settings),
            sources: Shelf::default(),
            memories: HashMap::new(),
        }
    }

    /// Whether every watch delivered a whole list once. Nothing is planned before.
    pub fn is_complete(&self) -> bool {
        self.namespaces.is_complete()
            && self.service_accounts.is_complete()
            && self.credentials.is_complete()
            && self.sources.is_complete()
            && self.secrets.iter().all(|(_, shelf)| shelf.is_complete())
            && self.interests.are_met()
    }

    /// Whether this watch must be listed again, because some RegistryCredential asks for what was not kept.
    pub fn needs_list(&self, listed: Listed) -> bool {
        let interest = match listed {
            Listed::Namespaces => &self.interests.namespaces,
            Listed::ServiceAccounts => &self.interests.service_accounts,
            Listed::Sources => &self.interests.sources,
        };
        interest.needs_list()
    }

    /// What the planner is to know of a namespace; `None` if it does not exist.
    pub fn observe(&self, name: &Arc<str>) -> Option<World> {
        Some(World {
            namespace: self.namespace(name)?,
            secrets: self.secrets_in(name),
            service_accounts: self.service_accounts_in(name),
            credentials: self.credentials.planned().clone(),
            memory: self.memories.get(name).cloned().unwrap_or_default(),
        })
    }

    /// Whether this namespace was observed.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespace(&Arc::from(name)).is_some()
    }

    /// How many bytes of text a ServiceAccount came as: the answer to a write of it takes as many. 0 if there is none.
    pub fn size_of_service_account(&self, namespace: &Arc<str>, name: &Arc<str>) -> usize {
        self.service_accounts.size(&(namespace.clone(), name.clone()))
    }

    /// How many bytes of text the metadata of a Secret came as, likewise.
    pub fn size_of_secret(&self, namespace: &Arc<str>, name: &Arc<str>) -> usize {
        let key = (namespace.clone(), name.clone());
        self.secrets.iter().map(|(_, shelf)| shelf.size(&key)).max().unwrap_or_default()
    }

    /// Whether a finalizer keeps a Secret, so that the answer to its deletion is all of it, data included.
    pub fn is_secret_held(&self, namespace: &Arc<str>, name: &Arc<str>) -> bool {
        let key = (namespace.clone(), name.clone());
        self.secrets.iter().any(|(_, shelf)| shelf.get(&key).is_some_and(|secret| secret.held_by.is_some()))
    }

    /// The names of all namespaces, in order.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.namespaces.iter().map(|((_, name), _)| name)
    }

    /// The first namespace by name after this one; after the last one the first.
    pub fn namespace_after(&self, name: &str) -> Option<Arc<str>> {
        self.namespaces().find(|next| ***next > *name).or_else(|| self.namespaces().next()).cloned()
    }

    /// The RegistryCredentials.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The entry of a RegistryCredential.
    pub fn credential(&self, name: &Arc<str>) -> Option<&CredentialEntry> {
        self.credentials.get(name)
    }

    /// Whether some source that needs no network was not looked at yet for the spec that names it. One that waits for a
    /// registry was.
    pub fn awaits_local_sources(&self) -> bool {
        let is_unseen = |entry: &CredentialEntry| entry.source.is_none() && !entry.awaits_registry;
        let mut entries = self.credentials.iter();
        entries.any(|(_, entry)| is_unseen(entry) && entry.has_local_sources())
    }

    /// Whether our finalizer is missing on some RegistryCredential, so that nothing is written for it yet.
    pub fn awaits_finalizers(&self) -> bool {
        let mut entries = self.credentials.iter();
        entries.any(|(_, entry)| entry.wanted_sources().is_some() && !entry.planned.finalized)
    }

    /// The target names of all RegistryCredentials.
    pub fn target_names(&self) -> BTreeSet<Arc<str>> {
        let credentials = self.credentials.planned().iter();
        let specs = credentials.filter_map(|credential| credential.spec.as_ref().ok());
        specs.map(|spec| spec.target_name.clone()).collect()
    }

    /// Drops the shelf of a watch that ended.
    pub fn drop_secrets(&mut self, scope: &SecretScope) {
        self.secrets.retain(|(own, _)| own != scope);
    }

    /// The shelf for a scope; a new one if there is none yet.
    pub(super) fn secrets_mut(&mut self, scope: &SecretScope) -> &mut Shelf<Secret> {
        let at = self.secrets.iter().position(|(own, _)| own == scope).unwrap_or_else(|| {
            self.secrets.push((scope.clone(), Shelf::default()));
            self.secrets.len() - 1
        });
        &mut self.secrets[at].1
    }

    pub(super) fn namespace(&self, name: &Arc<str>) -> Option<Namespace> {
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

    fn service_accounts_in(&self, namespace: &Arc<str>) -> BTreeMap<Arc<str>, ServiceAccount> {
        let accounts = self.service_accounts.in_namespace(namespace);
        accounts.map(|(name, account)| (name.clone(), account.clone())).collect()
    }

    pub(super) fn key<T>(&mut self, received: &Received<T>) -> (Key, Version) {
        let namespace = self.interner.string(received.namespace());
        let name = self.interner.string(received.name());
        ((namespace, name), version(received.resource_version()))
    }
}

impl SecretReader for Index {
    fn read(&self, name: &str) -> Option<Arc<SourceSecret>> {
        self.sources.iter().find(|((_, own), _)| **own == *name).map(|(_, secret)| secret.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::index::fixtures::{COPIES, index, look, name, payload, resolved, served, spec_of};

    #[test]
    fn nothing_is_complete_before_every_list_is() {
        let mut index = index();
        index.ingest_namespace(Event::ListEnds);
        index.ingest_service_account(Event::ListEnds);
        index.ingest_credential(Event::ListEnds);
        index.ingest_source(Event::ListEnds);
        assert!(!index.is_complete());
        index.ingest_secret(&COPIES, Event::ListEnds);
        assert!(index.is_complete());
        // A target name that comes into use brings a watch of its own.
        index.ingest_secret(&SecretScope::wrong_type_of(&name()), Event::ListBegins);
        assert!(!index.is_complete());
        index.drop_secrets(&SecretScope::wrong_type_of(&name()));
        assert!(index.is_complete());
    }

    #[test]
    fn looking_at_a_namespace_changes_nothing() {
        let index = served();
        assert!(index.observe(&Arc::from("nowhere")).is_none());
        let world = index.observe(&Arc::from("shop")).expect("a namespace");
        assert_eq!((world.namespace.labels["pull"].as_str(), world.credentials.len()), ("yes", 1));
    }

    #[test]
    fn planning_sees_each_change_of_a_credential() {
        let mut index = served();
        let shop: Arc<str> = Arc::from("shop");
        let planned = |index: &Index| index.observe(&shop).unwrap().credentials[0].clone();
        let spec = spec_of(&index);
        look(&mut index, &spec, resolved(), Some(payload("one")));
        assert!(planned(&index).copy.is_some() && planned(&index).finalized);
        index.note_released(&name(), &Arc::from("another"));
        assert!(planned(&index).finalized, "the object of that name is another by now");
        index.note_released(&name(), &Arc::from("c1"));
        assert!(!planned(&index).finalized);
        index.ingest_credential(Event::ListBegins);
        index.ingest_credential(Event::ListEnds);
        assert!(index.observe(&shop).unwrap().credentials.is_empty());
    }
}
