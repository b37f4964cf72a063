//! The loop by RegistryCredential that looks at its sources. It is separate from the loop of finalizers, and
//! several workers share it, so that a source which hangs holds up nothing but itself.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use regcred_api::{Class, Reason, names};
use regcred_dockerconfig::{DockerConfig, SecretBytes, Server, WrittenConfig};
use regcred_index::{CredentialEntry, SourceLook};
use regcred_planner::{
    Look, Payload, ResolvedRegistry, SourceNote, SourceState, Uid, Validated, Verdict, naming_source,
    next_look,
};
use regcred_registry::asked_host;
use regcred_sources::{
    Failed, Former, Instead, Means, Opened, Resolved, SecretReader, SourceError, SourceSecret, Sources,
    Standing, resolve,
};
use tokio::time::Instant;

use super::{next, probe};
use crate::calls::DEADLINE;
use crate::context::Context;
use crate::fingerprint::FingerprintKey;
use crate::probes::{self, Accepted, OF_CONFIGURATION, Origin, Probe};
use crate::queue::Lane;

/// How many servers a message names.
const NAMED_IN_MESSAGE: usize = 3;
/// How many servers a status tells of.
const MAX_REGISTRIES: usize = 64;
/// How long before its end somebody is told to replace a credential.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Takes RegistryCredentials from the queue until the operator is told to stop. Those that ask a network are handed on to
/// workers of their own, as a cloud may hang.
pub(crate) async fn work(context: Arc<Context>, key: Arc<FingerprintKey>) {
    while let Some(work) = next(&context, &context.queues.sources).await {
        let asks_network = context.index().credential(&work.key).is_some_and(CredentialEntry::asks_network);
        if asks_network {
            context.queues.remote_sources.push(work.key.clone(), Lane::Bulk);
        } else {
            look(&context, &key, &work.key).await;
        }
        work.done();
        context.visited.notify_waiters();
    }
}

/// The same for those that ask a network.
pub(crate) async fn work_remote(context: Arc<Context>, key: Arc<FingerprintKey>) {
    while let Some(work) = next(&context, &context.queues.remote_sources).await {
        look(&context, &key, &work.key).await;
        work.done();
    }
}

/// What a look at the sources of a RegistryCredential is about.
struct Subject<'a> {
    name: &'a Arc<str>,
    uid: Uid,
    spec: Arc<Validated>,
    /// Who asked for it.
    request: Option<String>,
    /// Whether that was not acted on yet.
    refresh: bool,
    /// What was made of the sources before.
    content: Option<SecretBytes>,
    ends: BTreeMap<String, (String, Timestamp)>,
    failed_looks: u32,
}

impl<'a> Subject<'a> {
    /// `None` while its sources are not looked at.
    fn of(context: &Context, name: &'a Arc<str>) -> Option<Self> {
        let index = context.index();
        let entry = index.credential(name)?;
        Some(Self {
            name,
            uid: entry.object.uid.clone(),
            spec: entry.wanted_sources()?.clone(),
            request: entry.object.requested_at.clone(),
            refresh: entry.is_refresh_new(),
            content: entry.last_content(),
            ends: entry.ends(),
            failed_looks: entry.failed_looks,
        })
    }
}

/// Looks at the sources, requeues the namespaces if the copy is another, and comes back when it is time.
async fn look(context: &Context, key: &FingerprintKey, name: &Arc<str>) {
    let Some(subject) = Subject::of(context, name) else { return };
    let given = resolve_in_time(context, &subject).await;
    want_probes(context, key, &subject, given.as_ref().ok());
    let next = if let Some(given) = withhold(context, &subject, given).transpose() {
        conclude(context, key, subject, given)
    } else {
        // The answer of the registry has the sources looked at again; without one copies wait no longer then.
        context.index().note_awaited(name, &subject.spec, subject.request);
        probes::PATIENCE.unsigned_abs() + Duration::from_secs(1)
    };
    context.queues.status(name.clone());
    context.queues.sources.push_at(name.clone(), Instant::now() + next);
}

