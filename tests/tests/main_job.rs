//! The main job, end to end: one test for each promise that a user reads in the README.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use regcred_tests::canary::CANARY;
use regcred_tests::install::OPERATOR_NAMESPACE;
use regcred_tests::operator::OperatorOptions;
use regcred_tests::proxy::Moment;
use regcred_tests::wait::throughout;
use regcred_tests::{Operator, Proxy, SECRET_KEY, SECRET_TYPE, Scene, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
const SERVER: &str = "ghcr.io";

/// A spec for every namespace with this label.
fn spec(source: &str, label: &str) -> Value {
    json!({
        "registries": [{"server": SERVER, "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": label}}},
    })
}

/// What a copy holds for the server.
async fn auth(scene: &Scene, namespace: &str, name: &str) -> Option<String> {
    let config = scene.docker_config(namespace, name).await?;
    config["auths"][SERVER]["auth"].as_str().map(str::to_owned)
}

fn encoded(user: &str, password: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
}

async fn holds(scene: &Scene, namespace: &str, name: &str, user: &str) {
    let wanted = encoded(user, CANARY);
    eventually(&format!("{namespace}/{name} for {user}"), SOON, async || {
        match auth(scene, namespace, name).await {
            Some(auth) if auth == wanted => Ok(()),
            other => Err(format!("holds something: {}", other.is_some())),
        }
    })
    .await;
}

async fn names(scene: &Scene, namespace: &str, account: &str, wanted: &[&str]) {
    eventually(&format!("the list of {namespace}/{account}"), SOON, async || {
        let list = scene.pull_secrets(namespace, account).await;
        if list == wanted { Ok(()) } else { Err(format!("{list:?} is not {wanted:?}")) }
    })
    .await;
}

/// Waits until the operator has written nothing for six seconds: a status waits up to five for the next change, and its
/// event follows it.
async fn rests(scene: &Scene, operator: &str) {
    let audit = scene.control_plane().audit();
    eventually("the operator to rest", SOON, async || {
        let mark = audit.mark();
        tokio::time::sleep(Duration::from_secs(6)).await;
        let writes = audit.since(mark).writes_by(operator).counts();
        if writes.total() == 0 { Ok(()) } else { Err(writes.to_string()) }
    })
    .await;
}

async fn gone(scene: &Scene, namespace: &str, name: &str) {
    eventually(&format!("{namespace}/{name} gone"), SOON, async || {
        scene.secret(namespace, name).await.map_or(Ok(()), |_| Err("still there".to_owned()))
    })
    .await;
}

async fn uid(scene: &Scene, namespace: &str, name: &str) -> Option<String> {
    scene.secret(namespace, name).await?.uid()
}

async fn ready(scene: &Scene, name: &str) {
    scene.wait_condition(name, "Ready", "True", "Succeeded").await;
}

#[tokio::test]
async fn whatever_comes_first_the_end_is_the_same() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    // The object first, then its namespace, then its source, then a ServiceAccount.
    let source = scene.name("src");
    let credential = scene.credential("pull", spec(&source, "order")).await;
    scene.wait_condition(&credential, "Ready", "False", "SourceNotReady").await;
    let waiting = scene.condition(&credential, "Reconciling").await.unwrap();
    assert_eq!((waiting.status.as_str(), waiting.reason.as_str()), ("True", "WaitingForSource"));
    assert!(scene.condition(&credential, "Stalled").await.is_none());
    let namespace = scene.settled_namespace("late", &[("pull", "order")]).await;
    names(&scene, &namespace, "default", &[&credential]).await;
    scene.basic_auth_source("src", "bot").await;
    holds(&scene, &namespace, &credential, "bot").await;
    ready(&scene, &credential).await;
    scene.finish().await;
}

