//! The loop by RegistryCredential: put the finalizer on, resolve the sources into the copy that
//! every namespace gets, and take the finalizer off once nothing is left.

use std::sync::Arc;

use kube::Api;
use kube::api::{ApiResource, Patch, PatchParams};
use kube::core::DynamicObject;
use regcred_api::{Reason, RegistryCredential, SourceMember, names};
use regcred_dockerconfig::Server;
use regcred_planner::{Credential, Payload, ResolvedRegistry, SourceState, Validated};
use regcred_sources::{Resolved, SecretReader, SourceError, SourceSecret, Sources};
use serde_json::json;
use tokio::time::Instant;

use crate::client::CALL_DEADLINE;
use crate::decode::CredentialObject;
use crate::fingerprint::FingerprintKey;
use crate::shelf::Origin;
use crate::{Context, clock, status, trigger, watch};

/// How soon a finalizer that could not be written is tried again, and how soon a RegistryCredential
/// on its way out is looked at again while namespaces still have their passes to come.
const SOON: std::time::Duration = std::time::Duration::from_secs(1);

/// Takes RegistryCredentials from the queue until the operator is told to stop.
pub async fn work(context: Arc<Context>, key: Arc<FingerprintKey>) {
    loop {
        let work = tokio::select! {
            biased;
            () = crate::wait_for(&context.stage.stopping) => return,
            work = context.credentials.next() => work,
        };
        visit(&context, &key, &work.key).await;
        work.done();
    }
}

async fn visit(context: &Context, key: &FingerprintKey, name: &Arc<str>) {
    let Some((object, planned)) =
        context.index().credential(name).map(|entry| (entry.object.clone(), entry.planned.clone()))
    else {
        return;
    };
    if planned.deleting {
        if planned.finalized {
            finish_deletion(context, name, &object, &planned).await;
        }
        return;
    }
    let Ok(spec) = &planned.spec else { return };
    if spec.suspend {
        return;
    }
    if !planned.finalized {
        let finalizers = object.finalizers.iter().cloned().chain([names::FINALIZER.to_owned()]).collect();
        write_finalizers(context, name, &object, finalizers).await;
    }
    refresh(context, key, name, &planned, spec).await;
}

/// Resolves the sources, and wakes the namespaces if the copy is another.
async fn refresh(
    context: &Context,
    key: &FingerprintKey,
    name: &Arc<str>,
    planned: &Credential,
    spec: &Validated,
) {
    let (state, payload) = resolve(context, key, spec).await;
    let (had_copy, has_copy) = (planned.copy.is_some(), payload.is_some());
    context.metrics.source_resolved(matches!(state, SourceState::Resolved { .. }));
    if let SourceState::Failed { reason, message } = &state {
        tracing::info!(credential = %name, %reason, message, "the source gives no credential; copies stay as they are");
    }
    let mut index = context.index();
    let concerned = index.set_source(name, planned, state, payload);
    if had_copy && has_copy && !concerned.is_empty() {
        trigger::rotation(context, &mut index, name, concerned);
    } else {
        trigger::new_copies(context, &mut index, name, concerned);
    }
    drop(index);
    context.credentials.push_at(name.clone(), Instant::now() + spec.refresh_interval);
    status::soon(context, name.clone());
}

async fn resolve(
    context: &Context,
    key: &FingerprintKey,
    spec: &Validated,
) -> (SourceState, Option<Payload>) {
    let registries: Vec<(Server, SourceMember)> =
        spec.registries.iter().map(|r| (r.server.clone(), r.source.clone())).collect();
    let sources = Sources { registries: &registries, docker_config_secrets: &spec.docker_config_secrets };
    match regcred_sources::resolve(sources, &IndexedSecrets(context)).await {
        Ok(resolved) => {
            let (state, payload) = render(key, spec, &resolved);
            (state, Some(payload))
        }
        Err(error) => (failed(&error), None),
    }
}

