//! Turns the sources of a credential into one docker configuration.
//!
//! | file | what it holds |
//! |---|---|
//! | `lib.rs` | [`resolve`]: all sources of one RegistryCredential, in the order in which they win |
//! | `secret` | a Secret of the source namespace, read by its type |
//! | `token` | tokens that clouds give: what is asked for, and why none came |
//! | `tokens` | each token asked for once, and kept until near its end |
//! | `request` | what a source of the spec asks for, held to the hosts of its kind |
//! | `clouds` | every cloud and registry that gives tokens, behind one face |
//! | `aws`, `aws_identity`, `sigv4` | Amazon ECR; who asks for it; its signature |
//! | `google`, `azure`, `exchange` | Artifact Registry; ACR; Quay, JFrog and Cloudsmith |
//! | `identities` | what the clouds ask of the cluster |
//! | `http`, `refusal`, `expiry`, `hidden` | the one HTTP client; the word by which an issuer refuses; when a token ends; texts of JSON that cannot be printed |
//! | `end` | when a password that somebody wrote expires |
//! | `error` | why a source gave nothing |
//!
//! ARCHITECTURE.md lists the files that a new kind of source adds to. Looking at a source is asynchronous because
//! most kinds will ask a network.

#![cfg_attr(
    not(all(feature = "acr", feature = "ecr", feature = "gcp")),
    allow(dead_code, reason = "each cloud uses another part of what they share")
)]

#[cfg(feature = "ecr")]
mod aws;
#[cfg(feature = "ecr")]
mod aws_identity;
#[cfg(feature = "acr")]
mod azure;
mod clouds;
mod end;
mod error;
mod exchange;
mod expiry;
#[cfg(feature = "gcp")]
mod google;
mod hidden;
mod http;
mod identities;
mod refusal;
mod request;
mod secret;
mod sigv4;
mod token;
mod tokens;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use regcred_api::{SecretRef, SourceMember};
use regcred_dockerconfig::{Conflict, DockerConfig, Login, Merged, Server};

pub use clouds::{Clock, CloudSettings, Clouds, Environment};
pub use error::{Held, SourceError};
pub use identities::Identities;
pub use secret::{Purpose, SourceSecret};
pub use token::{AssumedRole, Identity, Issuer, Mint, MintError, Token, TokenRequest};
pub use tokens::{Given, Tokens};

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

/// Why the sources gave nothing, and for which server; `None` where no entry of `registries` is the cause, or where the
/// error names it.
#[derive(Debug)]
pub struct Failed {
    /// The server.
    pub server: Option<Server>,
    /// What is wrong, where, and what to do.
    pub error: Box<SourceError>,
}

impl From<SourceError> for Failed {
    fn from(error: SourceError) -> Self {
        Self { server: None, error: Box::new(error) }
    }
}

/// What the sources gave.
pub struct Resolved {
    /// All entries.
    pub config: DockerConfig,
    /// The servers that have an entry: those of the spec in its order, then those of whole configurations.
    pub opened: Vec<Opened>,
    /// Servers of the spec that got no new token: they have the former one, or none once that has expired.
    pub failed: Vec<SourceError>,
    /// Where two sources gave different credentials for one server.
    pub overridden: Vec<Overridden>,
    /// Entries of whole configurations that have no user and password.
    pub left_out: Vec<LeftOut>,
    /// Secrets whose annotation says an end that is no time.
    pub odd_ends: Vec<String>,
    /// When looking again may bring something else, where that is known.
    pub next: Option<Timestamp>,
}

/// A server that has an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opened {
    /// The server.
    pub server: Server,
    /// When its credential expires, where that is known.
    pub expires_at: Option<Timestamp>,
    /// When a token is to be replaced; `None` for what somebody wrote, which is replaced by them.
    pub renew_at: Option<Timestamp>,
}

impl Resolved {
    /// When the first credential expires, where that is known.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.opened.iter().filter_map(|opened| opened.expires_at).min()
    }
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
    !matches!(source, SourceMember::Secret(_))
}

/// What looking at the sources needs besides them.
pub struct Means<'a, S> {
    /// The Secrets of the source namespace.
    pub secrets: &'a S,
    /// The tokens that are known, and who gives more.
    pub tokens: &'a Tokens,
    /// Whether somebody asked for new tokens.
    pub refresh: bool,
    /// The time.
    pub now: &'a (dyn Fn() -> Timestamp + Sync),
}

