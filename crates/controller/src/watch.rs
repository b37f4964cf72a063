//! One task for each watch. Each has its own back-off, so that one kind that cannot be listed does
//! not hold up the others.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::ApiResource;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::{self, Config, Event, watcher};
use regcred_api::RegistryCredential;
use regcred_planner::{Object, Uid};
use tokio::task::{JoinHandle, JoinSet};

use crate::decode::{self, SlimServiceAccount};
use crate::index::{Index, SecretScope, cluster_key};
use crate::queue::Lane;
use crate::shelf::{Key, Origin, version};
use crate::{Context, trigger};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Starts every watch. Dropping the set ends them.
pub fn spawn_all(context: &Arc<Context>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(namespaces(context.clone()));
    tasks.spawn(service_accounts(context.clone()));
    tasks.spawn(credentials(context.clone()));
    tasks.spawn(sources(context.clone()));
    for scope in SecretScope::all(&context.options.target_names) {
        tasks.spawn(secrets(context.clone(), scope));
    }
    if context.options.target_names.is_empty() {
        tasks.spawn(strangers(context.clone()));
    }
    tasks
}

async fn namespaces(context: Arc<Context>) {
    let api: Api<PartialObjectMeta<core::Namespace>> = Api::all(context.clients.watch.clone());
    let stream = |config| watcher(api.clone(), config);
    follow(&context, "Namespace", Config::default(), stream, |event| {
        let mut index = context.index();
        let changed = take_namespace(&mut index, event);
        for name in changed {
            trigger::namespace(&context, name);
        }
    })
    .await;
}

fn take_namespace(index: &mut Index, event: Event<PartialObjectMeta<core::Namespace>>) -> Vec<Arc<str>> {
    match event {
        Event::Apply(object) | Event::InitApply(object) => {
            let (key, version) = identity(&object.metadata, index);
            let namespace = decode::namespace(object.metadata, &mut index.interner);
            let before: Option<Uid> = index.namespaces.get(&key).map(|before| before.uid.clone());
            if before.is_some_and(|uid| uid != namespace.uid) {
                index.forget_memory(&key.1);
            }
            let same = index.namespaces.get(&key) == Some(&namespace);
            let taken = index.namespaces.apply(key.clone(), version, namespace, Origin::Watch);
            if taken && !same { vec![key.1] } else { Vec::new() }
        }
        Event::Delete(object) => {
            let (key, version) = identity(&object.metadata, index);
            let gone = index.namespaces.delete(&key, version).is_some();
            index.forget_memory(&key.1);
            if gone { vec![key.1] } else { Vec::new() }
        }
        Event::Init => {
            index.namespaces.begin();
            Vec::new()
        }
        Event::InitDone => {
            let gone: Vec<_> = index.namespaces.finish().into_iter().map(|((_, name), _)| name).collect();
            for name in &gone {
                index.forget_memory(name);
            }
            gone
        }
    }
}

async fn service_accounts(context: Arc<Context>) {
    let api: Api<SlimServiceAccount> = Api::all(context.clients.watch.clone());
    let stream = |config| watcher(api.clone(), config);
    follow(&context, "ServiceAccount", Config::default(), stream, |event| {
        let mut index = context.index();
        let index = &mut *index;
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                let (key, version) = identity(&object.metadata, index);
                let account = decode::service_account(object, &mut index.interner);
                if index.service_accounts.apply(key.clone(), version, account, Origin::Watch) {
                    trigger::namespace(&context, key.0);
                }
            }
            Event::Delete(object) => {
                let (key, version) = identity(&object.metadata, index);
                index.service_accounts.delete(&key, version);
                trigger::namespace(&context, key.0);
            }
            Event::Init => index.service_accounts.begin(),
            Event::InitDone => {
                for ((namespace, _), _) in index.service_accounts.finish() {
                    trigger::namespace(&context, namespace);
                }
            }
        }
    })
    .await;
}

async fn secrets(context: Arc<Context>, scope: SecretScope) {
    let api: Api<PartialObjectMeta<core::Secret>> = Api::all(context.clients.watch.clone());
    let config = Config::default().fields(&scope.field_selector());
    let stream = |config| watcher(api.clone(), config);
    follow(&context, "Secret", config, stream, |event| {
        let mut index = context.index();
        for namespace in take_secret(&mut index, &scope, event) {
            trigger::namespace(&context, namespace);
        }
    })
    .await;
}

