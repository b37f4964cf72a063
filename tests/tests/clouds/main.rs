//! The protocols of the token sources, straight against the doubles: what is sent for each identity, what an answer gives,
//! and that nothing of an answer is repeated. No Kubernetes here.

mod second_opinion;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use regcred_dockerconfig::SecretBytes;
use regcred_sources::{
    AssumedRole, CloudSettings, Clouds, Identities, Identity, Issuer, Mint as _, MintError, Purpose,
    SourceSecret, Token, TokenRequest,
};
use regcred_tests::canary::assert_no_canary;
use regcred_tests::clouds::{
    self as doubles, ACCOUNT, CLIENT_ID, CLIENT_SECRET, Misbehaviour, PROVIDER, STATIC_KEYS, TENANT_ID, Trap,
    key_file, service_account_token,
};
use regcred_tests::install_crypto_provider;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const ECR: &str = "api.ecr.eu-west-1.amazonaws.com";
const ECR_PUBLIC: &str = "api.ecr-public.us-east-1.amazonaws.com";
const STS: &str = "sts.eu-west-1.amazonaws.com";
const NODE: &str = "169.254.169.254";
const POD_IDENTITY: &str = "169.254.170.23";
const GOOGLE_STS: &str = "sts.googleapis.com";
const GOOGLE_IAM: &str = "iamcredentials.googleapis.com";
const GOOGLE_TOKENS: &str = "oauth2.googleapis.com";
const ENTRA: &str = "login.microsoftonline.com";
const ACR: &str = "contoso.azurecr.io";
const JFROG: &str = "acme.jfrog.io";
const CLOUDSMITH: &str = "api.cloudsmith.io";
const QUAY: &str = "quay.io";
/// Every host that a test asks.
const HOSTS: [&str; 21] = [
    ECR,
    ECR_PUBLIC,
    STS,
    "sts.us-east-1.amazonaws.com",
    "api.ecr.cn-north-1.amazonaws.com.cn",
    "sts.cn-north-1.amazonaws.com.cn",
    NODE,
    POD_IDENTITY,
    GOOGLE_STS,
    GOOGLE_IAM,
    GOOGLE_TOKENS,
    ENTRA,
    "login.partner.microsoftonline.cn",
    "login.microsoftonline.us",
    ACR,
    "contoso.azurecr.cn",
    "contoso.azurecr.us",
    JFROG,
    CLOUDSMITH,
    QUAY,
    "metadata.example",
];
const ROLE: &str = "arn:aws:iam::123456789012:role/puller";

/// A cluster whose ServiceAccounts and Secrets a test lays down.
#[derive(Default)]
struct Cluster {
    annotations: BTreeMap<&'static str, BTreeMap<String, String>>,
    secrets: HashMap<&'static str, Arc<SourceSecret>>,
    /// An audience that tokens get in place of the one that was asked for.
    audience: Option<&'static str>,
}

impl Cluster {
    fn annotated(mut self, name: &'static str, annotations: &[(&str, &str)]) -> Self {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.annotations.insert(name, annotations.collect());
        self
    }

    fn keys(mut self, name: &'static str, purpose: Option<Purpose>, data: &[(&str, &str)]) -> Self {
        let value = |value: &str| SecretBytes::from(format!("{value}\n").into_bytes());
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect();
        let (kind, version) = ("Opaque".to_owned(), "u/1".to_owned());
        let secret = SourceSecret { kind, version, labelled: false, expires_at: None, purpose, data };
        self.secrets.insert(name, Arc::new(secret));
        self
    }

    /// One with everything that any test needs.
    fn full() -> Self {
        let identity = Some(Purpose::Identity);
        Self::default()
            .annotated(
                "puller",
                &[
                    ("eks.amazonaws.com/role-arn", ROLE),
                    ("azure.workload.identity/client-id", CLIENT_ID),
                    ("azure.workload.identity/tenant-id", TENANT_ID),
                ],
            )
            .annotated("actor", &[("iam.gke.io/gcp-service-account", ACCOUNT)])
            .annotated("bare", &[])
            .keys(
                "aws",
                identity,
                &[("AWS_ACCESS_KEY_ID", STATIC_KEYS.0), ("AWS_SECRET_ACCESS_KEY", STATIC_KEYS.1)],
            )
            .keys(
                "google",
                identity,
                &[("GOOGLE_CREDENTIALS", &key_file("https://oauth2.googleapis.com/token"))],
            )
            .keys(
                "azure",
                identity,
                &[
                    ("AZURE_TENANT_ID", TENANT_ID),
                    ("AZURE_CLIENT_ID", CLIENT_ID),
                    ("AZURE_CLIENT_SECRET", CLIENT_SECRET),
                ],
            )
    }
}

