//! `kubectl regcred` on a real control plane: each verb over a scene that has every reason at least once. No kubelet runs
//! here, so what one would say of a Pod is written into its status.
//!
//! | file | what it tests |
//! |---|---|
//! | `main` | verbs, reasons, and the commands that mend them |
//! | `kubeconfig` | kubeconfigs are taken as kubectl takes them |
//! | `interrupt` | Ctrl-C ends it at once |

mod interrupt;
mod kubeconfig;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use regcred_tests::binaries::workspace_binary;
use regcred_tests::canary::{CANARY, assert_no_canary};
use regcred_tests::operator::OperatorOptions;
use regcred_tests::registry::Registry;
use regcred_tests::{Identity, SECRET_KEY, SECRET_TYPE, Scene, eventually};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

const SOON: Duration = Duration::from_mins(1);
const IMAGE: &str = "ghcr.io/acme/app:1";

/// What a run of the plugin came to.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

/// The plugin, built once, with these arguments and an empty environment.
async fn program(arguments: &[&str]) -> Command {
    static BINARY: OnceCell<PathBuf> = OnceCell::const_new();
    let build = async || {
        let built = spawn_blocking(|| workspace_binary("regcred-plugin", "kubectl-regcred", &[])).await;
        built.expect("the build panicked").unwrap_or_else(|error| panic!("{error}"))
    };
    let mut command = Command::new(BINARY.get_or_init(build).await);
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the plugin as somebody.
async fn plugin(who: &Identity, arguments: &[&str]) -> Run {
    let run = end(program(arguments).await.env("KUBECONFIG", &who.kubeconfig)).await;
    record(arguments, &run);
    run
}

/// What a run comes to.
async fn end(command: &mut Command) -> Run {
    let output = command.output();
    let output = tokio::time::timeout(SOON, output).await.expect("an end").expect("a program");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Run {
        code: output.status.code().expect("a code"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Adds a run to the file that `REGCRED_PLUGIN_RUNS` names: what the documentation shows comes from there.
fn record(arguments: &[&str], run: &Run) {
    let Some(file) = std::env::var_os("REGCRED_PLUGIN_RUNS") else { return };
    let mut file = std::fs::File::options().create(true).append(true).open(file).expect("a file");
    let command = arguments.join(" ");
    write!(file, "$ kubectl regcred {command}\n{}{}# exit code {}\n\n", run.stdout, run.stderr, run.code)
        .unwrap();
}

/// The report of a verb that succeeds.
async fn report(who: &Identity, arguments: &[&str]) -> Value {
    let run = plugin(who, &[arguments, &["-o", "json"]].concat()).await;
    assert_eq!(run.code, 0, "{arguments:?}: {}{}", run.stdout, run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(report["apiVersion"], "cli.regcred.dev/v1alpha1");
    report
}

/// A Pod whose status says what a kubelet would: `waits` for its image, or has it where that is empty.
async fn pod(scene: &Scene, place: (&str, &str), account: &str, list: &[&str], waits: &str) {
    let (namespace, name) = place;
    let list: Vec<Value> = list.iter().map(|name| json!({"name": name})).collect();
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"serviceAccountName": account, "imagePullSecrets": list, "containers": [{"name": "c", "image": IMAGE}]},
    });
    let pods = Api::<Pod>::namespaced(scene.client.clone(), namespace);
    let object: Pod = serde_json::from_value(object).expect("a Pod");
    pods.create(&PostParams::default(), &object)
        .await
        .unwrap_or_else(|error| panic!("create {name}: {error}"));
    let state = match waits {
        "" => json!({"running": {}}),
        reason => json!({"waiting": {"reason": reason, "message": "401 Unauthorized \u{1b}[31m"}}),
    };
    let image_id = if waits.is_empty() { "sha256:1" } else { "" };
    let status = json!({"name": "c", "image": IMAGE, "imageID": image_id, "ready": false, "restartCount": 0, "state": state});
    let status = Patch::Merge(json!({"status": {"containerStatuses": [status]}}));
    pods.patch_status(name, &PatchParams::default(), &status).await.unwrap();
}

/// A Secret of a tenant's own.
async fn secret(scene: &Scene, namespace: &str, name: &str, kind: &str, config: &str) {
    let key = if kind == SECRET_TYPE { SECRET_KEY } else { "password" };
    let object = json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": name},
        "data": {key: STANDARD.encode(config)}});
    let object = serde_json::from_value(object).expect("a Secret");
    scene.secrets(namespace).create(&PostParams::default(), &object).await.unwrap();
}