fn take_secret(
    index: &mut Index,
    scope: &SecretScope,
    event: Event<PartialObjectMeta<core::Secret>>,
) -> Vec<Arc<str>> {
    match event {
        Event::Apply(object) | Event::InitApply(object) => {
            let (key, version) = identity(&object.metadata, index);
            let secret = decode::secret(&object, scope.mistyped, &mut index.interner);
            let taken = index.secrets_mut(scope).apply(key.clone(), version, secret, Origin::Watch);
            if taken { vec![key.0] } else { Vec::new() }
        }
        Event::Delete(object) => {
            let (key, version) = identity(&object.metadata, index);
            index.secrets_mut(scope).delete(&key, version);
            vec![forget_hold(index, key)]
        }
        Event::Init => {
            index.secrets_mut(scope).begin();
            Vec::new()
        }
        Event::InitDone => {
            let gone = index.secrets_mut(scope).finish();
            gone.into_iter().map(|(key, _)| forget_hold(index, key)).collect()
        }
    }
}

/// What stood in the way is gone.
fn forget_hold(index: &mut Index, (namespace, name): Key) -> Arc<str> {
    index.memory(&namespace).forget_hold(&Object::Secret(name));
    namespace
}

/// Where target names are not listed, the operator sees docker configurations only. So that a
/// Secret of another type under a target name is seen, and seen to go, each target name in use gets
/// a watch of its own for those.
async fn strangers(context: Arc<Context>) {
    let mut watches: BTreeMap<Arc<str>, AbortOnDropHandle> = BTreeMap::new();
    loop {
        let changed = context.targets_changed.notified();
        let wanted = context.index().target_names();
        let unwanted: Vec<_> = watches.keys().filter(|name| !wanted.contains(*name)).cloned().collect();
        for name in unwanted {
            if let Some(watch) = watches.remove(&name) {
                watch.end().await;
            }
            context.index().drop_secrets(&SecretScope::strangers(&name));
            // Its list may have been the last that was missing.
            note_complete(&context);
        }
        for name in wanted {
            let scope = SecretScope::strangers(&name);
            watches.entry(name).or_insert_with(|| AbortOnDropHandle::spawn(secrets(context.clone(), scope)));
        }
        changed.await;
    }
}

/// A task that ends with its handle.
struct AbortOnDropHandle(JoinHandle<()>);

impl AbortOnDropHandle {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl AbortOnDropHandle {
    /// Ends the task; when this returns, it does nothing more.
    async fn end(mut self) {
        self.0.abort();
        let _aborted = (&mut self.0).await;
    }
}

impl Drop for AbortOnDropHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn sources(context: Arc<Context>) {
    let namespace = context.options.source_namespace.clone();
    let api: Api<core::Secret> = Api::namespaced(context.clients.watch.clone(), &namespace);
    let stream = |config| watcher(api.clone(), config);
    follow(&context, "Secret in the source namespace", Config::default(), stream, |event| {
        let mut index = context.index();
        let index = &mut *index;
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                let (key, version) = identity(&object.metadata, index);
                let secret = Arc::new(decode::source_secret(object));
                if index.sources.apply(key.clone(), version, secret, Origin::Watch) {
                    trigger::source(&context, index, &key.1);
                }
            }
            Event::Delete(object) => {
                let (key, version) = identity(&object.metadata, index);
                index.sources.delete(&key, version);
                trigger::source(&context, index, &key.1);
            }
            Event::Init => index.sources.begin(),
            Event::InitDone => {
                for ((_, name), _) in index.sources.finish() {
                    trigger::source(&context, index, &name);
                }
            }
        }
    })
    .await;
}

async fn credentials(context: Arc<Context>) {
    let resource = ApiResource::erase::<RegistryCredential>(&());
    let api: Api<DynamicObject> = Api::all_with(context.clients.watch.clone(), &resource);
    let stream = |config| watcher(api.clone(), config);
    follow(&context, "RegistryCredential", Config::default(), stream, |event| {
        let mut index = context.index();
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                take_credential(&context, &mut index, object, Origin::Watch);
            }
            Event::Delete(object) => {
                let (key, version) = identity(&object.metadata, &mut index);
                if let Some((entry, concerned)) = index.delete_credential(&key.1, version) {
                    forget_credential(&context, &entry.planned.uid, concerned);
                }
            }
            Event::Init => index.credentials.begin(),
            Event::InitDone => {
                for (_, entry) in index.finish_credentials() {
                    let concerned = index.concerned(&[Some(&*entry.planned)]);
                    forget_credential(&context, &entry.planned.uid, concerned);
                }
            }
        }
    })
    .await;
}

/// Takes in a RegistryCredential that was listed, watched, or came back from our own write.
pub(crate) fn take_credential(context: &Context, index: &mut Index, object: DynamicObject, origin: Origin) {
    let (key, version) = identity(&object.metadata, index);
    let object = decode::credential(object);
    let replaced = index.credentials.get(&cluster_key(&key.1)).map(|entry| entry.planned.uid.clone());
    if let Some(uid) = replaced.filter(|uid| *uid != object.uid) {
        context.ledger().forget(&uid);
    }
    let concerned = index.apply_credential(&key.1, version, object, origin);
    trigger::credential(context, index, &key.1, concerned);
    context.targets_changed.notify_one();
}

