//! A cluster as it was read: one plain value, from which every report is made. It is the operator's own index and planner
//! that say what is selected, claimed and attached; what could not be read is known, too.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::{Failure, RegistryStatus};
use regcred_dockerconfig::{Keyring, SecretBytes, Server, repository_of};
use regcred_index::{
    Body, CredentialBody, CredentialEntry, Event, Index, NamespaceBody, Origin, Received, ServiceAccountBody,
};
use regcred_planner::{Pair, Plan, Role, ServiceAccount, Settings, World, plan};

use crate::pod::Pod;
use crate::text::some;

/// The kind of everything that is ours, as lines about unread objects name it.
pub(crate) const CREDENTIALS: &str = "RegistryCredentials";
/// How many namespaces a line about unread objects names.
const NAMED: usize = 3;

/// A cluster as it was read.
pub(crate) struct Scene {
    index: Index,
    pub(crate) pods: Vec<Pod>,
    pub(crate) unread: Unread,
    /// Secrets that Pods name, by namespace and name; `None` where nobody asked to read any.
    pub(crate) secrets: Option<BTreeMap<(String, String), Look>>,
    /// When it was read.
    pub(crate) now: Timestamp,
    /// Namespace of the operator.
    pub(crate) home: String,
    opened: BTreeMap<Arc<str>, Vec<Server>>,
    /// Every namespace was read, and not only that which a verb is about.
    pub(crate) has_all_namespaces: bool,
    /// How many namespaces each RegistryCredential selects, by its UID: counted once, after all was read.
    selected: OnceCell<BTreeMap<Arc<str>, usize>>,
    /// The same cluster with other RegistryCredentials, which is told of everything that is added here.
    pub(crate) twin: Option<Box<Scene>>,
}

/// What was refused, by kind: the namespaces, or nothing where the whole kind was.
#[derive(Default)]
pub(crate) struct Unread(BTreeMap<&'static str, BTreeSet<String>>);

/// A Secret that a Pod names.
pub(crate) enum Look {
    /// There is none.
    Missing,
    /// It was not shown.
    Refused,
    /// It is of a type that no kubelet pulls with.
    OtherType,
    /// Its value, as `.dockerconfigjson`.
    Config(SecretBytes),
}

/// A namespace with everything that the planner says of it.
pub(crate) struct Place {
    pub(crate) world: World,
    plan: Plan,
}

/// An image, as the kubelet looks for its credential.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// As the Pod names it.
    pub(crate) text: String,
    /// Its registry.
    pub(crate) host: String,
    /// With its registry, without tag and digest.
    repository: String,
    server: Option<Server>,
}

impl Image {
    /// Reads the image of a container. One that is no image is matched by nothing.
    pub(crate) fn new(text: &str) -> Self {
        let repository = repository_of(text).unwrap_or_default();
        let host = repository.split('/').next().unwrap_or_default().to_owned();
        Self { text: text.to_owned(), host, server: Server::parse(&repository).ok(), repository }
    }

    /// Whether the kubelet would use a credential for this server.
    pub(crate) fn is_opened_by(&self, server: &Server) -> bool {
        self.server.as_ref().is_some_and(|own| server.covers(own))
    }

    /// Whether the kubelet finds an entry for it; `None` if one such configuration fails every pull.
    pub(crate) fn finds(&self, config: &SecretBytes) -> Option<bool> {
        let keyring = Keyring::new([config.expose()]).ok()?;
        Some(!keyring.lookup(&self.repository).is_empty())
    }

    /// Its repository with its registry, as the kubelet looks for a credential.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// Its repository as a server, to look for entries of its host.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }
}

impl Unread {
    /// Notes that objects of a kind were refused: in a namespace, or everywhere, which says all.
    pub(crate) fn note(&mut self, kind: &'static str, namespace: Option<&str>) {
        match namespace {
            None => drop(self.0.insert(kind, BTreeSet::new())),
            Some(_) if self.lacks(kind) => {}
            Some(namespace) => drop(self.0.entry(kind).or_default().insert(namespace.to_owned())),
        }
    }

