//! Everything that was observed, as plain state: events go in, and the keys to requeue come out. It does no I/O
//! and knows no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use regcred_planner::{
    Credential, Memory, Namespace, Object, Plan, Precondition, Secret, ServiceAccount, Settings, StepError,
    Trust, Uid, World,
};
use regcred_sources::{SecretReader, SourceSecret};

use crate::credentials::{Change, CredentialEntry, Credentials, SourceLook};
use crate::decode::{
    self, CredentialBody, NamespaceBody, NamespaceObject, SecretBody, ServiceAccountBody, SourceSecretBody,
};
use crate::event::Event;
use crate::interest::Interests;
use crate::intern::Interner;
use crate::received::Received;
use crate::scope::SecretScope;
use crate::shelf::{Key, Origin, Shelf, Version, cluster_key, version};

/// Everything that was observed.
#[derive(Debug)]
pub struct Index {
    own_namespace: Arc<str>,
    interests: Interests,
    interner: Interner,
    namespaces: Shelf<NamespaceObject>,
    service_accounts: Shelf<ServiceAccount>,
    /// A shelf for each watch.
    secrets: Vec<(SecretScope, Shelf<Secret>)>,
    credentials: Credentials,
    sources: Shelf<Arc<SourceSecret>>,
    memories: HashMap<Arc<str>, Memory>,
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

/// What an event about a RegistryCredential asks for.
#[derive(Debug, Eq, PartialEq)]
pub struct CredentialChange {
    /// Its name.
    pub name: Arc<str>,
    /// Namespaces in which something is to be done now.
    pub concerned: Vec<Arc<str>>,
    /// UID of the object that no longer exists, itself or under this name.
    pub gone: Option<Uid>,
    /// Whether no object of this name exists any more.
    pub deleted: bool,
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

    /// The RegistryCredentials.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The entry of a RegistryCredential.
    pub fn credential(&self, name: &Arc<str>) -> Option<&CredentialEntry> {
        self.credentials.get(name)
    }

    /// Remembers what a plan found and what became of its steps. Returns all that is remembered of the namespace;
    /// `None` if it does not exist any more.
    pub fn record(
        &mut self,
        plan: &Plan,
        results: &[Result<(), StepError>],
        now: Timestamp,
    ) -> Option<&Memory> {
        let memory = self.memory(&plan.namespace)?;
        memory.record(plan, results, now);
        Some(memory)
    }

    /// Ends every back-off and fight over the target name of a RegistryCredential, and over former ones: its admin asks
    /// for a try now. Returns the namespaces to requeue.
    pub fn forgive(&mut self, name: &Arc<str>) -> Vec<Arc<str>> {
        let Some(planned) = self.credential(name).map(|entry| entry.planned.clone()) else {
            return Vec::new();
        };
        let concerned = self.concerned(&[Some(&planned)]);
        for namespace in &concerned {
            let mut names: BTreeSet<_> = self.copies(namespace, &planned).cloned().collect();
            names.insert(planned.scope.target_name.clone());
            if let Some(memory) = self.memories.get_mut(namespace) {
                memory.forgive(&names);
            }
        }
        concerned
    }

    /// The memory of a namespace, if it exists: one that does not would never be forgotten.
    fn memory(&mut self, namespace: &Arc<str>) -> Option<&mut Memory> {
        self.namespaces.get(&cluster_key(namespace))?;
        Some(self.memories.entry(namespace.clone()).or_default())
    }

    /// Forgets what this replica made of sources and remembers of lists: another one worked meanwhile, and knows
    /// better. Returns the RegistryCredentials whose sources are to be looked at.
    pub fn start_over(&mut self) -> Vec<Arc<str>> {
        self.memories.clear();
        let secrets = self.secrets.iter_mut().flat_map(|(_, shelf)| shelf.iter_mut());
        for (_, secret) in secrets.filter(|(_, secret)| secret.trust == Trust::Doubtful) {
            // Another replica wrote it.
            secret.trust = Trust::Assumed;
        }
        self.credentials.forget_sources()
    }

    /// Ingests news of a namespace. Returns those to requeue.
    pub fn ingest_namespace(&mut self, event: Event<NamespaceBody>) -> Vec<Arc<str>> {
        match event {
            Event::ListBegins => {
                self.namespaces.begin();
                self.interests.namespaces.list_begins();
                Vec::new()
            }
            Event::Put(received, origin) => self.put_namespace(received, origin).into_iter().collect(),
            Event::Deleted(received) => {
                let (key, version) = self.key(&received);
                let existed = self.namespaces.delete(&key, version).is_some();
                self.memories.remove(&key.1);
                existed.then_some(key.1).into_iter().collect()
            }
            Event::ListEnds => {
                self.interests.namespaces.list_ends();
                let gone: Vec<_> = self.namespaces.finish().into_iter().map(|((_, name), _)| name).collect();
                for name in &gone {
                    self.memories.remove(name);
                }
                gone
            }
        }
    }

    fn put_namespace(&mut self, received: Received<NamespaceBody>, origin: Origin) -> Option<Arc<str>> {
        let (key, version) = self.key(&received);
        let Ok(body) = received.into_body() else {
            self.namespaces.touch(&key);
            return None;
        };
        let object = decode::namespace(&body, &self.interests.namespaces, &mut self.interner);
        let before = self.namespaces.get(&key);
        let same = before == Some(&object);
        if before.is_none_or(|before| before.uid != object.uid) {
            self.memories.remove(&key.1);
        }
        self.interner.note_drop();
        let applied = self.namespaces.apply(key.clone(), version, object, origin);
        (applied && !same).then_some(key.1)
    }

