//! Marks, owners and field managers are free text: whoever may write a Secret can write there what regcred writes. That
//! neither stops a RegistryCredential, nor makes the operator touch what is not its own, nor lets other data stand.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use regcred_tests::operator::OperatorOptions;
use regcred_tests::{Scene, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

fn spec(source: &str, label: &str) -> Value {
    json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": label}}},
    })
}

async fn gone(scene: &Scene, credential: &str) {
    scene.credentials().delete(credential, &DeleteParams::default()).await.unwrap();
    eventually(&format!("{credential} is deleted"), SOON, async || {
        let left = scene.credentials().get_opt(credential).await.unwrap();
        left.map_or(Ok(()), |object| Err(object.data["status"]["conditions"][0]["message"].to_string()))
    })
    .await;
}

async fn let_go(scene: &Scene, namespace: &str, name: &str) {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let _gone_already = scene.secrets(namespace).patch(name, &PatchParams::default(), &patch).await;
}

#[tokio::test]
async fn a_tenants_finalizer_holds_up_no_deletion() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let selected = scene.settled_namespace("selected", &[("pull", "held")]).await;
    let other = scene.settled_namespace("other", &[]).await;
    let name = scene.credential("held", spec(&source, "held")).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let finalizers = json!({"finalizers": ["tenant.example.com/held"]});
    let patch = Patch::Merge(json!({"metadata": finalizers}));
    scene.secrets(&selected).patch(&name, &PatchParams::default(), &patch).await.unwrap();
    scene.apply_as_regcred(&other, "forged", &name, finalizers).await;
    gone(&scene, &name).await;
    assert!(scene.pull_secrets(&selected, "default").await.is_empty());
    let_go(&scene, &selected, &name).await;
    let_go(&scene, &other, "forged").await;
    scene.finish().await;
}

#[tokio::test]
async fn a_mark_on_a_secret_of_somebody_else_gives_it_to_nobody() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let name = scene.credential("deputy", spec(&source, "deputy")).await;
    let tenant = scene.settled_namespace("tenant", &[]).await;
    let uid = scene.credentials().get(&name).await.unwrap().metadata.uid.unwrap();
    let theirs = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "theirs"},
        "data": {".dockerconfigjson": STANDARD.encode(r#"{"auths":{}}"#)},
    });
    let theirs = serde_json::from_value(theirs).unwrap();
    scene.secrets(&tenant).create(&PostParams::default(), &theirs).await.unwrap();
    // All that somebody needs who may patch Secrets and cannot delete them.
    let mark = Patch::Merge(json!({"metadata": {"annotations": {"regcred.dev/credential-uid": uid}}}));
    scene.secrets(&tenant).patch("theirs", &PatchParams::default(), &mark).await.unwrap();
    let told = async || {
        eventually("status tells of the mark", SOON, async || {
            let status = scene.status(&name).await;
            let told = status["failures"].to_string();
            if told.contains(&tenant) && told.contains("theirs") { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    };
    told().await;
    operator.kill();
    let _restarted = scene.operator(OperatorOptions::default()).await;
    told().await;
    assert!(scene.secret(&tenant, "theirs").await.is_some());
    gone(&scene, &name).await;
    assert!(scene.secret(&tenant, "theirs").await.is_some(), "not ours to delete");
    scene.finish().await;
}

#[tokio::test]
async fn other_data_under_our_marks_and_manager_does_not_stand() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespace = scene.settled_namespace("forged", &[("pull", "forged")]).await;
    let name = scene.credential("forged", spec(&source, "forged")).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let before = scene.secret(&namespace, &name).await.unwrap().metadata;
    let forged = json!({"labels": before.labels, "annotations": before.annotations});
    scene.apply_as_regcred(&namespace, &name, &name, forged).await;
    eventually("the copy holds what the source gives", SOON, async || {
        let config = scene.docker_config(&namespace, &name).await.unwrap_or_default();
        let user = &config["auths"]["ghcr.io"]["username"];
        if user == "bot" { Ok(()) } else { Err(user.to_string()) }
    })
    .await;
    // An event that changes nothing of ours makes the operator look, and costs no write.
    let looked = r#"regcred_steps_total{step="VerifySecret",result="Succeeded"} 1"#;
    assert!(!operator.metrics().await.unwrap().contains(looked));
    let touched = Patch::Merge(json!({"metadata": {"annotations": {"example.com/seen": "today"}}}));
    let touched = scene.secrets(&namespace).patch(&name, &PatchParams::default(), &touched).await.unwrap();
    eventually("the operator looks", SOON, async || {
        let metrics = operator.metrics().await.map_err(|error| error.to_string())?;
        if metrics.contains(looked) { Ok(()) } else { Err(metrics) }
    })
    .await;
    let now = scene.secret(&namespace, &name).await.unwrap().metadata;
    assert_eq!(now.resource_version, touched.metadata.resource_version);
    scene.finish().await;
}