    /// One line for each kind.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |(kind, namespaces): (&&str, &BTreeSet<String>)| {
            let names: Vec<&String> = namespaces.iter().collect();
            match names.len() {
                0 => format!("{kind} not read: forbidden"),
                1 if *kind == "Namespaces" => format!("namespace {} not read: forbidden", names[0]),
                1 => format!("{kind} of namespace {} not read: forbidden", names[0]),
                count => format!("{kind} of {count} namespaces not read: {}", some(&names, NAMED, ", ")),
            }
        };
        self.0.iter().map(line).collect()
    }

    /// Whether this kind was refused everywhere.
    pub(crate) fn lacks(&self, kind: &str) -> bool {
        self.0.get(kind).is_some_and(BTreeSet::is_empty)
    }
}

impl Scene {
    /// A cluster of which nothing was read yet. `home` is the operator's namespace.
    pub(crate) fn new(home: &str, now: Timestamp) -> Self {
        Self {
            index: Index::new(Settings::default(), home),
            pods: Vec::new(),
            unread: Unread::default(),
            secrets: None,
            now,
            home: home.to_owned(),
            opened: BTreeMap::new(),
            has_all_namespaces: false,
            selected: OnceCell::new(),
            twin: None,
        }
    }

    /// Adds a RegistryCredential. All must be added before anything else: they say which labels count.
    pub(crate) fn add_credential(&mut self, received: Received<CredentialBody>) {
        let name: Arc<str> = Arc::from(received.name());
        if let Some(twin) = self.twin.as_mut().filter(|twin| twin.credential(&name).is_none()) {
            twin.add_credential(received.clone());
        }
        self.index.ingest_credential(put(received));
        let opened = self.index.credential(&name).map(servers).unwrap_or_default();
        self.opened.insert(name, opened);
    }

    /// Adds a namespace.
    pub(crate) fn add_namespace(&mut self, received: Received<NamespaceBody>) {
        if let Some(twin) = &mut self.twin {
            twin.add_namespace(received.clone());
        }
        self.index.ingest_namespace(put(received));
    }

    /// Adds a ServiceAccount.
    pub(crate) fn add_account(&mut self, received: Received<ServiceAccountBody>) {
        if let Some(twin) = &mut self.twin {
            twin.add_account(received.clone());
        }
        self.index.ingest_service_account(put(received));
    }

    /// The RegistryCredentials, by name.
    pub(crate) fn credentials(&self) -> impl Iterator<Item = (&Arc<str>, &CredentialEntry)> {
        self.index.credentials().iter()
    }

    /// One RegistryCredential.
    pub(crate) fn credential(&self, name: &str) -> Option<&CredentialEntry> {
        self.index.credential(&Arc::from(name))
    }

    /// The names of the namespaces that were read.
    pub(crate) fn namespaces(&self) -> Vec<Arc<str>> {
        self.index.namespaces().cloned().collect()
    }

    /// A namespace with everything that the planner says of it.
    pub(crate) fn place(&self, namespace: &str) -> Option<Place> {
        let world = self.index.observe(&Arc::from(namespace))?;
        let plan = plan(&world, self.now);
        Some(Place { world, plan })
    }

    /// All namespaces.
    pub(crate) fn places(&self) -> BTreeMap<String, Place> {
        let names = self.namespaces().into_iter();
        names.filter_map(|name| Some((name.to_string(), self.place(&name)?))).collect()
    }

    /// How many namespaces a RegistryCredential selects; `None` where not all were read.
    pub(crate) fn selected(&self, entry: &CredentialEntry) -> Option<usize> {
        self.has_all_namespaces.then_some(())?;
        let counts = self.selected.get_or_init(|| self.count_selected());
        Some(counts.get(&entry.planned.uid).copied().unwrap_or_default())
    }

