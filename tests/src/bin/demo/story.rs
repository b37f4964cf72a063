//! The story, step by step. Each step shows what a user would type, and waits for what was promised.

use regcred_tests::{
    clouds::{Clouds, STATIC_KEYS},
    error::{Error, Result},
};

use crate::stage::Stage;

/// The namespaces of the story, with the label that `deploy/examples/registry-credential.yaml` selects.
const NAMESPACES: [(&str, &str, &str); 4] = [
    ("team-a", "pull=private", "selected by its label"),
    ("payments", "team=payments", "selected by its name"),
    ("team-a-sandbox", "pull=private", "has the label, but is excluded by `*-sandbox`"),
    ("legacy", "pull=private", "has a Secret of the target name already, made by somebody else"),
];
/// A namespace that comes later.
const LATE: &str = "team-b";
const COPIES: &str = "get secrets --all-namespaces --selector regcred.dev/credential=platform-pull";
const ACCOUNTS: &str = "get serviceaccounts --all-namespaces --field-selector metadata.name=default \
    --output custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,PULL-SECRETS:.imagePullSecrets[*].name";
const READY: &str =
    "get regcred platform-pull --output jsonpath={.status.conditions[?(@.type=='Ready')].reason}";

/// Every registry of a region, by the keys in a Secret.
const ECR: &str = r#"
apiVersion: regcred.dev/v1alpha1
kind: RegistryCredential
metadata: {name: ecr}
spec:
  registries:
  - server: "*.dkr.ecr.eu-west-1.amazonaws.com"
    source: {ecr: {auth: {secretRef: {name: aws-keys}}}}
  namespaces: {matchNames: [team-a, payments]}
"#;
/// How many seconds the tokens of the story live; those of Amazon live twelve hours.
const LIFE: i64 = 15;

/// Tells it. With `keep`, the last step is left out: what the story made stays.
pub(crate) async fn tell(stage: &Stage, keep: bool) -> Result<()> {
    refuse_to_touch_others(stage).await?;
    let clouds = Clouds::start().await?;
    install(stage, &clouds).await?;
    make_namespaces(stage).await?;
    apply(stage).await?;
    pod(stage).await?;
    foreign_secret_goes(stage).await?;
    rotate(stage).await?;
    delete_a_copy(stage).await?;
    new_namespace(stage).await?;
    token(stage, &clouds).await?;
    if keep {
        return Ok(());
    }
    delete(stage).await?;
    clean_up(stage).await
}

/// The example selects namespaces by label and by name: none of another's may be among them.
async fn refuse_to_touch_others(stage: &Stage) -> Result<()> {
    let labelled = stage.quietly("get namespaces --selector pull=private --output name").await?;
    let mut names: Vec<&str> = NAMESPACES.iter().map(|(name, ..)| *name).collect();
    names.push(LATE);
    let named = format!("get namespaces {} --ignore-not-found --output name", names.join(" "));
    let named = stage.quietly(&named).await?;
    let taken: Vec<&str> = labelled.split_whitespace().chain(named.split_whitespace()).collect();
    if taken.is_empty() {
        return Ok(());
    }
    Err(Error::Unexpected(format!(
        "the story needs namespaces that this cluster has already: {}",
        taken.join(", ")
    )))
}

async fn install(stage: &Stage, clouds: &Clouds) -> Result<()> {
    stage.step(
        "Install",
        "The CustomResourceDefinition, a namespace, a ServiceAccount, its permissions and the policies that cage it. \
         The operator runs as\na process here, in the place of its Deployment, with the token of that ServiceAccount \
         and no other rights.",
    );
    stage.show("apply --server-side -f deploy/install.yaml").await?;
    stage.quietly("scale deployment regcred --namespace regcred-system --replicas=0").await?;
    stage.quietly("wait --for=condition=Established crd/registrycredentials.regcred.dev").await?;
    stage.start_operator(clouds.arguments()).await
}

async fn make_namespaces(stage: &Stage) -> Result<()> {
    stage.step(
        "Four namespaces",
        "As a cluster has them: one is selected by label, one by name, and two are special.",
    );
    for (name, label, what) in NAMESPACES {
        stage.quietly(&format!("create namespace {name}")).await?;
        stage.quietly(&format!("label namespace {name} {label}")).await?;
        println!("  {name:<16} {what}");
    }
    let foreign = "create secret docker-registry platform-pull --namespace legacy \
        --docker-server=registry.example.com --docker-username=legacy --docker-password=theirs";
    stage.quietly(foreign).await?;
    for (name, ..) in NAMESPACES {
        let account = format!("get serviceaccount default --namespace {name} --output name");
        stage.expect_that(&format!("{name} has its ServiceAccount"), &account, |out| !out.is_empty()).await?;
    }
    Ok(())
}

