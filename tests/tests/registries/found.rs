//! From the examples of the page to what the kubelet's own keyring finds: each is applied by kubectl, the operator makes its
//! copy, and a Pod's image gets the user name and password that the registry gave, under the key that the kubelet knows.
//!
//! A registry more is a row of [`ROWS`]; a test fails where the page has an example without one.

use std::collections::BTreeSet;

use regcred_tests::canary::{CANARY, CORE};
use regcred_tests::clouds::{ACCOUNT, CLIENT_ID, CLIENT_SECRET, STATIC_KEYS, TENANT_ID, key_file};
use regcred_tests::install::OPERATOR_NAMESPACE;
use regcred_tests::keyring::{Case, Kubelet, Login};
use regcred_tests::{SECRET_KEY, SECRET_TYPE, Scene, TokenScene};
use serde_json::{Value, json};

/// An example of the page, by its server, and what the kubelet should find.
struct Row {
    kind: Kind,
    server: &'static str,
    /// An image of that registry.
    image: &'static str,
    user: &'static str,
    /// The host that gave the password; nobody where somebody wrote it into a Secret.
    giver: Option<&'static str>,
    /// The key of the entry, where it is not the server.
    key: Option<&'static str>,
}

/// What a test takes at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    AmazonEcr,
    Google,
    Azure,
    DockerHub,
    Harbor,
    /// Quay, JFrog and Cloudsmith.
    Exchange,
    /// All others with a user name and password.
    Password,
}

impl Kind {
    /// How status calls the source.
    fn source(self, server: &str) -> &'static str {
        match (self, server) {
            (Self::AmazonEcr, _) => "ECR",
            (Self::Google, _) => "GCP",
            (Self::Azure, _) => "ACR",
            (Self::Exchange, "quay.io/acme") => "Quay",
            (Self::Exchange, "acme.jfrog.io") => "JFrog",
            (Self::Exchange, _) => "Cloudsmith",
            (Self::DockerHub | Self::Harbor | Self::Password, _) => "Secret",
        }
    }
}

impl Row {
    /// What somebody wrote as the password.
    fn password(&self) -> &'static str {
        if self.user == CORE { CORE } else { CANARY }
    }
}

const fn token(
    kind: Kind,
    server: &'static str,
    image: &'static str,
    user: &'static str,
    giver: &'static str,
) -> Row {
    Row { kind, server, image, user, giver: Some(giver), key: None }
}

const fn written(kind: Kind, server: &'static str, image: &'static str, user: &'static str) -> Row {
    Row { kind, server, image, user, giver: None, key: None }
}

const AZURE_USER: &str = "00000000-0000-0000-0000-000000000000";
const GOOGLE_USER: &str = "oauth2accesstoken";

#[rustfmt::skip]
const ROWS: [Row; 24] = [
    token(Kind::AmazonEcr, "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1", "AWS", "api.ecr.eu-west-1.amazonaws.com"),
    token(Kind::AmazonEcr, "*.dkr.ecr.us-east-1.amazonaws.com",
        "987654321098.dkr.ecr.us-east-1.amazonaws.com/app", "AWS", "api.ecr.us-east-1.amazonaws.com"),
    token(Kind::AmazonEcr, "345678901234.dkr.ecr.eu-central-1.amazonaws.com",
        "345678901234.dkr.ecr.eu-central-1.amazonaws.com/a/b/c:2", "AWS", "api.ecr.eu-central-1.amazonaws.com"),
    token(Kind::AmazonEcr, "public.ecr.aws",
        "public.ecr.aws/acme/app", "AWS", "api.ecr-public.us-east-1.amazonaws.com"),
    token(Kind::Google, "europe-west1-docker.pkg.dev",
        "europe-west1-docker.pkg.dev/project/images/app:1", GOOGLE_USER, "169.254.169.254"),
    token(Kind::Google, "asia-docker.pkg.dev",
        "asia-docker.pkg.dev/project/images/app", GOOGLE_USER, "iamcredentials.googleapis.com"),
    token(Kind::Google, "us-docker.pkg.dev/acme",
        "us-docker.pkg.dev/acme/images/app", GOOGLE_USER, "iamcredentials.googleapis.com"),
    token(Kind::Google, "gcr.io",
        "gcr.io/project/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", GOOGLE_USER,
        "oauth2.googleapis.com"),
    token(Kind::Azure, "contoso.azurecr.io", "contoso.azurecr.io/app:1", AZURE_USER, "contoso.azurecr.io"),
    token(Kind::Azure, "fabrikam.azurecr.io", "fabrikam.azurecr.io/team/app", AZURE_USER, "fabrikam.azurecr.io"),
    token(Kind::Azure, "tailwind.azurecr.cn", "tailwind.azurecr.cn/app", AZURE_USER, "tailwind.azurecr.cn"),
    Row { key: Some("https://index.docker.io/v1/"), ..written(Kind::DockerHub, "docker.io", "acme/app:1", "acme") },
    written(Kind::Harbor, "harbor.example.com/team", "harbor.example.com/team/app:1", "robot$team+puller"),
    token(Kind::Exchange, "quay.io/acme", "quay.io/acme/app", "acme+puller", "quay.io"),
    token(Kind::Exchange, "acme.jfrog.io", "acme.jfrog.io/docker/app", "puller", "acme.jfrog.io"),
    token(Kind::Exchange, "docker.cloudsmith.io", "docker.cloudsmith.io/acme/r/app", "token", "api.cloudsmith.io"),
    written(Kind::Password, "ghcr.io", "ghcr.io/acme/app", "acme"),
    written(Kind::Password, "registry.gitlab.com", "registry.gitlab.com/group/app", "gitlab+deploy-token-1"),
    written(Kind::Password, "fra.ocir.io", "fra.ocir.io/ns/app", "ns/oracleidentitycloudservice/user@example.com"),
    written(Kind::Password, "de.icr.io", "de.icr.io/acme/app", "iamapikey"),
    // The API token is both.
    written(Kind::Password, "registry.digitalocean.com", "registry.digitalocean.com/acme/app", CORE),
    written(Kind::Password, "nexus.example.com:8443", "nexus.example.com:8443/app", "puller"),
    written(Kind::Password, "git.example.com", "git.example.com/acme/app", "puller"),
    written(Kind::Password, "nvcr.io", "nvcr.io/nvidia/app", "$oauthtoken"),
];

