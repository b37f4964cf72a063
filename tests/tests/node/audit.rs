//! What `kubectl regcred audit` says of Pods is what the kubelet really did with them.

use std::{collections::BTreeMap, process::Command};

use regcred_tests::{
    SECRET_KEY, SECRET_TYPE, binaries::workspace_binary, eventually, install::OPERATOR_NAMESPACE,
    node::registry::Login,
};
use serde_json::{Value, json};
use tokio::task::{block_in_place, spawn_blocking};

use crate::stage::{AFTER_BACK_OFF, HOST, Stage, auth, credential, pod, puller, source};

/// A Pod, whose names are its namespace and its own.
struct Case {
    namespace: &'static str,
    name: &'static str,
    account: &'static str,
    /// Its `imagePullSecrets`; where it is empty, the ServiceAccount's are put in.
    list: &'static [&'static str],
    /// What an audit with `--deep` says; nothing where it pulls.
    reason: Option<&'static str>,
    /// What an audit says that reads no Secret.
    unread: Option<&'static str>,
}

/// A Pod of each cause, and two that pull.
fn cases() -> Vec<Case> {
    let case = |(namespace, name), account, list, reason, unread| Case {
        namespace,
        name,
        account,
        list,
        reason: Some(reason),
        unread: Some(unread),
    };
    let good = |(namespace, name), list| Case {
        namespace,
        name,
        account: "default",
        list,
        reason: None,
        unread: None,
    };
    let unselected = "NamespaceNotSelected";
    vec![
        good(("judged", "good"), &[]),
        good(("outside", "by-hand"), &["right"]),
        case(("judged", "own-list"), "default", &["foreign"], "OwnList", "OwnList"),
        case(
            ("judged", "other-account"),
            "builder",
            &[],
            "ServiceAccountNotSelected",
            "ServiceAccountNotSelected",
        ),
        case(("outside", "unselected"), "default", &[], unselected, unselected),
        case(("outside", "dead"), "default", &["judged"], "DeadReference", "DeadReference"),
        case(("outside", "wrong-key"), "default", &["wrong-key"], "WrongKey", unselected),
        case(("outside", "wrong-type"), "default", &["wrong-type"], "WrongType", unselected),
        case(("outside", "undecodable"), "default", &["undecodable"], "Undecodable", "Undecodable"),
        case(("taken", "conflict"), "default", &["judged"], "NotInPlace", "NotInPlace"),
        case(("lapsed", "expired"), "default", &[], "Expired", "Expired"),
    ]
}

/// Made before its ServiceAccount has an entry.
const STALE: Case = Case {
    namespace: "judged",
    name: "stale",
    account: "default",
    list: &[],
    reason: Some("StalePod"),
    unread: Some("StalePod"),
};

const NAMESPACES: [&str; 4] = ["judged", "outside", "taken", "lapsed"];

pub(crate) async fn the_audit_says_of_each_pod_what_the_kubelet_did(stage: &Stage) {
    for (name, label) in
        [("judged", "judged"), ("outside", "nobody"), ("taken", "judged"), ("lapsed", "lapsed")]
    {
        stage.namespace(name, label).await;
    }
    stage.apply(&[make(stage, &STALE).await]).await;
    stage.waits(STALE.namespace, STALE.name, "ImagePull").await;
    prepare(stage).await;
    let mut pods = Vec::new();
    for case in cases() {
        pods.push(make(stage, &case).await);
    }
    stage.apply(&pods).await;
    let all: Vec<Case> = cases().into_iter().chain([STALE]).collect();
    for case in &all {
        settled(stage, case).await;
    }
    compare(stage, &all).await;
    stage.clear(&NAMESPACES, &["judged", "lapsed"]).await;
}

/// Each Pod has an image of its own: what one has pulled is on the node for all.
async fn make(stage: &Stage, case: &Case) -> Value {
    let image = stage.new_image(&format!("acme/{}", case.name), &puller()).await;
    let mut pod = pod(case.namespace, case.name, &image);
    let list: Vec<Value> = case.list.iter().map(|name| json!({ "name": name })).collect();
    pod["spec"]["serviceAccountName"] = json!(case.account);
    pod["spec"]["imagePullSecrets"] = json!(list);
    pod
}

