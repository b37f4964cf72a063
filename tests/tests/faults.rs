//! What a cluster's life brings: watches that break, an API server that restarts or refuses, namespaces that end, two
//! operators at once. Whatever happened, the end is right, and then nothing is written.

use std::time::Duration;

use http::Method;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use regcred_tests::install::{CRD_NAME, install_crd};
use regcred_tests::operator::OperatorOptions;
use regcred_tests::proxy::Action;
use regcred_tests::{Proxy, SECRET_KEY, SECRET_TYPE, Scene, chart, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(45);
/// A watch that is silent is found after 65 s.
const SILENCE_FOUND: Duration = Duration::from_secs(100);

fn spec(source: &str, label: &str) -> Value {
    json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": label}}},
    })
}

async fn served(scene: &Scene, namespace: &str, name: &str, within: Duration) {
    eventually(&format!("{namespace} is served"), within, async || {
        let copy = scene.secret(namespace, name).await.is_some();
        let list = scene.pull_secrets(namespace, "default").await;
        if copy && list.iter().any(|entry| entry == name) { Ok(()) } else { Err(format!("{copy} {list:?}")) }
    })
    .await;
}

async fn gone(scene: &Scene, namespace: &str, name: &str) {
    eventually(&format!("{namespace}/{name} is gone"), SOON, async || {
        scene.secret(namespace, name).await.map_or(Ok(()), |_| Err("there".to_owned()))
    })
    .await;
}

async fn relabel(scene: &Scene, namespace: &str, label: Option<&str>) {
    let body = Patch::Merge(json!({"metadata": {"labels": {"pull": label}}}));
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    namespaces.patch(namespace, &PatchParams::default(), &body).await.unwrap();
}

/// An operator behind a proxy, and a credential that is in place in one namespace.
async fn behind_a_proxy(scene: &Scene, label: &str) -> (Proxy, regcred_tests::Operator, String, String) {
    let proxy = Proxy::start(scene.control_plane()).unwrap();
    let options = OperatorOptions { api_url: Some(proxy.url()), ..OperatorOptions::default() };
    let operator = scene.operator(options).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespace = scene.settled_namespace("n", &[("pull", label)]).await;
    let name = scene.credential("pull", spec(&source, label)).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    (proxy, operator, namespace, name)
}

#[tokio::test]
async fn what_is_deleted_while_watches_are_cut_is_seen_by_the_next_list() {
    let scene = Scene::new().await;
    let (proxy, _operator, namespace, name) = behind_a_proxy(&scene, "gap").await;
    proxy.refuse_watches();
    proxy.cut_watches();
    scene.secrets(&namespace).delete(&name, &DeleteParams::default()).await.unwrap();
    let late = scene.settled_namespace("late", &[("pull", "gap")]).await;
    proxy.allow_watches();
    served(&scene, &namespace, &name, SOON).await;
    served(&scene, &late, &name, SOON).await;
    scene.finish().await;
}

#[tokio::test]
async fn expired_watches_and_a_restarted_api_server_are_survived_without_a_write() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespace = scene.settled_namespace("n", &[("pull", "expired")]).await;
    let name = scene.credential("pull", spec(&source, "expired")).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let before = scene.secret(&namespace, &name).await.unwrap().resource_version();
    scene.control_plane().expire_watches().await.unwrap();
    let late = scene.settled_namespace("late", &[("pull", "expired")]).await;
    served(&scene, &late, &name, SOON).await;
    assert_eq!(scene.secret(&namespace, &name).await.unwrap().resource_version(), before);
    assert!(operator.is_running());
    scene.finish().await;
}

