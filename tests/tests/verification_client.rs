//! What a real registry and a real token server answer to the client that verifies credentials: docker-registry with
//! passwords, and behind token servers of both kinds. No Kubernetes here.

use std::path::Path;
use std::sync::Arc;

use regcred_dockerconfig::{Login, Server};
use regcred_registry::{Check, Hint, Image, Refusal, Registries, Settings, Verdict};
use regcred_tests::node::oci;
use regcred_tests::node::programs;
use regcred_tests::node::registry::{Authentication, Login as Known, Registry, basic};
use regcred_tests::node::token_server::TokenServer;
use regcred_tests::process::Supervisor;
use tempfile::TempDir;

const HOST: &str = "registry.example";
const OWN: &str = "acme/app";
const FOREIGN: &str = "other/app";

/// A docker-registry with an image in [`OWN`] and one in [`FOREIGN`], under the name [`HOST`].
struct Stage {
    folder: TempDir,
    registry: Registry,
    registries: Registries,
    tokens: Option<String>,
    _supervisor: Supervisor,
}

impl Stage {
    async fn open(authentication: &Authentication<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = Supervisor::start(folder.path()).unwrap();
        let program = tokio::task::spawn_blocking(programs::registry).await.unwrap().unwrap();
        let data = folder.path().join("registry");
        let spawn = |launch: &_| supervisor.spawn(launch);
        let registry = Registry::start(&program, data, authentication, spawn).await.unwrap();
        let tokens = match authentication {
            Authentication::Passwords(_) => None,
            Authentication::Tokens(server) => Some(server.address().to_string()),
        };
        let registries = Registries::new(&settings(&registry, tokens.as_deref()));
        Self { folder, registry, registries, tokens, _supervisor: supervisor }
    }

    async fn push(&self, repository: &str, authorization: &str) {
        let program = self.folder.path().join("program");
        std::fs::write(&program, "a program").unwrap();
        let image = oci::Image::new(Path::new(&program), repository).unwrap();
        self.registry.push(&image, repository, "v1", authorization).await.unwrap();
    }

    async fn check(&self, password: &str, pull: Option<(&str, &str)>) -> Verdict {
        let login = Login::new(b"puller", password.as_bytes()).unwrap();
        let server = Server::parse(HOST).unwrap();
        let pull = pull.map(|(repository, reference)| Image { repository, reference });
        let verdict = self.registries.check(&Check { server: &server, login: &login, pull }).await;
        assert!(!format!("{verdict} {verdict:?}").contains(password), "{verdict}");
        verdict
    }

    /// The verdict of whoever is asked for tokens, or of the registry where there is no such server.
    fn rejected(&self, code: Option<&'static str>) -> Verdict {
        let host = self.tokens.clone().unwrap_or_else(|| HOST.to_owned());
        Verdict::Rejected(Refusal { host, status: 401, code })
    }
}

/// The realm of our token server is an address of this machine, so it must be allowed and given an address, both.
fn settings(registry: &Registry, tokens: Option<&str>) -> Settings {
    let plain = |host: &str| format!("http://{host}").parse().unwrap();
    let registry = (HOST.to_owned(), plain(&registry.address().to_string()));
    let tokens: Vec<String> = tokens.into_iter().map(str::to_owned).collect();
    let endpoints = tokens.iter().map(|host| (host.clone(), plain(host))).chain([registry]).collect();
    // Without the machine's authorities, which take a while to read.
    let environment: regcred_registry::Environment =
        Arc::new(|name| (name == "SSL_CERT_FILE").then(|| "/dev/null".to_owned()));
    Settings { endpoints, allowed_realms: tokens, environment }
}

fn known() -> Known {
    Known::new("puller", "right-password").only("acme/")
}

fn verified(hint: Option<Hint>) -> Verdict {
    Verdict::LoginVerified { host: HOST.to_owned(), hint }
}

fn pulls() -> Verdict {
    Verdict::PullVerified { host: HOST.to_owned() }
}

#[tokio::test]
async fn a_registry_with_passwords() {
    let stage = Stage::open(&Authentication::Passwords(&[known()])).await;
    stage.push(OWN, &basic(&known())).await;
    let rejected = || stage.rejected(Some("UNAUTHORIZED"));
    let missing = || verified(Some(Hint::ManifestNotFound));
    for (password, pull, expected) in [
        ("right-password", None, verified(None)),
        ("wrong-password", None, rejected()),
        ("right-password", Some((OWN, "v1")), pulls()),
        ("right-password", Some((OWN, "v2")), missing()),
        ("right-password", Some(("nowhere/app", "v1")), missing()),
        ("wrong-password", Some((OWN, "v1")), rejected()),
    ] {
        assert_eq!(stage.check(password, pull).await, expected, "{password} {pull:?}");
    }
}

#[tokio::test]
async fn a_registry_behind_a_token_server() {
    for lenient in [false, true] {
        let logins = vec![known()];
        let server =
            if lenient { TokenServer::start_lenient(logins).await } else { TokenServer::start(logins).await };
        let server = server.unwrap();
        let stage = Stage::open(&Authentication::Tokens(&server)).await;
        for repository in [OWN, FOREIGN] {
            stage.push(repository, &server.pusher(repository).unwrap()).await;
        }
        let rejected = || stage.rejected(None);
        let denied = || Verdict::PullDenied(Refusal { host: HOST.to_owned(), status: 401, code: None });
        for (password, pull, expected) in [
            ("right-password", None, verified(None)),
            ("wrong-password", None, rejected()),
            ("wrong-password", Some((OWN, "v1")), rejected()),
            ("right-password", Some((OWN, "v1")), pulls()),
            ("right-password", Some((OWN, "v2")), verified(Some(Hint::ManifestNotFound))),
            ("right-password", Some((FOREIGN, "v1")), denied()),
            ("right-password", Some(("nowhere/app", "v1")), denied()),
        ] {
            assert_eq!(stage.check(password, pull).await, expected, "{lenient} {password} {pull:?}");
        }
    }
}