/// Takes what the sources gave, or why they gave nothing. Returns when to look again.
fn conclude(
    context: &Context,
    key: &FingerprintKey,
    subject: Subject<'_>,
    given: Result<Resolved, Failed>,
) -> Duration {
    let Subject { name, uid, spec, request, failed_looks, .. } = subject;
    context.metrics.source_resolved(given.as_ref().is_ok_and(|resolved| resolved.failed.is_empty()));
    let now = context.now();
    let (state, payload, outcome) = match given {
        Ok(resolved) => {
            let state = state_of(context, key, name, &uid, &spec, &resolved);
            (state, Some(payload(key, &uid, &resolved)), Look::Resolved { next: next_change(&resolved, now) })
        }
        Err(failed) => {
            let outcome = failed_look(&failed.error, failed_looks + 1);
            (failed_state(context, name, &spec, &failed), None, outcome)
        }
    };
    let retrying = matches!(outcome, Look::Failed { class: Class::Retry, .. });
    let pause = next_look(name, &outcome, spec.refresh_interval, now);
    take(context, name, SourceLook { spec, request, state, payload, retrying });
    pause
}

/// A source that does not answer keeps its worker no longer than a token and a call may take.
async fn resolve_in_time(context: &Context, subject: &Subject<'_>) -> Result<Resolved, Failed> {
    let spec = &subject.spec;
    let registries: Vec<_> = spec.registries.iter().map(|r| (r.server.clone(), r.source.clone())).collect();
    let sources = Sources { registries: &registries, docker_config_secrets: &spec.docker_config_secrets };
    let (secrets, now) = (IndexedSecrets(context), || context.now());
    let config = || subject.content.as_ref().and_then(parsed);
    let former = Former { config: &config, ends: &subject.ends };
    let means = Means {
        secrets: &secrets,
        tokens: &context.tokens,
        refresh: subject.refresh,
        former: &former,
        now: &now,
    };
    let given = tokio::time::timeout(2 * DEADLINE, resolve(sources, &means)).await;
    given.unwrap_or_else(|_| Err(SourceError::Unavailable { retry_after: Duration::ZERO }.into()))
}

/// Has registries asked about what the sources gave, where the spec says so. Where they gave nothing, only that goes on
/// which the spec still asks for.
fn want_probes(context: &Context, key: &FingerprintKey, subject: &Subject<'_>, resolved: Option<&Resolved>) {
    let Subject { name, spec, .. } = subject;
    let probes = resolved.map(|resolved| probes_of(key, subject, resolved));
    let index = context.index();
    let entry = index.credential(name);
    let is_present =
        |entry: &&CredentialEntry| entry.wanted_sources().is_some_and(|own| Arc::ptr_eq(own, spec));
    let Some(entry) = entry.filter(is_present) else { return };
    let goes_on = |probe: &Probe| spec.verifications.of(&probe.server).as_ref() == Some(&probe.verification);
    // What an earlier spec asked may have been something else.
    let status = entry.object.status.as_ref().filter(|_| entry.has_present_status());
    if let Some(probes) = probes {
        let told = status.map_or(&[][..], |status| &status.registries);
        for waiting in context.probes.want(name, probes, told) {
            context.queues.sources.push(waiting, Lane::Urgent);
        }
    } else {
        context.probes.keep(name, goes_on);
    }
    if subject.refresh {
        context.probes.force(name);
    }
    context.queues.probes.push((*name).clone(), probe::lane(context, name));
}

fn probes_of(key: &FingerprintKey, subject: &Subject<'_>, resolved: &Resolved) -> Vec<Probe> {
    let Subject { uid, spec, .. } = subject;
    let probe = |opened: &Opened| {
        let Opened { server, expires_at, .. } = opened;
        let verification = spec.verifications.of(server)?;
        let login = resolved.config.login(server)?.clone();
        let content = resolved.config.only(server).render();
        let source = spec.registries.iter().find(|own| own.server == *server);
        let origin = Origin {
            credential: uid.clone(),
            source: source.map(|own| own.source.clone()),
            configurations: if source.is_none() { spec.docker_config_secrets.clone() } else { Vec::new() },
        };
        Some(Probe {
            server: server.clone(),
            expires_at: *expires_at,
            fingerprint: key.short(uid, &content),
            origin,
            question: key.question(&content, &verification.proof),
            account: key.account(&asked_host(server).unwrap_or_default(), &login),
            login,
            verification,
        })
    };
    resolved.opened.iter().take(MAX_REGISTRIES).filter_map(probe).collect()
}

