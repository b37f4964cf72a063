//! The scripts in the form in which Argo CD's own repository has them, with its kinds of tests, and the ConfigMap made of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use regcred_tests::argo_cd::{ACTIONS, CONFIG_MAP};
use regcred_tests::install::repository;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{lua, script};

const REQUESTED_AT: &str = "/metadata/annotations/regcred.dev~1requestedAt";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthTests {
    tests: Vec<HealthTest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HealthTest {
    health_status: Value,
    input_path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ActionTests {
    discovery_tests: Vec<DiscoveryTest>,
    action_tests: Vec<ActionTest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DiscoveryTest {
    input_path: String,
    result: Vec<Offered>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Offered {
    name: String,
    disabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ActionTest {
    action: String,
    input_path: String,
    expected_output_path: String,
}

fn read<T: DeserializeOwned>(path: &str) -> T {
    serde_saphyr::from_str(&script(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[expect(clippy::disallowed_methods, reason = "a script of Argo CD reads the machine's clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[test]
fn each_health_is_as_the_list_of_tests_has_it() {
    let tests = read::<HealthTests>("health_test.yaml").tests;
    assert!(tests.len() >= 9, "{}", tests.len());
    for test in tests {
        let found = lua::run(&script("health.lua"), &read(&test.input_path));
        assert_eq!(found, test.health_status, "{}", test.input_path);
    }
}

#[test]
fn each_state_offers_the_actions_that_the_list_of_tests_has() {
    let tests = read::<ActionTests>("actions/action_test.yaml").discovery_tests;
    for DiscoveryTest { input_path, result } in tests {
        let found = lua::run(&script("actions/discovery.lua"), &read(&format!("actions/{input_path}")));
        let found: BTreeMap<&str, bool> = found
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, it)| (&name[..], it["disabled"].as_bool().unwrap()))
            .collect();
        assert_eq!(found, result.iter().map(|it| (&it.name[..], it.disabled)).collect(), "{input_path}");
        assert_eq!(found.into_keys().collect::<Vec<_>>(), ACTIONS);
    }
}

#[test]
fn each_action_makes_of_an_object_what_the_list_of_tests_has() {
    let tests = read::<ActionTests>("actions/action_test.yaml").action_tests;
    assert_eq!(tests.iter().map(|test| &test.action[..]).collect::<BTreeSet<_>>(), ACTIONS.into());
    for ActionTest { action, input_path, expected_output_path } in tests {
        let object = read(&format!("actions/{input_path}"));
        let mut found = lua::run(&script(&format!("actions/{action}/action.lua")), &object);
        let expected: Value = read(&format!("actions/{expected_output_path}"));
        if action == "refresh" {
            let place = found.pointer_mut(REQUESTED_AT).unwrap();
            let asked: Timestamp = place.as_str().unwrap().parse().unwrap();
            assert!(now().duration_since(asked) < SignedDuration::from_mins(1), "{asked}");
            *place = expected.pointer(REQUESTED_AT).unwrap().clone();
        }
        assert_eq!(found, expected, "{action} on {input_path}");
    }
}

/// What is written of an annotation or field that regcred does not know would do nothing.
#[test]
fn actions_write_what_regcred_reads() {
    let annotation = format!("\"{}\"", regcred_api::names::REQUESTED_AT_ANNOTATION);
    assert!(script("actions/refresh/action.lua").contains(&annotation), "{annotation}");
    let suspended: regcred_api::RegistryCredential = read("actions/testdata/suspended.yaml");
    assert!(suspended.spec.suspend);
}

#[test]
fn the_config_map_holds_each_script_byte_for_byte() {
    let text = std::fs::read_to_string(repository().join(CONFIG_MAP)).unwrap();
    let map: Value = serde_saphyr::from_str(&text).unwrap();
    let key = |what: &str| {
        format!("resource.customizations.{what}.{}_RegistryCredential", regcred_api::names::GROUP)
    };
    assert_eq!(map["data"][key("health")].as_str(), Some(&script("health.lua")[..]), "run `just generate`");
    let actions: Value = serde_saphyr::from_str(map["data"][key("actions")].as_str().unwrap()).unwrap();
    assert_eq!(actions["discovery.lua"].as_str(), Some(&script("actions/discovery.lua")[..]));
    let definitions = actions["definitions"].as_array().unwrap();
    assert_eq!(definitions.iter().map(|it| it["name"].as_str().unwrap()).collect::<Vec<_>>(), ACTIONS);
    for (name, definition) in ACTIONS.iter().zip(definitions) {
        let wanted = script(&format!("actions/{name}/action.lua"));
        assert_eq!(definition["action.lua"].as_str(), Some(&wanted[..]), "{name}");
    }
}
