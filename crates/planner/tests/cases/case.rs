//! A case as its file says it, and the world that it means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use regcred_planner::{
    Credential, Gate, ListPatch, Marks, Memory, Namespace, Plan, Precondition, Removal, Secret, SecretCopy,
    ServiceAccount, Settings, Step, StepError, Trust, World,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::fixture;

/// One world, what happened in it before, and what the API server answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Case {
    /// What the case shows, in one sentence.
    pub(crate) rule: String,
    #[serde(default)]
    namespace: NamespaceCase,
    /// The only target names that the operator may write; empty: any.
    #[serde(default)]
    target_names: Vec<String>,
    /// By name: fields of `spec`, and those of [`CredentialCase`].
    credentials: BTreeMap<String, CredentialCase>,
    #[serde(default)]
    secrets: BTreeMap<String, SecretCase>,
    #[serde(default)]
    service_accounts: BTreeMap<String, ServiceAccountCase>,
    #[serde(default)]
    history: Vec<Event>,
    /// Errors that the API server answers, by object, as in `Secret pull`. Every other step succeeds.
    #[serde(default)]
    answers: BTreeMap<String, String>,
    /// Written by the test.
    #[serde(default, rename = "plan")]
    _plan: String,
    /// Written by the test.
    #[serde(default, rename = "status")]
    _status: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NamespaceCase {
    name: Option<String>,
    labels: BTreeMap<String, String>,
    excluded: bool,
    terminating: bool,
    own: bool,
}

#[derive(Default, Deserialize)]
struct CredentialCase {
    /// A larger number is a younger credential.
    #[serde(default)]
    created: i64,
    uid: Option<String>,
    #[serde(default)]
    deleting: bool,
    #[serde(default)]
    finalized: Option<bool>,
    /// What its sources give; `missing`: nothing.
    source: Option<String>,
    /// Two sources have different credentials for one server, told in these words.
    conflict: Option<String>,
    /// Everything else is its spec.
    #[serde(flatten)]
    spec: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as in the Secret that was observed")]
struct SecretCase {
    /// The name of the credential it was made for. Without it the Secret is foreign.
    copy_of: Option<String>,
    foreign: bool,
    /// What it holds, where that is not what the source gives now.
    content: Option<String>,
    /// Labels, annotations or `ownerReference` that somebody removed.
    without: Vec<String>,
    /// The UID that the annotation gives, where it is not the credential's.
    credential_uid: Option<String>,
    /// The credential that left it by Retain.
    retained_from: Option<String>,
    /// When the copy under the present name came into place.
    superseded_at: Option<String>,
    /// The field manager that last wrote the data.
    manager: Option<String>,
    /// It has an ownerReference although the spec says Retain.
    owned: bool,
    data_edited: bool,
    immutable: bool,
    terminating: bool,
    /// The finalizer that it waits for.
    held_by: Option<String>,
    wrong_type: bool,
    /// It was seen as a copy in full before somebody changed its marks.
    known: bool,
    /// Somebody wrote it since our own last write.
    doubtful: bool,
    version: u64,
}

impl Default for SecretCase {
    fn default() -> Self {
        Self {
            copy_of: None,
            foreign: false,
            content: None,
            without: Vec::new(),
            credential_uid: None,
            retained_from: None,
            superseded_at: None,
            manager: None,
            owned: false,
            data_edited: false,
            immutable: false,
            terminating: false,
            held_by: None,
            wrong_type: false,
            known: false,
            doubtful: false,
            version: 1,
        }
    }
}

/// A ServiceAccount, or only its `imagePullSecrets`.
#[derive(Deserialize)]
#[serde(untagged)]
enum ServiceAccountCase {
    List(Vec<String>),
    Whole(WholeServiceAccount),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct WholeServiceAccount {
    list: Vec<String>,
    labels: BTreeMap<String, String>,
    excluded: bool,
    terminating: bool,
    /// Who last wrote the list.
    manager: Option<String>,
    /// Names that are marked as ours although the list does not have them.
    marked: Vec<String>,
    uid: Option<String>,
    version: Option<u64>,
}

/// Something that an earlier pass found or did.
#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    /// We did it: `apply pull`, `delete pull`, `attach pull to default`, `detach pull from default`.
    Done {
        done: String,
        ago: String,
        #[serde(default = "once")]
        times: u32,
    },
    /// A write of the object failed.
    Failed {
        failed: String,
        error: String,
        ago: String,
        #[serde(default = "once")]
        times: u32,
    },
}

fn once() -> u32 {
    1
}

/// When every case happens.
pub(crate) fn now() -> Timestamp {
    fixture::at(100_000)
}

impl Case {
    /// What the operator observes and remembers.
    pub(crate) fn world(&self) -> World {
        let settings = self.settings();
        let credentials = self.credentials.iter();
        let credentials: Vec<_> =
            credentials.map(|(name, case)| Arc::new(case.credential(name, &settings))).collect();
        let secrets = self.secrets.iter().map(|(name, case)| (Arc::from(name.as_str()), self.secret(case)));
        let accounts = self.service_accounts.iter();
        let accounts = accounts.map(|(name, case)| (Arc::from(name.as_str()), case.service_account(name)));
        let mut world = World {
            namespace: self.namespace.namespace(),
            secrets: secrets.collect(),
            service_accounts: accounts.collect(),
            credentials: Arc::from(credentials),
            memory: Memory::default(),
        };
        for event in &self.history {
            remember(&mut world, event);
        }
        world
    }