fn forget_credential(context: &Context, uid: &str, concerned: Vec<Arc<str>>) {
    context.ledger().forget(uid);
    context.targets_changed.notify_one();
    for namespace in concerned {
        context.namespaces.push(namespace, Lane::Bulk);
    }
}

fn identity(metadata: &ObjectMeta, index: &mut Index) -> (Key, u64) {
    let namespace = index.interner.string(metadata.namespace.as_deref().unwrap_or_default());
    let name = index.interner.string(metadata.name.as_deref().unwrap_or_default());
    ((namespace, name), version(metadata.resource_version.as_deref()))
}

/// Follows a watch for ever. kube's stream resumes or lists again by itself after an error; what
/// it leaves to us is the pause, and the servers that know no streaming lists.
async fn follow<T, S>(
    context: &Context,
    kind: &'static str,
    config: Config,
    stream: impl Fn(Config) -> S,
    mut take: impl FnMut(Event<T>),
) where
    S: Stream<Item = watcher::Result<Event<T>>>,
{
    let mut config = config.streaming_lists();
    loop {
        let mut pause = FIRST_PAUSE;
        let mut events = pin!(stream(config.clone()));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    pause = FIRST_PAUSE;
                    let listed = matches!(event, Event::InitDone);
                    take(event);
                    if listed {
                        note_complete(context);
                    }
                }
                Err(error) if lacks_streaming_lists(&error) => {
                    tracing::info!(kind, "the API server knows no streaming lists; listing in pages");
                    config.initial_list_strategy = watcher::InitialListStrategy::ListWatch;
                    break;
                }
                Err(error) => {
                    context.metrics.watch_failed(kind);
                    context.clients.pulse.beat();
                    report(kind, &error);
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

fn note_complete(context: &Context) {
    if context.index().is_complete() {
        context.indexed.send_if_modified(|indexed| !std::mem::replace(indexed, true));
    }
}

/// Up to a quarter more, so that replicas and watches that failed together come back apart.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + fastrand::f64() / 4.0)
}

/// 422 on `sendInitialEvents`: a server before 1.34, or one with the feature off.
fn lacks_streaming_lists(error: &watcher::Error) -> bool {
    status_code(error) == 422
}

/// Expected interruptions are told quietly, and none with its text: it may quote an object.
fn report(kind: &str, error: &watcher::Error) {
    match status_code(error) {
        404 => tracing::warn!(kind, "not served by this cluster; is the CustomResourceDefinition installed?"),
        403 => {
            tracing::warn!(kind, "may not be watched; grant the permissions of the ClusterRole");
        }
        410 => tracing::debug!(kind, "the watch is too old; listing again"),
        code => tracing::info!(kind, code, "the watch was interrupted"),
    }
}

/// The HTTP status behind a watch error; 0 if there was no answer.
fn status_code(error: &watcher::Error) -> u16 {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => crate::error::code(error),
        watcher::Error::WatchError(status) => status.code,
        watcher::Error::NoResourceVersion => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::stream;
    use kube::core::Status;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::fake;

    type Events = stream::BoxStream<'static, watcher::Result<Event<()>>>;

    fn refused(code: u16) -> watcher::Result<Event<()>> {
        let status = Status { code, ..Status::default() };
        Err(watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(status))))
    }

    fn events(events: Vec<watcher::Result<Event<()>>>) -> Events {
        Box::pin(stream::iter(events).chain(stream::pending()))
    }

    async fn follow_until(count: usize, stream: impl Fn(Config) -> Events) {
        let context = fake::context("a", |_, _, _| (200, json!({})));
        let (seen, enough) = (AtomicUsize::new(0), tokio::sync::Notify::new());
        let take = |_| {
            if seen.fetch_add(1, Ordering::Relaxed) + 1 == count {
                enough.notify_one();
            }
        };
        tokio::select! {
            () = follow(&context, "Thing", Config::default(), stream, take) => {}
            () = enough.notified() => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_without_streaming_lists_is_listed_in_pages() {
        let stream = |config: Config| {
            let pages = matches!(config.initial_list_strategy, watcher::InitialListStrategy::ListWatch);
            if pages {
                events(vec![Ok(Event::Init), Ok(Event::InitDone)])
            } else {
                events(vec![refused(422)])
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(5), follow_until(2, stream)).await;
        found.expect("the list in pages was taken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_pauses_longer_each_time_and_goes_on() {
        let start = Instant::now();
        let stream = |_| events(vec![refused(500), refused(500), refused(500), Ok(Event::InitDone)]);
        follow_until(1, stream).await;
        // 0.5 + 1 + 2 seconds, and up to a quarter more.
        assert!((3500..4500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }
}
