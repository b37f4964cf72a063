//! Everything that was observed, as plain state: events go in, and the keys to requeue come out. It does no I/O
//! and knows no clock.
//!
//! | file | what it holds |
//! |---|---|
//! | `state` | the state itself, and what is asked of it |
//! | `namespaces`, `service_accounts`, `secrets`, `sources`, `credentials` | news of each kind |
//! | `concerned` | which namespaces a RegistryCredential concerns |
//! | `memories` | what is remembered of namespaces between passes |

mod concerned;
mod credentials;
#[cfg(test)]
mod fixtures;
mod memories;
mod namespaces;
mod secrets;
mod service_accounts;
mod sources;
mod state;

pub use credentials::CredentialChange;
pub use state::{Index, Listed};