/// A user of the cluster who may look at everything but Secrets.
async fn viewer(scene: &Scene) -> Identity {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "plugin-viewer"},
    "rules": [
        {"apiGroups": [""], "resources": ["pods", "namespaces", "serviceaccounts"], "verbs": ["get", "list"]},
        {"apiGroups": ["regcred.dev"], "resources": ["registrycredentials"], "verbs": ["get", "list"]},
    ]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "plugin-viewer"}, "subjects": [{"kind": "User", "name": "viewer", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "plugin-viewer", "apiGroup": "rbac.authorization.k8s.io"}});
    let control_plane = scene.control_plane();
    let both = format!("{role}\n---\n{binding}");
    let applied = control_plane.kubectl(control_plane.admin_identity(), &["apply", "-f", "-"], &both).await;
    applied.unwrap().success().unwrap();
    control_plane.user("viewer", &[]).unwrap()
}

/// A cluster with every reason: the full names of its RegistryCredential and its namespaces.
struct Broken {
    credential: String,
    expired: String,
    served: String,
    unserved: String,
    conflict: String,
}

async fn break_everything(scene: &Scene) -> Broken {
    let served = scene.settled_namespace("shop", &[("pull", "private")]).await;
    let unserved = scene.settled_namespace("team-b", &[]).await;
    let conflict = scene.settled_namespace("legacy", &[("pull", "private")]).await;
    let credential = scene.name("platform-pull");
    secret(scene, &conflict, &credential, SECRET_TYPE, r#"{"auths":{}}"#).await;
    let source = scene.basic_auth_source("bot", "bot").await;
    let spec = |server: &str| {
        json!({"registries": [{"server": server, "source": {"secretRef": {"name": source}}}],
               "namespaces": {"selector": {"matchLabels": {"pull": "private"}}}})
    };
    for namespace in [&served, &conflict] {
        scene.service_account(namespace, "builder", &[]).await;
    }
    // Before the entry is on its ServiceAccount.
    pod(scene, (&served, "stale"), "default", &[], "ErrImagePull").await;
    scene.credential("platform-pull", spec("ghcr.io")).await;
    let expired = scene.credential("expired", spec("quay.io")).await;
    scene.wait_condition(&credential, "Ready", "False", "PartiallySynced").await;
    scene.wait_condition(&expired, "Ready", "True", "Succeeded").await;
    eventually("the entry", SOON, async || {
        let list = scene.pull_secrets(&served, "default").await;
        list.contains(&credential).then_some(()).ok_or_else(|| format!("{list:?}"))
    })
    .await;
    pod(scene, (&served, "good"), "default", &[], "").await;
    pod(scene, (&served, "own-list"), "default", &["legacy"], "ImagePullBackOff").await;
    pod(scene, (&served, "other-account"), "builder", &[], "ErrImagePull").await;
    pod(scene, (&unserved, "unselected"), "default", &[], "ErrImagePull").await;
    pod(scene, (&unserved, "dead"), "default", &[&credential], "ErrImagePull").await;
    pod(scene, (&unserved, "lucky"), "default", &[], "").await;
    pod(scene, (&conflict, "refused"), "default", &[&credential], "ErrImagePull").await;
    // What the kubelet says of a Secret that it cannot decode has no reason of its own.
    let undecodable = "illegal base64 data at input byte 0";
    for (name, kind, config, waits) in [
        ("wrong-key", SECRET_TYPE, r#"{"auths":{"ghcr.io/other":{"auth":"dTpw"}}}"#, "ErrImagePull"),
        ("wrong-type", "Opaque", "", "ErrImagePull"),
        ("undecodable", SECRET_TYPE, r#"{"auths":{"ghcr.io":{"auth":"!"}}}"#, undecodable),
    ] {
        secret(scene, &unserved, name, kind, config).await;
        pod(scene, (&unserved, name), "default", &[name], waits).await;
    }
    Broken { credential, expired, served, unserved, conflict }
}

/// The reasons of an audit, by Pod.
fn reasons(audit: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let findings = audit["findings"].as_array().expect("findings").iter();
    let mut told: Vec<_> = findings
        .map(|found| (text(&found["workload"]), text(&found["level"]), text(&found["reason"])))
        .collect();
    told.sort();
    told
}

fn expected(found: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    let mut expected: Vec<_> = found
        .iter()
        .map(|(pod, level, reason)| (format!("pod/{pod}"), (*level).to_owned(), (*reason).to_owned()))
        .collect();
    expected.sort();
    expected
}

#[tokio::test]
async fn every_reason_is_named_and_secrets_are_read_only_when_asked() {
    let scene = Scene::new().await;
    let operator = scene.operator(OperatorOptions::default()).await;
    let broken = break_everything(&scene).await;
    let admin = scene.control_plane().admin_identity();
    let common = [
        ("stale", "FAIL", "StalePod"),
        ("own-list", "FAIL", "OwnList"),
        ("other-account", "FAIL", "ServiceAccountNotSelected"),
        ("unselected", "FAIL", "NamespaceNotSelected"),
        ("dead", "FAIL", "DeadReference"),
        ("refused", "FAIL", "NotInPlace"),
        ("lucky", "RISK", "NamespaceNotSelected"),
    ];
    let shallow = [
        ("wrong-key", "FAIL", "NamespaceNotSelected"),
        ("wrong-type", "FAIL", "NamespaceNotSelected"),
        ("undecodable", "FAIL", "Undecodable"),
    ];
    let audit = report(admin, &["audit", "-A"]).await;
    assert_eq!(reasons(&audit), expected(&[&common[..], &shallow].concat()), "{audit}");
    assert_eq!(audit["summary"]["secretsRead"], 0);
    let deep = [
        ("wrong-key", "FAIL", "WrongKey"),
        ("wrong-type", "FAIL", "WrongType"),
        ("undecodable", "FAIL", "Undecodable"),
    ];
    let audit = report(admin, &["audit", "-A", "--deep"]).await;
    assert_eq!(reasons(&audit), expected(&[&common[..], &deep].concat()), "{audit}");
    the_same_without_rights_on_secrets(&scene, &broken).await;
    each_verb_answers(&broken, admin).await;
    a_registry_is_asked(&broken, admin).await;
    a_file_is_compared(&scene, &broken, admin).await;
    the_installation_is_checked(admin).await;
    names_are_completed(&broken, admin).await;
    the_fixes_mend(&scene, &broken, admin).await;
    an_expired_credential_is_told_of(&scene, &broken, admin, operator).await;
    scene.finish().await;
}

/// Byte for byte, and the Secrets stay unread.
async fn the_same_without_rights_on_secrets(scene: &Scene, broken: &Broken) {
    let admin = scene.control_plane().admin_identity();
    let viewer = viewer(scene).await;
    let pod = ["explain", "-n", &broken.unserved, "pod/unselected"];
    for arguments in
        [&["audit", "-A"][..], &["audit", "-A", "-o", "wide"], &["impact", &broken.credential], &pod]
    {
        let (mine, theirs) = (plugin(admin, arguments).await, plugin(&viewer, arguments).await);
        assert_eq!((mine.code, mine.stdout), (0, theirs.stdout), "{arguments:?}: {}", theirs.stderr);
    }
    let as_viewer = plugin(admin, &["audit", "-A", "--as", &viewer.name]).await;
    assert_eq!((as_viewer.code, as_viewer.stdout), (0, plugin(&viewer, &["audit", "-A"]).await.stdout));
    let asked = scene.control_plane().audit().entries().by(&viewer.name).of("secrets");
    assert_eq!(asked.counts().total(), 0);
    let forbidden = plugin(&scene.control_plane().user("nobody", &[]).unwrap(), &["audit", "-A"]).await;
    assert_eq!(forbidden.code, 0, "{}", forbidden.stderr);
    for kind in ["RegistryCredentials", "Namespaces", "ServiceAccounts", "Pods"] {
        assert!(forbidden.stdout.contains(&format!("{kind} not read: forbidden")), "{}", forbidden.stdout);
    }
    // Whoever may look into one namespace alone gets an answer for that.
    let tenant = plugin(&viewer, &["explain", "-n", &broken.served, "own-list"]).await;
    assert!(tenant.stdout.contains("OwnList: "), "{}{}", tenant.stdout, tenant.stderr);
}

async fn each_verb_answers(broken: &Broken, admin: &Identity) {
    let Broken { credential, served, unserved, conflict, .. } = broken;
    let table = plugin(admin, &["audit", "-A"]).await.stdout;
    assert!(
        table.lines().filter(|line| line.starts_with("FAIL")).all(|line| line.chars().count() <= 120),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "a kubelet's message is no text of ours: {table}");
    assert_eq!(plugin(admin, &["audit", "-A", "--fail-on", "FAIL"]).await.code, 2);
    let yaml = plugin(admin, &["audit", "-n", served, "-o", "yaml"]).await.stdout;
    assert!(yaml.contains("kind: AuditReport\n") && yaml.contains("reason: OwnList\n"), "{yaml}");
    let names =
        plugin(admin, &["audit", "-n", served, "-o", "name", "--field-selector", "metadata.name=stale"])
            .await;
    assert_eq!(names.stdout, format!("{served}/pod/stale\n"));
    let pages = plugin(admin, &["audit", "-A", "--chunk-size", "2"]).await.stdout;
    assert_eq!(pages, table);
    let explained = plugin(admin, &["explain", "-n", unserved, "unselected", "--exit-code"]).await;
    assert_eq!(explained.code, 2, "{}", explained.stderr);
    assert!(
        explained.stdout.contains(&format!("kubectl label namespace {unserved} pull=private")),
        "{}",
        explained.stdout
    );
    let image = plugin(admin, &["explain", "-n", served, IMAGE, "--exit-code"]).await;
    assert_eq!(image.code, 0, "{}", image.stdout);
    let status = plugin(admin, &["status", credential]).await.stdout;
    assert!(
        status.contains("Ready=False PartiallySynced")
            && status.contains(&format!("{conflict}   NameConflict since")),
        "{status}"
    );
    let impact = report(admin, &["impact", credential]).await;
    assert_eq!((&impact["namespaces"], &impact["nothingElse"]), (&json!(2), &json!(3)), "{impact}");
    let refreshed = plugin(admin, &["refresh", credential, "--wait"]).await;
    assert!(
        refreshed.stdout.contains("Ready=False PartiallySynced"),
        "{}{}",
        refreshed.stdout,
        refreshed.stderr
    );
    let missing = plugin(admin, &["status", "nothing"]).await;
    assert_eq!((missing.code, missing.stdout.as_str()), (1, ""));
    assert_eq!(plugin(admin, &["nonsense"]).await.code, 1);
}

/// With the credential that the kubelet would try, which is shown nowhere.
async fn a_registry_is_asked(broken: &Broken, admin: &Identity) {
    let served = &broken.served;
    let pair = format!("bot:{CANARY}");
    let registry = Registry::start(&[&pair]).await.unwrap();
    let asked =
        ["explain", "-n", served, "ghcr.io/acme/app:latest", "--probe", &registry.endpoint("ghcr.io")];
    let probed = plugin(admin, &asked).await;
    assert!(
        probed.stdout.contains("asked    login 1 of 1: ghcr.io lets the user and password pull\n"),
        "{}{}",
        probed.stdout,
        probed.stderr
    );
    registry.know(&[]);
    let probed = plugin(admin, &asked).await;
    assert!(probed.stdout.contains("ghcr.io rejects the user and password"), "{}", probed.stdout);
    assert_eq!(registry.shown(&pair), 2);
    assert_no_canary([("--probe", probed.stdout.as_str())]);
}

async fn a_file_is_compared(scene: &Scene, broken: &Broken, admin: &Identity) {
    let Broken { credential, unserved, .. } = broken;
    let file = scene.control_plane().folder().join("diff.yaml");
    let spec = json!({"kind": "RegistryCredential", "metadata": {"name": credential}, "spec": {
        "registries": [{"server": "ghcr.io", "source": {"secretRef": {"name": "x"}}}], "namespaces": {"matchNames": [unserved]}}});
    std::fs::write(&file, spec.to_string()).unwrap();
    let diff = plugin(admin, &["diff", "-f", file.to_str().unwrap(), "--exit-code"]).await;
    assert_eq!(diff.code, 2, "{}", diff.stderr);
    assert!(diff.stdout.contains(&format!("+ 1 namespace   {unserved}\n")), "{}", diff.stdout);
    assert!(diff.stdout.contains("- 2 namespaces"), "{}", diff.stdout);
}

async fn the_installation_is_checked(admin: &Identity) {
    let check = plugin(admin, &["check"]).await;
    assert!(
        check.stdout.contains("regcred-cage-secrets is bound and denies"),
        "{}{}",
        check.stdout,
        check.stderr
    );
    assert!(check.stdout.contains("the operator may do all of 7 requests"), "{}", check.stdout);
    assert_eq!(check.code, 2, "no replica of the Deployment runs here: {}", check.stdout);
}

async fn names_are_completed(broken: &Broken, admin: &Identity) {
    let Broken { credential, unserved, .. } = broken;
    let completed = plugin(admin, &["__complete", "status", credential]).await;
    assert_eq!(completed.stdout, format!("{credential}\n:4\n"));
    let completed = plugin(admin, &["__complete", "-n", unserved, "explain", "unsel"]).await;
    assert_eq!(completed.stdout, "unselected\n:4\n");
}

/// The operator is stopped first: it would put its own status back. Before that it has to count the namespace that a fix selected.
async fn an_expired_credential_is_told_of(
    scene: &Scene,
    broken: &Broken,
    admin: &Identity,
    operator: regcred_tests::Operator,
) {
    eventually("a status of three namespaces", SOON, async || {
        let counts = scene.status(&broken.expired).await["namespaces"].clone();
        (counts["synced"] == 3).then_some(()).ok_or_else(|| counts.to_string())
    })
    .await;
    drop(operator);
    let mut status = scene.status(&broken.expired).await;
    status["registries"][0]["expiresAt"] = json!("2020-01-01T00:00:00Z");
    let patch = Patch::Merge(json!({"status": {"registries": status["registries"]}}));
    scene.credentials().patch_status(&broken.expired, &PatchParams::default(), &patch).await.unwrap();
    let told = report(admin, &["explain", "-n", &broken.served, "quay.io/acme/app:1"]).await;
    assert_eq!(told["images"][0]["reason"], "Expired", "{told}");
}

/// Runs a command line that the plugin gave, with its pipes.
async fn run(scene: &Scene, admin: &Identity, line: &str) {
    let mut input = String::new();
    for command in line.split(" | ") {
        // Single quotes are all that the plugin writes.
        let quoted = command.split('\'').enumerate();
        let words: Vec<&str> = quoted
            .flat_map(|(at, part)| if at % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
            .collect();
        assert_eq!(words[0], "kubectl", "{line}");
        let output = scene.control_plane().kubectl(admin, &words[1..], &input).await.unwrap();
        input = output.success().unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

/// The fix that is given for a Pod, and what is to be done then.
async fn fix(admin: &Identity, namespace: &str, pod: &str) -> (String, Option<String>) {
    let told = report(admin, &["explain", "-n", namespace, pod]).await;
    let line = |key: &str| told["images"][0][key].as_str().map(str::to_owned);
    (line("fix").unwrap_or_else(|| panic!("no fix: {told}")), line("then"))
}

/// Whether the kubelet would look at the credential's Secret for a Pod.
async fn lists(scene: &Scene, namespace: &str, pod: &str, secret: &str) -> bool {
    let pod = Api::<Pod>::namespaced(scene.client.clone(), namespace).get(pod).await.unwrap();
    pod.spec.unwrap().image_pull_secrets.iter().flatten().any(|entry| entry.name == secret)
}

/// The commands that are given do what they are given for.
async fn the_fixes_mend(scene: &Scene, broken: &Broken, admin: &Identity) {
    let Broken { credential, served, unserved, .. } = broken;
    for pod in ["stale", "own-list"] {
        assert!(!lists(scene, served, pod, credential).await);
        run(scene, admin, &fix(admin, served, pod).await.0).await;
        assert!(lists(scene, served, pod, credential).await, "{pod}");
    }
    let (command, then) = fix(admin, served, "other-account").await;
    run(scene, admin, &command).await;
    eventually("the entry on builder", SOON, async || {
        let list = scene.pull_secrets(served, "builder").await;
        list.contains(credential).then_some(()).ok_or_else(|| format!("{list:?}"))
    })
    .await;
    run(scene, admin, &then.expect("a Pod takes its list when it is made")).await;
    assert!(lists(scene, served, "other-account", credential).await);
    let (command, then) = fix(admin, unserved, "unselected").await;
    run(scene, admin, &command).await;
    let labelled = Api::<Namespace>::all(scene.client.clone()).get(unserved).await.unwrap();
    assert_eq!(labelled.metadata.labels.unwrap()["pull"], "private");
    eventually("the entry in the namespace", SOON, async || {
        let list = scene.pull_secrets(unserved, "default").await;
        list.contains(credential).then_some(()).ok_or_else(|| format!("{list:?}"))
    })
    .await;
    run(scene, admin, &then.expect("a Pod takes its list when it is made")).await;
    assert!(lists(scene, unserved, "unselected", credential).await);
}
