//! The steps of a check: ask without a login what is asked for, log in, and ask for the manifest.
//!
//! A token server is asked without a scope first, because many give a token of no use to whoever asks for a scope, also
//! with a wrong login. Whether somebody may pull is said by the manifest alone.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use regcred_dockerconfig::{Login, Server};
use regcred_https::{Network, Reply, System, basic, bearer};
use tokio::time::timeout;

use crate::challenge::Challenge;
use crate::client::{Client, Place, Question, Trust};
use crate::control::Controls;
use crate::realm::{Realm, Rules, split_port};
use crate::tries::Tries;
use crate::verdict::{Hint, Refusal, Trouble, Unknown, Verdict};
use crate::{Settings, answer, vendor};

/// How long all steps of a check may take together.
const CHECK_LIMIT: Duration = Duration::from_secs(30);
/// Where the API of a registry begins.
pub(crate) const BASE: &str = "/v2/";
/// Manifests and indexes, of OCI and of Docker.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// The longest repository or reference that is asked for.
const LONGEST_NAME: usize = 255;

/// What is to be checked.
#[derive(Clone, Copy)]
pub struct Check<'a> {
    /// The registry. A path is no part of it.
    pub server: &'a Server,
    /// The user and the password.
    pub login: &'a Login,
    /// The image to pull; without one the login alone is checked.
    pub pull: Option<Image<'a>>,
}

/// An image of a registry.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The repository, without the registry's host.
    pub repository: &'a str,
    /// A tag or a digest.
    pub reference: &'a str,
}

/// Asks registries. Shared by all checks, so that each token server has to prove only once that it refuses wrong logins.
pub struct Registries {
    client: Client,
    allowed_realms: Vec<String>,
    controls: Controls,
    tries: Tries,
}

/// What ends a check early.
pub(crate) type Step<T> = Result<T, Verdict>;

impl Registries {
    /// Over the system's network.
    pub fn new(settings: &Settings) -> Self {
        Self::over(settings, Arc::new(System))
    }

    /// Over another network, as in tests.
    pub fn over(settings: &Settings, network: Arc<dyn Network>) -> Self {
        Self {
            client: Client::new(settings, network),
            allowed_realms: settings.allowed_realms.clone(),
            controls: Controls::default(),
            tries: Tries::default(),
        }
    }

    /// Asks a registry about a login. Takes 30 seconds at most.
    pub async fn check(&self, check: &Check<'_>) -> Verdict {
        let Some(registry) = registry_of(check.server) else { return unknown(Unknown::Pattern) };
        let slow = || unreachable(&registry, Trouble::Slow);
        let steps = timeout(CHECK_LIMIT, self.steps(&registry, check)).await;
        steps.map_or_else(|_| slow(), |outcome| outcome.unwrap_or_else(|verdict| verdict))
    }

    async fn steps(&self, registry: &Place, check: &Check<'_>) -> Step<Verdict> {
        let manifest = check.pull.map(|image| Manifest::new(registry, image)).transpose()?;
        match self.challenge(registry).await? {
            Challenge::Basic => self.with_login(registry, check.login, manifest.as_ref()).await,
            Challenge::Bearer { realm, service } => {
                let rules = Rules {
                    registry: &registry.host,
                    endpoints: &self.client.endpoints,
                    allowed: &self.allowed_realms,
                };
                let realm = Realm::of(&realm, &rules).map_err(|untrusted| untrusted.verdict(registry))?;
                let tokens = Tokens { client: &self.client, tries: &self.tries, registry, realm, service };
                self.with_tokens(&tokens, check.login, manifest.as_ref()).await
            }
        }
    }

    /// How the registry wants to be shown a login.
    async fn challenge(&self, registry: &Place) -> Step<Challenge> {
        let reply = self.client.ask(registry, Question::get(BASE, None)).await.map_err(unknown)?;
        match reply.status {
            status if status.is_success() => {
                Err(unknown(Unknown::Unverifiable { host: registry.host.clone() }))
            }
            StatusCode::UNAUTHORIZED => {
                Challenge::of(&reply.headers).ok_or_else(|| unreachable(registry, Trouble::NoChallenge))
            }
            StatusCode::NOT_FOUND => Err(unreachable(registry, Trouble::NoRegistry)),
            _ => Err(unusable(registry, &reply)),
        }
    }