/// What one source gave for one server.
struct Answer {
    login: Option<Login>,
    expires_at: Option<Timestamp>,
    /// When a token may be replaced, or asked for again.
    next: Option<Timestamp>,
    failure: Option<SourceError>,
    odd_end: Option<String>,
}

/// Resolves every source, all at once. One that gives nothing fails all, as a configuration that lacks a server is never
/// passed off as the whole: unless it is certain that what the server had has expired.
pub async fn resolve<S: SecretReader + Sync>(
    sources: Sources<'_>,
    means: &Means<'_, S>,
) -> Result<Resolved, Failed> {
    let answers = sources.registries.iter().map(|(server, source)| answer(server, source, means));
    let answers: Vec<_> = join_all(answers).await.into_iter().collect::<Result<_, _>>()?;
    let (mut configs, mut names, mut left_out, mut opened) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((server, source), answer) in sources.registries.iter().zip(&answers) {
        let Some(login) = answer.login.clone() else { continue };
        configs.push(DockerConfig::single(server.clone(), login));
        names.push(name_of(source));
        let renew_at = answer.next.filter(|_| needs_network(source));
        opened.push(Opened { server: server.clone(), expires_at: answer.expires_at, renew_at });
    }
    let mut odd_ends: Vec<_> = answers.iter().filter_map(|answer| answer.odd_end.clone()).collect();
    for name in sources.docker_config_secrets {
        let secret =
            means.secrets.read(name).ok_or_else(|| SourceError::NotFound { secret: name.clone() })?;
        let whole = secret.whole(name)?;
        add_opened(&mut opened, &whole.config, &secret);
        odd_ends.extend(secret.has_odd_end().then(|| name.clone()));
        configs.push(whole.config);
        names.push(format!("Secret {name}"));
        left_out.extend(whole.left_out.into_iter().map(|server| LeftOut { server, secret: name.clone() }));
    }
    let Merged { config, conflicts } = regcred_dockerconfig::merge(configs);
    if config.render().expose().len() > regcred_dockerconfig::MAX_RENDERED_LEN {
        return Err(SourceError::TooLarge.into());
    }
    let overridden = |Conflict { server, first, later }| Overridden {
        server,
        counts: names[first].clone(),
        ignored: names[later].clone(),
    };
    Ok(Resolved {
        config,
        opened,
        overridden: conflicts.into_iter().map(overridden).collect(),
        left_out,
        next: answers.iter().filter_map(|answer| answer.next).min(),
        odd_ends,
        failed: answers.into_iter().filter_map(|answer| answer.failure).collect(),
    })
}

/// Adds the servers of a whole configuration whose entry counts: no earlier source has one for them.
fn add_opened(opened: &mut Vec<Opened>, config: &DockerConfig, secret: &SourceSecret) {
    let before: BTreeSet<_> = opened.iter().map(|opened| opened.server.clone()).collect();
    let fresh = config.entries().filter(|(server, _)| !before.contains(server));
    opened.extend(fresh.map(|(server, login)| Opened {
        server: server.clone(),
        expires_at: secret.end(login),
        renew_at: None,
    }));
}

fn name_of(source: &SourceMember) -> String {
    match source {
        SourceMember::Secret(reference) => format!("Secret {}", reference.name),
        other => other.kind().to_owned(),
    }
}

async fn answer<S: SecretReader + Sync>(
    server: &Server,
    source: &SourceMember,
    means: &Means<'_, S>,
) -> Result<Answer, Failed> {
    if let SourceMember::Secret(reference) = source {
        let failed = |error| Failed { server: Some(server.clone()), error: Box::new(error) };
        return written(server, reference, means.secrets).map_err(failed);
    }
    let version = |name: &str| means.secrets.read(name).map(|secret| secret.version.clone());
    let request = TokenRequest::new(server, source, version);
    Ok(minted(server, &request.map_err(|error| failure(server, error, Held::Unknown))?, means).await?)
}

/// What somebody wrote into a Secret.
fn written(
    server: &Server,
    reference: &SecretRef,
    secrets: &impl SecretReader,
) -> Result<Answer, SourceError> {
    let name = &reference.name;
    let secret = secrets.read(name).ok_or_else(|| SourceError::NotFound { secret: name.clone() })?;
    let login = secret.credential(reference, server)?;
    Ok(Answer {
        expires_at: secret.end(&login),
        login: Some(login),
        next: None,
        failure: None,
        odd_end: secret.has_odd_end().then(|| name.clone()),
    })
}

