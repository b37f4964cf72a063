//! Sources as people make them, on a real API server: what copies hold, and what status says.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use regcred_tests::operator::OperatorOptions;
use regcred_tests::{SECRET_KEY, SECRET_TYPE, Scene, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
/// Where the API server keeps events of objects without a namespace.
const EVENTS: &str = "default";

fn spec(server: &str, reference: &Value, label: &str) -> Value {
    json!({
        "registries": [{"server": server, "source": {"secretRef": reference}}],
        "namespaces": {"selector": {"matchLabels": {"pull": label}}},
    })
}

async fn holds(scene: &Scene, namespace: &str, name: &str, wanted: &Value) {
    eventually(&format!("the content of {namespace}/{name}"), SOON, async || {
        match scene.docker_config(namespace, name).await {
            Some(config) if config["auths"] == *wanted => Ok(()),
            other => Err(format!("{other:?} is not {wanted}")),
        }
    })
    .await;
}

#[tokio::test]
async fn what_editors_shells_and_tools_leave_in_a_source_reaches_no_copy() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let namespace = scene.settled_namespace("n", &[("pull", "messy")]).await;
    let (dirty_user, dirty_password) = ("\u{feff}u\n", "\u{feff}p\r\n");
    let desktop = r#"{"auths":{"https://index.docker.io/v1/":{},"":{},"oci://x":{"auth":"!"},"GHCR.io":{"Auth":"dTpwCg=="}},"credsStore":"desktop"}"#;
    let nested = r#"{"auths":{"ghcr.io":{"auth":"dTpw\n"}}}"#;
    let keys = json!({"usernameKey": "user", "passwordKey": "token"});
    for (number, (kind, data, extra)) in [
        ("kubernetes.io/basic-auth", vec![("username", dirty_user), ("password", dirty_password)], json!({})),
        ("Opaque", vec![("user", dirty_user), ("token", dirty_password)], keys),
        (SECRET_TYPE, vec![(SECRET_KEY, desktop)], json!({})),
        ("kubernetes.io/dockercfg", vec![(".dockercfg", nested)], json!({})),
    ]
    .into_iter()
    .enumerate()
    {
        let mut reference = extra;
        reference["name"] = json!(scene.source(&format!("messy{number}"), kind, &data).await);
        let name = scene.credential(&format!("messy{number}"), spec("ghcr.io", &reference, "messy")).await;
        let entry = json!({"username": "u", "password": "p", "auth": "dTpw"});
        holds(&scene, &namespace, &name, &json!({"ghcr.io": entry})).await;
    }
    scene.finish().await;
}

#[tokio::test]
async fn two_sources_that_differ_are_told_with_the_one_that_counts() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let namespace = scene.settled_namespace("n", &[("pull", "conflict")]).await;
    let bot = scene.basic_auth_source("bot", "bot").await;
    let all = scene.docker_config_source("all", "ghcr.io", "other").await;
    let mut both = spec("ghcr.io", &json!({"name": bot}), "conflict");
    both["dockerConfigSecretRefs"] = json!([{"name": all}]);
    let name = scene.credential("pull", both).await;
    let wanted = format!(
        "ghcr.io: Secret {bot} and Secret {all} have different credentials, and that of Secret {bot} counts; \
         remove one, or give one of them a path, as in ghcr.io/team"
    );
    let told = scene.wait_condition(&name, "SourceReady", "False", "SourceConflict").await;
    assert_eq!(told.message, wanted);
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let config = scene.docker_config(&namespace, &name).await.unwrap();
    assert_eq!(config["auths"]["ghcr.io"]["username"], "bot");
    let events: Api<Event> = Api::namespaced(scene.client.clone(), EVENTS);
    let of_object =
        ListParams::default().fields(&format!("involvedObject.name={name},reason=SourceConflict"));
    eventually("a Warning event", SOON, async || {
        let found = events.list(&of_object).await.map_err(|error| error.to_string())?;
        let told = |event: &Event| {
            event.type_.as_deref() == Some("Warning") && event.message.as_deref() == Some(&wanted)
        };
        if found.items.iter().any(told) { Ok(()) } else { Err(format!("{} events", found.items.len())) }
    })
    .await;
    scene.docker_config_source("all", "ghcr.io/team", "other").await;
    scene.wait_condition(&name, "SourceReady", "True", "Resolved").await;
    scene.finish().await;
}
