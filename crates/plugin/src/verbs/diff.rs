//! `diff`: what an applied file would change. The planner is asked twice: about the cluster as it is, and about the same
//! cluster with the file's RegistryCredentials in it.

use std::collections::{BTreeMap, BTreeSet};

use regcred_index::CredentialEntry;
use regcred_planner::{Goal, Pair};
use serde::Serialize;
use serde_json::Value;

use crate::print::{Colour, Report, Style};
use crate::scene::{Place, Scene};
use crate::text::{counted, sentence, some};
use crate::verbs::impact;

/// How many namespaces or accounts a line names.
const NAMED: usize = 12;

/// The report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiffReport {
    credentials: Vec<Change>,
    unread: Vec<String>,
}

/// One RegistryCredential of the file.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    name: String,
    /// It does not exist yet.
    created: bool,
    fields: Vec<Field>,
    gained: Vec<String>,
    lost: Vec<Lost>,
    attached: Vec<String>,
    detached: Vec<String>,
    /// What the planner refuses, by namespace.
    conflicts: Vec<(String, String)>,
    /// Why the spec cannot be carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    invalid: Option<String>,
}

/// A field of the spec that changes.
#[derive(Debug, Serialize)]
struct Field {
    path: String,
    before: String,
    after: String,
}

/// A namespace that is no longer selected.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Lost {
    namespace: String,
    /// Workloads there that have nothing else.
    nothing_else: usize,
}

/// What applying these RegistryCredentials would change.
pub(crate) fn report(before: &Scene, after: &Scene, names: &[String]) -> DiffReport {
    let places = (before.places(), after.places());
    let credentials = names.iter().map(|name| change(before, after, &places, name)).collect();
    DiffReport { credentials, unread: before.unread.lines() }
}

fn change(
    before: &Scene,
    after: &Scene,
    (was, will): &(BTreeMap<String, Place>, BTreeMap<String, Place>),
    name: &str,
) -> Change {
    let (old, new) = (before.credential(name), after.credential(name));
    let (held, holds) = (selected(was, old), selected(will, new));
    let impact = old.map(|entry| impact::report(before, name, entry, None));
    let lost = held.keys().filter(|namespace| !holds.contains_key(*namespace)).map(|namespace| Lost {
        namespace: (*namespace).clone(),
        nothing_else: impact.as_ref().map_or(0, |impact| impact.left_without(namespace)),
    });
    let (attached, detached) = (accounts(&holds), accounts(&held));
    Change {
        name: name.to_owned(),
        created: old.is_none(),
        fields: fields(old, new),
        gained: holds
            .keys()
            .filter(|namespace| !held.contains_key(*namespace))
            .map(|name| (*name).clone())
            .collect(),
        lost: lost.collect(),
        attached: attached.difference(&detached).cloned().collect(),
        detached: detached.difference(&attached).cloned().collect(),
        conflicts: holds.iter().filter_map(|(namespace, pair)| conflict(namespace, pair)).collect(),
        invalid: new.and_then(|entry| entry.planned.spec.as_ref().err()).map(ToString::to_string),
    }
}

fn selected<'a>(
    places: &'a BTreeMap<String, Place>,
    entry: Option<&CredentialEntry>,
) -> BTreeMap<&'a String, &'a Pair> {
    let pairs = places.iter().filter_map(|(namespace, place)| Some((namespace, place.pair(entry?)?)));
    pairs.collect()
}

fn accounts(pairs: &BTreeMap<&String, &Pair>) -> BTreeSet<String> {
    let of = |(namespace, pair): (&&String, &&Pair)| {
        pair.accounts.iter().map(|(account, _)| format!("{namespace}/{account}")).collect::<Vec<_>>()
    };
    pairs.iter().flat_map(of).collect()
}

