//! What somebody does to a RegistryCredential that is in place, and what becomes of Secrets, entries and status: the
//! rows of `docs/transitions.md`, each on the real API server.
//!
//! In every namespace here the ServiceAccount `chart` named the Secret before regcred did, so that entry is never
//! regcred's; those with a star are.

use std::time::Duration;

use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use regcred_tests::install::CRD_NAME;
use regcred_tests::operator::OperatorOptions;
use regcred_tests::proxy::{Action, Seen};
use regcred_tests::pull::{CHART, Pull, backup, ours};
use regcred_tests::wait::throughout;
use regcred_tests::{Operator, Proxy, SECRET_KEY, SECRET_TYPE, Scene, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

async fn started() -> (Scene, Operator) {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    (scene, operator)
}

fn named(target: &str) -> Value {
    json!({"target": {"name": target}})
}

#[tokio::test]
async fn a_rename_brings_the_new_before_it_takes_the_former_and_keeps_its_secret() {
    let (scene, operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let (old, new) = (pull.name.clone(), scene.name("new"));
    let before = pull.uid(&old).await;
    let mark = scene.control_plane().audit().mark();
    pull.apply(named(&new)).await;
    pull.lists("default", &[&ours(&new)]).await;
    pull.lists(CHART, &[&old, &ours(&new)]).await;
    pull.ready_says(&format!("former Secrets stay for now: {old} in 1")).await;
    assert!(pull.annotation(&old, "superseded-at").await.is_some());
    let order = [
        "patch serviceaccounts/chart".to_owned(),
        "patch serviceaccounts/default".to_owned(),
        format!("patch secrets/{new}"),
        "patch serviceaccounts/default".to_owned(),
        format!("patch secrets/{old}"),
    ];
    assert_eq!(pull.writes(mark, operator.user()), order);
    // Pods that run still pull with the former one.
    pull.rotate("rotated").await;
    pull.holds(&new, "rotated").await;
    pull.holds(&old, "rotated").await;

    pull.apply(json!({"target": null})).await;
    pull.lists("default", &[&ours(&old)]).await;
    pull.lists(CHART, &[&old]).await;
    pull.ready_says(&format!("former Secrets stay for now: {new} in 1")).await;
    assert_eq!(pull.uid(&old).await, before, "renamed back in place");
    assert_eq!(pull.annotation(&old, "superseded-at").await, None);
    scene.finish().await;
}

#[tokio::test]
async fn a_rename_to_a_name_that_a_foreign_secret_holds_leaves_all_in_place_until_it_goes() {
    let (scene, _operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let (old, new) = (pull.name.clone(), scene.name("new"));
    let foreign = json!({"metadata": {"name": new}, "type": SECRET_TYPE, "stringData": {SECRET_KEY: "{}"}});
    let foreign = serde_json::from_value(foreign).unwrap();
    scene.secrets(&pull.namespace).create(&PostParams::default(), &foreign).await.unwrap();
    let version = pull.version(&new).await;
    pull.apply(named(&new)).await;
    pull.told("SecretsSynced", "False", "NameConflict").await;
    pull.rotate("rotated").await;
    pull.holds(&old, "rotated").await;
    pull.lists("default", &[&ours(&old)]).await;
    pull.lists(CHART, &[&old]).await;
    assert_eq!(pull.version(&new).await, version, "untouched");

    pull.delete_secret(&new).await;
    pull.holds(&new, "rotated").await;
    pull.lists("default", &[&ours(&new)]).await;
    pull.lists(CHART, &[&old, &ours(&new)]).await;
    pull.ready_says(&format!("former Secrets stay for now: {old} in 1")).await;
    scene.finish().await;
}

#[tokio::test]
async fn a_rename_without_a_source_leaves_the_former_secret_and_entry_until_it_gives_something() {
    // What a source last gave would serve the new name; a fresh process has nothing.
    let (scene, operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let (old, new) = (pull.name.clone(), scene.name("new"));
    let before = pull.version(&old).await;
    operator.kill();
    pull.break_source().await;
    pull.apply(named(&new)).await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    pull.told("Ready", "False", "SourceNotReady").await;
    pull.lists("default", &[&ours(&old), &ours(&new)]).await;
    pull.lists(CHART, &[&old, &ours(&new)]).await;
    assert_eq!(pull.version(&old).await, before, "untouched");
    assert!(pull.secret(&new).await.is_none());

    pull.rotate("back").await;
    pull.holds(&new, "back").await;
    pull.holds(&old, "back").await;
    pull.lists("default", &[&ours(&new)]).await;
    pull.ready_says(&format!("former Secrets stay for now: {old} in 1")).await;
    scene.finish().await;
}

#[tokio::test]
async fn a_former_secret_stays_as_long_as_the_grace_period_says_and_no_longer() {
    let (scene, operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let (first, second, third) = (pull.name.clone(), scene.name("second"), scene.name("third"));
    let grace = SignedDuration::from_secs(8);
    pull.apply(json!({"target": {"name": second, "renameGracePeriod": "8s"}})).await;
    let since = eventually("the former Secret says since when", SOON, async || {
        pull.annotation(&first, "superseded-at").await.ok_or_else(|| "it does not".to_owned())
    })
    .await;
    pull.gone(&first).await;
    let deleted = deletion(&scene, &operator, &first);
    assert!(deleted - grace >= since.parse().unwrap(), "{since} to {deleted}");
    pull.lists("default", &[&ours(&second)]).await;
    pull.lists(CHART, &[&first, &ours(&second)]).await;

    let mark = scene.control_plane().audit().mark();
    pull.apply(json!({"target": {"name": third, "renameGracePeriod": "0s"}})).await;
    pull.gone(&second).await;
    pull.lists("default", &[&ours(&third)]).await;
    pull.lists(CHART, &[&first, &ours(&third)]).await;
    let ready = pull.ready().await;
    assert!(!ready.message.contains("former"), "{}", ready.message);
    assert_eq!(pull.writes(mark, operator.user()).last(), Some(&format!("delete secrets/{second}")));
    scene.finish().await;
}

/// When the operator deleted a Secret.
fn deletion(scene: &Scene, operator: &Operator, name: &str) -> Timestamp {
    let deletions = scene.control_plane().audit().entries().writes_by(operator.user()).granted();
    let deletions = deletions.filter(|entry| entry.verb == "delete" && entry.name == name);
    deletions.last().expect("the operator deleted it").time.parse().unwrap()
}

#[tokio::test]
async fn a_rename_and_the_end_of_the_selection_together_leave_nothing() {
    let (scene, operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let (old, new) = (pull.name.clone(), scene.name("new"));
    let mark = scene.control_plane().audit().mark();
    pull.apply(json!({"target": {"name": new}, "namespaces": {"matchNames": ["nowhere"]}})).await;
    pull.gone(&old).await;
    pull.lists("default", &[]).await;
    pull.lists(CHART, &[&old]).await;
    pull.told("Ready", "True", "NoNamespaceSelected").await;
    let order = ["patch serviceaccounts/default".to_owned(), format!("delete secrets/{old}")];
    let writes = pull.writes(mark, operator.user());
    assert_eq!(writes[writes.len() - 2..], order, "{writes:?}");
    assert!(!writes.contains(&format!("patch secrets/{new}")), "{writes:?}");
    scene.finish().await;
}

#[tokio::test]
async fn two_credentials_swap_their_names_in_place() {
    let (scene, operator) = started().await;
    let mut one = Pull::in_place(&scene, "a").await;
    let mut two = one.beside("b").await;
    two.apply(json!({})).await;
    two.ready().await;
    let (a, b) = (one.name.clone(), two.name.clone());
    let before = [one.uid(&a).await, one.uid(&b).await];
    let mark = scene.control_plane().audit().mark();
    one.apply(named(&b)).await;
    two.apply(named(&a)).await;
    for (pull, name, user) in [(&one, &b, "a"), (&two, &a, "b")] {
        pull.holds(name, user).await;
        pull.ready().await;
    }
    eventually("both entries", SOON, async || {
        let mut list = one.list("default").await;
        list.sort();
        if list == [ours(&a), ours(&b)] { Ok(()) } else { Err(format!("{list:?}")) }
    })
    .await;
    one.lists(CHART, &[&a, &ours(&b)]).await;
    assert_eq!([one.uid(&a).await, one.uid(&b).await], before, "in place");
    for name in [&a, &b] {
        assert_eq!(one.annotation(name, "superseded-at").await, None);
    }
    let writes = one.writes(mark, operator.user());
    assert!(writes.iter().all(|write| !write.starts_with("delete")), "{writes:?}");
    scene.finish().await;
}

#[tokio::test]
async fn a_namespace_that_is_deselected_loses_the_marked_entries_and_then_the_secret() {
    let (scene, operator) = started().await;
    let pull = Pull::in_place(&scene, "pull").await;
    let mark = scene.control_plane().audit().mark();
    pull.deselect().await;
    pull.gone(&pull.name).await;
    pull.lists("default", &[]).await;
    pull.lists(CHART, &[&pull.name]).await;
    pull.told("Ready", "True", "NoNamespaceSelected").await;
    let order = ["patch serviceaccounts/default".to_owned(), format!("delete secrets/{}", pull.name)];
    assert_eq!(pull.writes(mark, operator.user()), order);
    scene.finish().await;
}

#[tokio::test]
async fn serviceaccounts_that_are_deselected_lose_the_entry_if_it_is_marked() {
    let (scene, _operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let before = pull.version(&pull.name).await;
    for accounts in [json!({"from": "Selected", "matchNames": ["none"]}), json!({"from": "None"})] {
        pull.apply(json!({"serviceAccounts": {"from": "All"}})).await;
        pull.lists("default", &[&ours(&pull.name)]).await;
        let reason = if accounts["from"] == "None" { "NotRequested" } else { "AllAttached" };
        pull.apply(json!({"serviceAccounts": accounts})).await;
        pull.lists("default", &[]).await;
        pull.lists(CHART, &[&pull.name]).await;
        pull.told("ServiceAccountsAttached", "True", reason).await;
        pull.ready().await;
    }
    assert_eq!(pull.version(&pull.name).await, before, "untouched");
    scene.finish().await;
}

#[tokio::test]
async fn one_that_is_suspended_is_deleted_with_all_that_it_has() {
    let (scene, _operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let mut witness = pull.beside("witness").await;
    witness.apply(json!({})).await;
    let before = pull.version(&pull.name).await;
    pull.apply(json!({"suspend": true})).await;
    pull.told("Reconciling", "False", "Suspended").await;
    pull.rotate("rotated").await;
    witness.rotate("rotated").await;
    witness.holds(&witness.name, "rotated").await;
    assert_eq!(pull.version(&pull.name).await, before, "nothing is written while it is suspended");
    pull.delete().await;
    assert!(pull.secret(&pull.name).await.is_none());
    pull.lists("default", &[&ours(&witness.name)]).await;
    pull.lists(CHART, &[&pull.name, &ours(&witness.name)]).await;
    scene.finish().await;
}

#[tokio::test]
async fn a_rename_while_suspended_comes_about_when_it_is_resumed() {
    let (scene, _operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let mut witness = pull.beside("witness").await;
    let (old, new) = (pull.name.clone(), scene.name("new"));
    let before = pull.version(&old).await;
    pull.apply(json!({"suspend": true, "target": {"name": new}})).await;
    pull.told("Reconciling", "False", "Suspended").await;
    witness.apply(json!({})).await;
    witness.ready().await;
    pull.lists("default", &[&ours(&old), &ours(&witness.name)]).await;
    assert_eq!(pull.version(&old).await, before, "untouched");
    assert!(pull.secret(&new).await.is_none());

    pull.apply(json!({"suspend": null})).await;
    pull.lists("default", &[&ours(&witness.name), &ours(&new)]).await;
    pull.lists(CHART, &[&old, &ours(&witness.name), &ours(&new)]).await;
    pull.ready_says(&format!("former Secrets stay for now: {old} in 1")).await;
    scene.finish().await;
}

#[tokio::test]
async fn retain_that_is_switched_on_just_before_the_deletion_counts() {
    let (scene, _operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let before = pull.uid(&pull.name).await;
    pull.apply(json!({"deletionPolicy": "Retain"})).await;
    pull.delete().await;
    let secret = pull.secret(&pull.name).await.expect("the Secret stays");
    assert_eq!((secret.uid(), secret.owner_references().len()), (Some(before), 0));
    assert_eq!(secret.annotations()["regcred.dev/retained-from"], pull.name);
    assert!(secret.labels().is_empty(), "{:?}", secret.labels());
    pull.holds(&pull.name, "pull").await;
    // The entries stay with it, and are no longer regcred's.
    pull.lists("default", &[&pull.name]).await;
    pull.lists(CHART, &[&pull.name]).await;
    scene.finish().await;
}

#[tokio::test]
async fn what_retain_left_is_taken_back_in_place_whatever_the_conflict_policy() {
    let (scene, _operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let before = pull.uid(&pull.name).await;
    for policy in ["Fail", "Adopt"] {
        pull.apply(json!({"deletionPolicy": "Retain"})).await;
        pull.ready().await;
        pull.delete().await;
        pull.rotate(policy).await;
        pull.apply(json!({"target": {"conflictPolicy": policy}})).await;
        pull.ready().await;
        pull.holds(&pull.name, policy).await;
        assert_eq!(pull.uid(&pull.name).await, before, "in place");
        let uid = scene.credentials().get(&pull.name).await.unwrap().uid();
        assert_eq!(pull.annotation(&pull.name, "credential-uid").await, uid);
        pull.lists("default", &[&pull.name]).await;
    }
    pull.apply(json!({"target": null, "deletionPolicy": null})).await;
    pull.ready().await;
    pull.delete().await;
    assert!(pull.secret(&pull.name).await.is_none());
    scene.finish().await;
}

#[tokio::test]
async fn what_was_restored_from_a_backup_is_taken_over_in_place() {
    let (scene, operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let former = pull.annotation(&pull.name, "credential-uid").await;
    operator.kill();
    let secret = backup(pull.secret(&pull.name).await.unwrap());
    let mut account = backup(scene.service_accounts(&pull.namespace).get("default").await.unwrap());
    pull.edit_secret(&pull.name, json!({"metadata": {"ownerReferences": null}})).await;
    pull.delete_secret(&pull.name).await;
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    scene.credentials().patch(&pull.name, &PatchParams::default(), &release).await.unwrap();
    pull.delete().await;

    let restoring = PostParams { field_manager: Some("velero-server".to_owned()), ..PostParams::default() };
    scene.secrets(&pull.namespace).create(&restoring, &secret).await.unwrap();
    account.metadata.name = Some("restored".to_owned());
    scene.service_accounts(&pull.namespace).create(&restoring, &account).await.unwrap();
    let restored = pull.uid(&pull.name).await;
    pull.apply(json!({})).await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    pull.ready().await;
    assert_eq!(pull.uid(&pull.name).await, restored, "in place");
    assert_ne!(pull.annotation(&pull.name, "credential-uid").await, former);
    pull.lists("restored", &[&ours(&pull.name)]).await;
    pull.delete().await;
    assert!(pull.secret(&pull.name).await.is_none());
    pull.lists("restored", &[]).await;
    scene.finish().await;
}

#[tokio::test]
async fn one_mark_that_somebody_edits_is_mended_in_place_also_when_nobody_was_looking() {
    let (scene, mut operator) = started().await;
    for (suffix, edit) in [
        ("uid", json!({"annotations": {"regcred.dev/credential-uid": "another"}})),
        ("label", json!({"labels": {"regcred.dev/credential": "another"}})),
        ("owner", json!({"ownerReferences": null})),
    ] {
        let pull = Pull::in_place(&scene, suffix).await;
        let marks = marks(&pull).await;
        for running in [true, false] {
            if !running {
                operator.kill();
            }
            pull.edit_secret(&pull.name, json!({"metadata": edit})).await;
            if !running {
                operator = scene.operator(OperatorOptions::default()).await;
            }
            eventually(&format!("the {suffix} of the Secret is mended"), SOON, async || {
                let now = self::marks(&pull).await;
                if now == marks { Ok(()) } else { Err(format!("{now:?} is not {marks:?}")) }
            })
            .await;
            pull.lists("default", &[&ours(&pull.name)]).await;
        }
        pull.ready().await;
    }
    scene.finish().await;
}

/// What shows whose a Secret is, and that it is still the same.
async fn marks(pull: &Pull<'_>) -> Value {
    let secret = pull.secret(&pull.name).await.expect("the Secret stays");
    json!([secret.uid(), secret.labels(), secret.annotations(), secret.owner_references()])
}

#[tokio::test]
async fn an_invalid_spec_changes_nothing_in_place_and_keeps_its_claim() {
    let (scene, _operator) = started().await;
    let mut pull = Pull::in_place(&scene, "a").await;
    let before = pull.version(&pull.name).await;
    without_rules(&scene).await;
    eventually("the invalid spec is stored", SOON, async || {
        let broken = Patch::Merge(json!({"spec": {"refreshInterval": "1s"}}));
        let stored = scene.credentials().patch(&pull.name, &PatchParams::default(), &broken).await;
        stored.map(drop).map_err(|error| error.to_string())
    })
    .await;
    pull.told("Stalled", "True", "InvalidSpec").await;
    // A namespace that has nothing yet is claimed, too.
    let late = scene.settled_namespace("late", &[("pull", "a")]).await;
    let mut rival = pull.beside("b").await;
    rival.apply(named(&pull.name)).await;
    rival.told("Stalled", "True", "TargetClaimed").await;
    let matched = scene.status(&rival.name).await["namespaces"]["matched"].clone();
    assert_eq!(matched, 2, "the rival was told of both namespaces");
    assert!(scene.secret(&late, &pull.name).await.is_none());
    assert_eq!(scene.pull_secrets(&late, "default").await, Vec::<String>::new());
    assert_eq!(pull.version(&pull.name).await, before, "untouched");
    pull.lists("default", &[&ours(&pull.name)]).await;
    pull.lists(CHART, &[&pull.name]).await;

    pull.apply(json!({"refreshInterval": "1h"})).await;
    pull.ready().await;
    assert_eq!(pull.version(&pull.name).await, before, "as before");
    assert!(scene.secret(&late, &pull.name).await.is_some());
    scene.reinstall().await;
    scene.finish().await;
}

/// Lets the API server store any spec.
async fn without_rules(scene: &Scene) {
    let definitions: Api<CustomResourceDefinition> = Api::all(scene.client.clone());
    let open = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]);
    let open = Patch::<()>::Json(serde_json::from_value(open).unwrap());
    definitions.patch(CRD_NAME, &PatchParams::default(), &open).await.unwrap();
}

#[tokio::test]
async fn a_shorter_refresh_interval_counts_from_now_on_and_writes_nothing() {
    let (scene, operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let mark = scene.control_plane().audit().mark();
    pull.apply(json!({"refreshInterval": "1m"})).await;
    pull.ready().await;
    let before = looks(&operator).await;
    eventually("the next look at the source", Duration::from_secs(100), async || {
        let now = looks(&operator).await;
        if now > before { Ok(()) } else { Err(format!("{now} looks")) }
    })
    .await;
    assert_eq!(pull.writes(mark, operator.user()), Vec::<String>::new());
    scene.finish().await;
}

/// How often the operator looked at a source.
async fn looks(operator: &Operator) -> u64 {
    let metrics = operator.metrics().await.unwrap();
    let counted = metrics.lines().filter_map(|line| line.strip_prefix("regcred_source_reads_total{"));
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_request_ends_every_back_off_and_is_echoed_once_it_is_done() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(scene.control_plane()).unwrap();
    let options = OperatorOptions { api_url: Some(proxy.url()), ..OperatorOptions::default() };
    let _operator = scene.operator(options).await;
    let mut pull = Pull::prepared(&scene, "pull").await;
    let written = |namespace: &str| {
        let within = format!("/api/v1/namespaces/{namespace}/");
        move |seen: &Seen| seen.method == Method::PATCH && seen.path.starts_with(&within)
    };
    let is_write = written(&pull.namespace);
    proxy.set_rule(move |seen| if is_write(seen) { forbidden() } else { Action::Forward });
    pull.apply(json!({})).await;
    // Between the third and the fourth try are sixteen seconds; no event says that the cause is gone.
    let is_secret = format!("/secrets/{}", pull.name);
    eventually("three tries", SOON, async || {
        let tries = proxy.log().iter().filter(|seen| seen.path.ends_with(&is_secret)).count();
        if tries >= 3 { Ok(()) } else { Err(format!("{tries}")) }
    })
    .await;
    pull.told("SecretsSynced", "False", "Forbidden").await;
    let is_write = written(&pull.namespace);
    proxy.set_rule(move |seen| if is_write(seen) { Action::Delay(SLOW) } else { Action::Forward });
    let before = proxy.writes();
    pull.request("noon").await;
    eventually("the try that was asked for", Duration::from_secs(5), async || {
        let log = proxy.log();
        let is_write = written(&pull.namespace);
        let tried = log.iter().any(|seen| seen.write > Some(before) && is_write(seen));
        if tried { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
    let handled = async || scene.status(&pull.name).await["lastHandledRequest"].clone();
    throughout("the request is not done", SLOW / 2, async || match handled().await {
        Value::Null => Ok(()),
        echoed => Err(echoed.to_string()),
    })
    .await;
    eventually("the request is echoed", SOON, async || {
        let echoed = handled().await;
        if echoed == "noon" { Ok(()) } else { Err(echoed.to_string()) }
    })
    .await;
    assert!(pull.secret(&pull.name).await.is_some(), "what was asked for is done");
    assert_eq!(pull.list("default").await, [ours(&pull.name)]);
    pull.ready().await;
    scene.finish().await;
}

/// How long a slow API server takes for a write.
const SLOW: Duration = Duration::from_secs(3);

/// As the API server answers where a right is missing.
fn forbidden() -> Action {
    let message =
        "secrets \"pull\" is forbidden: User \"regcred\" cannot patch resource \"secrets\" in API group \"\"";
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": message,
    });
    Action::Refuse(StatusCode::FORBIDDEN, status.to_string())
}

#[tokio::test]
async fn what_happened_while_nobody_was_looking_leaves_no_entry_when_all_is_deleted() {
    let (scene, mut operator) = started().await;
    let mut pull = Pull::in_place(&scene, "pull").await;
    let kept = scene.settled_namespace("kept", &[("pull", "pull")]).await;
    eventually("the other namespace is served", SOON, async || {
        let list = scene.pull_secrets(&kept, "default").await;
        if list == [pull.name.clone()] { Ok(()) } else { Err(format!("{list:?}")) }
    })
    .await;
    for (target, seen) in [("first", true), ("second", false)] {
        operator.kill();
        let (old, new) = (pull.name.clone(), scene.name(target));
        pull.deselect().await;
        pull.apply(named(&new)).await;
        if !seen {
            scene.delete_credential(&pull.name).await;
        }
        operator = scene.operator(OperatorOptions::default()).await;
        if seen {
            pull.ready().await;
            pull.gone(&old).await;
            scene.delete_credential(&pull.name).await;
        }
        pull.ended().await;
        for namespace in [&pull.namespace, &kept] {
            for name in [&old, &new] {
                assert!(scene.secret(namespace, name).await.is_none(), "{namespace}/{name}");
            }
        }
        pull.lists("default", &[]).await;
        pull.lists(CHART, &[&old]).await;
        assert_eq!(scene.pull_secrets(&kept, "default").await, Vec::<String>::new());
        if seen {
            pull.select().await;
            pull.apply(json!({"target": null})).await;
            pull.ready().await;
        }
    }
    scene.finish().await;
}

#[tokio::test]
async fn entries_without_a_secret_go_too_when_nobody_was_looking() {
    let (scene, operator) = started().await;
    let mut pull = Pull::prepared(&scene, "pull").await;
    pull.break_source().await;
    pull.apply(json!({})).await;
    pull.lists("default", &[&ours(&pull.name)]).await;
    operator.kill();
    pull.deselect().await;
    pull.apply(named(&scene.name("new"))).await;
    scene.delete_credential(&pull.name).await;
    let _operator = scene.operator(OperatorOptions::default()).await;
    pull.ended().await;
    pull.lists("default", &[]).await;
    pull.lists(CHART, &[&pull.name]).await;
    scene.finish().await;
}

#[test]
fn the_page_names_tests_and_cases_that_exist_and_every_test_here() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/transitions.md")).unwrap();
    let tests = texts(&root.join("tests/tests"));
    let cases = texts(&root.join("crates/planner/tests/cases"));
    let shown: Vec<&str> =
        page.lines().filter_map(|line| line.rsplit(" | ").next()?.strip_prefix("t ")).collect();
    assert!(shown.len() > 15, "the rows of the page end in what shows them");
    for (tests_of_row, rules) in shown.iter().filter_map(|row| row.split_once("; c ")) {
        let is_function = |word: &&str| word.contains('_') && !word.contains('.');
        for test in tests_of_row.split('`').skip(1).step_by(2).filter(is_function) {
            assert!(tests.contains(&format!("async fn {test}()")), "no test {test}");
        }
        for rule in rules.split('"').skip(1).step_by(2) {
            assert!(cases.contains(&format!("rule: {rule}\n")), "no case: {rule}");
        }
    }
    let here = include_str!("transitions.rs").split("#[tokio::test]\nasync fn ").skip(1);
    for test in here.filter_map(|text| text.split('(').next()) {
        assert!(page.contains(&format!("`{test}`")), "the page does not name {test}");
    }
}

/// All files of a folder, one after the other.
fn texts(folder: &std::path::Path) -> String {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}
