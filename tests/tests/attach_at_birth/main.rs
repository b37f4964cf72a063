//! The admission policy that puts pull secrets on ServiceAccounts as they are made, on the real API server: it
//! selects as the planner does, first Pods carry the entries while no operator runs, it blocks nobody whatever is
//! wrong with it, and it holds the entries against writers that own the list.

mod cases;
mod cost;
mod order;
mod planner;

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicy,
    core::v1::{Namespace, Pod, ServiceAccount},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use regcred_tests::{
    Operator, OperatorOptions, Options, Scene, chart::helm, eventually, install, wait::throughout,
};
use serde_json::{Value, json};

use crate::cases::{Cases, Seen};

const SOON: Duration = Duration::from_secs(30);

/// A scene with the policy in force and no RegistryCredential.
async fn scene() -> Scene {
    // The controller that checks the types in policies.
    let checks = "--controllers=validatingadmissionpolicy-status-controller".to_owned();
    let options = Options { controller_manager_flags: vec![checks], ..Options::default() };
    let scene = Scene::with(options).await;
    install::apply(scene.control_plane(), "deploy/attach-at-birth.yaml").await.unwrap();
    until_in_force(&scene).await;
    scene
}

/// The API server takes a moment to ingest a policy, a CRD or its objects.
async fn until_in_force(scene: &Scene) {
    apply_namespace(scene, "probe", json!({})).await;
    apply_credential(scene, "probe", selecting(&["probe"])).await;
    let accounts = scene.service_accounts("probe");
    let attached = async |wanted: &[&str]| {
        let made = make_account(&accounts, "probe", json!({})).await.unwrap();
        accounts.delete("probe", &DeleteParams::default()).await.unwrap();
        if names(&made) == wanted { Ok(()) } else { Err(format!("{:?}", names(&made))) }
    };
    eventually("the policy to be in force", SOON, async || attached(&["probe"]).await).await;
    scene.delete_credential("probe").await;
    eventually("and its end to be seen", SOON, async || attached(&[]).await).await;
}

