//! The control plane of a run, its namespaces, and the users in it who are no subject.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use regcred_tests::{ControlPlane, Identity, Options, SECRET_TYPE, clouds::Clouds};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};

use crate::{Result, observer::Observer};

/// The registry of every credential.
pub const SERVER: &str = "registry.example.com";
/// The user of every credential.
pub const USER: &str = "bot";
/// The label of every namespace.
pub const ALL: &str = "bench-all";
/// The label of every tenth namespace.
pub const TENTH: &str = "bench-tenth";

/// Requests of the driver in flight, where it makes many objects.
const DRIVER_CONCURRENCY: usize = 32;
const NAMESPACE_DEADLINE: Duration = Duration::from_mins(30);
const FOREIGN_SECRET_BYTES: usize = 32 * 1024;

/// A running cluster.
pub struct Cluster {
    /// The control plane.
    pub control_plane: ControlPlane,
    /// Its administrator.
    pub client: Client,
    /// Sees what subjects do.
    pub observer: Observer,
    /// Gives tokens.
    pub clouds: Clouds,
    foreign: Client,
}

impl Cluster {
    /// Starts a cluster without namespaces of ours.
    pub async fn start() -> Result<Self> {
        let control_plane = ControlPlane::start(Options::default()).await?;
        regcred_tests::install::apply(&control_plane, "bench/cluster.yaml").await?;
        let client = control_plane.admin().await?;
        let foreign: Identity = control_plane.service_account("bench-rig", "foreign-writer").await?;
        let foreign = foreign.client().await?;
        let observer = Observer::start(&client);
        let clouds = Clouds::start().await?;
        Ok(Self { control_plane, client, observer, clouds, foreign })
    }

    /// The process id of the API server.
    pub fn api_server(&self) -> u32 {
        self.control_plane.api_server()
    }

    /// Makes the namespaces `bench-00000` up to this number, as far as they are missing, and returns all their
    /// names once each has its ServiceAccount.
    pub async fn grow(&self, count: usize) -> Result<Vec<String>> {
        let names: Vec<String> = (0..count).map(|number| format!("bench-{number:05}")).collect();
        let missing: Vec<(usize, &String)> = {
            let seen = self.observer.seen();
            names.iter().enumerate().filter(|(_, name)| !seen.has_account(name, "default")).collect()
        };
        let labelled = missing.into_iter().map(|(number, name)| {
            let labels: &[&str] = if number.is_multiple_of(10) { &[ALL, TENTH] } else { &[ALL] };
            (name.clone(), labels)
        });
        self.make_namespaces(labelled.collect()).await?;
        Ok(names)
    }

    /// Makes namespaces with these labels, and waits until each has its ServiceAccount.
    pub async fn make_namespaces(&self, namespaces: Vec<(String, &[&str])>) -> Result<()> {
        let names: Vec<String> = namespaces.iter().map(|(name, _)| name.clone()).collect();
        let api: Api<Namespace> = Api::all(self.client.clone());
        let create = namespaces.into_iter().map(|(name, labels)| {
            let labels: BTreeMap<&str, &str> = labels.iter().map(|label| (*label, "true")).collect();
            (api.clone(), object(json!({ "metadata": { "name": name, "labels": labels } })))
        });
        in_parallel(create, async |(api, namespace)| api.create(&PostParams::default(), &namespace?).await)
            .await?;
        let mut waiting = names;
        self.observer
            .until("ServiceAccounts in new namespaces", NAMESPACE_DEADLINE, |seen| {
                waiting.retain(|name| !seen.has_account(name, "default"));
                if waiting.is_empty() { Ok(()) } else { Err(format!("{} are without", waiting.len())) }
            })
            .await
    }

