//! The operator as a Deployment of its own chart and image.

use regcred_tests::{eventually, install::OPERATOR_NAMESPACE};
use serde_json::json;

use crate::stage::{HOST, SOON, Stage, namespace, puller};

const PODS: &str = "get pods --namespace regcred-system --selector app.kubernetes.io/name=regcred";
const LEADER: &str = "get lease regcred --namespace regcred-system --output jsonpath={.spec.holderIdentity}";

async fn names(stage: &Stage) -> Vec<String> {
    let names = stage.kubectl(&format!("{PODS} --output jsonpath={{.items[*].metadata.name}}")).await;
    names.split_whitespace().map(str::to_owned).collect()
}

/// The Pod that leads: the lease names it.
async fn leader(stage: &Stage, among: &[String]) -> String {
    eventually("one of the Pods to lead", SOON, async || {
        let holder = stage.kubectl(LEADER).await;
        among.iter().find(|name| holder.contains(*name)).cloned().ok_or(holder)
    })
    .await
}

pub(crate) async fn two_replicas_run_restricted_and_one_leads(stage: &Stage) {
    let ready =
        format!("{PODS} --output jsonpath={{.items[*].status.conditions[?(@.type=='Ready')].status}}");
    assert_eq!(stage.kubectl(&ready).await, "True True", "the chart waited for probes to pass");
    let restarts = format!("{PODS} --output jsonpath={{.items[*].status.containerStatuses[0].restartCount}}");
    assert_eq!(stage.kubectl(&restarts).await, "0 0");
    let context = format!("{PODS} --output jsonpath={{.items[0].spec.containers[0].securityContext}}");
    let context = stage.kubectl(&context).await;
    for part in
        [r#""readOnlyRootFilesystem":true"#, r#""drop":["ALL"]"#, r#""allowPrivilegeEscalation":false"#]
    {
        assert!(context.contains(part), "{context}");
    }
    let enforced = format!("get namespace {OPERATOR_NAMESPACE} --output jsonpath={{.metadata.labels}}");
    assert!(stage.kubectl(&enforced).await.contains("restricted"));
    leader(stage, &names(stage).await).await;
}

/// What must be the same before and after: the copy itself, not only its name.
async fn copy_version(stage: &Stage, namespace: &str) -> String {
    let path = "jsonpath={.metadata.uid}/{.metadata.resourceVersion}";
    stage.kubectl(&format!("get secret ops --namespace {namespace} --output {path}")).await
}

async fn serves_a_new_namespace(stage: &Stage, name: &str) {
    stage.apply(&[namespace(name, &json!({ "pull": "ops" }))]).await;
    stage.served(name, "ops").await;
}

pub(crate) async fn the_leader_a_rollout_and_a_drain_lose_nothing(stage: &Stage) {
    stage.credential("ops", HOST, &puller()).await;
    serves_a_new_namespace(stage, "ops-0").await;
    let before = copy_version(stage, "ops-0").await;

    let first = leader(stage, &names(stage).await).await;
    stage.kubectl(&format!("delete pod {first} --namespace {OPERATOR_NAMESPACE}")).await;
    serves_a_new_namespace(stage, "ops-1").await;
    let second = leader(stage, &names(stage).await).await;
    assert_ne!(first, second);

    stage.kubectl("rollout restart deployment regcred --namespace regcred-system").await;
    stage.kubectl("rollout status deployment regcred --namespace regcred-system --timeout=120s").await;
    serves_a_new_namespace(stage, "ops-2").await;

    // With one node there is nowhere to go: one replica leaves, and the budget holds the other.
    let drain = [
        "drain",
        "localhost",
        "--ignore-daemonsets",
        "--pod-selector=app.kubernetes.io/name=regcred",
        "--timeout=15s",
    ];
    let refusal = stage.node.kubectl(&drain, "").await.unwrap_err().to_string();
    assert!(refusal.contains("disruption budget"), "{refusal}");
    serves_a_new_namespace(stage, "ops-3").await;
    stage.kubectl("uncordon localhost").await;
    stage.kubectl("rollout status deployment regcred --namespace regcred-system --timeout=120s").await;
    serves_a_new_namespace(stage, "ops-4").await;

    assert_eq!(copy_version(stage, "ops-0").await, before, "nobody wrote it again");
    stage.clear(&["ops-0", "ops-1", "ops-2", "ops-3", "ops-4"], &["ops"]).await;
}