async fn apply_credential(scene: &Scene, name: &str, spec: Value) {
    let applied = scene.try_credential(name, spec).await;
    applied.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Makes a namespace, or gives the one that is there these labels and annotations and no others. Its name is not that
/// of the scene, because specs select by name.
async fn apply_namespace(scene: &Scene, name: &str, metadata: Value) {
    let api: Api<Namespace> = Api::all(scene.client.clone());
    let mut object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
    object["metadata"]["name"] = json!(name);
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
}

async fn make_account(
    accounts: &Api<ServiceAccount>,
    name: &str,
    metadata: Value,
) -> kube::Result<ServiceAccount> {
    let mut account: ServiceAccount = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
    account.metadata.name = Some(name.to_owned());
    accounts.create(&PostParams::default(), &account).await
}

/// Makes a ServiceAccount and takes it away again; returns what the policy put on it. The one that each
/// namespace has anyway is rewritten.
async fn born(accounts: &Api<ServiceAccount>, account: &Seen) -> BTreeSet<String> {
    let metadata = metadata(account);
    if account.name != "default" {
        let made = make_account(accounts, &account.name, metadata).await.unwrap();
        accounts.delete(&account.name, &DeleteParams::default()).await.unwrap();
        return marked_names(&made);
    }
    let mut there = eventually("ServiceAccount default", SOON, async || {
        accounts.get("default").await.map_err(|error| error.to_string())
    })
    .await;
    there.metadata.labels = serde_json::from_value(metadata["labels"].clone()).unwrap();
    there.metadata.annotations = serde_json::from_value(metadata["annotations"].clone()).unwrap();
    there.image_pull_secrets = None;
    there.metadata.resource_version = None;
    marked_names(&accounts.replace("default", &PostParams::default(), &there).await.unwrap())
}

fn names(account: &ServiceAccount) -> Vec<String> {
    account.image_pull_secrets.iter().flatten().map(|entry| entry.name.clone()).collect()
}

/// The entries of a ServiceAccount that had none of its own: the annotation calls each of them regcred's.
fn marked_names(account: &ServiceAccount) -> BTreeSet<String> {
    let names: BTreeSet<String> = names(account).into_iter().collect();
    let mark = account.annotations().get("regcred.dev/attached").map_or("", String::as_str);
    let marked: BTreeSet<String> =
        mark.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    assert_eq!(names, marked, "{account:?}");
    names
}

fn metadata(seen: &Seen) -> Value {
    let excluded = seen.excluded.0.as_ref().map(|value| json!({ "regcred.dev/exclude": value }));
    json!({ "labels": seen.labels, "annotations": excluded.unwrap_or_else(|| json!({})) })
}

fn selecting(namespaces: &[&str]) -> Value {
    json!({
        "dockerConfigSecretRefs": [{ "name": "none" }],
        "namespaces": { "matchNames": namespaces },
        "serviceAccounts": { "from": "All" },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_and_the_planner_agree_on_every_case() {
    let scene = scene().await;
    let Cases { specs, namespaces, accounts } = Cases::all();
    assert!(specs.len() * namespaces.len() * accounts.len() > 1000);
    let mut credentials = Vec::new();
    for (number, spec) in specs.iter().enumerate() {
        let name = format!("case-{number:03}");
        apply_credential(&scene, &name, spec.clone()).await;
        credentials.push(planner::credential(&name, spec));
    }
    let mut attached = 0;
    for (number, namespace) in namespaces.iter().enumerate() {
        apply_namespace(&scene, &namespace.name, metadata(namespace)).await;
        let in_namespace = scene.service_accounts(&namespace.name);
        // Each account meets some namespaces, so that a run takes seconds; all of them meet all specs.
        for account in accounts.iter().skip(number % 3).step_by(3) {
            let planned = planner::attached(&credentials, namespace, account);
            eventually(&format!("{namespace:?} {account:?}"), SOON, async || {
                let born = born(&in_namespace, account).await;
                let differ: Vec<_> = born.symmetric_difference(&planned).collect();
                if differ.is_empty() { Ok(()) } else { Err(format!("{differ:?}, planned {planned:?}")) }
            })
            .await;
            attached += planned.len();
        }
    }
    assert!(attached > 1000, "{attached}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_first_pods_carry_three_entries_while_no_operator_runs() {
    let scene = scene().await;
    let targets = BTreeSet::from(["first-a", "first-b", "first-c"].map(str::to_owned));
    for name in &targets {
        apply_credential(&scene, name, selecting(&["race-*"])).await;
    }
    eventually("all three to be known", SOON, async || {
        apply_namespace(&scene, "race-probe", json!({})).await;
        let probe = Seen { name: "probe".to_owned(), ..Seen::default() };
        let born = born(&scene.service_accounts("race-probe"), &probe).await;
        if born == targets { Ok(()) } else { Err(format!("{born:?}")) }
    })
    .await;
    let pods =
        stream::iter(0..1000).map(|number| first_pod(scene.client.clone(), format!("race-{number:04}")));
    let carried: Vec<BTreeSet<String>> = pods.buffer_unordered(32).collect().await;
    let without = carried.iter().filter(|entries| **entries != targets).count();
    assert_eq!(without, 0, "of {} first Pods", carried.len());
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    stream::iter(0..1000)
        .for_each_concurrent(32, |number| {
            let namespaces = namespaces.clone();
            async move {
                namespaces.delete(&format!("race-{number:04}"), &DeleteParams::default()).await.unwrap();
            }
        })
        .await;
    scene.finish().await;
}

/// Makes a namespace and at once a Pod in it, as often as a controller would, and returns the Pod's entries.
async fn first_pod(client: Client, namespace: String) -> BTreeSet<String> {
    let object: Namespace = serde_json::from_value(json!({ "metadata": { "name": namespace } })).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "first" },
        "spec": { "containers": [{ "name": "main", "image": "registry.example.com/app" }] },
    }))
    .unwrap();
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let pod = eventually("the Pod to be taken", SOON, async || {
        pods.create(&PostParams::default(), &pod).await.map_err(|error| error.to_string())
    })
    .await;
    pod.spec.unwrap().image_pull_secrets.unwrap_or_default().into_iter().map(|entry| entry.name).collect()
}

/// A spec with everything as large as the CRD lets it be.
fn largest(number: usize) -> Value {
    let globs = |count: usize, length: usize| {
        let glob = |at: usize| format!("*{}*{at:03}", "a?".repeat((length - 5) / 2));
        (0..count).map(glob).collect::<Vec<_>>()
    };
    let values: Vec<String> = (0..64).map(|at| format!("{}{at:02}", "v".repeat(61))).collect();
    let expressions: Vec<Value> = (0..32)
        .map(|at| json!({ "key": format!("example.com/{}{at:02}", "k".repeat(60)), "operator": "NotIn", "values": values }))
        .collect();
    let labels: serde_json::Map<String, Value> =
        (0..32).map(|at| (format!("example.com/l{at}"), json!("v".repeat(63)))).collect();
    let selector = json!({ "matchLabels": labels, "matchExpressions": expressions });
    let selection = |count, length| json!({ "matchNames": globs(count, length), "selector": selector, "exclude": globs(count, length) });
    json!({
        "dockerConfigSecretRefs": [{ "name": "none" }],
        "namespaces": selection(256, 63),
        "serviceAccounts": selection(64, 253),
        "target": { "name": format!("{}-{number}", "t".repeat(200)) },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_policy_or_parameters_serviceaccounts_can_be_made() {
    let scene = scene().await;
    apply_namespace(&scene, "unblocked", json!({})).await;
    let accounts = scene.service_accounts("unblocked");
    let mut number = 0;
    let mut can_be_made = async |what: &str| {
        number += 1;
        let made = make_account(&accounts, &format!("made-{number}"), json!({})).await;
        names(&made.unwrap_or_else(|error| panic!("{what}: {error}")))
    };
    can_be_made("no RegistryCredential").await;
    for at in 0..32 {
        apply_credential(&scene, &format!("large-{at}"), largest(at)).await;
    }
    let small = json!({ "dockerConfigSecretRefs": [{ "name": "n" }], "namespaces": { "from": "All" } });
    apply_credential(&scene, "small", small).await;
    apply_credential(&scene, "plain", selecting(&["unblocked"])).await;
    eventually("a plain one among 32 large ones to be attached", SOON, async || {
        let entries = can_be_made("32 RegistryCredentials at every bound").await;
        if entries == ["plain"] { Ok(()) } else { Err(format!("{entries:?}")) }
    })
    .await;
    let admin = scene.control_plane().admin_identity();
    let arguments = ["delete", "crd", install::CRD_NAME];
    scene.control_plane().kubectl(admin, &arguments, "").await.unwrap().success().unwrap();
    throughout("ServiceAccounts can be made without the CRD", Duration::from_secs(3), async || {
        can_be_made("no CRD").await;
        Ok(())
    })
    .await;
    // Whatever comes next in this file needs the CRD again.
    scene.reinstall().await;
    scene.finish().await;
}

/// Somebody else who writes the whole list of `default`, without our entry.
#[derive(Clone, Copy, Debug)]
enum Writer {
    MergePatch,
    ServerSideApply,
    Put,
}

impl Writer {
    async fn write(self, accounts: &Api<ServiceAccount>) -> ServiceAccount {
        let mut theirs = json!({ "imagePullSecrets": [{ "name": "theirs" }] });
        let written = match self {
            Self::MergePatch => {
                accounts.patch("default", &PatchParams::default(), &Patch::Merge(&theirs)).await
            }
            Self::ServerSideApply => {
                theirs["apiVersion"] = json!("v1");
                theirs["kind"] = json!("ServiceAccount");
                let params = PatchParams::apply("their-tool").force();
                accounts.patch("default", &params, &Patch::Apply(&theirs)).await
            }
            Self::Put => {
                let mut now = accounts.get("default").await.unwrap();
                now.image_pull_secrets = serde_json::from_value(theirs["imagePullSecrets"].take()).unwrap();
                accounts.replace("default", &PostParams::default(), &now).await
            }
        };
        written.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_own_the_list_keep_our_entry_and_no_fight_costs_a_write() {
    let scene = scene().await;
    apply_namespace(&scene, "held", json!({})).await;
    apply_credential(&scene, "held", selecting(&["held"])).await;
    let operator = scene.operator(OperatorOptions::default()).await;
    eventually("the entry", SOON, async || {
        let list = scene.pull_secrets("held", "default").await;
        if list == ["held"] { Ok(()) } else { Err(format!("{list:?}")) }
    })
    .await;
    // The audit log has the operator's own write by then.
    scene.wait_condition("held", "ServiceAccountsAttached", "True", "AllAttached").await;
    let writers = [Writer::MergePatch, Writer::ServerSideApply, Writer::Put];
    let accounts = scene.service_accounts("held");
    let mark = scene.control_plane().audit().mark();
    for writer in writers {
        // The first may change what is stored, if only who is said to own the list; from then on nothing may.
        writer.write(&accounts).await;
        let settled = writer.write(&accounts).await;
        assert_eq!(names(&settled), ["theirs", "held"], "{writer:?}");
        for _ in 0..10 {
            let written = writer.write(&accounts).await;
            assert_eq!(names(&written), ["theirs", "held"], "{writer:?}");
            assert_eq!(written.resource_version(), settled.resource_version(), "{writer:?}");
        }
    }
    let ours =
        scene.control_plane().audit().since(mark).writes_by(operator.user()).of("serviceaccounts").counts();
    assert_eq!(ours.total(), 0, "the operator has nothing to repair");
    helm_upgrades(&scene, &operator).await;
    for (what, spec) in [
        ("suspended", json!({ "suspend": true })),
        ("excluded", json!({ "suspend": false, "namespaces": { "exclude": ["held"] } })),
    ] {
        let patch = Patch::Merge(json!({ "spec": spec }));
        scene.credentials().patch("held", &PatchParams::default(), &patch).await.unwrap();
        eventually(&format!("a list without our entry to stay so while {what}"), SOON, async || {
            let list = names(&Writer::MergePatch.write(&accounts).await);
            if list == ["theirs"] { Ok(()) } else { Err(format!("{list:?}")) }
        })
        .await;
    }
    scene.finish().await;
}

/// A chart of somebody else with a ServiceAccount and a list of its own, upgraded again and again.
async fn helm_upgrades(scene: &Scene, operator: &Operator) {
    let chart = tempfile::tempdir().unwrap();
    std::fs::create_dir(chart.path().join("templates")).unwrap();
    let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: charted}, imagePullSecrets: [{name: theirs}]}";
    for (file, content) in [
        ("Chart.yaml", "{apiVersion: v2, name: theirs, version: 1.0.0}"),
        ("templates/account.yaml", account),
    ] {
        std::fs::write(chart.path().join(file), content).unwrap();
    }
    let path = chart.path().display().to_string();
    let upgrade = async || {
        let arguments = ["upgrade", "--install", "theirs", &path, "--namespace", "held"];
        helm(Some(scene.control_plane()), &arguments).await.unwrap();
        scene.service_accounts("held").get("charted").await.unwrap()
    };
    upgrade().await;
    // The first upgrade may change who is said to own the list; from then on nothing may change.
    let settled = upgrade().await;
    let mark = scene.control_plane().audit().mark();
    for _ in 0..3 {
        let upgraded = upgrade().await;
        assert_eq!(names(&upgraded), ["theirs", "held"]);
        assert_eq!(upgraded.resource_version(), settled.resource_version());
    }
    // The status counts the new ServiceAccount when its time comes.
    let ours = scene.control_plane().audit().since(mark).writes_by(operator.user());
    let ours = ours.of("serviceaccounts").counts();
    assert_eq!(ours.total(), 0, "{ours}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_ships_is_refused_by_type_checks() {
    let scene = scene().await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(scene.client.clone());
    eventually("every policy to be checked", SOON, async || {
        for policy in policies.list(&ListParams::default()).await.unwrap() {
            let status = policy.status.clone().unwrap_or_default();
            if status.observed_generation.is_none() {
                return Err(format!("{} is not checked yet", policy.name_any()));
            }
            let warnings = status.type_checking.and_then(|checked| checked.expression_warnings);
            assert_eq!(warnings.unwrap_or_default(), [], "{}", policy.name_any());
        }
        Ok(())
    })
    .await;
    scene.finish().await;
}
