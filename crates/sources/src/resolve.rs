//! All sources of one RegistryCredential become one configuration. What a source that fails gave before stays in it, so that
//! one that is broken keeps no other from being renewed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use regcred_api::{SecretRef, SourceMember};
use regcred_dockerconfig::{Conflict, DockerConfig, Login, MAX_RENDERED_LEN, Merged, Server, Whole, merge};

use crate::error::{Held, SourceError};
use crate::secret::SourceSecret;
use crate::token::{MintError, TokenRequest};
use crate::tokens::{Given, Tokens};

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

/// What looking at the sources needs besides them.
pub struct Means<'a, S> {
    /// The Secrets of the source namespace.
    pub secrets: &'a S,
    /// The tokens that are known, and who gives more.
    pub tokens: &'a Tokens,
    /// Whether somebody asked for new tokens.
    pub refresh: bool,
    /// What the RegistryCredential had before.
    pub former: &'a Former<'a>,
    /// The time.
    pub now: &'a (dyn Fn() -> Timestamp + Sync),
}

/// What a RegistryCredential had before this look.
pub struct Former<'a> {
    /// What was made of the same sources last; `None` where this process never made anything of them. Asked for where
    /// a source fails.
    pub config: &'a (dyn Fn() -> Option<DockerConfig> + Sync),
    /// When the credential of a server ends, as its status says: by the server's name, with the kind of its source.
    pub ends: &'a BTreeMap<String, (String, Timestamp)>,
}

/// A source that gave nothing, or nothing new.
#[derive(Debug)]
pub struct Failed {
    /// The server; `None` where no entry of `registries` is the cause, or where the error names it.
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
    /// Sources that gave nothing new: their servers have what they had, or nothing once a token has expired.
    pub failed: Vec<Failed>,
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
    /// The Secret that it stands in, if it does and that is known.
    pub secret: Option<String>,
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

/// What one source gave for one server.
#[derive(Default)]
struct Answer {
    /// User and password, and when they end.
    login: Option<(Login, Option<Timestamp>)>,
    /// When a token may be replaced, or asked for again.
    next: Option<Timestamp>,
    failure: Option<Failed>,
    /// The server has nothing, as its last token has expired.
    gone: bool,
    odd_end: Option<String>,
}

/// Resolves every source, all at once. Where one fails, what the same sources gave before stands in for it; where nothing
/// did, as after a start, all fail: a configuration that lacks a server is never passed off as the whole, unless it is
/// certain that what the server had has expired.
pub async fn resolve<S: SecretReader + Sync>(
    sources: Sources<'_>,
    means: &Means<'_, S>,
) -> Result<Resolved, Failed> {
    let answers = sources.registries.iter().map(|(server, source)| answer(server, source, means));
    let answers = join_all(answers).await;
    let mut gathered = Gathered::default();
    for ((server, source), answer) in sources.registries.iter().zip(answers) {
        gathered.add(server, source, answer)?;
    }
    let mut lacks = None;
    for name in sources.docker_config_secrets {
        match whole(name, means.secrets) {
            Ok((secret, whole)) => gathered.add_whole(name, &secret, whole),
            Err(error) => lacks = lacks.or(Some(error)),
        }
    }
    if let Some(error) = lacks {
        let Some(former) = (means.former.config)() else { return Err(error.into()) };
        gathered.add_former(&former);
        gathered.failed.push(error.into());
    }
    gathered.finish()
}

/// What the sources gave so far.
#[derive(Default)]
struct Gathered {
    /// A configuration of each source that gave one, and the source's name.
    configs: Vec<(DockerConfig, String)>,
    opened: Vec<Opened>,
    failed: Vec<Failed>,
    /// Servers whose last token has expired.
    gone: BTreeSet<Server>,
    left_out: Vec<LeftOut>,
    odd_ends: Vec<String>,
    next: Option<Timestamp>,
}

impl Gathered {
    fn add(&mut self, server: &Server, source: &SourceMember, answer: Answer) -> Result<(), Failed> {
        self.next = self.next.into_iter().chain(answer.next).min();
        self.odd_ends.extend(answer.odd_end);
        if let Some((login, expires_at)) = answer.login {
            self.configs.push((DockerConfig::single(server.clone(), login), name_of(source)));
            let renew_at = answer.next.filter(|_| needs_network(source));
            let secret = match source {
                SourceMember::Secret(reference) => Some(reference.name.clone()),
                _ => None,
            };
            self.opened.push(Opened { server: server.clone(), expires_at, renew_at, secret });
        } else if answer.gone {
            self.gone.insert(server.clone());
        } else {
            let unsaid = || SourceError::Unavailable { retry_after: Duration::ZERO }.into();
            return Err(answer.failure.unwrap_or_else(unsaid));
        }
        self.failed.extend(answer.failure);
        Ok(())
    }

