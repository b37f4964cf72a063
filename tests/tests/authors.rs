//! What an author of RegistryCredentials, or whoever opts out, gets on a real API server: pull secrets where they are
//! wanted, and nothing else of the operator's.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use regcred_tests::install::OPERATOR_NAMESPACE;
use regcred_tests::operator::OperatorOptions;
use regcred_tests::{Scene, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

fn spec(source: &str, namespaces: &Value) -> Value {
    json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": namespaces,
    })
}

async fn annotate(scene: &Scene, namespace: &str, annotations: Value) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    namespaces.patch(namespace, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn whoever_opts_out_in_words_of_their_own_gets_nothing() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let mut out = Vec::new();
    for (number, value) in ["true", "True", "1", "yes", "false", ""].into_iter().enumerate() {
        let name = scene.settled_namespace(&format!("opt{number}"), &[]).await;
        annotate(&scene, &name, json!({"regcred.dev/exclude": value})).await;
        // The label comes last, so that no namespace is selected before it is annotated.
        let label = Patch::Merge(json!({"metadata": {"labels": {"pull": "opted"}}}));
        let namespaces: Api<Namespace> = Api::all(scene.client.clone());
        namespaces.patch(&name, &PatchParams::default(), &label).await.unwrap();
        out.push((name, value));
    }
    let selector = json!({"selector": {"matchLabels": {"pull": "opted"}}});
    let name = scene.credential("pull", spec(&source, &selector)).await;
    let told = scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    assert!(told.message.starts_with("2 of 2 namespaces"), "{}", told.message);
    for (namespace, value) in out {
        let served = scene.secret(&namespace, &name).await.is_some();
        assert_eq!(served, ["false", ""].contains(&value), "{value:?}");
    }
    scene.finish().await;
}

/// A Secret with every mark of a copy, applied as the operator would, and the entry on a ServiceAccount: what an older
/// version left where it is asked to be.
async fn former_copy(scene: &Scene, namespace: &str, name: &str) {
    scene.apply_as_regcred(namespace, name, name, json!({})).await;
    let entry = json!({
        "metadata": {"annotations": {"regcred.dev/attached": name}}, "imagePullSecrets": [{"name": name}],
    });
    let accounts = scene.service_accounts(namespace);
    accounts.patch("default", &PatchParams::default(), &Patch::Merge(entry)).await.unwrap();
}

#[tokio::test]
async fn the_operators_own_namespace_is_selected_by_no_rule_and_loses_what_it_had() {
    let scene = Scene::new().await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    let label = |value: Value| Patch::Merge(json!({"metadata": {"labels": {"pull": value}}}));
    namespaces.patch(OPERATOR_NAMESPACE, &PatchParams::default(), &label(json!("own"))).await.unwrap();
    let other = scene.settled_namespace("n", &[("pull", "own")]).await;
    let selections = [
        json!({"matchNames": [OPERATOR_NAMESPACE, other]}),
        json!({"matchNames": ["regcred-*", other]}),
        json!({"selector": {"matchLabels": {"pull": "own"}}}),
    ];
    let mut names = Vec::new();
    for (number, selection) in selections.iter().enumerate() {
        names.push(scene.credential(&format!("own{number}"), spec(&source, selection)).await);
    }
    // With one list for both, the source would be written over.
    let over_the_source = {
        let mut spec = spec(&source, &selections[0]);
        spec["target"] = json!({"name": source, "conflictPolicy": "Adopt"});
        spec["deletionPolicy"] = json!("Retain");
        scene.credential("over", spec).await
    };
    former_copy(&scene, OPERATOR_NAMESPACE, &names[0]).await;
    let before = scene.secret(OPERATOR_NAMESPACE, &source).await.unwrap().metadata.resource_version;
    let _operator = scene.operator(OperatorOptions::default()).await;
    for name in names.iter().chain([&over_the_source]) {
        let told = scene.wait_condition(name, "Ready", "True", "Succeeded").await;
        assert!(told.message.starts_with("1 of 1 namespace"), "{}", told.message);
    }
    eventually("the operator's namespace to be left", SOON, async || {
        for name in &names {
            if scene.secret(OPERATOR_NAMESPACE, name).await.is_some() {
                return Err(format!("{name} is there"));
            }
        }
        match scene.pull_secrets(OPERATOR_NAMESPACE, "default").await {
            list if list.is_empty() => Ok(()),
            list => Err(format!("{list:?}")),
        }
    })
    .await;
    let now = scene.secret(OPERATOR_NAMESPACE, &source).await.unwrap().metadata.resource_version;
    assert_eq!(now, before, "the source is as it was");
    namespaces.patch(OPERATOR_NAMESPACE, &PatchParams::default(), &label(Value::Null)).await.unwrap();
    scene.finish().await;
}

