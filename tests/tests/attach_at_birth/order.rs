//! Several RegistryCredentials at once: the API server evaluates them in an order that changes, and nobody may see that.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use regcred_tests::{Scene, eventually};
use serde_json::{Value, json};

use crate::{SOON, apply_credential, apply_namespace, make_account, names, scene, selecting};

/// Not in the order of their names, so that they are not made in it.
const CREDENTIALS: [&str; 4] = ["delta", "alpha", "charlie", "bravo"];
const SORTED: [&str; 4] = ["alpha", "bravo", "charlie", "delta"];
const APPLIES: usize = 39;

/// A namespace that all four select, once they are in force.
async fn served(scene: &Scene, namespace: &str) -> Api<ServiceAccount> {
    apply_namespace(scene, namespace, json!({})).await;
    for name in CREDENTIALS {
        apply_credential(scene, name, selecting(&[namespace])).await;
    }
    let accounts = scene.service_accounts(namespace);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let probe: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "probe"}})).unwrap();
    eventually("all four to be known", SOON, async || {
        let names = names(&accounts.create(&dry_run, &probe).await.unwrap());
        if names.len() == CREDENTIALS.len() { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    accounts
}

fn list(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"name": name})).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_applied_again_and_again_changes_nothing() {
    let scene = scene().await;
    let accounts = served(&scene, "drift").await;
    let theirs = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"},
        "imagePullSecrets": list(&["theirs", "zz"]),
    });
    let apply = async || {
        let params = PatchParams::apply("gitops").force();
        accounts.patch("app", &params, &Patch::Apply(&theirs)).await.unwrap()
    };
    // The first makes it, the second may change who is said to own the list.
    apply().await;
    let mut last = apply().await;
    let mut changed = 0;
    for _ in 0..APPLIES {
        let now = apply().await;
        changed += usize::from(now.resource_version() != last.resource_version());
        last = now;
    }
    assert_eq!(changed, 0, "of {APPLIES} applies; {:?}", names(&last));
    // Whoever writes the whole object, without the annotation, sees the same.
    let mut whole: ServiceAccount = serde_json::from_value(theirs).unwrap();
    for _ in 0..APPLIES {
        whole.metadata.resource_version = None;
        let now = accounts.replace("app", &PostParams::default(), &whole).await.unwrap();
        assert_eq!((names(&now), now.annotations()), (names(&last), last.annotations()));
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_account_has_them_in_the_order_of_their_names_and_one_put_back_stands_where_it_stood() {
    let scene = scene().await;
    let accounts = served(&scene, "places").await;
    for number in 0..10 {
        let made = make_account(&accounts, &format!("new-{number}"), json!({})).await.unwrap();
        assert_eq!(names(&made), SORTED);
        assert_eq!(made.annotations()["regcred.dev/attached"], SORTED.join(","));
    }
    let write = async |theirs: &[&str]| {
        let patch = Patch::Merge(json!({"imagePullSecrets": list(theirs)}));
        names(&accounts.patch("new-0", &PatchParams::default(), &patch).await.unwrap())
    };
    let placed = ["x", "delta", "y", "alpha", "bravo", "z", "charlie"];
    assert_eq!(write(&placed).await, placed);
    for _ in 0..5 {
        assert_eq!(write(&["x", "y", "z"]).await, placed);
    }
    assert_eq!(write(&["z", "x"]).await, ["delta", "alpha", "bravo", "z", "x", "charlie"]);
    assert_eq!(write(&[]).await, ["delta", "alpha", "bravo", "charlie"]);
    scene.finish().await;
}
