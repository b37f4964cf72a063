//! What the API server says when it refuses a write, and what status then tells: who refused it, by name, and what
//! to do. Nothing of the free text of a webhook or policy gets anywhere.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use regcred_tests::install::OPERATOR_NAMESPACE;
use regcred_tests::operator::OperatorOptions;
use regcred_tests::webhook::{self, FREE_TEXT, Webhook};
use regcred_tests::{Operator, Scene, eventually};
use serde_json::{Value, json};
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(45);

fn spec(source: &str, label: &str) -> Value {
    json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": label}}},
    })
}

async fn apply(scene: &Scene, manifest: &Value) {
    let control_plane = scene.control_plane();
    let admin = control_plane.admin_identity();
    control_plane
        .kubectl(admin, &["apply", "-f", "-"], &manifest.to_string())
        .await
        .unwrap()
        .success()
        .unwrap();
}

async fn remove(scene: &Scene, manifest: &Value) {
    let control_plane = scene.control_plane();
    let admin = control_plane.admin_identity();
    control_plane
        .kubectl(admin, &["delete", "-f", "-"], &manifest.to_string())
        .await
        .unwrap()
        .success()
        .unwrap();
}

/// Policies and webhooks take effect a moment after they were made.
async fn until_refused(scene: &Scene, namespace: &str, kind: &[&str]) {
    eventually(&format!("{namespace} refuses"), SOON, async || {
        let control_plane = scene.control_plane();
        let arguments = [&["create"], kind, &["probe", "-n", namespace, "--dry-run=server"]].concat();
        let output = control_plane.kubectl(control_plane.admin_identity(), &arguments, "").await.unwrap();
        if output.success().is_err() { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
}

/// A policy that refuses Secrets in a namespace; `reason` decides the code of its answer.
fn policy(name: &str, namespace: &str, reason: Option<&str>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"],
                }]},
                "validations": [{
                    "expression": format!("request.namespace != '{namespace}'"), "message": FREE_TEXT, "reason": reason,
                }],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]})
}

/// The failure that status tells of in a namespace, as `kind: reason (message)`.
async fn failure(scene: &Scene, credential: &str, namespace: &str) -> String {
    eventually(&format!("a failure in {namespace}"), SOON, async || {
        let status = scene.status(credential).await;
        let failures = status["failures"].as_array().cloned().unwrap_or_default();
        let failure = failures.iter().find(|failure| failure["namespace"] == namespace);
        let text = |failure: &Value, field: &str| failure[field].as_str().unwrap_or_default().to_owned();
        failure
            .map(|it| format!("{}: {} ({})", text(it, "kind"), text(it, "reason"), text(it, "message")))
            .ok_or_else(|| status.to_string())
    })
    .await
}

async fn assert_no_free_text(scene: &Scene, credential: &str, operator: &Operator) {
    assert!(!scene.status(credential).await.to_string().contains(FREE_TEXT));
    assert!(!operator.logs().contains(FREE_TEXT));
}