    async fn with_login(
        &self,
        registry: &Place,
        login: &Login,
        manifest: Option<&Manifest>,
    ) -> Step<Verdict> {
        let shown = || authorization(registry, login);
        let question = Question::get(BASE, Some(shown()?));
        let attempt = self.tries.begin(registry, login.username().expose()).await?;
        let reply = self.client.ask(registry, question).await.map_err(unknown)?;
        attempt.judged(accepted(registry, registry, &reply))?;
        match manifest {
            Some(manifest) => self.pull(registry, manifest, shown()?).await,
            None => Ok(verified(registry, None)),
        }
    }

    async fn with_tokens(
        &self,
        tokens: &Tokens<'_>,
        login: &Login,
        manifest: Option<&Manifest>,
    ) -> Step<Verdict> {
        let registry = tokens.registry;
        let attempt = self.tries.begin(&tokens.realm.place, login.username().expose()).await?;
        let login = || authorization(registry, login);
        let reply = tokens.ask(Some(login()?), None).await?;
        if let Err(verdict) = accepted(registry, &tokens.realm.place, &reply) {
            return attempt.judged(Err(verdict));
        }
        // Some token servers refuse nobody, and the registry then refuses the token.
        let reply = tokens.show(&reply).await?;
        attempt.judged(accepted(registry, registry, &reply))?;
        if !self.controls.tells_logins_apart(tokens).await? {
            return Err(unknown(Unknown::Unverifiable { host: registry.host.clone() }));
        }
        let Some(manifest) = manifest else { return Ok(verified(registry, None)) };
        let reply = tokens.ask(Some(login()?), Some(&manifest.scope)).await?;
        match reply.status {
            status if status.is_success() => self.pull(registry, manifest, tokens.bearer(&reply)?).await,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Ok(Verdict::PullDenied(refusal(&tokens.realm.place, &reply)))
            }
            _ => Err(unusable(&tokens.realm.place, &reply)),
        }
    }

    /// Whether the registry shows a manifest. A HEAD is no pull to the limits of Docker Hub.
    async fn pull(&self, registry: &Place, manifest: &Manifest, authorization: HeaderValue) -> Step<Verdict> {
        let question = Question {
            method: Method::HEAD,
            path: &manifest.path,
            accept: MANIFESTS,
            authorization: Some(authorization),
        };
        let reply = self.client.ask(registry, question).await.map_err(unknown)?;
        match reply.status {
            status if status.is_success() => Ok(Verdict::PullVerified { host: registry.host.clone() }),
            StatusCode::NOT_FOUND => Ok(verified(registry, Some(Hint::ManifestNotFound))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Ok(Verdict::PullDenied(refusal(registry, &reply)))
            }
            status if is_expiry(registry, status) => Ok(Verdict::Expired(refusal(registry, &reply))),
            _ => Err(unusable(registry, &reply)),
        }
    }
}

/// A token server, and the registry that named it.
pub(crate) struct Tokens<'a> {
    client: &'a Client,
    pub(crate) tries: &'a Tries,
    pub(crate) registry: &'a Place,
    pub(crate) realm: Realm,
    service: Option<String>,
}

impl Tokens<'_> {
    /// What identifies the token server and its realm.
    pub(crate) fn name(&self) -> String {
        self.realm.place.host.clone() + &self.realm.path(self.service.as_deref(), None)
    }

    /// The same for the registry that named them: another may answer otherwise to what the server gives.
    pub(crate) fn name_at_registry(&self) -> String {
        format!("{} {}", self.registry.host, self.name())
    }

    /// Asks for a token.
    pub(crate) async fn ask(&self, login: Option<HeaderValue>, scope: Option<&str>) -> Step<Reply> {
        let path = self.realm.path(self.service.as_deref(), scope);
        self.client.ask(&self.realm.place, Question::get(&path, login)).await.map_err(unknown)
    }

    /// Shows the token of an answer to the registry.
    pub(crate) async fn show(&self, reply: &Reply) -> Step<Reply> {
        let question = Question::get(BASE, Some(self.bearer(reply)?));
        self.client.ask(self.registry, question).await.map_err(unknown)
    }

    /// The header with the token of an answer.
    fn bearer(&self, reply: &Reply) -> Step<HeaderValue> {
        let header = answer::token(&reply.body).and_then(|token| bearer(&token));
        header.ok_or_else(|| unreachable(&self.realm.place, Trouble::NoToken))
    }
}

/// A manifest at its registry.
struct Manifest {
    path: String,
    scope: String,
}

