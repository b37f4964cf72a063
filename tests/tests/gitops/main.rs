//! What GitOps tools make of a RegistryCredential: the files of `deploy/gitops`, read and run as Argo CD and Flux do.

mod lua;
mod upstream;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regcred_api::RegistryCredential;
use regcred_dockerconfig::{Keyring, repository_of};
use regcred_tests::argo_cd::SCRIPTS;
use regcred_tests::install::repository;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    object: Value,
    health: String,
    #[serde(default)]
    message: String,
}

/// What the script answers: the status and the message.
fn health(object: &Value) -> (String, String) {
    let answer = lua::run(&script("health.lua"), object);
    let text = |key: &str| match &answer[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => panic!("{key} is {other:?}, which Argo CD cannot read"),
    };
    (text("status"), text("message"))
}

/// A script of those in the form of Argo CD's own repository.
fn script(path: &str) -> String {
    let path = repository().join(SCRIPTS).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn argo_cd_says_of_each_state_what_it_should() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("health.yaml")).unwrap();
    let wrong: Vec<String> = cases.iter().filter_map(wrong_answer).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let seen: BTreeSet<&str> = cases.iter().map(|case| case.health.as_str()).collect();
    assert_eq!(seen, BTreeSet::from(["Degraded", "Healthy", "Progressing", "Suspended"]));
    assert!(cases.len() >= 20, "only {} cases", cases.len());
}

/// What is wrong with the answer to this case, if anything is. A message is always wanted.
fn wrong_answer(case: &Case) -> Option<String> {
    let (status, message) = health(&case.object);
    let right = status == case.health && !message.is_empty() && message.contains(&case.message);
    let Case { name, health, message: wanted, .. } = case;
    (!right).then(|| format!("{name}: {status} ({message}), not {health} ({wanted})"))
}

#[test]
fn every_document_of_deploy_gitops_can_be_read() {
    let documents = documents();
    let credentials = documents.iter().filter(|(_, document)| document["kind"] == "RegistryCredential");
    for (place, document) in &documents {
        for pointer in ["/apiVersion", "/kind", "/metadata/name"] {
            let text = document.pointer(pointer).and_then(Value::as_str);
            assert!(text.is_some(), "{place}: no {pointer} in {document}");
        }
    }
    let mut found = 0;
    for (place, document) in credentials {
        let read = serde_json::from_value::<RegistryCredential>(document.clone());
        assert!(read.is_ok(), "{place}: {} in {document}", read.unwrap_err());
        found += 1;
    }
    assert!(found > 0, "no RegistryCredential among {} documents", documents.len());
}

#[test]
fn each_external_secret_makes_a_source_that_regcred_reads() {
    let documents = documents();
    let of_kind = |kind: &'static str| documents.iter().filter(move |(_, document)| document["kind"] == kind);
    let mut generated = 0;
    for (place, external) in of_kind("ExternalSecret") {
        let target = &external["spec"]["target"];
        let users = of_kind("RegistryCredential").filter(|(its, _)| its == place);
        let registries: Vec<Value> =
            users.flat_map(|(_, user)| user["spec"]["registries"].as_array().unwrap().clone()).collect();
        let named = registries.iter().find(|it| it["source"]["secretRef"]["name"] == target["name"]);
        let server = named.unwrap_or_else(|| panic!("{place}: nobody names {}", target["name"]));
        assert_eq!(external["metadata"]["namespace"], "regcred-system", "{place}");
        rendered(place, &target["template"], server["server"].as_str().unwrap());
        for generator in external["spec"]["dataFrom"].as_array().into_iter().flatten() {
            let wanted = &generator["sourceRef"]["generatorRef"];
            let is_meant = |(its, document): &&(String, Value)| {
                its == place
                    && document["apiVersion"] == wanted["apiVersion"]
                    && document["kind"] == wanted["kind"]
                    && document["metadata"]["name"] == wanted["name"]
                    && document["metadata"]["namespace"] == external["metadata"]["namespace"]
            };
            assert!(documents.iter().any(|document| is_meant(&document)), "{place}: no generator {wanted}");
            generated += 1;
        }
    }
    assert!(generated > 0, "no recipe has a generator");
}

/// Fills a template in as External Secrets does with one-word values, and reads what the Secret would then give.
fn rendered(place: &str, template: &Value, server: &str) {
    let data = template["data"].as_object().unwrap_or_else(|| panic!("{place}: no template"));
    if template["type"] == "kubernetes.io/basic-auth" {
        assert!(data.contains_key("username") && data.contains_key("password"), "{place}: {template}");
        return;
    }
    assert_eq!(template["type"], "kubernetes.io/dockerconfigjson", "{place}");
    let text = data[".dockerconfigjson"].as_str().unwrap();
    let filled = text.split("{{").enumerate().map(|(number, part)| match part.split_once("}}") {
        Some((value, rest)) => {
            assert!(value.contains("| toJson"), "{place}: {value} may hold quotation marks");
            format!("\"value\"{rest}")
        }
        None if number == 0 => part.to_owned(),
        None => panic!("{place}: {part} has no end"),
    });
    let filled: String = filled.collect();
    let keyring =
        Keyring::new([filled.as_bytes()]).unwrap_or_else(|error| panic!("{place}: {error}: {filled}"));
    let image = repository_of(&format!("{server}/app")).unwrap();
    assert_eq!(keyring.lookup(&image).len(), 1, "{place}: no entry for {server} in {filled}");
}

/// Every YAML document of `deploy/gitops`, with its place: the files but for lists of tests, and what is between
/// ```` ```yaml ```` and ```` ``` ```` in the pages.
fn documents() -> Vec<(String, Value)> {
    let mut documents = Vec::new();
    let files = files(&repository().join("deploy/gitops"));
    for path in files.into_iter().filter(|path| !path.to_string_lossy().ends_with("_test.yaml")) {
        let text = fs::read_to_string(&path).unwrap();
        let parts = match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml" | "yml") => vec![text.as_str()],
            Some("md") => text.split("```yaml\n").skip(1).map(until_fence).collect(),
            _ => Vec::new(),
        };
        for (number, part) in parts.into_iter().enumerate() {
            let place = format!("{}, part {number}", path.display());
            let read = serde_saphyr::from_multiple::<Value>(part);
            let read = read.unwrap_or_else(|error| panic!("{place}: {error}"));
            documents.extend(read.into_iter().map(|document| (place.clone(), document)));
        }
    }
    documents
}

fn until_fence(text: &str) -> &str {
    text.split_once("```").expect("a block of code that ends").0
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
