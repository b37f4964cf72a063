//! The RegistryCredentials, and what was made of each. The shelf is private: each change goes through a
//! method here, because it must also rebuild the snapshot for the planner.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::RegistryStatus;
use regcred_dockerconfig::SecretBytes;
use regcred_planner::{Credential, Payload, SecretCopy, Settings, SourceState, Uid, Validated, validate};
use regcred_sources::needs_network;

use crate::decode::CredentialObject;
use crate::interest::{Asked, Interests};
use crate::shelf::{Key, Origin, Shelf, Version, cluster_key};

/// A RegistryCredential and what was made of it.
#[derive(Debug)]
pub struct CredentialEntry {
    /// As observed.
    pub object: CredentialObject,
    /// As the planner takes it.
    pub planned: Arc<Credential>,
    /// What its sources gave; `None` before this generation's first look at them.
    pub source: Option<SourceState>,
    /// The request for a refresh that was last acted on.
    pub handled_request: Option<String>,
    /// The request for a refresh for which a registry is being asked.
    asked_request: Option<String>,
    /// Whether the last look came to nothing because a registry is yet to be asked.
    pub(crate) awaits_registry: bool,
    /// How many looks in a row failed in a way that the next may not.
    pub failed_looks: u32,
    /// What it asks of other objects.
    asked: Asked,
}

/// A look at the sources of a RegistryCredential: what it was made for, and what it came to.
pub struct SourceLook {
    /// The spec that names the sources.
    pub spec: Arc<Validated>,
    /// The request for a refresh that was there when it began.
    pub request: Option<String>,
    /// What the sources gave, in words.
    pub state: SourceState,
    /// What the sources gave; `None` leaves the last good copy.
    pub payload: Option<Payload>,
    /// It failed in a way that the next look may not.
    pub retrying: bool,
}

/// A RegistryCredential before and after an event.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) before: Option<Arc<Credential>>,
    pub(crate) after: Option<Arc<Credential>>,
    /// It asks for something else than before, or no more.
    pub(crate) asks_anew: bool,
}

impl Change {
    /// Whether the object is being deleted from now on.
    pub(crate) fn begins_deletion(&self) -> bool {
        let deleting = |version: &Option<Arc<Credential>>| version.as_ref().is_some_and(|own| own.deleting);
        deleting(&self.after) && !deleting(&self.before)
    }
}

/// All RegistryCredentials.
#[derive(Debug, Default)]
pub struct Credentials {
    settings: Settings,
    shelf: Shelf<CredentialEntry>,
    /// Versions that ask for what is not known of every object yet. Until it is, they count as not received: the former
    /// version stays in force, and nobody is deselected for a label that nobody has looked at.
    waiting: BTreeMap<Arc<str>, Waiting>,
    planned: Arc<[Arc<Credential>]>,
}

/// A version that was received and is not in force yet.
#[derive(Debug)]
struct Waiting {
    version: Version,
    origin: Origin,
    entry: CredentialEntry,
}

impl CredentialEntry {
    fn new(name: &Arc<str>, object: CredentialObject, settings: &Settings) -> Self {
        let spec = object.spec.as_ref().map_err(Clone::clone);
        let spec = spec.and_then(|spec| validate(name, spec, settings)).map(Arc::new);
        let planned = Credential {
            name: name.clone(),
            uid: object.uid.clone(),
            created: object.created,
            deleting: object.deleting,
            finalized: object.finalizers.iter().any(|own| own == regcred_api::names::FINALIZER),
            scope: object.scope.clone(),
            deletion_policy: object.deletion_policy,
            spec,
            copy: None,
        };
        let handled_request = object.status.as_ref().and_then(|status| status.last_handled_request.clone());
        let asked = Asked::by(&planned);
        Self {
            object,
            planned: Arc::new(planned),
            source: None,
            handled_request,
            asked_request: None,
            awaits_registry: false,
            failed_looks: 0,
            asked,
        }
    }