    /// What the API server answers to this step.
    pub(crate) fn answer(&self, object: &str) -> Result<(), StepError> {
        self.answers.get(object).map_or(Ok(()), |error| Err(step_error(error)))
    }

    /// Objects for which an answer is given.
    pub(crate) fn answered(&self) -> BTreeSet<&str> {
        self.answers.keys().map(String::as_str).collect()
    }

    /// Whether the sources of a credential give nothing.
    pub(crate) fn source_is_missing(&self, name: &str) -> bool {
        self.credentials[name].content().is_none()
    }

    /// In which words two sources of a credential differ.
    pub(crate) fn conflict(&self, name: &str) -> Option<&str> {
        self.credentials[name].conflict.as_deref()
    }

    fn secret(&self, case: &SecretCase) -> Secret {
        assert!(case.foreign == case.copy_of.is_none(), "a Secret is foreign or a copy of a credential");
        let ours = case.copy_of.as_ref().map(|name| marks(&self.copy(name, case.content.as_deref()), case));
        let retained = case
            .retained_from
            .as_deref()
            .map(|name| Marks { retained_from: Some(Arc::from(name)), ..Marks::default() });
        let owns_data = ours.is_some() && !case.data_edited;
        let credential = || Some(self.copy(case.copy_of.as_ref()?, None).credential_uid.clone());
        Secret {
            uid: Arc::from("uid-secret"),
            resource_version: Arc::from(case.version.to_string()),
            terminating: case.terminating,
            held_by: case.held_by.as_deref().map(Arc::from),
            wrong_type: case.wrong_type,
            immutable: case.immutable,
            owns_data,
            manager: case.manager.as_deref().map(Arc::from),
            copy_of: match &ours {
                _ if case.known => credential(),
                Some(marks) => marks.in_full(owns_data).cloned(),
                None => None,
            },
            trust: if case.doubtful { Trust::Doubtful } else { Trust::Confirmed },
            marks: ours.or(retained).map(Arc::new),
        }
    }

    /// The copy of a credential, also of one that no longer exists or whose spec is invalid.
    fn copy(&self, name: &str, content: Option<&str>) -> Arc<SecretCopy> {
        let case = self.credentials.get(name);
        let content = content.or_else(|| case?.content()).or(Some("v1"));
        let valid = || CredentialCase::default().with_content(name, content, &self.settings());
        let copy = case.and_then(|case| case.with_content(name, content, &self.settings()).copy);
        copy.or_else(|| valid().copy).unwrap()
    }