async fn apply(stage: &Stage) -> Result<()> {
    stage.step(
        "One source Secret and one RegistryCredential",
        "The admin writes the credential once, in the operator's namespace, and says who gets it.",
    );
    stage
        .show("apply -f deploy/examples/source-secret.yaml -f deploy/examples/registry-credential.yaml")
        .await?;
    stage
        .expect(
            "two of three namespaces are served, and status says what is wrong with the third",
            READY,
            "PartiallySynced",
        )
        .await?;
    stage.show("get regcred").await?;
    stage
        .show("get regcred platform-pull --output jsonpath={.status.conditions[?(@.type=='Ready')].message}")
        .await?;
    stage.show(COPIES).await?;
    stage.show(ACCOUNTS).await?;
    let theirs = "get secret platform-pull --namespace legacy --output jsonpath={.metadata.labels}";
    stage.expect("the foreign Secret in legacy is untouched", theirs, "").await?;
    let names = "get serviceaccount default --namespace legacy --output jsonpath={.imagePullSecrets}";
    stage.expect("and its name is not attached there", names, "").await?;
    let excluded = "get secrets --namespace team-a-sandbox --output name";
    stage.expect("the excluded namespace got nothing", excluded, "").await
}

async fn pod(stage: &Stage) -> Result<()> {
    stage.step(
        "A Pod",
        "Nobody wrote a Secret in `payments`, and the Pod names none: Kubernetes copies the list of its ServiceAccount.",
    );
    stage.show("run app --namespace payments --image=ghcr.io/acme/app:1 --restart=Never").await?;
    let pod = "get pod app --namespace payments --output jsonpath={.spec.imagePullSecrets[*].name}";
    stage.expect("the Pod pulls with platform-pull", pod, "platform-pull").await
}

async fn foreign_secret_goes(stage: &Stage) -> Result<()> {
    stage.step(
        "The conflict is solved",
        "The team of `legacy` deletes its own Secret. Nobody has to tell regcred.",
    );
    stage.show("delete secret platform-pull --namespace legacy").await?;
    stage.expect("everything is in place", READY, "Succeeded").await?;
    stage.show("get regcred").await.map(drop)
}

async fn rotate(stage: &Stage) -> Result<()> {
    stage.step(
        "Rotation",
        "The admin changes the source. Every copy changes in place: its UID stays, as the kubelet wants it.",
    );
    let uids = "get secrets --all-namespaces --selector regcred.dev/credential=platform-pull --output jsonpath={.items[*].metadata.uid}";
    let before = stage.quietly(uids).await?;
    let patch =
        r#"patch secret ghcr-bot --namespace regcred-system --patch={"stringData":{"password":"rotated"}}"#;
    stage.show(patch).await?;
    // In each copy the field `auth` of ghcr.io must be base64("bot:rotated").
    let data = r"get secrets --all-namespaces --selector regcred.dev/credential=platform-pull --output jsonpath={.items[*].data.\.dockerconfigjson}";
    let rotated =
        |output: &str| output.split_whitespace().count() == 3 && output.split_whitespace().all(holds_rotated);
    stage.expect_that("all three copies hold the new password", data, rotated).await?;
    stage.expect("none was re-created", uids, before.trim()).await
}

/// Whether the base64 of a docker configuration holds the credential `bot:rotated`.
fn holds_rotated(data: &str) -> bool {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let auth = STANDARD.encode("bot:rotated");
    STANDARD.decode(data).is_ok_and(|json| String::from_utf8_lossy(&json).contains(&auth))
}

async fn delete_a_copy(stage: &Stage) -> Result<()> {
    stage.step(
        "Somebody deletes a copy",
        "Drift is seen from metadata alone; regcred never reads the data of a copy.",
    );
    let uid = "get secret platform-pull --namespace team-a --output jsonpath={.metadata.uid}";
    let before = stage.quietly(uid).await?;
    stage.show("delete secret platform-pull --namespace team-a").await?;
    let restored = |now: &str| !now.is_empty() && now != before.trim();
    stage.expect_that("the copy is back", uid, restored).await.map(drop)
}

