//! What a tenant may write in a namespace of its own stops nobody else from being served.

use std::time::Duration;

use http::Request;
use kube::api::DeleteParams;
use regcred_tests::operator::OperatorOptions;
use regcred_tests::{Scene, eventually};
use serde_json::{Value, json};

/// Nobody else may notice that there is such a tenant.
const AT_ONCE: Duration = Duration::from_secs(5);
const OBJECTS: usize = 25;

/// Go reads this time, and the API server stores it; the crate jiff ends a day earlier.
const LAST_SECOND_OF_GO: &str = "9999-12-31T23:59:59Z";

/// A ServiceAccount as a tenant may make it, with a field manager's entry of its own making.
fn account(name: &str, time: &str, fields: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "managedFields": [{
            "manager": "tenant", "operation": "Update", "apiVersion": "v1", "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        }]},
    })
}

/// Posts an object as text: no typed client could read the answer.
async fn post(scene: &Scene, namespace: &str, object: &Value) {
    let uri = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    let request = Request::post(uri).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes()).unwrap();
    scene.client.request_text(request).await.unwrap_or_else(|error| panic!("{error}"));
}

/// 200 levels: more than `serde_json` reads.
fn deep() -> Value {
    (0..200).fold(json!({}), |inner, _| json!({"f:x": inner}))
}

#[tokio::test]
async fn objects_that_no_typed_client_reads_hold_up_nobody() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let spec = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": "hostile"}}},
    });
    let served = scene.settled_namespace("served", &[("pull", "hostile")]).await;
    let name = scene.credential("pull", spec).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;

    let tenant = scene.settled_namespace("tenant", &[]).await;
    for number in 0..OBJECTS {
        post(&scene, &tenant, &account(&format!("late{number}"), LAST_SECOND_OF_GO, &json!({}))).await;
        post(&scene, &tenant, &account(&format!("deep{number}"), "2026-01-01T00:00:00Z", &deep())).await;
    }
    repaired(&scene, &served, &name).await;

    operator.kill();
    let _restarted = scene.operator(OperatorOptions::default()).await;
    repaired(&scene, &served, &name).await;
    scene.finish().await;
}

async fn repaired(scene: &Scene, namespace: &str, name: &str) {
    scene.secrets(namespace).delete(name, &DeleteParams::default()).await.unwrap();
    eventually(&format!("{namespace}/{name} is back"), AT_ONCE, async || {
        scene.secret(namespace, name).await.map(drop).ok_or_else(|| "not there".to_owned())
    })
    .await;
}
