//! What a tenant may write in a namespace of its own stops nobody else from being served. Objects of the largest size are in
//! `large_objects.rs`: a control plane that holds them is slow for every other test.

use std::time::Duration;

use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::DeleteParams;
use regcred_tests::install::OPERATOR_NAMESPACE;
use regcred_tests::operator::OperatorOptions;
use regcred_tests::{Scene, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Nobody else may notice that there is such a tenant.
const AT_ONCE: Duration = Duration::from_secs(5);
/// What waits for lists.
const LATER: Duration = Duration::from_mins(1);
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

/// The key in the Secret, as Base64, and what stands beside it.
async fn kept_key(scene: &Scene) -> (String, Value) {
    let secret = scene.secret(OPERATOR_NAMESPACE, "regcred-fingerprint-key").await;
    let secret = serde_json::to_value(secret.unwrap()).unwrap();
    (secret["data"]["key"].as_str().unwrap_or_default().to_owned(), secret["data"]["other"].clone())
}

#[tokio::test]
async fn a_fingerprint_key_that_is_too_short_is_replaced_and_one_that_cannot_be_is_named() {
    let scene = Scene::new().await;
    let core = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/secrets");
    let with = |data: Value, immutable: bool| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "regcred-fingerprint-key"}, "data": data,
            "immutable": immutable,
        })
    };
    for data in [json!({"key": "eA==", "other": "eA=="}), json!({"other": "eA=="})] {
        replace(&scene, &core, &with(data, false)).await;
        let operators = [
            scene.operator(OperatorOptions { lease: true, ..OperatorOptions::default() }).await,
            scene.operator(OperatorOptions { lease: true, ..OperatorOptions::default() }).await,
        ];
        let (key, other) = kept_key(&scene).await;
        assert_eq!((key.len(), other), (44, json!("eA==")));
        drop(operators);
        let _third = scene.operator(OperatorOptions::default()).await;
        assert_eq!(kept_key(&scene).await.0, key, "replaced again");
    }
    replace(&scene, &core, &with(json!({"key": "eA=="}), true)).await;
    let operator = scene.starting_operator(OperatorOptions::default()).await;
    eventually("the log names it", AT_ONCE, async || {
        if operator.logs().contains("delete it, and a new one is made") {
            Ok(())
        } else {
            Err(operator.logs())
        }
    })
    .await;
    scene
        .secrets(OPERATOR_NAMESPACE)
        .delete("regcred-fingerprint-key", &DeleteParams::default())
        .await
        .unwrap();
    operator.wait_ready().await.unwrap();
    assert_eq!(kept_key(&scene).await.0.len(), 44);
    scene.finish().await;
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
    scene.reinstall().await;
    scene.finish().await;
}

/// What somebody applies under the field manager of regcred is taken off, whatever it is.
#[tokio::test]
async fn what_is_written_under_our_name_is_drift() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let spec = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": "name"}}},
    });
    let served = scene.settled_namespace("served", &[("pull", "name")]).await;
    let name = scene.credential("pull", spec).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let mut copy = serde_json::to_value(scene.secret(&served, &name).await.unwrap()).unwrap();
    copy["metadata"]
        .as_object_mut()
        .unwrap()
        .retain(|key, _| ["labels", "annotations"].contains(&key.as_str()));
    copy["metadata"]["annotations"]["example.com/extra"] = json!("x");
    let params = kube::api::PatchParams::apply("regcred").force();
    copy["apiVersion"] = json!("v1");
    copy["kind"] = json!("Secret");
    scene.secrets(&served).patch(&name, &params, &kube::api::Patch::Apply(&copy)).await.unwrap();
    eventually("the annotation to be taken off", AT_ONCE, async || {
        let copy = scene.secret(&served, &name).await.unwrap();
        let left = copy.metadata.annotations.unwrap_or_default().contains_key("example.com/extra");
        if left { Err("still there".to_owned()) } else { Ok(()) }
    })
    .await;
    scene.finish().await;
}