    fn count_selected(&self) -> BTreeMap<Arc<str>, usize> {
        let mut counts = BTreeMap::new();
        for place in self.places().into_values() {
            for pair in place.plan.pairs.iter().filter(|pair| pair.role == Role::Wanted) {
                *counts.entry(pair.credential.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// What a Pod of this ServiceAccount gets as its list.
    pub(crate) fn list_of(&self, namespace: &str, account: &str) -> Vec<String> {
        let place = self.place(namespace);
        let account = place.as_ref().and_then(|place| place.account(account));
        account.iter().flat_map(|account| &account.image_pull_secrets).map(ToString::to_string).collect()
    }

    /// The servers that a RegistryCredential opens.
    pub(crate) fn servers(&self, name: &str) -> &[Server] {
        self.opened.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The RegistryCredentials that open an image, wherever they are selected.
    pub(crate) fn openers(&self, image: &Image) -> Vec<(&Arc<str>, &CredentialEntry)> {
        let opens = |name: &str| self.servers(name).iter().any(|server| image.is_opened_by(server));
        self.credentials().filter(|(name, entry)| !entry.planned.deleting && opens(name)).collect()
    }

    /// What was seen of a Secret.
    pub(crate) fn look(&self, namespace: &str, name: &str) -> Option<&Look> {
        self.secrets.as_ref()?.get(&(namespace.to_owned(), name.to_owned()))
    }
}

impl Place {
    /// What a RegistryCredential gets here; `None` if it does not select the namespace.
    pub(crate) fn pair(&self, entry: &CredentialEntry) -> Option<&Pair> {
        let is_its = |pair: &&Pair| pair.role == Role::Wanted && pair.credential == entry.planned.uid;
        self.plan.pairs.iter().find(is_its)
    }

    /// A ServiceAccount, if it was read.
    pub(crate) fn account(&self, name: &str) -> Option<&ServiceAccount> {
        self.world.service_accounts.get(name)
    }
}

/// What the operator says of objects in a namespace.
pub(crate) fn failures<'a>(
    entry: &'a CredentialEntry,
    namespace: &'a str,
    kind: &'a str,
) -> impl Iterator<Item = &'a Failure> {
    let all = entry.object.status.iter().flat_map(|status| &status.failures);
    all.filter(move |failure| failure.namespace == namespace && failure.kind == kind)
}

/// What status says of the server that opens an image.
pub(crate) fn registry_of<'a>(entry: &'a CredentialEntry, image: &Image) -> Option<&'a RegistryStatus> {
    let all = entry.object.status.iter().flat_map(|status| &status.registries);
    let opens = |registry: &&RegistryStatus| {
        Server::parse(&registry.server).is_ok_and(|server| image.is_opened_by(&server))
    };
    all.filter(opens).max_by_key(|registry| registry.server.len())
}

fn servers(entry: &CredentialEntry) -> Vec<Server> {
    let told =
        entry.object.status.iter().flat_map(|status| &status.registries).map(|registry| &registry.server);
    let wanted = entry.object.spec.iter().flat_map(|spec| &spec.registries).map(|registry| &registry.server);
    let parsed: BTreeSet<Server> = told.chain(wanted).filter_map(|text| Server::parse(text).ok()).collect();
    parsed.into_iter().collect()
}

fn put<T: Body>(received: Received<T>) -> Event<T> {
    Event::Put(received, Origin::Watch)
}

/// Scenes that the tests of several files look at.
#[cfg(test)]
pub(crate) mod fixtures {
    use serde_json::{Value, json};

    use super::*;

    /// The time of every scene.
    pub(crate) const NOW: &str = "2026-11-25T12:00:00Z";

    /// A small cluster in the making.
    pub(crate) struct Stage(pub(crate) Scene);

    impl Stage {
        pub(crate) fn new() -> Self {
            let mut scene = Scene::new("regcred-system", NOW.parse().expect("a time"));
            scene.has_all_namespaces = true;
            Self(scene)
        }

        /// A RegistryCredential for one server that is in place everywhere; `more` is merged into it.
        pub(crate) fn credential(mut self, name: &str, server: &str, more: &Value) -> Self {
            self.0.add_credential(read(&credential(name, server, more)));
            self
        }

        pub(crate) fn namespace(mut self, name: &str, labels: &Value) -> Self {
            self.0.add_namespace(read(&json!({"metadata": {"name": name, "uid": name, "labels": labels}})));
            self
        }

        pub(crate) fn account(mut self, namespace: &str, name: &str, list: &[&str]) -> Self {
            let list: Vec<Value> = list.iter().map(|name| json!({"name": name})).collect();
            let metadata =
                json!({"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}")});
            self.0.add_account(read(&json!({"metadata": metadata, "imagePullSecrets": list})));
            self
        }