    /// Deletes namespaces and waits for their end.
    pub async fn delete_namespaces(&self, names: &[String]) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let delete = names.iter().map(|name| (api.clone(), name));
        in_parallel(delete, async |(api, name)| api.delete(name, &DeleteParams::default()).await).await?;
        for name in names {
            let gone = async || match api.get_opt(name).await {
                Ok(None) => Ok(()),
                other => Err(format!("{name}: {:?}", other.map(|found| found.is_some()))),
            };
            regcred_tests::wait::try_eventually("namespaces to end", NAMESPACE_DEADLINE, gone).await?;
        }
        Ok(())
    }

    /// Makes a ServiceAccount, and returns when the request was sent.
    pub async fn make_account(&self, namespace: &str, name: &str) -> Result<Instant> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let account = object(json!({ "metadata": { "name": name } }))?;
        let sent = Instant::now();
        api.create(&PostParams::default(), &account).await?;
        Ok(sent)
    }

    /// The names on a new ServiceAccount, which is deleted again.
    pub async fn account_names(&self, namespace: &str, name: &str) -> Result<Vec<String>> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let account = object(json!({ "metadata": { "name": name } }))?;
        let made: ServiceAccount = api.create(&PostParams::default(), &account).await?;
        api.delete(name, &DeleteParams::default()).await?;
        Ok(made.image_pull_secrets.into_iter().flatten().map(|entry| entry.name).collect())
    }

    /// Puts a name on a ServiceAccount, as an operator would have to.
    pub async fn attach(&self, namespace: &str, account: &str, secret: &str) -> Result<()> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let body = json!({ "imagePullSecrets": [{ "name": secret }] });
        api.patch(account, &PatchParams::default(), &Patch::Merge(body)).await?;
        Ok(())
    }

    /// Deletes ServiceAccounts.
    pub async fn delete_accounts(&self, accounts: Vec<(String, String)>) -> Result<()> {
        in_parallel(accounts, async |(namespace, name)| {
            let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &namespace);
            api.delete(&name, &DeleteParams::default()).await
        })
        .await
    }

    /// Makes Secrets of 32 KiB that are nobody's business, `first..last`, spread over a hundred namespaces.
    pub async fn make_foreign_secrets(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let missing = api.get_opt("foreign-00").await?.is_none();
        if missing {
            let names = (0..100).map(|number| (format!("foreign-{number:02}"), &[] as &[&str]));
            self.make_namespaces(names.collect()).await?;
        }
        let filling = "f".repeat(FOREIGN_SECRET_BYTES);
        let secrets = numbers.map(|number| {
            let secret = json!({
                "metadata": { "name": format!("foreign-{number}") },
                "stringData": { "filling": filling },
            });
            (format!("foreign-{:02}", number % 100), secret)
        });
        in_parallel(secrets, async |(namespace, secret)| {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
            api.create(&PostParams::default(), &object(secret)?).await
        })
        .await
    }

    /// Somebody else who writes: one write each `interval`, foreign Secrets and `ConfigMaps` in turn. The latency of
    /// each write, in milliseconds, comes back when it is stopped.
    pub fn start_foreign_writer(&self, interval: Duration) -> ForeignWriter {
        let client = self.foreign.clone();
        let latencies = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let shared = latencies.clone();
        let task = tokio::spawn(async move {
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "bench-rig");
            let secrets: Api<Secret> = Api::namespaced(client, "bench-rig");
            let mut clock = tokio::time::interval(interval);
            for number in 0_u64.. {
                clock.tick().await;
                let sent = Instant::now();
                if write_foreign(&maps, &secrets, number).await.is_ok() {
                    let mut latencies = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    latencies.push(sent.elapsed().as_secs_f64() * 1000.0);
                }
            }
        });
        ForeignWriter { task, latencies }
    }

    /// How many Secrets the cluster holds, by type; to check what a ceiling really was.
    pub async fn count_copies(&self) -> Result<usize> {
        let api: Api<Secret> = Api::all(self.client.clone());
        let params = ListParams::default().fields(&format!("type={SECRET_TYPE}"));
        Ok(api.list_metadata(&params).await?.items.len())
    }
}

async fn write_foreign(maps: &Api<ConfigMap>, secrets: &Api<Secret>, number: u64) -> kube::Result<()> {
    let params = PatchParams::apply("foreign-writer").force();
    let name = format!("churn-{}", number % 50);
    let body = |kind: &str, data: &str| {
        Patch::Apply(json!({
            "apiVersion": "v1", "kind": kind, "metadata": { "name": name },
            data: { "number": number.to_string() },
        }))
    };
    if number.is_multiple_of(2) {
        maps.patch(&name, &params, &body("ConfigMap", "data")).await.map(drop)
    } else {
        secrets.patch(&name, &params, &body("Secret", "stringData")).await.map(drop)
    }
}

/// Somebody else who writes, until this is stopped.
pub struct ForeignWriter {
    task: JoinHandle<()>,
    latencies: std::sync::Arc<std::sync::Mutex<Vec<f64>>>,
}

impl ForeignWriter {
    /// Stops, and returns the latency of each write in milliseconds.
    pub fn stop(self) -> Vec<f64> {
        self.task.abort();
        std::mem::take(&mut *self.latencies.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Drop for ForeignWriter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Does the same with each item, several at a time; ends with the first error.
pub async fn in_parallel<T, O>(
    items: impl IntoIterator<Item = T>,
    work: impl AsyncFn(T) -> kube::Result<O>,
) -> Result<()> {
    let results = stream::iter(items).map(|item| work(item)).buffer_unordered(DRIVER_CONCURRENCY);
    Ok(results.try_for_each(async |_| Ok(())).await?)
}

/// An object from JSON that this crate wrote itself.
pub(crate) fn object<T: serde::de::DeserializeOwned>(json: Value) -> kube::Result<T> {
    serde_json::from_value(json).map_err(kube::Error::SerdeError)
}
