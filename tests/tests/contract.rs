//! The contract with users, on a real API server: every rule with the message they see, the columns they read, what
//! kstatus makes of each state, and the rights the operator really needs.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use regcred_dockerconfig::{DOCKER_HUB_ALIASES, DOCKER_HUB_HOSTS, Server};
use regcred_tests::install::OPERATOR_NAMESPACE;
use regcred_tests::operator::OperatorOptions;
use regcred_tests::{SECRET_KEY, SECRET_TYPE, Scene, chart, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

fn good() -> Value {
    json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": "s"}}}],
        "namespaces": {"matchNames": ["nowhere"]},
    })
}

/// A good spec with one value set, or removed where it is null.
fn with(pointer: &str, value: Value) -> Value {
    let mut spec = good();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut at = &mut spec;
    for part in parent.split('/').skip(1) {
        at = match at {
            Value::Array(items) => &mut items[part.parse::<usize>().unwrap()],
            other => &mut other[part],
        };
    }
    if value.is_null() {
        at.as_object_mut().unwrap().remove(key);
    } else {
        at[key] = value;
    }
    spec
}

fn target_rules() -> Vec<(Value, &'static str)> {
    vec![
        (with("/target", json!({"conflictPolicy": "Adopt"})), "Adopt needs deletionPolicy: Retain"),
        (with("/target", json!({"name": "Not_A_Name"})), "a name that a Secret can have"),
        (with("/target", json!({"metadata": {"labels": {"regcred.dev/x": "y"}}})), "regcred's own"),
        (
            with("/target", json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "y"}}})),
            "regcred's own",
        ),
        (with("/target", json!({"metadata": {"annotations": {"regcred.dev/x": "y"}}})), "regcred's own"),
        (with("/target", json!({"metadata": {"labels": {"bad key": "x"}}})), "a label's key must be"),
        (with("/target", json!({"metadata": {"labels": {"team": "a b"}}})), "a label's value must be"),
        (
            with("/target", json!({"metadata": {"annotations": {"bad key": "x"}}})),
            "an annotation's key must be",
        ),
        (
            with("/target", json!({"metadata": {"annotations": {format!("{}/x", "p".repeat(254)): "x"}}})),
            "an annotation's key must be",
        ),
    ]
}

/// Keys by which tools act on Secrets, as their documentation writes them.
const OF_TOOLS: [&str; 24] = [
    "argocd.argoproj.io/secret-type",
    "argocd.argoproj.io/tracking-id",
    "app.kubernetes.io/instance",
    "applyset.kubernetes.io/part-of",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubernetes.io/service-account.name",
    "secrets-store.csi.k8s.io/managed",
    "hnc.x-k8s.io/inherited-from",
    "helm.sh/resource-policy",
    "meta.helm.sh/release-name",
    "kustomize.toolkit.fluxcd.io/ssa",
    "sealedsecrets.bitnami.com/managed",
    "replicator.v1.mittwald.de/replicate-to",
    "reflector.v1.k8s.emberstack.com/reflection-auto-enabled",
    "reconcile.external-secrets.io/managed",
    "cert-manager.io/inject-ca-from-secret",
    "generate.kyverno.io/clone-source",
    "objectset.rio.cattle.io/hash",
    "kapp.k14s.io/app",
    "secretgen.carvel.dev/image-pull-secret",
    "jenkins.io/credentials-type",
    "operator.1password.io/item-path",
    "reloader.stakater.com/match",
    "janitor/ttl",
];

#[tokio::test]
async fn labels_and_annotations_by_which_other_tools_act_are_refused() {
    let scene = Scene::new().await;
    for key in OF_TOOLS {
        for (field, says) in [("labels", "by such a label"), ("annotations", "by such an annotation")] {
            let spec = with("/target", json!({"metadata": {field: {key: "true"}}}));
            let applied = scene.try_credential(&scene.name("tool"), spec).await;
            let text = applied.map_or_else(|error| error.to_string(), |_| "it is stored".to_owned());
            assert!(text.contains(says) && text.contains(field), "{field} {key}: {text}");
        }
    }
    let own = [
        "team",
        "example.com/team",
        "app.kubernetes.io/part-of",
        "myhelm.sh/x",
        "velero.io/exclude-from-backup",
    ];
    let own: BTreeMap<_, _> = own.into_iter().map(|key| (key, "true")).collect();
    scene.credential("own", with("/target", json!({"metadata": {"labels": own, "annotations": own}}))).await;
    scene.finish().await;
}