/// What the planner refuses. A Secret of somebody else's under the name shows only where Secrets are read.
fn conflict(namespace: &str, pair: &Pair) -> Option<(String, String)> {
    let Goal::Refused { reason, message, .. } = &pair.secret else { return None };
    Some((namespace.to_owned(), format!("{}: {}", reason.as_str(), sentence(message))))
}

/// The fields of the spec that change, leaf by leaf.
fn fields(old: Option<&CredentialEntry>, new: Option<&CredentialEntry>) -> Vec<Field> {
    let leaves = |entry: Option<&CredentialEntry>| {
        let spec = entry.and_then(|entry| entry.object.spec.as_ref().ok());
        let mut leaves = BTreeMap::new();
        if let Some(spec) = spec.and_then(|spec| serde_json::to_value(spec).ok()) {
            collect("", &spec, &mut leaves);
        }
        leaves
    };
    let (before, after) = (leaves(old), leaves(new));
    if before.is_empty() {
        return Vec::new();
    }
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let text = |leaves: &BTreeMap<String, String>, path: &String| {
        leaves.get(path).cloned().unwrap_or_else(|| "-".to_owned())
    };
    let field =
        |path: &String| Field { path: path.clone(), before: text(&before, path), after: text(&after, path) };
    paths.into_iter().map(field).filter(|field| field.before != field.after).collect()
}

fn collect(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| collect(&below(key), value, leaves)),
        Value::Array(items) => {
            // Registries and references are told apart by what names them, not by their place.
            let plain: Vec<&Value> = items.iter().filter(|item| !item.is_object()).collect();
            if !plain.is_empty() {
                let texts: Vec<String> = plain.into_iter().map(leaf).collect();
                leaves.insert(path.to_owned(), format!("[{}]", texts.join(", ")));
            }
            for item in items.iter().filter(|item| item.is_object()) {
                let key =
                    ["server", "name", "key"].iter().find_map(|key| item[*key].as_str()).unwrap_or_default();
                collect(&format!("{path}[{key}]"), item, leaves);
            }
        }
        Value::Null => {}
        value => drop(leaves.insert(path.to_owned(), leaf(value))),
    }
}

