//! The loop by RegistryCredential that looks at its sources. It is separate from the loop of finalizers, and
//! several workers share it, so that a source which hangs holds up nothing but itself.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use regcred_api::{Class, Reason, names};
use regcred_dockerconfig::Server;
use regcred_index::SourceLook;
use regcred_planner::{
    Look, Payload, Registry, ResolvedRegistry, SourceNote, SourceState, Uid, Validated, next_look,
};
use regcred_sources::{Failed, Resolved, SecretReader, SourceError, SourceSecret, Sources, resolve};
use tokio::time::Instant;

use super::next;
use crate::calls::DEADLINE;
use crate::context::Context;
use crate::fingerprint::FingerprintKey;

/// How many servers a message names.
const NAMED_IN_MESSAGE: usize = 3;

/// Takes RegistryCredentials from the queue until the operator is told to stop.
pub(crate) async fn work(context: Arc<Context>, key: Arc<FingerprintKey>) {
    while let Some(work) = next(&context, &context.queues.sources).await {
        look(&context, &key, &work.key).await;
        work.done();
        context.visited.notify_waiters();
    }
}

/// Looks at the sources, requeues the namespaces if the copy is another, and comes back when it is time.
async fn look(context: &Context, key: &FingerprintKey, name: &Arc<str>) {
    let wanted = context.index().credential(name).and_then(|entry| {
        let spec = entry.wanted_sources()?.clone();
        Some((spec, entry.object.uid.clone(), entry.object.requested_at.clone(), entry.failed_looks))
    });
    let Some((spec, uid, request, failed_before)) = wanted else { return };
    let given = resolve_in_time(context, &spec).await;
    context.metrics.source_resolved(given.is_ok());
    let retrying = given.as_ref().is_err_and(|failed| failed.error.class() == Class::Retry);
    let (state, payload, outcome) = match given {
        Ok(resolved) => {
            let outcome = Look::Resolved { expires_at: resolved.expires_at };
            (resolved_state(key, &uid, &spec, &resolved), Some(payload(key, &uid, &resolved)), outcome)
        }
        Err(failed) => {
            let outcome = failed_look(&failed.error, failed_before + 1);
            (failed_state(context, name, &spec, &failed), None, outcome)
        }
    };
    let pause = next_look(name, &outcome, spec.refresh_interval, context.now());
    take(context, name, SourceLook { spec, request, state, payload, retrying });
    context.queues.sources.push_at(name.clone(), Instant::now() + pause);
    context.queues.status(name.clone());
}

/// A source that does not answer keeps its worker no longer than a call may take.
async fn resolve_in_time(context: &Context, spec: &Validated) -> Result<Resolved, Failed> {
    let registries: Vec<_> = spec.registries.iter().map(|r| (r.server.clone(), r.source.clone())).collect();
    let sources = Sources { registries: &registries, docker_config_secrets: &spec.docker_config_secrets };
    let given = tokio::time::timeout(DEADLINE, resolve(sources, &IndexedSecrets(context))).await;
    given.unwrap_or_else(|_| Err(SourceError::Unavailable { retry_after: Duration::ZERO }.into()))
}

fn take(context: &Context, name: &Arc<str>, look: SourceLook) {
    let mut index = context.index();
    let entry = index.credential(name);
    let had_copy = entry.is_some_and(|entry| entry.planned.copy.is_some());
    let asked = entry.is_some_and(|entry| look.request.is_some() && entry.handled_request != look.request);
    let concerned = index.take_look(name, look);
    if asked {
        // Whoever asks for a refresh wants to see now whether what failed or was undone before works.
        let concerned = index.forgive(name);
        context.queues.refresh(name, concerned);
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
    tracing::info!(credential = %name, %reason, message, "a source gives no credential; copies stay as they are");
    SourceState::Failed { reason, message }
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
        SourceError::Unavailable { .. } | SourceError::TooLarge => error.to_string(),
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
        expires_at: resolved.expires_at,
    }
}

fn resolved_state(key: &FingerprintKey, uid: &Uid, spec: &Validated, resolved: &Resolved) -> SourceState {
    let registry = |registry: &Registry| ResolvedRegistry {
        server: registry.server.to_string(),
        kind: registry.source.kind(),
        fingerprint: key.short(uid, &resolved.config.only(&registry.server).render()),
    };
    SourceState::Resolved {
        registries: spec.registries.iter().map(registry).collect(),
        expires_at: resolved.expires_at,
        note: note(resolved),
    }
}

/// What somebody has to know of sources that gave everything: which of two credentials counts, or what was left out.
fn note(resolved: &Resolved) -> Option<SourceNote> {
    let (overridden, left_out) = (listed(&resolved.overridden, "; "), listed(&resolved.left_out, ", "));
    if !overridden.is_empty() {
        return Some(SourceNote { reason: Reason::SourceConflict, message: overridden });
    }
    let message = format!("left out, as they lack a user, a password or both: {left_out}");
    (!left_out.is_empty()).then_some(SourceNote { reason: Reason::Resolved, message })
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
}
