//! What the cluster should look like once everything rests, worked out from the specs in the simplest way, and what
//! is different.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regcred_api::names;
use serde_json::Value;

use crate::guard::{entries, is_marked};
use crate::names::{HOME, LABEL, TARGETS};
use crate::server::{Key, Kind, Object, Store, is_terminating};

/// Entries carry no mark yet: a process that did not put them there takes one for its own only beside a copy.
const FORGETS_ENTRIES_WITHOUT_COPY: bool = true;

/// What a run was, as far as that tells what may be left at its end.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// More than one process had a hand in it.
    pub restarted: bool,
    /// Some credential retained what it put somewhere, or left lists alone that it once wrote.
    pub retained: bool,
}

/// Everything that is not as it should be.
pub fn problems(store: &Store, past: Past) -> Vec<String> {
    let view = View::new(store, past);
    let mut problems = view.deletions();
    for namespace in &view.namespaces {
        view.check_namespace(namespace, &mut problems);
    }
    for credential in &view.credentials {
        view.check_status(credential, &mut problems);
    }
    problems
}

struct View<'a> {
    store: &'a Store,
    past: Past,
    /// Not being deleted, the older first.
    credentials: Vec<Object>,
    /// Not being deleted.
    namespaces: Vec<Object>,
}

/// What a namespace should hold under one name.
struct Place<'a> {
    namespace: &'a str,
    target: &'a str,
    credential: &'a Value,
}

impl<'a> View<'a> {
    fn new(store: &'a Store, past: Past) -> Self {
        let alive = |kind| {
            let all = store.list(kind, None).into_iter();
            all.filter(|object| !is_terminating(object)).collect::<Vec<_>>()
        };
        let mut credentials = alive(Kind::RegistryCredential);
        credentials.sort_by_key(|object| (text(object, "creationTimestamp"), text(object, "name")));
        Self { store, past, credentials, namespaces: alive(Kind::Namespace) }
    }

    fn deletions(&self) -> Vec<String> {
        let all = self.store.list(Kind::RegistryCredential, None).into_iter();
        let left = all.filter(|object| is_terminating(object));
        left.map(|object| format!("RegistryCredential {} is still being deleted", text(&object, "name")))
            .collect()
    }

    /// The credential that has each target name in a namespace.
    fn winners(&self, namespace: &Value) -> BTreeMap<&str, &Value> {
        let mut winners = BTreeMap::new();
        for credential in self.credentials.iter().filter(|credential| selects(credential, namespace)) {
            winners.entry(target(credential)).or_insert(&**credential);
        }
        winners
    }

