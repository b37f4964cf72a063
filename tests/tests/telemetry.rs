//! What is seen of the operator from outside: the log of a short story, line by line, and the page of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use regcred_tests::install::OPERATOR_NAMESPACE;
use regcred_tests::scene::SOON;
use regcred_tests::{Operator, OperatorOptions, Scene, eventually};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};

/// A line of the log: flat, and with no key twice.
#[derive(Debug)]
struct Line(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Flat;
        impl<'de> Visitor<'de> for Flat {
            type Value = Line;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a flat object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Line, M::Error> {
                let mut line = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    let text = match value {
                        Value::Object(_) | Value::Array(_) => {
                            return Err(de::Error::custom("it is not flat"));
                        }
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    if line.insert(key.clone(), text).is_some() {
                        return Err(de::Error::custom(format!("{key} is there twice")));
                    }
                }
                Ok(Line(line))
            }
        }
        deserializer.deserialize_map(Flat)
    }
}

impl Line {
    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// What it says, with the fields that the story is about: `LEVEL message key=value`.
    fn told(&self) -> String {
        let dull = ["timestamp", "level", "message", "target", "unsaid", "cause"];
        let fields = self.0.iter().filter(|(key, _)| !dull.contains(&key.as_str()));
        let fields = fields.map(|(key, value)| format!("{key}={value}"));
        let head = [self.get("level"), self.get("message")].map(str::to_owned);
        head.into_iter().chain(fields).collect::<Vec<_>>().join(" ")
    }
}

/// Every line that the operator logged.
fn lines(operator: &Operator) -> Vec<Line> {
    let logs = operator.logs();
    let lines = logs.lines().filter(|line| !line.starts_with("listening on "));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Waits for a line that begins so.
async fn wait_for(operator: &Operator, told: &str) {
    eventually(&format!("the line: {told}"), SOON, async || {
        let lines: Vec<_> = lines(operator).iter().map(Line::told).collect();
        if lines.iter().any(|line| line.starts_with(told)) { Ok(()) } else { Err(format!("{lines:#?}")) }
    })
    .await;
}

/// A story in a cluster of its own names, told line by line.
struct Story {
    scene: Scene,
    operator: Operator,
    expected: Vec<String>,
}

impl Story {
    /// This line comes next.
    async fn next(&mut self, told: String) {
        wait_for(&self.operator, &told).await;
        self.expected.push(told);
    }
}

#[tokio::test]
async fn a_short_story_is_told_line_by_line() {
    let scene = Scene::new().await;
    let options = OperatorOptions { lease: true, log_level: "info".to_owned(), ..OperatorOptions::default() };
    let operator = scene.operator(options).await;
    let mut story = Story { scene, operator, expected: Vec::new() };
    wait_for(&story.operator, "INFO regcred has started").await;
    wait_for(&story.operator, "INFO this replica leads").await;
    let before = lines(&story.operator).len();
    let (name, namespace) = served(&mut story).await;
    refreshed_and_mended(&mut story, &name, &namespace).await;
    in_trouble(&mut story, &name).await;
    story.scene.delete_credential(&name).await;
    story
        .next(format!(
            "INFO a copy was deleted attached=0 credential={name} detached=1 namespace={namespace}"
        ))
        .await;
    story.operator.terminate(Duration::from_secs(10)).await.unwrap();
    story.expected.push("INFO stopping: writes in flight end, nothing new begins".to_owned());
    story.expected.push("INFO the lease was given back lease=regcred".to_owned());
    let all = lines(&story.operator);
    let told: Vec<_> = all.iter().skip(before).map(Line::told).collect();
    assert_eq!(told, story.expected);
    start_line(&all);
    story.scene.finish().await;
}

fn start_line(all: &[Line]) {
    let starts: Vec<_> = all.iter().filter(|line| line.get("message") == "regcred has started").collect();
    assert_eq!(starts.len(), 1, "{all:#?}");
    let start = starts[0];
    assert!(start.get("kubernetes").starts_with("v1."), "{start:?}");
    assert_eq!(start.get("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(start.get("source_namespace"), OPERATOR_NAMESPACE);
    assert_eq!((start.get("profile"), start.get("target_names")), ("any target name", ""));
    assert!(["yes", "no"].contains(&start.get("caged")), "{start:?}");
    let distinct: BTreeSet<_> = all.iter().map(Line::told).collect();
    assert_eq!(distinct.len(), all.len(), "no line comes twice: {all:#?}");
}

async fn served(story: &mut Story) -> (String, String) {
    let source = story.scene.basic_auth_source("src", "bot").await;
    let namespace = story.scene.settled_namespace("shop", &[("pull", "story")]).await;
    let spec = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": "story"}}},
    });
    let name = story.scene.credential("pull", spec).await;
    story.next(format!("INFO the sources give a credential credential={name} namespaces=1")).await;
    story
        .next(format!(
            "INFO a namespace is served attached=1 credential={name} detached=0 namespace={namespace}"
        ))
        .await;
    (name, namespace)
}

async fn refreshed_and_mended(story: &mut Story, name: &str, namespace: &str) {
    story.scene.basic_auth_source("src", "another-bot").await;
    story.next(format!("INFO a credential was refreshed credential={name} namespaces=1")).await;
    let told = format!(
        "INFO a copy was brought up to date attached=0 credential={name} detached=0 namespace={namespace}"
    );
    story.next(told).await;
    story.scene.secrets(namespace).delete(name, &DeleteParams::default()).await.unwrap();
    let mended = |object: &str, by: &str| {
        format!(
            "INFO drift was mended credential={name} namespace={namespace} object={object} undone_by={by}"
        )
    };
    story.next(mended(&format!("Secret {name}"), "somebody")).await;
    let edit = json!({"data": {".dockerconfigjson": "e30="}});
    let as_somebody =
        PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    let secrets: Api<Secret> = story.scene.secrets(namespace);
    secrets.patch(name, &as_somebody, &Patch::Merge(&edit)).await.unwrap();
    story.next(mended(&format!("Secret {name}"), "the field manager \"kubectl-edit\"")).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(story.scene.client.clone(), namespace);
    let emptied = json!({"imagePullSecrets": []});
    accounts.patch("default", &as_somebody, &Patch::Merge(&emptied)).await.unwrap();
    // Kubernetes keeps no field managers for a ServiceAccount that nobody applied.
    story.next(mended("ServiceAccount default", "somebody")).await;
}

async fn in_trouble(story: &mut Story, name: &str) {
    let source = story.scene.name("src");
    story.scene.delete_source(&source).await;
    let lost = "WARN a source gives nothing new; copies keep what it gave last";
    story.next(format!("{lost} credential={name} reason=SourceNotFound")).await;
    story.scene.basic_auth_source("src", "another-bot").await;
    story.next(format!("INFO the sources give their credentials again credential={name}")).await;
    let other = story.scene.settled_namespace("other", &[]).await;
    let foreign =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"a": "Yg=="}});
    let secrets = story.scene.secrets(&other);
    let as_somebody = PatchParams::apply("somebody");
    secrets.patch(name, &as_somebody, &Patch::Apply(&foreign)).await.unwrap();
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(story.scene.client.clone());
    let select = json!({"metadata": {"labels": {"pull": "story"}}});
    namespaces.patch(&other, &PatchParams::default(), &Patch::Merge(&select)).await.unwrap();
    let object = format!("namespace={other} object=Secret {name} reason=TypeMismatch");
    story.next(format!("WARN something is not in place credential={name} {object}")).await;
    secrets.delete(name, &DeleteParams::default()).await.unwrap();
    let made =
        format!("INFO a namespace is served attached=1 credential={name} detached=0 namespace={other}");
    story.next(made).await;
    story.next(format!("INFO everything is in place again credential={name}")).await;
    let excluded = json!({"metadata": {"labels": {"pull": null}}});
    namespaces.patch(&other, &PatchParams::default(), &Patch::Merge(&excluded)).await.unwrap();
    story
        .next(format!("INFO a copy was deleted attached=0 credential={name} detached=1 namespace={other}"))
        .await;
}