    fn add_whole(&mut self, name: &str, secret: &SourceSecret, whole: Whole) {
        let before: BTreeSet<_> = self.opened.iter().map(|opened| opened.server.clone()).collect();
        let fresh = whole.config.entries().filter(|(server, _)| !before.contains(server));
        self.opened.extend(fresh.map(|(server, login)| Opened {
            server: server.clone(),
            expires_at: secret.end(login),
            renew_at: None,
            secret: Some(name.to_owned()),
        }));
        self.odd_ends.extend(secret.has_odd_end().then(|| name.to_owned()));
        let left_out = whole.left_out.into_iter();
        self.left_out.extend(left_out.map(|server| LeftOut { server, secret: name.to_owned() }));
        self.configs.push((whole.config, format!("Secret {name}")));
    }

    /// Takes the entries that earlier sources have none for from what was made of the same sources before: which of them
    /// a whole configuration gave, that gives nothing now, is not known.
    fn add_former(&mut self, former: &DockerConfig) {
        let before: BTreeSet<_> = self.opened.iter().map(|opened| &opened.server).chain(&self.gone).collect();
        let missing: Vec<_> = former.entries().filter(|(server, _)| !before.contains(server)).collect();
        let opened: Vec<_> = missing.iter().map(|(server, _)| Opened::lasting((*server).clone())).collect();
        let configs =
            missing.into_iter().map(|(server, login)| DockerConfig::single(server.clone(), login.clone()));
        let merged = merge(configs).config;
        self.configs.push((merged, "an earlier state".to_owned()));
        self.opened.extend(opened);
    }

    fn finish(self) -> Result<Resolved, Failed> {
        let (configs, names): (Vec<_>, Vec<_>) = self.configs.into_iter().unzip();
        let Merged { config, conflicts } = merge(configs);
        if config.render().expose().len() > MAX_RENDERED_LEN {
            return Err(SourceError::TooLarge.into());
        }
        let overridden = |Conflict { server, first, later }| Overridden {
            server,
            counts: names[first].clone(),
            ignored: names[later].clone(),
        };
        Ok(Resolved {
            config,
            opened: self.opened,
            failed: self.failed,
            overridden: conflicts.into_iter().map(overridden).collect(),
            left_out: self.left_out,
            odd_ends: self.odd_ends,
            next: self.next,
        })
    }
}

impl Opened {
    /// A server whose credential has no end that is known.
    fn lasting(server: Server) -> Self {
        Self { server, expires_at: None, renew_at: None, secret: None }
    }
}

fn name_of(source: &SourceMember) -> String {
    match source {
        SourceMember::Secret(reference) => format!("Secret {}", reference.name),
        other => other.kind().to_owned(),
    }
}

fn whole(name: &str, secrets: &impl SecretReader) -> Result<(Arc<SourceSecret>, Whole), SourceError> {
    let secret = secrets.read(name).ok_or_else(|| SourceError::NotFound { secret: name.to_owned() })?;
    let whole = secret.whole(name)?;
    Ok((secret, whole))
}

async fn answer<S: SecretReader + Sync>(
    server: &Server,
    source: &SourceMember,
    means: &Means<'_, S>,
) -> Answer {
    if let SourceMember::Secret(reference) = source {
        return written(server, reference, means.secrets)
            .unwrap_or_else(|error| means.former.instead_of_written(server, source, error));
    }
    let version = |name: &str| means.secrets.read(name).map(|secret| secret.version.clone());
    let request = match TokenRequest::new(server, source, version) {
        Ok(request) => request,
        Err(error) => {
            let lack = Lack { error: Some(error), next: None, ended: None };
            return means.former.instead_of_token(server, source, lack, (means.now)());
        }
    };
    let given = means.tokens.get(&request, means.refresh, means.now).await;
    match given {
        Given { token: Some(token), error, next, .. } => Answer {
            login: Some((token.login.clone(), token.expires_at)),
            next: Some(next),
            failure: error.map(|error| failure(server, error, Held::Good)),
            ..Answer::default()
        },
        Given { token: None, error, next, ended } => {
            let lack = Lack { error, next: Some(next), ended };
            means.former.instead_of_token(server, source, lack, (means.now)())
        }
    }
}

/// What is known where there is no good token.
struct Lack {
    error: Option<MintError>,
    /// When asking again may bring one.
    next: Option<Timestamp>,
    /// When the last one ended.
    ended: Option<Timestamp>,
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
    let end = secret.end(&login);
    let odd_end = secret.has_odd_end().then(|| name.clone());
    Ok(Answer { login: Some((login, end)), odd_end, ..Answer::default() })
}

impl Former<'_> {
    fn login(&self, server: &Server) -> Option<Login> {
        (self.config)()?.login(server).cloned()
    }

