//! The story on a node: a Pod that cannot pull, and then can. Each step says what happens and why.

use std::time::Duration;

use regcred_tests::{
    error::{Error, Result},
    node::{
        Node, OPERATOR_IMAGE,
        registry::{Login, Registry, basic},
    },
};

use crate::stage::Stage;

/// The host name by which the node knows the registry.
const HOST: &str = "registry.test:5000";
/// A kubelet waits 10, 20, 40 seconds and so on between tries to pull.
const AFTER_BACK_OFF: Duration = Duration::from_mins(3);
const PHASE: &str = "--output jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";

const CREDENTIAL: &str = "\
apiVersion: regcred.dev/v1alpha1
kind: RegistryCredential
metadata: {name: acme}
spec:
  registries:
  - server: registry.test:5000
    source: {secretRef: {name: acme-bot}}
  namespaces:
    selector: {matchLabels: {pull: acme}}";

const TOGETHER: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: billing, labels: {pull: acme}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: billing}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - {name: app, image: 'registry.test:5000/acme/app:v3'}";

/// Tells it.
pub(crate) async fn tell(stage: &Stage) -> Result<()> {
    let node = stage.cluster.node().ok_or_else(|| Error::Unexpected("this story needs a node".to_owned()))?;
    let registry = private_registry(stage, node).await?;
    stuck(stage).await?;
    install(stage, node).await?;
    apply(stage).await?;
    rotate(stage, node, &registry).await?;
    together(stage, node, &registry).await?;
    delete(stage).await
}

async fn push(node: &Node, registry: &Registry, tag: &str, login: &Login) -> Result<()> {
    registry.push(&node.new_image(tag)?, "acme/app", tag, &basic(login)).await
}

fn bot(password: &str) -> Login {
    Login::new("bot", password)
}

async fn private_registry(stage: &Stage, node: &Node) -> Result<Registry> {
    stage.step(
        "A node and a private registry",
        "containerd, runc and a kubelet run beside the control plane, in namespaces of their own. The registry asks for \
         a user and a\npassword; an image lies in it.",
    );
    let registry = node.registry(HOST, &[bot("first")]).await?;
    push(node, &registry, "v1", &bot("first")).await?;
    stage.show("get nodes").await?;
    Ok(registry)
}

async fn stuck(stage: &Stage) -> Result<()> {
    stage.step("A Deployment that cannot pull", "Nobody gave its namespace a pull secret.");
    stage.show("create namespace shop").await?;
    let account = "get serviceaccounts --namespace shop --output name";
    stage.expect_that("the namespace has its ServiceAccount", account, |names| !names.is_empty()).await?;
    stage.show("create deployment app --namespace shop --image=registry.test:5000/acme/app:v1").await?;
    let waits = format!("get pods --namespace shop {PHASE}");
    stage.expect("its Pod is stuck", &waits, "ImagePullBackOff").await?;
    stage.show("get pods --namespace shop").await?;
    let why =
        "get events --namespace shop --field-selector reason=Failed --output custom-columns=MESSAGE:.message";
    stage.show(why).await.map(drop)
}

async fn install(stage: &Stage, node: &Node) -> Result<()> {
    stage.step(
        "Install",
        "The chart, with the image of this checkout, which containerd was given beforehand. Two replicas, one of which \
         works; no\nright that is not needed, and admission policies that cage even those.",
    );
    node.import_operator().await?;
    stage
        .helm(&format!(
            "install regcred deploy/chart --namespace regcred-system --create-namespace --set image.repository={OPERATOR_IMAGE} --wait"
        ))
        .await?;
    stage.show("get pods --namespace regcred-system").await.map(drop)
}

