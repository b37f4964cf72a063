//! Schema and operator agree: what the API server stores, the operator takes, and whatever is refused is refused with
//! words that help. Random specs, each dry-run on a real API server, and read back as it would be stored.

use kube::api::{Patch, PatchParams, PostParams};
use regcred_api::{RegistryCredential, RegistryCredentialSpec};
use regcred_planner::{Settings, validate};
use regcred_tests::Scene;
use serde_json::{Map, Value, json};

const SPECS: usize = 1_500;

/// Draws values, each odd with a probability that differs from spec to spec.
struct Draw {
    random: fastrand::Rng,
    odd_percent: u8,
}

/// How a member of an object is drawn.
type Member = fn(&mut Draw) -> Value;

impl Draw {
    fn chance(&mut self, percent: u8) -> bool {
        self.random.u8(..100) < percent
    }

    fn odd(&mut self) -> bool {
        self.chance(self.odd_percent)
    }

    fn one(&mut self, values: &[&str]) -> Value {
        Value::from(values[self.random.usize(..values.len())])
    }

    fn text(&mut self, good: &[&str], odd: &[&str]) -> Value {
        if self.odd() { self.one(odd) } else { self.one(good) }
    }

    /// Different ones, unless it is odd.
    fn several(&mut self, draw: fn(&mut Self) -> Value) -> Value {
        let mut values: Vec<Value> = (0..self.random.usize(..4)).map(|_| draw(self)).collect();
        if !self.odd() {
            let mut seen = Vec::new();
            values.retain(|value| {
                let key = value.get("server").or(value.get("name")).unwrap_or(value).clone();
                let fresh = !seen.contains(&key);
                seen.push(key);
                fresh
            });
        }
        Value::from(values)
    }

    /// Members that are there or absent, and null if they are odd.
    fn object(&mut self, members: &[(&str, Member)], there: u8) -> Value {
        let mut object = Map::new();
        for (name, draw) in members {
            if self.chance(there) {
                let value = if self.odd() && self.odd() { Value::Null } else { draw(self) };
                object.insert((*name).to_owned(), value);
            }
        }
        Value::Object(object)
    }
}

fn server(draw: &mut Draw) -> Value {
    draw.text(
        &[
            "ghcr.io",
            "docker.io",
            "quay.io",
            "reg.example:5000/team",
            "docker.io/library",
            "localhost:5000/team/app",
        ],
        &[
            "GHCR.io",
            "https://ghcr.io",
            "ghcr.io/",
            "ghcr.io/v1",
            "ghcr.io/v2/",
            "reg.example/v2/team",
            "ghcr.io:99999",
            "ghcr.io:0",
            "ghcr.io:65535",
            "ghcr.io:65536",
            "ghcr.io:00443",
            "ghcr.io:",
            "ghcr.io//a",
            "ghcr.io/a//b",
            "index.docker.io",
            "index.docker.io/library",
            "registry-1.docker.io/a",
            "*.ghcr.io",
            "*",
            "user@ghcr.io",
            "[::1]:5000",
            "[fe80::1]",
            "::1",
            "-a.io",
            "a-.io",
            "a..io",
            ".io",
            "a.",
            "a_b.io",
            "localhost",
            "10.0.0.1:5000",
            "ghcr.io/Team",
            "ghcr.io/a?b",
            "ghcr.io/a b",
            "ghcr.io/..",
            "ghcr.io/.",
            "ghcr.io\n",
            " ghcr.io",
            "",
            "xn--bcher-kva.example",
            "b\u{fc}cher.example",
            "a/b",
            "oci://ghcr.io",
            "ghcr.io/v1beta",
            "ghcr.io/v2",
            "ghcr.io/v1/v2",
            "ghcr.io:443",
        ],
    )
}

fn name(draw: &mut Draw) -> Value {
    draw.text(&["s", "ghcr-bot", "a.b"], &["Not A Name", "", "-"])
}

fn secret_ref(draw: &mut Draw) -> Value {
    let mut reference = json!({"name": name(draw)});
    if draw.chance(20) {
        reference["usernameKey"] = name(draw);
    }
    if reference.get("usernameKey").is_some() != draw.odd() {
        reference["passwordKey"] = name(draw);
    }
    reference
}

fn registry(draw: &mut Draw) -> Value {
    let source = if draw.odd() {
        draw.object(&[("secretRef", secret_ref), ("ecr", name)], 50)
    } else {
        json!({"secretRef": secret_ref(draw)})
    };
    let mut registry = draw.object(&[("verify", verify)], 30);
    registry["server"] = server(draw);
    registry["source"] = source;
    registry
}

/// Mostly as it means something: with a mode, and an image for `Pull` alone.
fn verify(draw: &mut Draw) -> Value {
    let mut verify = any_verify(draw);
    if draw.odd() {
        return verify;
    }
    verify["mode"] = draw.one(&["None", "Login", "Pull"]);
    let image = verify.as_object_mut().expect("an object");
    if image["mode"] == "Login" {
        image.retain(|name, _| name != "repository" && name != "reference");
    } else {
        image.insert("repository".to_owned(), json!("acme/app"));
    }
    verify
}