    /// When what a server has ends, as the status says of this kind of source.
    fn end(&self, server: &Server, source: &SourceMember) -> Option<Timestamp> {
        let told = self.ends.get(&server.to_string()).filter(|(kind, _)| kind == source.kind());
        told.map(|(_, end)| *end)
    }

    /// What a server has while its Secret gives nothing: what it gave before. That may still work, whatever it says of
    /// its end.
    fn instead_of_written(&self, server: &Server, source: &SourceMember, error: SourceError) -> Answer {
        let failure = Failed { server: Some(server.clone()), error: Box::new(error) };
        let login = self.login(server).map(|login| (login, self.end(server, source)));
        Answer { login, failure: Some(failure), ..Answer::default() }
    }

    /// What a server has while there is no good token for it: what it had before, until that ends. As it may have come from
    /// another process, its end is what the status says; then what is known of the last token.
    fn instead_of_token(&self, server: &Server, source: &SourceMember, lack: Lack, now: Timestamp) -> Answer {
        let end = self.end(server, source).or(lack.ended);
        let gone = end.is_some_and(|end| end <= now);
        let login = if gone { None } else { self.login(server).map(|login| (login, end)) };
        let held = match &login {
            Some(_) => Held::Good,
            None if gone => Held::Expired,
            None => Held::Unknown,
        };
        let next = end.filter(|end| *end > now).into_iter().chain(lack.next).min();
        let failure = lack.error.map(|error| failure(server, error, held));
        Answer { login, next, failure, gone, ..Answer::default() }
    }
}