/// A label that no selector named before is looked up on what exists, and a source that nobody named.
#[tokio::test]
async fn a_selector_with_a_new_label_selects_what_existed_before() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let (first, second) =
        (scene.basic_auth_source("one", "bot").await, scene.basic_auth_source("two", "bot").await);
    let spec = |source: &str, label: &str, accounts: &str| {
        json!({
            "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
            "namespaces": {"selector": {"matchLabels": {label: "yes"}}},
            "serviceAccounts": {"from": "Selected", "selector": {"matchLabels": {accounts: "yes"}}},
        })
    };
    let labels = [("old", "yes"), ("new", "yes")];
    let served = scene.settled_namespace("served", &labels).await;
    let labelled = json!({"metadata": {"labels": {"o": "yes", "n": "yes"}}});
    let patch = kube::api::Patch::Merge(labelled);
    scene
        .service_accounts(&served)
        .patch("default", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    let name = scene.credential("pull", spec(&first, "old", "o")).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let made = scene.secret(&served, &name).await.unwrap().metadata.uid;
    scene.credential("pull", spec(&second, "new", "n")).await;
    // Three kinds are listed again first, beside whatever the other tests do to the API server.
    eventually("the status of the new spec", LATER, async || {
        let status = scene.status(&name).await;
        if status["observedGeneration"] == 2 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let there = scene.secret(&served, &name).await.unwrap().metadata.uid;
    assert_eq!(there, made, "the copy was never deleted");
    assert_eq!(scene.pull_secrets(&served, "default").await, std::slice::from_ref(&name));
    scene.finish().await;
}

#[tokio::test]
async fn a_list_with_no_room_is_refused_with_its_remedy() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let spec = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": "room"}}}, "serviceAccounts": {"from": "All"},
    });
    let served = scene.settled_namespace("served", &[("pull", "room")]).await;
    let names: Vec<_> = (0..20_000).map(|number| format!("n{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    scene.service_account(&served, "full", &names[..64]).await;
    scene.service_account(&served, "huge", &names).await;
    let name = scene.credential("pull", spec).await;
    let condition = scene.wait_condition(&name, "Ready", "False", "PartiallyAttached").await;
    assert!(condition.message.contains("imagePullSecrets are longer than regcred writes"), "{condition:?}");
    assert_eq!(scene.pull_secrets(&served, "default").await, std::slice::from_ref(&name));
    assert_eq!(scene.pull_secrets(&served, "full").await.len(), 64);
    scene.service_account(&served, "full", &names[..1]).await;
    eventually("an entry where there is room", AT_ONCE, async || {
        let list = scene.pull_secrets(&served, "full").await;
        if list.contains(&name) { Ok(()) } else { Err(format!("{} entries", list.len())) }
    })
    .await;
    // The entry of a list that nobody writes does not keep the object.
    scene.delete_credential(&name).await;
    eventually("the end of the RegistryCredential", AT_ONCE, async || {
        if scene.status(&name).await.is_null() { Ok(()) } else { Err("still there".to_owned()) }
    })
    .await;
    scene.finish().await;
}

#[tokio::test]
async fn a_lease_that_is_taken_by_force_is_told() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions { lease: true, ..OperatorOptions::default() }).await;
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), OPERATOR_NAMESPACE);
    eventually("a holder of the lease", AT_ONCE, async || match leases.get_opt("regcred").await.unwrap() {
        Some(lease) if lease.spec.as_ref().is_some_and(|spec| spec.holder_identity.is_some()) => Ok(()),
        lease => Err(format!("{lease:?}")),
    })
    .await;
    let forced = kube::api::Patch::Merge(json!({"spec": {"holderIdentity": "thief"}}));
    leases.patch("regcred", &kube::api::PatchParams::default(), &forced).await.unwrap();
    eventually("the operator to tell it", Duration::from_secs(10), async || {
        let reply = operator.readyz().await.map_err(|error| error.to_string())?;
        let told =
            reply.status == 503 && reply.body.contains("\"thief\" took the lease before it had expired");
        if told { Ok(()) } else { Err(format!("{} {}", reply.status, reply.body)) }
    })
    .await;
    assert!(operator.metrics().await.unwrap().contains("regcred_leases_lost_by_force_total 1"));
    assert!(operator.logs().contains("took the lease before it had expired"));
    // Nobody renews it, so it expires.
    operator.wait_ready().await.unwrap();
    scene.finish().await;
}

/// More than any cluster's probes and scrapes need, and less than a process here may open.
const UNFINISHED: usize = 2_000;
/// What the operator may keep open besides: watches, its log, the requests in flight.
const FEW_FILES: usize = 300;

#[tokio::test]
async fn connections_that_never_ask_for_anything_are_few_and_short_and_hold_up_no_probe() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let address = operator.address().await.unwrap();
    let mut unfinished = Vec::new();
    for _ in 0..UNFINISHED {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // One that was closed meanwhile is as good.
        let _sent = stream.write_all(b"GET /healthz HT").await;
        unfinished.push(stream);
    }
    let files = || std::fs::read_dir(format!("/proc/{}/fd", operator.id())).unwrap().count();
    eventually("the operator to keep few of them", AT_ONCE, async || {
        if files() <= FEW_FILES { Ok(()) } else { Err(format!("{} files are open", files())) }
    })
    .await;
    let asked = Instant::now();
    assert_eq!(operator.healthz().await.unwrap().status, 200);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let mut last = unfinished.pop().unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(20), last.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok(), "one that goes on waiting for nothing is closed");
    scene.finish().await;
}