#[tokio::test]
async fn whoever_refuses_a_secret_is_named() {
    let scene = Scene::new().await;
    let webhook = Webhook::start(scene.control_plane()).unwrap();
    let namespace = async |suffix: &str| scene.settled_namespace(suffix, &[("pull", "refused")]).await;
    let mut refusers = Vec::new();
    let mut cases = Vec::new();
    for code in [400, 403, 404, 409, 422, 429, 500] {
        let place = namespace(&format!("hook{code}")).await;
        let name = format!("deny{code}.{}.example.com", scene.name("w"));
        refusers.push(webhook.configuration(&name, &format!("/deny/{code}"), &place, "secrets"));
        cases.push((place, format!("Secret: Rejected (admission webhook {name} refused the write; ")));
    }
    for (suffix, reason) in [("policy", None), ("forbids", Some("Forbidden"))] {
        let (place, name) = (namespace(suffix).await, scene.name(suffix));
        refusers.push(policy(&name, &place, reason));
        cases.push((place, format!("Secret: Rejected (admission policy {name} refused the write; ")));
    }
    let (place, name) = (namespace("dead").await, format!("dead.{}.example.com", scene.name("w")));
    refusers.push(webhook::dead(&name, &place, "secrets"));
    let unreachable = "is not reachable or does not answer in time; ";
    cases.push((place, format!("Secret: WriteFailed (admission webhook {name} {unreachable}")));
    let (place, name) = (namespace("slow").await, format!("slow.{}.example.com", scene.name("w")));
    refusers.push(webhook.configuration(&name, "/never", &place, "secrets"));
    cases.push((place, format!("Secret: WriteFailed (admission webhook {name} {unreachable}")));
    for refuser in &refusers {
        apply(&scene, refuser).await;
    }
    for (place, _) in &cases {
        until_refused(&scene, place, &["secret", "generic"]).await;
    }
    let source = scene.basic_auth_source("src", "bot").await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let name = scene.credential("pull", spec(&source, "refused")).await;
    let mut told = Vec::new();
    for (place, expected) in &cases {
        let found = failure(&scene, &name, place).await;
        if !found.starts_with(expected) {
            told.push(format!("{found}\n  instead of {expected}"));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert_no_free_text(&scene, &name, &operator).await;
    for refuser in &refusers {
        remove(&scene, refuser).await;
    }
    scene.finish().await;
}

#[tokio::test]
async fn whoever_refuses_a_service_account_is_named() {
    let scene = Scene::new().await;
    let webhook = Webhook::start(scene.control_plane()).unwrap();
    let namespace = scene.settled_namespace("n", &[("pull", "account")]).await;
    let hook = format!("accounts.{}.example.com", scene.name("w"));
    let refuser = webhook.configuration(&hook, "/deny/403", &namespace, "serviceaccounts");
    apply(&scene, &refuser).await;
    until_refused(&scene, &namespace, &["serviceaccount"]).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let name = scene.credential("pull", spec(&source, "account")).await;
    let found = failure(&scene, &name, &namespace).await;
    let expected = format!("ServiceAccount: Rejected (admission webhook {hook} refused the write; ");
    assert!(found.starts_with(&expected), "{found}");
    let condition = scene.condition(&name, "ServiceAccountsAttached").await.unwrap();
    assert_eq!(condition.reason, "Rejected", "{condition:?}");
    assert!(condition.message.contains(&format!("{namespace}/default: Rejected")), "{condition:?}");
    assert_no_free_text(&scene, &name, &operator).await;
    remove(&scene, &refuser).await;
    scene.finish().await;
}

#[tokio::test]
async fn a_quota_is_named_as_what_it_is() {
    let scene = Scene::new().await;
    let namespace = scene.settled_namespace("n", &[("pull", "quota")]).await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace},
        "spec": {"hard": {"count/secrets": "0"}},
    });
    apply(&scene, &quota).await;
    // The controller that fills it in does not run here.
    let quotas: Api<ResourceQuota> = Api::namespaced(scene.client.clone(), &namespace);
    let status = json!({"status": {"hard": {"count/secrets": "0"}, "used": {"count/secrets": "0"}}});
    quotas.patch_status("none", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    until_refused(&scene, &namespace, &["secret", "generic"]).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let name = scene.credential("pull", spec(&source, "quota")).await;
    let condition = scene.wait_condition(&name, "SecretsSynced", "False", "QuotaExceeded").await;
    assert!(condition.message.contains(&format!("{namespace}: QuotaExceeded")), "{condition:?}");
    scene.finish().await;
}

/// Adds `immutable: true` to Secrets as they are made in a namespace.
fn sealing(name: &str, namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail", "reinvocationPolicy": "Never",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"],
                }]},
                "matchConditions": [{"name": "here", "expression": format!("request.namespace == '{namespace}'")}],
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {
                    "expression": "[JSONPatch{op: 'add', path: '/immutable', value: true}]",
                }}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name},
        },
    ]})
}