/// The ServiceAccounts that the examples name, and what stands on them.
fn accounts() -> Vec<(&'static str, Value)> {
    let role = "arn:aws:iam::123456789012:role/puller";
    vec![
        ("ecr-puller", json!({ "eks.amazonaws.com/role-arn": role })),
        ("gar-puller", json!({ "iam.gke.io/gcp-service-account": ACCOUNT })),
        ("acr-puller", json!({})),
        ("quay-puller", json!({})),
        ("jfrog-puller", json!({})),
        ("cloudsmith-puller", json!({})),
    ]
}

/// The Secrets with identities that the examples name.
fn identities() -> Vec<Value> {
    let identity = |name, data| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "stringData": data,
            "metadata": {
                "name": name, "namespace": OPERATOR_NAMESPACE, "labels": { "regcred.dev/source": "identity" },
            },
        })
    };
    let (id, secret) = STATIC_KEYS;
    let entra = json!({
        "AZURE_TENANT_ID": TENANT_ID, "AZURE_CLIENT_ID": CLIENT_ID, "AZURE_CLIENT_SECRET": CLIENT_SECRET,
    });
    let file = key_file("https://oauth2.googleapis.com/token");
    vec![
        identity("aws-keys", json!({ "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret })),
        identity("google-key", json!({ "GOOGLE_CREDENTIALS": file })),
        identity("azure-client", entra),
    ]
}

/// Applies these objects as a user does.
async fn apply(scene: &Scene, objects: &[Value]) {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string();
    kubectl(scene, &["apply", "--server-side", "--validate=strict", "-f", "-"], &list).await;
}

async fn kubectl(scene: &Scene, arguments: &[&str], stdin: &str) {
    let control_plane = scene.control_plane();
    let output = control_plane.kubectl(control_plane.admin_identity(), arguments, stdin).await.unwrap();
    output.success().unwrap();
}

/// The registries of all examples.
fn registries() -> Vec<Value> {
    let examples = crate::examples().into_iter();
    examples.flat_map(|(_, list)| list.as_array().expect("an example is a list").clone()).collect()
}

#[test]
fn every_registry_of_the_page_has_its_row() {
    let of_page: Vec<_> = registries().iter().map(|it| it["server"].as_str().unwrap().to_owned()).collect();
    let of_rows: BTreeSet<_> = ROWS.iter().map(|row| row.server.to_owned()).collect();
    assert_eq!(of_page.iter().cloned().collect::<BTreeSet<_>>(), of_rows);
    assert_eq!((of_page.len(), of_rows.len()), (ROWS.len(), ROWS.len()), "each once");
}

#[tokio::test]
async fn of_amazon_ecr() {
    each_is_found(Kind::AmazonEcr).await;
}

#[tokio::test]
async fn of_google_artifact_registry_and_container_registry() {
    each_is_found(Kind::Google).await;
}

#[tokio::test]
async fn of_azure_container_registry() {
    each_is_found(Kind::Azure).await;
}

#[tokio::test]
async fn of_docker_hub() {
    each_is_found(Kind::DockerHub).await;
}

#[tokio::test]
async fn of_harbor() {
    each_is_found(Kind::Harbor).await;
}

#[tokio::test]
async fn of_registries_that_take_the_token_of_a_service_account() {
    each_is_found(Kind::Exchange).await;
}

#[tokio::test]
async fn of_all_others_with_a_password() {
    each_is_found(Kind::Password).await;
}

/// Applies the examples of a kind, and asks the kubelet about an image of each with all that a Pod of the namespace has.
async fn each_is_found(kind: Kind) {
    let names: Vec<_> = accounts().into_iter().map(|(name, _)| name).collect();
    let stage = TokenScene::new(&format!("{{{}}}", names.join(","))).await;
    let scene = &stage.scene;
    let namespace = scene.settled_namespace("n", &[("pull", "found")]).await;
    for (name, annotations) in accounts() {
        stage.account(name, &annotations).await;
    }
    apply(scene, &identities()).await;
    let rows: Vec<_> = ROWS.iter().filter(|row| row.kind == kind).collect();
    let mut passwords = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let name = scene.name(&format!("row{number}"));
        passwords.push(served(&stage, row, (&namespace, &name)).await);
    }
    let secrets = pull_secrets(scene, &namespace).await;
    assert_eq!(secrets.len(), rows.len(), "a Pod has the copy of each");
    let case = |row: &&Row| Case { secrets: secrets.clone(), image: row.image.to_owned() };
    let cases: Vec<_> = rows.iter().map(case).collect();
    let answers = tokio::task::spawn_blocking(move || Kubelet::start().ask(&cases)).await.unwrap();
    for ((row, password), answer) in rows.iter().zip(passwords).zip(answers) {
        let logins = answer.unwrap_or_else(|error| panic!("{}: {error}", row.image));
        let users: Vec<_> = logins.iter().map(|login| &login.username).collect();
        let wanted = [Login { username: row.user.to_owned(), password }];
        assert!(logins == wanted, "{}: the kubelet finds {users:?}, or another password", row.image);
    }
    stage.clear().await;
}

/// Applies the example of a row, and looks at its status and the key in its copy; returns the password that was given.
async fn served(stage: &TokenScene, row: &Row, (namespace, name): (&str, &str)) -> String {
    let TokenScene { scene, clouds, .. } = stage;
    let registry = registries().into_iter().find(|registry| registry["server"] == row.server).unwrap();
    if row.giver.is_none() {
        write(scene, registry["source"]["secretRef"]["name"].as_str().unwrap(), row).await;
    }
    let spec = json!({ "registries": [registry], "namespaces": { "selector": { "matchLabels": { "pull": "found" } } } });
    let credential = json!({
        "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "metadata": { "name": name },
        "spec": spec,
    });
    apply(scene, &[credential]).await;
    scene.wait_condition(name, "Ready", "True", "Succeeded").await;
    let status = scene.status(name).await;
    let of_registry = &status["registries"][0];
    assert_eq!(of_registry["source"], row.kind.source(row.server), "{status}");
    assert_eq!(status["summary"]["nextExpiry"], of_registry["expiresAt"], "{status}");
    assert_eq!(of_registry["nextRefreshAt"].is_string(), row.giver.is_some(), "{status}");
    let config = scene.docker_config(namespace, name).await.expect("a copy");
    let keys: Vec<_> = config["auths"].as_object().expect("entries").keys().collect();
    assert_eq!(keys, [row.key.unwrap_or(row.server)]);
    let Some(giver) = row.giver else { return row.password().to_owned() };
    clouds.logins().into_iter().rev().find(|login| login.host == giver).expect(giver).password
}

/// Writes the Secret of a row: for Docker Hub as kubectl makes it, else as user name and password.
async fn write(scene: &Scene, name: &str, row: &Row) {
    if row.kind == Kind::DockerHub {
        let [user, password] = [("username", row.user), ("password", row.password())]
            .map(|(key, value)| format!("--docker-{key}={value}"));
        let create =
            ["create", "secret", "docker-registry", name, "-n", OPERATOR_NAMESPACE, &user, &password];
        return kubectl(scene, &create, "").await;
    }
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": { "name": name, "namespace": OPERATOR_NAMESPACE },
        "stringData": { "username": row.user, "password": row.password() },
    });
    apply(scene, &[secret]).await;
}

/// What the kubelet reads for a Pod of the ServiceAccount `default`: the Secrets that it lists, in that order.
async fn pull_secrets(scene: &Scene, namespace: &str) -> Vec<String> {
    let mut contents = Vec::new();
    for name in scene.pull_secrets(namespace, "default").await {
        let secret = scene.secret(namespace, &name).await.expect("a listed Secret");
        assert_eq!(secret.type_.as_deref(), Some(SECRET_TYPE));
        let data = secret.data.expect("a Secret has data");
        contents.push(String::from_utf8(data[SECRET_KEY].0.clone()).expect("a Secret holds JSON"));
    }
    contents
}