/// Keeps from copies what its registry rejects, where the spec says so. `None` while a registry is yet to be asked.
fn withhold(
    context: &Context,
    subject: &Subject<'_>,
    given: Result<Resolved, Failed>,
) -> Result<Option<Resolved>, Failed> {
    let (former, now) = (OnceCell::new(), context.now());
    let in_place = |server: &Server| {
        let config = former.get_or_init(|| subject.content.as_ref().and_then(parsed));
        config.as_ref()?.login(server).cloned()
    };
    let told_end = |server: &Server| subject.ends.get(&server.to_string()).map(|(_, end)| *end);
    let instead = |opened: &Opened, accepted: Option<Box<Accepted>>| {
        let (login, end) = match accepted {
            Some(accepted) => (Some(accepted.login), accepted.expires_at),
            None => (in_place(&opened.server), told_end(&opened.server)),
        };
        // The end that somebody wrote beside a password may be wrong.
        let is_over = opened.renew_at.is_some() && end.is_some_and(|end| end <= now);
        match login {
            _ if is_over => Instead::Ended,
            Some(login) => Instead::Login(login, end),
            None => Instead::Nothing,
        }
    };
    given?.withhold(|opened| match context.probes.standing(subject.name, &opened.server, now) {
        probes::Standing::Accepted => Standing::Free,
        probes::Standing::Awaited => Standing::Awaited,
        probes::Standing::Rejected { verdict: Verdict { reason, message, .. }, accepted } => {
            let message = naming_source(&message, opened.secret.as_deref());
            Standing::Rejected { reason, message, instead: instead(opened, accepted) }
        }
    })
}

/// Reads back what was rendered.
fn parsed(content: &SecretBytes) -> Option<DockerConfig> {
    let written = WrittenConfig::parse_dockerconfigjson(content.expose()).ok()?;
    Some(written.whole().ok()?.config)
}

/// When another look may bring something else: a token is due, or what somebody wrote comes near its end.
fn next_change(resolved: &Resolved, now: Timestamp) -> Option<Timestamp> {
    let written = resolved.opened.iter().filter(|opened| opened.renew_at.is_none());
    let ends = written.filter_map(|opened| opened.expires_at);
    let turns = ends.flat_map(|end| [end - SOON, end]).filter(|at| *at > now);
    resolved.next.into_iter().chain(turns).min()
}

fn take(context: &Context, name: &Arc<str>, look: SourceLook) {
    let mut index = context.index();
    let entry = index.credential(name);
    let before = entry.and_then(|entry| entry.planned.copy.as_ref());
    let had_copy = before.is_some();
    let given = look.payload.as_ref().map(|payload| &payload.fingerprint);
    let is_new = given.is_some_and(|given| before.is_none_or(|before| before.payload.fingerprint != *given));
    let asked = entry.is_some_and(|entry| look.request.is_some() && entry.handled_request != look.request);
    let concerned = index.take_look(name, look);
    if asked {
        // Whoever asks for a refresh wants to see now whether what failed or was undone before works.
        let concerned = index.forgive(name);
        context.queues.refresh(name, concerned);
    }
    // Whoever reads the log may be slow.
    drop(index);
    if is_new {
        let what = if had_copy { "a credential was refreshed" } else { "the sources give a credential" };
        tracing::info!(credential = %name, namespaces = concerned.len(), "{what}");
    }
    if had_copy && !concerned.is_empty() {
        context.queues.rotation(name, concerned);
    } else {
        context.queues.new_copies(name, concerned);
    }
}