    /// Ingests news of a ServiceAccount. Returns the namespaces to requeue.
    pub fn ingest_service_account(&mut self, event: Event<ServiceAccountBody>) -> Vec<Arc<str>> {
        match event {
            Event::ListBegins => {
                self.service_accounts.begin();
                self.interests.service_accounts.list_begins();
                Vec::new()
            }
            Event::Put(received, origin) => {
                let (key, version) = self.key(&received);
                let Ok(body) = received.into_body() else {
                    self.service_accounts.touch(&key);
                    return Vec::new();
                };
                let kept = &self.interests.service_accounts;
                let mut account = decode::service_account(&body, kept, &mut self.interner);
                account.marked.retain(|name| self.credentials.settings().allow(name));
                let same = self.service_accounts.get(&key) == Some(&account);
                self.interner.note_drop();
                let applied = self.service_accounts.apply(key.clone(), version, account, origin);
                (applied && !same).then_some(key.0).into_iter().collect()
            }
            Event::Deleted(received) => {
                let (key, version) = self.key(&received);
                self.service_accounts.delete(&key, version);
                vec![self.forget_hold(key, Object::ServiceAccount)]
            }
            Event::ListEnds => {
                self.interests.service_accounts.list_ends();
                let gone = self.service_accounts.finish();
                gone.into_iter().map(|(key, _)| self.forget_hold(key, Object::ServiceAccount)).collect()
            }
        }
    }

    /// Ingests news of a Secret from the watch of this scope. Returns the namespaces to requeue.
    pub fn ingest_secret(&mut self, scope: &SecretScope, event: Event<SecretBody>) -> Vec<Arc<str>> {
        match event {
            Event::ListBegins => {
                self.secrets_mut(scope).begin();
                Vec::new()
            }
            Event::Put(received, origin) => {
                let (key, version) = self.key(&received);
                let Ok(body) = received.into_body() else {
                    self.secrets_mut(scope).touch(&key);
                    return Vec::new();
                };
                let kept = &self.interests.copies;
                let secret = decode::secret(&body, scope.wrong_type, kept, &mut self.interner);
                self.interner.note_drop();
                let shelf = self.secrets_mut(scope);
                let secret = with_history(secret, shelf, &key, origin);
                let applied = shelf.apply(key.clone(), version, secret, origin);
                applied.then_some(key.0).into_iter().collect()
            }
            Event::Deleted(received) => {
                let (key, version) = self.key(&received);
                self.secrets_mut(scope).delete(&key, version);
                vec![self.forget_hold(key, Object::Secret)]
            }
            Event::ListEnds => {
                let gone = self.secrets_mut(scope).finish();
                gone.into_iter().map(|(key, _)| self.forget_hold(key, Object::Secret)).collect()
            }
        }
    }

    /// Ingests a Secret that came back from our own write.
    pub fn ingest_written_secret(&mut self, written: Received<SecretBody>) {
        let scope =
            self.secrets.iter().map(|(scope, _)| scope).find(|scope| scope.covers_copy(written.name()));
        let Some(scope) = scope.cloned() else { return };
        self.ingest_secret(&scope, Event::Put(written, Origin::OwnWrite));
    }

    /// The names of all namespaces, in order.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.namespaces.iter().map(|((_, name), _)| name)
    }

    /// The first namespace by name after this one; after the last one the first.
    pub fn namespace_after(&self, name: &str) -> Option<Arc<str>> {
        self.namespaces().find(|next| ***next > *name).or_else(|| self.namespaces().next()).cloned()
    }

    /// It is time to look at every copy in a namespace again.
    pub fn doubt_secrets_in(&mut self, namespace: &Arc<str>) {
        for (_, shelf) in &mut self.secrets {
            for secret in shelf.in_namespace_mut(namespace) {
                secret.trust = Trust::Doubtful;
            }
        }
    }

    /// What was in the way does not exist any more.
    fn forget_hold(&mut self, (namespace, name): Key, object: fn(Arc<str>) -> Object) -> Arc<str> {
        self.interner.note_drop();
        if let Some(memory) = self.memories.get_mut(&namespace) {
            memory.forget_hold(&object(name));
        }
        namespace
    }

    /// Notes that we deleted the Secret that was observed with this UID and version. Its watch says when it no
    /// longer exists; until then nothing is planned for it. A Secret of that name that is another by now, made
    /// before our answer came, is not concerned.
    pub fn note_deleted_secret(&mut self, namespace: &Arc<str>, name: &str, deleted: &Precondition) {
        let key = (namespace.clone(), Arc::from(name));
        for (_, shelf) in &mut self.secrets {
            let secret = shelf.get_mut(&key).filter(|secret| Precondition::of(secret) == *deleted);
            if let Some(secret) = secret {
                secret.terminating = true;
            }
        }
    }

    /// Ingests news of a Secret in the source namespace. Returns the RegistryCredentials that draw on it.
    pub fn ingest_source(&mut self, event: Event<SourceSecretBody>) -> Vec<Arc<str>> {
        let changed: Vec<Arc<str>> = match event {
            Event::ListBegins => {
                self.sources.begin();
                self.interests.sources.list_begins();
                Vec::new()
            }
            Event::Put(received, origin) => {
                if !self.interests.sources.keeps(received.name()) {
                    return Vec::new();
                }
                let (key, version) = self.key(&received);
                let Ok(body) = received.into_body() else {
                    self.sources.touch(&key);
                    return Vec::new();
                };
                let secret = Arc::new(decode::source_secret(body));
                let applied = self.sources.apply(key.clone(), version, secret, origin);
                applied.then_some(key.1).into_iter().collect()
            }
            Event::Deleted(received) => {
                let (key, version) = self.key(&received);
                self.sources.delete(&key, version);
                vec![key.1]
            }
            Event::ListEnds => {
                self.interests.sources.list_ends();
                self.sources.finish().into_iter().map(|((_, name), _)| name).collect()
            }
        };
        let drawing = |entry: &CredentialEntry| changed.iter().any(|secret| draws_on(&entry.planned, secret));
        let entries = self.credentials.iter().filter(|(_, entry)| drawing(entry));
        entries.map(|(name, _)| name.clone()).collect()
    }