#[tokio::test]
async fn only_the_least_writes_are_made() {
    let scene = Scene::new().await;
    let audit = scene.control_plane().audit();
    let mut namespaces = Vec::new();
    for number in 0..10 {
        namespaces.push(scene.settled_namespace(&format!("n{number}"), &[("pull", "least")]).await);
    }
    let source = scene.basic_auth_source("src", "bot").await;
    let one = scene.credential("one", spec(&source, "least")).await;
    let two = scene.credential("two", spec(&source, "least")).await;
    let mark = audit.mark();
    let operator = scene.operator(OperatorOptions::default()).await;
    for name in [&one, &two] {
        ready(&scene, name).await;
    }
    // The very first start in a cluster also makes the fingerprint key, at home.
    let cold = audit.since(mark).writes_by(operator.user());
    let cold = cold.filter(|entry| entry.namespace != OPERATOR_NAMESPACE).counts();
    assert_eq!(cold.of("patch", "secrets"), 20, "{cold}");
    assert_eq!(cold.of("patch", "serviceaccounts"), 10, "both credentials travel in one patch: {cold}");

    let mark = audit.mark();
    scene.basic_auth_source("src", "rotated").await;
    for namespace in &namespaces {
        holds(&scene, namespace, &one, "rotated").await;
        holds(&scene, namespace, &two, "rotated").await;
    }
    let late = scene.settled_namespace("late", &[("pull", "least")]).await;
    holds(&scene, &late, &one, "rotated").await;
    holds(&scene, &late, &two, "rotated").await;
    names(&scene, &late, "default", &[&one, &two]).await;
    let rotation = audit.since(mark).writes_by(operator.user()).counts();
    assert_eq!(rotation.of("patch", "secrets"), 22, "20 to rotate, 2 for the new namespace: {rotation}");
    assert_eq!(rotation.of("patch", "serviceaccounts"), 1, "{rotation}");

    for name in [&one, &two] {
        scene.wait_condition(name, "SecretsSynced", "True", "AllSynced").await;
        eventually("status counts the new namespace", SOON, async || {
            let status = scene.status(name).await;
            if status["namespaces"]["synced"] == 11 { Ok(()) } else { Err(status["namespaces"].to_string()) }
        })
        .await;
    }
    rests(&scene, operator.user()).await;
    operator.kill();
    let mark = audit.mark();
    let operator = scene.operator(OperatorOptions::default()).await;
    throughout("a restart in sync writes nothing", Duration::from_secs(3), async || {
        let writes = audit.since(mark).writes_by(operator.user()).counts();
        if writes.total() == 0 { Ok(()) } else { Err(writes.to_string()) }
    })
    .await;
    // A namespace that is served proves that the first passes over all others are done.
    let marker = scene.settled_namespace("marker", &[("pull", "least")]).await;
    holds(&scene, &marker, &one, "rotated").await;
    holds(&scene, &marker, &two, "rotated").await;
    let restart = audit.since(mark).writes_by(operator.user());
    let elsewhere = restart.filter(|entry| {
        entry.namespace != marker && entry.resource != "registrycredentials" && entry.resource != "events"
    });
    assert_eq!(elsewhere.counts().total(), 0, "{}", elsewhere.counts());
    scene.finish().await;
}

#[tokio::test]
async fn ten_rotations_in_a_second_make_at_most_two_writes_in_place() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let namespace = scene.settled_namespace("n", &[("pull", "rotate")]).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let credential = scene.credential("pull", spec(&source, "rotate")).await;
    ready(&scene, &credential).await;
    let before = uid(&scene, &namespace, &credential).await;
    // The cold start counts as a version that went out: let its interval pass by a rotation of its own.
    scene.basic_auth_source("src", "first").await;
    holds(&scene, &namespace, &credential, "first").await;
    let mark = scene.control_plane().audit().mark();
    for number in 0..10 {
        scene.basic_auth_source("src", &format!("bot{number}")).await;
    }
    holds(&scene, &namespace, &credential, "bot9").await;
    let writes = scene.control_plane().audit().since(mark).writes_by(operator.user()).of("secrets").counts();
    assert!(writes.total() <= 2, "{writes}");
    assert_eq!(uid(&scene, &namespace, &credential).await, before);
    scene.finish().await;
}