impl Manifest {
    fn new(registry: &Place, image: Image<'_>) -> Step<Self> {
        let Image { repository, reference } = image;
        if !is_repository(repository) || !is_reference(reference) {
            return Err(unreachable(registry, Trouble::Unsendable));
        }
        let repository = vendor::repository(&registry.host, repository);
        let path = format!("{BASE}{repository}/manifests/{reference}");
        Ok(Self { path, scope: format!("repository:{repository}:pull") })
    }
}

/// Parts between slashes that cannot lead out of the path. A colon is in names of Google's projects.
fn is_repository(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(fits);
    text.len() <= LONGEST_NAME && text.split('/').all(is_part)
}

fn is_reference(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:+".contains(&byte);
    !text.is_empty() && text.len() <= LONGEST_NAME && !text.starts_with('.') && text.bytes().all(fits)
}

/// The host that is asked about a server; `None` for a pattern.
pub fn asked_host(server: &Server) -> Option<String> {
    registry_of(server).map(|place| place.host)
}

/// The registry of a server; `None` if that is a pattern.
fn registry_of(server: &Server) -> Option<Place> {
    let name = server.to_string();
    let named = name.split('/').next().unwrap_or_default();
    let host = vendor::host(&with_usual_port(named)?);
    (!host.contains('*')).then_some(Place { host, trust: Trust::Registry })
}

/// A host and port as they are asked: one host has one name, with whatever port of HTTPS it is written. `None` for a port that
/// there is not.
pub(crate) fn with_usual_port(named: &str) -> Option<String> {
    match split_port(named) {
        (host, None) => Some(host.to_owned()),
        (host, Some(port)) => match port.parse::<u16>().ok()? {
            0 => None,
            443 => Some(host.to_owned()),
            port => Some(format!("{host}:{port}")),
        },
    }
}

fn authorization(registry: &Place, login: &Login) -> Step<HeaderValue> {
    let header = basic(login.username().expose(), login.password());
    header.ok_or_else(|| unreachable(registry, Trouble::Unsendable))
}

/// Goes on if an answer to a login accepts it.
fn accepted(registry: &Place, from: &Place, reply: &Reply) -> Step<()> {
    let refusal = || refusal(from, reply);
    match reply.status {
        status if status.is_success() => Ok(()),
        status if is_expiry(registry, status) => Err(Verdict::Expired(refusal())),
        StatusCode::UNAUTHORIZED => Err(Verdict::Rejected(refusal())),
        StatusCode::FORBIDDEN if answer::says_expired(&reply.body) => Err(Verdict::Expired(refusal())),
        // Without a code it comes from something else than the registry, such as a ban of the address.
        StatusCode::FORBIDDEN if refusal().code.is_some() => Err(Verdict::Rejected(refusal())),
        _ => Err(unusable(from, reply)),
    }
}

fn is_expiry(registry: &Place, status: StatusCode) -> bool {
    status == StatusCode::BAD_REQUEST && vendor::means_expired_by_400(&registry.host)
}

fn refusal(from: &Place, reply: &Reply) -> Refusal {
    Refusal { host: from.host.clone(), status: reply.status.as_u16(), code: answer::code(&reply.body) }
}

fn verified(registry: &Place, hint: Option<Hint>) -> Verdict {
    Verdict::LoginVerified { host: registry.host.clone(), hint }
}

/// The verdict of an answer that says nothing of the login.
pub(crate) fn unusable(from: &Place, reply: &Reply) -> Verdict {
    let (host, status) = (from.host.clone(), reply.status.as_u16());
    let why = match reply.status {
        StatusCode::TOO_MANY_REQUESTS => Unknown::RateLimited { host },
        _ => Unknown::Unreachable { host, what: trouble(reply.status, status) },
    };
    Verdict::Unknown { why, retry_after: reply.retry_after(None) }
}

fn trouble(status: StatusCode, number: u16) -> Trouble {
    match status {
        _ if status.is_redirection() => Trouble::Redirect(number),
        _ if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => Trouble::Broken(number),
        StatusCode::FORBIDDEN => Trouble::Barred(number),
        _ => Trouble::Odd(number),
    }
}

fn unreachable(from: &Place, what: Trouble) -> Verdict {
    unknown(Unknown::Unreachable { host: from.host.clone(), what })
}

/// The verdict where nobody said when to ask again.
pub(crate) fn unknown(why: Unknown) -> Verdict {
    Verdict::Unknown { why, retry_after: Duration::ZERO }
}

impl crate::realm::Untrusted {
    fn verdict(self, registry: &Place) -> Verdict {
        let (host, realm, why) = (registry.host.clone(), self.name, self.why);
        unknown(Unknown::UntrustedRealm { host, realm, why })
    }
}