/// What a cloud or a registry gives.
async fn minted<S: SecretReader + Sync>(
    server: &Server,
    request: &TokenRequest,
    means: &Means<'_, S>,
) -> Result<Answer, SourceError> {
    let Given { token, error, next, expired } = means.tokens.get(request, means.refresh, means.now).await;
    let held = match &token {
        Some(_) => Held::Good,
        None if expired => Held::Expired,
        None => Held::Unknown,
    };
    let failure = error.map(|error| failure(server, error, held));
    match failure {
        Some(failure) if held == Held::Unknown => Err(failure),
        failure => Ok(Answer {
            login: token.as_ref().map(|token| token.login.clone()),
            expires_at: token.as_ref().and_then(|token| token.expires_at),
            next: Some(next),
            failure,
            odd_end: None,
        }),
    }
}

fn failure(server: &Server, error: MintError, held: Held) -> SourceError {
    SourceError::Token { server: server.clone(), error, held }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use futures::future::BoxFuture;
    use regcred_api::{Reason, SecretRef, names};
    use regcred_dockerconfig::SecretBytes;

    use super::*;

    struct Shop(BTreeMap<&'static str, Arc<SourceSecret>>);

    impl SecretReader for Shop {
        fn read(&self, name: &str) -> Option<Arc<SourceSecret>> {
            self.0.get(name).cloned()
        }
    }

    struct NoCloud;

    impl Mint for NoCloud {
        fn mint<'a>(&'a self, _request: &'a TokenRequest) -> BoxFuture<'a, Result<Token, MintError>> {
            panic!("a Secret needs no cloud")
        }
    }

    fn shop() -> Shop {
        let secret = |kind: &str, data: &[(&str, &str)]| {
            let bytes = |value: &str| SecretBytes::from(value.as_bytes().to_vec());
            let data = data.iter().map(|(key, value)| ((*key).to_owned(), bytes(value))).collect();
            let (kind, version) = (kind.to_owned(), "u/1".to_owned());
            Arc::new(SourceSecret { kind, version, labelled: false, expires_at: None, purpose: None, data })
        };
        let auths = r#"{"auths":{"ghcr.io":{"auth":"b3RoZXI6cA=="},"quay.io":{"auth":"dTpw"},"https://index.docker.io/v1/":{}}}"#;
        Shop(BTreeMap::from([
            ("bot", secret("kubernetes.io/basic-auth", &[("username", "u"), ("password", "p")])),
            ("all", secret(names::SECRET_TYPE, &[(names::SECRET_KEY, auths)])),
        ]))
    }

    /// Secrets need no network, so the future is ready at the first look.
    fn resolved(registries: &[(&str, &str)], configs: &[&str]) -> Result<Resolved, Failed> {
        let member = |name: &str| {
            SourceMember::Secret(SecretRef { name: name.to_owned(), username_key: None, password_key: None })
        };
        let registries: Vec<_> = registries
            .iter()
            .map(|(server, name)| (Server::parse(server).expect("a server"), member(name)))
            .collect();
        let configs: Vec<_> = configs.iter().map(|name| (*name).to_owned()).collect();
        let sources = Sources { registries: &registries, docker_config_secrets: &configs };
        let tokens = Tokens::new(Arc::new(NoCloud));
        let now = || Timestamp::UNIX_EPOCH;
        let means = Means { secrets: &shop(), tokens: &tokens, refresh: false, now: &now };
        match pin!(resolve(sources, &means)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("a Secret made it wait"),
        }
    }

    #[test]
    fn a_registry_wins_over_the_entries_of_whole_configurations() {
        let resolved =
            resolved(&[("ghcr.io", "bot")], &["all"]).unwrap_or_else(|failed| panic!("{}", failed.error));
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
        let opened: Vec<_> = resolved.opened.iter().map(|opened| opened.server.to_string()).collect();
        assert_eq!(opened, ["ghcr.io", "quay.io"], "each once, those of the spec first");
    }

    #[test]
    fn one_source_that_fails_fails_all() {
        let error = resolved(&[("ghcr.io", "bot"), ("quay.io", "gone")], &[]).err().expect("an error");
        assert_eq!(error.error.reason(), Reason::SourceNotFound);
        assert_eq!(error.server.map(|server| server.to_string()).as_deref(), Some("quay.io"));
        let error = resolved(&[("ghcr.io", "bot")], &["bot"]).err().expect("an error");
        assert_eq!(error.server, None, "no entry of registries is the cause");
    }
}
