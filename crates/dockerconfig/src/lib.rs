//! `.dockerconfigjson`, as the kubelet takes it: parse, check, merge, render and look up.
//!
//! | file | what it holds |
//! |---|---|
//! | [`secret`] | bytes that cannot be printed |
//! | [`registry`] | server names: people's spellings become one, and one becomes a key of `auths` |
//! | [`config`] | strict parsing of what people wrote, merging, and the canonical rendering |
//!
//! This crate knows neither Kubernetes nor a runtime.

pub mod config;
pub mod registry;
pub mod secret;

pub use config::{ConfigError, Credential, DockerConfig, MAX_RENDERED_LEN, Merged, merge};
pub use registry::{Server, ServerError};
pub use secret::SecretBytes;
