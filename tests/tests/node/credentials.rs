//! What the operator renders really pulls, whatever the credential looks like.

use regcred_tests::node::{registry::Login, token_server::TokenServer};
use serde_json::json;

use crate::stage::{AFTER_BACK_OFF, HOST, SOON, Stage, credential_of, pod, puller, source};

/// The host name of the registry behind a token server.
const TOKENS: &str = "tokens.test:5443";

/// A way to write a credential, and the image that it is to pull.
struct Case {
    name: &'static str,
    server: &'static str,
    login: Login,
    /// As a Pod names it, without the tag.
    image: &'static str,
}

/// Each user may pull from its own repositories only, so that a pull shows which credential was sent.
fn cases() -> Vec<Case> {
    let case = |name, server, login, image| Case { name, server, login, image };
    let long = "t0ken.".repeat(700);
    let key = r#"{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\nMII+/=\n-----END PRIVATE KEY-----\n"}"#;
    vec![
        case(
            "host-and-port",
            TOKENS,
            Login::new("plain", "secret").only("plain/"),
            "tokens.test:5443/plain/app",
        ),
        case(
            "path",
            "tokens.test:5443/scoped",
            Login::new("scoped", "a").only("scoped/"),
            "tokens.test:5443/scoped/app",
        ),
        case(
            "longer-path",
            "tokens.test:5443/scoped-b",
            Login::new("other", "b").only("scoped-b/"),
            "tokens.test:5443/scoped-b/app",
        ),
        case("docker-hub", "docker.io", Login::new("hub", "pat").only("acme/"), "docker.io/acme/app"),
        case("docker-hub-short", "docker.io", Login::new("hub2", "pat").only("short/"), "short/app"),
        case("colon", TOKENS, Login::new("colon", "a:b:c").only("colon/"), "tokens.test:5443/colon/app"),
        case(
            "shell",
            TOKENS,
            Login::new("$oauthtoken", r#"$HOME `id` "quoted" 'single' \back"#).only("shell/"),
            "tokens.test:5443/shell/app",
        ),
        case(
            "utf-8",
            TOKENS,
            Login::new("jörg", "пароль-密码-🔑").only("utf-8/"),
            "tokens.test:5443/utf-8/app",
        ),
        case(
            "four-kilobytes",
            TOKENS,
            Login::new("oauth2accesstoken", &long).only("long/"),
            "tokens.test:5443/long/app",
        ),
        case("json-key", TOKENS, Login::new("_json_key", key).only("key/"), "tokens.test:5443/key/app"),
    ]
}

pub(crate) async fn every_form_of_credential_pulls(stage: &Stage) {
    let cases = cases();
    let server = TokenServer::start(cases.iter().map(|case| case.login.clone()).collect()).await.unwrap();
    let registry = stage.node.registry_behind(TOKENS, &server).await.unwrap();
    stage.node.route("docker.io", &registry).unwrap();
    for Case { name, server: host, login, image } in &cases {
        let repository = image.trim_start_matches(&format!("{TOKENS}/")).trim_start_matches("docker.io/");
        let content = stage.node.new_image(name).unwrap();
        registry.push(&content, repository, "v1", &server.pusher(repository).unwrap()).await.unwrap();
        stage.credential(name, host, login).await;
        stage.namespace(name, name).await;
        stage.served(name, name).await;
        stage.apply(&[pod(name, "app", &format!("{image}:v1"))]).await;
    }
    for Case { name, .. } in &cases {
        stage.runs(name, "app", SOON).await;
    }
    two_paths_of_one_host_in_one_secret(stage, &cases, &registry, &server).await;
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    stage
        .clear(&[names.as_slice(), &["two-paths"]].concat(), &[names.as_slice(), &["two-paths"]].concat())
        .await;
}

/// The kubelet sends the credential of the longest matching path.
async fn two_paths_of_one_host_in_one_secret(
    stage: &Stage,
    cases: &[Case],
    registry: &regcred_tests::node::registry::Registry,
    server: &TokenServer,
) {
    let scoped: Vec<&Case> = cases.iter().filter(|case| case.name.ends_with("path")).collect();
    let registries: Vec<_> = scoped
        .iter()
        .map(|case| json!({ "server": case.server, "source": { "secretRef": { "name": case.name } } }))
        .collect();
    stage.apply(&[credential_of("two-paths", &json!(registries))]).await;
    stage.namespace("two-paths", "two-paths").await;
    stage.served("two-paths", "two-paths").await;
    for case in scoped {
        let repository = case.image.trim_start_matches(&format!("{TOKENS}/"));
        let content = stage.node.new_image(&format!("two paths {}", case.name)).unwrap();
        registry.push(&content, repository, "v2", &server.pusher(repository).unwrap()).await.unwrap();
        stage.apply(&[pod("two-paths", case.name, &format!("{}:v2", case.image))]).await;
        stage.runs("two-paths", case.name, SOON).await;
    }
}

pub(crate) async fn a_wrong_password_does_not_pull(stage: &Stage) {
    let server = TokenServer::start(vec![Login::new("somebody", "right")]).await.unwrap();
    let registry = stage.node.registry_behind("refusing.test:5443", &server).await.unwrap();
    let image = stage.node.new_image("refused").unwrap();
    registry.push(&image, "acme/app", "v1", &server.pusher("acme/app").unwrap()).await.unwrap();
    stage.credential("refused", "refusing.test:5443", &Login::new("somebody", "wrong")).await;
    stage.namespace("refused", "refused").await;
    stage.served("refused", "refused").await;
    stage.apply(&[pod("refused", "app", "refusing.test:5443/acme/app:v1")]).await;
    let reason = stage.waits("refused", "app", "ErrImagePull").await;
    assert!(reason.contains("401") || reason.contains("authoriz"), "{reason}");
    // The right one heals it, within the kubelet's back-off.
    stage.apply(&[source("refused", &Login::new("somebody", "right"))]).await;
    stage.runs("refused", "app", AFTER_BACK_OFF).await;
    stage.clear(&["refused"], &["refused"]).await;
}

pub(crate) async fn several_registries_pull_with_one_secret(stage: &Stage) {
    let other = Login::new("other", "password");
    let second = stage.node.registry("second.test:5000", std::slice::from_ref(&other)).await.unwrap();
    let content = stage.node.new_image("second").unwrap();
    let authorization = regcred_tests::node::registry::basic(&other);
    second.push(&content, "acme/app", "v1", &authorization).await.unwrap();
    let first = stage.new_image("acme/app", &puller()).await;
    let registries = [(HOST, "several-a"), ("second.test:5000", "several-b")]
        .map(|(server, name)| json!({ "server": server, "source": { "secretRef": { "name": name } } }));
    stage
        .apply(&[
            source("several-a", &puller()),
            source("several-b", &other),
            credential_of("several", &json!(registries)),
        ])
        .await;
    stage.namespace("several", "several").await;
    stage.served("several", "several").await;
    stage.apply(&[pod("several", "a", &first), pod("several", "b", "second.test:5000/acme/app:v1")]).await;
    stage.runs("several", "a", SOON).await;
    stage.runs("several", "b", SOON).await;
    stage.clear(&["several"], &["several"]).await;
}