/// Addresses that the kubelet matches with no image.
const NO_ADDRESSES: [&str; 7] = [
    "[fd00::1]",
    "[fd00::1]/acme",
    "[fd00::1::]:443",
    "[fd00:443",
    "[1:2:3:4:5:6:7:8:9]:443",
    "[1:2:3:4::5:6:7:8]:443",
    "[12345::]:443",
];

#[tokio::test]
async fn every_rule_refuses_with_a_message_that_helps() {
    let scene = Scene::new().await;
    let server = |text: &str| with("/registries/0/server", json!(text));
    let secret = |value: Value| with("/registries/0/source/secretRef", value);
    let namespaces = |value: Value| with("/namespaces", value);
    let accounts = |value: Value| with("/serviceAccounts", value);
    let expression = |value: Value| namespaces(json!({"selector": {"matchExpressions": [value]}}));
    let many: Vec<_> = (0..33)
        .map(|n| json!({"server": format!("r{n}.io"), "source": {"secretRef": {"name": "s"}}}))
        .collect();
    let no_addresses = NO_ADDRESSES.map(|host| (server(host), "with its port, as in [fd00::1]:443"));
    let docker_hub = DOCKER_HUB_ALIASES.iter().map(|host| (server(host), "write docker.io"));
    let rules = [
        (with("/registries", json!(null)), "at least one entry in registries or dockerConfigSecretRefs"),
        (with("/registries", json!([])), "at least one entry in registries or dockerConfigSecretRefs"),
        (with("/registries", json!(many)), "must have at most 32 items"),
        (
            with("/registries", json!([good()["registries"][0], good()["registries"][0]])),
            "duplicate entries for key",
        ),
        (server("https://ghcr.io"), "without a scheme"),
        (server("GHCR.io"), "in lower case"),
        (server("user@ghcr.io"), "without user info"),
        (server("ghcr.io/"), "without a trailing slash"),
        (server("*.ghcr.io"), "a wildcard would send"),
        (server("fd00::1"), "in lower case"),
        (with("/registries/0/source", json!({})), "exactly one member"),
        (secret(json!({"name": "s", "usernameKey": "u"})), "usernameKey and passwordKey together"),
        (secret(json!({"name": ""})), "at least 1 chars"),
        (namespaces(json!({"from": "All", "matchNames": ["a"]})), "need from: Selected"),
        (namespaces(json!({"from": "Some"})), "Unsupported value"),
        (namespaces(json!({})), "needs matchNames or selector"),
        (namespaces(json!({"matchNames": ["UPPER"]})), "are made of lower-case letters"),
        (accounts(json!({"from": "None", "matchNames": ["a"]})), "need from: Selected"),
        (accounts(json!({"from": "Selected"})), "needs matchNames or selector"),
        (expression(json!({"key": "a", "operator": "In"})), "In and NotIn need values"),
        (expression(json!({"key": "a", "operator": "Exists", "values": ["x"]})), "take none"),
        (expression(json!({"key": "a", "operator": "Is"})), "Unsupported value"),
        (with("/refreshInterval", json!("30s")), "at least 1m"),
        (with("/refreshInterval", json!("soon")), "write refreshInterval in h, m, s and ms"),
        (with("/refreshInterval", json!("1d")), "no unit for a day"),
        (server("ghcr.io/v2"), "leave the version of the registry's API out"),
        (server("ghcr.io:65536"), "at most 65535"),
        (with("/deletionPolicy", json!("Keep")), "Unsupported value"),
        (with("/namespaces", json!(null)), "Required value"),
    ];
    for (spec, message) in rules.into_iter().chain(target_rules()).chain(docker_hub).chain(no_addresses) {
        let refused = scene.try_credential(&scene.name("bad"), spec.clone()).await;
        let text = refused.map_or_else(|error| error.to_string(), |_| "it was accepted".to_owned());
        assert!(text.contains(message), "{spec} should be refused with {message:?}, but: {text}");
    }
    let long = "n".repeat(64);
    let text = scene.try_credential(&long, good()).await.unwrap_err().to_string();
    assert!(text.contains("at most 63 characters"), "{text}");
    scene.finish().await;
}

/// Whatever server the API server stores, the operator takes.
#[tokio::test]
async fn servers_are_taken_as_people_write_them() {
    let scene = Scene::new().await;
    let names = [
        "localhost:5000/team/app",
        "reg.example/v1/team",
        "ghcr.io:65535",
        "[fd00::1]:443",
        "[::1]:5000/a/b",
        "[::]:443",
        "[1:2:3:4:5:6:7:8]:443",
        "[1:2:3::6:7:8]:443",
        "[1::]:443",
    ];
    for (number, name) in names.into_iter().chain(DOCKER_HUB_HOSTS).enumerate() {
        scene.credential(&format!("server-{number}"), with("/registries/0/server", json!(name))).await;
        assert_eq!(Server::parse(name).unwrap().to_string(), name);
    }
    scene.finish().await;
}

