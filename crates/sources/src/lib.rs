//! Turns the sources of a credential into one docker configuration.
//!
//! | file | what it holds |
//! |---|---|
//! | `lib.rs` | [`resolve`]: all sources of one RegistryCredential, in the order in which they win |
//! | `secret` | a Secret of the source namespace, read by its type |
//! | `token` | tokens that clouds give: what is asked for, and why none came |
//! | `error` | why a source gave nothing |
//!
//! ARCHITECTURE.md lists the files that a new kind of source adds to. Looking at a source is asynchronous because
//! most kinds will ask a network.

mod error;
mod secret;
mod token;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::SourceMember;
use regcred_dockerconfig::{Conflict, DockerConfig, Merged, Server};

pub use error::SourceError;
pub use secret::{Purpose, SourceSecret};
pub use token::{AssumedRole, Identity, Issuer, Mint, MintError, Token, TokenRequest};

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
    /// Where two sources gave different credentials for one server.
    pub overridden: Vec<Overridden>,
    /// Entries of whole configurations that have no user and password.
    pub left_out: Vec<LeftOut>,
    /// When the first of them expires, where that is known.
    pub expires_at: Option<Timestamp>,
}

/// Two sources with different credentials for one server. Its text says which one counts, and the way out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Overridden {
    /// The server.
    pub server: Server,
    /// The source that counts, as in `Secret a`.
    pub counts: String,
    /// The source whose entry is not used.
    pub ignored: String,
}

/// An entry without user and password, which opens nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftOut {
    /// The server.
    pub server: Server,
    /// Name of the Secret.
    pub secret: String,
}

impl fmt::Display for Overridden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, counts, ignored } = self;
        let path = server.to_string();
        let path = path.trim_end_matches('/');
        write!(
            f,
            "{server}: {counts} and {ignored} have different credentials, and that of {counts} counts; \
             remove one, or give one of them a path, as in {path}/team"
        )
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of Secret {}", self.server, self.secret)
    }
}

/// Whether looking at this source asks a network. A start waits for the others before it writes.
pub const fn needs_network(source: &SourceMember) -> bool {
    match source {
        SourceMember::Secret(_) => false,
    }
}

/// Resolves every source. One that fails fails all: a configuration that lacks a server is never
/// passed off as the whole.
pub async fn resolve(sources: Sources<'_>, secrets: &impl SecretReader) -> Result<Resolved, SourceError> {
    let (mut configs, mut names, mut expiries, mut left_out) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (server, source) in sources.registries {
        let token = token_for(server, source, secrets).await?;
        configs.push(DockerConfig::single(server.clone(), token.login));
        names.push(name_of(source));
        expiries.extend(token.expires_at);
    }
    for name in sources.docker_config_secrets {
        let secret = secrets.read(name).ok_or_else(|| SourceError::NotFound { secret: name.clone() })?;
        let whole = secret.whole(name)?;
        configs.push(whole.config);
        names.push(format!("Secret {name}"));
        left_out.extend(whole.left_out.into_iter().map(|server| LeftOut { server, secret: name.clone() }));
    }
    let Merged { config, conflicts } = regcred_dockerconfig::merge(configs);
    if config.render().expose().len() > regcred_dockerconfig::MAX_RENDERED_LEN {
        return Err(SourceError::TooLarge);
    }
    let overridden = |Conflict { server, first, later }| Overridden {
        server,
        counts: names[first].clone(),
        ignored: names[later].clone(),
    };
    Ok(Resolved {
        config,
        overridden: conflicts.into_iter().map(overridden).collect(),
        left_out,
        expires_at: expiries.into_iter().min(),
    })
}

fn name_of(source: &SourceMember) -> String {
    match source {
        SourceMember::Secret(reference) => format!("Secret {}", reference.name),
    }
}

#[expect(clippy::unused_async, reason = "every source but a Secret asks a network")]
async fn token_for(
    server: &Server,
    source: &SourceMember,
    secrets: &impl SecretReader,
) -> Result<Token, SourceError> {
    match source {
        SourceMember::Secret(reference) => {
            let secret = secrets
                .read(&reference.name)
                .ok_or_else(|| SourceError::NotFound { secret: reference.name.clone() })?;
            Ok(Token { login: secret.credential(reference, server)?, expires_at: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use regcred_api::{Reason, SecretRef, names};
    use regcred_dockerconfig::SecretBytes;

    use super::*;

    struct Shop(BTreeMap<&'static str, Arc<SourceSecret>>);

    impl SecretReader for Shop {
        fn read(&self, name: &str) -> Option<Arc<SourceSecret>> {
            self.0.get(name).cloned()
        }
    }

    fn shop() -> Shop {
        let secret = |kind: &str, data: &[(&str, &str)]| {
            let bytes = |value: &str| SecretBytes::from(value.as_bytes().to_vec());
            let data = data.iter().map(|(key, value)| ((*key).to_owned(), bytes(value))).collect();
            Arc::new(SourceSecret { kind: kind.to_owned(), labelled: false, purpose: None, data })
        };
        let auths = r#"{"auths":{"ghcr.io":{"auth":"b3RoZXI6cA=="},"quay.io":{"auth":"dTpw"},"https://index.docker.io/v1/":{}}}"#;
        Shop(BTreeMap::from([
            ("bot", secret("kubernetes.io/basic-auth", &[("username", "u"), ("password", "p")])),
            ("all", secret(names::SECRET_TYPE, &[(names::SECRET_KEY, auths)])),
        ]))
    }

    /// Secrets need no network, so the future is ready at the first look.
    fn resolved(registries: &[(&str, &str)], configs: &[&str]) -> Result<Resolved, SourceError> {
        let member = |name: &str| {
            SourceMember::Secret(SecretRef { name: name.to_owned(), username_key: None, password_key: None })
        };
        let registries: Vec<_> = registries
            .iter()
            .map(|(server, name)| (Server::parse(server).expect("a server"), member(name)))
            .collect();
        let configs: Vec<_> = configs.iter().map(|name| (*name).to_owned()).collect();
        let sources = Sources { registries: &registries, docker_config_secrets: &configs };
        let shop = shop();
        match pin!(resolve(sources, &shop)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("a Secret made it wait"),
        }
    }

    #[test]
    fn a_registry_wins_over_the_entries_of_whole_configurations() {
        let resolved = resolved(&[("ghcr.io", "bot")], &["all"]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(resolved.config.servers().into_iter().collect::<Vec<_>>(), ["ghcr.io", "quay.io"]);
        let rendered = String::from_utf8(resolved.config.render().expose().to_vec()).expect("text");
        assert!(rendered.starts_with(r#"{"auths":{"ghcr.io":{"username":"u","password":"p","#), "{rendered}");
        let told: Vec<_> = resolved.overridden.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "ghcr.io: Secret bot and Secret all have different credentials, and that of Secret bot counts; remove one, or give one of them a path, as in ghcr.io/team"
            ]
        );
        let left_out: Vec<_> = resolved.left_out.iter().map(ToString::to_string).collect();
        assert_eq!(left_out, ["docker.io of Secret all"]);
    }

    #[test]
    fn one_source_that_fails_fails_all() {
        let error = resolved(&[("ghcr.io", "bot"), ("quay.io", "gone")], &[]).err().expect("an error");
        assert_eq!(error.reason(), Reason::SourceNotFound);
        assert!(resolved(&[("ghcr.io", "bot")], &["bot"]).is_err());
    }
}