#[tokio::test]
async fn drift_is_mended_also_when_nobody_was_looking() {
    let scene = Scene::new().await;
    let mut operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let mut namespaces = Vec::new();
    for name in ["deleted", "edited", "label", "labels", "annotation", "frozen"] {
        namespaces.push(scene.settled_namespace(name, &[("pull", "drift")]).await);
    }
    let credential = scene.credential("pull", spec(&source, "drift")).await;
    ready(&scene, &credential).await;
    let before = read_all(&scene, &namespaces, &credential).await;
    damage(&scene, &namespaces, &credential).await;
    mended(&scene, &namespaces, &credential, &before).await;
    operator.kill();
    let before = read_all(&scene, &namespaces, &credential).await;
    damage(&scene, &namespaces, &credential).await;
    operator = scene.operator(OperatorOptions::default()).await;
    mended(&scene, &namespaces, &credential, &before).await;
    drop(operator);
    scene.finish().await;
}

async fn read_all(scene: &Scene, namespaces: &[String], name: &str) -> Vec<String> {
    let mut uids = Vec::new();
    for namespace in namespaces {
        uids.push(uid(scene, namespace, name).await.unwrap());
    }
    uids
}

async fn damage(scene: &Scene, namespaces: &[String], name: &str) {
    let [deleted, edited, label, labels, annotation, frozen] = namespaces else { panic!("six namespaces") };
    scene.secrets(deleted).delete(name, &DeleteParams::default()).await.unwrap();
    let patch = async |namespace: &str, body: Value| {
        scene.secrets(namespace).patch(name, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
    };
    patch(edited, json!({"data": {SECRET_KEY: "e30="}})).await;
    patch(label, json!({"metadata": {"labels": {"regcred.dev/credential": null}}})).await;
    let both = json!({"regcred.dev/credential": null, "app.kubernetes.io/managed-by": null});
    patch(labels, json!({"metadata": {"labels": both}})).await;
    patch(annotation, json!({"metadata": {"annotations": {"regcred.dev/credential-uid": null}}})).await;
    patch(frozen, json!({"immutable": true})).await;
}

async fn mended(scene: &Scene, namespaces: &[String], name: &str, before: &[String]) {
    for (namespace, old) in namespaces.iter().zip(before) {
        holds(scene, namespace, name, "bot").await;
        let recreated = namespace.ends_with("deleted") || namespace.ends_with("frozen");
        eventually(&format!("{namespace}/{name} is whole"), SOON, async || {
            let Some(secret) = scene.secret(namespace, name).await else { return Err("absent".to_owned()) };
            let marked = secret.labels().contains_key("regcred.dev/credential")
                && secret.labels().contains_key("app.kubernetes.io/managed-by")
                && secret.annotations().contains_key("regcred.dev/credential-uid");
            let same = secret.uid().as_deref() == Some(old.as_str());
            if marked && same != recreated && secret.immutable.is_none() {
                Ok(())
            } else {
                Err(format!("marked {marked}, same {same}"))
            }
        })
        .await;
    }
}

/// The cage knows a copy by any of its marks: whoever takes some off must not keep the operator from leaving.
#[tokio::test]
async fn a_copy_that_lost_its_labels_while_nobody_looked_goes_with_its_credential() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespace = scene.settled_namespace("n", &[("pull", "unmarked")]).await;
    let credential = scene.credential("pull", spec(&source, "unmarked")).await;
    ready(&scene, &credential).await;
    operator.kill();
    let both = json!({"regcred.dev/credential": null, "app.kubernetes.io/managed-by": null});
    let patch = Patch::Merge(json!({"metadata": {"labels": both}}));
    scene.secrets(&namespace).patch(&credential, &PatchParams::default(), &patch).await.unwrap();
    scene.credentials().delete(&credential, &DeleteParams::default()).await.unwrap();
    let _operator = scene.operator(OperatorOptions::default()).await;
    gone(&scene, &namespace, &credential).await;
    names(&scene, &namespace, "default", &[]).await;
    scene.finish().await;
}

#[tokio::test]
async fn a_label_that_goes_takes_the_entry_before_the_copy() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespace = scene.settled_namespace("n", &[("pull", "label")]).await;
    let credential = scene.credential("pull", spec(&source, "label")).await;
    ready(&scene, &credential).await;
    let mark = scene.control_plane().audit().mark();
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(scene.client.clone());
    let unlabel = Patch::Merge(json!({"metadata": {"labels": {"pull": null}}}));
    namespaces.patch(&namespace, &PatchParams::default(), &unlabel).await.unwrap();
    gone(&scene, &namespace, &credential).await;
    names(&scene, &namespace, "default", &[]).await;
    let writes = scene.control_plane().audit().since(mark).writes_by(operator.user()).within(&namespace);
    let order: Vec<_> = writes.iter().map(|entry| format!("{} {}", entry.verb, entry.resource)).collect();
    assert_eq!(order, ["patch serviceaccounts", "delete secrets"]);
    scene.finish().await;
}

