//! One RegistryCredential in one namespace: what a test changes about it, and what it expects to find there.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    audit::{Entries, Mark},
    canary::CANARY,
    scene::{Condition, SOON, Scene},
    wait::eventually,
};

const SERVER: &str = "ghcr.io";
const ATTACHED: &str = "regcred.dev/attached";
/// A ServiceAccount whose chart names the Secret itself, so that the entry is not regcred's.
pub const CHART: &str = "chart";

/// A RegistryCredential that is to serve one namespace, with all its ServiceAccounts: `default`, and [`CHART`].
pub struct Pull<'a> {
    scene: &'a Scene,
    /// The namespace.
    pub namespace: String,
    /// The RegistryCredential, and its target name as long as the spec gives no other.
    pub name: String,
    suffix: String,
    source: String,
    spec: Value,
}

impl<'a> Pull<'a> {
    /// A RegistryCredential that is in place.
    pub async fn in_place(scene: &'a Scene, suffix: &str) -> Self {
        let mut pull = Self::prepared(scene, suffix).await;
        pull.apply(json!({})).await;
        pull.ready().await;
        pull.lists("default", &[&ours(&pull.name)]).await;
        pull.lists(CHART, &[&pull.name]).await;
        pull
    }

    /// A namespace with a ServiceAccount of a chart, and a source, for a RegistryCredential that is still to be applied.
    pub async fn prepared(scene: &'a Scene, suffix: &str) -> Self {
        let namespace = scene.settled_namespace(suffix, &[("pull", suffix)]).await;
        let name = scene.name(suffix);
        scene.service_account(&namespace, CHART, &[&name]).await;
        Self::new(scene, suffix, suffix, namespace).await
    }

    /// Another RegistryCredential for the same namespace, still to be applied.
    pub async fn beside(&self, suffix: &str) -> Self {
        Self::new(self.scene, suffix, &self.suffix, self.namespace.clone()).await
    }

    async fn new(scene: &'a Scene, suffix: &str, label: &str, namespace: String) -> Self {
        let source = scene.basic_auth_source(suffix, suffix).await;
        let spec = json!({
            "registries": [{"server": SERVER, "source": {"secretRef": {"name": source}}}],
            "namespaces": {"selector": {"matchLabels": {"pull": label}}},
            "serviceAccounts": {"from": "All"},
        });
        Self { scene, namespace, name: scene.name(suffix), suffix: suffix.to_owned(), source, spec }
    }

    /// Changes these fields of the spec, null takes one away, and applies it.
    pub async fn apply(&mut self, change: Value) {
        let fields = self.spec.as_object_mut().expect("a spec is an object");
        for (field, value) in change.as_object().expect("a change is an object") {
            fields.insert(field.clone(), value.clone());
        }
        fields.retain(|_, value| !value.is_null());
        self.scene.credential(&self.suffix, self.spec.clone()).await;
    }

    /// Changes the user in the source.
    pub async fn rotate(&self, user: &str) {
        self.scene.basic_auth_source(&self.suffix, user).await;
    }

    /// Deletes the source.
    pub async fn break_source(&self) {
        self.scene.delete_source(&self.source).await;
    }

    /// Takes the label off the namespace by which it is selected.
    pub async fn deselect(&self) {
        self.label(None).await;
    }

    /// Puts the label on the namespace by which it is selected.
    pub async fn select(&self) {
        self.label(Some(&self.suffix)).await;
    }

