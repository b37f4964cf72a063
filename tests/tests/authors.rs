//! What an author of RegistryCredentials, or whoever opts out, gets on a real API server: pull secrets where they are
//! wanted, and nothing else of the operator's.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use regcred_tests::install::OPERATOR_NAMESPACE;
use regcred_tests::operator::OperatorOptions;
use regcred_tests::{Scene, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

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

/// A Secret with every mark of a copy, applied as the operator would, and the entry on a ServiceAccount: what an older
/// version left where it is asked to be.
async fn former_copy(scene: &Scene, namespace: &str, name: &str) {
    let credential = scene.credentials().get(name).await.unwrap();
    let uid = credential.metadata.uid.unwrap();
    let copy = json!({
        "apiVersion": "v1", "kind": "Secret", "type": regcred_tests::SECRET_TYPE,
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "regcred", "regcred.dev/credential": name},
            "annotations": {"regcred.dev/credential-uid": uid},
            "ownerReferences": [{
                "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "name": name, "uid": uid,
            }],
        },
        "stringData": {regcred_tests::SECRET_KEY: r#"{"auths":{}}"#},
    });
    let params = PatchParams::apply("regcred");
    scene.secrets(namespace).patch(name, &params, &Patch::Apply(&copy)).await.unwrap();
    let entry = json!({
        "metadata": {"annotations": {"regcred.dev/attached": name}}, "imagePullSecrets": [{"name": name}],
    });
    let accounts = scene.service_accounts(namespace);
    accounts.patch("default", &PatchParams::default(), &Patch::Merge(entry)).await.unwrap();
}

#[tokio::test]
async fn the_operators_own_namespace_is_selected_by_no_rule_and_loses_what_it_had() {
    let scene = Scene::new().await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    let label = |value: Value| Patch::Merge(json!({"metadata": {"labels": {"pull": value}}}));
    namespaces.patch(OPERATOR_NAMESPACE, &PatchParams::default(), &label(json!("own"))).await.unwrap();
    let other = scene.settled_namespace("n", &[("pull", "own")]).await;
    let selections = [
        json!({"matchNames": [OPERATOR_NAMESPACE, other]}),
        json!({"matchNames": ["regcred-*", other]}),
        json!({"selector": {"matchLabels": {"pull": "own"}}}),
    ];
    let mut names = Vec::new();
    for (number, selection) in selections.iter().enumerate() {
        names.push(scene.credential(&format!("own{number}"), spec(&source, selection)).await);
    }
    // With one list for both, the source would be written over.
    let over_the_source = {
        let mut spec = spec(&source, &selections[0]);
        spec["target"] = json!({"name": source, "conflictPolicy": "Adopt"});
        spec["deletionPolicy"] = json!("Retain");
        scene.credential("over", spec).await
    };
    former_copy(&scene, OPERATOR_NAMESPACE, &names[0]).await;
    let before = scene.secret(OPERATOR_NAMESPACE, &source).await.unwrap().metadata.resource_version;
    let _operator = scene.operator(OperatorOptions::default()).await;
    for name in names.iter().chain([&over_the_source]) {
        let told = scene.wait_condition(name, "Ready", "True", "Succeeded").await;
        assert!(told.message.starts_with("1 of 1 namespace"), "{}", told.message);
    }
    eventually("the operator's namespace to be left", SOON, async || {
        for name in &names {
            if scene.secret(OPERATOR_NAMESPACE, name).await.is_some() {
                return Err(format!("{name} is there"));
            }
        }
        match scene.pull_secrets(OPERATOR_NAMESPACE, "default").await {
            list if list.is_empty() => Ok(()),
            list => Err(format!("{list:?}")),
        }
    })
    .await;
    let now = scene.secret(OPERATOR_NAMESPACE, &source).await.unwrap().metadata.resource_version;
    assert_eq!(now, before, "the source is as it was");
    namespaces.patch(OPERATOR_NAMESPACE, &PatchParams::default(), &label(Value::Null)).await.unwrap();
    scene.finish().await;
}
