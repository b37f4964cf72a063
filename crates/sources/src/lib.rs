//! Turns the sources of a credential into one docker configuration.
//!
//! | file | what it holds |
//! |---|---|
//! | `lib.rs` | [`resolve`]: all sources of one RegistryCredential, in the order in which they win |
//! | [`secret`] | a Secret of the source namespace, read by its type |
//! | [`error`] | why a source gave nothing |
//!
//! A new kind of source adds a member to [`SourceMember`] and an arm to `credential_for`; the loops
//! that call [`resolve`] do not change. It is asynchronous because most kinds will ask a network.

pub mod error;
pub mod secret;

use std::sync::Arc;

use regcred_api::spec::SourceMember;
use regcred_dockerconfig::{Credential, DockerConfig, Server};

pub use error::SourceError;
pub use secret::SourceSecret;

/// Gives the Secrets of the source namespace, by name.
pub trait SecretReader {
    /// The Secret of this name, if it exists.
    fn read(&self, name: &str) -> Option<Arc<SourceSecret>>;
}

/// Everything that a RegistryCredential draws on.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Each server with its source, in the order of the spec.
    pub registries: &'a [(Server, SourceMember)],
    /// Secrets whose entries are all taken over; an earlier one wins.
    pub docker_config_secrets: &'a [String],
}

/// What the sources gave.
pub struct Resolved {
    /// All entries.
    pub config: DockerConfig,
    /// Servers for which an entry lost to another with a different credential.
    pub overridden: Vec<Server>,
}

/// Resolves every source. One that fails fails all: a configuration that lacks a server is never
/// passed off as the whole.
pub async fn resolve(sources: Sources<'_>, secrets: &impl SecretReader) -> Result<Resolved, SourceError> {
    let mut configs = Vec::new();
    for (server, source) in sources.registries {
        let credential = credential_for(server, source, secrets).await?;
        configs.push(DockerConfig::single(server.clone(), credential));
    }
    for name in sources.docker_config_secrets {
        let secret = secrets.read(name).ok_or_else(|| SourceError::NotFound { secret: name.clone() })?;
        configs.push(secret.docker_config(name)?);
    }
    let merged = regcred_dockerconfig::merge(configs);
    if merged.config.rendered_len() > regcred_dockerconfig::MAX_RENDERED_LEN {
        return Err(SourceError::TooLarge);
    }
    Ok(Resolved { config: merged.config, overridden: merged.conflicts })
}

#[expect(clippy::unused_async, reason = "every source but a Secret asks a network")]
async fn credential_for(
    server: &Server,
    source: &SourceMember,
    secrets: &impl SecretReader,
) -> Result<Credential, SourceError> {
    match source {
        SourceMember::Secret(reference) => {
            let secret = secrets
                .read(&reference.name)
                .ok_or_else(|| SourceError::NotFound { secret: reference.name.clone() })?;
            secret.credential(reference, server)
        }
    }
}
