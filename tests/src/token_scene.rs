//! A scene with clouds: an operator with the chart's rights may ask the doubles for tokens, also for ServiceAccounts.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    audit::Mark,
    canary::assert_no_canary,
    chart,
    clouds::Clouds,
    install::OPERATOR_NAMESPACE,
    operator::{Operator, OperatorOptions},
    scene::Scene,
};

/// The scene, its clouds and its operator. Methods panic with a message where the cluster refuses.
pub struct TokenScene {
    /// The scene.
    pub scene: Scene,
    /// All clouds and registries that give tokens.
    pub clouds: Clouds,
    /// An operator that asks nobody but them.
    pub operator: Operator,
    begin: Mark,
}

impl TokenScene {
    /// Starts an operator that may ask tokens for the ServiceAccounts of these names, as in `{a,b}`.
    pub async fn new(names: &str) -> Self {
        let scene = Scene::new().await;
        allow(&scene, names).await;
        let clouds = Clouds::start().await.unwrap_or_else(|error| panic!("{error}"));
        let begin = scene.control_plane().audit().mark();
        let options = OperatorOptions { arguments: clouds.arguments(), ..OperatorOptions::default() };
        let operator = scene.operator(options).await;
        Self { scene, clouds, operator, begin }
    }

    /// Lists other ServiceAccounts in the chart's value.
    pub async fn allow(&self, names: &str) {
        allow(&self.scene, names).await;
    }

    /// Makes a ServiceAccount of the operator's namespace.
    pub async fn account(&self, name: &str, annotations: &Value) {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": name, "namespace": OPERATOR_NAMESPACE, "annotations": annotations },
        });
        let accounts: Api<ServiceAccount> = self.scene.service_accounts(OPERATOR_NAMESPACE);
        let applied =
            accounts.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&account)).await;
        applied.unwrap_or_else(|error| panic!("apply ServiceAccount {name}: {error}"));
    }

    /// How many tokens of ServiceAccounts the operator asked for.
    pub fn token_requests(&self) -> usize {
        let asked = self.scene.control_plane().audit().since(self.begin).by(self.operator.user());
        asked.counts().of("create", "serviceaccounts/token")
    }

    /// Ends the scene. Demands that every request was as the cloud wants it, and that nothing of what was given, and no
    /// token of a ServiceAccount, is shown anywhere.
    pub async fn clear(self) {
        assert_eq!(self.clouds.complaints(), Vec::<String>::new(), "every request is as the cloud wants it");
        self.scene.keep_secret(self.clouds.shown());
        let metrics = self.operator.metrics().await.unwrap_or_else(|error| panic!("{error}"));
        assert_no_canary([("the metrics", &*metrics)]);
        assert!(self.clouds.shown().iter().all(|token| !metrics.contains(token)));
        self.scene.finish().await;
    }
}

/// What the chart gives where its value lists these ServiceAccounts.
async fn allow(scene: &Scene, names: &str) {
    let listed = format!("tokens.serviceAccounts={names}");
    let values = ["attachAtBirth.enabled=false", &listed];
    chart::apply(scene.control_plane(), &values).await.unwrap_or_else(|error| panic!("{error}"));
}
