//! How regcred asks other hosts: over TLS and through the proxies of its environment, to addresses that were checked, with
//! bounded times and bodies, and with secrets in bytes that are overwritten.
//!
//! | file | what it holds |
//! |---|---|
//! | `transport` | sends one request and reads its answer, within limits |
//! | `network` | names become addresses, and addresses connections: the system's, or those of a test |
//! | `route` | the way to a host: which addresses may be connected to, and through which proxy |
//! | `failure` | why no answer came, without a word of the other side's |
//! | `place` | where a request goes: to its host, or to the address that the operator's settings give for it |
//! | `encode` | headers, forms and JSON that hold secrets |
//! | `hidden` | texts of JSON that cannot be printed |
//!
//! This crate knows neither Kubernetes nor what the hosts are asked for.

mod encode;
mod failure;
mod hidden;
mod network;
mod place;
mod route;
mod transport;

use std::sync::Arc;

pub use encode::{basic, bearer, escaped, form, json, secret_value};
pub use failure::Failure;
pub use hidden::Hidden;
pub use network::{Network, Peer, Stream, System};
pub use place::{endpoint, place};
pub use route::Reach;
pub use transport::{ANSWER_LIMIT, BODY_LIMIT, Reply, Transport, http_date};

/// Tells the value of an environment variable.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;
/// How regcred names itself in `User-Agent`.
pub const USER_AGENT: &str = concat!("regcred/", env!("CARGO_PKG_VERSION"));