#[tokio::test]
async fn good_specs_are_taken_as_they_are() {
    let scene = Scene::new().await;
    for (number, spec) in [
        good(),
        with("/registries", json!(null)).as_object().map(|spec| {
            let mut spec = spec.clone();
            spec.insert("dockerConfigSecretRefs".to_owned(), json!([{"name": "legacy"}]));
            Value::Object(spec)
        }).unwrap(),
        with("/namespaces", json!({"from": "All"})),
        with("/namespaces", json!({"from": "All", "selector": null, "exclude": ["*-x"]})),
        with("/serviceAccounts", json!({"from": "None"})),
        with("/refreshInterval", json!("1h30m")),
        // The example of the API's own document.
        json!({
            "suspend": false,
            "registries": [
                {"server": "ghcr.io", "source": {"secretRef": {"name": "ghcr-bot"}}},
                {"server": "docker.io", "source": {"secretRef": {"name": "hub", "usernameKey": "user", "passwordKey": "token"}}},
            ],
            "dockerConfigSecretRefs": [{"name": "legacy-config"}],
            "namespaces": {
                "from": "Selected", "matchNames": ["team-*", "payments"],
                "selector": {"matchLabels": {"pull": "private"}}, "exclude": ["*-sandbox"],
            },
            "serviceAccounts": {"from": "Selected", "matchNames": ["default"], "selector": {}, "exclude": []},
            "target": {"name": "platform-pull", "conflictPolicy": "Fail", "metadata": {"labels": {"team": "platform"}, "annotations": {}}},
            "deletionPolicy": "Delete",
            "refreshInterval": "1h",
        }),
    ]
    .into_iter()
    .enumerate()
    {
        scene.credential(&format!("good-{number}"), spec).await;
    }
    scene.finish().await;
}

