//! Registries that are asked whether a credential is good: what status says, what copies hold meanwhile, and how seldom
//! anybody is asked.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use regcred_planner::{Settings, validate};
use regcred_tests::install::repository;
use regcred_tests::registry::{HIDDEN, REPOSITORY, Registry};
use regcred_tests::wait::throughout;
use regcred_tests::{Operator, OperatorOptions, Scene, canary, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
/// In which whoever asks too often is caught.
const WHILE: Duration = Duration::from_secs(5);
const VERIFIED: &str = "CredentialsVerified";
/// Where the API server keeps events of objects without a namespace.
const EVENTS: &str = "default";

struct Stage {
    scene: Scene,
    registry: Registry,
    operator: Operator,
}

impl Stage {
    /// An operator for which `hosts` are one registry that knows these pairs.
    async fn set(hosts: &[&str], known: &[&str]) -> Self {
        let scene = Scene::new().await;
        let registry = Registry::start(known).await.unwrap();
        let operator = scene.operator(options(&registry, hosts)).await;
        Self { scene, registry, operator }
    }

    /// Starts the operator anew.
    async fn restart(&mut self, hosts: &[&str]) {
        self.operator.kill();
        self.operator = self.scene.operator(options(&self.registry, hosts)).await;
    }

    /// Neither pages nor logs nor objects have a password.
    async fn clear(self) {
        let metrics = self.operator.metrics().await.unwrap();
        canary::assert_no_canary([("the metrics", &*metrics)]);
        self.scene.finish().await;
    }
}

fn options(registry: &Registry, hosts: &[&str]) -> OperatorOptions {
    let arguments = hosts.iter().map(|host| registry.endpoint(host)).collect();
    OperatorOptions { arguments, ..OperatorOptions::default() }
}

fn spec(server: &str, source: &str, verify: &Value, label: &str) -> Value {
    json!({
        "registries": [{"server": server, "source": {"secretRef": {"name": source}}, "verify": verify}],
        "namespaces": {"selector": {"matchLabels": {"pull": label}}},
    })
}

/// A password of a source; part of it is what may be shown nowhere.
fn password(word: &str) -> String {
    format!("{word}{}", canary::CANARY)
}

fn pair(word: &str) -> String {
    format!("robot:{}", password(word))
}

async fn write(scene: &Scene, suffix: &str, word: &str) -> String {
    let data = [("username", "robot"), ("password", &*password(word))];
    scene.source(suffix, "kubernetes.io/basic-auth", &data).await
}

async fn holds(scene: &Scene, namespace: &str, name: &str, server: &str, word: &str) {
    eventually(&format!("{word} in {namespace}/{name}"), SOON, async || {
        let config = scene.docker_config(namespace, name).await.unwrap_or_default();
        match config["auths"][server]["password"].as_str() {
            Some(found) if found == password(word) => Ok(()),
            Some(_) => Err("another password".to_owned()),
            None => Err("none".to_owned()),
        }
    })
    .await;
}

async fn request(scene: &Scene, name: &str, value: &str) {
    let body = json!({"metadata": {"annotations": {"regcred.dev/requestedAt": value}}});
    scene.credentials().patch(name, &PatchParams::default(), &Patch::Merge(&body)).await.unwrap();
}

/// Waits until a request is answered.
async fn handled(scene: &Scene, name: &str, value: &str) {
    eventually(
        "the request to be answered",
        SOON,
        async || match &scene.status(name).await["lastHandledRequest"] {
            handled if handled == value => Ok(()),
            other => Err(other.to_string()),
        },
    )
    .await;
}

async fn events(scene: &Scene, name: &str, reason: &str) -> usize {
    let events: Api<Event> = Api::namespaced(scene.client.clone(), EVENTS);
    let filter = ListParams::default().fields(&format!("involvedObject.name={name},reason={reason}"));
    events.list(&filter).await.unwrap().items.len()
}

/// Where the first example of a page begins and ends.
fn example(page: &str) -> Value {
    let text = std::fs::read_to_string(repository().join(page)).unwrap();
    let yaml = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    serde_saphyr::from_str(yaml.expect("an example")).expect("an example is YAML")
}

#[tokio::test]
async fn the_example_of_the_page_is_taken_and_wrong_spellings_are_told_what_to_write() {
    let scene = Scene::new().await;
    let example = example("docs/verification.md")["spec"].clone();
    scene.try_credential(&scene.name("page"), example.clone()).await.unwrap();
    let (general, own) = ("/verify", "/registries/0/verify");
    for (place, verify, told) in [
        (general, json!({"mode": "Pull"}), "verify.mode: Pull needs verify.repository"),
        (own, json!({"mode": "Pull"}), "registries[].verify.mode: Pull needs a repository"),
        (own, json!({"mode": "login"}), "Unsupported value: \"login\""),
        (own, json!({"mode": "Login", "interval": "5m"}), "verify.interval must be at least 15m"),
        (own, json!({"mode": "Login", "interval": "1d"}), "write verify.interval in h, m, s and ms"),
        (own, json!({"mode": "Pull", "repository": "ghcr.io/acme/app:1"}), "as in acme/app"),
        (own, json!({"mode": "Pull", "repository": "a", "reference": "@1"}), "as a tag or a digest"),
        (own, json!({"mode": "Login", "onRejected": "Delete"}), "Unsupported value: \"Delete\""),
        (own, json!({"mode": "Login", "realm": "x"}), "field not declared in schema"),
    ] {
        let mut spec = example.clone();
        if place == general {
            // Its own repository would do.
            spec["registries"][0]["verify"] = json!({});
        }
        *spec.pointer_mut(place).expect("a place") = verify.clone();
        let refused = scene.try_credential(&scene.name("odd"), spec).await.expect_err("a wrong spelling");
        assert!(refused.to_string().contains(told), "{verify}: {refused}");
    }
    for (server, verify, told) in [
        ("*.dkr.ecr.eu-west-1.amazonaws.com", json!({"mode": "Login"}), "verify needs a host to ask"),
        (
            "ghcr.io/acme",
            json!({"mode": "Pull", "repository": "team/app"}),
            "must begin with the server's path",
        ),
    ] {
        let mut spec = example.clone();
        let source =
            if server.starts_with('*') { json!({"ecr": {}}) } else { json!({"secretRef": {"name": "s"}}) };
        spec["registries"] = json!([{"server": server, "source": source, "verify": verify}]);
        let refused = scene.try_credential(&scene.name("odd"), spec).await.expect_err("a wrong spelling");
        assert!(refused.to_string().contains(told), "{server}: {refused}");
    }
    scene.finish().await;
}

/// `spec.verify` and that of ghcr.io, and what is said where the two can never mean anything.
fn meanings() -> Vec<(Value, Value, Option<&'static str>)> {
    let (none, login) = (Value::Null, json!({"mode": "Login"}));
    let digest = |digits: usize| json!({"mode": "Pull", "repository": "acme/app", "reference": format!("sha256:{}", "a".repeat(digits))});
    let no_mode = Some("verify has no mode");
    let no_pull = Some("mode: Login pulls nothing");
    let no_server = Some("without the server's name");
    vec![
        (json!({"onRejected": "Hold"}), none.clone(), no_mode),
        (json!({"repository": "acme/app"}), none.clone(), no_mode),
        (json!({}), none.clone(), no_mode),
        (json!({"onRejected": "Hold"}), json!({"mode": "None"}), no_mode),
        (json!({"onRejected": "Hold"}), login.clone(), None),
        (json!({"mode": "None", "onRejected": "Hold"}), none.clone(), None),
        (none.clone(), json!({"onRejected": "Hold"}), Some("registries[].verify has no mode")),
        (json!({"interval": "1h"}), json!({"onRejected": "Hold"}), no_mode),
        (login.clone(), json!({"onRejected": "Hold"}), None),
        (json!({"mode": "Login", "repository": "acme/app"}), none.clone(), no_pull),
        (json!({"mode": "Login", "repository": "acme/app"}), json!({"mode": "Pull"}), None),
        (login.clone(), json!({"repository": "acme/app"}), no_pull),
        (login.clone(), json!({"mode": "Pull", "repository": "acme/app"}), None),
        (none.clone(), json!({"mode": "Login", "reference": "v1"}), no_pull),
        (json!({"mode": "Pull", "repository": "acme/app"}), json!({"reference": "v1"}), None),
        (json!({"mode": "Pull", "repository": "ghcr.io/acme/app"}), none.clone(), no_server),
        (none.clone(), json!({"mode": "Pull", "repository": "ghcr.io/acme/app"}), no_server),
        (json!({"mode": "Pull", "repository": "docker.io/library/alpine"}), none.clone(), None),
        (digest(64), none.clone(), None),
        (digest(3), none.clone(), Some("digest in verify.reference in full")),
        (none, digest(65), Some("digest in verify.reference in full")),
    ]
}

#[tokio::test]
async fn what_can_never_mean_anything_is_refused_by_the_api_server_and_by_the_operator() {
    let scene = Scene::new().await;
    let mut wrong = Vec::new();
    for (general, own, told) in meanings() {
        let mut spec = spec("ghcr.io", "s", &own, "nowhere");
        if own.is_null() {
            spec["registries"][0].as_object_mut().expect("a registry").remove("verify");
        }
        if !general.is_null() {
            spec["verify"] = general.clone();
        }
        let operator = serde_json::from_value(spec.clone()).expect("a spec");
        let taken = validate("pull", &operator, &Settings::default()).is_ok();
        let said =
            scene.try_credential(&scene.name("meaning"), spec).await.err().map(|error| error.to_string());
        let as_wanted = match (&said, told) {
            (None, None) => true,
            (Some(said), Some(told)) => said.contains(told),
            _ => false,
        };
        if !as_wanted || taken != told.is_none() {
            wrong.push(format!("{general} {own}: {said:?}, taken by the operator: {taken}, wanted {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    scene.finish().await;
}

#[tokio::test]
async fn a_rejected_credential_is_told_of_and_asked_about_once_for_everybody() {
    let stage = Stage::set(&["a.example"], &[&pair("good")]).await;
    let Stage { scene, registry, .. } = &stage;
    let namespace = scene.settled_namespace("n", &[("pull", "report")]).await;
    let source = write(scene, "robot", "bad").await;
    let login = json!({"mode": "Login"});
    let mut names = Vec::new();
    for number in 0..3 {
        names.push(
            scene.credential(&format!("c{number}"), spec("a.example", &source, &login, "report")).await,
        );
    }
    for name in &names {
        let condition = scene.wait_condition(name, VERIFIED, "False", "Rejected").await;
        assert!(condition.message.contains("a.example rejects"), "{}", condition.message);
        scene.wait_condition(name, "Ready", "False", "Rejected").await;
        holds(scene, &namespace, name, "a.example", "bad").await;
        let registries = scene.status(name).await["registries"].clone();
        assert_eq!(registries[0]["verification"]["reason"], "Rejected", "{registries}");
        assert_eq!(registries[0]["verification"]["fingerprint"], registries[0]["fingerprint"]);
        assert_eq!(events(scene, name, "Rejected").await, 1);
    }
    throughout("no second question", WHILE, async || match registry.shown(&pair("bad")) {
        1 => Ok(()),
        count => Err(format!("asked {count} times")),
    })
    .await;
    write(scene, "robot", "good").await;
    for name in &names {
        scene.wait_condition(name, VERIFIED, "True", "LoginVerified").await;
        scene.wait_condition(name, "Ready", "True", "Succeeded").await;
        holds(scene, &namespace, name, "a.example", "good").await;
    }
    assert_eq!(registry.shown(&pair("good")), 1);
    stage.clear().await;
}

/// A RegistryCredential whose first server is held to its registry, and whose second is not asked about.
async fn one_held_and_one_free(scene: &Scene, label: &str) -> String {
    let source = write(scene, "robot", "old").await;
    let other = write(scene, "other", "old").await;
    let mut spec = spec("a.example", &source, &json!({}), label);
    spec["verify"] = json!({"mode": "Login", "onRejected": "Hold"});
    let second =
        json!({"server": "b.example", "source": {"secretRef": {"name": other}}, "verify": {"mode": "None"}});
    spec["registries"].as_array_mut().unwrap().push(second);
    scene.credential("c", spec).await
}

/// For a while the copy has the old password, and the registry is not asked about the new one.
async fn stays_held(stage: &Stage, (namespace, name): (&str, &str), asked: usize) {
    throughout("the old password, and no question", WHILE, async || {
        let config = stage.scene.docker_config(namespace, name).await.unwrap_or_default();
        let is_old = config["auths"]["a.example"]["password"] == password("old");
        let count = stage.registry.shown(&pair("new"));
        if is_old && count == asked { Ok(()) } else { Err(format!("old: {is_old}, asked {count} times")) }
    })
    .await;
}

#[tokio::test]
async fn copies_hold_what_was_accepted_while_what_is_new_is_rejected() {
    let hosts = ["a.example", "b.example"];
    let mut stage = Stage::set(&hosts, &[&pair("old")]).await;
    let namespace = stage.scene.settled_namespace("n", &[("pull", "hold")]).await;
    let name = one_held_and_one_free(&stage.scene, "hold").await;
    holds(&stage.scene, &namespace, &name, "a.example", "old").await;
    stage.scene.wait_condition(&name, "Ready", "True", "Succeeded").await;

    // The new password is wrong: everybody keeps the old one, a new namespace and another server's rotation go on.
    write(&stage.scene, "robot", "new").await;
    let condition = stage.scene.wait_condition(&name, VERIFIED, "False", "Rejected").await;
    assert!(condition.message.contains("copies that lack it do not get it"), "{}", condition.message);
    stage.scene.wait_condition(&name, "SourceReady", "False", "Rejected").await;
    write(&stage.scene, "other", "other").await;
    holds(&stage.scene, &namespace, &name, "b.example", "other").await;
    let late = stage.scene.settled_namespace("late", &[("pull", "hold")]).await;
    for namespace in [&namespace, &late] {
        holds(&stage.scene, namespace, &name, "a.example", "old").await;
    }

    // A registry that falls silent does not end the rejection, whoever asks.
    stage.registry.break_down(Some(429));
    request(&stage.scene, &name, "silent").await;
    handled(&stage.scene, &name, "silent").await;
    stage.registry.break_down(None);
    stage.scene.wait_condition(&name, VERIFIED, "False", "Rejected").await;
    holds(&stage.scene, &namespace, &name, "a.example", "old").await;

    // A restart neither spreads it nor asks again.
    let asked = stage.registry.shown(&pair("new"));
    stage.restart(&hosts).await;
    stage.scene.wait_condition(&name, VERIFIED, "False", "Rejected").await;
    stays_held(&stage, (&namespace, &name), asked).await;

    // The registry learns the new one, and somebody asks for a try.
    stage.registry.know(&[&pair("new")]);
    request(&stage.scene, &name, "now").await;
    for namespace in [&namespace, &late] {
        holds(&stage.scene, namespace, &name, "a.example", "new").await;
    }
    stage.scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    assert_eq!(stage.scene.status(&name).await["lastHandledRequest"], "now");
    stage.clear().await;
}

#[tokio::test]
async fn a_credential_that_was_never_accepted_reaches_nobody_under_hold() {
    let stage = Stage::set(&["a.example"], &[&pair("good")]).await;
    let Stage { scene, .. } = &stage;
    let namespace = scene.settled_namespace("n", &[("pull", "never")]).await;
    let source = write(scene, "robot", "bad").await;
    let hold = json!({"mode": "Login", "onRejected": "Hold"});
    let name = scene.credential("c", spec("a.example", &source, &hold, "never")).await;
    scene.wait_condition(&name, "SourceReady", "False", "Rejected").await;
    assert!(scene.secret(&namespace, &name).await.is_none());
    write(scene, "robot", "good").await;
    holds(scene, &namespace, &name, "a.example", "good").await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    stage.clear().await;
}

#[tokio::test]
async fn a_registry_that_does_not_answer_holds_nothing_up() {
    let stage = Stage::set(&["a.example"], &[&pair("good")]).await;
    let Stage { scene, registry, .. } = &stage;
    let namespace = scene.settled_namespace("n", &[("pull", "down")]).await;
    let source = write(scene, "robot", "good").await;
    let hold = json!({"mode": "Login", "onRejected": "Hold"});
    for (status, reason) in [(500, "Unreachable"), (429, "RateLimited"), (200, "Unverifiable")] {
        registry.break_down(Some(status));
        let suffix = format!("c{status}");
        let name = scene.credential(&suffix, spec("a.example", &source, &hold, "down")).await;
        scene.wait_condition(&name, VERIFIED, "Unknown", reason).await;
        scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
        holds(scene, &namespace, &name, "a.example", "good").await;
        scene.delete_credential(&name).await;
        eventually("the object to be gone", SOON, async || {
            match scene.credentials().get_opt(&name).await.unwrap() {
                None => Ok(()),
                Some(_) => Err("it is there".to_owned()),
            }
        })
        .await;
    }
    stage.clear().await;
}

#[tokio::test]
async fn a_pull_is_proven_and_whole_configurations_are_asked_about_too() {
    let stage = Stage::set(&["a.example", "b.example"], &[&pair("good")]).await;
    let Stage { scene, registry, .. } = &stage;
    let _namespace = scene.settled_namespace("n", &[("pull", "pull")]).await;
    let source = write(scene, "robot", "good").await;
    for (suffix, repository, status, reason) in [
        ("app", REPOSITORY, "True", "PullVerified"),
        ("hidden", HIDDEN, "False", "PullDenied"),
        ("absent", "acme/absent", "True", "LoginVerified"),
    ] {
        let verify = json!({"mode": "Pull", "repository": repository});
        let name = scene.credential(suffix, spec("a.example", &source, &verify, "pull")).await;
        scene.wait_condition(&name, VERIFIED, status, reason).await;
    }
    let whole = scene.docker_config_source("whole", "b.example", "robot").await;
    let name = scene
        .credential(
            "whole",
            json!({
                "dockerConfigSecretRefs": [{"name": whole}], "verify": {"mode": "Login"},
                "namespaces": {"selector": {"matchLabels": {"pull": "pull"}}},
            }),
        )
        .await;
    scene.wait_condition(&name, VERIFIED, "False", "Rejected").await;
    let config = scene.docker_config(&scene.name("n"), &name).await.unwrap();
    let found = config["auths"]["b.example"]["password"].as_str().unwrap().to_owned();
    registry.know(&[&format!("robot:{found}")]);
    request(scene, &name, "again").await;
    scene.wait_condition(&name, VERIFIED, "True", "LoginVerified").await;
    let off = json!({"spec": {"verify": null}});
    scene.credentials().patch(&name, &PatchParams::default(), &Patch::Merge(&off)).await.unwrap();
    eventually("no verdict once nobody is asked", SOON, async || {
        let status = scene.status(&name).await;
        match scene.condition(&name, VERIFIED).await {
            None if status["registries"][0]["verification"].is_null() => Ok(()),
            other => Err(format!("{other:?} {}", status["registries"])),
        }
    })
    .await;
    stage.clear().await;
}
