//! From `ImagePullBackOff` to `Running`, and staying there.

use std::{collections::BTreeSet, time::Duration};

use regcred_tests::{
    SECRET_KEY, SECRET_TYPE, eventually, install::OPERATOR_NAMESPACE, node::registry::Login,
};
use serde_json::{Value, json};

use crate::stage::{
    AFTER_BACK_OFF, HOST, SOON, Stage, auth, credential, deployment, namespace, pod, puller, source,
};

/// Namespaces that come at once.
const MANY: usize = 50;
/// How long fifty Pods may take to start on two cores.
const MANY_DEADLINE: Duration = Duration::from_mins(5);

pub(crate) async fn a_pod_that_named_the_secret_before_it_was_there_heals_by_itself(stage: &Stage) {
    let image = stage.new_image("acme/early", &puller()).await;
    // Attached at birth, although there is nothing to copy yet.
    stage.apply(&[credential("early", HOST)]).await;
    stage.condition("early", "SourceReady", "SourceNotFound").await;
    stage.namespace("early", "early").await;
    stage.apply(&[pod("early", "app", &image)]).await;
    stage.waits("early", "app", "ImagePullBackOff").await;
    let names = "get pod app --namespace early --output jsonpath={.spec.imagePullSecrets[*].name}";
    assert_eq!(stage.kubectl(names).await, "early");
    stage.apply(&[source("early", &puller())]).await;
    stage.served("early", "early").await;
    stage.runs("early", "app", AFTER_BACK_OFF).await;
    stage.clear(&["early"], &["early"]).await;
}

pub(crate) async fn a_deployment_that_could_not_pull_does_with_its_next_pod(stage: &Stage) {
    let image = stage.new_image("acme/late", &puller()).await;
    stage.namespace("late", "nobody").await;
    stage.apply(&[deployment("late", "app", &image)]).await;
    let name = "get pods --namespace late --output jsonpath={.items[0].metadata.name}";
    let first = eventually("a Pod", SOON, async || {
        let look: Vec<&str> = name.split(' ').collect();
        stage.node.kubectl(&look, "").await.map_err(|error| error.to_string())
    })
    .await;
    stage.waits("late", &first, "ImagePullBackOff").await;
    stage.credential("late", HOST, &puller()).await;
    stage.namespace("late", "late").await;
    stage.served("late", "late").await;
    // A Pod takes the list of its ServiceAccount when it is made: this one never learns of it.
    stage.kubectl(&format!("delete pod {first} --namespace late")).await;
    stage.kubectl("rollout status deployment app --namespace late --timeout=60s").await;
    stage.clear(&["late"], &["late"]).await;
}

pub(crate) async fn a_rotation_keeps_what_was_pulled_and_pulls_anew(stage: &Stage) {
    let (old, new) = (puller(), Login::new("puller", "n3w"));
    let pulled = stage.new_image("acme/rotated", &old).await;
    stage.credential("rotated", HOST, &old).await;
    stage.namespace("rotated", "rotated").await;
    stage.served("rotated", "rotated").await;
    stage.apply(&[pod("rotated", "before", &pulled)]).await;
    stage.runs("rotated", "before", SOON).await;

    // During the roll-over both count: the registry knows a second user with the new password.
    let next = Login::new("next", "n3w");
    stage.registry.set_passwords(&[old.clone(), next.clone()]).unwrap();
    let during = stage.new_image("acme/rotated", &old).await;
    stage.apply(&[source("rotated", &next), pod("rotated", "during", &during)]).await;
    stage.runs("rotated", "during", AFTER_BACK_OFF).await;
    stage.holds("rotated", "rotated", &next).await;

    stage.registry.set_passwords(std::slice::from_ref(&new)).unwrap();
    stage.apply(&[source("rotated", &new)]).await;
    stage.holds("rotated", "rotated", &new).await;
    stage.apply(&[pod("rotated", "after", &pulled)]).await;
    stage.runs("rotated", "after", SOON).await;
    // The kubelet's record of the pull is good still.
    stage.tells("rotated", "after", "already present").await;
    let unpulled = stage.new_image("acme/rotated", &new).await;
    stage.apply(&[pod("rotated", "anew", &unpulled)]).await;
    stage.runs("rotated", "anew", SOON).await;
    stage.tells("rotated", "anew", "Successfully pulled").await;

    stage.registry.set_passwords(&[puller()]).unwrap();
    stage.clear(&["rotated"], &["rotated"]).await;
}