async fn kubectl(scene: &Scene, arguments: &[&str], stdin: &str) -> String {
    let control_plane = scene.control_plane();
    let output = control_plane.kubectl(control_plane.admin_identity(), arguments, stdin).await.unwrap();
    output.success().unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn an_unchanged_manifest_shows_no_difference_after_the_operator_worked_on_it() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let name = scene.name("pull");
    let source = scene.basic_auth_source("s", "bot").await;
    let mut spec = good();
    spec["registries"][0]["source"]["secretRef"]["name"] = json!(source);
    let manifest = json!({"apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "metadata": {"name": name}, "spec": spec});
    kubectl(&scene, &["apply", "-f", "-"], &manifest.to_string()).await;
    scene.wait_condition(&name, "Ready", "True", "NoNamespaceSelected").await;
    let before = scene.credentials().get(&name).await.unwrap();
    // What `kubectl diff` compares; it needs a `diff` program, which a machine may lack.
    let merged =
        kubectl(&scene, &["apply", "--dry-run=server", "-o", "json", "-f", "-"], &manifest.to_string()).await;
    let merged: Value = serde_json::from_str(&merged).unwrap();
    assert_eq!(merged["spec"], before.data["spec"]);
    assert_eq!(merged["metadata"]["generation"], json!(before.metadata.generation));
    let said = kubectl(&scene, &["apply", "-f", "-"], &manifest.to_string()).await;
    assert!(said.contains("unchanged"), "{said}");
    assert_eq!(scene.credentials().get(&name).await.unwrap().resource_version(), before.resource_version());
    scene.finish().await;
}

/// What kstatus makes of an object (sigs.k8s.io/cli-utils, pkg/kstatus/status/generic.go).
fn kstatus(object: &Value) -> &'static str {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is = |kind: &str, status: &str| conditions.iter().any(|c| c["type"] == kind && c["status"] == status);
    if object["status"]["observedGeneration"] != object["metadata"]["generation"] || is("Reconciling", "True")
    {
        "InProgress"
    } else if is("Stalled", "True") {
        "Failed"
    } else if is("Ready", "False") || is("Ready", "Unknown") {
        "InProgress"
    } else {
        "Current"
    }
}

async fn read_by_kstatus(scene: &Scene, name: &str, wanted: &str) {
    eventually(&format!("{name} is {wanted} for kstatus"), SOON, async || {
        let object = serde_json::to_value(scene.credentials().get(name).await.unwrap()).unwrap();
        let now = kstatus(&object);
        if now == wanted { Ok(()) } else { Err(format!("{now}: {}", object["status"])) }
    })
    .await;
}

#[tokio::test]
async fn columns_and_conditions_tell_the_truth_in_every_state() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let namespace = scene.settled_namespace("n", &[]).await;
    let source = scene.name("src");
    let name = scene.name("pull");
    let mut spec = good();
    spec["registries"][0]["source"]["secretRef"]["name"] = json!(source);
    spec["namespaces"]["matchNames"] = json!([namespace]);
    scene.credential("pull", spec.clone()).await;
    let waiting = scene.wait_condition(&name, "Ready", "False", "SourceNotReady").await;
    let expected =
        format!("Secret {source} does not exist; create it (source namespace: {OPERATOR_NAMESPACE})");
    assert_eq!(waiting.message, expected);
    read_by_kstatus(&scene, &name, "InProgress").await;
    scene.basic_auth_source("src", "bot").await;
    kubectl(&scene, &["wait", "--for=condition=Ready", "--timeout=30s", &format!("regcred/{name}")], "")
        .await;
    read_by_kstatus(&scene, &name, "Current").await;
    let table = kubectl(&scene, &["get", "regcred", &name], "").await;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        lines.next().unwrap(),
        ["NAME", "READY", "REASON", "NAMESPACES", "SERVICEACCOUNTS", "EXPIRES", "AGE"]
    );
    assert_eq!(lines.next().unwrap()[..5], [&name, "True", "Succeeded", "1/1", "1/1"]);
    let wide = kubectl(&scene, &["get", "regcred", &name, "-o", "wide"], "").await;
    assert!(wide.contains("SUSPENDED") && wide.contains("1 of 1 namespace in sync"), "{wide}");

    let status = scene.status(&name).await;
    assert_eq!(status["registries"][0]["server"], "ghcr.io");
    assert_eq!(status["registries"][0]["fingerprint"].as_str().unwrap().len(), 8);
    let asked = Patch::Merge(json!({"metadata": {"annotations": {"regcred.dev/requestedAt": "now"}}}));
    scene.credentials().patch(&name, &PatchParams::default(), &asked).await.unwrap();
    eventually("the request is echoed", SOON, async || {
        let status = scene.status(&name).await;
        if status["lastHandledRequest"] == "now" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;

    spec["suspend"] = json!(true);
    scene.credential("pull", spec).await;
    scene.wait_condition(&name, "Reconciling", "False", "Suspended").await;
    assert_eq!(scene.condition(&name, "Ready").await.unwrap().status, "True", "the last word stands");
    scene.basic_auth_source("src", "suspended").await;
    let events = kubectl(
        &scene,
        &["get", "events", "-n", "default", "--field-selector", &format!("involvedObject.name={name}")],
        "",
    )
    .await;
    assert!(events.contains("SourceNotFound") && events.contains("Synced"), "{events}");
    scene.finish().await;
}

#[tokio::test]
async fn failures_are_bounded_and_status_does_not_grow_with_the_cluster() {
    let scene = Scene::new().await;
    let source = scene.basic_auth_source("src", "bot").await;
    let name = scene.name("pull");
    for number in 0..24 {
        let namespace = scene.namespace(&format!("n{number:02}"), &[("pull", "many")]).await;
        let foreign =
            json!({"metadata": {"name": name}, "type": SECRET_TYPE, "stringData": {SECRET_KEY: "{}"}});
        let foreign = serde_json::from_value(foreign).unwrap();
        scene.secrets(&namespace).create(&kube::api::PostParams::default(), &foreign).await.unwrap();
    }
    let mut spec = good();
    spec["registries"][0]["source"]["secretRef"]["name"] = json!(source);
    spec["namespaces"] = json!({"selector": {"matchLabels": {"pull": "many"}}});
    scene.credential("pull", spec).await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let condition = scene.wait_condition(&name, "Ready", "False", "PartiallySynced").await;
    assert!(condition.message.starts_with("0 of 24 namespaces in sync; "), "{}", condition.message);
    assert!(condition.message.contains("and 21 more: NameConflict"), "{}", condition.message);
    let status = scene.status(&name).await;
    assert_eq!(status["failures"].as_array().unwrap().len(), 20);
    assert_eq!(status["failuresOmitted"], 4);
    assert_eq!(status["namespaces"], json!({"matched": 24, "synced": 0, "failed": 24}));
    scene.finish().await;
}

#[tokio::test]
async fn with_listed_target_names_rbac_by_name_is_enough() {
    let scene = Scene::new().await;
    chart::apply(scene.control_plane(), &["attachAtBirth.enabled=false", "targetNames={platform-pull}"])
        .await
        .unwrap();
    let options =
        OperatorOptions { target_names: vec!["platform-pull".to_owned()], ..OperatorOptions::default() };
    let operator = scene.operator(options).await;
    let namespace = scene.settled_namespace("n", &[("pull", "listed")]).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let mut spec = good();
    spec["registries"][0]["source"]["secretRef"]["name"] = json!(source);
    spec["namespaces"] = json!({"selector": {"matchLabels": {"pull": "listed"}}});
    let other = scene.credential("other", spec.clone()).await;
    scene.wait_condition(&other, "Stalled", "True", "TargetNameNotAllowed").await;
    spec["target"] = json!({"name": "platform-pull"});
    let name = scene.credential("pull", spec).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    assert!(scene.secret(&namespace, "platform-pull").await.is_some());
    // Its token shows no other Secret, and no list without a name.
    let control_plane = scene.control_plane();
    let own = control_plane.service_account(OPERATOR_NAMESPACE, "regcred").await.unwrap();
    for arguments in [
        &["get", "secrets", "--all-namespaces"][..],
        &["get", "secret", "another", "-n", &namespace],
        &["get", "secret", "platform-pull", "-n", &namespace],
        &["create", "secret", "generic", "another", "-n", &namespace],
        &["create", "token", "default", "-n", &namespace],
    ] {
        let output = control_plane.kubectl(&own, arguments, "").await.unwrap();
        let text = output.success().map_or_else(|error| error.to_string(), |text| format!("allowed: {text}"));
        assert!(text.contains("Forbidden") || text.contains("forbidden"), "{arguments:?}: {text}");
    }
    drop(operator);
    scene.reinstall().await;
    scene.finish().await;
}

#[tokio::test]
async fn every_permission_is_needed() {
    let scene = Scene::new().await;
    let audit = scene.control_plane().audit();
    let mark = audit.mark();
    let lease = OperatorOptions { lease: true, ..OperatorOptions::default() };
    let operator = scene.operator(lease).await;
    let namespace = scene.settled_namespace("n", &[("pull", "rights")]).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let mut spec = good();
    spec["registries"][0]["source"]["secretRef"]["name"] = json!(source);
    spec["namespaces"] = json!({"selector": {"matchLabels": {"pull": "rights"}}});
    let name = scene.credential("pull", spec).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    scene.delete_credential(&name).await;
    eventually("the copy is gone", SOON, async || {
        scene.secret(&namespace, &name).await.map_or(Ok(()), |_| Err("there".to_owned()))
    })
    .await;
    operator.terminate(Duration::from_secs(10)).await.unwrap();
    let used = audit.since(mark).by(operator.user());
    for (verb, resource) in [
        ("watch", "registrycredentials"),
        ("patch", "registrycredentials"),
        ("patch", "registrycredentials/status"),
        ("watch", "namespaces"),
        ("watch", "serviceaccounts"),
        ("patch", "serviceaccounts"),
        ("watch", "secrets"),
        ("patch", "secrets"),
        ("delete", "secrets"),
        ("get", "secrets"),
        ("create", "events"),
        ("get", "leases"),
        ("update", "leases"),
    ] {
        assert!(
            used.counts().of(verb, resource) > 0,
            "{verb} {resource} is granted and never used: {}",
            used.counts()
        );
    }
    let refused: Vec<_> = used.iter().filter(|entry| entry.code == 403 && !entry.is_dry_run()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let name = format!("regcred/{} (linux/", env!("CARGO_PKG_VERSION"));
    let unnamed = used.iter().find(|entry| !entry.user_agent.starts_with(&name));
    assert_eq!(unnamed, None, "an audit log tells the operator from a thief of its token");
    scene.finish().await;
}

#[tokio::test]
async fn a_permission_that_is_taken_away_is_told_and_its_return_heals() {
    let scene = Scene::new().await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    let take = json!([{"op": "replace", "path": "/rules/4/verbs", "value": ["get"]}]);
    kubectl(&scene, &["patch", "clusterrole", "regcred", "--type=json", "-p", &take.to_string()], "").await;
    scene.settled_namespace("n", &[("pull", "revoked")]).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let mut spec = good();
    spec["registries"][0]["source"]["secretRef"]["name"] = json!(source);
    spec["namespaces"] = json!({"selector": {"matchLabels": {"pull": "revoked"}}});
    let name = scene.credential("pull", spec).await;
    scene.wait_condition(&name, "ServiceAccountsAttached", "False", "Forbidden").await;
    scene.wait_condition(&name, "SecretsSynced", "True", "AllSynced").await;
    scene.reinstall().await;
    eventually("it heals", Duration::from_secs(90), async || match scene.condition(&name, "Ready").await {
        Some(ready) if ready.status == "True" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    scene.finish().await;
}