fn failed(error: &SourceError) -> SourceState {
    SourceState::Failed { reason: error.reason(), message: error.to_string() }
}

fn render(key: &FingerprintKey, spec: &Validated, resolved: &Resolved) -> (SourceState, Payload) {
    let content = resolved.config.render();
    let payload = Payload {
        fingerprint: key.fingerprint(&content),
        content,
        servers: resolved.config.servers().map(ToString::to_string).collect(),
        expires_at: None,
    };
    let registry = |registry: &regcred_planner::Registry| ResolvedRegistry {
        server: registry.server.to_string(),
        kind: registry.source.kind(),
        fingerprint: key.short(&resolved.config.only(&registry.server).render()),
    };
    let state = SourceState::Resolved {
        registries: spec.registries.iter().map(registry).collect(),
        expires_at: None,
        note: overridden(&resolved.overridden),
    };
    (state, payload)
}

fn overridden(servers: &[Server]) -> Option<String> {
    let names: Vec<_> = servers.iter().take(3).map(ToString::to_string).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} servers have several credentials and the first one counts: {}",
            servers.len(),
            names.join(", ")
        )
    })
}

/// Takes the finalizer off once no namespace holds anything of this credential. Planning once more
/// for every namespace makes sure of it, from what is observed and not from what was counted.
async fn finish_deletion(
    context: &Context,
    name: &Arc<str>,
    object: &CredentialObject,
    planned: &Credential,
) {
    let settled_after = context.index().credential(name).map_or(0, |entry| entry.settled_after);
    let passes_to_come = !context.namespaces.is_done_before(settled_after);
    if passes_to_come
        || context.ledger().tally(&planned.uid).departing > 0
        || holds_anything(context, planned)
    {
        context.credentials.push_at(name.clone(), Instant::now() + SOON);
        return;
    }
    let others = object.finalizers.iter().filter(|finalizer| *finalizer != names::FINALIZER);
    write_finalizers(context, name, object, others.cloned().collect()).await;
}

fn holds_anything(context: &Context, planned: &Credential) -> bool {
    let concerned = context.index().concerned(&[Some(planned)]);
    let now = clock::now();
    concerned.iter().any(|namespace| {
        let world = context.index().observe(namespace, now);
        world.is_some_and(|world| {
            let pairs = regcred_planner::plan(&world, now).pairs;
            pairs.iter().any(|pair| pair.departing && pair.credential == planned.uid)
        })
    })
}

async fn write_finalizers(
    context: &Context,
    name: &Arc<str>,
    object: &CredentialObject,
    finalizers: Vec<String>,
) {
    let resource = ApiResource::erase::<RegistryCredential>(&());
    let api: Api<DynamicObject> = Api::all_with(context.clients.write.clone(), &resource);
    let body = json!({
        "metadata": {"uid": &*object.uid, "resourceVersion": object.resource_version, "finalizers": finalizers},
    });
    let params =
        PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(body);
    let write = api.patch(name, &params, &patch);
    let code = match tokio::time::timeout(CALL_DEADLINE, write).await {
        // The answer to the last write of an object on its way out must not bring it back.
        Ok(Ok(_)) if object.deleting => return context.index().note_released(name),
        Ok(Ok(written)) => {
            return watch::take_credential(context, &mut context.index(), written, Origin::OwnWrite);
        }
        Ok(Err(error)) => crate::error::code(&error),
        Err(_) => 0,
    };
    // 409 and 404: the watch brings the newer object, or its end.
    if code != 409 && code != 404 {
        tracing::warn!(credential = %name, code, reason = %Reason::Retrying, "the finalizer could not be written");
    }
    context.credentials.push_at(name.clone(), Instant::now() + SOON);
}

/// Reads one source after the other, so that the index is never locked across a wait.
struct IndexedSecrets<'a>(&'a Context);

impl SecretReader for IndexedSecrets<'_> {
    fn read(&self, name: &str) -> Option<Arc<SourceSecret>> {
        self.0.index().read(name)
    }
}