/// As behind a slow webhook for RegistryCredentials.
#[tokio::test]
async fn a_finalizer_whose_write_hangs_holds_up_no_other_credential() {
    let scene = Scene::new().await;
    let (proxy, _operator, namespace, name) = behind_a_proxy(&scene, "slow").await;
    let slow = format!("/apis/regcred.dev/v1alpha1/registrycredentials/{}", scene.name("hangs"));
    proxy.set_rule(move |seen| if seen.path == slow { Action::Hang } else { Action::Forward });
    scene.credential("hangs", spec("src", "slow")).await;
    let before = scene.secret(&namespace, &name).await.unwrap().resource_version();
    scene.basic_auth_source("src", "rotated").await;
    eventually("the rotation", Duration::from_secs(5), async || {
        let now = scene.secret(&namespace, &name).await.unwrap().resource_version();
        if now == before { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await;
    let other = scene.credential("other", spec(&scene.name("src"), "slow")).await;
    served(&scene, &namespace, &other, Duration::from_secs(5)).await;
    scene.finish().await;
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_found() {
    let scene = Scene::new().await;
    let (proxy, _operator, _namespace, name) = behind_a_proxy(&scene, "silent").await;
    let watches = || proxy.log().iter().filter(|seen| seen.is_watch()).count();
    proxy.silence_watches();
    let before = watches();
    let late = scene.settled_namespace("late", &[("pull", "silent")]).await;
    // Every watch is given up and asked for anew, though none was closed.
    eventually("new watches", SILENCE_FOUND, async || {
        let asked = watches() - before;
        if asked >= 5 { Ok(()) } else { Err(format!("{asked} new watches")) }
    })
    .await;
    proxy.allow_watches();
    served(&scene, &late, &name, SOON).await;
    scene.finish().await;
}

#[tokio::test]
async fn a_call_that_never_answers_holds_nobody_else_up() {
    let scene = Scene::new().await;
    let (proxy, _operator, _namespace, name) = behind_a_proxy(&scene, "hang").await;
    let stuck = scene.name("stuck");
    let path = format!("/api/v1/namespaces/{stuck}/secrets/{name}");
    proxy.set_rule(move |seen| if seen.path == path { Action::Hang } else { Action::Forward });
    scene.settled_namespace("stuck", &[("pull", "hang")]).await;
    for number in 0..5 {
        let other = scene.settled_namespace(&format!("other{number}"), &[("pull", "hang")]).await;
        served(&scene, &other, &name, SOON).await;
    }
    assert!(scene.secret(&stuck, &name).await.is_none());
    proxy.clear_rule();
    served(&scene, &stuck, &name, Duration::from_mins(2)).await;
    scene.finish().await;
}

#[tokio::test]
async fn an_overloaded_api_server_is_given_time_and_then_all_is_in_place() {
    let scene = Scene::new().await;
    let (proxy, _operator, _namespace, name) = behind_a_proxy(&scene, "busy").await;
    let mut refused = 0;
    proxy.set_rule(move |seen| {
        let write = seen.method == Method::PATCH && seen.path.contains("/secrets/");
        refused += usize::from(write);
        if write && refused <= 3 {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429, "details": {"retryAfterSeconds": 1}});
            Action::Refuse(http::StatusCode::TOO_MANY_REQUESTS, status.to_string())
        } else {
            Action::Forward
        }
    });
    let late = scene.settled_namespace("late", &[("pull", "busy")]).await;
    served(&scene, &late, &name, SOON).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    scene.finish().await;
}

#[tokio::test]
async fn one_namespace_that_refuses_does_not_hold_up_the_others_and_heals() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let refusing = scene.settled_namespace("refusing", &[("pull", "deny")]).await;
    let policy = scene.name("deny");
    let manifest = format!(
        r#"{{"apiVersion":"v1","kind":"List","items":[
        {{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{{"name":"{policy}"}},
          "spec":{{"failurePolicy":"Fail","matchConstraints":{{"resourceRules":[{{"apiGroups":[""],"apiVersions":["v1"],
          "operations":["CREATE","UPDATE"],"resources":["secrets"]}}]}},
          "validations":[{{"expression":"request.namespace != '{refusing}'","message":"not here"}}]}}}},
        {{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding","metadata":{{"name":"{policy}"}},
          "spec":{{"policyName":"{policy}","validationActions":["Deny"]}}}}]}}"#
    );
    let control_plane = scene.control_plane();
    let admin = control_plane.admin_identity();
    control_plane.kubectl(admin, &["apply", "-f", "-"], &manifest).await.unwrap().success().unwrap();
    eventually("the policy is enforced", SOON, async || {
        let arguments = ["create", "secret", "generic", "probe", "-n", &refusing, "--dry-run=server"];
        let output = control_plane.kubectl(admin, &arguments, "").await.unwrap();
        if output.success().is_err() { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let source = scene.basic_auth_source("src", "bot").await;
    let name = scene.credential("pull", spec(&source, "deny")).await;
    let other = scene.settled_namespace("other", &[("pull", "deny")]).await;
    served(&scene, &other, &name, SOON).await;
    scene.wait_condition(&name, "SecretsSynced", "False", "Rejected").await;
    let failures = scene.status(&name).await["failures"].clone();
    assert_eq!((&failures[0]["namespace"], &failures[0]["kind"]), (&json!(refusing), &json!("Secret")));
    control_plane.kubectl(admin, &["delete", "-f", "-"], &manifest).await.unwrap().success().unwrap();
    served(&scene, &refusing, &name, Duration::from_mins(3)).await;
    scene.finish().await;
}

#[tokio::test]
async fn a_missing_definition_is_waited_for() {
    let scene = Scene::new().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(scene.client.clone());
    definitions.delete(CRD_NAME, &DeleteParams::default()).await.unwrap();
    eventually("the definition is gone", SOON, async || {
        definitions.get_opt(CRD_NAME).await.unwrap().map_or(Ok(()), |_| Err("there".to_owned()))
    })
    .await;
    let operator = scene.starting_operator(OperatorOptions::default()).await;
    eventually("it says what is missing", SOON, async || {
        if operator.logs().contains("CustomResourceDefinition installed?") {
            Ok(())
        } else {
            Err(operator.logs())
        }
    })
    .await;
    assert_eq!(operator.readyz().await.unwrap().status, 503);
    assert_eq!(operator.healthz().await.unwrap().status, 200);
    install_crd(scene.control_plane()).await.unwrap();
    eventually("ready", SOON, async || match operator.readyz().await {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    scene.finish().await;
}

#[tokio::test]
async fn two_operators_at_once_write_the_same_and_then_nothing() {
    let scene = Scene::new().await;
    let first = scene.operator(OperatorOptions::default()).await;
    let _second = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let name = scene.credential("pull", spec(&source, "both")).await;
    for number in 0..4 {
        let namespace = scene.settled_namespace(&format!("n{number}"), &[("pull", "both")]).await;
        scene.service_account(&namespace, "builder", &["own"]).await;
        served(&scene, &namespace, &name, SOON).await;
        assert_eq!(scene.pull_secrets(&namespace, "default").await, std::slice::from_ref(&name));
        assert_eq!(scene.pull_secrets(&namespace, "builder").await, ["own"]);
    }
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    scene.basic_auth_source("src", "rotated").await;
    let marker = scene.settled_namespace("marker", &[("pull", "both")]).await;
    served(&scene, &marker, &name, SOON).await;
    let mark = scene.control_plane().audit().mark();
    let last = scene.settled_namespace("last", &[("pull", "both")]).await;
    served(&scene, &last, &name, SOON).await;
    let writes = scene.control_plane().audit().since(mark).writes_by(first.user());
    // Whoever came second to a list is refused, which may be reported a moment after the list is right.
    let changes = writes.filter(|entry| (200..300).contains(&entry.code));
    let elsewhere = changes.filter(|entry| entry.namespace != last && entry.resource == "serviceaccounts");
    assert_eq!(elsewhere.counts().total(), 0, "{}", elsewhere.counts());
    scene.finish().await;
}

#[tokio::test]
async fn namespaces_that_end_or_come_back_are_served_as_they_are() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespace = scene.settled_namespace("n", &[("pull", "ends")]).await;
    let name = scene.credential("pull", spec(&source, "ends")).await;
    served(&scene, &namespace, &name, SOON).await;
    // A finalizer of somebody else keeps it terminating: nothing is written there, and nothing failed.
    let holder = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "holder", "namespace": namespace, "finalizers": ["example.com/hold"]}});
    let control_plane = scene.control_plane();
    let admin = control_plane.admin_identity();
    control_plane
        .kubectl(admin, &["create", "-f", "-"], &holder.to_string())
        .await
        .unwrap()
        .success()
        .unwrap();
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    gone(&scene, &namespace, &name).await;
    scene.wait_condition(&name, "Ready", "True", "NoNamespaceSelected").await;
    let arguments = [
        "patch",
        "configmap",
        "holder",
        "-n",
        &namespace,
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ];
    control_plane.kubectl(admin, &arguments, "").await.unwrap().success().unwrap();
    eventually("the namespace is gone", SOON, async || {
        namespaces.get_opt(&namespace).await.unwrap().map_or(Ok(()), |_| Err("there".to_owned()))
    })
    .await;
    scene.settled_namespace("n", &[("pull", "ends")]).await;
    served(&scene, &namespace, &name, SOON).await;
    assert!(!operator.logs().contains("ERROR"), "{}", operator.logs());
    scene.finish().await;
}