/// A Secret of the operator's namespace that is no source, and what status says of it.
struct NoSource {
    kind: &'static str,
    labels: Value,
    annotations: Value,
    keys: [&'static str; 2],
    says: &'static str,
}

fn no_sources() -> Vec<NoSource> {
    let none = || json!({});
    let labelled = || json!({"regcred.dev/source": "true"});
    let of = |kind, keys, says| NoSource { kind, labels: labelled(), annotations: none(), keys, says };
    let ours = json!({"regcred.dev/credential": "pull"});
    let uid = json!({"regcred.dev/credential-uid": "00000000-0000-0000-0000-000000000000"});
    let account = json!({"kubernetes.io/service-account.name": "default"});
    vec![
        of("kubernetes.io/tls", ["tls.crt", "tls.key"], "is of type kubernetes.io/tls"),
        of("helm.sh/release.v1", ["user", "release"], "is of type helm.sh/release.v1"),
        of("kubernetes.io/ssh-auth", ["user", "ssh-privatekey"], "is of type kubernetes.io/ssh-auth"),
        of("example.com/own", ["user", "password"], "is of type example.com/own"),
        NoSource {
            annotations: account.clone(),
            ..of(
                "kubernetes.io/service-account-token",
                ["namespace", "token"],
                "holds a token of a ServiceAccount",
            )
        },
        NoSource {
            annotations: account,
            ..of("kubernetes.io/basic-auth", ["username", "password"], "holds a token of a ServiceAccount")
        },
        NoSource {
            labels: none(),
            ..of("Opaque", ["user", "password"], "kubectl label secret -n regcred-system")
        },
        NoSource { labels: ours, ..of("kubernetes.io/basic-auth", ["username", "password"], "is a copy") },
        NoSource { annotations: uid, ..of("Opaque", ["user", "password"], "is a copy") },
    ]
}

async fn make_secret(scene: &Scene, name: &str, secret: &NoSource) {
    let [user, password] = secret.keys;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": secret.kind,
        "stringData": {user: "bot", password: regcred_tests::canary::CANARY},
        "metadata": {"name": name, "labels": secret.labels, "annotations": secret.annotations},
    });
    let params = PatchParams::apply("test").force();
    scene.secrets(OPERATOR_NAMESPACE).patch(name, &params, &Patch::Apply(&secret)).await.unwrap();
}

#[tokio::test]
async fn only_what_is_meant_as_a_source_is_handed_out() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let namespace = scene.settled_namespace("n", &[("pull", "sources")]).await;
    let read = |name: &str, keys: [&str; 2]| {
        let mut spec = spec(name, &json!({"selector": {"matchLabels": {"pull": "sources"}}}));
        let reference = json!({"name": name, "usernameKey": keys[0], "passwordKey": keys[1]});
        spec["registries"][0]["source"]["secretRef"] = reference;
        spec
    };
    for (number, secret) in no_sources().iter().enumerate() {
        let source = scene.name(&format!("none{number}"));
        make_secret(&scene, &source, secret).await;
        let name = scene.credential(&format!("none{number}"), read(&source, secret.keys)).await;
        refused(&scene, &namespace, &name, secret.says).await;
    }
    // The operator's own key, also with the label.
    let label = json!({"metadata": {"labels": {"regcred.dev/source": "true"}}});
    let secrets = scene.secrets(OPERATOR_NAMESPACE);
    secrets
        .patch("regcred-fingerprint-key", &PatchParams::default(), &Patch::Merge(label.clone()))
        .await
        .unwrap();
    let name = scene.credential("key", read("regcred-fingerprint-key", ["key", "key"])).await;
    refused(&scene, &namespace, &name, "is regcred's own key").await;
    let unlabel = json!({"metadata": {"labels": null}});
    secrets.patch("regcred-fingerprint-key", &PatchParams::default(), &Patch::Merge(unlabel)).await.unwrap();
    // What the message advises helps.
    let unlabelled = no_sources().iter().position(|secret| secret.kind == "Opaque").unwrap();
    let unlabelled = scene.name(&format!("none{unlabelled}"));
    secrets.patch(&unlabelled, &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    scene.wait_condition(&unlabelled, "SourceReady", "True", "Resolved").await;
    assert!(!operator.metrics().await.unwrap().contains(regcred_tests::canary::CANARY));
    for number in 0..no_sources().len() {
        secrets.delete(&scene.name(&format!("none{number}")), &DeleteParams::default()).await.unwrap();
    }
    scene.finish().await;
}

async fn refused(scene: &Scene, namespace: &str, name: &str, says: &str) {
    eventually(says, SOON, async || match scene.condition(name, "SourceReady").await {
        Some(now) if now.reason == "SourceInvalid" && now.message.contains(says) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(scene.secret(namespace, name).await.is_none(), "{says}");
}

/// Whoever may write a source of one's own cannot learn by comparing whether it holds what another credential holds.
#[tokio::test]
async fn two_credentials_with_one_password_show_different_fingerprints() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let namespace = scene.settled_namespace("n", &[("pull", "guess")]).await;
    let mut seen = BTreeSet::new();
    for suffix in ["victim", "guess"] {
        let source = scene.basic_auth_source(suffix, "bot").await;
        let selector = json!({"selector": {"matchLabels": {"pull": "guess"}}});
        let name = scene.credential(suffix, spec(&source, &selector)).await;
        scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
        let copy = scene.secret(&namespace, &name).await.unwrap();
        let long = copy.metadata.annotations.unwrap()["regcred.dev/fingerprint"].clone();
        let short = scene.status(&name).await["registries"][0]["fingerprint"].as_str().unwrap().to_owned();
        assert!(seen.insert(long) && seen.insert(short), "{suffix}: {seen:?}");
    }
    scene.finish().await;
}
