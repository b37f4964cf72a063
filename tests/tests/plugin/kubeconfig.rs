//! Kubeconfigs are taken as kubectl takes them: several files, contexts, exec plugins, impersonation, proxies, names of
//! servers; what cannot be used gets a sentence.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use regcred_tests::canary::{CANARY, assert_no_canary};
use regcred_tests::pki::version_1;
use regcred_tests::{Identity, Scene};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::{Run, end, program};

/// What each test asks for: it says who is refused what, and so who it is taken for.
const ASK: [&str; 3] = ["audit", "-o", "json"];

/// A kubeconfig in the making, in a folder of its own.
struct Config {
    folder: TempDir,
    content: Value,
}

impl Config {
    /// That of somebody, as it is.
    fn of(who: &Identity) -> Self {
        let content = serde_json::from_slice(&std::fs::read(&who.kubeconfig).unwrap()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), content }
    }

    fn user(&mut self) -> &mut Value {
        &mut self.content["users"][0]["user"]
    }

    fn cluster(&mut self) -> &mut Value {
        &mut self.content["clusters"][0]["cluster"]
    }

    /// An executable beside the kubeconfig.
    fn script(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    fn save(&self) -> PathBuf {
        let path = self.folder.path().join("config");
        std::fs::write(&path, self.content.to_string()).unwrap();
        path
    }

    async fn run(&self, arguments: &[&str]) -> Run {
        run(self.save().as_os_str(), arguments).await
    }
}

async fn run(files: &OsStr, arguments: &[&str]) -> Run {
    let path = std::env::var_os("PATH").unwrap();
    end(program(arguments).await.env("KUBECONFIG", files).env("PATH", path)).await
}

/// A run that succeeded, by the user that the API server saw, in the namespace that was asked about.
async fn seen(scene: &Scene, run: impl Future<Output = Run>, user: &str, namespace: &str) {
    let audit = scene.control_plane().audit();
    let mark = audit.mark();
    let run = run.await;
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let asked = audit.since(mark).by(user).of("pods").within(namespace);
    assert!(asked.counts().total() > 0, "{user} did not ask for the Pods of {namespace}: {}", run.stdout);
}

/// Passes everything on to the API server.
async fn relay(address: IpAddr, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let own = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut upstream = TcpStream::connect(to).await.unwrap();
                // Its end is all that either side learns.
                let _ended = copy_bidirectional(&mut stream, &mut upstream).await;
            });
        }
    });
    own
}

/// A proxy that answers a first message of each kind in turn, then passes on to the API server, and counts.
async fn proxy(
    to: SocketAddr,
    greet: fn(&[u8]) -> &'static [u8],
    rounds: usize,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (own, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = counter.clone();
            tokio::spawn(async move {
                for _ in 0..rounds {
                    let mut message = [0; 4096];
                    let length = stream.read(&mut message).await.unwrap();
                    stream.write_all(greet(&message[..length])).await.unwrap();
                }
                counter.fetch_add(1, Ordering::Relaxed);
                let mut upstream = TcpStream::connect(to).await.unwrap();
                // Its end is all that either side learns.
                let _ended = copy_bidirectional(&mut stream, &mut upstream).await;
            });
        }
    });
    (own, count)
}

#[tokio::test]
async fn contexts_of_several_files_name_user_and_namespace() {
    let scene = Scene::new().await;
    let [shop, other] =
        [scene.settled_namespace("shop", &[]).await, scene.settled_namespace("other", &[]).await];
    let [anna, berta] =
        [scene.name("anna"), scene.name("berta")].map(|name| scene.control_plane().user(&name, &[]).unwrap());
    let mut first = Config::of(&anna);
    first.content["contexts"][0]["context"]["namespace"] = json!(shop);
    let mut second = Config::of(&berta);
    second.content["contexts"][0] = json!({"name": "second", "context": {"cluster": "regcred-tests", "user": berta.name, "namespace": other}});
    second.content["current-context"] = json!("second");
    second.content.as_object_mut().unwrap().remove("clusters");
    let both = std::env::join_paths([first.save(), second.save()]).unwrap();
    // The first file that says which is the current one counts, and later files add to it.
    seen(&scene, run(&both, &ASK), &anna.name, &shop).await;
    let named = [&ASK[..], &["--context", "second"]].concat();
    seen(&scene, run(&both, &named), &berta.name, &other).await;
    let elsewhere = [&named[..], &["-n", &shop]].concat();
    seen(&scene, run(&both, &elsewhere), &berta.name, &shop).await;
    let file = first.save();
    let by_flag = [&ASK[..], &["--kubeconfig", file.to_str().unwrap()]].concat();
    seen(&scene, run(OsStr::new("/nowhere"), &by_flag), &anna.name, &shop).await;
    let unknown = run(&both, &["audit", "--context", "third"]).await;
    assert_eq!((unknown.code, unknown.stdout.as_str()), (1, ""));
    assert!(unknown.stderr.contains("third"), "{}", unknown.stderr);
    scene.finish().await;
}