fn failure(server: &Server, error: MintError, held: Held) -> Failed {
    SourceError::Token { server: server.clone(), error, held }.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use futures::future::BoxFuture;
    use regcred_api::{EcrSource, Reason, SecretRef, names};
    use regcred_dockerconfig::SecretBytes;

    use super::*;
    use crate::token::{Mint, Token};

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
        let former = Former { config: &|| None, ends: &BTreeMap::new() };
        let means = Means { secrets: &shop(), tokens: &tokens, refresh: false, former: &former, now: &now };
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

    /// Gives this token, or none.
    struct Cloud(Option<&'static str>);

    impl Mint for Cloud {
        fn mint<'a>(&'a self, _request: &'a TokenRequest) -> BoxFuture<'a, Result<Token, MintError>> {
            let end = Some(second(3600));
            let given = self.0.map(|token| Token { login: login("AWS", token), expires_at: end });
            let refused =
                || MintError::Incomplete { identity: "i".to_owned(), missing: "role", advice: "add it" };
            Box::pin(std::future::ready(given.ok_or_else(refused)))
        }
    }

    const ECR: &str = "public.ecr.aws";

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn login(user: &str, password: &str) -> Login {
        Login::new(user.as_bytes(), password.as_bytes()).expect("a login")
    }

    /// A token beside a Secret and a whole configuration, at a time. What the copies held, and when status says that the
    /// token ends. Returns the servers that have an entry, with the password, and what failed.
    async fn beside(
        cloud: Cloud,
        secrets: [&str; 2],
        held: &[(&str, &str)],
        told: Option<(&str, i64)>,
        now: i64,
    ) -> Result<(Vec<String>, Vec<String>), String> {
        let server = |text: &str| Server::parse(text).expect("a server");
        let reference = SecretRef { name: secrets[0].to_owned(), username_key: None, password_key: None };
        let registries = [
            (server(ECR), SourceMember::Ecr(EcrSource::default())),
            (server("ghcr.io"), SourceMember::Secret(reference)),
        ];
        let sources = Sources { registries: &registries, docker_config_secrets: &[secrets[1].to_owned()] };
        let tokens = Tokens::new(Arc::new(cloud));
        let entries =
            held.iter().map(|(of, password)| DockerConfig::single(server(of), login("x", password)));
        let former = (!held.is_empty()).then(|| merge(entries).config);
        let ends =
            told.map(|(kind, end)| (ECR.to_owned(), (kind.to_owned(), second(end)))).into_iter().collect();
        let former = Former { config: &|| former.clone(), ends: &ends };
        let means = Means {
            secrets: &shop(),
            tokens: &tokens,
            refresh: false,
            former: &former,
            now: &|| second(now),
        };
        let resolved = resolve(sources, &means).await;
        let resolved = resolved.map_err(|failed| failed.error.to_string())?;
        let password = |login: &Login| String::from_utf8(login.password().expose().to_vec()).expect("text");
        let entries =
            resolved.config.entries().map(|(server, login)| format!("{server}={}", password(login)));
        Ok((entries.collect(), resolved.failed.iter().map(|failed| failed.error.to_string()).collect()))
    }

    const GOOD: [&str; 2] = ["bot", "all"];
    const HELD: [(&str, &str); 3] = [(ECR, "old"), ("ghcr.io", "was"), ("quay.io", "had")];

    #[tokio::test]
    async fn a_source_that_fails_keeps_what_it_gave_and_no_other_from_being_renewed() {
        let (entries, failed) =
            beside(Cloud(Some("new")), ["gone", "all"], &HELD, None, 0).await.expect("entries");
        assert_eq!(entries, ["ghcr.io=was", "public.ecr.aws=new", "quay.io=p"]);
        assert_eq!(failed, ["Secret gone does not exist; create it"]);
        let (entries, failed) =
            beside(Cloud(Some("new")), ["bot", "gone"], &HELD, None, 0).await.expect("entries");
        assert_eq!(entries, ["ghcr.io=p", "public.ecr.aws=new", "quay.io=had"]);
        assert_eq!(failed.len(), 1);
        let none = beside(Cloud(Some("new")), ["gone", "all"], &[], None, 0).await;
        assert!(none.is_err(), "after a start nobody knows what the copies hold");
    }

    #[tokio::test]
    async fn a_token_that_is_not_renewed_stays_until_the_end_that_status_tells() {
        let at = |now, told, held| beside(Cloud(None), GOOD, held, told, now);
        let with_old = ["ghcr.io=p", "public.ecr.aws=old", "quay.io=p"];
        for told in [None, Some(("ECR", 100))] {
            let (entries, failed) = at(99, told, &HELD).await.expect("entries");
            assert_eq!(entries, with_old);
            assert!(failed[0].ends_with("copies keep the last token until it expires"), "{failed:?}");
        }
        for held in [&HELD[..], &[]] {
            let (entries, failed) = at(100, Some(("ECR", 100)), held).await.expect("entries");
            assert_eq!(entries, ["ghcr.io=p", "quay.io=p"]);
            assert!(failed[0].contains("has expired"), "{failed:?}");
        }
        let unknown =
            at(1_000_000, Some(("Secret", 100)), &[]).await.expect_err("nothing is known of the copies");
        assert!(unknown.ends_with("; copies, where there are any, stay as they are"), "{unknown}");
    }
}