impl Identities for Cluster {
    async fn annotations(&self, service_account: &str) -> Result<BTreeMap<String, String>, MintError> {
        let (name, why) = (service_account.to_owned(), "it does not exist; create it".to_owned());
        self.annotations.get(service_account).cloned().ok_or(MintError::TokenRequest { name, why })
    }

    async fn token(&self, service_account: &str, audience: &str) -> Result<SecretBytes, MintError> {
        let audience = self.audience.unwrap_or(audience);
        Ok(service_account_token(service_account, audience).into_bytes().into())
    }

    fn secret(&self, name: &str) -> Option<Arc<SourceSecret>> {
        self.secrets.get(name).cloned()
    }
}

#[expect(clippy::disallowed_methods, reason = "tokens of the doubles are good for a time of the day")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Doubles, and clouds that ask them.
struct Sky {
    doubles: doubles::Clouds,
    settings: CloudSettings,
    folder: tempfile::TempDir,
}

impl Sky {
    async fn new(environment: &[(&'static str, &str)]) -> Self {
        let doubles = doubles::Clouds::start().await.expect("the doubles");
        let folder = tempfile::tempdir().expect("a folder");
        let environment: HashMap<String, String> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut settings = CloudSettings::new(Arc::new(now));
        settings.environment = Arc::new(move |name| environment.get(name).cloned());
        let endpoint = |host: &str| doubles.endpoint(host).parse().expect("an address");
        settings.endpoints = HOSTS.iter().map(|host| ((*host).to_owned(), endpoint(host))).collect();
        Self { doubles, settings, folder }
    }

    /// A file with the token of the operator's own ServiceAccount.
    fn token_file(&self, audience: &str) -> String {
        let path = self.folder.path().join("token");
        std::fs::write(&path, service_account_token("regcred", audience) + "\n").expect("a file");
        path.display().to_string()
    }

    fn set(&mut self, environment: Vec<(&'static str, String)>) {
        self.settings.environment = Arc::new(move |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone())
        });
    }

    async fn mint(&self, issuer: Issuer, identity: Identity) -> Result<Token, MintError> {
        self.mint_in(Cluster::full(), issuer, identity).await
    }

    async fn mint_in(
        &self,
        cluster: Cluster,
        issuer: Issuer,
        identity: Identity,
    ) -> Result<Token, MintError> {
        Clouds::new(&self.settings, cluster).mint(&TokenRequest { issuer, identity }).await
    }

    /// The hosts that were asked, in order.
    fn asked(&self) -> Vec<String> {
        self.doubles.seen().into_iter().map(|seen| seen.host).collect()
    }

    /// Demands that the last token is the one that a double gave last, on this way, and that nothing else was wrong.
    fn expect(&self, token: Result<Token, MintError>, way: &[&str]) {
        let token = token.unwrap_or_else(|error| panic!("{error}; {:?}", self.doubles.complaints()));
        assert_eq!(self.doubles.complaints(), Vec::<String>::new());
        let given = self.doubles.logins().pop().expect("a token");
        let (user, password) = (token.login.username(), token.login.password());
        assert_eq!(user.expose(), given.user.as_bytes());
        assert!(password.expose() == given.password.as_bytes(), "another password than {} gave", given.host);
        let asked = self.asked();
        let last = &asked[asked.len() - way.len()..];
        assert_eq!(last, way);
        let life = token.expires_at.expect("an end").duration_since(now()).as_secs();
        assert!((3590..=3600).contains(&life), "it lives {life} s");
    }
}

fn ecr(role: Option<AssumedRole>) -> Issuer {
    Issuer::Ecr { region: "eu-west-1".to_owned(), domain: "amazonaws.com", role }
}

fn role(name: &str, external_id: Option<&str>) -> AssumedRole {
    let arn = format!("arn:aws:iam::123456789012:role/{name}");
    AssumedRole { arn, external_id: external_id.map(str::to_owned) }
}

fn gcp(account: Option<&str>, provider: Option<&str>) -> Issuer {
    Issuer::Gcp { service_account: account.map(str::to_owned), provider: provider.map(str::to_owned) }
}

fn acr(host: &str, ids: Option<(&str, &str)>) -> Issuer {
    let id = |which: fn((&str, &str)) -> String| ids.map(which);
    let (tenant_id, client_id) = (id(|ids| ids.0.to_owned()), id(|ids| ids.1.to_owned()));
    Issuer::Acr { host: host.to_owned(), tenant_id, client_id }
}

fn quay() -> Issuer {
    Issuer::Quay { robot: "acme+puller".to_owned() }
}

fn jfrog() -> Issuer {
    Issuer::Jfrog { host: JFROG.to_owned(), provider: "my-cluster".to_owned() }
}

fn cloudsmith() -> Issuer {
    Issuer::Cloudsmith { organization: "acme".to_owned(), service: "puller".to_owned() }
}

fn account(name: &str) -> Identity {
    Identity::ServiceAccount(name.to_owned())
}

fn keys(name: &str) -> Identity {
    Identity::Secret { name: name.to_owned(), version: "u/1".to_owned() }
}

/// One request of each issuer, with an identity that needs nothing of the environment, and the host that gives the token.
fn one_of_each() -> Vec<(Issuer, Identity, &'static str)> {
    vec![
        (ecr(None), keys("aws"), ECR),
        (Issuer::EcrPublic { role: None }, keys("aws"), ECR_PUBLIC),
        (gcp(None, None), keys("google"), GOOGLE_TOKENS),
        (gcp(Some(ACCOUNT), None), keys("google"), GOOGLE_IAM),
        (gcp(None, Some(PROVIDER)), account("bare"), GOOGLE_STS),
        (acr(ACR, None), keys("azure"), ACR),
        (quay(), account("bare"), QUAY),
        (jfrog(), account("bare"), JFROG),
        (cloudsmith(), account("bare"), CLOUDSMITH),
    ]
}

#[tokio::test]
async fn amazon_gives_tokens_to_every_identity() {
    let static_keys = [("AWS_ACCESS_KEY_ID", STATIC_KEYS.0), ("AWS_SECRET_ACCESS_KEY", STATIC_KEYS.1)];
    let sky = Sky::new(&static_keys).await;
    sky.expect(sky.mint(ecr(None), Identity::Operator).await, &[ECR]);
    sky.expect(sky.mint(ecr(Some(role("puller", None))), Identity::Operator).await, &[STS, ECR]);
    sky.expect(sky.mint(ecr(Some(role("external", Some("acme")))), Identity::Operator).await, &[STS, ECR]);
    sky.expect(sky.mint(ecr(None), keys("aws")).await, &[ECR]);
    sky.expect(sky.mint(ecr(None), account("puller")).await, &[STS, ECR]);
    sky.expect(sky.mint(ecr(Some(role("other", None))), account("puller")).await, &[STS, STS, ECR]);
    let public = Issuer::EcrPublic { role: Some(role("puller", None)) };
    sky.expect(sky.mint(public, keys("aws")).await, &["sts.us-east-1.amazonaws.com", ECR_PUBLIC]);
    let china = Issuer::Ecr { region: "cn-north-1".to_owned(), domain: "amazonaws.com.cn", role: None };
    let way = ["sts.cn-north-1.amazonaws.com.cn", "api.ecr.cn-north-1.amazonaws.com.cn"];
    sky.expect(sky.mint(china, account("puller")).await, &way);
}

#[tokio::test]
async fn amazon_knows_the_operator_by_its_pod_or_node() {
    let mut sky = Sky::new(&[]).await;
    sky.expect(sky.mint(ecr(None), Identity::Operator).await, &[NODE, NODE, NODE, ECR]);
    let file = sky.token_file("sts.amazonaws.com");
    sky.set(vec![("AWS_WEB_IDENTITY_TOKEN_FILE", file), ("AWS_ROLE_ARN", ROLE.to_owned())]);
    sky.expect(sky.mint(ecr(None), Identity::Operator).await, &[STS, ECR]);
    let file = sky.token_file("pods.eks.amazonaws.com");
    sky.set(vec![
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{POD_IDENTITY}/v1/credentials")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file),
    ]);
    sky.expect(sky.mint(ecr(None), Identity::Operator).await, &[POD_IDENTITY, ECR]);
    let evil = "http://evil.example/v1/credentials".to_owned();
    sky.set(vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", evil)]);
    let error = sky.mint(ecr(None), Identity::Operator).await.err().expect("an error").to_string();
    assert!(error.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI"), "{error}");
}

#[tokio::test]
async fn google_gives_tokens_to_every_identity() {
    let mut sky = Sky::new(&[]).await;
    sky.expect(sky.mint(gcp(None, None), Identity::Operator).await, &[NODE]);
    sky.expect(sky.mint(gcp(Some(ACCOUNT), None), Identity::Operator).await, &[NODE, GOOGLE_IAM]);
    sky.expect(sky.mint(gcp(None, None), keys("google")).await, &[GOOGLE_TOKENS]);
    sky.expect(sky.mint(gcp(Some(ACCOUNT), None), keys("google")).await, &[GOOGLE_TOKENS, GOOGLE_IAM]);
    sky.expect(sky.mint(gcp(None, None), account("bare")).await, &[NODE, NODE, NODE, GOOGLE_STS]);
    let way = [NODE, NODE, NODE, GOOGLE_STS, GOOGLE_IAM];
    sky.expect(sky.mint(gcp(None, None), account("actor")).await, &way);
    sky.expect(sky.mint(gcp(None, Some(PROVIDER)), account("bare")).await, &[GOOGLE_STS]);
    sky.expect(sky.mint(gcp(None, Some(PROVIDER)), account("actor")).await, &[GOOGLE_STS, GOOGLE_IAM]);
    let elsewhere = sky.doubles.endpoint(NODE).parse().expect("an address");
    sky.settings.endpoints.insert("metadata.example".to_owned(), elsewhere);
    sky.set(vec![("GCE_METADATA_HOST", "metadata.example".to_owned())]);
    sky.expect(sky.mint(gcp(None, None), Identity::Operator).await, &[NODE]);
}

#[tokio::test]
async fn azure_gives_tokens_to_every_identity() {
    let mut sky = Sky::new(&[]).await;
    sky.expect(sky.mint(acr(ACR, None), Identity::Operator).await, &[NODE, ACR]);
    let given = Some((TENANT_ID, CLIENT_ID));
    sky.expect(sky.mint(acr(ACR, given), Identity::Operator).await, &[NODE, ACR]);
    sky.expect(sky.mint(acr(ACR, None), keys("azure")).await, &[ENTRA, ACR]);
    sky.expect(sky.mint(acr(ACR, None), account("puller")).await, &[ENTRA, ACR]);
    sky.expect(sky.mint(acr(ACR, given), account("bare")).await, &[ENTRA, ACR]);
    for (registry, authority) in [
        ("contoso.azurecr.cn", "login.partner.microsoftonline.cn"),
        ("contoso.azurecr.us", "login.microsoftonline.us"),
    ] {
        sky.expect(sky.mint(acr(registry, None), keys("azure")).await, &[authority, registry]);
        sky.expect(sky.mint(acr(registry, None), account("puller")).await, &[authority, registry]);
    }
    let federated = |file: String, authority: &str| {
        vec![
            ("AZURE_FEDERATED_TOKEN_FILE", file),
            ("AZURE_CLIENT_ID", CLIENT_ID.to_owned()),
            ("AZURE_TENANT_ID", TENANT_ID.to_owned()),
            ("AZURE_AUTHORITY_HOST", authority.to_owned()),
        ]
    };
    let file = sky.token_file("api://AzureADTokenExchange");
    sky.set(federated(file.clone(), "https://login.microsoftonline.com/"));
    sky.expect(sky.mint(acr(ACR, None), Identity::Operator).await, &[ENTRA, ACR]);
    let before = sky.doubles.seen().len();
    sky.set(federated(file, "https://login.evil.example/"));
    let error = sky.mint(acr(ACR, None), Identity::Operator).await.err().expect("an error").to_string();
    assert!(error.contains("AZURE_AUTHORITY_HOST"), "{error}");
    assert_eq!(sky.doubles.seen().len(), before);
}

#[tokio::test]
async fn registries_give_tokens_to_service_accounts() {
    let sky = Sky::new(&[]).await;
    for (issuer, host) in [(quay(), QUAY), (jfrog(), JFROG), (cloudsmith(), CLOUDSMITH)] {
        sky.expect(sky.mint(issuer.clone(), account("bare")).await, &[host]);
        let error = sky.mint(issuer, Identity::Operator).await.err().expect("an error").to_string();
        assert!(error.contains("auth.serviceAccountRef"), "{error}");
    }
    assert_eq!(sky.doubles.mints(), 3);
}

#[tokio::test]
async fn a_cluster_outside_of_google_is_told_what_it_needs() {
    let sky = Sky::new(&[]).await;
    sky.doubles.misbehave(NODE, Some(Misbehaviour::Overloaded(1)));
    let error = sky.mint(gcp(None, None), account("bare")).await.err().expect("an error").to_string();
    assert!(error.contains("; on GKE, set the chart value tokens.metadataServers; outside of it, give workloadIdentityProvider; it is asked again"), "{error}");
}

#[tokio::test]
async fn an_address_with_a_user_in_it_is_none() {
    let mut sky = Sky::new(&[]).await;
    let trap = Trap::set().await.expect("a trap");
    let address = format!("http://user:word@{}/", trap.address()).parse().expect("an address");
    sky.settings.endpoints.insert(QUAY.to_owned(), address);
    let error = sky.mint(quay(), account("bare")).await.err().expect("an error").to_string();
    assert_eq!(error, "quay.io cannot be asked: its address is none; it is asked again");
    assert_eq!(trap.callers(), 0);
}

/// The doubles are worth nothing if they take anything.
#[tokio::test]
async fn the_doubles_refuse_what_is_wrong() {
    let sky = Sky::new(&[]).await;
    let identity = Some(Purpose::Identity);
    let secret = |name, data: &[(&str, &str)]| Cluster::full().keys(name, identity, data);
    let elsewhere = || Cluster { audience: Some("somebody-else"), ..Cluster::full() };
    let other_key =
        secret("aws", &[("AWS_ACCESS_KEY_ID", STATIC_KEYS.0), ("AWS_SECRET_ACCESS_KEY", "wrong")]);
    let other_secret = secret(
        "azure",
        &[("AZURE_TENANT_ID", TENANT_ID), ("AZURE_CLIENT_ID", CLIENT_ID), ("AZURE_CLIENT_SECRET", "wrong")],
    );
    for (cluster, issuer, identity, complaint) in [
        (other_key, ecr(None), keys("aws"), "the signature does not match"),
        (Cluster::full(), ecr(Some(role("external", None))), keys("aws"), "no ExternalId"),
        (Cluster::full(), ecr(Some(role("external", Some("evil")))), keys("aws"), "ExternalId is not acme"),
        (elsewhere(), ecr(None), account("puller"), "not sts.amazonaws.com"),
        (elsewhere(), gcp(None, Some(PROVIDER)), account("bare"), "not //iam.googleapis.com/"),
        (elsewhere(), gcp(None, None), account("bare"), "not project-1.svc.id.goog"),
        (elsewhere(), acr(ACR, None), account("puller"), "not api://AzureADTokenExchange"),
        (other_secret, acr(ACR, None), keys("azure"), "client_secret is not"),
        (
            elsewhere(),
            acr("contoso.azurecr.us", None),
            account("puller"),
            "not api://AzureADTokenExchangeUSGov",
        ),
        (elsewhere(), quay(), account("bare"), "not quay.io"),
        (elsewhere(), jfrog(), account("bare"), "not acme.jfrog.io"),
        (elsewhere(), cloudsmith(), account("bare"), "not api.cloudsmith.io"),
    ] {
        let error = sky.mint_in(cluster, issuer, identity).await.err().expect("an error");
        assert!(matches!(&error, MintError::AccessDenied { status: 400, .. }), "{error}");
        let last = sky.doubles.complaints().pop().expect("a complaint");
        assert!(last.contains(complaint), "{last} has no {complaint}");
    }
    assert_eq!(sky.doubles.mints(), 0);
}

#[tokio::test]
async fn what_an_identity_lacks_is_named() {
    let sky = Sky::new(&[]).await;
    let identity = Some(Purpose::Identity);
    let with = |data: &[(&str, &str)]| Cluster::full().keys("k", identity, data);
    let evil = key_file("https://evil.example/token");
    for (cluster, issuer, who, says) in [
        (
            Cluster::full(),
            ecr(None),
            account("bare"),
            "ServiceAccount bare has no annotation eks.amazonaws.com/role-arn; add it",
        ),
        (
            Cluster::full(),
            acr(ACR, None),
            account("bare"),
            "has no annotation azure.workload.identity/client-id; add it",
        ),
        (
            Cluster::full(),
            ecr(None),
            account("gone"),
            "no token for ServiceAccount gone: it does not exist; create it",
        ),
        (
            Cluster::full(),
            ecr(None),
            keys("gone"),
            "Secret gone does not exist; create it (an identity is of type Opaque and has the label regcred.dev/source=identity)",
        ),
        (
            with(&[("AWS_ACCESS_KEY_ID", "x")]),
            ecr(None),
            keys("k"),
            "Secret k has no AWS_SECRET_ACCESS_KEY; add",
        ),
        (with(&[]), acr(ACR, None), keys("k"), "Secret k has no AZURE_TENANT_ID; add"),
        (
            with(&[("GOOGLE_CREDENTIALS", "{}")]),
            gcp(None, None),
            keys("k"),
            "Secret k has no key file of a service account in its key GOOGLE_CREDENTIALS",
        ),
        (with(&[("GOOGLE_CREDENTIALS", &evil)]), gcp(None, None), keys("k"), "no token_uri of Google's own"),
        (Cluster::full().keys("k", None, &[]), ecr(None), keys("k"), "Secret k is no identity; label it"),
        (
            Cluster::full().keys("k", Some(Purpose::Copy), &[]),
            ecr(None),
            keys("k"),
            "Secret k is no identity",
        ),
    ] {
        let error = sky.mint_in(cluster, issuer, who).await.err().expect("an error").to_string();
        assert!(error.contains(says), "{error} has no {says}");
    }
    assert_eq!(sky.doubles.seen(), []);
}

#[tokio::test]
async fn an_issuer_that_misbehaves_is_an_error_of_its_kind() {
    let sky = Sky::new(&[]).await;
    for (issuer, identity, host) in one_of_each() {
        for (how, says) in [
            (Misbehaviour::Throttle(7), "too many requests; it is asked again"),
            (Misbehaviour::ThrottleAws, "too many requests; it is asked again"),
            (Misbehaviour::Overloaded(7), "cannot serve now (HTTP 503); it is asked again"),
            (Misbehaviour::AccessDenied, "no token (HTTP 403, AccessDenied); "),
            (Misbehaviour::Huge, "answers with more than 64 KiB; it is asked again"),
            (Misbehaviour::WrongJson, "gave an answer without "),
            (Misbehaviour::CutOff, "gave an answer without "),
        ] {
            sky.doubles.misbehave(host, Some(how.clone()));
            let error = sky.mint(issuer.clone(), identity.clone()).await.err();
            let error = error.unwrap_or_else(|| panic!("{host} did {how:?}, and gave a token"));
            let text = error.to_string();
            assert!(text.starts_with(host) && text.contains(says), "{how:?}: {text}");
            let wait = match error {
                MintError::Throttled { retry_after, .. } | MintError::Unavailable { retry_after, .. } => {
                    retry_after
                }
                _ => Duration::ZERO,
            };
            let asked = matches!(how, Misbehaviour::Throttle(_) | Misbehaviour::Overloaded(_));
            assert_eq!(wait, Duration::from_secs(if asked { 7 } else { 0 }), "{how:?}");
        }
        sky.doubles.misbehave(host, None);
        sky.expect(sky.mint(issuer, identity).await, &[host]);
    }
}

#[tokio::test]
async fn nobody_follows_a_redirect() {
    let (sky, trap) = (Sky::new(&[]).await, Trap::set().await.expect("a trap"));
    for (issuer, identity, host) in one_of_each() {
        let location = format!("http://{}/steal", trap.address());
        sky.doubles.misbehave(host, Some(Misbehaviour::Redirect(location)));
        let error = sky.mint(issuer, identity).await.err().expect("an error").to_string();
        assert!(error.contains("redirects elsewhere (HTTP 302), which is not followed"), "{error}");
    }
    assert_eq!(trap.callers(), 0);
}

#[tokio::test]
async fn an_answer_is_waited_for_ten_seconds_and_a_metadata_server_for_five() {
    let sky = Sky::new(&[]).await;
    sky.doubles.misbehave(QUAY, Some(Misbehaviour::Slow));
    sky.doubles.misbehave(NODE, Some(Misbehaviour::Slow));
    let begun = tokio::time::Instant::now();
    let (quay, node) = tokio::join!(sky.mint(quay(), account("bare")), async {
        let answer = sky.mint(ecr(None), Identity::Operator).await;
        (answer, begun.elapsed())
    });
    assert!((10..15).contains(&begun.elapsed().as_secs()));
    assert!((5..10).contains(&node.1.as_secs()));
    let text = |answer: Result<Token, MintError>| answer.err().expect("an error").to_string();
    assert_eq!(text(quay), "quay.io does not answer in 10 s; it is asked again");
    let says = "169.254.169.254 does not answer in 5 s, and nothing else gives the operator an identity of AWS: give auth, EKS Pod Identity or IRSA, or set the chart value tokens.metadataServers; it is asked again";
    assert_eq!(text(node.0), says);
}

#[tokio::test]
async fn clocks_that_differ_do_no_harm() {
    let sky = Sky::new(&[]).await;
    sky.doubles.set_life(60);
    for ahead in [-290, 0, 290] {
        sky.doubles.set_clock_ahead(ahead);
        for (issuer, identity, host) in one_of_each() {
            let token = sky.mint(issuer, identity).await;
            let token =
                token.unwrap_or_else(|error| panic!("{ahead}: {error}; {:?}", sky.doubles.complaints()));
            let life = token.expires_at.expect("an end").duration_since(now()).as_secs();
            assert!((56..=61).contains(&life), "{host}, {ahead} s ahead: it lives {life} s");
        }
    }
}

#[tokio::test]
async fn a_life_that_cannot_be_is_cut_to_the_longest_of_the_issuer() {
    let sky = Sky::new(&[]).await;
    sky.doubles.set_life(400 * 24 * 3600);
    for (issuer, identity, host) in one_of_each() {
        let longest = match host {
            ACR => 3,
            QUAY | JFROG | CLOUDSMITH => 24,
            _ => 12,
        };
        let token = sky.mint(issuer, identity).await.unwrap_or_else(|error| panic!("{host}: {error}"));
        let life = token.expires_at.expect("an end").duration_since(now()).as_secs();
        assert!((longest * 3600 - 5..=longest * 3600).contains(&life), "{host}: it lives {life} s");
    }
}

#[tokio::test]
async fn a_token_that_is_over_is_none() {
    let sky = Sky::new(&[]).await;
    sky.doubles.set_life(-60);
    for (issuer, identity, host) in one_of_each() {
        if host == GOOGLE_IAM {
            continue;
        }
        let error = sky.mint(issuer, identity).await.err().expect("an error").to_string();
        assert_eq!(
            error,
            format!("{host} gave an answer without a token that is still good; it is asked again")
        );
    }
}

/// Where the lines of a test's log go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the lines").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that an error says.
fn told(minted: Result<Token, MintError>) -> String {
    let error = minted.err().expect("an error");
    format!("{error}\n{error:?}\n")
}

/// The doubles repeat in their errors all that they were sent, and give out nothing without the canary in it.
#[tokio::test]
async fn no_secret_is_in_an_error_or_in_the_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(log.finish());
    let sky = Sky::new(&[]).await;
    let mut errors = String::new();
    for (issuer, identity, _) in one_of_each() {
        sky.mint(issuer, identity).await.unwrap_or_else(|error| panic!("{error}"));
    }
    // What another test's thread met first while the log began may be taken for something that nobody wants to hear.
    tracing::callsite::rebuild_interest_cache();
    for how in
        [Misbehaviour::AccessDenied, Misbehaviour::Throttle(1), Misbehaviour::WrongJson, Misbehaviour::CutOff]
    {
        for (issuer, identity, host) in one_of_each() {
            sky.doubles.misbehave(host, Some(how.clone()));
            errors += &told(sky.mint(issuer, identity).await);
            sky.doubles.misbehave(host, None);
        }
        // The same where it happens on the way to the token.
        for (issuer, identity, host) in [
            (ecr(None), account("puller"), STS),
            (ecr(None), Identity::Operator, NODE),
            (gcp(Some(ACCOUNT), None), keys("google"), GOOGLE_TOKENS),
            (acr(ACR, None), keys("azure"), ENTRA),
            (acr(ACR, None), account("puller"), ENTRA),
        ] {
            sky.doubles.misbehave(host, Some(how.clone()));
            errors += &told(sky.mint(issuer, identity).await);
            sky.doubles.misbehave(host, None);
        }
    }
    let elsewhere = || Cluster { audience: Some("somebody-else"), ..Cluster::full() };
    for issuer in [ecr(None), gcp(None, Some(PROVIDER)), acr(ACR, None), quay(), jfrog(), cloudsmith()] {
        errors += &told(sky.mint_in(elsewhere(), issuer, account("puller")).await);
    }
    let log = String::from_utf8_lossy(&lines.0.lock().expect("the lines")).into_owned();
    assert!(log.contains("hyper"), "nothing was logged");
    assert_no_canary([("the errors", &*errors), ("the log", &*log)]);
}

/// A region that is mistyped makes a host that does not exist.
#[tokio::test]
async fn a_host_that_does_not_exist_leads_back_to_the_server_in_the_spec() {
    let mut sky = Sky::new(&[]).await;
    // A label of 64 letters, which the resolver refuses without asking anybody.
    let nowhere = format!("http://{}.invalid", "a".repeat(64));
    for host in [ECR, ECR_PUBLIC, ACR, QUAY] {
        sky.settings.endpoints.insert(host.to_owned(), nowhere.parse().expect("an address"));
    }
    let hints = [
        (ECR, "; does the region exist? check the server"),
        (ECR_PUBLIC, ""),
        (ACR, "; does the registry exist? check the server"),
        (QUAY, ""),
    ];
    for (issuer, identity, host) in one_of_each() {
        let Some((_, hint)) = hints.iter().find(|(known, _)| *known == host) else { continue };
        let error = sky.mint(issuer, identity).await.err().expect("an error").to_string();
        let says = format!("{host} cannot be found: its name leads to no address{hint}; it is asked again");
        assert_eq!(error, says);
    }
}

/// Answers one request for a tunnel with a refusal, and tells what it was.
async fn refusing_proxy() -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut bytes = vec![0; 4096];
        let length = stream.read(&mut bytes).await.expect("a request");
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.expect("an answer");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    });
    (format!("http://user:word@{address}"), asked)
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_asked_for_a_tunnel() {
    let mut sky = Sky::new(&[]).await;
    let (proxy, asked) = refusing_proxy().await;
    sky.settings.endpoints.remove(QUAY);
    sky.set(vec![("HTTPS_PROXY", proxy), ("NO_PROXY", "example.com".to_owned())]);
    let error = sky.mint(quay(), account("bare")).await.err().expect("an error").to_string();
    assert_eq!(error, "quay.io cannot be reached; it is asked again");
    let asked = asked.await.expect("a request").to_lowercase();
    assert!(asked.starts_with("connect quay.io:443 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("proxy-authorization: basic dxnlcjp3b3jk"), "{asked}");
    // What is not encrypted never goes through a proxy: metadata servers, and doubles.
    sky.expect(sky.mint(ecr(None), Identity::Operator).await, &[NODE, NODE, NODE, ECR]);
}

/// A password for a proxy is sent without TLS, whatever the scheme; and nobody speaks SOCKS here.
#[tokio::test]
async fn a_proxy_that_cannot_be_asked_as_it_is_written_is_refused() {
    let mut sky = Sky::new(&[]).await;
    sky.settings.endpoints.remove(QUAY);
    let trap = Trap::set().await.expect("a trap");
    for (variable, scheme) in [("HTTPS_PROXY", "https"), ("HTTPS_PROXY", "socks5"), ("ALL_PROXY", "socks4a")]
    {
        sky.set(vec![(variable, format!("{scheme}://user:hunter2@{}", trap.address()))]);
        let error = sky.mint(quay(), account("bare")).await.err().expect("an error").to_string();
        let says = "quay.io cannot be reached through the proxy of HTTPS_PROXY or ALL_PROXY: write it as http://HOST:PORT";
        assert!(error.starts_with(says), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert_eq!(trap.callers(), 0);
}

#[tokio::test]
async fn authorities_of_the_environment_are_believed_and_no_others() {
    install_crypto_provider();
    let mut sky = Sky::new(&[]).await;
    let authority = regcred_tests::pki::Authority::new().expect("an authority");
    let address = tls_server(&authority.server(&["127.0.0.1"]).expect("a certificate")).await;
    sky.settings.endpoints.insert(QUAY.to_owned(), format!("https://{address}").parse().expect("an address"));
    let error = sky.mint(quay(), account("bare")).await.err().expect("an error").to_string();
    assert!(error.contains("a certificate that no known authority signed"), "{error}");
    assert!(error.contains("SSL_CERT_FILE"), "{error}");
    let file = sky.folder.path().join("authority.pem");
    std::fs::write(&file, authority.certificate()).expect("a file");
    sky.set(vec![("SSL_CERT_FILE", file.display().to_string())]);
    let error = sky.mint(quay(), account("bare")).await.err().expect("an error").to_string();
    assert_eq!(error, "quay.io cannot serve now (HTTP 503); it is asked again");
}

/// A server that is busy, once it is believed.
async fn tls_server(pair: &regcred_tests::pki::Pair) -> std::net::SocketAddr {
    use rustls::pki_types::pem::PemObject as _;
    let certificate = rustls::pki_types::CertificateDer::from_pem_slice(pair.certificate.as_bytes());
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.expect("a certificate")], key)
        .expect("a server");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut bytes = vec![0; 4096];
            let _request = stream.read(&mut bytes).await;
            let _gone = stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    address
}