    fn check_namespace(&self, namespace: &Value, problems: &mut Vec<String>) {
        let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
        let winners = self.winners(namespace);
        for target in TARGETS {
            match winners.get(target) {
                Some(credential) => {
                    self.check_wanted(&Place { namespace: name, target, credential }, problems);
                }
                None => self.check_unwanted(name, target, problems),
            }
        }
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<&Object> {
        self.store.get(&Key::new(Kind::Secret, namespace, name))
    }

    fn check_wanted(&self, place: &Place<'_>, problems: &mut Vec<String>) {
        let Place { namespace, target, credential } = place;
        if is_suspended(credential) {
            return;
        }
        let secret = self.secret(namespace, target);
        if secret.is_some_and(|secret| !self.is_copy(secret)) {
            return;
        }
        if let Some(wanted) = self.given(credential) {
            let held = secret.map(|secret| content(secret));
            if held.as_ref() != Some(&wanted) {
                problems
                    .push(format!("Secret {namespace}/{target} holds {held:?} and should hold {wanted:?}"));
            }
            if secret.is_some_and(|secret| !is_copy_of(secret, credential)) {
                problems
                    .push(format!("Secret {namespace}/{target} is not marked as the copy of its credential"));
            }
        }
        if credential["spec"]["serviceAccounts"]["from"] != "None" {
            self.check_lists(place, problems);
        }
    }

    fn check_lists(&self, place: &Place<'_>, problems: &mut Vec<String>) {
        let Place { namespace, target, credential } = place;
        for account in self.store.list(Kind::ServiceAccount, Some(namespace)) {
            let name = text(&account, "name");
            let count = entries(&account).iter().filter(|entry| *entry == target).count();
            let wanted = usize::from(selects_account(credential, &name));
            if count != wanted {
                problems.push(format!(
                    "ServiceAccount {namespace}/{name} lists {target} {count} times instead of {wanted}"
                ));
            }
        }
    }

    fn check_unwanted(&self, namespace: &str, target: &str, problems: &mut Vec<String>) {
        let secret = self.secret(namespace, target);
        if let Some(secret) = secret {
            let owner = self.credentials.iter().find(|credential| is_copy_of(secret, credential));
            if owner.is_some_and(|owner| !is_suspended(owner)) {
                problems.push(format!("Secret {namespace}/{target} is left over"));
            }
            return;
        }
        let idle = |credential: &&Object| is_suspended(credential) && self::target(credential) == target;
        if self.past.retained || self.credentials.iter().any(|credential| idle(&credential)) {
            return;
        }
        if self.past.restarted && FORGETS_ENTRIES_WITHOUT_COPY {
            return;
        }
        for account in self.store.list(Kind::ServiceAccount, Some(namespace)) {
            if entries(&account).contains(&target) {
                problems.push(format!(
                    "ServiceAccount {namespace}/{} still lists {target}",
                    text(&account, "name")
                ));
            }
        }
    }

    fn is_copy(&self, secret: &Value) -> bool {
        is_marked(secret) && self.credentials.iter().any(|credential| is_copy_of(secret, credential))
    }

    /// What the sources of a credential give, by server; `None` if one gives nothing.
    fn given(&self, credential: &Value) -> Option<BTreeMap<String, String>> {
        let registries = credential["spec"]["registries"].as_array()?;
        registries
            .iter()
            .map(|registry| Some((registry["server"].as_str()?.to_owned(), self.login(registry)?)))
            .collect()
    }

    fn login(&self, registry: &Value) -> Option<String> {
        let name = registry["source"]["secretRef"]["name"].as_str()?;
        let source = self.store.get(&Key::new(Kind::Secret, HOME, name))?;
        let member = |key: &str| decoded(&source["data"][key]).filter(|text| !text.is_empty());
        Some(format!("{}:{}", member("username")?, member("password")?))
    }

    fn check_status(&self, credential: &Object, problems: &mut Vec<String>) {
        if is_suspended(credential) {
            return;
        }
        let name = text(credential, "name");
        let status = &credential["status"];
        if status["observedGeneration"] != credential["metadata"]["generation"] {
            problems.push(format!("status of {name} speaks of another generation"));
        }
        let matched = self.namespaces.iter().filter(|namespace| selects(credential, namespace)).count();
        if status["namespaces"]["matched"] != matched {
            let told = &status["namespaces"]["matched"];
            problems.push(format!("status of {name} tells of {told} namespaces, and there are {matched}"));
        }
        let ready = self.is_served(credential);
        let told = condition(status, "Ready");
        if (told == "True") != ready {
            problems.push(format!("status of {name} says Ready={told}, and ready is {ready}"));
        }
    }

    /// Whether nothing stands in the way of a credential anywhere.
    fn is_served(&self, credential: &Object) -> bool {
        let selected = self.namespaces.iter().filter(|namespace| selects(credential, namespace));
        let free = |namespace: &Object| {
            let name = text(namespace, "name");
            let winner = self.winners(namespace).get(target(credential)).map(|winner| text(winner, "uid"));
            let foreign = self.secret(&name, target(credential)).is_some_and(|secret| !self.is_copy(secret));
            winner == Some(text(credential, "uid")) && !foreign
        };
        self.given(credential).is_some() && selected.into_iter().all(free)
    }
}

fn text(object: &Value, member: &str) -> String {
    object["metadata"][member].as_str().unwrap_or_default().to_owned()
}

fn is_suspended(credential: &Value) -> bool {
    credential["spec"]["suspend"] == true
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a str {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default()
}

fn target(credential: &Value) -> &str {
    credential["spec"]["target"]["name"]
        .as_str()
        .or(credential["metadata"]["name"].as_str())
        .unwrap_or_default()
}

fn is_copy_of(secret: &Value, credential: &Value) -> bool {
    let uid = &credential["metadata"]["uid"];
    secret["metadata"]["annotations"][names::CREDENTIAL_UID_ANNOTATION] == *uid
}

fn selects(credential: &Value, namespace: &Value) -> bool {
    let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
    let selection = &credential["spec"]["namespaces"];
    let excluded = namespace["metadata"]["annotations"][names::EXCLUDE_ANNOTATION] == "true";
    let listed = strings(&selection["matchNames"]).contains(name);
    let labelled = selection["selector"].is_object() && namespace["metadata"]["labels"][LABEL] == "yes";
    let all = selection["from"] == "All" && name != HOME;
    !excluded && !is_terminating(namespace) && (listed || labelled || all)
}

fn selects_account(credential: &Value, name: &str) -> bool {
    let selection = &credential["spec"]["serviceAccounts"];
    if selection.is_null() {
        return name == "default";
    }
    let matches =
        |pattern: &&str| pattern.strip_suffix('*').map_or(*pattern == name, |start| name.starts_with(start));
    selection["from"] == "All" || strings(&selection["matchNames"]).iter().any(matches)
}

fn strings(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn decoded(text: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(text.as_str()?).ok()?).ok()
}

/// What a copy holds, by server.
fn content(secret: &Value) -> BTreeMap<String, String> {
    let text = decoded(&secret["data"][names::SECRET_KEY]).unwrap_or_default();
    let config: Value = serde_json::from_str(&text).unwrap_or_default();
    let auths = config["auths"].as_object().into_iter().flatten();
    auths.map(|(server, entry)| (server.clone(), decoded(&entry["auth"]).unwrap_or_default())).collect()
}
