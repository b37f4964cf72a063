//! Everything that was observed, as plain state. Objects of the API server go in, only the fields that planning needs
//! are kept, and the keys to requeue come out. Nothing here talks to a cluster or reads a clock.
//!
//! | file | what it holds |
//! |---|---|
//! | `received` | what a list, a watch or an answer delivers; one that cannot be read fails nothing else |
//! | `metadata` | `metadata` as far as it is read, leniently |
//! | `decode` | received objects become the planner's data |
//! | `event` | one event of a list or a watch |
//! | `interest` | what RegistryCredentials ask of other objects: nothing else of those is kept |
//! | `intern` | one copy of what thousands of objects have in common |
//! | `shelf` | the objects of one watch, by namespace and name |
//! | `scope` | which Secrets each watch delivers, as a field selector |
//! | `credentials` | RegistryCredentials, and what was made of each |
//! | `index` | all of it: ingest an event, observe a namespace |

mod credentials;
mod decode;
mod event;
mod index;
mod interest;
mod intern;
mod metadata;
mod received;
mod scope;
mod shelf;

pub use credentials::{CredentialEntry, Credentials, SourceLook};
pub use decode::{
    CredentialBody, CredentialObject, NamespaceBody, SecretBody, ServiceAccountBody, SourceSecretBody,
};
pub use event::Event;
pub use index::{CredentialChange, Index, Listed};
pub use received::{Body, Received, Undecodable, Unread};
pub use scope::SecretScope;
pub use shelf::Origin;