fn failed_state(context: &Context, name: &Arc<str>, spec: &Validated, failed: &Failed) -> SourceState {
    let others = (spec.registries.len() + spec.docker_config_secrets.len()).saturating_sub(1);
    let Failed { server, error } = failed;
    let (reason, message) = (error.reason(), of_several(server.as_ref(), others, located(context, error)));
    if let Some(unsaid) = context.troubles.sources.note(name.clone(), reason) {
        let cause = &message;
        tracing::warn!(
            credential = %name, %reason, cause, unsaid,
            "a source gives no credential; copies, where there are any, stay as they are"
        );
    }
    SourceState::Failed { reason, message, registries: None }
}

/// Where there are other sources: the server that lacks a credential, and that the others wait, as a copy without one of
/// its servers is never made.
fn of_several(server: Option<&Server>, others: usize, message: String) -> String {
    let prefix = server.map_or_else(String::new, |server| format!("{server}: "));
    match others {
        0 => message,
        1 => format!("{prefix}{message}; the other source waits for it"),
        _ => format!("{prefix}{message}; the other {others} sources wait for it"),
    }
}

/// What is wrong with one source of several that give something, and what its servers have meanwhile.
fn partly(context: &Context, Failed { server, error }: &Failed) -> String {
    let message = located(context, error);
    match (&**error, server) {
        (SourceError::Token { .. } | SourceError::Rejected { .. }, _) => message,
        (_, Some(server)) => format!("{server}: {message}; copies keep the credential that it gave last"),
        (_, None) => format!("{message}; copies keep what it gave last"),
    }
}

/// What is wrong with a source, and in which namespace that is.
fn located(context: &Context, error: &SourceError) -> String {
    let namespace = &context.options.source_namespace;
    match error {
        SourceError::NotFound { secret } if !context.index().has_namespace(namespace) => format!(
            "the source namespace {namespace} does not exist; create it and Secret {secret} in it, or start the \
             operator with another --source-namespace"
        ),
        SourceError::NotLabelled { secret } => {
            format!("{error}: kubectl label secret -n {namespace} {secret} {}=true", names::SOURCE_LABEL)
        }
        SourceError::Token { error: token, .. } if token.names_object() => {
            format!("{error} (source namespace: {namespace})")
        }
        SourceError::Unavailable { .. }
        | SourceError::TooLarge
        | SourceError::Token { .. }
        | SourceError::Rejected { .. } => error.to_string(),
        _ => format!("{error} (source namespace: {namespace})"),
    }
}

fn failed_look(error: &SourceError, failures: u32) -> Look {
    Look::Failed { class: error.class(), retry_after: error.retry_after(), failures }
}

fn payload(key: &FingerprintKey, uid: &Uid, resolved: &Resolved) -> Payload {
    let content = resolved.config.render();
    Payload {
        fingerprint: key.fingerprint(uid, &content),
        content,
        servers: resolved.config.servers().into_iter().collect(),
        expires_at: resolved.expires_at(),
    }
}

fn state_of(
    context: &Context,
    key: &FingerprintKey,
    name: &Arc<str>,
    uid: &Uid,
    spec: &Validated,
    resolved: &Resolved,
) -> SourceState {
    let registries = registries(key, uid, spec, resolved);
    let Some(first) = resolved.failed.first() else {
        if context.troubles.sources.over(name) {
            tracing::info!(credential = %name, "the sources give their credentials again");
        }
        let namespace = &context.options.source_namespace;
        return SourceState::Resolved { registries, note: note(resolved, namespace, context.now()) };
    };
    let mut reasons = resolved.failed.iter().map(|failed| failed.error.reason());
    let reason = reasons.find(|reason| *reason == Reason::Expired).unwrap_or(first.error.reason());
    let told: Vec<_> = resolved.failed.iter().map(|failed| partly(context, failed)).collect();
    let message = listed(&told, "; ");
    if let Some(unsaid) = context.troubles.sources.note(name.clone(), reason) {
        let cause = &message;
        tracing::warn!(credential = %name, %reason, cause, unsaid, "a source gives nothing new; copies keep what it gave last");
    }
    SourceState::Failed { reason, message, registries: Some(registries) }
}

