//! What a request costs the API server beside many RegistryCredentials, also one that a tenant makes as large as it can.

use std::time::Duration;

use kube::api::PostParams;
use regcred_tests::birth::{Cost, Shape};
use regcred_tests::{Scene, eventually};
use serde_json::{Value, json};

use crate::{SOON, apply_credential, apply_namespace, names, scene};

const CREDENTIALS: u32 = 50;
const REQUESTS: u32 = 5;
const WORST: [Shape; 2] = [Shape::Entries, Shape::Labels];

/// Selects by a label of namespaces, which takes longest to decide.
fn selecting_by_label() -> Value {
    json!({
        "dockerConfigSecretRefs": [{ "name": "none" }],
        "namespaces": {"selector": {"matchLabels": {"pull": "costly"}}},
        "serviceAccounts": {"from": "All"},
    })
}

async fn worst(scene: &Scene) -> Duration {
    let mut sum = Duration::ZERO;
    for shape in WORST {
        let cost = Cost::of(scene.control_plane(), &scene.client, "tenant", shape, REQUESTS).await;
        sum += cost.unwrap_or_else(|error| panic!("{error}")).processor;
    }
    sum
}

/// Processor time of the API server, so that it does not matter how busy the machine is.
#[tokio::test(flavor = "multi_thread")]
async fn each_credential_adds_less_than_half_of_what_the_largest_requests_cost_alone() {
    let scene = scene().await;
    apply_namespace(&scene, "tenant", json!({})).await;
    apply_namespace(&scene, "costly", json!({"labels": {"pull": "costly"}})).await;
    // The first requests of a new API server cost more.
    worst(&scene).await;
    let alone = worst(&scene).await;
    for number in 0..CREDENTIALS {
        apply_credential(&scene, &format!("costly-{number:02}"), selecting_by_label()).await;
    }
    let probe = serde_json::from_value(json!({"metadata": {"name": "probe"}})).unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    eventually("all to be in force", SOON, async || {
        let made = scene.service_accounts("costly").create(&dry_run, &probe).await.unwrap();
        if names(&made).len() == CREDENTIALS as usize { Ok(()) } else { Err(format!("{:?}", names(&made))) }
    })
    .await;
    let beside = worst(&scene).await;
    let each = beside.saturating_sub(alone) / CREDENTIALS;
    assert!(each * 2 < alone, "{alone:?} alone, {beside:?} beside {CREDENTIALS}: {each:?} more for each");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_anybody_needs_is_left_to_the_operator() {
    let scene = scene().await;
    apply_namespace(&scene, "costly", json!({"labels": {"pull": "costly"}})).await;
    apply_credential(&scene, "usual", selecting_by_label()).await;
    let accounts = scene.service_accounts("costly");
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let made = async |object: Value| {
        let mut object = object;
        object["metadata"]["name"] = json!("sized");
        let made = accounts.create(&dry_run, &serde_json::from_value(object).unwrap()).await.unwrap();
        names(&made).contains(&"usual".to_owned())
    };
    eventually("it is in force", SOON, async || {
        if made(json!({})).await { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let entries =
        |count: usize| (0..count).map(|number| json!({"name": format!("e{number}")})).collect::<Value>();
    let keys = |count: usize| (0..count).map(|number| (format!("k{number}"), json!("v"))).collect::<Value>();
    for (what, object, attached) in [
        ("63 entries", json!({"imagePullSecrets": entries(63)}), true),
        ("64 entries", json!({"imagePullSecrets": entries(64)}), false),
        ("64 labels", json!({"metadata": {"labels": keys(64)}}), true),
        ("65 labels", json!({"metadata": {"labels": keys(65)}}), false),
        ("65 annotations", json!({"metadata": {"annotations": keys(65)}}), false),
        ("a long annotation", json!({"metadata": {"annotations": {"a": "v".repeat(16_385)}}}), false),
        ("65 secrets", json!({"secrets": entries(65)}), false),
    ] {
        assert_eq!(made(object).await, attached, "{what}");
    }
    scene.finish().await;
}
