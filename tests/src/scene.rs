//! What a test holds: the shared control plane for itself alone, namespaces and source Secrets under names of its
//! own, operators, and a look at the result.
//!
//! Scenes of one test binary follow each other. A scene that ends by panicking cleans nothing up; the next one
//! does, so a failed test never spoils another.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::{
    ByteString,
    api::{
        coordination::v1::Lease,
        core::v1::{Event, Namespace, Secret, ServiceAccount},
    },
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::{MutexGuard, OnceCell};

use crate::{
    SECRET_KEY, SECRET_TYPE,
    canary::{CANARY, assert_no_canary},
    control_plane::{ControlPlane, Options},
    install::{self, OPERATOR_NAMESPACE},
    operator::{Operator, OperatorOptions},
    process::Process,
    wait::eventually,
};

/// The label by which the next scene finds what this one left behind.
const SCENE_LABEL: &str = "regcred.test/scene";
/// The label without which a Secret of type Opaque is no source.
const SOURCE_LABEL: &str = "regcred.dev/source";
const FIELD_MANAGER: &str = "regcred-scene";
/// True between a scene that ended well and the next one.
static TIDY: AtomicBool = AtomicBool::new(false);
/// How long a test waits for something that should be quick.
pub const SOON: Duration = Duration::from_secs(20);

/// The control plane that all tests of this process share.
pub async fn shared_control_plane() -> &'static ControlPlane {
    shared_control_plane_with(Options::default()).await
}

/// The options count for whoever asks first.
async fn shared_control_plane_with(options: Options) -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    let start = async || ControlPlane::start(options).await;
    SHARED.get_or_try_init(start).await.unwrap_or_else(|error| panic!("{error}"))
}

/// One test's part of the cluster. Methods panic with a message where the cluster refuses.
pub struct Scene {
    /// A client of the cluster administrator.
    pub client: Client,
    control_plane: &'static ControlPlane,
    prefix: String,
    operators: Mutex<Vec<Arc<Process>>>,
    secret_texts: Mutex<Vec<String>>,
    _alone: MutexGuard<'static, ()>,
}

/// A condition in a status.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, for machines.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

impl Scene {
    /// Waits for the scene before. If there was none, or it failed, installs regcred and tidies
    /// up: a failed test may have left anything, even the API server stopped.
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// As [`Self::new`], with options for the control plane; all scenes of a test program must give the same.
    pub async fn with(options: Options) -> Self {
        static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let alone = ALONE.lock().await;
        let control_plane = shared_control_plane_with(options).await;
        control_plane.start_api_server().await.unwrap_or_else(|error| panic!("{error}"));
        let client = control_plane.admin().await.unwrap_or_else(|error| panic!("{error}"));
        let prefix = format!("s{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let scene = Self {
            client,
            control_plane,
            prefix,
            operators: Mutex::default(),
            secret_texts: Mutex::default(),
            _alone: alone,
        };
        if !TIDY.swap(false, Ordering::Relaxed) {
            scene.reinstall().await;
            scene.tidy_up().await;
        }
        scene
    }

    /// Installs regcred again, for tests that took something of them away.
    pub async fn reinstall(&self) {
        install::install(self.control_plane).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The control plane, for audit counts, users and restarts.
    pub fn control_plane(&self) -> &'static ControlPlane {
        self.control_plane
    }

