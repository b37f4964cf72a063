//! `.dockerconfigjson`, as the kubelet takes it: parse, check, merge, render and look up.
//!
//! | file | what it holds |
//! |---|---|
//! | `secret_bytes` | bytes that cannot be printed |
//! | `login` | user name and password, and the field `auth` that holds both |
//! | `docker_hub` | the names of Docker Hub |
//! | `registry` | server names: what the kubelet reads from a key of `auths`, and what people mean by it |
//! | `json` | JSON as Go reads it |
//! | `written` | configurations as people wrote them, entry by entry, and what is wrong with them |
//! | `config` | usable logins by server: merging, and the canonical rendering |
//! | `schemeless` | which server names match, as the kubelet's Go code says |
//! | `image` | image names, as the kubelet normalises them |
//! | `keyring` | which logins an image gets, by the kubelet's own lenient rules |
//!
//! This crate knows neither Kubernetes nor a runtime.

mod config;
mod docker_hub;
mod image;
mod json;
mod keyring;
mod login;
mod registry;
mod schemeless;
mod secret_bytes;
mod written;

pub use config::{Conflict, DockerConfig, MAX_RENDERED_LEN, Merged, merge};
pub use docker_hub::{DOCKER_HUB_ALIASES, DOCKER_HUB_HOSTS};
pub use image::{ImageError, repository_of};
pub use keyring::{Keyring, Unreadable};
pub use login::{Login, LoginError};
pub use registry::{Server, ServerError};
pub use secret_bytes::SecretBytes;
pub use written::{ConfigError, Near, Whole, WrittenConfig};