fn any_verify(draw: &mut Draw) -> Value {
    draw.object(
        &[
            ("mode", |draw| draw.text(&["None", "Login", "Pull"], &["login", "Always", ""])),
            ("repository", |draw| {
                let good = ["acme/app", "library/alpine", "team/a__b-c.d", "a", "ghcr.io/acme/app"];
                draw.text(&good, &["Acme/app", "acme/app:1", "/app", "a//b", "ghcr.io/a b", ""])
            }),
            ("reference", |draw| {
                let good = [
                    "latest",
                    "v1.2_3",
                    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                ];
                draw.text(&good, &[".hidden", "a b", "sha256:", ""])
            }),
            ("interval", |draw| {
                draw.text(
                    &["12h", "15m", "900s", "24h", "14m60s"],
                    &["14m", "899s", "1d", "-1h", "9999999999h", ""],
                )
            }),
            ("onRejected", |draw| draw.text(&["Report", "Hold"], &["hold", "Delete"])),
        ],
        60,
    )
}

fn config_secret(draw: &mut Draw) -> Value {
    json!({"name": name(draw)})
}

fn glob(draw: &mut Draw) -> Value {
    draw.text(&["default", "team-*", "a?", "*"], &["UPPER", "a_b", "a.b", "", "b\u{fc}cher"])
}

fn globs(draw: &mut Draw) -> Value {
    draw.several(glob)
}

fn labels(draw: &mut Draw) -> Value {
    let mut labels = Map::new();
    for _ in 0..draw.random.usize(..3) {
        let odd = [
            "Example.com/team",
            "bad key",
            "",
            "/x",
            "a/b/c",
            "-x",
            "a..b/x",
            "regcred.dev/x",
            "app.kubernetes.io/managed-by",
            "app.kubernetes.io/instance",
            "argocd.argoproj.io/secret-type",
            "helm.sh/x",
            "a.k8s.io/x",
            "a_b/x",
        ];
        let key =
            draw.text(&["team", "example.com/team", "app.kubernetes.io/name", "A_b.c", "myhelm.sh/x"], &odd);
        let value = draw.text(&["platform", "", "a_b.c", "1"], &["a b", "-x", "b\u{fc}cher", "x\n"]);
        labels.insert(key.as_str().unwrap().to_owned(), value);
    }
    let long = "k".repeat(64);
    if draw.odd() {
        labels.insert(long.clone(), Value::from(""));
    }
    if draw.odd() {
        labels.insert("long".to_owned(), Value::from(long));
    }
    Value::Object(labels)
}

fn expression(draw: &mut Draw) -> Value {
    let operator = draw.text(&["In", "NotIn", "Exists", "DoesNotExist"], &["Is"]);
    let mut expression = json!({"key": draw.text(&["team", "example.com/team"], &["bad key", ""])});
    if operator.as_str().unwrap().ends_with("In") != draw.odd() {
        expression["values"] = draw.several(|draw| draw.text(&["a", "b"], &["", "b c"]));
    }
    expression["operator"] = operator;
    expression
}

fn expressions(draw: &mut Draw) -> Value {
    draw.several(expression)
}

fn selector(draw: &mut Draw) -> Value {
    draw.object(&[("matchLabels", labels), ("matchExpressions", expressions)], 50)
}

fn selection(draw: &mut Draw, all: &[&str]) -> Value {
    let mut selection = draw.object(&[("exclude", globs)], 40);
    if draw.chance(50) == draw.odd() {
        selection["from"] = draw.text(all, &["Some"]);
    } else {
        selection["matchNames"] = json!([glob(draw)]);
        if draw.chance(50) {
            selection["selector"] = selector(draw);
        }
    }
    selection
}

fn namespaces(draw: &mut Draw) -> Value {
    selection(draw, &["All"])
}

fn accounts(draw: &mut Draw) -> Value {
    selection(draw, &["All", "None"])
}

fn metadata(draw: &mut Draw) -> Value {
    draw.object(&[("labels", labels), ("annotations", labels)], 70)
}

fn target(draw: &mut Draw) -> Value {
    draw.object(
        &[
            ("name", |draw| draw.text(&["platform-pull", "a.b"], &["Not_A_Name", "-a", "a..b", "a-", ""])),
            ("conflictPolicy", |draw| draw.text(&["Fail", "Fail", "Adopt"], &["Take"])),
            ("metadata", metadata),
        ],
        50,
    )
}

fn interval(draw: &mut Draw) -> Value {
    draw.text(
        &["1h", "1m", "60s", "1h30m", "30m2h", "30s1h", "60000ms", "2562047h", "0h1m"],
        &[
            "59s",
            "59999ms",
            "1d",
            "1.5h",
            "-1h",
            "0s",
            "h",
            "1",
            "1h ",
            "\u{661}h",
            "2562048h",
            "9999999999h",
            "2562047h2562047h",
            "1us",
            "",
        ],
    )
}