/// The log may not have the password of an address.
#[tokio::test]
async fn trouble_with_the_connection_is_told_once_without_the_address() {
    const PASSWORD: &str = "hidden-word";
    let scene = Scene::new().await;
    for (host, cause) in [("127.0.0.1:1", "connection refused"), ("no-such-name.invalid:6443", "DNS")] {
        let options = OperatorOptions {
            api_url: Some(format!("https://me:{PASSWORD}@{host}")),
            log_level: "info".to_owned(),
            ..OperatorOptions::default()
        };
        let operator = scene.starting_operator(options).await;
        let told = format!("WARN the API server cannot be reached server={host}");
        wait_for(&operator, &told).await;
        // Five watches and the key are tried again meanwhile.
        eventually("it was tried some times", SOON, async || {
            let metrics = operator.metrics().await.map_err(|error| error.to_string())?;
            let failed =
                metrics.lines().filter(|line| line.contains("code=\"none\"") && !line.ends_with(" 0"));
            let failed: Vec<_> = failed.collect();
            if failed.len() >= 2 { Ok(()) } else { Err(failed.join("\n")) }
        })
        .await;
        let lines = lines(&operator);
        let told: Vec<_> = lines.iter().filter(|line| line.told() == told).collect();
        assert_eq!(told.len(), 1, "{lines:#?}");
        assert!(told[0].get("cause").starts_with(cause), "{told:?}");
        assert!(!operator.logs().contains(PASSWORD));
    }
    scene.finish().await;
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md")
}