/// The credentials, and the Secrets of tenants.
async fn prepare(stage: &Stage) {
    let login = auth(&puller());
    let config = |namespace: &str, name: &str, server: &str, auth: &str| {
        secret(
            namespace,
            name,
            SECRET_TYPE,
            SECRET_KEY,
            &json!({ "auths": { server: { "auth": auth } } }).to_string(),
        )
    };
    let builder = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "builder", "namespace": "judged" } });
    let mut lapsed = source("lapsed", &Login::new("puller", "l4psed"));
    lapsed["metadata"]["annotations"] = json!({ "regcred.dev/expires-at": "2020-01-01" });
    stage
        .apply(&[
            builder,
            config("judged", "foreign", "other.test:5000", &login),
            config("outside", "right", HOST, &login),
            config("outside", "wrong-key", &format!("{HOST}/elsewhere"), &login),
            config("outside", "undecodable", HOST, "!"),
            secret("outside", "wrong-type", "Opaque", SECRET_KEY, "{}"),
            config("taken", "judged", "other.test:5000", &login),
            lapsed,
            credential("lapsed", HOST),
            source("judged", &puller()),
            credential("judged", HOST),
        ])
        .await;
    stage.served("judged", "judged").await;
    stage.served("lapsed", "lapsed").await;
    stage.condition("judged", "Ready", "PartiallySynced").await;
    assert_eq!(
        stage.kubectl(&format!("get secret lapsed -n {OPERATOR_NAMESPACE} -o name")).await,
        "secret/lapsed"
    );
}

fn secret(namespace: &str, name: &str, kind: &str, key: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": { "name": name, "namespace": namespace }, "stringData": { key: value },
    })
}

/// Waits until the kubelet has pulled the image, or has tried to.
async fn settled(stage: &Stage, case: &Case) {
    eventually(
        &format!("the kubelet to act on {}/{}", case.namespace, case.name),
        AFTER_BACK_OFF,
        async || {
            let seen = Seen::of(stage, case).await;
            let waits = !seen.reason.is_empty() && seen.reason != "ContainerCreating";
            if seen.has_pulled || waits { Ok(()) } else { Err(format!("{seen:?}")) }
        },
    )
    .await;
}

/// What the kubelet says of a Pod.
#[derive(Debug)]
struct Seen {
    has_pulled: bool,
    reason: String,
}

impl Seen {
    async fn of(stage: &Stage, case: &Case) -> Self {
        let path = "jsonpath={.status.containerStatuses[0].imageID}|{.status.containerStatuses[0].state.waiting.reason}";
        let look = ["get", "pod", case.name, "--namespace", case.namespace, "--output", path];
        let said = stage.node.kubectl(&look, "").await.unwrap();
        let (image, reason) = said.split_once('|').unwrap();
        Self { has_pulled: !image.is_empty(), reason: reason.to_owned() }
    }
}

async fn compare(stage: &Stage, all: &[Case]) {
    let (unread, deep) = (audit(stage, &[]).await, audit(stage, &["--deep"]).await);
    for case in all {
        let seen = Seen::of(stage, case).await;
        let pod = format!("{}/{}", case.namespace, case.name);
        let told = [&unread, &deep].map(|found| found.get(&pod).map(String::as_str));
        println!("{pod}: the kubelet {seen:?}, the audit {told:?}");
        assert_eq!(seen.has_pulled, case.reason.is_none(), "{pod}: {seen:?}");
        assert_eq!(told, [case.unread, case.reason], "{pod}: {seen:?}");
    }
}

/// The reason of each Pod that cannot pull.
async fn audit(stage: &Stage, further: &[&str]) -> BTreeMap<String, String> {
    let program =
        spawn_blocking(|| workspace_binary("regcred-plugin", "kubectl-regcred", &[])).await.unwrap().unwrap();
    let mut command = Command::new(program);
    command.args(["audit", "--all-namespaces", "--by", "pod", "--output", "json"]).args(further);
    command.env_clear().env("KUBECONFIG", &stage.node.control_plane().admin_identity().kubeconfig);
    let output = block_in_place(|| command.output()).unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == "FAIL");
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let of = |finding: &Value| {
        let pod = format!("{}/{}", text(&finding["namespace"]), text(&finding["pods"][0]));
        (pod, text(&finding["reason"]))
    };
    findings
        .map(of)
        .filter(|(pod, _)| NAMESPACES.iter().any(|name| pod.starts_with(&format!("{name}/"))))
        .collect()
}