/// The servers of the spec in its order, then those of whole configurations.
fn registries(
    key: &FingerprintKey,
    uid: &Uid,
    spec: &Validated,
    resolved: &Resolved,
) -> Vec<ResolvedRegistry> {
    let registry = |opened: &Opened| {
        let source = spec.registries.iter().find(|own| own.server == opened.server);
        ResolvedRegistry {
            server: opened.server.to_string(),
            kind: source.map_or(OF_CONFIGURATION, |registry| registry.source.kind()),
            fingerprint: key.short(uid, &resolved.config.only(&opened.server).render()),
            expires_at: opened.expires_at,
            renew_at: opened.renew_at,
        }
    };
    // Two keys mean Docker Hub, and a status has each name once.
    let mut names = BTreeSet::new();
    let once = resolved.opened.iter().filter(|opened| names.insert(opened.server.to_string()));
    once.take(MAX_REGISTRIES).map(registry).collect()
}

/// What somebody has to know of sources that gave everything, the worst first: what is over, which of two credentials
/// counts, what is over soon, what was left out.
fn note(resolved: &Resolved, namespace: &str, now: Timestamp) -> Option<SourceNote> {
    let note = |reason, message: String| (!message.is_empty()).then_some(SourceNote { reason, message });
    let over = ends(resolved, namespace, "ended", |at| at <= now);
    let soon = ends(resolved, namespace, "ends", |at| at > now && at <= now + SOON);
    note(
        Reason::Expired,
        replace(&over, "; copies keep it, as only its registry knows whether it still works"),
    )
    .or_else(|| note(Reason::SourceConflict, listed(&resolved.overridden, "; ")))
    .or_else(|| note(Reason::ExpiringSoon, replace(&soon, "")))
    .or_else(|| note(Reason::Resolved, remarks(resolved)))
}

/// What somebody wrote that ends at such a time: for which server, where it stands and when.
fn ends(
    resolved: &Resolved,
    namespace: &str,
    verb: &str,
    is_told: impl Fn(Timestamp) -> bool,
) -> Vec<String> {
    let told = |opened: &Opened| {
        let at = opened.expires_at.filter(|at| opened.renew_at.is_none() && is_told(*at))?;
        let place = opened.secret.as_ref().map(|secret| format!(" (Secret {secret} in {namespace})"));
        let place = place.unwrap_or_default();
        let at = at.strftime("%Y-%m-%d %H:%M UTC");
        Some(format!("the credential for {}{place} {verb} {at}", opened.server))
    };
    resolved.opened.iter().filter_map(told).collect()
}

/// Asks for others in their place; empty where there are none.
fn replace(ends: &[String], meanwhile: &str) -> String {
    if ends.is_empty() {
        return String::new();
    }
    format!("{}; put a new one into the source{meanwhile}", listed(ends, "; "))
}

fn remarks(resolved: &Resolved) -> String {
    let about = |items: String, what: &str| (!items.is_empty()).then(|| format!("{what}: {items}"));
    let left_out =
        about(listed(&resolved.left_out, ", "), "left out, as they lack a user, a password or both");
    let odd = about(
        listed(&resolved.odd_ends, ", "),
        "the annotation regcred.dev/expires-at holds no time (write one as 2027-02-01T12:00:00Z) on Secret",
    );
    left_out.into_iter().chain(odd).collect::<Vec<_>>().join("; ")
}

/// At most three, and how many more.
fn listed(items: &[impl Display], separator: &str) -> String {
    let shown: Vec<_> = items.iter().take(NAMED_IN_MESSAGE).map(ToString::to_string).collect();
    match items.len().saturating_sub(NAMED_IN_MESSAGE) {
        0 => shown.join(separator),
        more => format!("{} and {more} more", shown.join(separator)),
    }
}

