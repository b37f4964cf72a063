//! What a tenant may write in a namespace of its own stops nobody else from being served.

use std::time::Duration;

use http::Request;
use kube::api::DeleteParams;
use regcred_tests::install::OPERATOR_NAMESPACE;
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

/// `metadata` with an entry of a field manager that no typed client reads.
fn metadata(name: &str) -> Value {
    json!({
        "name": name, "namespace": OPERATOR_NAMESPACE,
        "managedFields": [{
            "manager": "tool", "operation": "Update", "apiVersion": "v1", "time": LAST_SECOND_OF_GO,
            "fieldsType": "FieldsV1", "fieldsV1": deep(),
        }],
    })
}

async fn replace(scene: &Scene, path: &str, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let delete = Request::delete(format!("{path}/{name}")).body(Vec::new()).unwrap();
    // There may be none yet.
    let _ = scene.client.request_text(delete).await;
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes()).unwrap();
    scene.client.request_text(request).await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn a_lease_and_a_key_that_no_typed_client_reads_are_used_as_any() {
    let scene = Scene::new().await;
    let core = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/secrets");
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases");
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let name = "regcred-fingerprint-key";
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": metadata(name), "data": {"key": key, "other": "eA=="},
    });
    replace(&scene, &core, &secret).await;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata("regcred"),
        "spec": {"holderIdentity": "", "leaseTransitions": 3, "renewTime": "9999-12-31T23:59:59.000000Z"},
    });
    replace(&scene, &leases, &lease).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let spec = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": "lease"}}},
    });
    scene.settled_namespace("n", &[("pull", "lease")]).await;
    let _operator = scene.operator(OperatorOptions { lease: true, ..OperatorOptions::default() }).await;
    let name = scene.credential("pull", spec).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    // What others wrote on the lease is still there.
    let get = Request::get(format!("{leases}/regcred")).body(Vec::new()).unwrap();
    let lease: Value = serde_json::from_str(&scene.client.request_text(get).await.unwrap()).unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 4, "{}", lease["spec"]);
    for path in [format!("{core}/regcred-fingerprint-key"), format!("{leases}/regcred")] {
        let delete = Request::delete(path).body(Vec::new()).unwrap();
        scene.client.request_text(delete).await.unwrap();
    }
    scene.finish().await;
}