async fn apply(stage: &Stage) -> Result<()> {
    stage.step(
        "One source Secret and one RegistryCredential",
        "The admin writes the credential once and labels the namespace. The old Pod took its ServiceAccount's list when it \
         was made,\nand that was empty: its successor has the name.",
    );
    stage.show(&format!("{} --docker-password=first", create_source())).await?;
    stage.show_apply(CREDENTIAL).await?;
    stage.show("label namespace shop pull=acme").await?;
    let summary = "get regcred acme --output jsonpath={.status.summary.serviceAccounts}";
    stage.expect("the namespace is served", summary, "1/1").await?;
    stage.show("get regcred").await?;
    stage.show("rollout restart deployment app --namespace shop").await?;
    stage.quietly("rollout status deployment app --namespace shop --timeout=60s").await?;
    let pods = "get pods --namespace shop --output jsonpath={.items[*].status.phase}";
    stage.expect("the Pod runs, and nobody wrote a Secret in its namespace", pods, "Running").await?;
    stage.show("get pods --namespace shop").await.map(drop)
}

async fn rotate(stage: &Stage, node: &Node, registry: &Registry) -> Result<()> {
    stage.step(
        "Rotation",
        "The registry takes a new password only, and the admin changes the source. The copy changes in place; the next \
         image is pulled\nwith it.",
    );
    registry.set_passwords(&[bot("second")])?;
    push(node, registry, "v2", &bot("second")).await?;
    let copy = r"get secret acme --namespace shop --output jsonpath={.data.\.dockerconfigjson}";
    let before = stage.quietly(copy).await?;
    stage
        .show_piped(&format!("{} --docker-password=second --dry-run=client --output=yaml", create_source()))
        .await?;
    stage.expect_that("the copy is another", copy, |now| now != before.trim()).await?;
    stage.show("set image deployment/app app=registry.test:5000/acme/app:v2 --namespace shop").await?;
    stage.quietly("rollout status deployment app --namespace shop --timeout=120s").await?;
    stage.show("get pods --namespace shop").await.map(drop)
}

fn create_source() -> String {
    format!(
        "create secret docker-registry acme-bot --namespace regcred-system --docker-server={HOST} --docker-username=bot"
    )
}

async fn together(stage: &Stage, node: &Node, registry: &Registry) -> Result<()> {
    stage.step(
        "A namespace together with its Deployment",
        "As GitOps tools apply them. An admission policy puts the name on the ServiceAccount in the request that makes it, so \
         that even\nthe first Pod has it; the Secret is there before the kubelet pulls.",
    );
    push(node, registry, "v3", &bot("second")).await?;
    stage.show_apply(TOGETHER).await?;
    let pods = "get pods --namespace billing --output jsonpath={.items[*].status.phase}";
    stage.expect_within(AFTER_BACK_OFF, "its first Pod runs", pods, |phase| phase == "Running").await?;
    let failed = "get events --namespace billing --field-selector reason=Failed --output name";
    stage.expect("no pull of it failed", failed, "").await?;
    let summary = "get regcred acme --output jsonpath={.status.summary.serviceAccounts}";
    stage.expect("status counts the new namespace", summary, "2/2").await?;
    stage.show("get pods --namespace billing").await?;
    stage.show("get events --namespace billing --field-selector involvedObject.kind=Pod --output custom-columns=REASON:.reason,MESSAGE:.message").await?;
    stage.show("get regcred").await.map(drop)
}

async fn delete(stage: &Stage) -> Result<()> {
    stage.step("Uninstall", "In the documented order: nothing is left, and Pods that run go on.");
    stage.show("delete regcred --all").await?;
    stage.helm("uninstall regcred --namespace regcred-system --wait").await?;
    stage.show("delete crd registrycredentials.regcred.dev").await?;
    let copies = "get secrets --all-namespaces --selector app.kubernetes.io/managed-by=regcred,regcred.dev/credential --output name";
    stage.expect("no copy is left", copies, "").await?;
    let entries = "get serviceaccounts --all-namespaces --output jsonpath={.items[*].imagePullSecrets}";
    stage.expect("no ServiceAccount names it", entries, "").await?;
    stage.show("get pods --namespace shop").await.map(drop)
}
