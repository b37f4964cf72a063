//! What holds on every version of Kubernetes that regcred supports: `just matrix VERSION` runs it on another than the usual one.
//! What is installed applies, the operator says what its API server lacks, and a namespace is served.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::{Api, api::ListParams};
use regcred_tests::{
    ControlPlane, Operator, OperatorOptions, Options, Scene, chart, eventually, scene::SOON,
};
use serde_json::json;

/// The minor version that the API server serves.
async fn minor(control_plane: &ControlPlane) -> u32 {
    let info = control_plane.admin().await.unwrap().apiserver_version().await.unwrap();
    info.emulation_minor.unwrap_or(info.minor).trim_end_matches('+').parse().unwrap()
}

async fn said(operator: &Operator) -> String {
    eventually("the operator says of which version the API server is", SOON, async || {
        let output = operator.logs();
        let line = output.lines().find(|line| line.contains("regcred has started"));
        line.map(str::to_owned).ok_or(output)
    })
    .await
}

/// The API server compiles every expression of a policy as it stores it, and refuses what its version does not know.
#[tokio::test(flavor = "multi_thread")]
async fn the_chart_installs_with_every_policy_that_the_version_serves() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    let notes = chart::install(&control_plane, &[]).await.unwrap();
    let at_birth = minor(&control_plane).await >= 36;
    assert_eq!(notes.contains("Nothing is attached at birth"), !at_birth, "{notes}");
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(control_plane.admin().await.unwrap());
    assert_eq!(policies.list(&ListParams::default()).await.unwrap().items.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_served_and_what_the_api_server_lacks_is_said_once() {
    let scene = Scene::new().await;
    let operator =
        scene.operator(OperatorOptions { log_level: "info".to_owned(), ..OperatorOptions::default() }).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespace = scene.settled_namespace("served", &[("pull", "versions")]).await;
    let spec = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": "versions"}}},
    });
    let name = scene.credential("pull", spec).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    assert_eq!(scene.pull_secrets(&namespace, "default").await, std::slice::from_ref(&name));
    let (minor, line) = (minor(scene.control_plane()).await, said(&operator).await);
    assert_eq!(line.contains("MutatingAdmissionPolicies"), minor < 36, "{line}");
    assert_eq!(line.contains("lists as a stream"), minor < 34, "{line}");
    scene.finish().await;
}