    /// The spec by which its sources are looked at; `None` while they are not: invalid, suspended, being deleted.
    pub fn wanted_sources(&self) -> Option<&Arc<Validated>> {
        self.planned.active_spec().filter(|spec| !spec.suspend)
    }

    /// Whether looking at its sources asks no network.
    pub fn has_local_sources(&self) -> bool {
        let is_local = |spec: &Arc<Validated>| spec.registries.iter().all(|own| !needs_network(&own.source));
        self.wanted_sources().is_some_and(is_local)
    }

    /// Whether looking at its sources asks a network.
    pub fn asks_network(&self) -> bool {
        self.wanted_sources().is_some() && !self.has_local_sources()
    }

    /// Whether its sources are to be looked at before their time: they never were for this spec, or somebody asked.
    pub fn is_look_due(&self) -> bool {
        self.wanted_sources().is_some() && (self.source.is_none() || self.is_refresh_asked())
    }

    /// When the credential of each server ends, as far as that is known: by its name, with the kind of its source.
    pub fn ends(&self) -> BTreeMap<String, (String, Timestamp)> {
        let told = self.object.status.iter().flat_map(|status| &status.registries);
        let end = |registry: &RegistryStatus| {
            let end = registry.expires_at.as_ref()?.0;
            Some((registry.server.clone(), (registry.source.clone(), end)))
        };
        let mut ends: BTreeMap<_, _> = told.filter_map(end).collect();
        // What this process saw last is newer than a status that is yet to be written.
        for registry in self.source.iter().flat_map(SourceState::registries) {
            let end = registry.expires_at.map(|end| (registry.kind.to_owned(), end));
            match end {
                Some(end) => drop(ends.insert(registry.server.clone(), end)),
                None => drop(ends.remove(&registry.server)),
            }
        }
        ends
    }

    /// Whether its status is about the present spec.
    pub fn has_present_status(&self) -> bool {
        let observed = self.object.status.as_ref().and_then(|status| status.observed_generation);
        observed.is_some() && observed == self.object.generation
    }

    /// What was made of its sources last, if this process made it.
    pub fn last_content(&self) -> Option<SecretBytes> {
        self.planned.copy.as_ref().map(|copy| copy.payload.content.clone())
    }

    /// Whether somebody asked for a refresh that was not acted on yet.
    pub fn is_refresh_asked(&self) -> bool {
        self.object.requested_at.is_some() && self.object.requested_at != self.handled_request
    }

    /// Whether somebody asked for a refresh for which nothing was done yet.
    pub fn is_refresh_new(&self) -> bool {
        self.is_refresh_asked() && self.object.requested_at != self.asked_request
    }

    /// Keeps what is known of the object's earlier version. What its sources last gave outlives a change of the
    /// spec that names the same sources.
    fn inherit(&mut self, old: &Self) {
        if old.object.uid != self.object.uid {
            return;
        }
        self.handled_request.clone_from(&old.handled_request);
        self.asked_request.clone_from(&old.asked_request);
        if old.object.generation == self.object.generation {
            self.source.clone_from(&old.source);
            self.awaits_registry = old.awaits_registry;
            self.failed_looks = old.failed_looks;
            let Credential { scope, spec, copy, .. } = (*old.planned).clone();
            self.planned = Arc::new(Credential { scope, spec, copy, ..(*self.planned).clone() });
        } else if let (Ok(was), Ok(is), Some(copy)) =
            (&old.planned.spec, &self.planned.spec, &old.planned.copy)
            && was.has_sources_of(is)
        {
            let copy = SecretCopy::new(&self.planned.name, &self.planned.uid, is, copy.payload.clone());
            self.planned = Arc::new(Credential { copy: Some(Arc::new(copy)), ..(*self.planned).clone() });
        }
    }
}