    /// Ingests news of a RegistryCredential.
    pub fn ingest_credential(&mut self, event: Event<CredentialBody>) -> Vec<CredentialChange> {
        match event {
            Event::ListBegins => {
                self.credentials.begin();
                Vec::new()
            }
            Event::Put(received, origin) => {
                let ((_, name), version) = self.key(&received);
                let Ok(body) = received.into_body() else {
                    self.credentials.touch(&name);
                    return Vec::new();
                };
                let asked = self.credentials.receive(&name, version, decode::credential(body), origin);
                if let Some(asked) = asked {
                    self.interests.add(asked);
                }
                self.admit_credentials()
            }
            Event::Deleted(received) => {
                let ((_, name), version) = self.key(&received);
                let change = self.credentials.delete(&name, version);
                self.renew_interests();
                change.map(|change| self.credential_change(name, &change)).into_iter().collect()
            }
            Event::ListEnds => {
                let gone = self.credentials.finish();
                self.renew_interests();
                gone.into_iter().map(|(name, change)| self.credential_change(name, &change)).collect()
            }
        }
    }

    /// Puts in force the RegistryCredentials that ask for nothing unknown any more.
    pub fn admit_credentials(&mut self) -> Vec<CredentialChange> {
        let admitted = self.credentials.admit(&self.interests);
        for (name, change) in &admitted {
            if change.begins_deletion() {
                // Whoever deletes it wants to see now that everything of it can be removed.
                self.forgive(name);
            }
        }
        let asks_anew = admitted.iter().any(|(_, change)| change.asks_anew);
        let changes = admitted.into_iter().map(|(name, change)| self.credential_change(name, &change));
        let changes = changes.collect();
        if asks_anew {
            self.renew_interests();
        }
        changes
    }

    /// What is kept of other objects follows the RegistryCredentials. A source that none names any more is dropped.
    fn renew_interests(&mut self) {
        self.interests.ask(self.credentials.asked());
        let sources = &self.interests.sources;
        self.sources.retain(|(_, name)| sources.keeps(name));
    }

    fn credential_change(&self, name: Arc<str>, Change { before, after, .. }: &Change) -> CredentialChange {
        let same =
            before.as_ref().zip(after.as_ref()).is_some_and(|(before, after)| same_work(before, after));
        let versions = [before.as_deref(), after.as_deref()];
        let uid =
            |version: &Option<Arc<Credential>>| version.as_ref().map(|credential| credential.uid.clone());
        CredentialChange {
            name,
            concerned: if same { Vec::new() } else { self.concerned(&versions) },
            gone: uid(before).filter(|gone| uid(after).as_ref() != Some(gone)),
            deleted: after.is_none(),
        }
    }

    /// Takes what a look at the sources of a RegistryCredential came to, unless its spec is another by now than the
    /// one that was asked for. Returns the namespaces whose copies are to change.
    pub fn take_look(&mut self, name: &Arc<str>, look: SourceLook) -> Vec<Arc<str>> {
        let changed = self.credentials.take_look(name, look);
        changed.map_or_else(Vec::new, |credential| self.concerned(&[Some(&*credential)]))
    }

    /// Whether some source that needs no network was not looked at yet for the spec that names it.
    pub fn awaits_local_sources(&self) -> bool {
        let mut entries = self.credentials.iter();
        entries.any(|(_, entry)| entry.source.is_none() && entry.has_local_sources())
    }

    /// Whether our finalizer is missing on some RegistryCredential, so that nothing is written for it yet.
    pub fn awaits_finalizers(&self) -> bool {
        let mut entries = self.credentials.iter();
        entries.any(|(_, entry)| entry.wanted_sources().is_some() && !entry.planned.finalized)
    }

    /// Notes that our finalizer is off a RegistryCredential. Its watch says when the object no longer exists.
    pub fn note_released(&mut self, name: &Arc<str>, uid: &Uid) {
        self.credentials.note_released(name, uid);
    }

    /// Namespaces that one of these versions of a RegistryCredential selects, or that hold a copy or an entry.
    pub fn concerned(&self, versions: &[Option<&Credential>]) -> Vec<Arc<str>> {
        let names = self.namespaces.iter().map(|((_, name), _)| name);
        let concerned =
            names.filter(|name| self.is_selected(name, versions) || self.holds_work(name, versions));
        concerned.cloned().collect()
    }

    fn is_selected(&self, name: &Arc<str>, versions: &[Option<&Credential>]) -> bool {
        let selects = |version: &Credential, namespace: &Namespace| match &version.spec {
            Ok(spec) => spec.namespaces.selects(namespace),
            // It keeps its claim.
            Err(_) => version.scope.covers(namespace),
        };
        let namespace = self.namespace(name);
        namespace.is_some_and(|namespace| versions.iter().flatten().any(|own| selects(own, &namespace)))
    }

    fn holds_work(&self, name: &Arc<str>, versions: &[Option<&Credential>]) -> bool {
        let mut versions = versions.iter().flatten();
        versions.any(|version| self.holds_copy(name, version) || self.holds_entry(name, version))
    }