#[tokio::test]
async fn impersonation_is_by_flags_and_by_the_kubeconfig() {
    let scene = Scene::new().await;
    let admin = scene.control_plane().admin_identity();
    let mut config = Config::of(admin);
    let carla = scene.name("carla");
    let shown = async |config: &Config, flags: &[&str]| {
        let run = config.run(&[&["audit", "-A"], flags].concat()).await;
        assert_eq!(run.code, 0, "{}", run.stderr);
        !run.stdout.contains("Pods not read: forbidden")
    };
    assert!(shown(&config, &[]).await);
    assert!(!shown(&config, &["--as", &carla]).await);
    assert!(shown(&config, &["--as", &carla, "--as-group", "system:masters"]).await);
    config.user()["as"] = json!(carla);
    assert!(!shown(&config, &[]).await);
    config.user()["as-groups"] = json!(["system:masters"]);
    assert!(shown(&config, &[]).await);
    scene.finish().await;
}

/// As for EKS, GKE and AKS: a program gives the token. Its path is relative to the kubeconfig.
#[tokio::test]
async fn an_exec_plugin_gives_the_token() {
    let scene = Scene::new().await;
    let namespace = scene.settled_namespace("shop", &[]).await;
    let who = scene.control_plane().service_account(&namespace, "default").await.unwrap();
    let mut config = Config::of(&who);
    let token = config.user()["token"].as_str().unwrap().to_owned();
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "command": "./gives-token", "args": ["get"],
        "env": [{"name": "WANTED", "value": "yes"}], "interactiveMode": "IfAvailable", "provideClusterInfo": true,
        "installHint": "install gives-token first",
    });
    *config.user() = json!({"exec": exec});
    config.content["contexts"][0]["context"]["namespace"] = json!(namespace);
    config.script(
        "gives-token",
        &format!(
            r#"#!/bin/sh
case "$1$WANTED$KUBERNETES_EXEC_INFO" in getyes*'"server":"{}"'*) ;; *) exit 3 ;; esac
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{"token": "{token}"}}}}'
"#,
            scene.control_plane().api_url()
        ),
    );
    seen(&scene, config.run(&ASK), &who.name, &namespace).await;
    scene.finish().await;
}

/// What such a program printed may be a token, and is told to nobody.
#[tokio::test]
async fn an_exec_plugin_that_fails_is_told_of_without_what_it_printed() {
    let scene = Scene::new().await;
    let mut config = Config::of(scene.control_plane().admin_identity());
    let exec = |mode: &str| {
        json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./gives-token", "args": [CANARY],
        "env": [{"name": "KEY", "value": CANARY}], "interactiveMode": mode, "installHint": "install gives-token first"}})
    };
    *config.user() = exec("Never");
    let missing = config.run(&["status"]).await;
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("install gives-token first"), "{}", missing.stderr);
    for (script, wanted) in [
        (
            format!("echo '{{\"status\": {{\"token\": \"{CANARY}\"}}}}'; echo log in again >&2; exit 1"),
            "log in again",
        ),
        (format!("echo '{{\"kind\": \"ExecCredential\", \"status\": {CANARY}}}'"), "no ExecCredential"),
        ("echo '{\"kind\": \"ExecCredential\"}'".to_owned(), "no ExecCredential"),
    ] {
        config.script("gives-token", &format!("#!/bin/sh\n{script}\n"));
        for mode in ["Never", "IfAvailable"] {
            *config.user() = exec(mode);
            let failed = config.run(&["status"]).await;
            assert_eq!((failed.code, failed.stdout.as_str()), (1, ""));
            assert!(failed.stderr.contains(wanted), "{mode}: {}", failed.stderr);
            assert!(failed.stderr.contains("exec plugin"), "{mode}: {}", failed.stderr);
            assert_no_canary([("a failed exec plugin", failed.stderr.as_str())]);
        }
    }
    scene.finish().await;
}