fn spec(random: &mut fastrand::Rng) -> Value {
    let odd_percent = [0, 2, 15][random.usize(..3)];
    let draw = &mut Draw { random: random.fork(), odd_percent };
    let mut spec = draw.object(
        &[
            ("suspend", |draw| Value::from(draw.chance(50))),
            ("dockerConfigSecretRefs", |draw| draw.several(config_secret)),
            ("serviceAccounts", accounts),
            ("target", target),
            ("deletionPolicy", |draw| draw.text(&["Delete", "Retain", "Retain"], &["Keep"])),
            ("refreshInterval", interval),
            ("verify", verify),
        ],
        50,
    );
    spec["registries"] = draw.several(registry);
    spec["namespaces"] = namespaces(draw);
    spec
}

/// Whether the API server takes a Secret with these labels and annotations.
async fn copy(scene: &Scene, metadata: &Value) -> kube::Result<()> {
    let secret = json!({
        "metadata": {"name": "probe", "labels": metadata["labels"], "annotations": metadata["annotations"]},
    });
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let secret = serde_json::from_value(secret).unwrap();
    scene.secrets("default").create(&params, &secret).await.map(drop)
}

/// Says where, and not with a regular expression.
fn helps(message: &str) -> bool {
    message.contains("spec") && !message.contains("should match")
}

/// An object with a key of another tool may be stored from before the rule was: the operator has to refuse it, too.
fn takes(spec: &Value) -> Option<String> {
    let spec = serde_json::from_value::<RegistryCredentialSpec>(spec.clone()).ok()?;
    let taken = validate("pull", &spec, &Settings::default()).is_ok();
    taken.then(|| format!("refused by the API server alone: {spec:?}"))
}

#[tokio::test]
async fn what_the_api_server_stores_the_operator_takes() {
    let scene = Scene::new().await;
    let mut random = fastrand::Rng::with_seed(12);
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let (mut stored, mut of_tools, mut complaints) = (0, 0, Vec::new());
    for _ in 0..SPECS {
        let spec = spec(&mut random);
        let object = json!({
            "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "metadata": {"name": "pull"}, "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        match scene.credentials().create(&params, &object).await {
            Ok(kept) => {
                stored += 1;
                let metadata = &kept.data["spec"]["target"]["metadata"];
                if let Err(error) = copy(&scene, metadata).await {
                    complaints.push(format!("stored, but no Secret can be so: {error}: {spec}"));
                }
                let read = serde_json::from_value::<RegistryCredential>(serde_json::to_value(&kept).unwrap());
                let taken = read.map_err(|error| error.to_string()).and_then(|object| {
                    validate("pull", &object.spec, &Settings::default())
                        .map(drop)
                        .map_err(|error| error.to_string())
                });
                if let Err(error) = taken {
                    complaints.push(format!("stored, but {error}: {spec}"));
                }
            }
            Err(error) if !helps(&error.to_string()) => complaints.push(format!("{error}: {spec}")),
            Err(error) if error.to_string().contains("another tool acts") => {
                of_tools += 1;
                if let Some(complaint) = takes(&spec) {
                    complaints.push(complaint);
                }
            }
            Err(_) => {}
        }
    }
    assert!(complaints.is_empty(), "{} of {SPECS}:\n{}", complaints.len(), complaints.join("\n"));
    assert!(
        (SPECS / 4..SPECS * 3 / 4).contains(&stored),
        "{stored} of {SPECS} are stored: the draw is one-sided"
    );
    assert!(of_tools > 3, "{of_tools} specs have a key of another tool");
    scene.finish().await;
}

/// What was left out once must not stay for a later manifest to stumble over.
#[tokio::test]
async fn a_selection_of_service_accounts_replaces_the_default() {
    let scene = Scene::new().await;
    let name = scene.name("pull");
    let good = json!({
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": "s"}}}],
        "namespaces": {"matchNames": ["nowhere"]},
    });
    for accounts in [json!({"from": "All"}), json!({"from": "None"}), json!({"matchNames": ["builder"]})] {
        for (manager, spec) in [
            ("gitops", good.clone()),
            ("gitops", {
                let mut spec = good.clone();
                spec["serviceAccounts"] = accounts.clone();
                spec
            }),
        ] {
            let object = json!({
                "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "metadata": {"name": name},
                "spec": spec,
            });
            let applied =
                scene.credentials().patch(&name, &PatchParams::apply(manager), &Patch::Apply(&object)).await;
            let applied = applied.unwrap_or_else(|error| panic!("{accounts}: {error}"));
            if let Some(matched) = spec["serviceAccounts"].get("matchNames") {
                assert_eq!(applied.data["spec"]["serviceAccounts"]["matchNames"], *matched);
            }
        }
        scene.delete_credential(&name).await;
    }
    scene.finish().await;
}