/// The families of an OpenMetrics text as rows of a table: name, type, labels and meaning.
fn rows(metrics: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for line in metrics.lines() {
        let Some((family, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let kind = format!("# TYPE {family} ");
        let kind = metrics.lines().find_map(|line| line.strip_prefix(&kind)).unwrap();
        let name = match kind {
            "counter" => format!("{family}_total"),
            "info" => format!("{family}_info"),
            _ => family.to_owned(),
        };
        let series = metrics.lines().filter(|line| {
            let ends = ["{", "_bucket{", "_total{", "_info{"];
            ends.iter().any(|end| line.starts_with(&format!("{family}{end}")))
        });
        let mut labels: Vec<&str> = Vec::new();
        for label in series.flat_map(|line| line.split(['{', ','])).filter_map(|part| part.split_once("=\""))
        {
            if label.0 != "le" && !labels.contains(&label.0) {
                labels.push(label.0);
            }
        }
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        rows.push(format!("| `{name}` | {kind} | {labels} | {help} |"));
    }
    rows
}

#[tokio::test]
async fn the_page_lists_what_is_served_and_nothing_else() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions { lease: true, ..OperatorOptions::default() }).await;
    let source = scene.basic_auth_source("src", "bot").await;
    let end = json!({"metadata": {"annotations": {"regcred.dev/expires-at": "2030-01-01T00:00:00Z"}}});
    let own = scene.secrets(OPERATOR_NAMESPACE);
    own.patch(&source, &PatchParams::default(), &Patch::Merge(&end)).await.unwrap();
    scene.settled_namespace("n", &[("pull", "metrics")]).await;
    let spec = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": source}}}],
        "namespaces": {"selector": {"matchLabels": {"pull": "metrics"}}},
    });
    let name = scene.credential("pull", spec).await;
    scene.wait_condition(&name, "Ready", "True", "Succeeded").await;
    let ready = format!("regcred_credential_condition{{name=\"{name}\",type=\"Ready\",status=\"True\"}} 1\n");
    let metrics = eventually("the metrics tell that it is ready", SOON, async || {
        let text = operator.metrics().await.map_err(|error| error.to_string())?;
        if text.contains(&ready) && text.contains("expiration") { Ok(text) } else { Err(text) }
    })
    .await;
    numbers(&metrics, &name);
    let table = format!(
        "| metric | type | labels | what it tells |\n|---|---|---|---|\n{}\n",
        rows(&metrics).join("\n")
    );
    let text = std::fs::read_to_string(page()).unwrap();
    let (before, rest) = text.split_once("<!-- table -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let expected = format!("{before}<!-- table -->\n{table}<!-- end -->{after}");
    if std::env::var_os("REGCRED_WRITE_METRICS").is_some() {
        std::fs::write(page(), &expected).unwrap();
    } else {
        assert_eq!(text, expected, "REGCRED_WRITE_METRICS=1 writes the page anew");
    }
    gone(&scene, &operator, &name).await;
    scene.finish().await;
}

/// What one RegistryCredential in one namespace makes of the numbers.
fn numbers(metrics: &str, name: &str) {
    for line in [
        "regcred_leader 1".to_owned(),
        format!("regcred_credential_namespaces{{name=\"{name}\",state=\"synced\"}} 1"),
        format!("regcred_credential_serviceaccounts{{name=\"{name}\",state=\"attached\"}} 1"),
        format!(
            "regcred_credential_expiration_timestamp_seconds{{name=\"{name}\",server=\"ghcr.io\"}} 1893456000"
        ),
        "regcred_steps_total{step=\"ApplySecret\",result=\"Succeeded\"} 1".to_owned(),
        "regcred_steps_total{step=\"DeleteSecret\",result=\"WriteFailed\"} 0".to_owned(),
        "regcred_write_duration_seconds_count{step=\"ApplySecret\"} 1".to_owned(),
        "regcred_api_requests_total{verb=\"watch\",resource=\"secrets\",code=\"5xx\"} 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|own| own == line), "{line}:\n{metrics}");
    }
    let counted = |start: &str| {
        let lines = metrics.lines().filter(|line| line.starts_with(start));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    assert!(
        counted("regcred_api_requests_total{verb=\"patch\",resource=\"serviceaccounts\",code=\"2xx\"}")
            >= 1.0
    );
    assert!(counted("regcred_api_requests_total{verb=\"update\",resource=\"leases\",code=\"2xx\"}") >= 1.0);
    assert!(counted("regcred_queue_wait_seconds_count{queue=\"namespaces\"}") >= 1.0);
    assert!(counted("process_resident_memory_bytes") > 1e6);
    let series = metrics.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 700, "the page says how many series there are: {series}");
    let own = metrics.lines().filter(|line| line.contains(&format!("name=\"{name}\""))).count();
    assert_eq!(own, 30, "the page says how many a RegistryCredential has");
}

async fn gone(scene: &Scene, operator: &Operator, name: &str) {
    scene.delete_credential(name).await;
    eventually("nothing is told of a RegistryCredential that is gone", SOON, async || {
        let text = operator.metrics().await.map_err(|error| error.to_string())?;
        let mut told = text.lines().filter(|line| line.contains(name));
        told.next().map_or(Ok(()), |line| Err(line.to_owned()))
    })
    .await;
}