#[tokio::test]
async fn a_label_that_flips_a_hundred_times_ends_as_it_ends() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespace = scene.settled_namespace("n", &[]).await;
    let name = scene.credential("pull", spec(&source, "flip")).await;
    for _ in 0..50 {
        relabel(&scene, &namespace, Some("flip")).await;
        relabel(&scene, &namespace, None).await;
    }
    gone(&scene, &namespace, &name).await;
    eventually("no entry is left", SOON, async || {
        let list = scene.pull_secrets(&namespace, "default").await;
        if list.is_empty() { Ok(()) } else { Err(format!("{list:?}")) }
    })
    .await;
    relabel(&scene, &namespace, Some("flip")).await;
    served(&scene, &namespace, &name, SOON).await;
    scene.finish().await;
}

#[tokio::test]
async fn adopting_takes_over_in_place_and_leaving_gives_back() {
    let scene = Scene::new().await;
    chart::apply(scene.control_plane(), &["attachAtBirth.enabled=false", "cage.allowAdopt=true"])
        .await
        .unwrap();
    let _operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespace = scene.settled_namespace("n", &[("pull", "adopt")]).await;
    let name = scene.name("pull");
    let theirs = json!({"metadata": {"name": name, "labels": {"team": "theirs"}}, "type": SECRET_TYPE, "stringData": {SECRET_KEY: "{\"auths\":{}}"}});
    let theirs = serde_json::from_value(theirs).unwrap();
    let made = scene.secrets(&namespace).create(&kube::api::PostParams::default(), &theirs).await.unwrap();
    let mut adopting = spec(&source, "adopt");
    adopting["target"] = json!({"conflictPolicy": "Adopt"});
    adopting["deletionPolicy"] = json!("Retain");
    scene.credential("pull", adopting).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let adopted = scene.secret(&namespace, &name).await.unwrap();
    assert_eq!(adopted.uid(), made.uid());
    assert_eq!(adopted.labels()["team"], "theirs");
    relabel(&scene, &namespace, None).await;
    eventually("the marks are off", SOON, async || {
        let secret = scene.secret(&namespace, &name).await.unwrap();
        let marks: Vec<_> =
            secret.annotations().iter().filter(|(key, _)| key.starts_with("regcred.dev/")).collect();
        let retained = marks == [(&"regcred.dev/retained-from".to_owned(), &name)];
        if retained { Ok(()) } else { Err(format!("{marks:?}")) }
    })
    .await;
    assert_eq!(
        scene.pull_secrets(&namespace, "default").await,
        std::slice::from_ref(&name),
        "Retain keeps the entry"
    );
    assert!(scene.docker_config(&namespace, &name).await.unwrap()["auths"]["ghcr.io"].is_object());
    scene.reinstall().await;
    scene.finish().await;
}

#[tokio::test]
async fn a_spec_that_this_version_cannot_read_does_not_hold_its_finalizer() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespace = scene.settled_namespace("n", &[("pull", "unreadable")]).await;
    let name = scene.credential("pull", spec(&source, "unreadable")).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(scene.client.clone());
    let open = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]);
    let open = Patch::<()>::Json(serde_json::from_value(open).unwrap());
    definitions.patch(CRD_NAME, &PatchParams::default(), &open).await.unwrap();
    let broken = Patch::Merge(json!({"spec": {"namespaces": 7}}));
    eventually("a broken spec is stored", SOON, async || {
        scene
            .credentials()
            .patch(&name, &PatchParams::default(), &broken)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    })
    .await;
    scene.wait_condition(&name, "Stalled", "True", "InvalidSpec").await;
    assert!(scene.secret(&namespace, &name).await.is_some(), "the good copy stays");
    scene.delete_credential(&name).await;
    gone(&scene, &namespace, &name).await;
    eventually("the object is gone", SOON, async || {
        scene.credentials().get_opt(&name).await.unwrap().map_or(Ok(()), |_| Err("there".to_owned()))
    })
    .await;
    scene.reinstall().await;
    scene.finish().await;
}