#[tokio::test]
async fn a_foreign_secret_is_left_alone_and_its_end_is_seen() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    for (kind, suffix, reason) in [(SECRET_TYPE, "same", "NameConflict"), ("Opaque", "other", "TypeMismatch")]
    {
        let namespace = scene.settled_namespace(suffix, &[("pull", suffix)]).await;
        let name = scene.name(&format!("pull-{suffix}"));
        let foreign = json!({"metadata": {"name": name}, "type": kind, "stringData": {SECRET_KEY: "{}"}});
        let foreign = serde_json::from_value(foreign).unwrap();
        let made =
            scene.secrets(&namespace).create(&kube::api::PostParams::default(), &foreign).await.unwrap();
        let credential = scene.credential(&format!("pull-{suffix}"), spec(&source, suffix)).await;
        scene.wait_condition(&credential, "SecretsSynced", "False", reason).await;
        let now = scene.secret(&namespace, &name).await.unwrap();
        assert_eq!(now.resource_version(), made.resource_version(), "untouched");
        names(&scene, &namespace, "default", &[]).await;
        scene.secrets(&namespace).delete(&name, &DeleteParams::default()).await.unwrap();
        holds(&scene, &namespace, &credential, "bot").await;
        names(&scene, &namespace, "default", &[&credential]).await;
        ready(&scene, &credential).await;
    }
    scene.finish().await;
}

#[tokio::test]
async fn of_two_with_one_target_name_the_older_wins_and_the_other_takes_over_in_place() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let (first, second) =
        (scene.basic_auth_source("a", "first").await, scene.basic_auth_source("b", "second").await);
    let namespace = scene.settled_namespace("n", &[("pull", "two")]).await;
    let target = scene.name("target");
    let with_target = |source: &str| {
        let mut spec = spec(source, "two");
        spec["target"] = json!({"name": target});
        spec
    };
    let older = scene.credential("older", with_target(&first)).await;
    ready(&scene, &older).await;
    in_a_later_second(&scene, &older).await;
    let newer = scene.credential("newer", with_target(&second)).await;
    scene.wait_condition(&newer, "Stalled", "True", "TargetClaimed").await;
    holds(&scene, &namespace, &target, "first").await;
    let before = uid(&scene, &namespace, &target).await;
    scene.delete_credential(&older).await;
    holds(&scene, &namespace, &target, "second").await;
    assert_eq!(uid(&scene, &namespace, &target).await, before, "in place");
    names(&scene, &namespace, "default", &[&target]).await;
    ready(&scene, &newer).await;
    scene.finish().await;
}

/// Age is known in whole seconds, and of two of the same age the first by name wins: waits until anything made now is
/// younger than this credential.
async fn in_a_later_second(scene: &Scene, credential: &str) {
    let born = scene.credentials().get(credential).await.unwrap().metadata.creation_timestamp.unwrap();
    let mut number = 0;
    eventually("a later second", SOON, async || {
        number += 1;
        let probe = scene.basic_auth_source(&format!("probe{number}"), "bot").await;
        let made = scene.secret(OPERATOR_NAMESPACE, &probe).await.unwrap();
        let later = made.metadata.creation_timestamp.is_some_and(|at| at.0 > born.0);
        if later { Ok(()) } else { Err("the same second".to_owned()) }
    })
    .await;
}

