//! Reads of the API server: in pages, only what a verb needs, and what is refused costs a line.

use std::collections::{BTreeMap, BTreeSet};

use crate::args::Global;
use crate::kubeconfig::{self, words};
use crate::pod::Pod;
use crate::progress::Progress;
use crate::scene::{CREDENTIALS, Look, Scene};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Request};
use kube::core::{ObjectList, Resource};
use kube::{Api, Client};
use regcred_dockerconfig::SecretBytes;
use regcred_index::{Body, CredentialBody, NamespaceBody, Received, ServiceAccountBody};
use serde::de::DeserializeOwned;

/// Why a verb ends without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The kubeconfig.
    #[error("the kubeconfig cannot be used: {0}")]
    Config(String),
    /// A request.
    #[error("{doing}: {words}", words = words(.error))]
    Request {
        /// What was asked for.
        doing: String,
        /// What came back.
        error: kube::Error,
    },
    /// Something that was asked for by name.
    #[error("{0}")]
    Missing(String),
    /// The output.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

/// The cluster, and how it is to be read.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// The namespace that a verb is about, where it is about one.
    pub(crate) namespace: String,
    page: Option<u32>,
    pods: ListParams,
    pub(crate) progress: Progress,
}

impl Cluster {
    /// Connects as kubectl would.
    pub(crate) async fn new(global: &Global) -> Result<Self, Error> {
        let config = kubeconfig::config(global).await.map_err(Error::Config)?;
        let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = kubeconfig::client(config).map_err(Error::Config)?;
        let pods = ListParams {
            label_selector: global.selector.clone(),
            field_selector: global.field_selector.clone(),
            ..ListParams::default()
        };
        Ok(Self {
            client,
            namespace,
            page: (global.chunk_size > 0).then_some(global.chunk_size),
            pods,
            progress: Progress::on_standard_error(),
        })
    }

    /// Reads all RegistryCredentials.
    pub(crate) async fn credentials(&mut self, scene: &mut Scene) -> Result<(), Error> {
        let api = self.all::<CredentialBody>();
        let read = self.each(&api, CREDENTIALS, |received| scene.add_credential(received)).await;
        if let Err(Error::Request { error: kube::Error::Api(status), .. }) = &read
            && status.code == 404
        {
            let words = "the cluster has no RegistryCredentials: install regcred first, its CRD is in crds/";
            return Err(Error::Missing(words.to_owned()));
        }
        refused(read, || scene.unread.note(CREDENTIALS, None))
    }

    /// Reads all namespaces; where that is refused, the one that the verb is about.
    pub(crate) async fn namespaces(&mut self, scene: &mut Scene) -> Result<(), Error> {
        if self.all_namespaces(scene).await? {
            return Ok(());
        }
        scene.unread.note("Namespaces", None);
        self.own_namespace(scene).await
    }

    /// The same for a verb that is about one namespace: the others are only counted, so nobody misses what is refused of them.
    pub(crate) async fn namespace_among_all(&mut self, scene: &mut Scene) -> Result<(), Error> {
        if self.all_namespaces(scene).await? { Ok(()) } else { self.own_namespace(scene).await }
    }

    /// Reads all namespaces; returns whether that was allowed.
    async fn all_namespaces(&mut self, scene: &mut Scene) -> Result<bool, Error> {
        let api = self.all::<NamespaceBody>();
        let read = self.each(&api, "Namespaces", |received| scene.add_namespace(received)).await;
        if is_forbidden(&read) {
            return Ok(false);
        }
        scene.has_all_namespaces = read.is_ok();
        read.map(|()| true)
    }

    /// Reads the namespace that the verb is about.
    async fn own_namespace(&mut self, scene: &mut Scene) -> Result<(), Error> {
        let (api, name) = (self.all::<NamespaceBody>(), self.namespace.clone());
        let read = self.progress.during("reading the Namespace", api.get_opt(&name)).await;
        self.progress.end();
        let read = read.map_err(|error| asking("Namespace", error));
        let read = read.map(|found| found.into_iter().for_each(|received| scene.add_namespace(received)));
        refused(read, || scene.unread.note("Namespaces", Some(&self.namespace)))
    }

    /// Reads ServiceAccounts: of one namespace, or of all.
    pub(crate) async fn accounts(&mut self, scene: &mut Scene, namespace: Option<&str>) -> Result<(), Error> {
        if let Some(namespace) = namespace {
            let api = Api::<Received<ServiceAccountBody>>::namespaced(self.client.clone(), namespace);
            let read = self.each(&api, "ServiceAccounts", |received| scene.add_account(received)).await;
            return refused(read, || scene.unread.note("ServiceAccounts", Some(namespace)));
        }
        let api = self.all::<ServiceAccountBody>();
        let read = self.each(&api, "ServiceAccounts", |received| scene.add_account(received)).await;
        if !is_forbidden(&read) {
            return read;
        }
        let names = scene.namespaces();
        if names.is_empty() {
            scene.unread.note("ServiceAccounts", None);
        }
        for name in names {
            Box::pin(self.accounts(scene, Some(&name))).await?;
        }
        Ok(())
    }

