//! What the tests share: the node, a registry, the installed chart, and words for what they do.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use regcred_tests::{
    chart, eventually,
    install::{OPERATOR_NAMESPACE, repository},
    node::{
        Node, OPERATOR_IMAGE,
        registry::{Login, Registry, basic},
    },
};
use serde_json::{Value, json};

/// The host name of the registry.
pub(crate) const HOST: &str = "registry.test:5000";
/// How soon a Pod runs that can pull; the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_mins(1);
/// As [`SOON`] where a first pull failed: the kubelet waits 10, 20, 40 seconds and so on between tries.
pub(crate) const AFTER_BACK_OFF: Duration = Duration::from_mins(3);

pub(crate) struct Stage {
    pub(crate) registry: Registry,
    pub(crate) node: Node,
    /// Tells the operator where the registry is, as its name means nothing to a Pod.
    endpoint: String,
    images: AtomicUsize,
}

/// Who may pull from the registry at first.
pub(crate) fn puller() -> Login {
    Login::new("puller", "s3cret")
}

impl Stage {
    /// A node with a registry and the chart, installed as a user does.
    pub(crate) async fn open() -> Self {
        let mut node = Node::start().await.unwrap();
        let registry = node.registry(HOST, &[puller()]).await.unwrap();
        let address = node.open_to_pods(&registry).await.unwrap();
        node.import_operator().await.unwrap();
        let endpoint = format!("extraArgs[0]=--registry-endpoint={HOST}=http://{address}");
        let this = Self { registry, node, endpoint, images: AtomicUsize::new(0) };
        let enforced = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        this.apply(&[namespace(OPERATOR_NAMESPACE, &enforced)]).await;
        this.helm(&["install", chart::RELEASE, "deploy/chart"], &[]).await;
        this
    }

