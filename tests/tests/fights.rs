//! Somebody who undoes what regcred writes, as soon as it is written, for ever. regcred gives in after a few writes, and
//! says over what, and with whom.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use regcred_tests::audit::Mark;
use regcred_tests::operator::OperatorOptions;
use regcred_tests::pull::{CHART, Pull, backup, ours};
use regcred_tests::wait::throughout;
use regcred_tests::{Operator, SECRET_KEY, Scene, eventually};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);
/// No fight here is so slow that the next writes would come later.
const A_WHILE: Duration = Duration::from_secs(5);
/// How often one object is written at most in the ten minutes of a fight.
const FEW: usize = 4;

/// What a fight is about, and what is told of it.
struct Fight<'a> {
    scene: &'a Scene,
    operator: &'a Operator,
    credential: &'a str,
    namespace: &'a str,
    kind: &'static str,
    name: &'a str,
    /// A part of the message.
    who: &'static str,
}

impl Fight<'_> {
    /// Lets the opponent fight until regcred holds back and status, event and metric say so, and a while longer.
    async fn is_ended_by_regcred(&self, opponent: impl Future<Output = ()>) {
        let mark = self.scene.control_plane().audit().mark();
        let regcred = async {
            self.is_in_status().await;
            self.is_in_an_event().await;
            self.is_counted().await;
            throughout("regcred holds back", A_WHILE, async || self.few_writes(mark)).await;
        };
        tokio::select! {
            () = opponent => panic!("the opponent gave up"),
            () = regcred => {}
        }
    }

    async fn is_in_status(&self) {
        eventually("the contest in status", SOON, async || {
            let status = self.scene.status(self.credential).await;
            let failures = status["failures"].as_array().cloned().unwrap_or_default();
            let over = json!([self.namespace, self.kind, self.name, "Contested"]);
            let is_told = failures.iter().any(|failure| {
                let message = failure["message"].as_str().unwrap_or_default();
                json!([failure["namespace"], failure["kind"], failure["name"], failure["reason"]]) == over
                    && message.contains(self.who)
            });
            if is_told { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    async fn is_in_an_event(&self) {
        let events: Api<Event> = Api::all(self.scene.client.clone());
        let about = ListParams::default().fields(&format!("involvedObject.name={}", self.credential));
        eventually("an event", SOON, async || {
            let found = events.list(&about).await.unwrap().items;
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            let told = found.iter().map(|event| text(&event.reason) + ": " + &text(&event.message));
            let told: Vec<String> = told.collect();
            let is_told = told.iter().any(|it| it.contains("Contested: ") && it.contains(self.who));
            if is_told { Ok(()) } else { Err(told.join("\n")) }
        })
        .await;
    }

    async fn is_counted(&self) {
        let wanted = format!("regcred_contested_objects{{kind=\"{}\"}} 1", self.kind);
        eventually(&wanted, SOON, async || {
            let metrics = self.operator.metrics().await.map_err(|error| error.to_string())?;
            let contested = metrics.lines().filter(|line| line.starts_with("regcred_contested_objects{"));
            let lines: Vec<_> = contested.collect();
            if lines.contains(&wanted.as_str()) { Ok(()) } else { Err(lines.join("\n")) }
        })
        .await;
    }

    fn few_writes(&self, mark: Mark) -> Result<(), String> {
        let resource = format!("{}s", self.kind.to_lowercase());
        let writes = self.scene.control_plane().audit().since(mark).writes_by(self.operator.user()).granted();
        let writes = writes.within(self.namespace).of(&resource).filter(|entry| entry.name == self.name);
        if writes.len() <= FEW { Ok(()) } else { Err(writes.counts().to_string()) }
    }
}

async fn started() -> (Scene, Operator) {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    (scene, operator)
}

/// Acts whenever it is its turn, for ever.
async fn whenever(is_turn: impl AsyncFn() -> bool, act: impl AsyncFn()) {
    loop {
        eventually("a turn", Duration::MAX / 4, async || {
            is_turn().await.then_some(()).ok_or_else(String::new)
        })
        .await;
        act().await;
    }
}

fn manager(name: &str) -> PatchParams {
    PatchParams { field_manager: Some(name.to_owned()), ..PatchParams::default() }
}

/// Somebody who writes something else into a Secret whenever regcred has written it.
async fn rewrite(pull: &Pull<'_>, scene: &Scene, name: &str) {
    let secrets = scene.secrets(&pull.namespace);
    let data = async || pull.secret(name).await.and_then(|secret| secret.data).unwrap_or_default();
    let change = async || {
        let body = Patch::Merge(json!({"data": {SECRET_KEY: "e30="}}));
        secrets.patch(name, &manager("rewriter"), &body).await.unwrap();
    };
    whenever(async || data().await.values().any(|value| value.0 != b"{}"), change).await;
}

#[tokio::test]
async fn over_a_copy_that_somebody_keeps_changing() {
    let (scene, operator) = started().await;
    let pull = Pull::in_place(&scene, "pull").await;
    let fight = Fight {
        scene: &scene,
        operator: &operator,
        credential: &pull.name,
        namespace: &pull.namespace,
        kind: "Secret",
        name: &pull.name,
        who: "the field manager \"rewriter\" keeps changing the Secret",
    };
    fight.is_ended_by_regcred(rewrite(&pull, &scene, &pull.name)).await;
    pull.told("SecretsSynced", "False", "Contested").await;
    // Another credential is not what was undone.
    pull.rotate("rotated").await;
    pull.holds(&pull.name, "rotated").await;
    pull.ready().await;
    scene.finish().await;
}

#[tokio::test]
async fn over_a_former_copy_that_somebody_keeps_changing() {
    let (scene, operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    pull.apply(json!({"target": {"name": scene.name("new")}})).await;
    pull.ready_says("former Secrets stay").await;
    let fight = Fight {
        scene: &scene,
        operator: &operator,
        credential: &pull.name,
        namespace: &pull.namespace,
        kind: "Secret",
        name: &pull.name,
        who: "the field manager \"rewriter\" keeps changing the Secret",
    };
    fight.is_ended_by_regcred(rewrite(&pull, &scene, &pull.name)).await;
    pull.ready().await;
    pull.request("now").await;
    pull.holds(&pull.name, "pull").await;
    pull.ready_says("former Secrets stay").await;
    scene.finish().await;
}

#[tokio::test]
async fn over_a_copy_that_somebody_keeps_deleting() {
    let (scene, operator) = started().await;
    let pull = Pull::in_place(&scene, "pull").await;
    let secrets = scene.secrets(&pull.namespace);
    let delete = async || drop(secrets.delete(&pull.name, &DeleteParams::default()).await);
    let opponent = whenever(async || pull.secret(&pull.name).await.is_some(), delete);
    let fight = Fight {
        scene: &scene,
        operator: &operator,
        credential: &pull.name,
        namespace: &pull.namespace,
        kind: "Secret",
        name: &pull.name,
        who: "somebody keeps deleting the Secret",
    };
    fight.is_ended_by_regcred(opponent).await;
    pull.told("SecretsSynced", "False", "Contested").await;
    pull.request("now").await;
    pull.holds(&pull.name, "pull").await;
    pull.ready().await;
    scene.finish().await;
}

#[tokio::test]
async fn over_copies_that_somebody_keeps_cloning_into_another_namespace() {
    let (scene, operator) = started().await;
    let pull = Pull::in_place(&scene, "pull").await;
    let elsewhere = scene.settled_namespace("elsewhere", &[]).await;
    let copy = pull.secret(&pull.name).await.unwrap();
    let owners = copy.metadata.owner_references.clone();
    let mut copy = backup(copy);
    copy.metadata.owner_references = owners;
    let secrets = scene.secrets(&elsewhere);
    // A clone with another manager would be a foreign Secret, which is left alone.
    let cloning = PatchParams::apply("regcred");
    let clone = async || drop(secrets.patch(&pull.name, &cloning, &Patch::Apply(&copy)).await);
    let opponent = whenever(async || scene.secret(&elsewhere, &pull.name).await.is_none(), clone);
    let fight = Fight {
        scene: &scene,
        operator: &operator,
        credential: &pull.name,
        namespace: &elsewhere,
        kind: "Secret",
        name: &pull.name,
        who: "somebody keeps making the Secret again",
    };
    fight.is_ended_by_regcred(opponent).await;
    pull.ready().await;
    pull.lists("default", &[&ours(&pull.name)]).await;
    scene.finish().await;
}

#[tokio::test]
async fn over_an_entry_that_somebody_keeps_putting_back_with_its_mark() {
    let (scene, operator) = started().await;
    let pull = Pull::in_place(&scene, "pull").await;
    let accounts = scene.service_accounts(&pull.namespace);
    let helm = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{"name": pull.name}],
        "metadata": {
            "name": "fought",
            "annotations": {"regcred.dev/attached": pull.name, "regcred.dev/exclude": "true"},
        },
    });
    let put = async || {
        accounts.patch("fought", &PatchParams::apply("helm").force(), &Patch::Apply(&helm)).await.unwrap();
    };
    let opponent = whenever(async || pull.list("fought").await.is_empty(), put);
    let fight = Fight {
        scene: &scene,
        operator: &operator,
        credential: &pull.name,
        namespace: &pull.namespace,
        kind: "ServiceAccount",
        name: "fought",
        who: "the field manager \"helm\" keeps putting the entry back",
    };
    fight.is_ended_by_regcred(opponent).await;
    pull.lists("default", &[&ours(&pull.name)]).await;
    scene.finish().await;
}

#[tokio::test]
async fn over_an_entry_that_somebody_keeps_taking_off() {
    let (scene, operator) = started().await;
    let pull = Pull::in_place(&scene, "pull").await;
    // Kubernetes tracks the managers of a ServiceAccount only once somebody applied it server-side.
    scene.service_account(&pull.namespace, "fought", &[]).await;
    pull.lists("fought", &[&ours(&pull.name)]).await;
    let accounts = scene.service_accounts(&pull.namespace);
    let take = async || {
        let body = Patch::Merge(json!({"imagePullSecrets": [{"name": "theirs"}]}));
        accounts.patch("fought", &manager("gitops-tool"), &body).await.unwrap();
    };
    let opponent = whenever(async || pull.list("fought").await.contains(&ours(&pull.name)), take);
    let fight = Fight {
        scene: &scene,
        operator: &operator,
        credential: &pull.name,
        namespace: &pull.namespace,
        kind: "ServiceAccount",
        name: "fought",
        who: "the field manager \"gitops-tool\" keeps taking the entry off",
    };
    fight.is_ended_by_regcred(opponent).await;
    pull.told("ServiceAccountsAttached", "False", "Contested").await;
    // Others are served meanwhile, and that writes nothing to the one that is fought over.
    let mark = scene.control_plane().audit().mark();
    scene.service_account(&pull.namespace, "newcomer", &[]).await;
    pull.lists("newcomer", &[&ours(&pull.name)]).await;
    pull.lists(CHART, &[&pull.name]).await;
    let writes: Vec<String> = pull.writes(mark, operator.user());
    assert_eq!(writes, ["patch serviceaccounts/newcomer"]);
    pull.request("now").await;
    pull.lists("fought", &["theirs", &ours(&pull.name)]).await;
    pull.ready().await;
    scene.finish().await;
}