async fn new_namespace(stage: &Stage) -> Result<()> {
    stage.step("A new namespace", "It has the label, so it is served before its first Pod.");
    stage.quietly(&format!("create namespace {LATE}")).await?;
    stage.show(&format!("label namespace {LATE} pull=private")).await?;
    let names = format!(
        "get serviceaccount default --namespace {LATE} --output jsonpath={{.imagePullSecrets[*].name}}"
    );
    stage.expect("its ServiceAccount names the Secret", &names, "platform-pull").await?;
    let copy = format!("get secret platform-pull --namespace {LATE} --output jsonpath={{.type}}");
    stage.expect("and the Secret is there", &copy, "kubernetes.io/dockerconfigjson").await?;
    let four = "get regcred platform-pull --output jsonpath={.status.summary.namespaces}";
    stage.expect("status counts it", four, "4/4").await?;
    stage.show("get regcred").await.map(drop)
}

/// Amazon is played by a double; what the story made for this step goes with it.
async fn token(stage: &Stage, clouds: &Clouds) -> Result<()> {
    stage.step(
        "A token that expires",
        "Amazon ECR gives tokens of twelve hours. A double on this machine plays Amazon, and its tokens live 15 seconds:\n\
         regcred replaces them before they end, in place.",
    );
    clouds.set_life(LIFE);
    stage.quietly("create secret generic aws-keys --namespace regcred-system").await?;
    let (id, key) = STATIC_KEYS;
    let keys = format!(r#"{{"stringData":{{"AWS_ACCESS_KEY_ID":"{id}","AWS_SECRET_ACCESS_KEY":"{key}"}}}}"#);
    stage.quietly(&format!("patch secret aws-keys --namespace regcred-system --patch={keys}")).await?;
    stage.show("label secret aws-keys --namespace regcred-system regcred.dev/source=identity").await?;
    stage.show_apply(ECR).await?;
    let ready = "get regcred ecr --output jsonpath={.status.conditions[?(@.type=='Ready')].reason}";
    stage.expect("the token is in both namespaces", ready, "Succeeded").await?;
    stage.show("get regcred ecr").await?;
    let copy = |path: &str| {
        format!("get secrets --all-namespaces --selector regcred.dev/credential=ecr --output jsonpath={path}")
    };
    let (uids, data) = (copy("{.items[*].metadata.uid}"), copy(r"{.items[*].data.\.dockerconfigjson}"));
    let before = stage.quietly(&uids).await?;
    let mut former = stage.quietly(&data).await?.trim().to_owned();
    let expires = "get regcred ecr --output jsonpath={.status.summary.nextExpiry}";
    for promise in ["both copies hold another token", "and another one"] {
        let end = stage.quietly(expires).await?;
        let old: Vec<String> = former.split_whitespace().map(str::to_owned).collect();
        let rolled = |now: &str| {
            let now: Vec<_> = now.split_whitespace().collect();
            now.len() == 2 && now.iter().all(|copy| !old.iter().any(|old| old == copy))
        };
        former = stage.expect_that(promise, &data, rolled).await?;
        stage.expect_that("status says until when", expires, |now| now != end.trim()).await?;
        stage.show("get regcred ecr").await?;
    }
    stage.expect("none was re-created", &uids, before.trim()).await?;
    stage.quietly("delete regcred ecr").await?;
    stage.quietly("delete secret aws-keys --namespace regcred-system").await.map(drop)
}

async fn delete(stage: &Stage) -> Result<()> {
    stage.step(
        "The RegistryCredential goes",
        "Entries come off the ServiceAccounts first, then the copies are deleted.",
    );
    stage.show("delete regcred platform-pull").await?;
    stage.expect("no copy is left", &format!("{COPIES} --output name"), "").await?;
    let lists = "get serviceaccounts --all-namespaces --output jsonpath={.items[*].imagePullSecrets[*].name}";
    stage.expect_that("no ServiceAccount names it", lists, |names| !names.contains("platform-pull")).await?;
    stage.show(ACCOUNTS).await.map(drop)
}

/// An embedded control plane ends with the story; a cluster of the user's is left as it was found.
async fn clean_up(stage: &Stage) -> Result<()> {
    if stage.cluster.is_embedded() {
        return Ok(());
    }
    stage.step("Clean up", "This cluster is yours: what the story made goes.");
    let names: Vec<&str> = NAMESPACES.iter().map(|(name, ..)| *name).chain([LATE]).collect();
    stage.show(&format!("delete namespace {}", names.join(" "))).await?;
    stage.show("delete -f deploy/examples/source-secret.yaml").await?;
    stage.show("delete -f deploy/install.yaml").await.map(drop)
}
