//! The list of a ServiceAccount belongs to everybody: ours is one entry among others', and nobody else's is ever lost.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use regcred_tests::operator::OperatorOptions;
use regcred_tests::{Scene, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_mins(1);
/// Edits by others in the contended test, and over how many ServiceAccounts.
const EDITS: usize = 10_000;
const ACCOUNTS: usize = 20;

fn spec(source: &str, label: &str, accounts: &Value) -> Value {
    json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": label}}},
        "serviceAccounts": accounts,
    })
}

async fn list_is(scene: &Scene, namespace: &str, account: &str, wanted: &[&str]) {
    eventually(&format!("the list of {account}"), SOON, async || {
        let list = scene.pull_secrets(namespace, account).await;
        if list == wanted { Ok(()) } else { Err(format!("{list:?} is not {wanted:?}")) }
    })
    .await;
}

#[tokio::test]
async fn foreign_entries_keep_their_place_and_ours_is_added_once() {
    let scene = Scene::new().await;
    let namespace = scene.settled_namespace("n", &[("pull", "place")]).await;
    let ours = scene.name("pull");
    scene.service_account(&namespace, "several", &["z", "a", "m"]).await;
    scene.service_account(&namespace, "there", &["z", &ours, "a"]).await;
    scene.service_account(&namespace, "twice", &[&ours, "z", &ours]).await;
    scene.service_account(&namespace, "elsewhere", &["z", &ours]).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let accounts = json!({"from": "All", "exclude": ["elsewhere"]});
    let _operator = scene.operator(OperatorOptions::default()).await;
    scene.credential("pull", spec(&source, "place", &accounts)).await;
    list_is(&scene, &namespace, "several", &["z", "a", "m", &ours]).await;
    list_is(&scene, &namespace, "there", &["z", &ours, "a"]).await;
    list_is(&scene, &namespace, "twice", &[&ours, "z", &ours]).await;
    // An entry that regcred did not put there stays, though this account is excluded.
    list_is(&scene, &namespace, "elsewhere", &["z", &ours]).await;
    scene.finish().await;
}

#[tokio::test]
async fn an_opted_out_account_and_a_narrower_selection_lose_the_entry() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let namespace = scene.settled_namespace("n", &[("pull", "narrow")]).await;
    for account in ["builder", "deployer"] {
        scene.service_account(&namespace, account, &["own"]).await;
    }
    let source = scene.basic_auth_source("src", "bot").await;
    let name = scene.credential("pull", spec(&source, "narrow", &json!({"from": "All"}))).await;
    list_is(&scene, &namespace, "builder", &["own", &name]).await;
    list_is(&scene, &namespace, "deployer", &["own", &name]).await;
    let opt_out = Patch::Merge(json!({"metadata": {"annotations": {"regcred.dev/exclude": "true"}}}));
    scene.service_accounts(&namespace).patch("builder", &PatchParams::default(), &opt_out).await.unwrap();
    list_is(&scene, &namespace, "builder", &["own"]).await;
    scene
        .credential("pull", spec(&source, "narrow", &json!({"from": "Selected", "matchNames": ["def*"]})))
        .await;
    list_is(&scene, &namespace, "deployer", &["own"]).await;
    list_is(&scene, &namespace, "default", &[&name]).await;
    scene.finish().await;
}

#[tokio::test]
async fn ten_thousand_edits_by_others_lose_nothing() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let namespace = scene.settled_namespace("n", &[("pull", "edits")]).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let accounts: Vec<String> = (0..ACCOUNTS).map(|number| format!("sa{number}")).collect();
    for account in &accounts {
        scene.service_account(&namespace, account, &[]).await;
    }
    let name = scene.credential("pull", spec(&source, "edits", &json!({"from": "All"}))).await;
    let api = scene.service_accounts(&namespace);
    let editors = accounts.iter().map(|account| edit(&api, account, &name));
    let wanted: Vec<Vec<String>> = join_all(editors).await;
    for (account, mut wanted) in accounts.iter().zip(wanted) {
        eventually(&format!("{account} has all that was written"), SOON, async || {
            let mut list = scene.pull_secrets(&namespace, account).await;
            let before = list.len();
            list.retain(|entry| *entry != name);
            if list == wanted && before == list.len() + 1 {
                Ok(())
            } else {
                Err(format!("{list:?} is not {wanted:?}"))
            }
        })
        .await;
        wanted.clear();
    }
    scene.finish().await;
}

/// Edits one list again and again, as a careful client does: read, change, write with the version that was read.
/// Returns the entries that must be there in the end, in order. Ours is dropped in none of them.
async fn edit(api: &Api<ServiceAccount>, account: &str, ours: &str) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut done = 0;
    while done < EDITS / ACCOUNTS {
        let read = api.get(account).await.unwrap();
        let mut list: Vec<String> =
            read.image_pull_secrets.iter().flatten().map(|entry| entry.name.clone()).collect();
        let entry = format!("e{done}");
        let mut next = kept.clone();
        next.push(entry.clone());
        list.push(entry);
        if next.len() > 5 {
            let oldest = next.remove(0);
            list.retain(|entry| *entry != oldest);
        }
        let body = json!({
            "metadata": {"resourceVersion": read.resource_version()},
            "imagePullSecrets": list.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        });
        match api.patch(account, &PatchParams::default(), &Patch::Merge(body)).await {
            Ok(_) => {
                let foreign: Vec<_> = list.iter().filter(|entry| *entry != ours).cloned().collect();
                assert_eq!(foreign, next, "an entry of {account} was lost or moved");
                kept = next;
                done += 1;
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
    }
    kept
}
