//! A RegistryCredential that is deleted, however and whenever, no longer exists soon after, and leaves nothing behind.

use std::time::Duration;

use futures::future::join_all;
use kube::api::{DeleteParams, DynamicObject};
use regcred_tests::operator::OperatorOptions;
use regcred_tests::{Scene, eventually};
use serde_json::{Value, json};

/// As long as `kubectl delete` may keep somebody waiting.
const SOON: Duration = Duration::from_secs(10);
/// The garbage collector learns of a new kind within 30 s; until then it finishes no deletion in the foreground.
const COLLECTOR_KNOWS_KIND: Duration = Duration::from_secs(45);
const NAMESPACES: usize = 20;
/// Answers and events race, so once proves little; `REGCRED_DELETION_ROUNDS` asks for more.
const ROUNDS: usize = 4;

fn rounds() -> std::ops::Range<usize> {
    let asked = std::env::var("REGCRED_DELETION_ROUNDS").ok();
    0..asked.map_or(ROUNDS, |rounds| rounds.parse().expect("REGCRED_DELETION_ROUNDS is a number"))
}

fn spec(source: &str, label: &str) -> Value {
    json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": label}}},
    })
}

async fn namespaces(scene: &Scene, label: &str) -> Vec<String> {
    let labels = [("pull", label)];
    join_all(
        (0..NAMESPACES).map(async |number| scene.settled_namespace(&format!("n{number}"), &labels).await),
    )
    .await
}

async fn attached(scene: &Scene, namespaces: &[String], name: &str, wanted: bool) {
    eventually(&format!("{name} attached everywhere: {wanted}"), SOON, async || {
        let lists =
            join_all(namespaces.iter().map(|namespace| scene.pull_secrets(namespace, "default"))).await;
        let others = lists.iter().filter(|list| list.iter().any(|entry| entry == name) != wanted).count();
        if others == 0 { Ok(()) } else { Err(format!("{others} are not")) }
    })
    .await;
}

async fn deleted(scene: &Scene, name: &str, how: &DeleteParams, within: Duration) {
    scene.credentials().delete(name, how).await.unwrap();
    eventually(&format!("{name} is deleted"), within, async || {
        let left = scene.credentials().get_opt(name).await.unwrap();
        let shown = |object: DynamicObject| {
            let message = &object.data["status"]["conditions"][0]["message"];
            Err(format!("{message}, finalizers {:?}", object.metadata.finalizers))
        };
        left.map_or(Ok(()), shown)
    })
    .await;
}

#[tokio::test]
async fn one_whose_source_was_never_made_is_deleted() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let namespaces = namespaces(&scene, "never").await;
    for round in rounds() {
        let name = scene.credential(&format!("never{round}"), spec("never-made", "never")).await;
        attached(&scene, &namespaces, &name, true).await;
        deleted(&scene, &name, &DeleteParams::default(), SOON).await;
        attached(&scene, &namespaces, &name, false).await;
    }
    scene.finish().await;
}

/// As Argo CD deletes: the garbage collector takes the copies while the operator does.
#[tokio::test]
async fn one_that_is_in_place_is_deleted_in_the_foreground() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let first = scene.credential("first", spec(&source, "nowhere")).await;
    deleted(&scene, &first, &DeleteParams::foreground(), COLLECTOR_KNOWS_KIND).await;
    let namespaces = namespaces(&scene, "foreground").await;
    for round in rounds() {
        let name = scene.credential(&format!("fg{round}"), spec(&source, "foreground")).await;
        scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
        deleted(&scene, &name, &DeleteParams::foreground(), SOON).await;
        attached(&scene, &namespaces, &name, false).await;
        for namespace in &namespaces {
            assert!(scene.secret(namespace, &name).await.is_none(), "{namespace}");
        }
    }
    scene.finish().await;
}