    fn settings(&self) -> Settings {
        Settings { target_names: self.target_names.clone() }
    }
}

impl NamespaceCase {
    fn namespace(&self) -> Namespace {
        Namespace {
            labels: Arc::new(self.labels.clone()),
            excluded: self.excluded,
            terminating: self.terminating,
            is_own: self.own,
            ..fixture::namespace(self.name.as_deref().unwrap_or("team-a"))
        }
    }
}

impl CredentialCase {
    fn content(&self) -> Option<&str> {
        Some(self.source.as_deref().unwrap_or("v1")).filter(|content| *content != "missing")
    }

    fn credential(&self, name: &str, settings: &Settings) -> Credential {
        let credential = self.with_content(name, self.content(), settings);
        Credential {
            created: fixture::at(self.created),
            deleting: self.deleting,
            finalized: self.finalized.unwrap_or(true),
            uid: self.uid.as_deref().map_or(credential.uid, Arc::from),
            ..credential
        }
    }

    fn with_content(&self, name: &str, content: Option<&str>, settings: &Settings) -> Credential {
        let spec = fixture::spec(&Value::Object(self.spec.clone()));
        fixture::credential_under(settings, name, &spec, content)
    }
}

impl ServiceAccountCase {
    fn service_account(&self, name: &str) -> ServiceAccount {
        match self {
            Self::List(list) => listing(name, list),
            Self::Whole(whole) => ServiceAccount {
                marked: marked(&whole.list)
                    .chain(whole.marked.iter().map(String::as_str))
                    .map(Arc::from)
                    .collect(),
                uid: whole.uid.as_deref().map_or_else(|| uid_of(name), Arc::from),
                resource_version: Arc::from(whole.version.unwrap_or(1).to_string()),
                labels: Arc::new(whole.labels.clone()),
                excluded: whole.excluded,
                terminating: whole.terminating,
                list_manager: whole.manager.as_deref().map(Arc::from),
                ..listing(name, &whole.list)
            },
        }
    }
}

/// A ServiceAccount with this list, in which `*` follows what regcred put there.
fn listing(name: &str, list: &[String]) -> ServiceAccount {
    let names = list.iter().map(|entry| Arc::from(entry.trim_end_matches('*'))).collect();
    ServiceAccount {
        uid: uid_of(name),
        marked: marked(list).map(Arc::from).collect(),
        ..fixture::service_account(names)
    }
}

fn uid_of(account: &str) -> Arc<str> {
    Arc::from(format!("uid-{account}"))
}

fn marked(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter().filter_map(|name| name.strip_suffix('*'))
}

/// What regcred's field manager still owns of a copy.
fn marks(copy: &SecretCopy, case: &SecretCase) -> Marks {
    let kept = |map: &BTreeMap<String, String>| {
        let mut map = map.clone();
        map.retain(|key, _| !case.without.contains(key));
        map
    };
    let mut annotations = kept(&copy.annotations);
    if let Some(at) = &case.superseded_at {
        annotations.insert("regcred.dev/superseded-at".to_owned(), before(at).to_string());
    }
    let has = |key: &str| !case.without.iter().any(|removed| removed == key);
    let owned = (copy.owned || case.owned) && has("ownerReference");
    let owner_uid = owned.then(|| copy.credential_uid.clone());
    Marks {
        credential_uid: match &case.credential_uid {
            Some(uid) => Some(Arc::from(uid.as_str())),
            None => has("regcred.dev/credential-uid").then(|| copy.credential_uid.clone()),
        },
        credential_name: has("regcred.dev/credential").then(|| copy.credential_name.clone()),
        labels: kept(&copy.labels),
        annotations,
        owns_more: false,
        owner_uid,
        retained_from: None,
    }
}

fn remember(world: &mut World, event: &Event) {
    match event {
        Event::Done { done, ago, times } => {
            for _ in 0..*times {
                let plan = Plan { steps: vec![step(world, done)], ..Plan::default() };
                world.memory.record(&plan, &[Ok(())], before(ago));
            }
        }
        Event::Failed { failed, error, ago, times } => {
            for _ in 0..*times {
                let plan = Plan { steps: vec![write(failed)], ..Plan::default() };
                world.memory.record(&plan, &[Err(step_error(error))], before(ago));
            }
        }
    }
}

/// The step that a sentence like `attach pull to default` means.
fn step(world: &World, done: &str) -> Step {
    let copy = |name: &str| {
        let copies = world.credentials.iter().filter_map(|credential| credential.copy.clone());
        copies.into_iter().find(|copy| *copy.name == *name).unwrap()
    };
    match done.split(' ').collect::<Vec<_>>()[..] {
        ["apply", name] => Step::ApplySecret { copy: copy(name), over: None },
        ["verify", name] => {
            let over = Precondition { uid: Arc::from("uid-secret"), resource_version: Arc::from("1") };
            Step::VerifySecret { copy: copy(name), over }
        }
        ["delete", name] => Step::DeleteSecret(removal(name)),
        ["attach", name, "to", account] => patch(account, &[name], &[]),
        ["detach", name, "from", account] => patch(account, &[], &[name]),
        _ => panic!("{done} is nothing that a step does"),
    }
}

/// Some write of this object, planned from its version 1.
fn write(object: &str) -> Step {
    match object.split_once(' ').unwrap() {
        ("Secret", name) => Step::DeleteSecret(removal(name)),
        ("ServiceAccount", name) => patch(name, &[], &[]),
        _ => panic!("{object} is neither a Secret nor a ServiceAccount"),
    }
}

fn removal(secret: &str) -> Removal {
    let over = Precondition { uid: Arc::from("uid-secret"), resource_version: Arc::from("1") };
    Removal {
        name: Arc::from(secret),
        over,
        credential: Arc::from("uid"),
        credential_name: Arc::from("pull"),
    }
}

fn patch(account: &str, attach: &[&str], detach: &[&str]) -> Step {
    let names = |names: &[&str]| names.iter().copied().map(Arc::from).collect();
    Step::PatchServiceAccount(ListPatch {
        name: Arc::from(account),
        uid: uid_of(account),
        resource_version: Arc::from("1"),
        list: Vec::new(),
        attach: names(attach),
        detach: names(detach),
        unmark: BTreeSet::new(),
        marked: BTreeSet::new(),
    })
}

fn before(ago: &str) -> Timestamp {
    now() - ago.parse::<SignedDuration>().unwrap()
}

fn step_error(name: &str) -> StepError {
    match name {
        "Conflict" => StepError::Conflict,
        "Gone" => StepError::Gone,
        "NamespaceTerminating" => StepError::NamespaceTerminating,
        "NameConflict" => StepError::NameConflict,
        "AdoptNotAllowed" => StepError::AdoptNotAllowed,
        "TypeMismatch" => StepError::TypeMismatch,
        "Forbidden" => StepError::Forbidden,
        "Undone" => StepError::Undone,
        "QuotaExceeded" => StepError::QuotaExceeded,
        "Denied" => StepError::Denied(Gate::Webhook(Some("policy.example.com"))),
        "DeniedCopy" => StepError::DeniedCopy(Gate::Webhook(Some("policy.example.com"))),
        "WebhookUnavailable" => StepError::WebhookUnavailable(Gate::Webhook(Some("policy.example.com"))),
        "Immutable" => StepError::Immutable,
        "Rejected" => StepError::Rejected(422),
        "TooLarge" => StepError::TooLarge,
        "TooManyRequests" => StepError::Unavailable { code: 429, retry_after: 30 },
        "NoAnswer" => StepError::NoAnswer,
        _ => panic!("{name} is no error that a step can have"),
    }
}