    async fn label(&self, label: Option<&str>) {
        let namespaces: Api<Namespace> = Api::all(self.scene.client.clone());
        let body = json!({"metadata": {"labels": {"pull": label}}});
        namespaces.patch(&self.namespace, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
    }

    /// Asks for a refresh, as `kubectl annotate` does.
    pub async fn request(&self, value: &str) {
        let body = Patch::Merge(json!({"metadata": {"annotations": {"regcred.dev/requestedAt": value}}}));
        self.scene.credentials().patch(&self.name, &PatchParams::default(), &body).await.unwrap();
    }

    /// Deletes the RegistryCredential and waits for its end.
    pub async fn delete(&self) {
        self.scene.delete_credential(&self.name).await;
        self.ended().await;
    }

    /// Waits until the RegistryCredential no longer exists.
    pub async fn ended(&self) {
        eventually(&format!("the end of {}", self.name), SOON, async || {
            let left = self.scene.credentials().get_opt(&self.name).await.unwrap();
            left.map_or(Ok(()), |object| Err(object.data["status"]["conditions"][0].to_string()))
        })
        .await;
    }

    /// Waits until a condition about the present spec has this status and this reason.
    pub async fn told(&self, kind: &str, status: &str, reason: &str) -> Condition {
        eventually(&format!("{kind}={status}/{reason} on {}", self.name), SOON, async || {
            let object = self.scene.credentials().get(&self.name).await.unwrap();
            let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.into_iter().find(|condition| condition["type"] == kind);
            let found = found.ok_or_else(|| object.data["status"].to_string())?;
            let wanted = json!([status, reason, object.metadata.generation]);
            if json!([found["status"], found["reason"], found["observedGeneration"]]) == wanted {
                Ok(serde_json::from_value(found).expect("a condition has status, reason and message"))
            } else {
                Err(found.to_string())
            }
        })
        .await
    }

    /// Waits until everything is in place, as the present spec says.
    pub async fn ready(&self) -> Condition {
        self.told("Ready", "True", "Succeeded").await
    }

    /// Waits until the message of `Ready` has this in it.
    pub async fn ready_says(&self, text: &str) {
        eventually(&format!("Ready of {} says {text}", self.name), SOON, async || {
            let ready = self.ready().await;
            if ready.message.contains(text) { Ok(()) } else { Err(ready.message) }
        })
        .await;
    }

    /// Waits until a ServiceAccount lists these names in this order; see [`ours`].
    pub async fn lists(&self, account: &str, wanted: &[&str]) {
        eventually(&format!("the list of {}/{account}", self.namespace), SOON, async || {
            let list = self.list(account).await;
            if list == wanted { Ok(()) } else { Err(format!("{list:?} is not {wanted:?}")) }
        })
        .await;
    }

    /// The names that a ServiceAccount lists, those that regcred marked as its own as [`ours`]; last come marks
    /// without an entry, after a `!`.
    pub async fn list(&self, account: &str) -> Vec<String> {
        let Some(account) = self.scene.service_accounts(&self.namespace).get_opt(account).await.unwrap()
        else {
            return Vec::new();
        };
        let annotation = account.annotations().get(ATTACHED).cloned().unwrap_or_default();
        let marked: BTreeSet<&str> = annotation.split(',').filter(|name| !name.is_empty()).collect();
        let names: Vec<String> =
            account.image_pull_secrets.into_iter().flatten().map(|entry| entry.name).collect();
        let shown = |name: &String| if marked.contains(name.as_str()) { ours(name) } else { name.clone() };
        let stray = marked.iter().filter(|mark| names.iter().all(|name| name != *mark));
        names.iter().map(shown).chain(stray.map(|mark| format!("!{mark}"))).collect()
    }

    /// A Secret of the namespace.
    pub async fn secret(&self, name: &str) -> Option<Secret> {
        self.scene.secret(&self.namespace, name).await
    }

    /// The UID of a Secret that is there.
    pub async fn uid(&self, name: &str) -> String {
        self.secret(name).await.and_then(|secret| secret.uid()).unwrap_or_else(|| panic!("no Secret {name}"))
    }

    /// The version of a Secret that is there.
    pub async fn version(&self, name: &str) -> String {
        let secret = self.secret(name).await;
        secret.and_then(|secret| secret.resource_version()).unwrap_or_else(|| panic!("no Secret {name}"))
    }

    /// An annotation of regcred on a Secret.
    pub async fn annotation(&self, name: &str, key: &str) -> Option<String> {
        self.secret(name).await?.annotations().get(&format!("regcred.dev/{key}")).cloned()
    }

    /// Waits until a Secret holds the credential of this user.
    pub async fn holds(&self, name: &str, user: &str) {
        let wanted = STANDARD.encode(format!("{user}:{CANARY}"));
        eventually(&format!("{}/{name} for {user}", self.namespace), SOON, async || {
            let config = self.scene.docker_config(&self.namespace, name).await.unwrap_or_default();
            let auth = &config["auths"][SERVER]["auth"];
            if *auth == wanted { Ok(()) } else { Err(format!("holds something: {}", !auth.is_null())) }
        })
        .await;
    }

    /// Waits until a Secret no longer exists.
    pub async fn gone(&self, name: &str) {
        eventually(&format!("the end of Secret {}/{name}", self.namespace), SOON, async || {
            self.secret(name).await.map_or(Ok(()), |_| Err("still there".to_owned()))
        })
        .await;
    }

    /// Deletes a Secret, as somebody else.
    pub async fn delete_secret(&self, name: &str) {
        self.scene.secrets(&self.namespace).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Changes a Secret, as somebody else.
    pub async fn edit_secret(&self, name: &str, body: Value) {
        let edit = Patch::Merge(body);
        self.scene.secrets(&self.namespace).patch(name, &PatchParams::default(), &edit).await.unwrap();
    }

    /// What was written in the namespace by one user since then and granted, as verb, resource and name.
    pub fn writes(&self, mark: Mark, user: &str) -> Vec<String> {
        let shown = self.written(mark, user).granted();
        shown.iter().map(|entry| format!("{} {}/{}", entry.verb, entry.resource, entry.name)).collect()
    }

    /// What one user tried to write in the namespace since then.
    pub fn written(&self, mark: Mark, user: &str) -> Entries {
        self.scene.control_plane().audit().since(mark).writes_by(user).within(&self.namespace)
    }
}

/// How a list shows an entry that regcred marked as its own.
pub fn ours(name: &str) -> String {
    format!("{name}*")
}

/// An object as a backup has it: without owner, UID and everything else that the cluster gave it.
pub fn backup<K: Resource<DynamicType = ()>>(mut object: K) -> K {
    let metadata = object.meta_mut();
    *metadata = ObjectMeta {
        name: metadata.name.take(),
        labels: metadata.labels.take(),
        annotations: metadata.annotations.take(),
        ..ObjectMeta::default()
    };
    object
}
