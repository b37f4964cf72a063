//! What people and their tools do, drawn from the seed before the run begins.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use jiff::Timestamp;
use regcred_api::names as marks;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep_until;

use crate::guard::{entries, is_marked};
use crate::names::{
    ACCOUNTS, CONFIG_SERVER, CONFIGS, CREDENTIALS, HOME, INVALID_INTERVAL, LABEL, NAMED, NAMESPACES, SOURCES,
    TARGETS,
};
use crate::server::{Key, Kind, Object, Refusal, Server, Store, Writer};
use crate::trace::{Trace, yaml};

/// Something that somebody does.
#[derive(Clone, Debug, Serialize)]
pub enum Action {
    /// Makes a namespace, labelled or not.
    MakeNamespace(&'static str, bool),
    /// Deletes a namespace.
    DeleteNamespace(&'static str),
    /// Puts the label on a namespace, or takes it off.
    Label(&'static str, bool),
    /// Opts a namespace out, or in again, by this value of the annotation.
    Exclude(&'static str, &'static str),
    /// Makes a ServiceAccount with entries of its own.
    MakeAccount(&'static str, &'static str),
    /// Deletes a ServiceAccount.
    DeleteAccount(&'static str, &'static str),
    /// Puts an entry of its own first on a list.
    AddEntry(&'static str, &'static str, &'static str),
    /// Takes the mark off a ServiceAccount.
    TakeMark(&'static str, &'static str),
    /// Puts back the list without entries of ours, as a GitOps tool does.
    Strip(&'static str, &'static str),
    /// Applies a RegistryCredential.
    Apply(&'static str, Value),
    /// Deletes a RegistryCredential.
    Delete(&'static str, &'static str),
    /// Writes a source with this password.
    WriteSource(&'static str, u32),
    /// Deletes a source.
    DeleteSource(&'static str),
    /// Writes a source that cannot be used.
    BreakSource(&'static str),
    /// Writes a source that holds a whole docker configuration, with this password.
    WriteConfig(&'static str, u32),
    /// Deletes whatever Secret has this name.
    DeleteSecret(&'static str, &'static str),
    /// Edits the data of a Secret.
    EditSecret(&'static str, &'static str),
    /// Makes a Secret of its own under this name.
    MakeForeign(&'static str, &'static str, bool),
    /// Copies a Secret with all its labels and annotations into another namespace.
    Clone(&'static str, &'static str, &'static str),
    /// Writes another UID on a copy.
    EditUid(&'static str, &'static str),
    /// Restores all copies of a namespace from the backup of another cluster: without owners, and with UIDs that
    /// mean nothing here.
    Restore(&'static str),
    /// Makes a Secret immutable.
    Freeze(&'static str, &'static str),
    /// Asks for a refresh.
    Refresh(&'static str, u32),
    /// Makes a webhook refuse in a namespace, or ends that.
    Refuse(&'static str, bool),
    /// Compacts the log: watches that come back with an older version list again.
    Compact,
}

/// What may be drawn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Scope {
    /// How many actions at most.
    pub actions: usize,
    /// Namespaces in use.
    pub namespaces: usize,
    /// RegistryCredentials in use.
    pub credentials: usize,
    /// How often the log is compacted at most.
    pub compactions: usize,
}

/// Actions and when they happen.
pub type Script = Vec<(Duration, Action)>;

/// The script of a seed: a cluster in order, then whatever happens to it within a minute.
pub fn script(rng: &mut Rng, scope: Scope) -> Script {
    let mut script = opening(rng, scope);
    for _ in 0..rng.usize(0..=scope.actions) {
        // Half of all that happens, happens at once with something else.
        let at = match script.last() {
            Some((at, _)) if rng.bool() => *at + Duration::from_millis(rng.u64(0..50)),
            _ => Duration::from_millis(rng.u64(2_000..60_000)),
        };
        script.push((at, action(rng, scope)));
    }
    for _ in 0..rng.usize(0..=scope.compactions) {
        script.push((Duration::from_millis(rng.u64(1_000..60_000)), Action::Compact));
    }
    script.sort_by_key(|(at, _)| *at);
    script
}

fn opening(rng: &mut Rng, scope: Scope) -> Script {
    // Somebody thinks that the sources' own namespace should be served, too.
    let mut script = vec![(Duration::ZERO, Action::Label(HOME, true))];
    let mut at = |rng: &mut Rng, action| {
        let early = if rng.bool() { 0 } else { rng.u64(0..3_000) };
        script.push((Duration::from_millis(early), action));
    };
    for namespace in &NAMESPACES[..scope.namespaces] {
        let labelled = rng.u8(0..4) != 0;
        at(rng, Action::MakeNamespace(namespace, labelled));
    }
    for source in SOURCES {
        at(rng, Action::WriteSource(source, 0));
    }
    for config in CONFIGS {
        at(rng, Action::WriteConfig(config, 0));
    }
    for credential in &CREDENTIALS[..scope.credentials] {
        let spec = spec(rng);
        at(rng, Action::Apply(credential, spec));
    }
    script
}

fn action(rng: &mut Rng, scope: Scope) -> Action {
    let namespace = NAMESPACES[rng.usize(0..scope.namespaces)];
    let other = NAMESPACES[rng.usize(0..scope.namespaces)];
    let account = ACCOUNTS[rng.usize(0..ACCOUNTS.len())];
    let target = TARGETS[rng.usize(0..TARGETS.len())];
    let credential = CREDENTIALS[rng.usize(0..scope.credentials)];
    let source = SOURCES[rng.usize(0..SOURCES.len())];
    match rng.u8(0..39) {
        0 | 1 => Action::MakeNamespace(namespace, true),
        2 => Action::DeleteNamespace(namespace),
        3..=5 => Action::Label(namespace, rng.bool()),
        6 => Action::Exclude(namespace, ["true", "True", "1", "false", ""][rng.usize(0..5)]),
        7 => Action::MakeAccount(namespace, account),
        8 => Action::DeleteAccount(namespace, account),
        9 => Action::AddEntry(namespace, account, ["own", "other", target][rng.usize(0..3)]),
        10 => Action::Strip(namespace, account),
        11..=14 => Action::Apply(credential, spec(rng)),
        15..=17 => Action::Delete(credential, ["Background", "Foreground", "Orphan"][rng.usize(0..3)]),
        18..=20 => Action::WriteSource(source, rng.u32(1..100)),
        21 => Action::DeleteSource(source),
        22 => Action::BreakSource(source),
        23 | 24 => Action::DeleteSecret(namespace, credential),
        25 => Action::EditSecret(namespace, target),
        26 => Action::MakeForeign(namespace, target, rng.bool()),
        27 => Action::Clone(namespace, other, target),
        31 => Action::Freeze(namespace, target),
        28 => Action::Refresh(credential, rng.u32(..)),
        33 => Action::TakeMark(namespace, account),
        34 => Action::EditUid(namespace, target),
        35 => Action::Restore(namespace),
        36 => Action::WriteConfig(CONFIGS[0], rng.u32(1..100)),
        37 => Action::DeleteSource(CONFIGS[0]),
        29 | 30 => Action::Refuse(namespace, rng.bool()),
        _ => Action::Compact,
    }
}

fn spec(rng: &mut Rng) -> Value {
    let namespaces = match rng.u8(0..4) {
        0 => json!({"from": "All"}),
        1 => json!({"matchNames": [NAMESPACES[rng.usize(0..4)], NAMED[rng.usize(0..NAMED.len())]]}),
        _ => json!({"selector": {"matchLabels": {LABEL: "yes"}}}),
    };
    let mut spec = json!({"registries": [registry(rng, "ghcr.io")], "namespaces": namespaces});
    if rng.u8(0..3) == 0 {
        spec["registries"] = json!([registry(rng, "ghcr.io"), registry(rng, "quay.io")]);
    }
    if rng.u8(0..5) == 0 {
        spec["dockerConfigSecretRefs"] = json!([{"name": CONFIGS[0]}]);
    }
    if rng.u8(0..4) == 0 {
        spec["deletionPolicy"] = json!("Retain");
    }
    if rng.u8(0..3) == 0 {
        let name = ["pull", "push", "alpha"][rng.usize(0..3)];
        spec["target"] = json!({"name": name});
    }
    if rng.bool() {
        spec["target"]["renameGracePeriod"] = json!(["0s", "20s"][rng.usize(0..2)]);
    }
    if rng.u8(0..16) == 0 {
        spec["refreshInterval"] = json!(INVALID_INTERVAL);
    }
    spec["suspend"] = json!(rng.u8(0..12) == 0);
    match rng.u8(0..5) {
        0 => spec["serviceAccounts"] = json!({"from": "All"}),
        4 => spec["serviceAccounts"] = json!({"from": "None"}),
        1 => spec["serviceAccounts"] = json!({"from": "Selected", "matchNames": ["default", "build*"]}),
        _ => {}
    }
    spec
}

fn registry(rng: &mut Rng, server: &str) -> Value {
    json!({"server": server, "source": {"secretRef": {"name": SOURCES[rng.usize(0..SOURCES.len())]}}})
}

/// Does everything of a script at its time.
pub async fn play(server: Server, trace: Trace, script: Script) {
    for (at, action) in script {
        sleep_until(server.started() + at).await;
        let done = server.clone().write(|store, now| act(&server, store, now, &action));
        let outcome =
            done.map_or_else(|refusal| format!("refused: {}", refusal.message), |()| "done".to_owned());
        trace.disturbed("people", &format!("{outcome}: {}", told(&action)));
    }
}

/// An action and whom it concerns, with a spec as YAML.
fn told(action: &Action) -> String {
    let value = serde_json::to_value(action).unwrap_or_default();
    let (name, arguments) = match value {
        Value::Object(variant) => variant.into_iter().next().unwrap_or_default(),
        name => return word(&name).trim_start().to_owned(),
    };
    let arguments = if let Value::Array(list) = arguments { list } else { vec![arguments] };
    name + &arguments.iter().map(word).collect::<String>()
}

/// An argument with what separates it from what is before it.
fn word(argument: &Value) -> String {
    match argument {
        Value::String(text) => format!(" {text}"),
        Value::Object(_) => yaml(argument),
        other => format!(" {other}"),
    }
}

type Done = Result<(), Refusal>;

fn act(server: &Server, store: &mut Store, now: Timestamp, action: &Action) -> Done {
    match action {
        Action::MakeNamespace(..) | Action::DeleteNamespace(_) | Action::Label(..) | Action::Exclude(..) => {
            act_on_namespace(store, now, action)
        }
        Action::MakeAccount(..)
        | Action::DeleteAccount(..)
        | Action::AddEntry(..)
        | Action::TakeMark(..)
        | Action::Strip(..) => act_on_account(store, now, action),
        Action::Apply(..) | Action::Delete(..) | Action::Refresh(..) => act_on_credential(store, now, action),
        Action::WriteSource(..)
        | Action::WriteConfig(..)
        | Action::DeleteSource(_)
        | Action::BreakSource(_) => act_on_source(store, now, action),
        Action::Refuse(namespace, true) => {
            server.refusing().insert((*namespace).to_owned());
            Ok(())
        }
        Action::Refuse(namespace, false) => {
            server.refusing().remove(*namespace);
            Ok(())
        }
        Action::Compact => {
            store.compact();
            Ok(())
        }
        _ => act_on_secret(store, now, action),
    }
}

fn act_on_namespace(store: &mut Store, now: Timestamp, action: &Action) -> Done {
    let key = |name: &str| Key::new(Kind::Namespace, "", name);
    match action {
        Action::MakeNamespace(name, labelled) => {
            let labels = if *labelled { json!({LABEL: "yes"}) } else { json!({}) };
            create(store, now, &key(name), json!({"metadata": {"labels": labels}}))
        }
        Action::DeleteNamespace(name) => store.delete(&key(name), None, now).map(drop),
        Action::Label(name, on) => edit(store, now, &key(name), |namespace| {
            namespace["metadata"]["labels"] = if *on { json!({LABEL: "yes"}) } else { json!({}) };
        }),
        Action::Exclude(name, value) => edit(store, now, &key(name), |namespace| {
            namespace["metadata"]["annotations"] = json!({marks::EXCLUDE_ANNOTATION: value});
        }),
        _ => Ok(()),
    }
}

fn act_on_account(store: &mut Store, now: Timestamp, action: &Action) -> Done {
    let key = |namespace: &str, name: &str| Key::new(Kind::ServiceAccount, namespace, name);
    match action {
        Action::MakeAccount(namespace, name) => create(
            store,
            now,
            &key(namespace, name),
            json!({"metadata": {}, "imagePullSecrets": [{"name": "own"}]}),
        ),
        Action::DeleteAccount(namespace, name) => store.delete(&key(namespace, name), None, now).map(drop),
        Action::AddEntry(namespace, name, entry) => edit(store, now, &key(namespace, name), |account| {
            let kept = entries(account).into_iter().filter(|own| own != entry).collect::<Vec<_>>();
            let all: Vec<_> = std::iter::once(*entry).chain(kept).map(|name| json!({"name": name})).collect();
            account["imagePullSecrets"] = json!(all);
        }),
        Action::TakeMark(namespace, name) => edit(store, now, &key(namespace, name), |account| {
            account["metadata"]["annotations"] = json!({});
        }),
        Action::Strip(namespace, name) => edit(store, now, &key(namespace, name), |account| {
            let kept = entries(account).into_iter().filter(|own| !TARGETS.contains(own));
            let kept: Vec<_> = kept.map(|name| json!({"name": name})).collect();
            account["imagePullSecrets"] = json!(kept);
        }),
        _ => Ok(()),
    }
}

fn act_on_credential(store: &mut Store, now: Timestamp, action: &Action) -> Done {
    let key = |name: &str| Key::new(Kind::RegistryCredential, "", name);
    match action {
        Action::Apply(name, spec) if store.get(&key(name)).is_none() => {
            create(store, now, &key(name), json!({"metadata": {}, "spec": spec}))
        }
        Action::Apply(name, spec) => edit(store, now, &key(name), |object| object["spec"] = spec.clone()),
        Action::Delete(name, propagation) => store.delete(&key(name), Some(propagation), now).map(drop),
        Action::Refresh(name, asked) => edit(store, now, &key(name), |object| {
            object["metadata"]["annotations"] = json!({marks::REQUESTED_AT_ANNOTATION: asked.to_string()});
        }),
        _ => Ok(()),
    }
}

fn act_on_source(store: &mut Store, now: Timestamp, action: &Action) -> Done {
    let key = |name: &str| Key::new(Kind::Secret, HOME, name);
    match action {
        Action::WriteSource(name, password) => {
            put(store, now, &key(name), &source(name, &format!("p{password}")))
        }
        Action::WriteConfig(name, password) => put(store, now, &key(name), &config(&format!("p{password}"))),
        Action::BreakSource(name) => put(store, now, &key(name), &source("", "p")),
        Action::DeleteSource(name) => store.delete(&key(name), None, now).map(drop),
        _ => Ok(()),
    }
}

fn source(user: &str, password: &str) -> Value {
    let data = json!({"username": STANDARD.encode(user), "password": STANDARD.encode(password)});
    json!({"metadata": {}, "type": "kubernetes.io/basic-auth", "data": data})
}

fn config(password: &str) -> Value {
    let config = json!({"auths": {CONFIG_SERVER: {"auth": STANDARD.encode(format!("u:{password}"))}}});
    let data = json!({marks::SECRET_KEY: STANDARD.encode(config.to_string())});
    json!({"metadata": {}, "type": marks::SECRET_TYPE, "data": data})
}

fn act_on_secret(store: &mut Store, now: Timestamp, action: &Action) -> Done {
    let key = |namespace: &str, name: &str| Key::new(Kind::Secret, namespace, name);
    match action {
        Action::DeleteSecret(namespace, name) => store.delete(&key(namespace, name), None, now).map(drop),
        Action::EditSecret(namespace, name) => edit(store, now, &key(namespace, name), |secret| {
            secret["data"][marks::SECRET_KEY] = json!(STANDARD.encode(r#"{"auths":{}}"#));
        }),
        Action::Freeze(namespace, name) => {
            edit(store, now, &key(namespace, name), |secret| secret["immutable"] = json!(true))
        }
        Action::EditUid(namespace, name) => edit(store, now, &key(namespace, name), |secret| {
            secret["metadata"]["annotations"][marks::CREDENTIAL_UID_ANNOTATION] = json!("edited");
        }),
        Action::Restore(namespace) => {
            let copies = TARGETS.iter().map(|name| key(namespace, name));
            let is_copy = |key: &Key| store.get(key).is_some_and(|secret| is_marked(secret));
            let copies: Vec<Key> = copies.filter(is_copy).collect();
            copies.iter().try_for_each(|copy| restore(store, now, copy))
        }
        Action::MakeForeign(namespace, name, docker) => {
            let kind = if *docker { marks::SECRET_TYPE } else { "Opaque" };
            let data = json!({marks::SECRET_KEY: STANDARD.encode(r#"{"auths":{}}"#)});
            create(store, now, &key(namespace, name), json!({"metadata": {}, "type": kind, "data": data}))
        }
        Action::Clone(from, to, name) => {
            let mut copy = (*store.find(&key(from, name))?).clone();
            let metadata = &copy["metadata"];
            let kept = json!({"labels": metadata["labels"], "annotations": metadata["annotations"]});
            copy["metadata"] = kept;
            create(store, now, &key(to, name), copy)
        }
        _ => Ok(()),
    }
}

fn restore(store: &mut Store, now: Timestamp, key: &Key) -> Done {
    let mut secret = (*store.find(key)?).clone();
    store.delete(key, None, now)?;
    let mut metadata =
        json!({"labels": secret["metadata"]["labels"], "annotations": secret["metadata"]["annotations"]});
    metadata["annotations"][marks::CREDENTIAL_UID_ANNOTATION] = json!("of-another-cluster");
    secret["metadata"] = metadata;
    create(store, now, key, secret)
}

fn create(store: &mut Store, now: Timestamp, key: &Key, object: Value) -> Done {
    store.create(key, object, &writer(), now).map(drop)
}

fn edit(store: &mut Store, now: Timestamp, key: &Key, change: impl FnOnce(&mut Value)) -> Done {
    let object: Object = store.find(key)?;
    let mut changed = (*object).clone();
    change(&mut changed);
    store.update(key, changed, &writer(), now).map(drop)
}

/// Writes an object whatever stands there: one of another type goes first.
fn put(store: &mut Store, now: Timestamp, key: &Key, object: &Value) -> Done {
    match store.get(key) {
        Some(_) => edit(store, now, key, |stands| stands["data"] = object["data"].clone()),
        None => create(store, now, key, object.clone()),
    }
}

fn writer() -> Writer {
    Writer { manager: "kubectl-edit".to_owned(), operation: "Update", status: false }
}
