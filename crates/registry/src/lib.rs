//! Asks a registry whether it accepts a user and a password, and whether they may pull an image (distribution
//! specification, "Token Authentication").
//!
//! | file | what it holds |
//! |---|---|
//! | `check` | the steps: ask without a login, log in, ask for the manifest |
//! | `verdict` | what came out of it, and the sentence that says so |
//! | `challenge` | the header `WWW-Authenticate` |
//! | `realm` | which token servers a login may be sent to |
//! | `address` | which addresses may be connected to |
//! | `vendor` | what is particular about single registries |
//! | `answer` | what is read of an answer's body: an error code, a token |
//! | `control` | whether a token server refuses wrong logins at all |
//! | `tries` | how often a user may be refused, so that nobody is locked out |
//! | `client` | requests: to which address, within which limits |
//!
//! Nothing of an answer is repeated: its error code is compared with the ones of the specification. Logins and tokens
//! are in no verdict. Neither Kubernetes nor the operator is known here.
//!
//! A login goes to the registry itself, and to a token server that the registry names, over TLS, and only to addresses
//! that were checked. Behind a proxy the proxy looks names up, so there only the names are checked.

mod address;
mod answer;
mod challenge;
mod check;
mod client;
mod control;
mod realm;
mod tries;
mod vendor;
mod verdict;

use std::collections::BTreeMap;

pub use check::{Check, Image, Registries, asked_host};
pub use regcred_https::Environment;
pub use verdict::{Hint, Refusal, Trouble, Unknown, Verdict};

/// What the operator's own settings say of registries.
#[derive(Clone)]
pub struct Settings {
    /// Requests meant for a host (`HOST` or `HOST:PORT`, as it is asked: `registry-1.docker.io` for Docker Hub) go to
    /// this address instead: `https://host[:port][/path]`, or `http://` on purpose.
    pub endpoints: BTreeMap<String, http::Uri>,
    /// Token servers that registries may name although their address is a private one: a host name, `*.` and the end of
    /// host names, or `HOST:PORT`.
    pub allowed_realms: Vec<String>,
    /// The operator's environment, in which administrators say which proxy to use and which certificates to believe.
    pub environment: Environment,
}
