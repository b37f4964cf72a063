//! One task for each watch.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod.rs` | which watches there are |
//! | [`follow`] | one watch, for ever |
//! | [`intake`] | an object becomes state, and keys to requeue |

mod follow;
mod intake;

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Api;
use kube::runtime::watcher::Config;
use regcred_index::{Event, Listed, SecretScope};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::context::Context;
use follow::{follow, note_complete};

pub(crate) use intake::{ingest_written_credential, ingest_written_secret, ingest_written_service_account};

/// What the watch of source Secrets is called in logs and metrics.
pub(crate) const SOURCES: &str = "Secret in the source namespace";

/// Starts every watch. Dropping the set ends them.
pub(crate) fn spawn_all(context: &Arc<Context>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(namespaces(context.clone()));
    tasks.spawn(service_accounts(context.clone()));
    tasks.spawn(credentials(context.clone()));
    tasks.spawn(sources(context.clone()));
    for scope in SecretScope::all(&context.options.target_names) {
        tasks.spawn(secrets(context.clone(), scope));
    }
    if context.options.target_names.is_empty() {
        tasks.spawn(secrets_of_wrong_type(context.clone()));
    }
    tasks
}

async fn namespaces(context: Arc<Context>) {
    let api = Api::all(context.watch_client.clone());
    let again = || context.lists.asked(&context, Listed::Namespaces);
    context.asked.wait().await;
    let ingest = |event| intake::namespace(&context, event);
    follow(&context, "Namespace", api, Config::default(), again, ingest).await;
}

async fn service_accounts(context: Arc<Context>) {
    let api = Api::all(context.watch_client.clone());
    let again = || context.lists.asked(&context, Listed::ServiceAccounts);
    context.asked.wait().await;
    let ingest = |event| intake::service_account(&context, event);
    follow(&context, "ServiceAccount", api, Config::default(), again, ingest).await;
}

/// What is kept of everything else follows from these, so they are listed first.
async fn credentials(context: Arc<Context>) {
    let api = Api::all(context.watch_client.clone());
    let ingest = |event| {
        let listed = matches!(event, Event::ListEnds);
        intake::credential(&context, event);
        // One that is gone may have asked for the last list that was missing.
        note_complete(&context);
        if listed {
            // It stays set after the first list.
            let _set_before = context.asked.set(());
        }
    };
    follow(&context, "RegistryCredential", api, Config::default(), never, ingest).await;
}

async fn sources(context: Arc<Context>) {
    let api = Api::namespaced(context.watch_client.clone(), &context.options.source_namespace);
    let again = || context.lists.asked(&context, Listed::Sources);
    context.asked.wait().await;
    let ingest = |event| intake::source(&context, event);
    follow(&context, SOURCES, api, Config::default(), again, ingest).await;
}

async fn secrets(context: Arc<Context>, scope: SecretScope) {
    let api = Api::all(context.watch_client.clone());
    let config = Config::default().fields(&scope.field_selector());
    context.asked.wait().await;
    let ingest = |event| intake::secret(&context, &scope, event);
    follow(&context, "Secret", api, config, never, ingest).await;
}

/// Nobody asks for another list of a kind of which all that is needed is kept anyway.
fn never() -> std::future::Pending<()> {
    std::future::pending()
}

/// Where target names are not listed, the operator sees docker configurations only. So that a
/// Secret of another type under a target name is seen, and seen to be deleted, each target name in use gets
/// a watch of its own for those.
async fn secrets_of_wrong_type(context: Arc<Context>) {
    let mut watches: BTreeMap<Arc<str>, AbortOnDropHandle<()>> = BTreeMap::new();
    loop {
        let changed = context.targets_changed.notified();
        let wanted = context.index().target_names();
        let unwanted: Vec<_> = watches.keys().filter(|name| !wanted.contains(*name)).cloned().collect();
        for name in unwanted {
            if let Some(watch) = watches.remove(&name) {
                watch.abort();
                // Once this is back, the task ingests nothing more.
                let _aborted = watch.await;
            }
            context.index().drop_secrets(&SecretScope::wrong_type_of(&name));
            // Its list may have been the last that was missing.
            note_complete(&context);
        }
        for name in wanted {
            let scope = SecretScope::wrong_type_of(&name);
            let watch = || AbortOnDropHandle::new(tokio::spawn(secrets(context.clone(), scope)));
            watches.entry(name).or_insert_with(watch);
        }
        changed.await;
    }
}
