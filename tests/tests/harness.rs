//! The harness itself: what every other test relies on, shown to hold.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use regcred_tests::{
    ControlPlane, Identity, Operator, OperatorOptions, Options, Proxy, eventually,
    proxy::{Action, Moment},
    scene::shared_control_plane,
    wait::throughout,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);
/// Tells a copy of this test binary to be the one that is killed.
const HOLDER: &str = "REGCRED_HARNESS_HOLDER";

#[tokio::test]
async fn a_pod_gets_the_list_of_its_service_account() {
    let client = shared_control_plane().await.admin().await.unwrap();
    let namespace = make_namespace(&client, "admission").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let list = json!({ "imagePullSecrets": [{ "name": "first" }, { "name": "second" }] });
    eventually("the list to be written", SOON, async || {
        let patched = accounts.patch("default", &PatchParams::default(), &Patch::Merge(&list)).await;
        patched.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "pod" },
        "spec": { "containers": [{ "name": "main", "image": "example.com/image" }] },
    });
    let pod = serde_json::from_value(pod).unwrap();
    // The admission plugin reads ServiceAccounts from a cache, so the first Pods may still miss the list.
    eventually("a Pod with both names", SOON, async || {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let pod = pods.create(&dry_run, &pod).await.map_err(|error| error.to_string())?;
        let names = pod.spec.unwrap().image_pull_secrets.unwrap_or_default();
        let names: Vec<String> = names.into_iter().map(|entry| entry.name).collect();
        if names == ["first", "second"] { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
}

#[tokio::test]
async fn audit_counts_are_exact_at_each_reply() {
    let control_plane = shared_control_plane().await;
    let user = control_plane.user("counted", &["system:masters", "another-group"]).unwrap();
    let client = user.client().await.unwrap();
    let namespace = make_namespace(&control_plane.admin().await.unwrap(), "audit").await;
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let log = control_plane.audit();
    let mark = log.mark();
    for number in 1..=50 {
        let name = format!("map-{number}");
        apply_map(&maps, &name).await;
        let counts = log.since(mark).writes_by("counted").counts();
        assert_eq!(counts.of("patch", "configmaps"), number, "{counts}");
    }
    let _ = maps.get("none").await;
    let entries = log.since(mark).by("counted");
    assert_eq!(entries.len(), 51);
    let first = &entries[0];
    assert_eq!(
        (first.name.as_str(), first.namespace.as_str(), first.code),
        ("map-1", namespace.as_str(), 201)
    );
    assert_eq!(first.field_manager, "harness");
    assert_eq!(entries[50].code, 404);
    assert_eq!(entries.granted().writes().counts().to_string(), "    50  patch configmaps");
}

#[tokio::test]
async fn a_service_account_and_a_user_have_only_their_own_rights() {
    let control_plane = shared_control_plane().await;
    let account = eventually("a token", SOON, async || {
        control_plane.service_account("default", "default").await.map_err(|error| error.to_string())
    })
    .await;
    let nobody = control_plane.user("nobody", &[]).unwrap();
    for identity in [account, nobody] {
        let arguments = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];
        let output = control_plane.kubectl(&identity, &arguments, "").await.unwrap();
        assert_eq!(output.success().unwrap(), identity.name);
        let output = control_plane.kubectl(&identity, &["get", "secrets", "-A"], "").await.unwrap();
        assert!(output.success().unwrap_err().to_string().contains("Forbidden"));
    }
}

#[tokio::test]
async fn kubectl_reads_its_standard_input() {
    let control_plane = shared_control_plane().await;
    let map = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "from-stdin"}}"#;
    let arguments = ["apply", "--server-side", "--validate=strict", "-f", "-"];
    let output = control_plane.kubectl(control_plane.admin_identity(), &arguments, map).await.unwrap();
    assert!(output.success().unwrap().contains("from-stdin"));
}

#[tokio::test]
async fn an_operator_is_paused_resumed_terminated_and_killed() {
    let control_plane = shared_control_plane().await;
    let script = "#!/bin/sh\ntrap 'echo got TERM >&2; exit 7' TERM\necho \"$@\"\n\
                  echo listening on 127.0.0.1:1\nwhile :; do sleep 0.02; done\n";
    let options = OperatorOptions {
        binary: Some(make_executable(control_plane, "fake-operator", script)),
        identity: Some(control_plane.user("fake-operator", &[]).unwrap()),
        target_names: vec!["one".to_owned(), "two".to_owned()],
        ..OperatorOptions::default()
    };
    let operator = Operator::start(control_plane, options.clone()).await.unwrap();
    assert_eq!(operator.address().await.unwrap().to_string(), "127.0.0.1:1");
    assert!(
        operator.logs().contains("--no-lease --target-name one --target-name two"),
        "{}",
        operator.logs()
    );
    operator.pause().unwrap();
    assert!(operator.terminate(Duration::from_millis(200)).await.is_err(), "a paused operator cannot end");
    operator.resume().unwrap();
    assert_eq!(operator.wait(SOON).await.unwrap().code(), Some(7));
    assert!(operator.logs().contains("got TERM"));

    let operator = Operator::start(control_plane, options).await.unwrap();
    assert!(operator.is_running());
    operator.kill();
    assert!(!operator.is_running() && !runs(operator.id()));
    assert!(operator.pause().is_err());
    assert!(operator.wait_ready().await.unwrap_err().to_string().contains("ended before"));
}

