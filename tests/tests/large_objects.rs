//! Objects of the largest size that the API server stores, as a tenant makes them in a namespace of its own, fill no memory
//! and hold up nobody. This is a program of its own, with a control plane of its own, because every list of ServiceAccounts
//! there carries them.

use std::time::Duration;

use kube::api::DeleteParams;
use regcred_tests::operator::OperatorOptions;
use regcred_tests::{Operator, Proxy, Scene, eventually, hostile};
use serde_json::json;

/// How soon what a tenant of a large namespace undid is back.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Of each kind: more than the memory limit of the chart would hold.
const LARGE: usize = 20;
/// What an unoptimised operator may take for them, in MiB.
const MORE_MEMORY: u64 = 40;
/// Has the C library of the tests' build give back what is free, as that of the image does: what it keeps is no memory of ours.
const GIVE_BACK: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_TRIM_THRESHOLD_", "65536")];

fn options() -> OperatorOptions {
    let environment = GIVE_BACK.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    OperatorOptions { environment, ..OperatorOptions::default() }
}

async fn repaired(scene: &Scene, namespace: &str, name: &str) {
    scene.secrets(namespace).delete(name, &DeleteParams::default()).await.unwrap();
    eventually(&format!("{namespace}/{name} is back"), AT_ONCE, async || {
        scene.secret(namespace, name).await.map(drop).ok_or_else(|| "not there".to_owned())
    })
    .await;
}

/// The most memory that an operator ever took, in MiB.
fn peak(operator: &Operator) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn objects_of_the_largest_size_fill_no_memory_and_hold_up_nobody() {
    let scene = Scene::new().await;
    let operator = scene.operator(options()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let spec = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": "large"}}},
    });
    let served = scene.settled_namespace("served", &[("pull", "large")]).await;
    let name = scene.credential("pull", spec).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let before = peak(&operator);

    let tenant = scene.settled_namespace("tenant", &[]).await;
    hostile::make_service_accounts(&scene.client, &tenant, LARGE).await.unwrap();
    hostile::apply_secrets(&scene.client, &tenant, LARGE).await.unwrap();
    repaired(&scene, &served, &name).await;
    let beside = peak(&operator);
    operator.kill();

    let restarted = scene.operator(options()).await;
    repaired(&scene, &served, &name).await;
    let after = peak(&restarted);
    restarted.kill();

    let proxy = Proxy::start(scene.control_plane()).unwrap();
    proxy.refuse_streaming_lists();
    let options = OperatorOptions { api_url: Some(proxy.url()), ..options() };
    let paged = scene.operator(options).await;
    repaired(&scene, &served, &name).await;
    let in_pages = peak(&paged);

    let most = before + MORE_MEMORY;
    let taken =
        format!("{before} MiB before, {beside} beside, {after} restarted, {in_pages} with lists in pages");
    assert!(beside <= most && after <= most && in_pages <= most, "{taken}");
    hostile::remove(&scene.client, &tenant).await.unwrap();
    scene.finish().await;
}