        /// A Pod of one container that waits with `state`, or has pulled where that is empty.
        pub(crate) fn pod(self, place: &str, list: &[&str], image: &str, state: &str) -> Self {
            self.pod_of(place, "default", list, image, state)
        }

        pub(crate) fn pod_of(
            mut self,
            place: &str,
            account: &str,
            list: &[&str],
            image: &str,
            state: &str,
        ) -> Self {
            self.0.pods.push(pod(place, account, list, image, state));
            self
        }

        pub(crate) fn secret(mut self, place: &str, look: Look) -> Self {
            let (namespace, name) = place.split_once('/').expect("NAMESPACE/NAME");
            let key = (namespace.to_owned(), name.to_owned());
            self.0.secrets.get_or_insert_default().insert(key, look);
            self
        }
    }

    pub(crate) fn credential(name: &str, server: &str, more: &Value) -> Value {
        let mut object = json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1, "finalizers": ["regcred.dev/cleanup"],
                         "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "registries": [{"server": server, "source": {"secretRef": {"name": "bot"}}}],
                "namespaces": {"selector": {"matchLabels": {"pull": "private"}}},
            },
            "status": {
                "observedGeneration": 1,
                "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "all in place",
                                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "registries": [{"server": server, "source": "Secret", "fingerprint": "605bf0f6",
                                "refreshedAt": "2026-11-25T11:52:00Z"}],
                "namespaces": {"matched": 9, "synced": 9},
                "fingerprint": "sha256:1",
            },
        });
        merge(&mut object, more);
        object
    }

    fn pod(place: &str, account: &str, list: &[&str], image: &str, state: &str) -> Pod {
        let (namespace, name) = place.split_once('/').expect("NAMESPACE/NAME");
        let list: Vec<Value> = list.iter().map(|name| json!({"name": name})).collect();
        let status = match state {
            "" => json!({"name": "c", "imageID": "sha256:1"}),
            state => {
                json!({"name": "c", "state": {"waiting": {"reason": state, "message": "401 Unauthorized"}}})
            }
        };
        let (name, owner) = match name.split_once(':') {
            Some((name, kind)) => (name, json!([{"kind": kind, "name": name, "controller": true}])),
            None => (name, json!([])),
        };
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name, "ownerReferences": owner},
            "spec": {"serviceAccountName": account, "imagePullSecrets": list, "containers": [{"name": "c", "image": image}]},
            "status": {"containerStatuses": [status]},
        }))
        .expect("a Pod")
    }

    pub(crate) fn read<T: Body>(object: &Value) -> Received<T> {
        serde_json::from_str(&object.to_string()).expect("an object with a name")
    }

    fn merge(object: &mut Value, more: &Value) {
        match (object, more) {
            (Value::Object(object), Value::Object(more)) => {
                more.iter().for_each(|(key, value)| merge(object.entry(key).or_insert(Value::Null), value));
            }
            (object, more) => *object = more.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::fixtures::Stage;
    use super::*;

    #[test]
    fn servers_of_status_count_too() {
        let more = json!({"status": {"registries": [{"server": "quay.io", "source": "Secret", "fingerprint": "f",
                          "refreshedAt": "2026-01-01T00:00:00Z"}]}});
        let scene = Stage::new().credential("pull", "ghcr.io", &more).0;
        let opens = |image: &str| scene.openers(&Image::new(image)).len();
        assert_eq!(
            [opens("quay.io/a/b:1"), opens("ghcr.io/a/b@sha256:x"), opens("ghcr.io/a/b"), opens("nginx")],
            [1, 0, 1, 0]
        );
    }

    #[test]
    fn what_was_refused_is_one_line_for_each_kind() {
        let mut unread = Unread::default();
        unread.note("Namespaces", Some("a"));
        unread.note("Namespaces", None);
        unread.note("Namespaces", Some("b"));
        for name in ["a", "b", "c", "d"] {
            unread.note("Pods", Some(name));
        }
        assert_eq!(
            unread.lines(),
            ["Namespaces not read: forbidden", "Pods of 4 namespaces not read: a, b, c, … 1 more"]
        );
        assert!(unread.lacks("Namespaces") && !unread.lacks("Pods"));
    }
}
