//! The kinds that the server knows, and how they stand in a path.

use serde_json::Value;

/// A kind of object.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// `v1` Namespace.
    Namespace,
    /// `v1` ServiceAccount.
    ServiceAccount,
    /// `v1` Secret.
    Secret,
    /// `regcred.dev/v1alpha1` RegistryCredential.
    RegistryCredential,
    /// `coordination.k8s.io/v1` Lease.
    Lease,
    /// `events.k8s.io/v1` Event.
    Event,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Namespace,
        Self::ServiceAccount,
        Self::Secret,
        Self::RegistryCredential,
        Self::Lease,
        Self::Event,
    ];

    /// `apiVersion`.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Namespace | Self::ServiceAccount | Self::Secret => "v1",
            Self::RegistryCredential => "regcred.dev/v1alpha1",
            Self::Lease => "coordination.k8s.io/v1",
            Self::Event => "events.k8s.io/v1",
        }
    }

    /// The group, where it is not the core's.
    pub fn group(self) -> Option<&'static str> {
        self.api_version().split_once('/').map(|(group, _)| group)
    }

    /// `kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::ServiceAccount => "ServiceAccount",
            Self::Secret => "Secret",
            Self::RegistryCredential => "RegistryCredential",
            Self::Lease => "Lease",
            Self::Event => "Event",
        }
    }

    /// As in paths.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::ServiceAccount => "serviceaccounts",
            Self::Secret => "secrets",
            Self::RegistryCredential => "registrycredentials",
            Self::Lease => "leases",
            Self::Event => "events",
        }
    }

    /// Whether its objects stand in namespaces.
    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::RegistryCredential)
    }

    /// Whether its spec has generations, and a status of its own.
    pub const fn has_generation(self) -> bool {
        matches!(self, Self::RegistryCredential)
    }

    /// Whether the garbage collector knows it.
    pub const fn is_collected(self) -> bool {
        !matches!(self, Self::Event)
    }

    /// Whether a PUT needs a resourceVersion.
    pub const fn needs_version(self) -> bool {
        matches!(self, Self::RegistryCredential | Self::Lease)
    }

    /// Whether a PUT makes an object that is not there.
    pub const fn is_made_by_put(self) -> bool {
        matches!(self, Self::Lease | Self::Event)
    }

    fn of(api_version: &str, plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.api_version() == api_version && kind.plural() == plural)
    }
}

/// What identifies an object; the namespace is empty for a cluster-scoped one.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// Kind.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of an object.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key under which an object of a kind says it stands.
    pub fn of(kind: Kind, object: &Value) -> Self {
        let text = |member: &str| object["metadata"][member].as_str().unwrap_or_default();
        Self::new(kind, text("namespace"), text("name"))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.kind.plural(), self.namespace, self.name)
    }
}

/// What a path names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Kind.
    pub kind: Kind,
    /// Namespace; `None`: all.
    pub namespace: Option<String>,
    /// Name; `None`: the collection.
    pub name: Option<String>,
    /// Whether the subresource `status` is meant.
    pub status: bool,
}

impl Target {
    /// Takes a path apart.
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (api_version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            _ => (None, rest),
        };
        let (plural, rest) = rest.split_first()?;
        Some(Self {
            kind: Kind::of(&api_version, plural)?,
            namespace,
            name: rest.first().map(|name| (*name).to_owned()),
            status: rest.get(1) == Some(&"status"),
        })
    }

    /// The key of the one object that is meant.
    pub fn key(&self) -> Key {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        Key::new(self.kind, namespace, self.name.as_deref().unwrap_or_default())
    }
}
