//! The cases: specs, namespaces and ServiceAccounts, by hand (those of the planner's own table, and more) and
//! generated. Every spec is held against every pair of namespace and ServiceAccount.

use std::collections::BTreeMap;

use regcred_api::names;
use serde::Deserialize;
use serde_json::{Value, json};

/// A namespace or a ServiceAccount: what a selection can see of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub struct Seen {
    pub name: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub excluded: Excluded,
    #[serde(default)]
    pub terminating: bool,
    #[serde(default)]
    pub own: bool,
}

/// The value of the annotation that opts out, if there is one; the planner's table says `true` alone.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(from = "bool")]
pub struct Excluded(pub Option<String>);

impl From<bool> for Excluded {
    fn from(excluded: bool) -> Self {
        Self(excluded.then(|| "true".to_owned()))
    }
}

impl Excluded {
    /// Whether regcred keeps away from an object with it.
    pub fn opts_out(&self) -> bool {
        self.0.as_deref().is_some_and(names::opts_out)
    }
}

#[derive(Deserialize)]
struct Table {
    namespaces: Vec<Row>,
    service_accounts: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    selection: Value,
    #[serde(default)]
    selected: Vec<Seen>,
    #[serde(default)]
    unselected: Vec<Seen>,
}

/// Everything to be tried.
pub struct Cases {
    pub specs: Vec<Value>,
    pub namespaces: Vec<Seen>,
    pub accounts: Vec<Seen>,
}

impl Cases {
    pub fn all() -> Self {
        let table: Table =
            serde_saphyr::from_str(include_str!("../../../crates/planner/tests/select.yaml")).unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let of_namespaces =
            table.namespaces.iter().map(|row| with(&row.selection, &json!({ "from": "All" })));
        let of_accounts =
            table.service_accounts.iter().map(|row| with(&json!({ "from": "All" }), &row.selection));
        let generated: Vec<Value> = (0..40).map(|_| spec(&mut random)).collect();
        // Namespaces are labels of DNS, ServiceAccounts names with dots.
        let objects = |rows: &[Row], dots: bool| {
            let all = rows.iter().flat_map(|row| row.selected.iter().chain(&row.unselected));
            let mut all: Vec<Seen> =
                all.filter(|seen| !seen.terminating && is_name(&seen.name, dots)).cloned().collect();
            all.sort();
            all.dedup();
            all
        };
        let more = |random: &mut fastrand::Rng| (0..20).map(|_| seen(random)).collect::<Vec<_>>();
        Self {
            specs: of_namespaces.chain(of_accounts).chain(by_hand()).chain(generated).collect(),
            namespaces: [objects(&table.namespaces, false), more(&mut random)].concat(),
            accounts: [objects(&table.service_accounts, true), more(&mut random)].concat(),
        }
    }
}

fn with(namespaces: &Value, accounts: &Value) -> Value {
    json!({ "dockerConfigSecretRefs": [{ "name": "none" }], "namespaces": namespaces, "serviceAccounts": accounts })
}

/// What no table of selections holds: the rest of a spec.
fn by_hand() -> Vec<Value> {
    let all = json!({ "from": "All" });
    let mut specs = vec![
        json!({ "dockerConfigSecretRefs": [{ "name": "none" }], "namespaces": { "from": "All" } }),
        with(&all, &json!({ "from": "None" })),
        with(&all, &json!({ "from": "Selected", "selector": {} })),
    ];
    for (path, value) in [
        ("suspend", json!(true)),
        ("suspend", json!(false)),
        ("target", json!({ "name": "named-otherwise" })),
        ("target", json!({ "name": "with.a.dot" })),
        ("target", json!({ "metadata": { "labels": { "team": "a" } } })),
        ("deletionPolicy", json!("Retain")),
        ("refreshInterval", json!("5m")),
    ] {
        let mut spec = with(&all, &all);
        spec[path] = value;
        specs.push(spec);
    }
    specs
}

const NAMES: [&str; 8] = ["a", "team-a", "team-b", "payments", "kube-x", "openshift-x", "app-1", "default"];
const GLOBS: [&str; 9] = ["*", "team-*", "*-a", "?", "app-?", "payments", "default", "*e*m*", "kube-*"];
const KEYS: [&str; 3] = ["pull", "tier", "example.com/team"];
const VALUES: [&str; 3] = ["private", "gold", ""];
const OPT_OUTS: [&str; 8] = ["true", "True", "TRUE", "1", "yes", "no", "false", ""];

fn is_name(name: &str, dots: bool) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.');
    !name.is_empty()
        && name.chars().all(inner)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
}

fn some<'a>(random: &mut fastrand::Rng, from: &[&'a str], most: usize) -> Vec<&'a str> {
    let mut all = random.choose_multiple(from.iter().copied(), most);
    all.truncate(random.usize(0..=most));
    all
}

fn selector(random: &mut fastrand::Rng) -> Value {
    let labels: BTreeMap<&str, &str> =
        some(random, &KEYS, 2).into_iter().map(|key| (key, VALUES[random.usize(..3)])).collect();
    let expressions: Vec<Value> = (0..random.usize(0..=2))
        .map(|_| match random.usize(..4) {
            0 => json!({ "key": KEYS[random.usize(..3)], "operator": "Exists" }),
            1 => json!({ "key": KEYS[random.usize(..3)], "operator": "DoesNotExist" }),
            which => json!({
                "key": KEYS[random.usize(..3)],
                "operator": if which == 2 { "In" } else { "NotIn" },
                "values": random.choose_multiple(VALUES, 2),
            }),
        })
        .collect();
    json!({ "matchLabels": labels, "matchExpressions": expressions })
}

fn selection(random: &mut fastrand::Rng) -> Value {
    let mut selection = match random.usize(..4) {
        0 => json!({ "from": "All" }),
        1 => json!({ "matchNames": random.choose_multiple(GLOBS, 2) }),
        2 => json!({ "selector": selector(random) }),
        _ => {
            json!({ "from": "Selected", "matchNames": random.choose_multiple(GLOBS, 1), "selector": selector(random) })
        }
    };
    let exclude = some(random, &GLOBS[1..], 2);
    if !exclude.is_empty() {
        selection["exclude"] = json!(exclude);
    }
    selection
}

fn spec(random: &mut fastrand::Rng) -> Value {
    let (namespaces, accounts) = (selection(random), selection(random));
    with(&namespaces, &accounts)
}

fn seen(random: &mut fastrand::Rng) -> Seen {
    let labels =
        some(random, &KEYS, 3).into_iter().map(|key| (key.to_owned(), VALUES[random.usize(..3)].to_owned()));
    let labels = labels.collect();
    Seen {
        name: NAMES[random.usize(..NAMES.len())].to_owned(),
        labels,
        excluded: Excluded(
            (random.usize(..3) == 0).then(|| OPT_OUTS[random.usize(..OPT_OUTS.len())].to_owned()),
        ),
        ..Seen::default()
    }
}
