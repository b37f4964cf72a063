//! `.dockerconfigjson`, as the kubelet takes it: parse, check, merge, render and look up.
//!
//! | file | what it holds |
//! |---|---|
//! | `secret_bytes` | bytes that cannot be printed |
//! | `login` | user name and password, and the field `auth` that holds both |
//! | `docker_hub` | the names of Docker Hub |
//! | `registry` | server names: people's spellings become one, and one becomes a key of `auths` |
//! | `config` | strict parsing of what people wrote, merging, and the canonical rendering |
//! | `schemeless` | which server names match, as the kubelet's Go code says |
//! | `image` | image names, as the kubelet normalises them |
//! | `keyring` | which logins an image gets, by the kubelet's own lenient rules |
//!
//! This crate knows neither Kubernetes nor a runtime.

mod config;
mod docker_hub;
mod image;
mod keyring;
mod login;
mod registry;
mod schemeless;
mod secret_bytes;

pub use config::{ConfigError, DockerConfig, MAX_RENDERED_LEN, Merged, merge};
pub use docker_hub::DOCKER_HUB_HOSTS;
pub use image::{ImageError, repository_of};
pub use keyring::{Keyring, Unreadable};
pub use login::{Login, LoginError};
pub use registry::{Server, ServerError};
pub use secret_bytes::SecretBytes;
