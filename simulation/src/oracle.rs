//! What the cluster should look like once everything rests, worked out from the specs in the simplest way, and what
//! is different.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use regcred_api::names;
use serde_json::Value;

use crate::guard::{entries, is_marked, marked};
use crate::issuer::Issuer;
use crate::names::{HOME, INVALID_INTERVAL, LABEL, TARGETS};
use crate::registry;
use crate::server::{Key, Kind, Object, Store, is_terminating};

/// Of a deletion that takes long and says nothing.
pub const UNTOLD: &str = "and status does not say why";

/// Everything that is not as it should be.
///
/// `refused`: the namespace in which a webhook refuses every write for good. What is wrong there must be told in status.
pub fn problems(store: &Store, issuer: &Issuer, refused: Option<&str>) -> Vec<String> {
    let view = View::new(store, issuer, refused);
    let mut problems = view.deletions();
    for namespace in &view.namespaces {
        let mut found = Vec::new();
        view.check_namespace(namespace, &mut found);
        problems.extend(view.unnamed(namespace, found));
    }
    for credential in &view.credentials {
        view.check_status(credential, &mut problems);
    }
    problems
}

/// Whether some status tells of something that is not in place.
pub fn tells_of_failures(store: &Store) -> bool {
    let all = store.list(Kind::RegistryCredential, None).into_iter();
    let mut failures = all.map(|object| object["status"]["failures"].as_array().map_or(0, Vec::len));
    failures.any(|count| count > 0)
}

/// Whether a registry is to be asked before `end`, as some status says: one that gave no answer, as a rule.
pub fn asks_registries_by(store: &Store, end: Timestamp) -> bool {
    let all = store.list(Kind::RegistryCredential, None);
    let registries = all.iter().filter_map(|object| object["status"]["registries"].as_array()).flatten();
    let mut checks = registries.filter_map(|registry| registry["verification"]["nextCheckAt"].as_str());
    checks.any(|at| at.parse::<Timestamp>().is_ok_and(|at| at <= end))
}

/// The RegistryCredentials of which a new process knows less, and says so in one status.
pub fn less_known_after_a_start(store: &Store, issuer: &Issuer) -> BTreeSet<String> {
    let mut names = with_edited_leftovers(store, issuer);
    names.extend(with_failing_sources(store));
    names
}