    /// Reads Pods: of one namespace, or of all.
    pub(crate) async fn pods(&mut self, scene: &mut Scene, namespace: Option<&str>) -> Result<(), Error> {
        let path = namespace
            .map_or_else(|| "/api/v1/pods".to_owned(), |name| format!("/api/v1/namespaces/{name}/pods"));
        let read = self.pods_at(&path, scene).await;
        match namespace {
            _ if !is_forbidden(&read) => read,
            Some(namespace) => refused(read, || scene.unread.note("Pods", Some(namespace))),
            None => {
                let names = scene.namespaces();
                if names.is_empty() {
                    scene.unread.note("Pods", None);
                }
                for name in names {
                    Box::pin(self.pods(scene, Some(&name))).await?;
                }
                Ok(())
            }
        }
    }

    /// Reads one Pod.
    pub(crate) async fn pod(&mut self, name: &str) -> Result<Pod, Error> {
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let request = Request::new(path).get(name, &kube::api::GetParams::default());
        let request = request.map_err(|error| asking("Pod", kube::Error::BuildRequest(error)))?;
        let read = self.progress.during("reading the Pod", self.client.request(request)).await;
        self.progress.end();
        read.map_err(|error| asking(&format!("Pod {}/{name}", self.namespace), error))
    }

    /// Reads these Secrets, by namespace and name.
    pub(crate) async fn secrets(
        &mut self,
        scene: &mut Scene,
        names: BTreeSet<(String, String)>,
    ) -> Result<(), Error> {
        let looks = scene.secrets.insert(BTreeMap::new());
        for (namespace, name) in names {
            let api = Api::<Secret>::namespaced(self.client.clone(), &namespace);
            let doing = reading("Secrets", looks.len());
            let look = look(self.progress.during(&doing, api.get_opt(&name)).await)?;
            looks.insert((namespace, name), look);
        }
        self.progress.end();
        Ok(())
    }

    async fn pods_at(&mut self, path: &str, scene: &mut Scene) -> Result<(), Error> {
        let mut params = ListParams { limit: self.page, ..self.pods.clone() };
        loop {
            let request = Request::new(path).list(&params);
            let request = request.map_err(|error| asking("Pods", kube::Error::BuildRequest(error)))?;
            let doing = reading("Pods", scene.pods.len());
            let page = self.progress.during(&doing, self.client.request(request)).await;
            let page: ObjectList<Pod> = page.map_err(|error| asking("Pods", error))?;
            scene.pods.extend(page.items);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                self.progress.end();
                return Ok(());
            }
        }
    }

    fn all<T: Body>(&self) -> Api<Received<T>>
    where
        Received<T>: Resource<DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    /// Hands on each object of a kind, page by page.
    async fn each<K>(&mut self, api: &Api<K>, kind: &str, mut take: impl FnMut(K)) -> Result<(), Error>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let (mut params, mut count) = (ListParams { limit: self.page, ..ListParams::default() }, 0);
        loop {
            let page = self.progress.during(&reading(kind, count), api.list(&params)).await;
            let page = page.map_err(|error| asking(kind, error))?;
            count += page.items.len();
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            page.items.into_iter().for_each(&mut take);
            if params.continue_token.is_none() {
                self.progress.end();
                return Ok(());
            }
        }
    }
}

/// What was seen of a Secret. Its bytes go no further than the scene.
fn look(read: kube::Result<Option<Secret>>) -> Result<Look, Error> {
    let secret = match read {
        Ok(Some(secret)) => secret,
        Ok(None) => return Ok(Look::Missing),
        Err(kube::Error::Api(status)) if status.code == 403 => return Ok(Look::Refused),
        Err(error) => return Err(asking("Secret", error)),
    };
    let mut data = secret.data.unwrap_or_default();
    let mut value = |key: &str| data.remove(key).map(|value| value.0);
    let config = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => value(".dockerconfigjson"),
        // The older form is what stands below `auths` in the present one.
        Some("kubernetes.io/dockercfg") => {
            value(".dockercfg").map(|entries| [&br#"{"auths":"#[..], &entries, b"}"].concat())
        }
        _ => return Ok(Look::OtherType),
    };
    Ok(Look::Config(SecretBytes::from(config.unwrap_or_default())))
}

/// What a terminal is told.
fn reading(kind: &str, count: usize) -> String {
    format!("reading {kind}: {count} so far")
}

fn asking(what: &str, error: kube::Error) -> Error {
    Error::Request { doing: format!("reading {what}"), error }
}

fn is_forbidden<T>(read: &Result<T, Error>) -> bool {
    matches!(read, Err(Error::Request { error: kube::Error::Api(status), .. }) if status.code == 403)
}

/// What is refused is noted, and is no error.
fn refused(read: Result<(), Error>, note: impl FnOnce()) -> Result<(), Error> {
    if is_forbidden(&read) {
        note();
        return Ok(());
    }
    read
}
