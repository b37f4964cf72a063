//! `.dockerconfigjson`, as the kubelet takes it: parse, check, merge, render and look up.
//!
//! | file | what it holds |
//! |---|---|
//! | [`secret`] | bytes that cannot be printed |
//! | [`registry`] | server names: people's spellings become one, and one becomes a key of `auths` |
//! | [`config`] | strict parsing of what people wrote, merging, and the canonical rendering |
//! | [`keyring`] | which credentials an image gets, by the kubelet's own lenient rules |
//! | `auth`, `schemeless` | the field `auth`, and server names taken apart, as Go does both |
//! | [`image`] | image names, as the kubelet normalises them |
//!
//! This crate knows neither Kubernetes nor a runtime.

mod auth;
pub mod config;
pub mod image;
pub mod keyring;
pub mod registry;
mod schemeless;
pub mod secret;

pub use config::{ConfigError, Credential, DockerConfig, MAX_RENDERED_LEN, Merged, merge};
pub use keyring::Keyring;
pub use registry::{Server, ServerError};
pub use secret::SecretBytes;