/// Those with a source that fails. What it gave before stands in for it, which a new process never saw.
fn with_failing_sources(store: &Store) -> impl Iterator<Item = String> {
    let fails = |credential: &Object| {
        let mut conditions = credential["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == "SourceReady" && condition["status"] == "False")
    };
    let all = store.list(Kind::RegistryCredential, None).into_iter();
    all.filter(fails).map(|credential| text(&credential, "name"))
}

/// The RegistryCredentials to whose copy somebody wrote other data, where it is not wanted: in a namespace that is no longer
/// selected, or under a former name. It cannot be put right while no source gives what it should hold. The process that saw
/// it before still takes it for a copy; a new one cannot tell it from a Secret that somebody gave such marks, and says so.
fn with_edited_leftovers(store: &Store, issuer: &Issuer) -> BTreeSet<String> {
    let view = View::new(store, issuer, None);
    let secrets = store.list(Kind::Secret, None);
    let is_leftover = |secret: &Value, credential: &Value| {
        let namespace =
            view.namespaces.iter().find(|own| own["metadata"]["name"] == secret["metadata"]["namespace"]);
        let is_wanted = namespace.is_some_and(|own| selects(credential, own))
            && secret["metadata"]["name"] == target(credential);
        is_copy_of(secret, credential) && !is_wanted
    };
    let has_edited = |credential: &&Object| {
        secrets.iter().any(|secret| is_leftover(secret, credential) && !is_copy_in_full(secret))
    };
    view.credentials.iter().filter(has_edited).map(|credential| text(credential, "name")).collect()
}

struct View<'a> {
    store: &'a Store,
    issuer: &'a Issuer,
    refused: Option<&'a str>,
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
    fn new(store: &'a Store, issuer: &'a Issuer, refused: Option<&'a str>) -> Self {
        let alive = |kind| {
            let all = store.list(kind, None).into_iter();
            all.filter(|object| !is_terminating(object)).collect::<Vec<_>>()
        };
        let mut credentials = alive(Kind::RegistryCredential);
        credentials.sort_by_key(|object| (text(object, "creationTimestamp"), text(object, "name")));
        Self { store, issuer, refused, credentials, namespaces: alive(Kind::Namespace) }
    }

    fn deletions(&self) -> Vec<String> {
        let all = self.store.list(Kind::RegistryCredential, None).into_iter();
        let left = all.filter(|object| is_terminating(object) && !self.says_what_refuses(object));
        let told = |object: &Object| {
            let failures = object["status"]["failures"].as_array();
            if failures.is_some_and(|failures| !failures.is_empty()) { "and status says why" } else { UNTOLD }
        };
        left.map(|object| {
            format!("RegistryCredential {} is still being deleted, {}", text(&object, "name"), told(&object))
        })
        .collect()
    }

    /// What is wrong in a namespace, unless a webhook refuses there and some status says so.
    fn unnamed(&self, namespace: &Value, found: Vec<String>) -> Vec<String> {
        let refused = self.refused.is_some_and(|name| namespace["metadata"]["name"] == name);
        let all = self.store.list(Kind::RegistryCredential, None);
        let named = all.iter().any(|credential| self.says_what_refuses(credential));
        if refused && named { Vec::new() } else { found }
    }

    fn says_what_refuses(&self, credential: &Value) -> bool {
        let mut failures = credential["status"]["failures"].as_array().into_iter().flatten();
        self.refused.is_some_and(|name| failures.any(|failure| failure["namespace"] == name))
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
        if is_idle(credential) {
            return;
        }
        let secret = self.secret(namespace, target);
        if secret.is_some_and(|secret| !self.is_copy(secret)) {
            return;
        }
        if let Some(wanted) = self.given(credential).filter(|given| !is_held_back(credential, given)) {
            let held = secret.map(|secret| content(secret));
            if held.as_ref() != Some(&wanted) {
                problems
                    .push(format!("Secret {namespace}/{target} holds {held:?} and should hold {wanted:?}"));
            }
            if secret.is_some_and(|secret| secret["immutable"] == true) {
                problems.push(format!("Secret {namespace}/{target} can never be changed"));
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
            let selected = selects_account(credential, &name);
            if selected && count != 1 {
                problems.push(format!(
                    "ServiceAccount {namespace}/{name} lists {target} {count} times, not once"
                ));
            }
            if !selected && marked(&account).contains(target) && !self.is_idle_mark(&account, target) {
                problems
                    .push(format!("ServiceAccount {namespace}/{name} is not selected and marks {target}"));
            }
        }
    }

    fn check_unwanted(&self, namespace: &str, target: &str, problems: &mut Vec<String>) {
        let owner = self.secret(namespace, target).and_then(|secret| {
            let belongs = |credential: &&Object| {
                let labelled =
                    secret["metadata"]["labels"][names::CREDENTIAL_LABEL] == credential["metadata"]["name"];
                is_copy_of(secret, credential) || is_owned_by(secret, credential) || labelled
            };
            self.credentials.iter().find(belongs)
        });
        let in_full = self.secret(namespace, target).is_some_and(|secret| {
            is_copy_in_full(secret) && owner.is_some_and(|owner| is_copy_of(secret, owner))
        });
        let is_kept = owner.is_some_and(|owner| is_idle(owner) || self.is_former(namespace, target, owner));
        if owner.is_some() && in_full && !is_kept {
            problems.push(format!("Secret {namespace}/{target} is left over"));
        }
        if is_kept || self.is_untold(namespace, target) || self.credentials.iter().any(|own| is_idle(own)) {
            return;
        }
        for account in self.store.list(Kind::ServiceAccount, Some(namespace)) {
            if marked(&account).contains(&target) && !self.is_idle_mark(&account, target) {
                let name = text(&account, "name");
                problems.push(format!("ServiceAccount {namespace}/{name} still marks {target}"));
            }
        }
    }

    /// Whether an entry of this name may stay where a webhook refuses to take it off: nobody has the name any more, so no
    /// status can tell of it.
    fn is_untold(&self, namespace: &str, name: &str) -> bool {
        let all = self.store.list(Kind::RegistryCredential, None);
        self.refused == Some(namespace) && all.iter().all(|credential| target(credential) != name)
    }

    /// Whether a webhook refuses to take a mark off whose entry is gone: it gives nobody anything, so no status tells of it.
    fn is_idle_mark(&self, account: &Value, target: &str) -> bool {
        let listed = entries(account).contains(&target);
        !listed && self.refused.is_some_and(|name| account["metadata"]["namespace"] == name)
    }

    /// Whether a copy may stay under this former name: the present one is not in place, has not been for long, or nobody can
    /// write since when, which takes the content, and so a source.
    fn is_former(&self, namespace: &str, name: &str, owner: &Value) -> bool {
        let selected =
            self.namespaces.iter().any(|own| text(own, "name") == namespace && selects(owner, own));
        let present = self.secret(namespace, target(owner));
        let in_place = present.is_some_and(|secret| {
            // What somebody edited cannot be put right while no source says what it should hold.
            let is_right =
                self.given(owner).map_or_else(|| is_copy_in_full(secret), |given| content(secret) == given);
            is_copy_of(secret, owner) && is_right
        });
        let lasting = owner["spec"]["target"]["renameGracePeriod"].is_null();
        let dated = self.secret(namespace, name).is_some_and(|secret| says_since_when(secret));
        let undatable = self.given(owner).is_none() && !dated;
        selected && target(owner) != name && (!in_place || lasting || undatable)
    }

    fn is_copy(&self, secret: &Value) -> bool {
        let owned = || self.credentials.iter().any(|credential| is_copy_of(secret, credential));
        is_marked(secret) && (owned() || self.is_restored(secret))
    }

    /// Whether a Secret has the label of a credential with this target name, and a UID that none has.
    fn is_restored(&self, secret: &Value) -> bool {
        let label = &secret["metadata"]["labels"][names::CREDENTIAL_LABEL];
        let uid = &secret["metadata"]["annotations"][names::CREDENTIAL_UID_ANNOTATION];
        let named = self.credentials.iter().any(|credential| {
            credential["metadata"]["name"] == *label && target(credential) == secret["metadata"]["name"]
        });
        let alive = self.store.list(Kind::RegistryCredential, None);
        named && uid.is_string() && alive.iter().all(|credential| credential["metadata"]["uid"] != *uid)
    }

    /// What the sources of a credential give, by server; `None` if one gives nothing.
    fn given(&self, credential: &Value) -> Option<BTreeMap<String, String>> {
        let mut given = BTreeMap::new();
        for reference in credential["spec"]["dockerConfigSecretRefs"].as_array().into_iter().flatten() {
            let name = reference["name"].as_str()?;
            let source = self.store.get(&Key::new(Kind::Secret, HOME, name))?;
            given.extend(Some(content(source)).filter(|content| !content.is_empty())?);
        }
        for registry in credential["spec"]["registries"].as_array().into_iter().flatten() {
            given.insert(registry["server"].as_str()?.to_owned(), self.login(registry)?);
        }
        Some(given)
    }

    fn login(&self, registry: &Value) -> Option<String> {
        if let Some(token) = self.issuer.last(registry) {
            return Some(token);
        }
        let name = registry["source"]["secretRef"]["name"].as_str()?;
        let source = self.store.get(&Key::new(Kind::Secret, HOME, name))?;
        let member = |key: &str| decoded(&source["data"][key]).filter(|text| !text.is_empty());
        Some(format!("{}:{}", member("username")?, member("password")?))
    }

    fn check_status(&self, credential: &Object, problems: &mut Vec<String>) {
        let name = text(credential, "name");
        let status = &credential["status"];
        if status["observedGeneration"] != credential["metadata"]["generation"] {
            problems.push(format!("status of {name} speaks of another generation"));
        }
        if is_idle(credential) {
            return;
        }
        let matched = self.namespaces.iter().filter(|namespace| selects(credential, namespace)).count();
        if status["namespaces"]["matched"] != matched {
            let told = &status["namespaces"]["matched"];
            problems.push(format!("status of {name} tells of {told} namespaces, and there are {matched}"));
        }
        let asked = &credential["metadata"]["annotations"][names::REQUESTED_AT_ANNOTATION];
        if asked.is_string() && status["lastHandledRequest"] != *asked {
            problems.push(format!("status of {name} does not repeat the request {asked}"));
        }
        if self.says_what_refuses(credential) {
            return;
        }
        self.check_verification(credential, problems);
        let ready = self.is_served(credential);
        let told = condition(status, "Ready");
        if (told == "True") != ready {
            problems.push(format!("status of {name} says Ready={told}, and ready is {ready}"));
        }
    }

    /// Registries that are asked were asked, and status has what they said of what the sources give.
    fn check_verification(&self, credential: &Object, problems: &mut Vec<String>) {
        let told = condition(&credential["status"], "CredentialsVerified");
        let Some(given) = self.given(credential) else { return };
        let wanted = match (is_verified(credential), is_rejected(credential, &given)) {
            (false, _) => "",
            (true, false) => "True",
            (true, true) => "False",
        };
        if told != wanted {
            let name = text(credential, "name");
            problems
                .push(format!("status of {name} says CredentialsVerified={told:?}, and it is {wanted:?}"));
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
        let given = self.given(credential).filter(|given| !is_rejected(credential, given));
        given.is_some() && selected.into_iter().all(free)
    }
}

/// A member of the metadata.
pub fn text(object: &Value, member: &str) -> String {
    object["metadata"][member].as_str().unwrap_or_default().to_owned()
}

/// Whether nothing is written for it: it is suspended, or its spec cannot be carried out.
fn is_idle(credential: &Value) -> bool {
    credential["spec"]["suspend"] == true || credential["spec"]["refreshInterval"] == INVALID_INTERVAL
}

/// Whether registries are asked about its credentials.
fn is_verified(credential: &Value) -> bool {
    credential["spec"]["verify"].is_object()
}

/// Whether some registry knows what the sources give not.
fn is_rejected(credential: &Value, given: &BTreeMap<String, String>) -> bool {
    let mut passwords = given.values().filter_map(|login| login.split_once(':'));
    is_verified(credential) && passwords.any(|(_, password)| registry::rejects(password))
}

/// Whether copies keep what they had for that.
fn is_held_back(credential: &Value, given: &BTreeMap<String, String>) -> bool {
    credential["spec"]["verify"]["onRejected"] == "Hold" && is_rejected(credential, given)
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a str {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default()
}

/// The name of the copies of a credential.
pub fn target(credential: &Value) -> &str {
    credential["spec"]["target"]["name"]
        .as_str()
        .or(credential["metadata"]["name"].as_str())
        .unwrap_or_default()
}

fn is_copy_of(secret: &Value, credential: &Value) -> bool {
    let uid = &credential["metadata"]["uid"];
    secret["metadata"]["annotations"][names::CREDENTIAL_UID_ANNOTATION] == *uid
}

/// What regcred's field manager owns of a Secret.
fn owned(secret: &Value) -> impl Iterator<Item = &Value> {
    let all = secret["metadata"]["managedFields"].as_array().into_iter().flatten();
    let ours = all.filter(|entry| entry["manager"] == names::FIELD_MANAGER && entry["operation"] == "Apply");
    ours.map(|entry| &entry["fieldsV1"])
}

/// Whether regcred wrote on a copy since when it is superseded.
fn says_since_when(secret: &Value) -> bool {
    let field = format!("f:{}", names::SUPERSEDED_AT_ANNOTATION);
    owned(secret).any(|fields| fields["f:metadata"]["f:annotations"][&field].is_object())
}

/// Whether nothing speaks against a Secret being the copy of the credential that its annotation names.
fn is_copy_in_full(secret: &Object) -> bool {
    let metadata = &secret["metadata"];
    let uid = &metadata["annotations"][names::CREDENTIAL_UID_ANNOTATION];
    let mut owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    let field = format!("f:{}", names::SECRET_KEY);
    metadata["labels"][names::CREDENTIAL_LABEL].is_string()
        && owners.all(|owner| owner["uid"] == *uid)
        && owned(secret).any(|fields| fields["f:data"][&field].is_object())
}

fn is_owned_by(secret: &Value, credential: &Value) -> bool {
    let mut owners = secret["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.any(|owner| owner["uid"] == credential["metadata"]["uid"])
}

/// Whether a namespace gets a copy.
pub fn selects(credential: &Value, namespace: &Value) -> bool {
    let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
    let selection = &credential["spec"]["namespaces"];
    let opt_out = namespace["metadata"]["annotations"][names::EXCLUDE_ANNOTATION].as_str();
    let excluded = !matches!(opt_out, None | Some("" | "false"));
    let listed = strings(&selection["matchNames"]).contains(name);
    let labelled = selection["selector"].is_object() && namespace["metadata"]["labels"][LABEL] == "yes";
    let all = selection["from"] == "All";
    name != HOME && !excluded && !is_terminating(namespace) && (listed || labelled || all)
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
