//! What a list, a watch or an answer delivers. Reading one object never fails the stream that carries it: one
//! that does not fit its type is handed on as [`Undecodable`], with its name, to be skipped and reported.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use kube_core::{ObjectMeta, Resource};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::metadata::Metadata;

/// What regcred reads of a kind.
pub trait Body: DeserializeOwned + Clone + Send + 'static {
    /// The kind whose objects these are.
    type Kind: Resource<DynamicType = ()>;

    /// Whether the API server is asked for metadata alone.
    const METADATA_ONLY: bool = false;

    /// Its metadata.
    fn metadata(&self) -> &Metadata;
}

/// An object as its text, of which no more is read than what kube's watcher needs of each. A page of a list so takes its
/// bytes, and not the several times as much that all its objects would take when they are read.
#[derive(Clone)]
pub struct Unread<T> {
    /// Name, namespace and version.
    identity: ObjectMeta,
    text: Box<RawValue>,
    body: PhantomData<fn() -> T>,
}

/// An object that was received, or what is known of one that does not fit its type.
#[derive(Clone)]
pub struct Received<T> {
    /// Name, namespace and version.
    identity: ObjectMeta,
    /// The bytes of its text.
    bytes: usize,
    body: Result<T, Undecodable>,
}

/// An object that does not fit its type. Says nothing of what it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Undecodable;

/// The members that name an object, which are read first and whatever else is in it.
#[derive(Deserialize)]
struct Named {
    metadata: Names,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Names {
    name: String,
    namespace: String,
    resource_version: String,
}

impl<T> Received<T> {
    /// `metadata.namespace`; empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        self.identity.namespace.as_deref().unwrap_or_default()
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.identity.name.as_deref().unwrap_or_default()
    }

    /// `metadata.resourceVersion`.
    pub fn resource_version(&self) -> &str {
        self.identity.resource_version.as_deref().unwrap_or_default()
    }

    /// How many bytes of text it came as: an answer that repeats it takes as many.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it fits its type.
    pub fn is_readable(&self) -> bool {
        self.body.is_ok()
    }

    /// What was read of it; `None` if it does not fit its type.
    pub fn body(&self) -> Option<&T> {
        self.body.as_ref().ok()
    }

    /// What was read of it.
    pub fn into_body(self) -> Result<T, Undecodable> {
        self.body
    }
}

impl<T: Body> Unread<T> {
    /// Reads it.
    pub fn read(self) -> Received<T> {
        Received {
            identity: self.identity,
            bytes: self.text.get().len(),
            body: serde_json::from_str(self.text.get()).map_err(|_| Undecodable),
        }
    }
}

impl<T> fmt::Debug for Received<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.name())
    }
}

impl<T> fmt::Debug for Unread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that was not read")
    }
}

/// An event must name its type before its object, as Kubernetes writes it: otherwise serde keeps the object, and no text is
/// left of it. The text of the object is taken whole first: an error within it then ends where the object ends. Taking it is
/// not limited in depth, as reading it is (`serde_json` stops at 128 levels).
impl<'de, T> Deserialize<'de> for Unread<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        // The text of an error may quote the object, so it is replaced.
        let Named { metadata: Names { namespace, name, resource_version } } =
            serde_json::from_str(text.get()).map_err(|_| D::Error::custom("an object without a name"))?;
        Ok(Self { identity: identity(&namespace, &name, &resource_version), text, body: PhantomData })
    }
}

impl<'de, T: Body> Deserialize<'de> for Received<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Unread::deserialize(deserializer).map(Unread::read)
    }
}

fn identity(namespace: &str, name: &str, resource_version: &str) -> ObjectMeta {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ObjectMeta {
        namespace: text(namespace),
        name: text(name),
        resource_version: text(resource_version),
        ..ObjectMeta::default()
    }
}

macro_rules! resource {
    ($of:ident) => {
        impl<T: Body> Resource for $of<T> {
            type DynamicType = ();
            type Scope = <T::Kind as Resource>::Scope;

            fn metadata_api() -> bool {
                T::METADATA_ONLY
            }

            fn kind((): &()) -> Cow<'_, str> {
                T::Kind::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                T::Kind::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                T::Kind::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                T::Kind::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.identity
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.identity
            }
        }
    };
}

resource!(Received);
resource!(Unread);
