//! What an admin is told of a step: a first copy, another content, or that somebody had undone something.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::{at, credential, foreign_secret, namespace, service_account, spec};
use regcred_api::names;
use regcred_planner::{
    Change, ChangeKind, Credential, Marks, Memory, Secret, ServiceAccount, Step, StepError, Trust, World,
    changes, plan,
};
use serde_json::json;

fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn world(credential: Credential, secret: Option<Secret>, account: ServiceAccount) -> World {
    World {
        namespace: namespace("shop"),
        secrets: secret.map(|secret| (name("pull"), secret)).into_iter().collect(),
        service_accounts: BTreeMap::from([(name("default"), account)]),
        credentials: [Arc::new(credential)].into(),
        memory: Memory::default(),
    }
}

fn pull(content: &str) -> Credential {
    credential("pull", &spec(&json!({})), Some(content))
}

/// A copy with this content, as it is observed.
fn copy(content: &str) -> Secret {
    let desired = pull(content).copy.unwrap();
    let marks = Marks {
        credential_uid: Some(desired.credential_uid.clone()),
        credential_name: Some(name("pull")),
        labels: desired.labels.clone(),
        annotations: desired.annotations.clone(),
        owner_uid: desired.owned.then(|| desired.credential_uid.clone()),
        ..Marks::default()
    };
    let copy_of = Some(desired.credential_uid.clone());
    Secret { owns_data: true, marks: Some(Arc::new(marks)), copy_of, ..foreign_secret() }
}

fn attached() -> ServiceAccount {
    ServiceAccount { marked: vec![name("pull")], ..service_account(vec![name("pull")]) }
}

/// What all steps of the plan change, where each succeeds.
fn changed(world: &World, had_copy: bool) -> Vec<ChangeKind> {
    let plan = plan(world, at(0));
    let changes = plan.steps.iter().flat_map(|step| changes(world, &plan, step, Ok(()), |_, _| had_copy));
    let kind = |change: Change| {
        assert_eq!(&*change.credential, "pull");
        change.kind
    };
    changes.map(kind).collect()
}

fn mended(undone_by: &str) -> ChangeKind {
    ChangeKind::Mended { undone_by: undone_by.to_owned() }
}

#[test]
fn a_new_namespace_gets_its_copy_and_its_entries() {
    let world = world(pull("1"), None, service_account(Vec::new()));
    assert_eq!(changed(&world, false), [ChangeKind::Attached, ChangeKind::Made]);
}

#[test]
fn another_content_is_no_drift() {
    let world = world(pull("2"), Some(copy("1")), attached());
    assert_eq!(changed(&world, true), [ChangeKind::Updated]);
}

#[test]
fn a_copy_that_somebody_deleted_is_mended() {
    let world = world(pull("1"), None, attached());
    assert_eq!(changed(&world, true), [mended("somebody")]);
}

#[test]
fn whoever_edited_a_copy_is_named() {
    let edited = Secret { owns_data: false, manager: Some(name("kubectl-edit")), ..copy("1") };
    let world = world(pull("1"), Some(edited), attached());
    assert_eq!(changed(&world, true), [mended("the field manager \"kubectl-edit\"")]);
}

#[test]
fn a_copy_without_its_fingerprint_is_mended() {
    let mut marks = copy("1").marks.as_deref().cloned().unwrap();
    marks.annotations.remove(names::FINGERPRINT_ANNOTATION);
    let edited = Secret { marks: Some(Arc::new(marks)), ..copy("1") };
    let world = world(pull("1"), Some(edited), attached());
    assert_eq!(changed(&world, true), [mended("somebody")]);
}

#[test]
fn an_entry_that_somebody_took_off_is_mended() {
    let manager = Some(name("helm"));
    let account = ServiceAccount { image_pull_secrets: Vec::new(), list_manager: manager, ..attached() };
    let world = world(pull("1"), Some(copy("1")), account);
    assert_eq!(changed(&world, true), [mended("the field manager \"helm\"")]);
}

#[test]
fn what_is_not_wanted_any_more_is_taken_off_and_deleted() {
    let gone = Credential { deleting: true, ..pull("1") };
    assert_eq!(
        changed(&world(gone, Some(copy("1")), attached()), true),
        [ChangeKind::Detached, ChangeKind::Deleted]
    );
    let retained = spec(&json!({"deletionPolicy": "Retain"}));
    let left = Credential { deleting: true, ..credential("pull", &retained, Some("1")) };
    // Its entries stay, too.
    assert_eq!(changed(&world(left, Some(copy("1")), attached()), true), [ChangeKind::Left]);
}

#[test]
fn a_look_that_finds_other_data_mends_it_and_one_that_finds_none_changes_nothing() {
    let doubtful = Secret { trust: Trust::Doubtful, ..copy("1") };
    let world = world(pull("1"), Some(doubtful), attached());
    let plan = plan(&world, at(0));
    let [step @ Step::VerifySecret { .. }] = &plan.steps[..] else { panic!("{plan:?}") };
    let of = |result| changes(&world, &plan, step, result, |_, _| true);
    assert_eq!(of(Ok(())), []);
    assert_eq!(of(Err(StepError::NoAnswer)), []);
    assert_eq!(of(Err(StepError::Undone))[0].kind, mended("somebody"));
}