    fn holds_copy(&self, name: &Arc<str>, version: &Credential) -> bool {
        self.copies(name, version).next().is_some()
    }

    /// The names of the copies in a namespace.
    fn copies<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        version: &'a Credential,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        let is_copy = |secret: &Secret| {
            let uids = secret.marks.iter().flat_map(|marks| [&marks.credential_uid, &marks.owner_uid]);
            uids.flatten().any(|uid| *uid == version.uid)
        };
        let secrets = self.secrets.iter().flat_map(|(_, shelf)| shelf.in_namespace(namespace));
        secrets.filter(move |(_, secret)| is_copy(secret)).map(|(name, _)| name)
    }

    fn holds_entry(&self, name: &Arc<str>, version: &Credential) -> bool {
        let mut accounts = self.service_accounts.in_namespace(name);
        // While one is idle, marked entries that are nobody's stay.
        accounts.any(|(_, account)| {
            account.marks(&version.scope.target_name) || (version.is_idle() && !account.marked.is_empty())
        })
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
    fn secrets_mut(&mut self, scope: &SecretScope) -> &mut Shelf<Secret> {
        let at = self.secrets.iter().position(|(own, _)| own == scope).unwrap_or_else(|| {
            self.secrets.push((scope.clone(), Shelf::default()));
            self.secrets.len() - 1
        });
        &mut self.secrets[at].1
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

    fn service_accounts_in(&self, namespace: &Arc<str>) -> BTreeMap<Arc<str>, ServiceAccount> {
        let accounts = self.service_accounts.in_namespace(namespace);
        accounts.map(|(name, account)| (name.clone(), account.clone())).collect()
    }

    fn key<T>(&mut self, received: &Received<T>) -> (Key, Version) {
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

/// Whether a change leaves everything as it is in the namespaces.
fn same_work(before: &Credential, after: &Credential) -> bool {
    let same_spec = match (&before.spec, &after.spec) {
        (Ok(before), Ok(after)) => Arc::ptr_eq(before, after),
        (Err(_), Err(_)) => Arc::ptr_eq(&before.scope, &after.scope),
        _ => false,
    };
    let stage = |credential: &Credential| (credential.uid.clone(), credential.deleting, credential.finalized);
    same_spec && stage(before) == stage(after)
}

/// Whether a credential takes anything from this Secret of the source namespace.
fn draws_on(credential: &Credential, secret: &str) -> bool {
    credential.spec.as_ref().is_ok_and(|spec| spec.reads(secret))
}

/// A Secret with what its earlier versions tell: whose copy it was, and whether somebody wrote it since we did.
fn with_history(secret: Secret, shelf: &Shelf<Secret>, key: &Key, origin: Origin) -> Secret {
    let before = shelf.get(key).filter(|before| before.uid == secret.uid);
    let trust = match before {
        _ if origin == Origin::OwnWrite => Trust::Confirmed,
        Some(before) if before.resource_version == secret.resource_version => before.trust,
        None if !shelf.is_complete() => Trust::Assumed,
        _ => Trust::Doubtful,
    };
    let earlier = || before.filter(|_| secret.marks.is_some()).and_then(|before| before.copy_of.clone());
    Secret { copy_of: secret.copy_of.clone().or_else(earlier), trust, ..secret }
}

#[cfg(test)]
mod tests {
    use regcred_api::Reason;
    use regcred_dockerconfig::SecretBytes;
    use regcred_planner::{ListPatch, Payload, Removal, SourceState, Step, Validated};
    use serde_json::{Value, json};

    use super::*;
    use crate::received::Body;

    const COPIES: SecretScope = SecretScope { name: None, wrong_type: false };

    fn index() -> Index {
        Index::new(Settings::default(), "regcred-system")
    }

    fn received<T: Body>(object: &Value) -> Received<T> {
        serde_json::from_str(&object.to_string()).expect("an object with a name")
    }

    fn put<T: Body>(object: &Value) -> Event<T> {
        Event::Put(received(object), Origin::Watch)
    }

    fn namespace(name: &str, uid: &str, version: u64, labels: &Value) -> Value {
        json!({"metadata": {"name": name, "uid": uid, "resourceVersion": version.to_string(), "labels": labels}})
    }

    fn secret(uid: &str, version: u64) -> Value {
        json!({"metadata": {
            "namespace": "shop", "name": "pull", "uid": uid, "resourceVersion": version.to_string(),
            "annotations": {"regcred.dev/credential-uid": "c1"},
        }})
    }

    fn credential(uid: &str, version: u64, generation: i64, spec: &Value) -> Value {
        let mut whole = json!({
            "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": "bot"}}}],
            "namespaces": {"selector": {"matchLabels": {"pull": "yes"}}},
        });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({
            "metadata": {
                "name": "pull", "uid": uid, "resourceVersion": version.to_string(), "generation": generation,
                "finalizers": ["regcred.dev/cleanup"],
            },
            "spec": whole,
        })
    }

    fn name() -> Arc<str> {
        Arc::from("pull")
    }

    /// Two namespaces, of which `shop` is selected, and one credential.
    fn served() -> Index {
        let mut index = index();
        index.ingest_credential(put(&credential("c1", 3, 1, &json!({}))));
        index.ingest_namespace(put(&namespace("shop", "n1", 1, &json!({"pull": "yes"}))));
        index.ingest_namespace(put(&namespace("other", "n2", 2, &json!({}))));
        index
    }

    fn spec_of(index: &Index) -> Arc<Validated> {
        index.credential(&name()).expect("an entry").planned.spec.clone().expect("a valid spec")
    }

    fn payload(content: &str) -> Payload {
        Payload {
            content: SecretBytes::from(content.as_bytes().to_vec()),
            fingerprint: content.to_owned(),
            servers: ["ghcr.io".to_owned()].into(),
            expires_at: None,
        }
    }

    fn resolved() -> SourceState {
        SourceState::Resolved { registries: Vec::new(), note: None }
    }

    fn failed() -> SourceState {
        SourceState::Failed { reason: Reason::SourceNotFound, message: String::new(), registries: Vec::new() }
    }

    fn look(
        index: &mut Index,
        spec: &Arc<Validated>,
        state: SourceState,
        payload: Option<Payload>,
    ) -> Vec<Arc<str>> {
        let request = index.credential(&name()).expect("an entry").object.requested_at.clone();
        let look = SourceLook { spec: spec.clone(), request, state, payload, retrying: false };
        index.take_look(&name(), look)
    }

    fn copy_of(index: &Index) -> Option<String> {
        let copy = index.credential(&name())?.planned.copy.clone()?;
        Some(format!("{} as {}", copy.payload.fingerprint, copy.name))
    }

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
    fn a_namespace_is_requeued_only_if_something_that_matters_changed() {
        let mut index = index();
        index.ingest_credential(put(&credential("c1", 1, 1, &json!({}))));
        let labels = json!({"pull": "yes", "other": "1"});
        assert_eq!(index.ingest_namespace(put(&namespace("shop", "n1", 1, &labels))), [Arc::from("shop")]);
        assert!(index.ingest_namespace(put(&namespace("shop", "n1", 2, &labels))).is_empty());
        assert!(!index.ingest_namespace(put(&namespace("shop", "n1", 3, &json!({})))).is_empty());
        assert!(
            index.ingest_namespace(put(&namespace("shop", "n1", 2, &labels))).is_empty(),
            "an older event"
        );
    }

    #[test]
    fn a_namespace_made_again_under_its_name_starts_without_a_memory() {
        let mut index = served();
        refuse_deletion(&mut index, "pull");
        assert!(is_held_back(&index));
        index.ingest_namespace(put(&namespace("shop", "n9", 9, &json!({"pull": "yes"}))));
        assert!(!is_held_back(&index));
    }

    /// In `shop`, long ago.
    fn refuse_deletion(index: &mut Index, secret: &str) {
        let over = Precondition { uid: Arc::from("s1"), resource_version: Arc::from("5") };
        let (credential, credential_name) = (Arc::from("c1"), name());
        let step = Step::DeleteSecret(Removal { name: Arc::from(secret), over, credential, credential_name });
        let plan = Plan { namespace: Arc::from("shop"), steps: vec![step], ..Plan::default() };
        index.record(&plan, &[Err(StepError::Forbidden)], Timestamp::UNIX_EPOCH);
    }

    fn is_held_back(index: &Index) -> bool {
        let world = index.observe(&Arc::from("shop")).expect("a namespace");
        world.memory.wake_at(Timestamp::UNIX_EPOCH).is_some()
    }

    #[test]
    fn a_deletion_is_tried_at_once_whatever_was_held_back_before() {
        let mut index = served();
        let shop: Arc<str> = Arc::from("shop");
        let over = Precondition { uid: Arc::from("s1"), resource_version: Arc::from("5") };
        let removal = Removal { name: name(), over, credential: Arc::from("c1"), credential_name: name() };
        let plan =
            Plan { namespace: shop.clone(), steps: vec![Step::DeleteSecret(removal)], ..Plan::default() };
        let now = Timestamp::UNIX_EPOCH;
        index.record(&plan, &[Err(StepError::Forbidden)], now);
        assert!(index.observe(&shop).unwrap().memory.wake_at(now).is_some());
        let mut deleted = credential("c1", 9, 1, &json!({}));
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        index.ingest_credential(put(&deleted));
        assert!(index.observe(&shop).unwrap().memory.wake_at(now).is_none());
    }

    #[test]
    fn the_end_of_an_idle_credential_concerns_what_it_held_back() {
        let account = |marked: &str| {
            json!({"metadata": {
                "namespace": "other", "name": "default", "uid": "a1", "resourceVersion": "7",
                "annotations": {"regcred.dev/attached": marked},
            }})
        };
        let concerned = |spec: &Value, account: &Value| {
            let mut index = served();
            index.ingest_service_account(put(account));
            index.ingest_credential(put(&credential("c1", 8, 2, spec)));
            let end = Event::Deleted(received(&credential("c1", 9, 2, spec)));
            index.ingest_credential(end)[0].concerned.clone()
        };
        let (shop, other): (Arc<str>, Arc<str>) = (Arc::from("shop"), Arc::from("other"));
        assert_eq!(concerned(&json!({}), &account("orphan")), std::slice::from_ref(&shop));
        assert_eq!(concerned(&json!({"suspend": true}), &account("orphan")), [other, shop.clone()]);
        // An invalid spec kept the name from rivals, wherever it selects.
        assert_eq!(concerned(&json!({"registries": []}), &account("")), [shop]);
    }

    #[test]
    fn a_serviceaccount_that_was_deleted_leaves_no_back_off() {
        let mut index = served();
        let shop: Arc<str> = Arc::from("shop");
        let patch = ListPatch {
            name: Arc::from("ci"),
            uid: Arc::from("a1"),
            resource_version: Arc::from("5"),
            list: Vec::new(),
            attach: BTreeSet::new(),
            detach: BTreeSet::new(),
            unmark: BTreeSet::new(),
            marked: BTreeSet::new(),
        };
        let steps = vec![Step::PatchServiceAccount(patch)];
        let now = Timestamp::UNIX_EPOCH;
        index.record(
            &Plan { namespace: shop.clone(), steps, ..Plan::default() },
            &[Err(StepError::Gone)],
            now,
        );
        let account =
            json!({"metadata": {"namespace": "shop", "name": "ci", "uid": "a1", "resourceVersion": "9"}});
        index.ingest_service_account(Event::Deleted(received(&account)));
        assert!(index.observe(&shop).unwrap().memory.wake_at(now).is_none());
    }

    #[test]
    fn nothing_is_remembered_of_a_namespace_that_does_not_exist() {
        let mut index = served();
        let shop: Arc<str> = Arc::from("shop");
        index.ingest_namespace(Event::Deleted(received(&namespace("shop", "n1", 9, &json!({})))));
        let plan = Plan { namespace: shop, ..Plan::default() };
        assert!(index.record(&plan, &[], Timestamp::UNIX_EPOCH).is_none());
        index.ingest_secret(&COPIES, Event::Deleted(received(&secret("s1", 10))));
        assert!(index.memories.is_empty());
    }

    #[test]
    fn a_replica_that_works_again_takes_no_source_for_what_it_was() {
        let mut index = served();
        let spec = spec_of(&index);
        look(&mut index, &spec, resolved(), Some(payload("one")));
        assert!(!index.awaits_local_sources());
        assert_eq!(index.start_over(), [name()]);
        assert!(index.awaits_local_sources());
        look(&mut index, &spec, failed(), None);
        assert_eq!(copy_of(&index), None, "a source that gives nothing brings no old copy back");
    }

    #[test]
    fn failures_that_the_next_look_may_cure_are_counted_until_one_is_none() {
        let mut index = served();
        let spec = spec_of(&index);
        let counts = [true, true, false, true].map(|retrying| {
            let request = None;
            let look = SourceLook { spec: spec.clone(), request, state: failed(), payload: None, retrying };
            index.take_look(&name(), look);
            index.credential(&name()).unwrap().failed_looks
        });
        assert_eq!(counts, [1, 2, 0, 1]);
    }

    #[test]
    fn the_answer_to_a_delete_does_not_concern_the_next_secret_of_that_name() {
        let shop: Arc<str> = Arc::from("shop");
        let deleted = Precondition { uid: Arc::from("s1"), resource_version: Arc::from("5") };
        let is_terminating = |index: &Index| index.observe(&shop).unwrap().secrets["pull"].terminating;
        let mut index = served();
        index.ingest_secret(&COPIES, put(&secret("s1", 5)));
        index.note_deleted_secret(&shop, "pull", &deleted);
        assert!(is_terminating(&index));
        for successor in [secret("s2", 7), secret("s1", 6)] {
            let mut index = served();
            index.ingest_secret(&COPIES, put(&successor));
            index.note_deleted_secret(&shop, "pull", &deleted);
            assert!(!is_terminating(&index), "{successor}");
        }
    }

    fn trust(index: &Index) -> Trust {
        index.observe(&Arc::from("shop")).unwrap().secrets["pull"].trust
    }

    #[test]
    fn what_others_wrote_since_our_own_write_is_doubtful_until_we_write_again() {
        let mut index = served();
        index.ingest_secret(&COPIES, Event::ListEnds);
        index.ingest_secret(&COPIES, put(&secret("s1", 5)));
        assert_eq!(trust(&index), Trust::Doubtful, "made by somebody while we watched");
        index.ingest_written_secret(received(&secret("s1", 6)));
        assert_eq!(trust(&index), Trust::Confirmed);
        index.ingest_secret(&COPIES, put(&secret("s1", 6)));
        assert_eq!(trust(&index), Trust::Confirmed, "the event of our own write");
        index.ingest_secret(&COPIES, put(&secret("s1", 7)));
        assert_eq!(trust(&index), Trust::Doubtful);
        index.ingest_secret(&COPIES, put(&secret("s1", 8)));
        index.ingest_written_secret(received(&secret("s1", 8)));
        assert_eq!(trust(&index), Trust::Confirmed, "the answer came after its event");
    }

    #[test]
    fn a_list_doubts_what_changed_during_a_gap_and_a_first_list_nothing() {
        let mut index = served();
        index.ingest_secret(&COPIES, Event::ListBegins);
        index.ingest_secret(&COPIES, put(&secret("s1", 5)));
        assert_eq!(trust(&index), Trust::Assumed);
        index.ingest_secret(&COPIES, Event::ListEnds);
        index.ingest_written_secret(received(&secret("s1", 6)));
        for (version, expected) in [(6, Trust::Confirmed), (9, Trust::Doubtful)] {
            index.ingest_secret(&COPIES, Event::ListBegins);
            index.ingest_secret(&COPIES, put(&secret("s1", version)));
            index.ingest_secret(&COPIES, Event::ListEnds);
            assert_eq!(trust(&index), expected, "{version}");
        }
    }

    #[test]
    fn one_who_begins_to_lead_does_not_doubt_what_the_last_leader_wrote() {
        let mut index = served();
        index.ingest_secret(&COPIES, Event::ListEnds);
        index.ingest_secret(&COPIES, put(&secret("s1", 5)));
        index.start_over();
        assert_eq!(trust(&index), Trust::Assumed);
        index.doubt_secrets_in(&Arc::from("shop"));
        assert_eq!(trust(&index), Trust::Doubtful);
    }

    #[test]
    fn a_copy_that_was_seen_in_full_stays_known_under_edited_marks() {
        let copy_of =
            |index: &Index| index.observe(&Arc::from("shop")).unwrap().secrets["pull"].copy_of.clone();
        let mut whole = secret("s1", 5);
        whole["metadata"]["labels"] = json!({"regcred.dev/credential": "pull"});
        whole["metadata"]["managedFields"] = json!([{
            "manager": "regcred", "operation": "Apply", "fieldsV1": {"f:data": {"f:.dockerconfigjson": {}}},
        }]);
        for (uid, known) in [("s1", true), ("s2", false)] {
            let mut index = served();
            index.ingest_secret(&COPIES, put(&whole));
            assert_eq!(copy_of(&index).as_deref(), Some("c1"));
            index.ingest_secret(&COPIES, put(&secret(uid, 6)));
            assert_eq!(copy_of(&index).is_some(), known, "{uid}");
        }
    }

    #[test]
    fn an_object_that_cannot_be_read_is_not_taken_for_deleted() {
        let mut index = served();
        index.ingest_credential(Event::ListBegins);
        let mut odd = credential("c1", 4, 1, &json!({}));
        odd["metadata"]["finalizers"] = json!(7);
        assert!(index.ingest_credential(put(&odd)).is_empty());
        assert!(index.ingest_credential(Event::ListEnds).is_empty());
        assert!(index.credential(&name()).is_some());
    }

    #[test]
    fn a_change_concerns_namespaces_selected_before_or_after_and_those_that_hold_a_copy() {
        let mut index = served();
        let spec = json!({"namespaces": {"matchNames": ["late"]}});
        index.ingest_namespace(put(&namespace("late", "n3", 4, &json!({}))));
        let changes = index.ingest_credential(put(&credential("c1", 5, 2, &spec)));
        assert_eq!(changes[0].concerned, [Arc::from("late"), Arc::from("shop")]);
        let spec = json!({"namespaces": {"matchNames": ["nowhere"]}});
        index.ingest_credential(put(&credential("c1", 6, 3, &spec)));
        index.ingest_secret(&COPIES, put(&secret("s1", 7)));
        let changes = index.ingest_credential(Event::Deleted(received(&credential("c1", 8, 3, &spec))));
        assert_eq!(changes[0].concerned, [Arc::from("shop")]);
        assert!(changes[0].deleted && changes[0].gone.as_deref() == Some("c1"));
    }

    /// A list of namespaces, as it is from now on.
    fn list_namespaces(index: &mut Index, namespaces: &[Value]) {
        index.ingest_namespace(Event::ListBegins);
        for namespace in namespaces {
            index.ingest_namespace(put(namespace));
        }
        index.ingest_namespace(Event::ListEnds);
    }

    #[test]
    fn nobody_is_deselected_before_every_namespace_was_looked_at_for_a_new_label() {
        let mut index = served();
        let shop = namespace("shop", "n1", 1, &json!({"pull": "yes", "tier": "gold"}));
        list_namespaces(&mut index, std::slice::from_ref(&shop));
        let spec = json!({"namespaces": {"selector": {"matchLabels": {"tier": "gold"}}}});
        let renamed = |tier: &str| json!({"namespaces": {"selector": {"matchLabels": {tier: "gold"}}}});
        let selects = |index: &Index| {
            let world = index.observe(&Arc::from("shop")).unwrap();
            world.credentials[0].active_spec().unwrap().namespaces.selects(&world.namespace)
        };
        assert!(index.ingest_credential(put(&credential("c1", 5, 2, &spec))).is_empty());
        assert!(selects(&index) && index.needs_list(Listed::Namespaces) && !index.is_complete());
        assert!(index.admit_credentials().is_empty());
        list_namespaces(&mut index, &[shop]);
        let changes = index.admit_credentials();
        assert_eq!((changes[0].concerned.clone(), selects(&index)), (vec![Arc::from("shop")], true));
        assert!(!index.needs_list(Listed::Namespaces));
        // One that ends, or is superseded, is waited for no longer.
        index.ingest_credential(put(&credential("c1", 6, 3, &renamed("team"))));
        assert!(index.needs_list(Listed::Namespaces));
        index.ingest_credential(Event::Deleted(received(&credential("c1", 7, 3, &renamed("team")))));
        assert!(!index.needs_list(Listed::Namespaces) && index.admit_credentials().is_empty());
        assert!(index.credential(&name()).is_none());
    }

    #[test]
    fn a_source_that_comes_to_be_named_is_listed_and_one_that_nobody_names_is_not_kept() {
        let mut index = served();
        let source = |name: &str| json!({"metadata": {"namespace": "regcred-system", "name": name, "resourceVersion": "4"}});
        let list = |index: &mut Index| {
            index.ingest_source(Event::ListBegins);
            for name in ["bot", "new"] {
                index.ingest_source(put(&source(name)));
            }
            index.ingest_source(Event::ListEnds);
        };
        list(&mut index);
        assert!(index.read("bot").is_some() && index.read("new").is_none());
        let registries = json!([{"server": "ghcr.io", "source": {"secretRef": {"name": "new"}}}]);
        let spec = json!({"registries": registries});
        assert!(index.ingest_credential(put(&credential("c1", 9, 2, &spec))).is_empty());
        assert!(index.needs_list(Listed::Sources) && index.read("bot").is_some());
        list(&mut index);
        assert_eq!(index.admit_credentials().len(), 1);
        assert!(index.read("bot").is_none() && index.read("new").is_some());
    }

    #[test]
    fn a_copy_whose_key_was_not_kept_is_read_again_from_a_write_that_changed_nothing() {
        let mut index = served();
        let mut copy = secret("s1", 5);
        copy["metadata"]["labels"] = json!({"team": "a"});
        copy["metadata"]["managedFields"] = json!([{
            "manager": "regcred", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:labels": {"f:team": {}}}},
        }]);
        index.ingest_secret(&COPIES, put(&copy));
        let labels = |index: &Index| {
            let marks = index.observe(&Arc::from("shop")).unwrap().secrets["pull"].marks.clone().unwrap();
            (marks.labels.len(), marks.owns_more)
        };
        assert_eq!(labels(&index), (0, true));
        let spec = json!({"target": {"metadata": {"labels": {"team": "a"}}}});
        index.ingest_credential(put(&credential("c1", 9, 2, &spec)));
        index.ingest_written_secret(received(&copy));
        assert_eq!(labels(&index), (1, false));
    }

    #[test]
    fn a_status_of_our_own_concerns_no_namespace_and_asks_for_no_look() {
        let mut index = served();
        let spec = spec_of(&index);
        look(&mut index, &spec, resolved(), Some(payload("one")));
        let mut written = credential("c1", 9, 1, &json!({}));
        written["status"] = json!({"observedGeneration": 1});
        let changes = index.ingest_credential(Event::Put(received(&written), Origin::OwnWrite));
        assert!(changes[0].concerned.is_empty() && changes[0].gone.is_none());
        assert!(!index.credential(&name()).unwrap().is_look_due());
        assert_eq!(copy_of(&index).as_deref(), Some("one as pull"));
    }

    #[test]
    fn a_request_for_a_refresh_is_due_until_it_is_acted_on() {
        let mut index = served();
        let spec = spec_of(&index);
        look(&mut index, &spec, resolved(), Some(payload("one")));
        let mut asked = credential("c1", 9, 1, &json!({}));
        asked["metadata"]["annotations"] = json!({"regcred.dev/requestedAt": "noon"});
        index.ingest_credential(put(&asked));
        assert!(index.credential(&name()).unwrap().is_look_due());
        look(&mut index, &spec, resolved(), Some(payload("one")));
        let entry = index.credential(&name()).unwrap();
        assert_eq!((entry.is_look_due(), entry.handled_request.as_deref()), (false, Some("noon")));
    }

    #[test]
    fn a_request_ends_back_offs_under_former_names_too() {
        for (name_of_secret, ends) in [("pull", true), ("former", true), ("of another", false)] {
            let mut index = served();
            let mut former = secret("s1", 4);
            former["metadata"]["name"] = json!("former");
            index.ingest_secret(&COPIES, put(&former));
            refuse_deletion(&mut index, name_of_secret);
            assert_eq!(index.forgive(&name()), [Arc::from("shop")]);
            assert_eq!(is_held_back(&index), !ends, "{name_of_secret}");
        }
    }

    #[test]
    fn what_a_source_last_gave_outlives_its_failure_and_a_spec_that_names_the_same_sources() {
        let mut index = served();
        let spec = spec_of(&index);
        assert_eq!(look(&mut index, &spec, resolved(), Some(payload("one"))), [Arc::from("shop")]);
        assert!(look(&mut index, &spec, failed(), None).is_empty());
        assert_eq!(copy_of(&index).as_deref(), Some("one as pull"));
        index.ingest_credential(put(&credential("c1", 9, 2, &json!({"target": {"name": "renamed"}}))));
        assert_eq!(copy_of(&index).as_deref(), Some("one as renamed"));
        assert!(index.credential(&name()).unwrap().is_look_due(), "a new spec is looked at all the same");
        let registries = json!([{"server": "ghcr.io", "source": {"secretRef": {"name": "another"}}}]);
        index.ingest_credential(put(&credential("c1", 10, 3, &json!({"registries": registries}))));
        assert_eq!(copy_of(&index), None);
    }

    #[test]
    fn what_was_asked_for_by_an_older_spec_is_not_taken() {
        let mut index = served();
        let outdated = spec_of(&index);
        index.ingest_credential(put(&credential("c1", 9, 2, &json!({}))));
        assert!(look(&mut index, &outdated, resolved(), Some(payload("one"))).is_empty());
        assert_eq!(copy_of(&index), None);
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

    #[test]
    fn a_source_secret_wakes_those_that_draw_on_it() {
        let mut index = served();
        let source = |name: &str, version: u64| json!({"metadata": {"namespace": "regcred-system", "name": name, "resourceVersion": version.to_string()}});
        assert!(index.ingest_source(put(&source("unrelated", 4))).is_empty());
        assert!(index.read("unrelated").is_none());
        assert_eq!(index.ingest_source(put(&source("bot", 5))), [name()]);
        assert!(index.read("bot").is_some());
        index.ingest_source(Event::ListBegins);
        assert_eq!(index.ingest_source(Event::ListEnds), [name()]);
        assert!(index.read("bot").is_none());
    }

    #[test]
    fn a_secret_that_was_deleted_is_no_longer_held_back() {
        let mut index = served();
        index.ingest_secret(&COPIES, put(&secret("s1", 5)));
        assert_eq!(
            index.ingest_secret(&COPIES, Event::Deleted(received(&secret("s1", 6)))),
            [Arc::from("shop")]
        );
        assert!(index.observe(&Arc::from("shop")).unwrap().secrets.is_empty());
    }

    #[test]
    fn looking_at_a_namespace_changes_nothing() {
        let index = served();
        assert!(index.observe(&Arc::from("nowhere")).is_none());
        let world = index.observe(&Arc::from("shop")).expect("a namespace");
        assert_eq!((world.namespace.labels["pull"].as_str(), world.credentials.len()), ("yes", 1));
    }
}
