//! Which namespaces and ServiceAccounts a selection means: a table of data, which the admission policy that attaches
//! at birth has to answer in the same way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use regcred_api::{NamespaceSelection, ServiceAccountSelection};
use regcred_planner::{Namespace, NamespaceFilter, ServiceAccount, ServiceAccountFilter};
use serde::Deserialize;

#[derive(Deserialize)]
struct Table {
    namespaces: Vec<Case<NamespaceSelection>>,
    service_accounts: Vec<Case<ServiceAccountSelection>>,
}

/// A selection, and every object that it means or does not mean: a name, or a name with labels.
#[derive(Deserialize)]
struct Case<S> {
    selection: S,
    #[serde(default)]
    selected: Vec<Object>,
    #[serde(default)]
    unselected: Vec<Object>,
}

#[derive(Debug, Deserialize)]
struct Object {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    excluded: bool,
    #[serde(default)]
    terminating: bool,
    #[serde(default)]
    own: bool,
}

fn table() -> Table {
    serde_saphyr::from_str(include_str!("select.yaml")).unwrap()
}

#[test]
fn namespaces_are_selected_as_the_table_says() {
    let mut checked = 0;
    for case in table().namespaces {
        let filter = NamespaceFilter::new(&case.selection).unwrap();
        let selects = |object: &Object| {
            filter.selects(&Namespace {
                labels: Arc::new(object.labels.clone()),
                excluded: object.excluded,
                terminating: object.terminating,
                is_own: object.own,
                ..fixture::namespace(&object.name)
            })
        };
        checked += check(&case, selects);
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn service_accounts_are_selected_as_the_table_says() {
    let mut checked = 0;
    for case in table().service_accounts {
        let filter = ServiceAccountFilter::new(&case.selection).unwrap();
        let selects = |object: &Object| {
            let account = ServiceAccount {
                labels: Arc::new(object.labels.clone()),
                excluded: object.excluded,
                terminating: object.terminating,
                ..fixture::service_account(Vec::new())
            };
            filter.selects(&object.name, &account)
        };
        checked += check(&case, selects);
    }
    assert!(checked > 25, "{checked}");
}

fn check<S: std::fmt::Debug>(case: &Case<S>, selects: impl Fn(&Object) -> bool) -> usize {
    for object in &case.selected {
        assert!(selects(object), "{:?} should select {object:?}", case.selection);
    }
    for object in &case.unselected {
        assert!(!selects(object), "{:?} should not select {object:?}", case.selection);
    }
    case.selected.len() + case.unselected.len()
}

#[test]
fn a_requirement_that_makes_no_sense_is_an_error_and_no_match_for_all() {
    for selector in [
        r#"{"matchExpressions": [{"key": "a", "operator": "In"}]}"#,
        r#"{"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}"#,
        r#"{"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}"#,
        r#"{"matchExpressions": [{"key": "a", "operator": "DoesNotExist", "values": ["x"]}]}"#,
    ] {
        let selection = format!(r#"{{"from": "Selected", "selector": {selector}}}"#);
        let selection: NamespaceSelection = serde_json::from_str(&selection).unwrap();
        assert!(NamespaceFilter::new(&selection).is_err(), "{selector}");
    }
}