#[tokio::test]
async fn the_proxy_refuses_drops_and_forwards() {
    let (proxy, identity) = proxied("proxied-writer").await;
    let maps = default_maps(&identity).await;
    apply_map(&maps, "forwarded").await;
    assert_eq!(proxy.writes(), 1);

    let status =
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 503, "message": "no" });
    proxy.set_rule(move |_| Action::Refuse(StatusCode::SERVICE_UNAVAILABLE, status.to_string()));
    assert!(matches!(maps.get("forwarded").await, Err(kube::Error::Api(status)) if status.code == 503));

    proxy.set_rule(|seen| if seen.write.is_some() { Action::ForwardThenDrop } else { Action::Forward });
    try_apply_map(&maps, "reply-lost").await.unwrap_err();
    assert!(maps.get_opt("reply-lost").await.unwrap().is_some());

    proxy.set_rule(|seen| if seen.write.is_some() { Action::Drop } else { Action::Forward });
    try_apply_map(&maps, "never-sent").await.unwrap_err();
    assert!(maps.get_opt("never-sent").await.unwrap().is_none());

    proxy.set_rule(|_| Action::Trickle(Duration::from_millis(1)));
    assert!(maps.get_opt("forwarded").await.unwrap().is_some());
}

#[tokio::test]
async fn the_proxy_halts_before_and_after_the_nth_write() {
    for (moment, arrived) in [(Moment::Before, 2), (Moment::After, 3)] {
        let (proxy, identity) = proxied(&format!("halted-{moment:?}").to_lowercase()).await;
        let (maps, log) = (default_maps(&identity).await, shared_control_plane().await.audit());
        let mark = log.mark();
        proxy.halt_at_write(3, moment);
        let writes = async {
            for number in 1..=5 {
                apply_map(&maps, &format!("{moment:?}-{number}").to_lowercase()).await;
            }
        };
        tokio::select! {
            () = writes => panic!("the fifth write came through"),
            () = proxy.halted() => {}
        }
        assert!(proxy.is_halted());
        assert_eq!(log.since(mark).writes_by(&identity.name).len(), arrived, "{moment:?}");
    }
}

#[tokio::test]
async fn the_proxy_cuts_silences_and_refuses_watches() {
    let (proxy, identity) = proxied("watcher").await;
    let direct: Api<ConfigMap> =
        Api::namespaced(shared_control_plane().await.admin().await.unwrap(), "default");
    let maps = default_maps(&identity).await;
    let version = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    // Kubernetes and other tests make ConfigMaps here, too.
    let own = WatchParams::default().labels("map in (watched, unseen)");
    let mut events = maps.watch(&own, &version).await.unwrap().boxed();

    apply_map(&direct, "watched").await;
    next_event(&mut events).await;

    proxy.silence_watches();
    apply_map(&direct, "unseen").await;
    let silence = tokio::time::timeout(Duration::from_millis(300), events.try_next()).await;
    assert!(silence.is_err(), "an event passed a silent proxy: {silence:?}");
    proxy.allow_watches();
    next_event(&mut events).await;

    proxy.cut_watches();
    let end = tokio::time::timeout(SOON, events.next()).await.expect("a cut watch ends");
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");

    proxy.refuse_watches();
    assert!(maps.watch(&own, &version).await.is_err());
    proxy.allow_watches();
    let mut events = maps.watch(&own, &version).await.unwrap().boxed();
    next_event(&mut events).await;
}

#[tokio::test]
async fn old_watches_get_410_after_expiry_and_the_data_survives() {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.admin().await.unwrap(), "default");
    apply_map(&maps, "before").await;
    let version = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    apply_map(&maps, "after").await;
    control_plane.expire_watches().await.unwrap();
    let mut events = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let event = tokio::time::timeout(SOON, events.try_next()).await.expect("an event").unwrap();
    assert!(matches!(&event, Some(WatchEvent::Error(status)) if status.code == 410), "{event:?}");
    assert!(maps.get_opt("after").await.unwrap().is_some());
    let folder = control_plane.folder().to_owned();
    let processes = control_plane.process_ids();
    drop(control_plane);
    assert!(!folder.exists());
    assert!(processes.iter().all(|id| !runs(*id)));
}