pub(crate) async fn a_source_that_breaks_stops_nobody_and_the_same_bytes_by_hand_do(stage: &Stage) {
    let broken = format!(r#"{{"auths":{{"{HOST}":{{"auth":"!!!not-base64!!!"}}}}}}"#);
    let config = |namespace: &str, name: &str, content: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name, "namespace": namespace },
            "type": SECRET_TYPE,
            "stringData": { SECRET_KEY: content },
        })
    };
    let login = puller();
    let auth = auth(&login);
    let good = format!(r#"{{"auths":{{"{HOST}":{{"auth":"{auth}"}}}}}}"#);
    stage.apply(&[config(OPERATOR_NAMESPACE, "static", &good), credential("static", HOST)]).await;
    stage.namespace("static", "static").await;
    stage.served("static", "static").await;
    stage.apply(&[config(OPERATOR_NAMESPACE, "static", &broken)]).await;
    stage.condition("static", "SourceReady", "SourceInvalid").await;
    let image = stage.new_image("acme/static", &login).await;
    stage.apply(&[pod("static", "app", &image)]).await;
    stage.runs("static", "app", SOON).await;
    assert!(stage.copy("static", "static").await.contains(&auth), "the good copy stays");

    stage.namespace("by-hand", "nobody").await;
    let unpulled = stage.new_image("acme/static", &login).await;
    let mut by_hand = pod("by-hand", "app", &unpulled);
    by_hand["spec"]["imagePullSecrets"] = json!([{ "name": "hand" }]);
    stage.apply(&[config("by-hand", "hand", &broken), by_hand]).await;
    // The kubelet gives the raw text of the error as the reason, and names no Secret.
    stage.waits("by-hand", "app", "illegal base64").await;
    stage.clear(&["static", "by-hand"], &["static"]).await;
}

pub(crate) async fn fifty_namespaces_with_their_deployments_in_one_apply(stage: &Stage) {
    let image = stage.new_image("acme/many", &puller()).await;
    stage.credential("many", HOST, &puller()).await;
    stage.condition("many", "Ready", "NoNamespaceSelected").await;
    stage.apply(&many("many", &image)).await;
    eventually("all to run", MANY_DEADLINE, async || {
        let running = running(stage, "many").await;
        if running == MANY { Ok(()) } else { Err(format!("{running} of {MANY} run")) }
    })
    .await;
    eventually("an event for each Pod that was made", SOON, async || {
        let made = namespaces_with(stage, "SuccessfulCreate", "many").await.len();
        if made >= MANY { Ok(()) } else { Err(made.to_string()) }
    })
    .await;
    let failed: BTreeSet<_> = namespaces_with(stage, "Failed", "many").await.into_iter().collect();
    println!("with the policy: {MANY} of {MANY} run, {} saw a failed pull first", failed.len());
    assert_eq!(namespaces_with(stage, "SuccessfulCreate", "many").await.len(), MANY, "no Pod was made again");
    remove_many(stage, "many").await;

    stage.helm(&["upgrade", "regcred", "deploy/chart"], &["attachAtBirth.enabled=false"]).await;
    stage.apply(&many("bare", &image)).await;
    // A Pod without the name never runs; whatever has it, does.
    eventually("each Pod to run or to have no pull secret", MANY_DEADLINE, async || {
        let (running, never) = (running(stage, "bare").await, without_names(stage, "bare").await);
        let done = running + never >= MANY;
        if done { Ok(()) } else { Err(format!("{running} run, {never} never will")) }
    })
    .await;
    let never = without_names(stage, "bare").await;
    println!("without the policy: {never} of {MANY} never run");
    stage.helm(&["upgrade", "regcred", "deploy/chart"], &["attachAtBirth.enabled=auto"]).await;
    remove_many(stage, "bare").await;
    stage.kubectl("delete regcred many").await;
}

/// Namespaces, and a Deployment in each; those of `bare` differ in their names only.
fn many(prefix: &str, image: &str) -> Vec<Value> {
    let names: Vec<String> = (0..MANY).map(|number| format!("{prefix}-{number}")).collect();
    let labels = json!({ "pull": "many", "batch": prefix });
    let namespaces = names.iter().map(|name| namespace(name, &labels));
    namespaces.chain(names.iter().map(|name| deployment(name, prefix, image))).collect()
}

async fn pods_with(stage: &Stage, app: &str, path: &str) -> Vec<String> {
    let output = format!("jsonpath={{range .items[*]}}{{{path}}}{{'\\n'}}{{end}}");
    let look = ["get", "pods", "--all-namespaces", "--selector", &format!("app={app}"), "--output", &output];
    stage.node.kubectl(&look, "").await.unwrap().lines().map(str::to_owned).collect()
}

async fn running(stage: &Stage, app: &str) -> usize {
    pods_with(stage, app, ".status.phase").await.iter().filter(|phase| *phase == "Running").count()
}

async fn without_names(stage: &Stage, app: &str) -> usize {
    let names = pods_with(stage, app, ".spec.imagePullSecrets[*].name").await;
    names.iter().filter(|names| names.is_empty()).count()
}

/// The namespace of each event with this reason, among those with this prefix.
async fn namespaces_with(stage: &Stage, reason: &str, prefix: &str) -> Vec<String> {
    let (reason, prefix) = (format!("reason={reason}"), format!("{prefix}-"));
    let path = "jsonpath={range .items[*]}{.metadata.namespace}{'\\n'}{end}";
    let look = ["get", "events", "--all-namespaces", "--field-selector", &reason, "--output", path];
    let namespaces = stage.node.kubectl(&look, "").await.unwrap();
    namespaces.lines().filter(|namespace| namespace.starts_with(&prefix)).map(str::to_owned).collect()
}

async fn remove_many(stage: &Stage, prefix: &str) {
    stage.kubectl(&format!("delete namespace --wait=true --selector batch={prefix}")).await;
}