fn leaf(value: &Value) -> String {
    sentence(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

impl DiffReport {
    /// Whether anything would change.
    pub(crate) fn has_change(&self) -> bool {
        self.credentials.iter().any(Change::is_any)
    }
}

impl Report for DiffReport {
    const KIND: &'static str = "DiffReport";

    fn text(&self, style: Style) -> String {
        let changes = self.credentials.iter().map(|change| change.text(style));
        changes.chain(self.unread.iter().map(|line| format!("{line}\n"))).collect()
    }

    fn names(&self) -> Vec<String> {
        let changed = self.credentials.iter().filter(|change| change.is_any());
        changed.map(|change| format!("registrycredential.regcred.dev/{}", change.name)).collect()
    }
}

impl Change {
    fn is_any(&self) -> bool {
        let lists =
            [self.gained.len(), self.lost.len(), self.attached.len(), self.detached.len(), self.fields.len()];
        self.created || lists.into_iter().any(|count| count > 0)
    }

    fn text(&self, style: Style) -> String {
        let state = match (self.created, self.is_any()) {
            (true, _) => "is made",
            (false, true) => "changes",
            (false, false) => "does not change",
        };
        let fields = self
            .fields
            .iter()
            .map(|Field { path, before, after }| format!("~ {path}   {before} → {after}\n"));
        let lost: Vec<String> = self.lost.iter().map(Lost::text).collect();
        let lines = [
            line(style, Colour::Green, "+", &self.gained, "namespace"),
            line(style, Colour::Red, "-", &lost, "namespace"),
            line(style, Colour::Green, "+", &self.attached, "ServiceAccount"),
            line(style, Colour::Red, "-", &self.detached, "ServiceAccount"),
        ];
        let conflicts = self.conflicts.iter().map(|(namespace, words)| format!("! {namespace}   {words}\n"));
        let invalid = self.invalid.iter().map(|words| format!("! {words}\n"));
        let head = format!("{} {state}\n", self.name);
        std::iter::once(head).chain(fields).chain(lines).chain(conflicts).chain(invalid).collect()
    }
}

impl Lost {
    fn text(&self) -> String {
        match self.nothing_else {
            0 => self.namespace.clone(),
            1 => format!("{} (1 workload has nothing else)", self.namespace),
            count => format!("{} ({count} workloads have nothing else)", self.namespace),
        }
    }
}

fn line(style: Style, colour: Colour, sign: &str, names: &[String], noun: &str) -> String {
    if names.is_empty() {
        return String::new();
    }
    let shown = if style.wide { usize::MAX } else { NAMED };
    let head = style.paint(colour, &format!("{sign} {}", counted(names.len(), noun)));
    format!("{head}   {}\n", some(names, shown, " "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scene::fixtures::Stage;

    const PLAIN: Style = Style { colour: false, headers: true, wide: false };

    /// Three namespaces, two of which the former spec selects, with a workload in one.
    fn cluster(stage: Stage) -> Stage {
        let stage = stage
            .namespace("alpha", &json!({"team": "platform"}))
            .namespace("edge", &json!({"pull": "private"}));
        let stage = stage.namespace("shop", &json!({"pull": "private"}));
        let stage = ["alpha", "edge", "shop"]
            .into_iter()
            .fold(stage, |stage, name| stage.account(name, "default", &[]));
        stage.account("shop", "default", &["pull"]).pod("shop/web", &["pull"], "ghcr.io/a/b:1", "")
    }

    fn told(before: &Value, after: &Value) -> DiffReport {
        let before = cluster(Stage::new().credential("pull", "ghcr.io", before));
        let after = cluster(Stage::new().credential("pull", "ghcr.io", after));
        report(&before.0, &after.0, &["pull".to_owned()])
    }

    #[test]
    fn namespaces_are_gained_and_lost_with_what_has_nothing_else() {
        let after = json!({"spec": {"namespaces": {"selector": null, "matchNames": ["alpha"]}}});
        let text = told(&json!({}), &after).text(PLAIN);
        let wanted = "\
pull changes
~ namespaces.matchNames   - → [alpha]
~ namespaces.selector.matchLabels.pull   private → -
+ 1 namespace   alpha
- 2 namespaces   edge shop (1 workload has nothing else)
+ 1 ServiceAccount   alpha/default
- 2 ServiceAccounts   edge/default shop/default
";
        assert_eq!(text, wanted, "{text}");
    }

    #[test]
    fn the_same_file_changes_nothing_and_another_name_is_made() {
        let same = told(&json!({}), &json!({}));
        assert_eq!((same.has_change(), same.text(PLAIN).as_str()), (false, "pull does not change\n"));
        let before = cluster(Stage::new());
        let after = cluster(Stage::new().credential("pull", "ghcr.io", &json!({})));
        let made = report(&before.0, &after.0, &["pull".to_owned()]);
        assert!(
            made.has_change() && made.text(PLAIN).starts_with("pull is made\n+ 2 namespaces   edge shop\n")
        );
    }

    #[test]
    fn a_name_that_an_older_one_has_is_told_of() {
        let rival = |stage: Stage| {
            let older = json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}, "spec": {"target": {"name": "pull"}}});
            cluster(stage.credential("older", "ghcr.io", &older))
        };
        let after = rival(Stage::new().credential("pull", "ghcr.io", &json!({})));
        let text = report(&rival(Stage::new()).0, &after.0, &["pull".to_owned()]).text(PLAIN);
        assert!(text.contains("! edge   TargetClaimed: "), "{text}");
    }

    #[test]
    fn what_cannot_be_carried_out_says_why() {
        let after = json!({"spec": {"registries": []}});
        assert!(told(&json!({}), &after).text(PLAIN).contains("! the spec names no source"));
    }
}
