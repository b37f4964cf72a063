//! Objects of the largest size that the API server stores, as a tenant with `edit` in one namespace may make them.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::SECRET_TYPE;

/// Labels of a ServiceAccount; each takes its room a second time in `managedFields`.
const LABELS: usize = 30_000;
/// Annotations of a Secret, whose keys may take 256 KiB together.
const ANNOTATIONS: usize = 36_000;
/// Requests in flight: the API server holds each object many times over.
const IN_FLIGHT: usize = 4;

fn many(prefix: char, count: usize) -> Value {
    let entries = (0..count).map(|number| (format!("{prefix}{number:05}"), json!("")));
    Value::Object(entries.collect::<Map<_, _>>())
}

/// Makes this many ServiceAccounts with 30,000 labels each.
pub async fn make_service_accounts(client: &Client, namespace: &str, count: usize) -> kube::Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let made = stream::iter(0..count).map(|number| {
        let accounts = accounts.clone();
        async move {
            let metadata = json!({"name": format!("large-{number}"), "labels": many('l', LABELS)});
            let account =
                serde_json::from_value(json!({"metadata": metadata})).map_err(kube::Error::SerdeError)?;
            accounts.create(&PostParams::default(), &account).await.map(drop)
        }
    });
    made.buffer_unordered(IN_FLIGHT).try_collect().await
}

/// Applies this many pull secrets as the field manager of regcred, with a mark of its own and 36,000 annotations each.
pub async fn apply_secrets(client: &Client, namespace: &str, count: usize) -> kube::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let made = stream::iter(0..count).map(|number| {
        let secrets = secrets.clone();
        async move {
            let name = format!("large-{number}");
            let mut annotations = many('a', ANNOTATIONS);
            annotations["regcred.dev/retained-from"] = json!(name);
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
                "metadata": {"name": name, "annotations": annotations},
                "data": {".dockerconfigjson": "e30="},
            });
            secrets
                .patch(&name, &PatchParams::apply("regcred").force(), &Patch::Apply(&secret))
                .await
                .map(drop)
        }
    });
    made.buffer_unordered(IN_FLIGHT).try_collect().await
}

/// Deletes all ServiceAccounts and Secrets of a namespace, one by one: a collection of them takes longer than the API
/// server gives a request.
pub async fn remove(client: &Client, namespace: &str) -> kube::Result<()> {
    delete_each(&Api::<ServiceAccount>::namespaced(client.clone(), namespace)).await?;
    delete_each(&Api::<Secret>::namespaced(client.clone(), namespace)).await
}

async fn delete_each<K>(api: &Api<K>) -> kube::Result<()>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let found = api.list_metadata(&ListParams::default()).await?;
    let deleted = stream::iter(found.items).map(|object| async move {
        let name = object.metadata.name.unwrap_or_default();
        match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            outcome => outcome.map(drop),
        }
    });
    deleted.buffer_unordered(IN_FLIGHT).try_collect().await
}
