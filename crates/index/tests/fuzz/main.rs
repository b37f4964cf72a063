//! Objects that somebody bent, as every watched kind: reading one never panics, and never keeps the next from being seen.
//! `REGCRED_FUZZ_CASES=1000000` tries more; proptest makes one that fails small. An object that failed joins `corpus`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use proptest::prelude::*;
use regcred_index::{Body, Event, Index, Origin, Received, SecretScope};
use regcred_planner::{Settings, plan};
use serde_json::{Value, json};

/// One object in each line, of the kinds that are watched.
const CORPUS: &str = include_str!("corpus.jsonl");
const HOME: &str = "regcred-system";

/// What takes the place of a value somewhere in an object.
static ODD: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let deep = (0..150).fold(json!({}), |inner, _| json!({"f:x": inner}));
    let wide: Value = (0..300).map(|number| (format!("f:k{number}"), json!({}))).collect();
    let others = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.0e300),
        json!(u64::MAX),
        json!([]),
        json!({}),
        json!([null, {}, [], "x", {"name": null}, {"name": 7}]),
        json!({"": null, "f:": {}, ".": {}}),
        deep,
        wide,
    ];
    TEXTS.iter().map(|text| json!(text)).chain(others).collect()
});

/// What takes the place of a text.
static TEXTS: LazyLock<[String; 6]> = LazyLock::new(|| {
    let plain = ["", "\u{0}", "9999-12-31T23:59:59Z", "not base64!"].map(str::to_owned);
    let [empty, null, late, no_base64] = plain;
    [empty, null, late, no_base64, "x".repeat(5_000), ",,a,,".repeat(500)]
});

static OBJECTS: LazyLock<Vec<Value>> =
    LazyLock::new(|| lines().into_iter().map(|line| serde_json::from_str(line).unwrap()).collect());

/// Where, counted through all values of an object, and what happens there.
#[derive(Clone, Debug)]
enum Change {
    /// Any value becomes an odd one.
    Replace(usize, usize),
    /// A text becomes an odd one, which more often fits its type.
    Text(usize, usize),
    /// A value becomes another one of the object.
    Take(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), any::<usize>()).prop_map(|(at, with)| Change::Replace(at, with)),
        (any::<usize>(), any::<usize>()).prop_map(|(at, with)| Change::Text(at, with)),
        (any::<usize>(), any::<usize>()).prop_map(|(at, from)| Change::Take(at, from)),
    ]
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(count).sum(),
        Value::Array(items) => items.iter().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// The value of this number, counted depth first from zero.
fn nth(value: &mut Value, at: usize) -> &mut Value {
    let Some(mut left) = at.checked_sub(1) else { return value };
    let inner: Vec<&mut Value> = match value {
        Value::Object(members) => members.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        _ => unreachable!("there is nothing inside, and it was counted"),
    };
    for value in inner {
        let count = count(value);
        if left < count {
            return nth(value, left);
        }
        left -= count;
    }
    unreachable!("it was counted")
}

fn apply(object: &mut Value, change: &Change) {
    let total = count(object);
    match *change {
        Change::Replace(at, with) => *nth(object, at % total) = ODD[with % ODD.len()].clone(),
        Change::Text(at, with) => {
            // Counted from there on, and around.
            let texts = (0..total).map(|step| (at % total + step) % total);
            let place = texts.into_iter().find(|place| nth(object, *place).is_string());
            if let Some(place) = place {
                *nth(object, place) = json!(TEXTS[with % TEXTS.len()]);
            }
        }
        Change::Take(at, from) => {
            let taken = nth(object, from % total).clone();
            *nth(object, at % total) = taken;
        }
    }
}

fn lines() -> Vec<&'static str> {
    CORPUS.lines().filter(|line| !line.is_empty()).collect()
}

fn put<T: Body>(text: &str) -> Option<Event<T>> {
    Some(Event::Put(serde_json::from_str::<Received<T>>(text).ok()?, Origin::Watch))
}

/// Feeds an object to every watch, whatever kind it says it is.
fn ingest(index: &mut Index, text: &str) {
    if let Some(event) = put(text) {
        index.ingest_namespace(event);
    }
    if let Some(event) = put(text) {
        index.ingest_service_account(event);
    }
    for scope in SecretScope::all(&[]) {
        if let Some(event) = put(text) {
            index.ingest_secret(&scope, event);
        }
    }
    if let Some(event) = put(text) {
        index.ingest_source(event);
    }
    if let Some(event) = put(text) {
        index.ingest_credential(event);
    }
}

/// Whether a plain namespace with a plain account is still planned for as it should be.
fn serves(index: &mut Index) -> bool {
    let object = |value: Value| value.to_string();
    let credential = json!({
        "metadata": {"name": "sane", "uid": "sane", "resourceVersion": "9000000", "generation": 1,
                     "creationTimestamp": "2020-01-01T00:00:00Z", "finalizers": ["regcred.dev/cleanup"]},
        "spec": {"registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": "bot"}}}],
                 "namespaces": {"matchNames": ["sane"]}, "target": {"name": "sane"}},
    });
    index.ingest_credential(put(&object(credential)).unwrap());
    index.ingest_namespace(
        put(&object(json!({"metadata": {"name": "sane", "uid": "n", "resourceVersion": "9000001"}})))
            .unwrap(),
    );
    let account = json!({"metadata": {"name": "default", "namespace": "sane", "uid": "a", "resourceVersion": "9000002"}});
    index.ingest_service_account(put(&object(account)).unwrap());
    let world = index.observe(&Arc::from("sane")).expect("the namespace was put");
    let steps = plan(&world, Timestamp::UNIX_EPOCH).steps;
    steps.iter().any(|step| matches!(step, regcred_planner::Step::PatchServiceAccount(_)))
}

fn cases() -> u32 {
    std::env::var("REGCRED_FUZZ_CASES").map_or(5_000, |text| text.parse().unwrap())
}

#[test]
fn every_line_of_the_corpus_is_ingested() {
    let mut index = Index::new(Settings::default(), HOME);
    assert!(lines().len() > 10);
    for line in lines() {
        let _: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        ingest(&mut index, line);
    }
    assert!(serves(&mut index));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn bent_objects_are_read_or_skipped_and_others_are_served(
        objects in prop::collection::vec(
            (any::<usize>(), prop::collection::vec(change(), 0..4)), 1..4),
    ) {
        let mut index = Index::new(Settings::default(), HOME);
        for (line, changes) in objects {
            let mut object = OBJECTS[line % OBJECTS.len()].clone();
            for change in &changes {
                apply(&mut object, change);
            }
            ingest(&mut index, &object.to_string());
        }
        for name in ["shop", "regcred-system"] {
            if let Some(world) = index.observe(&Arc::from(name)) {
                plan(&world, Timestamp::UNIX_EPOCH);
            }
        }
        prop_assert!(serves(&mut index));
    }
}