impl Credentials {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The entry of this name.
    pub fn get(&self, name: &Arc<str>) -> Option<&CredentialEntry> {
        self.shelf.get(&cluster_key(name))
    }

    /// All entries by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &CredentialEntry)> {
        self.shelf.iter().map(|((_, name), entry)| (name, entry))
    }

    /// Whether some status is not about the present spec: whoever works writes it within seconds.
    pub fn lack_status(&self) -> bool {
        let lacks = |object: &CredentialObject| {
            let observed = object.status.as_ref().and_then(|status| status.observed_generation);
            !object.deleting && object.generation.is_some() && observed != object.generation
        };
        self.iter().any(|(_, entry)| lacks(&entry.object))
    }

    /// As the planner takes them.
    pub fn planned(&self) -> &Arc<[Arc<Credential>]> {
        &self.planned
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.shelf.is_complete()
    }

    pub(crate) fn begin(&mut self) {
        self.shelf.begin();
        // The list mentions whatever exists.
        self.waiting.clear();
    }

    /// Says that an object which cannot be read still exists.
    pub(crate) fn touch(&mut self, name: &Arc<str>) {
        self.shelf.touch(&cluster_key(name));
    }

    /// Ingests an object, which [`Self::admit`] puts in force. Returns what it asks for; `None` if what is here is as new
    /// or newer.
    pub(crate) fn receive(
        &mut self,
        name: &Arc<str>,
        version: Version,
        object: CredentialObject,
        origin: Origin,
    ) -> Option<&Asked> {
        self.touch(name);
        // Asked now: the watch may be past it by the time that it is put in force.
        if !self.shelf.accepts(version, origin) {
            return None;
        }
        let is_newer = |waiting: &Waiting| version != 0 && waiting.version > version;
        if self.shelf.is_outdated(&cluster_key(name), version) || self.waiting.get(name).is_some_and(is_newer)
        {
            return None;
        }
        let entry = CredentialEntry::new(name, object, &self.settings);
        self.waiting.insert(name.clone(), Waiting { version, origin, entry });
        self.waiting.get(name).map(|waiting| &waiting.entry.asked)
    }

    /// What is asked for by the objects in force and by those that wait.
    pub(crate) fn asked(&self) -> Asked {
        let mut asked = Asked::default();
        let waiting = self.waiting.values().map(|waiting| &waiting.entry);
        self.shelf.iter().map(|(_, entry)| entry).chain(waiting).for_each(|entry| asked.add(&entry.asked));
        asked
    }

    /// Puts in force what waits for nothing any more.
    pub(crate) fn admit(&mut self, interests: &Interests) -> Vec<(Arc<str>, Change)> {
        let ready: Vec<_> =
            self.waiting.extract_if(.., |_, waiting| interests.know(&waiting.entry.asked)).collect();
        if ready.is_empty() {
            return Vec::new();
        }
        let changes = ready.into_iter().filter_map(|(name, waiting)| {
            let change = self.apply(&name, waiting)?;
            Some((name, change))
        });
        let changes = changes.collect();
        self.renew();
        changes
    }

    /// `None` if what is here is as new or newer.
    fn apply(&mut self, name: &Arc<str>, waiting: Waiting) -> Option<Change> {
        let Waiting { version, origin, mut entry } = waiting;
        let old = self.get(name);
        let before = old.map(|old| old.planned.clone());
        let asks_anew = old.is_some_and(|old| old.asked != entry.asked);
        if let Some(old) = old {
            entry.inherit(old);
        }
        let after = entry.planned.clone();
        let applied = self.shelf.place(cluster_key(name), version, entry, origin);
        applied.then_some(Change { before, after: Some(after), asks_anew })
    }

    pub(crate) fn delete(&mut self, name: &Arc<str>, version: Version) -> Option<Change> {
        if self.waiting.get(name).is_some_and(|waiting| version == 0 || waiting.version <= version) {
            self.waiting.remove(name);
        }
        let entry = self.shelf.delete(&cluster_key(name), version)?;
        self.renew();
        Some(Change { before: Some(entry.planned), after: None, asks_anew: true })
    }

    /// Ends a list. Returns those that it did not mention.
    pub(crate) fn finish(&mut self) -> Vec<(Arc<str>, Change)> {
        let gone = self.shelf.finish();
        self.renew();
        let change = |((_, name), entry): (Key, CredentialEntry)| {
            (name, Change { before: Some(entry.planned), after: None, asks_anew: true })
        };
        gone.into_iter().map(change).collect()
    }

    /// Takes what a look at the sources came to, unless the spec is another by now. Where they gave nothing, the last
    /// good copy stays. Returns the credential if its copy changed.
    pub(crate) fn take_look(&mut self, name: &Arc<str>, look: SourceLook) -> Option<Arc<Credential>> {
        let shared = look.payload.as_ref().and_then(|payload| self.equal_payload(payload));
        let entry = self.shelf.get_mut(&cluster_key(name))?;
        let spec = entry.planned.spec.as_ref().ok().filter(|spec| Arc::ptr_eq(spec, &look.spec))?;
        let payload = look.payload.map(|payload| match &shared {
            Some(other) => payload.sharing(&other.payload),
            None => payload,
        });
        let copy = payload
            .map(|payload| Arc::new(SecretCopy::new(&entry.planned.name, &entry.planned.uid, spec, payload)));
        let changed = copy.is_some() && entry.planned.copy != copy;
        if changed {
            entry.planned = Arc::new(Credential { copy, ..(*entry.planned).clone() });
        }
        entry.source = Some(look.state);
        entry.handled_request = look.request;
        entry.awaits_registry = false;
        entry.failed_looks = if look.retrying { entry.failed_looks.saturating_add(1) } else { 0 };
        let after = changed.then(|| entry.planned.clone());
        self.renew();
        after
    }

    /// Notes that a look came to nothing yet, because a registry is to be asked first.
    pub(crate) fn note_awaited(&mut self, name: &Arc<str>, spec: &Arc<Validated>, request: Option<String>) {
        let entry = self.shelf.get_mut(&cluster_key(name));
        let is_of = |entry: &&mut CredentialEntry| {
            entry.planned.spec.as_ref().is_ok_and(|own| Arc::ptr_eq(own, spec))
        };
        if let Some(entry) = entry.filter(is_of) {
            entry.awaits_registry = true;
            entry.asked_request = request;
        }
    }

    /// A copy that holds the same as this payload.
    fn equal_payload(&self, payload: &Payload) -> Option<Arc<SecretCopy>> {
        let mut copies = self.planned.iter().filter_map(|credential| credential.copy.as_ref());
        copies.find(|copy| copy.payload.content == payload.content).cloned()
    }

    /// Forgets what all sources gave. Returns the names of those that are to be looked at.
    pub(crate) fn forget_sources(&mut self) -> Vec<Arc<str>> {
        let mut wanted = Vec::new();
        for ((_, name), entry) in self.shelf.iter_mut() {
            entry.source = None;
            entry.awaits_registry = false;
            entry.planned = Arc::new(Credential { copy: None, ..(*entry.planned).clone() });
            if entry.wanted_sources().is_some() {
                wanted.push(name.clone());
            }
        }
        self.renew();
        wanted
    }

    /// Notes that our finalizer is off this object. Its watch says when the object no longer exists.
    pub(crate) fn note_released(&mut self, name: &Arc<str>, uid: &Uid) {
        let entry = self.shelf.get_mut(&cluster_key(name)).filter(|entry| entry.planned.uid == *uid);
        if let Some(entry) = entry {
            entry.planned = Arc::new(Credential { finalized: false, ..(*entry.planned).clone() });
        }
        self.renew();
    }

    fn renew(&mut self) {
        self.planned = self.shelf.iter().map(|(_, entry)| entry.planned.clone()).collect();
    }
}