#[tokio::test]
async fn nothing_is_left_when_the_test_is_killed() {
    let (mut holder, folder, processes) = start_holder();
    assert!(Path::new(&folder).is_dir());
    assert!(processes.len() == 4 && processes.iter().all(|id| runs(*id)), "{processes:?}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("all processes to be gone, and the folder", SOON, async || {
        let left: Vec<&u32> = processes.iter().filter(|id| runs(**id)).collect();
        let folder_left = Path::new(&folder).exists();
        if left.is_empty() && !folder_left { Ok(()) } else { Err(format!("{left:?}, folder: {folder_left}")) }
    })
    .await;
}

/// Not a test of its own: the process that [`nothing_is_left_when_the_test_is_killed`] kills.
#[tokio::test]
#[ignore = "runs only as a child of another test"]
async fn holder() {
    if std::env::var_os(HOLDER).is_none() {
        return;
    }
    // In a static, as in every other test: nothing is ever dropped.
    let control_plane = shared_control_plane().await;
    let sleeper = regcred_tests::process::Launch {
        name: "sleeper".to_owned(),
        program: "/bin/sleep".into(),
        arguments: vec!["600".to_owned()],
        environment: Vec::new(),
    };
    let sleeper = control_plane.spawn(&sleeper).unwrap();
    let mut processes = control_plane.process_ids();
    processes.push(sleeper.id());
    let report = json!({ "folder": control_plane.folder(), "processes": processes });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\nholder: {report}").unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

fn start_holder() -> (Child, String, Vec<u32>) {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder", "--ignored", "--nocapture"])
        .env(HOLDER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let report =
        lines.map_while(Result::ok).find_map(|line| line.strip_prefix("holder: ").map(str::to_owned));
    let report: serde_json::Value = serde_json::from_str(&report.expect("the holder reports")).unwrap();
    let processes = serde_json::from_value(report["processes"].clone()).unwrap();
    (holder, report["folder"].as_str().unwrap().to_owned(), processes)
}

/// A process that has ended but whom nobody waited for, a zombie, does not run.
fn runs(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn make_executable(control_plane: &ControlPlane, name: &str, script: &str) -> PathBuf {
    let path = control_plane.folder().join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn make_namespace(client: &Client, name: &str) -> String {
    let name = format!("harness-{name}");
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    let params = PatchParams::apply("harness");
    Api::<Namespace>::all(client.clone()).patch(&name, &params, &Patch::Apply(namespace)).await.unwrap();
    name
}

async fn proxied(user: &str) -> (Proxy, Identity) {
    let control_plane = shared_control_plane().await;
    let proxy = Proxy::start(control_plane).unwrap();
    // A token, as an operator has: a client certificate would stay at the proxy.
    let admin = control_plane.admin_identity();
    let subject = format!("--serviceaccount=default:{user}");
    let binding = ["create", "clusterrolebinding", user, "--clusterrole=cluster-admin", &subject];
    let account = ["create", "serviceaccount", user, "--namespace=default"];
    for arguments in [&account[..], &binding[..]] {
        control_plane.kubectl(admin, arguments, "").await.unwrap().success().unwrap();
    }
    let identity = control_plane.service_account("default", user).await.unwrap().at(&proxy.url()).unwrap();
    wait_for_rights(&identity).await;
    (proxy, identity)
}

/// The authorizer learns of a binding a moment after it was made.
async fn wait_for_rights(identity: &Identity) {
    let maps = default_maps(identity).await;
    eventually("the rights of the user", SOON, async || {
        maps.list(&ListParams::default()).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

async fn default_maps(identity: &Identity) -> Api<ConfigMap> {
    Api::namespaced(identity.client().await.unwrap(), "default")
}

async fn apply_map(maps: &Api<ConfigMap>, name: &str) {
    try_apply_map(maps, name).await.unwrap();
}

async fn try_apply_map(maps: &Api<ConfigMap>, name: &str) -> kube::Result<ConfigMap> {
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": { "map": name } } });
    maps.patch(name, &PatchParams::apply("harness"), &Patch::Apply(map)).await
}

async fn next_event<T: std::fmt::Debug>(
    events: &mut (impl futures::Stream<Item = kube::Result<WatchEvent<T>>> + Unpin),
) {
    let event = tokio::time::timeout(SOON, events.try_next()).await.expect("an event in time").unwrap();
    assert!(matches!(event, Some(WatchEvent::Added(_) | WatchEvent::Modified(_))), "{event:?}");
}

#[test]
fn the_keyring_program_is_built() {
    assert!(regcred_tests::binaries::keyring().unwrap().is_file());
}

#[tokio::test]
async fn throughout_notices_a_change() {
    let mut looks = 0;
    let outcome = tokio::spawn(throughout("a number", SOON, async move || {
        looks += 1;
        if looks < 3 { Ok(()) } else { Err("it changed".to_owned()) }
    }));
    assert!(outcome.await.unwrap_err().is_panic());
}