#[tokio::test]
async fn a_broken_source_changes_nothing_and_says_what_is_wrong() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let namespace = scene.settled_namespace("n", &[("pull", "broken")]).await;
    let source = scene.docker_config_source("src", SERVER, "bot").await;
    let credential = scene.credential("pull", spec(&source, "broken")).await;
    ready(&scene, &credential).await;
    let before = scene.secret(&namespace, &credential).await.unwrap().resource_version();
    let bad_auth = format!(r#"{{"auths":{{"{SERVER}":{{"auth":"{CANARY}!"}}}}}}"#);
    for (config, why) in [
        (bad_auth.as_str(), "`auth`"),
        (r#"{"auths":{}}"#, "empty"),
        (r#"{"auths":{"quay.io":{"auth":"dTpw"}}}"#, "no entry for ghcr.io"),
        (r#"{"auths":{"ghcr.io":{"auth":7}}}"#, "wrong JSON type"),
    ] {
        scene.source("src", SECRET_TYPE, &[(SECRET_KEY, config)]).await;
        eventually(why, SOON, async || match scene.condition(&credential, "SourceReady").await {
            Some(now) if now.reason == "SourceInvalid" && now.message.contains(why) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    scene.delete_source(&source).await;
    scene.wait_condition(&credential, "SourceReady", "False", "SourceNotFound").await;
    assert_eq!(scene.secret(&namespace, &credential).await.unwrap().resource_version(), before);
    // What the source last gave still serves a namespace that is made now.
    let late = scene.settled_namespace("late", &[("pull", "broken")]).await;
    holds(&scene, &late, &credential, "bot").await;
    assert!(!operator.metrics().await.unwrap().contains(CANARY));
    scene.finish().await;
}

#[tokio::test]
async fn deletion_detaches_and_deletes_or_retains() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let namespace = scene.settled_namespace("n", &[("pull", "end")]).await;
    let deleted = scene.credential("deleted", spec(&source, "end")).await;
    let mut retain = spec(&source, "end");
    retain["deletionPolicy"] = json!("Retain");
    let retained = scene.credential("retained", retain).await;
    ready(&scene, &deleted).await;
    ready(&scene, &retained).await;
    // Also when the object is deleted while nobody looks.
    operator.kill();
    scene.delete_credential(&deleted).await;
    scene.delete_credential(&retained).await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    gone(&scene, &namespace, &deleted).await;
    names(&scene, &namespace, "default", &[&retained]).await;
    eventually("both objects are gone", SOON, async || {
        let left = scene.credentials().list(&kube::api::ListParams::default()).await.unwrap().items.len();
        if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
    })
    .await;
    let kept = scene.secret(&namespace, &retained).await.unwrap();
    assert!(!kept.labels().contains_key("app.kubernetes.io/managed-by"));
    let marks: Vec<_> =
        kept.annotations().iter().filter(|(key, _)| key.starts_with("regcred.dev/")).collect();
    assert_eq!(marks, [(&"regcred.dev/retained-from".to_owned(), &retained)]);
    assert!(kept.metadata.owner_references.is_none());
    assert_eq!(auth(&scene, &namespace, &retained).await, Some(encoded("bot", CANARY)));
    scene.finish().await;
}

/// What happens while the operator is killed.
#[derive(Clone, Copy, Debug)]
enum Act {
    Cold,
    Rotation,
    Deletion,
}

#[tokio::test]
async fn killed_at_any_write_of_a_cold_start_it_ends_the_same() {
    // Two finalizers, four Secrets, two lists.
    killed_at_every_write(Act::Cold, 8).await;
}

#[tokio::test]
async fn killed_at_any_write_of_a_rotation_it_ends_the_same() {
    killed_at_every_write(Act::Rotation, 4).await;
}

#[tokio::test]
async fn killed_at_any_write_of_a_deletion_it_ends_the_same() {
    // Two lists, four Secrets, two finalizers.
    killed_at_every_write(Act::Deletion, 8).await;
}

async fn killed_at_every_write(act: Act, least: usize) {
    let scene = Scene::new().await;
    let mut number = 1;
    while crash(&scene, act, number, Moment::Before).await && crash(&scene, act, number, Moment::After).await
    {
        number += 1;
    }
    assert!(number > least, "{act:?}: only {} writes", number - 1);
    scene.finish().await;
}

/// Two credentials in two namespaces, killed at the n-th write of an act. Returns false once there is no such write.
async fn crash(scene: &Scene, act: Act, number: usize, moment: Moment) -> bool {
    let label = format!("{act:?}-{number}-{moment:?}").to_lowercase();
    let mut namespaces = Vec::new();
    for suffix in ["a", "b"] {
        namespaces.push(scene.settled_namespace(&format!("{label}-{suffix}"), &[("pull", &label)]).await);
    }
    let source = scene.basic_auth_source(&label, "bot").await;
    let one = scene.credential(&format!("{label}-one"), spec(&source, &label)).await;
    let two = scene.credential(&format!("{label}-two"), spec(&source, &label)).await;
    let pairs = Pairs { namespaces, credentials: [one, two], source: label };
    if !matches!(act, Act::Cold) {
        let operator = scene.operator(OperatorOptions::default()).await;
        all_ready(scene, &pairs.credentials).await;
        operator.kill();
    }
    let mark = scene.control_plane().audit().mark();
    pairs.begin(scene, act).await;
    let proxy = Proxy::start(scene.control_plane()).unwrap();
    proxy.halt_at_write(number, moment);
    let options = OperatorOptions { api_url: Some(proxy.url()), ..OperatorOptions::default() };
    let operator = scene.starting_operator(options).await;
    let halted = tokio::select! {
        () = proxy.halted() => true,
        () = pairs.told(scene, act) => false,
    };
    operator.kill();
    if halted {
        let second = scene.operator(OperatorOptions::default()).await;
        pairs.ended(scene, act).await;
        let writes = scene.control_plane().audit().since(mark).writes_by(second.user()).granted();
        // What the last round left marked elsewhere is taken off too, and does not count.
        let copies = writes.filter(|entry| {
            let is_here = pairs.namespaces.contains(&entry.namespace);
            is_here && ["secrets", "serviceaccounts"].contains(&entry.resource.as_str())
        });
        let copies = copies.counts();
        assert!(copies.total() <= 6 + 1, "killed {moment:?} write {number} of {act:?}: {copies}");
    }
    pairs.clean_up(scene).await;
    halted
}

/// Two credentials in two namespaces.
struct Pairs {
    namespaces: Vec<String>,
    credentials: [String; 2],
    source: String,
}

impl Pairs {
    /// What happens while no operator runs.
    async fn begin(&self, scene: &Scene, act: Act) {
        match act {
            Act::Cold => {}
            Act::Rotation => drop(scene.basic_auth_source(&self.source, "rotated").await),
            Act::Deletion => {
                for credential in &self.credentials {
                    scene.delete_credential(credential).await;
                }
            }
        }
    }

    /// The last write of an act is done: status, or the end of the objects.
    async fn told(&self, scene: &Scene, act: Act) {
        match act {
            Act::Cold => all_ready(scene, &self.credentials).await,
            Act::Rotation => {
                let first = scene.status(&self.credentials[0]).await["registries"].clone();
                self.ended(scene, act).await;
                for credential in &self.credentials {
                    eventually("status tells the rotation", SOON, async || {
                        let now = scene.status(credential).await["registries"].clone();
                        if now == first { Err("not yet".to_owned()) } else { Ok(()) }
                    })
                    .await;
                }
            }
            Act::Deletion => self.ended(scene, act).await,
        }
    }

    /// Everything is in place, or gone.
    async fn ended(&self, scene: &Scene, act: Act) {
        let user = if matches!(act, Act::Rotation) { "rotated" } else { "bot" };
        for namespace in &self.namespaces {
            for credential in &self.credentials {
                if matches!(act, Act::Deletion) {
                    gone(scene, namespace, credential).await;
                } else {
                    holds(scene, namespace, credential, user).await;
                }
            }
            let wanted = if matches!(act, Act::Deletion) { Vec::new() } else { self.credentials.to_vec() };
            eventually(&format!("the entries in {namespace}"), SOON, async || {
                let mut list = scene.pull_secrets(namespace, "default").await;
                list.sort();
                if list == wanted { Ok(()) } else { Err(format!("{list:?}")) }
            })
            .await;
        }
        if matches!(act, Act::Deletion) {
            eventually("the objects are gone", SOON, async || {
                let left =
                    scene.credentials().list(&kube::api::ListParams::default()).await.unwrap().items.len();
                if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
            })
            .await;
        }
    }

    async fn clean_up(&self, scene: &Scene) {
        for credential in &self.credentials {
            if scene.credentials().get_opt(credential).await.unwrap().is_none() {
                continue;
            }
            let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            scene.credentials().patch(credential, &PatchParams::default(), &release).await.unwrap();
            scene.delete_credential(credential).await;
        }
    }
}

async fn all_ready(scene: &Scene, credentials: &[String]) {
    for credential in credentials {
        ready(scene, credential).await;
    }
}

#[tokio::test]
async fn of_two_replicas_one_works_and_the_other_takes_over() {
    let scene = Scene::new().await;
    let lease = || OperatorOptions { lease: true, ..OperatorOptions::default() };
    let first = scene.operator(lease()).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let credential = scene.credential("pull", spec(&source, "replicas")).await;
    scene.wait_condition(&credential, "Ready", "True", "NoNamespaceSelected").await;
    let second = scene.operator(lease()).await;
    let one = scene.settled_namespace("one", &[("pull", "replicas")]).await;
    holds(&scene, &one, &credential, "bot").await;
    assert!(first.terminate(Duration::from_secs(10)).await.unwrap().success());
    let two = scene.settled_namespace("two", &[("pull", "replicas")]).await;
    holds(&scene, &two, &credential, "bot").await;
    assert!(second.logs().contains("this replica leads"));
    let third: Operator = scene.operator(lease()).await;
    second.kill();
    let three = scene.settled_namespace("three", &[("pull", "replicas")]).await;
    holds(&scene, &three, &credential, "bot").await;
    assert!(third.logs().contains("this replica leads"));
    scene.finish().await;
}

#[tokio::test]
async fn every_way_to_get_a_source_wrong_is_told_and_quotes_nothing() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let namespace = scene.settled_namespace("n", &[("pull", "wrong")]).await;
    let two = format!(
        r#"{{"auths":{{"{SERVER}":{{"auth":"dTpw"}},"https://{SERVER}":{{"username":"u","password":"{CANARY}"}}}}}}"#
    );
    let token = format!(r#"{{"auths":{{"{SERVER}":{{"identitytoken":"{CANARY}"}}}}}}"#);
    let big =
        format!(r#"{{"auths":{{"{SERVER}":{{"username":"u","password":"{}"}}}}}}"#, "p".repeat(800_000));
    let keys = json!({"usernameKey": "user", "passwordKey": "token"});
    for (number, (kind, data, extra, why)) in [
        ("Opaque", vec![("user", CANARY)], json!({}), "name its keys"),
        ("Opaque", vec![("user", CANARY)], keys.clone(), "no key token"),
        ("Opaque", vec![("user", "a:b"), ("token", CANARY)], keys.clone(), "colon"),
        ("Opaque", vec![("user", "u"), ("token", "")], keys, "password is empty"),
        ("kubernetes.io/basic-auth", vec![("password", CANARY)], json!({}), "no key username"),
        ("kubernetes.io/dockercfg", vec![(".dockercfg", "{}")], json!({}), "empty"),
        (SECRET_TYPE, vec![(SECRET_KEY, "{}")], json!({}), "no object `auths`"),
        (SECRET_TYPE, vec![(SECRET_KEY, two.as_str())], json!({}), "two keys mean this server"),
        (SECRET_TYPE, vec![(SECRET_KEY, token.as_str())], json!({}), "user, password or both are missing"),
        (SECRET_TYPE, vec![(SECRET_KEY, big.as_str())], json!({}), "larger than a Secret may be"),
    ]
    .into_iter()
    .enumerate()
    {
        let source = scene.source(&format!("wrong{number}"), kind, &data).await;
        let mut spec = spec(&source, "wrong");
        let reference = spec["registries"][0]["source"]["secretRef"].as_object_mut().unwrap();
        reference.extend(extra.as_object().unwrap().clone());
        let name = scene.credential(&format!("wrong{number}"), spec).await;
        eventually(why, SOON, async || match scene.condition(&name, "SourceReady").await {
            Some(now) if now.reason == "SourceInvalid" && now.message.contains(why) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        assert!(scene.secret(&namespace, &name).await.is_none());
    }
    assert!(!operator.metrics().await.unwrap().contains(CANARY));
    scene.finish().await;
}
