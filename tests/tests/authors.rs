//! What an author of RegistryCredentials, or whoever opts out, gets on a real API server: pull secrets where they are
//! wanted, and nothing else of the operator's.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use regcred_tests::operator::OperatorOptions;
use regcred_tests::Scene;
use serde_json::{Value, json};

fn spec(source: &str, namespaces: &Value) -> Value {
    json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": namespaces,
    })
}

async fn annotate(scene: &Scene, namespace: &str, annotations: Value) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    namespaces.patch(namespace, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn whoever_opts_out_in_words_of_their_own_gets_nothing() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let mut out = Vec::new();
    for (number, value) in ["true", "True", "1", "yes", "false", ""].into_iter().enumerate() {
        let name = scene.settled_namespace(&format!("opt{number}"), &[]).await;
        annotate(&scene, &name, json!({"regcred.dev/exclude": value})).await;
        // The label comes last, so that no namespace is selected before it is annotated.
        let label = Patch::Merge(json!({"metadata": {"labels": {"pull": "opted"}}}));
        let namespaces: Api<Namespace> = Api::all(scene.client.clone());
        namespaces.patch(&name, &PatchParams::default(), &label).await.unwrap();
        out.push((name, value));
    }
    let selector = json!({"selector": {"matchLabels": {"pull": "opted"}}});
    let name = scene.credential("pull", spec(&source, &selector)).await;
    let told = scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    assert!(told.message.starts_with("2 of 2 namespaces"), "{}", told.message);
    for (namespace, value) in out {
        let served = scene.secret(&namespace, &name).await.is_some();
        assert_eq!(served, ["false", ""].contains(&value), "{value:?}");
    }
    scene.finish().await;
}