    /// A name that no other scene uses.
    pub fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.prefix)
    }

    /// Makes a namespace of the scene with these labels, and returns its full name. Its ServiceAccount `default`
    /// appears a moment later.
    pub async fn namespace(&self, suffix: &str, labels: &[(&str, &str)]) -> String {
        let name = self.name(suffix);
        let mut labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        labels.insert(SCENE_LABEL, &self.prefix);
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels },
        });
        self.apply(&Api::<Namespace>::all(self.client.clone()), &namespace).await;
        name
    }

    /// As [`Self::namespace`], and waits for its ServiceAccount `default`.
    pub async fn settled_namespace(&self, suffix: &str, labels: &[(&str, &str)]) -> String {
        let name = self.namespace(suffix, labels).await;
        eventually(&format!("ServiceAccount {name}/default"), SOON, async || {
            self.service_account_named(&name, "default").await.map(drop).ok_or_else(|| "not there".to_owned())
        })
        .await;
        name
    }

    /// Makes a ServiceAccount that already has these entries in its list.
    pub async fn service_account(&self, namespace: &str, name: &str, pull_secrets: &[&str]) {
        let entries: Vec<Value> = pull_secrets.iter().map(|name| json!({ "name": name })).collect();
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": name, "namespace": namespace }, "imagePullSecrets": entries,
        });
        self.apply(&Api::<ServiceAccount>::namespaced(self.client.clone(), namespace), &account).await;
    }

    /// Makes or rewrites a source Secret of any type in the operator's namespace, with the label that one of type Opaque
    /// needs; returns its full name.
    pub async fn source(&self, suffix: &str, kind: &str, data: &[(&str, &str)]) -> String {
        self.labelled_secret((suffix, kind, "true"), data).await
    }

    /// Makes or rewrites a Secret of type Opaque that holds an identity; returns its full name.
    pub async fn identity(&self, suffix: &str, data: &[(&str, &str)]) -> String {
        self.labelled_secret((suffix, "Opaque", "identity"), data).await
    }

    async fn labelled_secret(
        &self,
        (suffix, kind, label): (&str, &str, &str),
        data: &[(&str, &str)],
    ) -> String {
        let name = self.name(suffix);
        let data: BTreeMap<&str, ByteString> =
            data.iter().map(|(key, value)| (*key, ByteString(value.as_bytes().to_vec()))).collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind, "data": data,
            "metadata": {
                "name": name, "namespace": OPERATOR_NAMESPACE,
                "labels": { SCENE_LABEL: self.prefix, SOURCE_LABEL: label },
            },
        });
        self.apply(&self.secrets(OPERATOR_NAMESPACE), &secret).await;
        name
    }

    /// A source of type `kubernetes.io/basic-auth`, whose password is the canary.
    pub async fn basic_auth_source(&self, suffix: &str, user: &str) -> String {
        self.source(suffix, "kubernetes.io/basic-auth", &[("username", user), ("password", CANARY)]).await
    }

    /// A source of type `kubernetes.io/dockerconfigjson` for one server, whose password is the canary.
    pub async fn docker_config_source(&self, suffix: &str, server: &str, user: &str) -> String {
        let config = json!({ "auths": { server: { "username": user, "password": CANARY } } }).to_string();
        self.source(suffix, SECRET_TYPE, &[(SECRET_KEY, &config)]).await
    }

    /// Deletes a source Secret.
    pub async fn delete_source(&self, full_name: &str) {
        let deleted = self.secrets(OPERATOR_NAMESPACE).delete(full_name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("delete source {full_name}: {error}"));
    }

    /// Makes or rewrites a `RegistryCredential` with this spec, by server-side apply; returns its full name.
    pub async fn credential(&self, suffix: &str, spec: Value) -> String {
        let name = self.name(suffix);
        if let Err(error) = self.try_credential(&name, spec).await {
            panic!("apply RegistryCredential {name}: {error}");
        }
        name
    }

    /// As [`Self::credential`] by its full name, for specs that the API server should refuse.
    pub async fn try_credential(&self, full_name: &str, spec: Value) -> kube::Result<DynamicObject> {
        let object = json!({
            "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential",
            "metadata": { "name": full_name }, "spec": spec,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.credentials().patch(full_name, &params, &Patch::Apply(&object)).await
    }

    /// Asks for the deletion of a `RegistryCredential`; it is gone once the operator removes its finalizer.
    pub async fn delete_credential(&self, full_name: &str) {
        let deleted = self.credentials().delete(full_name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("delete RegistryCredential {full_name}: {error}"));
    }

    /// Starts an operator and waits until it is ready. What it logs is searched for the canary in the end.
    pub async fn operator(&self, options: OperatorOptions) -> Operator {
        let operator = self.starting_operator(options).await;
        operator.wait_ready().await.unwrap_or_else(|error| panic!("{error}"));
        operator
    }

    /// As [`Self::operator`], without waiting.
    pub async fn starting_operator(&self, options: OperatorOptions) -> Operator {
        let operator = Operator::start(self.control_plane, options).await;
        let operator = operator.unwrap_or_else(|error| panic!("{error}"));
        self.operators.lock().unwrap().push(operator.process());
        operator
    }

    /// Adds texts to those that may be found nowhere when the scene ends.
    pub fn keep_secret(&self, texts: impl IntoIterator<Item = String>) {
        self.secret_texts.lock().unwrap().extend(texts);
    }

    /// A Secret, or nothing if there is none.
    pub async fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        let found = self.secrets(namespace).get_opt(name).await;
        found.unwrap_or_else(|error| panic!("get Secret {namespace}/{name}: {error}"))
    }

    /// What a Secret holds as `.dockerconfigjson`; nothing if there is no such Secret, or no such JSON in it.
    pub async fn docker_config(&self, namespace: &str, name: &str) -> Option<Value> {
        let data = self.secret(namespace, name).await?.data?;
        serde_json::from_slice(&data.get(SECRET_KEY)?.0).ok()
    }

    /// The names in a ServiceAccount's `imagePullSecrets`, in their order; none if there is no such account.
    pub async fn pull_secrets(&self, namespace: &str, name: &str) -> Vec<String> {
        let account = self.service_account_named(namespace, name).await;
        let entries = account.and_then(|account| account.image_pull_secrets).unwrap_or_default();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    /// The status of a `RegistryCredential`; null if there is no such object, or no status yet.
    pub async fn status(&self, full_name: &str) -> Value {
        let found = self.credentials().get_opt(full_name).await;
        let found = found.unwrap_or_else(|error| panic!("get RegistryCredential {full_name}: {error}"));
        found.map(|object| object.data["status"].clone()).unwrap_or_default()
    }

    /// One condition of a `RegistryCredential`.
    pub async fn condition(&self, full_name: &str, kind: &str) -> Option<Condition> {
        let status = self.status(full_name).await;
        let condition = status["conditions"].as_array()?.iter().find(|it| it["type"] == kind)?.clone();
        Some(serde_json::from_value(condition).expect("a condition has status, reason and message"))
    }

    /// Waits until a condition has this status and this reason.
    pub async fn wait_condition(&self, full_name: &str, kind: &str, status: &str, reason: &str) -> Condition {
        eventually(&format!("{kind}={status}/{reason} on {full_name}"), SOON, async || {
            match self.condition(full_name, kind).await {
                Some(now) if now.status == status && now.reason == reason => Ok(now),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// All `RegistryCredential`s.
    pub fn credentials(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("regcred.dev", "v1alpha1", "RegistryCredential");
        let resource = ApiResource::from_gvk_with_plural(&kind, "registrycredentials");
        Api::all_with(self.client.clone(), &resource)
    }

    /// The Secrets of a namespace.
    pub fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies a Secret as regcred would for this RegistryCredential, under its field manager, with data of somebody else's.
    /// `metadata` is added to what regcred writes there.
    pub async fn apply_as_regcred(&self, namespace: &str, name: &str, credential: &str, metadata: Value) {
        let object = self.credentials().get(credential).await.unwrap();
        let uid = object.metadata.uid.unwrap();
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
            "metadata": {
                "name": name,
                "labels": {"app.kubernetes.io/managed-by": "regcred", "regcred.dev/credential": credential},
                "annotations": {"regcred.dev/credential-uid": uid},
                "ownerReferences": [{
                    "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "name": credential, "uid": uid,
                }],
            },
            "data": {SECRET_KEY: STANDARD.encode(r#"{"auths":{"ghcr.io":{"username":"forged","password":"f"}}}"#)},
        });
        let more = metadata.as_object().cloned().unwrap_or_default();
        secret["metadata"].as_object_mut().unwrap().extend(more);
        let params = PatchParams::apply("regcred").force();
        self.secrets(namespace).patch(name, &params, &Patch::Apply(&secret)).await.unwrap();
    }

    /// The ServiceAccounts of a namespace.
    pub fn service_accounts(&self, namespace: &str) -> Api<ServiceAccount> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Ends the scene: kills its operators, searches everything that was emitted for the canary, and removes what
    /// was made.
    pub async fn finish(self) {
        self.kill_operators();
        self.assert_nothing_leaked().await;
        self.tidy_up().await;
        TIDY.store(true, Ordering::Relaxed);
    }

    /// Searches operator logs, events, statuses and the audit log for the canary.
    async fn assert_nothing_leaked(&self) {
        let logs = |process: &Arc<Process>| (process.name().to_owned(), process.stdout() + &process.stderr());
        let mut texts: Vec<(String, String)> = self.operators.lock().unwrap().iter().map(logs).collect();
        let all = ListParams::default();
        let events = Api::<Event>::all(self.client.clone()).list(&all).await.expect("list events");
        texts.push(("events".to_owned(), serde_json::to_string(&events.items).expect("events are JSON")));
        let credentials = self.credentials().list(&all).await.expect("list RegistryCredentials");
        let credentials = serde_json::to_string(&credentials.items).expect("objects are JSON");
        texts.push(("RegistryCredentials".to_owned(), credentials));
        texts.push(("the audit log".to_owned(), format!("{:?}", self.control_plane.audit().entries())));
        for (name, text) in &texts {
            let found = self.secret_texts.lock().unwrap().iter().any(|secret| text.contains(secret));
            assert!(!found, "{name} shows what it should not");
        }
        assert_no_canary(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    }

    fn kill_operators(&self) {
        self.operators.lock().unwrap().iter().for_each(|process| process.kill());
    }

    /// Removes what any scene has made. No operator needs to run: finalizers are removed. Namespaces end
    /// slowly; nobody waits for them, as names are never used twice.
    async fn tidy_up(&self) {
        let background = DeleteParams::default();
        for object in self.credentials().list(&ListParams::default()).await.expect("list RegistryCredentials")
        {
            let (name, released) = (object.name_any(), json!({ "metadata": { "finalizers": null } }));
            let patched =
                self.credentials().patch(&name, &PatchParams::default(), &Patch::Merge(released)).await;
            // A running operator may put the finalizer back, or be done with the object before us.
            ignore_missing(patched);
            ignore_missing(self.credentials().delete(&name, &background).await);
        }
        let ours = ListParams::default().labels(SCENE_LABEL);
        let namespaces = Api::<Namespace>::all(self.client.clone());
        for namespace in namespaces.list_metadata(&ours).await.expect("list namespaces") {
            ignore_missing(namespaces.delete(&namespace.name_any(), &background).await);
        }
        // A killed leader's lease would keep the next one waiting.
        let leases = Api::<Lease>::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let free = Patch::Merge(json!({ "spec": { "holderIdentity": null } }));
        ignore_missing(leases.patch("regcred", &PatchParams::default(), &free).await);
        let sources = self.secrets(OPERATOR_NAMESPACE);
        sources.delete_collection(&background, &ours).await.expect("delete source Secrets");
    }

    async fn service_account_named(&self, namespace: &str, name: &str) -> Option<ServiceAccount> {
        let found = self.service_accounts(namespace).get_opt(name).await;
        found.unwrap_or_else(|error| panic!("get ServiceAccount {namespace}/{name}: {error}"))
    }

    async fn apply<K>(&self, api: &Api<K>, object: &Value)
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let name = object["metadata"]["name"].as_str().expect("objects have names");
        let params = PatchParams::apply(FIELD_MANAGER).force();
        if let Err(error) = api.patch(name, &params, &Patch::Apply(object)).await {
            panic!("apply {} {name}: {error}", object["kind"]);
        }
    }
}

/// No operator of one scene writes into the next, even if the test keeps it longer than its scene.
impl Drop for Scene {
    fn drop(&mut self) {
        self.kill_operators();
    }
}

fn ignore_missing<T>(outcome: kube::Result<T>) {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
        outcome => drop(outcome.unwrap_or_else(|error| panic!("tidy up: {error}"))),
    }
}