#[tokio::test]
async fn a_copy_that_a_policy_made_immutable_is_replaced() {
    let scene = Scene::new().await;
    let namespace = scene.settled_namespace("n", &[("pull", "sealed")]).await;
    let policy = sealing(&scene.name("sealing"), &namespace);
    apply(&scene, &policy).await;
    eventually("the policy seals", SOON, async || {
        let probe = serde_json::from_value(json!({"metadata": {"name": "probe"}})).unwrap();
        let secrets: Api<Secret> = scene.secrets(&namespace);
        let params = PostParams { dry_run: true, ..Default::default() };
        let made = secrets.create(&params, &probe).await.unwrap();
        if made.immutable == Some(true) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let source = scene.basic_auth_source("src", "bot").await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let name = scene.credential("pull", spec(&source, "sealed")).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let sealed = scene.secret(&namespace, &name).await.unwrap();
    assert_eq!(sealed.immutable, Some(true));
    // The policy's field has no manager, so only the answer to a write tells; nothing but a replacement gets past it.
    scene.basic_auth_source("src", "rotated").await;
    eventually("the copy is replaced", SOON, async || {
        let config = scene.docker_config(&namespace, &name).await;
        let user = config.map(|config| config["auths"]["ghcr.io"]["username"].clone());
        if user == Some(json!("rotated")) { Ok(()) } else { Err(format!("{user:?}")) }
    })
    .await;
    assert_ne!(scene.secret(&namespace, &name).await.unwrap().metadata.uid, sealed.metadata.uid);
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    remove(&scene, &policy).await;
    scene.finish().await;
}

#[tokio::test]
async fn a_source_namespace_in_which_the_operator_has_no_rights_is_named() {
    let scene = Scene::new().await;
    let options = OperatorOptions { source_namespace: scene.name("nowhere"), ..OperatorOptions::default() };
    let operator = scene.starting_operator(options).await;
    eventually("the log says what to do", SOON, async || {
        let logs = operator.logs();
        let told = logs.contains("waiting for the fingerprint key");
        if told { Ok(()) } else { Err(logs) }
    })
    .await;
    let unready = operator.readyz().await.unwrap();
    assert_eq!(unready.status, 503);
    scene.finish().await;
}

#[tokio::test]
async fn a_replica_without_rights_on_its_lease_is_not_ready_and_says_why() {
    let scene = Scene::new().await;
    let take = json!([{"op": "replace", "path": "/rules/2/verbs", "value": ["list"]}]);
    let control_plane = scene.control_plane();
    let (admin, take) = (control_plane.admin_identity(), take.to_string());
    let arguments = ["patch", "role", "regcred", "-n", OPERATOR_NAMESPACE, "--type=json", "-p", &take];
    control_plane.kubectl(admin, &arguments, "").await.unwrap().success().unwrap();
    let options = OperatorOptions { lease: true, ..OperatorOptions::default() };
    let operator = scene.starting_operator(options).await;
    eventually("/readyz says why", SOON, async || {
        let reply = operator.readyz().await.map_err(|error| error.to_string())?;
        let told = reply.status == 503 && reply.body.contains("grant it get and update on Lease regcred");
        if told { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    let counted = |metrics: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix("regcred_lease_failures_total "));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    eventually("it is counted each time, and logged once", SOON, async || {
        let count = counted(&operator.metrics().await.map_err(|error| error.to_string())?);
        if count >= 3 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    assert_eq!(operator.logs().matches("the lease cannot be read or written").count(), 1);
    scene.reinstall().await;
    operator.wait_ready().await.unwrap();
    scene.finish().await;
}

/// It makes none: RBAC cannot limit by name what may be created.
#[tokio::test]
async fn a_replica_whose_lease_is_missing_is_not_ready_and_says_what_to_do() {
    let scene = Scene::new().await;
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), OPERATOR_NAMESPACE);
    leases.delete("regcred", &DeleteParams::default()).await.unwrap();
    let operator =
        scene.starting_operator(OperatorOptions { lease: true, ..OperatorOptions::default() }).await;
    eventually("/readyz says what to do", SOON, async || {
        let reply = operator.readyz().await.map_err(|error| error.to_string())?;
        let told = reply.status == 503 && reply.body.contains("apply the chart or deploy/install.yaml again");
        if told { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    assert!(leases.get_opt("regcred").await.unwrap().is_none());
    scene.reinstall().await;
    operator.wait_ready().await.unwrap();
    scene.finish().await;
}

/// The rights on status and finalizers go, and everything else stays.
async fn take_rights_on_credentials(scene: &Scene) {
    let take = json!([
        {"op": "replace", "path": "/rules/0/verbs", "value": ["get", "list", "watch"]},
        {"op": "replace", "path": "/rules/1/verbs", "value": ["get"]},
    ]);
    let control_plane = scene.control_plane();
    let (admin, take) = (control_plane.admin_identity(), take.to_string());
    let arguments = ["patch", "clusterrole", "regcred", "--type=json", "-p", &take];
    control_plane.kubectl(admin, &arguments, "").await.unwrap().success().unwrap();
}

#[tokio::test]
async fn a_status_that_may_not_be_written_is_tried_more_and_more_seldom() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    scene.settled_namespace("n", &[("pull", "mute")]).await;
    let name = scene.credential("pull", spec(&source, "mute")).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let before = scene.status(&name).await;
    take_rights_on_credentials(&scene).await;
    let audit = scene.control_plane().audit();
    let (mark, mut first) = (audit.mark(), None);
    let refused = || {
        let entries = audit.since(mark).by(operator.user());
        entries
            .filter(|entry| entry.code == 403 && entry.full_resource().ends_with("/status"))
            .counts()
            .total()
    };
    let mut rotation = 0;
    eventually("three tries", Duration::from_mins(1), async || {
        // Each rotation is news for the status.
        rotation += 1;
        scene.basic_auth_source("src", &format!("bot{rotation}")).await;
        let count = refused();
        if count > 0 {
            first.get_or_insert_with(Instant::now);
        }
        if count >= 3 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    let took = first.unwrap().elapsed();
    assert!(took > Duration::from_secs(13), "three tries in {took:?}");
    assert_eq!(operator.logs().matches("the status could not be written").count(), 1);
    let counted = "regcred_credential_write_failures_total{write=\"status\"}";
    let metrics = operator.metrics().await.unwrap();
    assert!(
        metrics.contains(&format!("{counted} 3")) || metrics.contains(&format!("{counted} 2")),
        "{metrics}"
    );
    scene.reinstall().await;
    eventually("the status is written again", Duration::from_mins(2), async || {
        let status = scene.status(&name).await;
        let is_old = status["registries"][0]["fingerprint"] == before["registries"][0]["fingerprint"];
        if is_old { Err(status.to_string()) } else { Ok(()) }
    })
    .await;
    scene.finish().await;
}
