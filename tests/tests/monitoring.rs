//! The alerts and the dashboard, tried with Prometheus itself: promtool plays what fires when, and a server that scrapes a
//! busy operator answers every query.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use regcred_tests::dashboard::PANELS;
use regcred_tests::install::{OPERATOR_NAMESPACE, repository};
use regcred_tests::prometheus::{Prometheus, promtool};
use regcred_tests::scene::SOON;
use regcred_tests::{OperatorOptions, Scene, chart, eventually};
use serde_json::{Value, json};

/// The groups of rules that the chart gives, without their words, which other tests look at.
async fn rules() -> Value {
    let text = chart::render(&["prometheusRule.enabled=true"]).await.unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let rule = objects.into_iter().find(|object| object["kind"] == "PrometheusRule").unwrap();
    let mut groups = rule["spec"].clone();
    for rule in groups["groups"][0]["rules"].as_array_mut().unwrap() {
        rule.as_object_mut().unwrap().remove("annotations");
    }
    groups
}

#[tokio::test]
async fn each_alert_fires_when_it_should_and_not_before() {
    let rules = rules().await;
    let cases = std::fs::read_to_string(repository().join("tests/prometheus/alerts.yaml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yaml"), rules.to_string()).unwrap();
    std::fs::write(folder.path().join("alerts.yaml"), &cases).unwrap();
    promtool(&["test", "rules", "alerts.yaml"], folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let cases: Value = serde_saphyr::from_str(&cases).unwrap();
    let checks = cases["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|case| case["alert_rule_test"].as_array().unwrap());
    let (mut fires, mut rests) = (BTreeSet::new(), BTreeSet::new());
    for check in checks {
        let name = check["alertname"].as_str().unwrap();
        if check["exp_alerts"].is_null() {
            rests.insert(name)
        } else {
            fires.insert(name)
        };
    }
    let alerts = rules["groups"][0]["rules"].as_array().unwrap().iter();
    let alerts: BTreeSet<_> = alerts.map(|rule| rule["alert"].as_str().unwrap()).collect();
    assert_eq!(fires, alerts, "each alert has a case in which it fires");
    assert_eq!(rests, alerts, "each alert has a case in which it does not");
}

/// An operator with something to tell for every panel.
async fn busy(scene: &Scene) -> String {
    let source = scene.basic_auth_source("src", "bot").await;
    let end = json!({"metadata": {"annotations": {"regcred.dev/expires-at": "2035-01-01T00:00:00Z"}}});
    let own = scene.secrets(OPERATOR_NAMESPACE);
    own.patch(&source, &PatchParams::default(), &Patch::Merge(&end)).await.unwrap();
    for number in 0..5 {
        scene.settled_namespace(&format!("n{number}"), &[("pull", "busy")]).await;
    }
    let spec = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": "busy"}}},
    });
    let name = scene.credential("pull", spec).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    name
}

#[tokio::test]
async fn every_panel_shows_something_of_a_busy_operator() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions { lease: true, ..OperatorOptions::default() }).await;
    let address = operator.address().await.unwrap();
    let prometheus = Prometheus::start(scene.control_plane(), address).await.unwrap();
    eventually("a first scrape", SOON, async || {
        let up = prometheus.query("up == 1").await.map_err(|error| error.to_string())?;
        if up.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await;
    busy(&scene).await;
    for panel in PANELS {
        for (query, _) in panel.queries {
            eventually(&format!("{}: {query}", panel.title), Duration::from_secs(30), async || {
                let series = prometheus.query(query).await.map_err(|error| error.to_string())?;
                let numbers = series.iter().filter(|(_, value)| value.is_finite()).count();
                if numbers > 0 { Ok(()) } else { Err(format!("{series:?}")) }
            })
            .await;
        }
    }
    scene.finish().await;
}