    /// Runs Helm on the release, and waits until its Pods are ready.
    pub(crate) async fn helm(&self, command: &[&str], values: &[&str]) -> String {
        let image = format!("image.repository={OPERATOR_IMAGE}");
        let fixed = ["--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "120s"];
        let values = [&*image, &*self.endpoint].into_iter().chain(values.iter().copied());
        let values = values.flat_map(|value| ["--set", value]);
        let arguments: Vec<&str> = command.iter().copied().chain(fixed).chain(values).collect();
        chart::helm(Some(self.node.control_plane()), &arguments).await.unwrap()
    }

    /// Runs kubectl; words are separated by blanks.
    pub(crate) async fn kubectl(&self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        self.node.kubectl(&words, "").await.unwrap().trim().to_owned()
    }

    /// Applies these objects in one go.
    pub(crate) async fn apply(&self, objects: &[Value]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let command = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.node.kubectl(&command, &list.to_string()).await.unwrap();
    }

    /// An image that nobody has pulled yet, in the registry: its name.
    pub(crate) async fn new_image(&self, repository: &str, login: &Login) -> String {
        let tag = self.new_tag();
        let image = self.node.new_image(&tag).unwrap();
        self.registry.push(&image, repository, &tag, &basic(login)).await.unwrap();
        format!("{HOST}/{repository}:{tag}")
    }

    /// A tag that no image has.
    pub(crate) fn new_tag(&self) -> String {
        format!("v{}", self.images.fetch_add(1, Ordering::Relaxed))
    }

    /// A source Secret and a RegistryCredential that gives it to every namespace with the label `pull: {name}`.
    pub(crate) async fn credential(&self, name: &str, server: &str, login: &Login) {
        self.apply(&[source(name, login), credential(name, server)]).await;
    }

    /// A namespace with the label `pull: {label}`, once its ServiceAccount is there.
    pub(crate) async fn namespace(&self, name: &str, label: &str) {
        self.apply(&[namespace(name, &json!({ "pull": label }))]).await;
        eventually("the ServiceAccount default", SOON, async || {
            let look = ["get", "serviceaccount", "default", "--namespace", name];
            self.node.kubectl(&look, "").await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Waits until a namespace holds the copy and its ServiceAccount names it.
    pub(crate) async fn served(&self, namespace: &str, name: &str) {
        eventually("the namespace to be served", SOON, async || {
            let secret = ["get", "secret", name, "--namespace", namespace];
            self.node.kubectl(&secret, "").await.map_err(|error| error.to_string())?;
            let names = self.pull_secrets("serviceaccount/default", namespace).await;
            if names.split(' ').any(|own| own == name) { Ok(()) } else { Err(names) }
        })
        .await;
    }

    async fn pull_secrets(&self, object: &str, namespace: &str) -> String {
        self.kubectl(&format!(
            "get {object} --namespace {namespace} --output jsonpath={{.imagePullSecrets[*].name}}"
        ))
        .await
    }

    /// Waits until a Pod runs.
    pub(crate) async fn runs(&self, namespace: &str, pod: &str, within: Duration) {
        eventually(&format!("Pod {namespace}/{pod} to run"), within, async || {
            let state = self.state(namespace, pod).await;
            if state.starts_with("Running true") { Ok(()) } else { Err(state) }
        })
        .await;
    }

    /// Waits until a Pod's container waits for this reason; returns all that the kubelet says.
    pub(crate) async fn waits(&self, namespace: &str, pod: &str, reason: &str) -> String {
        eventually(&format!("Pod {namespace}/{pod} to wait for {reason}"), SOON, async || {
            let state = self.state(namespace, pod).await;
            if state.contains(reason) { Ok(state) } else { Err(state) }
        })
        .await
    }

    /// Phase, readiness, and why the container waits.
    pub(crate) async fn state(&self, namespace: &str, pod: &str) -> String {
        let path = "jsonpath={.status.phase} {.status.containerStatuses[0].ready} \
                    {.status.containerStatuses[0].state.waiting.reason} \
                    {.status.containerStatuses[0].state.waiting.message}";
        let look = ["get", "pod", pod, "--namespace", namespace, "--output", path];
        self.node.kubectl(&look, "").await.unwrap_or_else(|error| error.to_string())
    }

    /// Waits until an event of a Pod says this; events travel apart from its status.
    pub(crate) async fn tells(&self, namespace: &str, pod: &str, message: &str) {
        eventually(&format!("an event of {namespace}/{pod}: {message}"), SOON, async || {
            let events = self.events(namespace, pod).await;
            if events.contains(message) { Ok(()) } else { Err(events) }
        })
        .await;
    }

    async fn events(&self, namespace: &str, pod: &str) -> String {
        let selector = format!("involvedObject.name={pod}");
        let path = "jsonpath={range .items[*]}{.reason}: {.message}{'\\n'}{end}";
        let look =
            ["get", "events", "--namespace", namespace, "--field-selector", &selector, "--output", path];
        self.node.kubectl(&look, "").await.unwrap()
    }

    /// The credential inside a copy, as text.
    pub(crate) async fn copy(&self, namespace: &str, name: &str) -> String {
        let path = r"jsonpath={.data.\.dockerconfigjson}";
        let look = ["get", "secret", name, "--namespace", namespace, "--output", path];
        let data = self.node.kubectl(&look, "").await.unwrap();
        String::from_utf8(STANDARD.decode(data).unwrap()).unwrap()
    }

    /// Waits until a copy is that of this login.
    pub(crate) async fn holds(&self, namespace: &str, name: &str, login: &Login) {
        let auth = auth(login);
        eventually("the copy to be the new one", SOON, async || {
            if self.copy(namespace, name).await.contains(&auth) {
                Ok(())
            } else {
                Err("the old one".to_owned())
            }
        })
        .await;
    }

    /// Waits until a condition of a RegistryCredential has this reason.
    pub(crate) async fn condition(&self, name: &str, kind: &str, reason: &str) {
        let path = format!("jsonpath={{.status.conditions[?(@.type=='{kind}')].reason}}");
        eventually(&format!("{kind}={reason} of {name}"), SOON, async || {
            let is = self.kubectl(&format!("get regcred {name} --output {path}")).await;
            if is == reason { Ok(()) } else { Err(is) }
        })
        .await;
    }

    /// Takes namespaces and RegistryCredentials away, so that the node has room for the next test.
    pub(crate) async fn clear(&self, namespaces: &[&str], credentials: &[&str]) {
        self.kubectl(&format!("delete namespace --wait=false {}", namespaces.join(" "))).await;
        self.kubectl(&format!("delete regcred {}", credentials.join(" "))).await;
    }
}

pub(crate) fn namespace(name: &str, labels: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}

pub(crate) fn source(name: &str, login: &Login) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name, "namespace": OPERATOR_NAMESPACE },
        "type": "kubernetes.io/basic-auth",
        "stringData": { "username": login.user, "password": login.password },
    })
}

pub(crate) fn credential(name: &str, server: &str) -> Value {
    credential_of(name, &json!([{ "server": server, "source": { "secretRef": { "name": name } } }]))
}

pub(crate) fn credential_of(name: &str, registries: &Value) -> Value {
    json!({
        "apiVersion": "regcred.dev/v1alpha1",
        "kind": "RegistryCredential",
        "metadata": { "name": name },
        "spec": { "registries": registries, "namespaces": { "selector": { "matchLabels": { "pull": name } } } },
    })
}

pub(crate) fn pod(namespace: &str, name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace },
        "spec": pod_spec(image),
    })
}

pub(crate) fn deployment(namespace: &str, name: &str, image: &str) -> Value {
    let labels = json!({ "app": name });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod_spec(image) },
        },
    })
}

fn pod_spec(image: &str) -> Value {
    json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{ "name": "app", "image": image, "imagePullPolicy": "IfNotPresent" }],
    })
}

/// The value of `auth` in a docker configuration.
pub(crate) fn auth(login: &Login) -> String {
    STANDARD.encode(format!("{}:{}", login.user, login.password))
}

/// A file of the repository.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}