#[tokio::test]
async fn proxies_of_both_kinds_are_used() {
    let scene = Scene::new().await;
    let namespace = scene.settled_namespace("shop", &[]).await;
    let dora = scene.control_plane().user(&scene.name("dora"), &[]).unwrap();
    let to = scene.control_plane().api_address();
    let connect = |message: &[u8]| -> &'static [u8] {
        assert!(message.starts_with(b"CONNECT "), "{message:?}");
        b"HTTP/1.1 200 OK\r\n\r\n"
    };
    // RFC 1928: a greeting, answered by "no authentication"; then where to, answered by "connected, from 0.0.0.0:0".
    let socks = |message: &[u8]| -> &'static [u8] {
        assert_eq!(message[0], 5, "{message:?}");
        if message.len() < 7 { &[5, 0] } else { &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0] }
    };
    for (scheme, greet, rounds) in [
        ("http", connect as fn(&[u8]) -> &'static [u8], 1),
        ("socks5", socks as fn(&[u8]) -> &'static [u8], 2),
    ] {
        let (address, count) = proxy(to, greet, rounds).await;
        let mut config = Config::of(&dora);
        config.content["contexts"][0]["context"]["namespace"] = json!(namespace);
        // Only the proxy can reach it.
        config.cluster()["proxy-url"] = json!(format!("{scheme}://{address}"));
        seen(&scene, config.run(&ASK), &dora.name, &namespace).await;
        assert!(count.load(Ordering::Relaxed) > 0, "{scheme} was not asked");
    }
    let mut config = Config::of(&dora);
    config.cluster()["proxy-url"] = json!("ftp://me:s3cret@127.0.0.1:1");
    let refused = config.run(&["status"]).await;
    assert!(refused.code == 1 && refused.stderr.contains("proxy-url"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("s3cret"), "{}", refused.stderr);
    scene.finish().await;
}

/// The address is one that the API server's certificate does not have.
#[tokio::test]
async fn the_name_of_the_server_is_the_one_that_the_kubeconfig_gives() {
    let scene = Scene::new().await;
    let namespace = scene.settled_namespace("shop", &[]).await;
    let edda = scene.control_plane().user(&scene.name("edda"), &[]).unwrap();
    let address = relay(IpAddr::from([127, 0, 0, 2]), scene.control_plane().api_address()).await;
    let mut config = Config::of(&edda);
    config.content["contexts"][0]["context"]["namespace"] = json!(namespace);
    config.cluster()["server"] = json!(format!("https://{address}"));
    let wrong = config.run(&ASK).await;
    assert!(wrong.code == 1 && wrong.stderr.contains("certificate"), "{}", wrong.stderr);
    config.cluster()["tls-server-name"] = json!("localhost");
    seen(&scene, config.run(&ASK), &edda.name, &namespace).await;
    scene.finish().await;
}

/// As Canonical's small Kubernetes gives its administrator one.
#[tokio::test]
async fn a_client_certificate_of_version_1_gets_a_sentence_that_says_what_to_do() {
    let scene = Scene::new().await;
    let old = version_1("admin").unwrap();
    let name = scene.name("old");
    let path = scene.control_plane().folder().join(format!("{name}.kubeconfig"));
    let (url, ca) = (scene.control_plane().api_url(), scene.control_plane().ca_pem());
    let who =
        Identity::write(&name, &path, &url, ca, &regcred_tests::identity::Proof::Certificate(old)).unwrap();
    let refused = Config::of(&who).run(&["status"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    for part in ["the kubeconfig cannot be used", "X.509 version 1", "MicroK8s", "kubectl create token"] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    scene.finish().await;
}

/// Neither is the line told in which it is broken: it may hold a token.
#[tokio::test]
async fn a_file_that_is_no_kubeconfig_is_told_of_by_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, format!("apiVersion: v1\nusers:\n- name: me\n  user: {{token: {CANARY}, ]\n"))
        .unwrap();
    for flag in [&["status"][..], &["status", "--kubeconfig", path.to_str().unwrap()]] {
        let refused = run(path.as_os_str(), flag).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
        assert!(refused.stderr.contains("it is no kubeconfig: see line 4"), "{}", refused.stderr);
        assert_no_canary([("a broken kubeconfig", refused.stderr.as_str())]);
    }
}

/// A refusal is a sentence, and not the answer as a program sees it.
#[tokio::test]
async fn a_login_that_the_server_does_not_know_is_told_of_in_a_sentence() {
    let scene = Scene::new().await;
    let mut config = Config::of(scene.control_plane().admin_identity());
    *config.user() = json!({"token": CANARY});
    let refused = config.run(&["status"]).await;
    assert_eq!(
        (refused.code, refused.stderr.as_str()),
        (
            1,
            "error: reading RegistryCredentials: Unauthorized (HTTP 401): the API server does not know the login of the kubeconfig; log in again\n"
        )
    );
    scene.finish().await;
}