/// Reads one source after the other, so that the index is never locked across a wait.
struct IndexedSecrets<'a>(&'a Context);

impl SecretReader for IndexedSecrets<'_> {
    fn read(&self, name: &str) -> Option<Arc<SourceSecret>> {
        self.0.index().read(name)
    }
}

#[cfg(test)]
mod tests {
    use regcred_planner::Settings;
    use serde_json::json;

    use super::*;

    #[test]
    fn of_several_sources_the_one_that_fails_is_named_by_its_server_and_the_others_wait() {
        let server = Server::parse("ghcr.io").expect("a server");
        let told =
            |server, others| of_several(server, others, "Secret s does not exist; create it".to_owned());
        assert_eq!(told(Some(&server), 0), "Secret s does not exist; create it");
        let two = "ghcr.io: Secret s does not exist; create it; the other source waits for it";
        assert_eq!(told(Some(&server), 1), two);
        let three = "Secret s does not exist; create it; the other 2 sources wait for it";
        assert_eq!(told(None, 2), three);
    }

    fn opened(server: Server, end: Option<(Timestamp, Option<&str>)>) -> Opened {
        let secret = end.and_then(|(_, secret)| secret).map(str::to_owned);
        Opened { server, expires_at: end.map(|(at, _)| at), renew_at: None, secret }
    }

    fn resolved(opened: Vec<Opened>) -> Resolved {
        Resolved {
            config: DockerConfig::default(),
            opened,
            failed: Vec::new(),
            overridden: Vec::new(),
            left_out: Vec::new(),
            odd_ends: Vec::new(),
            next: None,
        }
    }

    #[test]
    fn an_end_is_told_with_its_secret_and_its_time() {
        let server = |name| Server::parse(name).expect("a server");
        let now: Timestamp = "2026-12-01T00:00:00Z".parse().expect("a time");
        let day = |day: i64| now + SignedDuration::from_hours(24 * day);
        let told =
            |opened| note(&resolved(opened), "regcred-system", now).map(|note| (note.reason, note.message));
        let soon = "the credential for ghcr.io (Secret jwt-bot in regcred-system) ends 2026-12-04 00:00 UTC; put a \
                    new one into the source";
        let ghcr = |at| opened(server("ghcr.io"), Some((at, Some("jwt-bot"))));
        assert_eq!(told(vec![ghcr(day(3))]), Some((Reason::ExpiringSoon, soon.to_owned())));
        assert_eq!(told(vec![ghcr(day(30))]), None);
        let over = "the credential for ghcr.io (Secret jwt-bot in regcred-system) ended 2026-11-30 00:00 UTC; the \
                    credential for quay.io ended 2026-11-29 00:00 UTC; put a new one into the source; copies keep it, as \
                    only its registry knows whether it still works";
        let quay = opened(server("quay.io"), Some((day(-2), None)));
        assert_eq!(told(vec![ghcr(day(-1)), quay]), Some((Reason::Expired, over.to_owned())));
    }

    #[test]
    fn status_has_each_server_once_as_it_is_a_map_of_them() {
        let auths =
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"docker.io":{"auth":"dTpw"}}}"#;
        let whole = WrittenConfig::parse_dockerconfigjson(auths.as_bytes()).and_then(WrittenConfig::whole);
        let config = whole.expect("a configuration").config;
        let opened = |(server, _)| opened(Server::clone(server), None);
        let opened = config.entries().map(opened).collect();
        let resolved = Resolved { config, ..resolved(opened) };
        let spec = json!({"dockerConfigSecretRefs": [{"name": "all"}], "namespaces": {"from": "All"}});
        let spec = serde_json::from_value(spec).expect("a spec");
        let spec = regcred_planner::validate("pull", &spec, &Settings::default()).expect("a valid one");
        let told = registries(&FingerprintKey::new(&[1; 32]), &Arc::from("c1"), &spec, &resolved);
        assert_eq!(resolved.opened.len(), 2);
        assert_eq!(told.iter().map(|registry| &*registry.server).collect::<Vec<_>>(), ["docker.io"]);
    }
}
