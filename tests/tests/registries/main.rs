//! The page about registries, on a real API server: each of its examples is taken and gives the kubelet its login, and each
//! wrong spelling is refused with words that help.

mod found;

use kube::api::{Patch, PatchParams, ValidationDirective};
use kube::core::DynamicObject;
use regcred_api::{RegistryCredential, SourceMember};
use regcred_dockerconfig::Server;
use regcred_sources::TokenRequest;
use regcred_tests::{Scene, install::repository};
use serde_json::{Value, json};

/// Applies a list `spec.registries` as kubectl does: what the schema does not know is refused.
async fn apply(scene: &Scene, suffix: &str, registries: &Value) -> kube::Result<DynamicObject> {
    let name = scene.name(suffix);
    let object = json!({
        "apiVersion": "regcred.dev/v1alpha1", "kind": "RegistryCredential", "metadata": { "name": name },
        "spec": { "registries": registries, "namespaces": { "selector": { "matchLabels": { "pull": "docs" } } } },
    });
    let strict = Some(ValidationDirective::Strict);
    let params = PatchParams { field_validation: strict, ..PatchParams::apply("test").force() };
    scene.credentials().patch(&name, &params, &Patch::Apply(&object)).await
}

/// The examples of the page, each with its line.
fn examples() -> Vec<(usize, Value)> {
    let page = std::fs::read_to_string(repository().join("docs/registries.md")).unwrap();
    let mut examples = Vec::new();
    let mut example: Option<(usize, String)> = None;
    for (number, line) in page.lines().enumerate() {
        match (&mut example, line) {
            (None, "```yaml") => example = Some((number + 1, String::new())),
            (Some((begin, text)), "```") => {
                examples.push((*begin, serde_saphyr::from_str(text).expect("an example is YAML")));
                example = None;
            }
            (Some((_, text)), line) => text.extend([line, "\n"]),
            (None, _) => {}
        }
    }
    examples
}

#[tokio::test]
async fn every_example_of_the_page_is_taken_by_the_api_server_and_by_the_operator() {
    let scene = Scene::new().await;
    let examples = examples();
    assert_eq!(examples.len(), 7);
    let mut kinds = Vec::new();
    for (line, registries) in examples {
        let applied = apply(&scene, &format!("line{line}"), &registries).await;
        let stored = applied.unwrap_or_else(|error| panic!("docs/registries.md:{line}: {error}"));
        assert_eq!(stored.data["spec"]["registries"], registries, "line {line} is stored as it is written");
        let read: RegistryCredential = serde_json::from_value(serde_json::to_value(stored).unwrap()).unwrap();
        for registry in read.spec.registries {
            let member = registry.source.member().unwrap();
            let server = Server::parse(&registry.server).unwrap();
            kinds.push(member.kind());
            if !matches!(member, SourceMember::Secret(_)) {
                let request = TokenRequest::new(&server, &member, |_| Some(String::new()));
                request.unwrap_or_else(|error| panic!("docs/registries.md:{line}: {error}"));
            }
        }
    }
    for kind in ["ECR", "GCP", "ACR", "Quay", "JFrog", "Cloudsmith", "Secret"] {
        assert!(kinds.contains(&kind), "{kind} has no example");
    }
    scene.finish().await;
}

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const NEEDS_ECR: &str = "source.ecr needs a server of Amazon ECR: 123456789012.dkr.ecr.REGION.amazonaws.com, \
                         *.dkr.ecr.REGION.amazonaws.com or public.ecr.aws";
const NEEDS_GCP: &str =
    "source.gcp needs a server of Google: LOCATION-docker.pkg.dev, gcr.io or LOCATION.gcr.io";
const NEEDS_ACR: &str = "source.acr needs a server of Azure Container Registry: NAME.azurecr.io, .cn or .us";
const NEEDS_QUAY: &str = "source.quay needs the server quay.io, with or without a path; a Quay of your own takes a robot's password by secretRef";
const NEEDS_JFROG: &str = "source.jfrog needs a server of JFrog's cloud: NAME.jfrog.io; an Artifactory of your own takes a \
                           token by secretRef";
const NEEDS_CLOUDSMITH: &str = "source.cloudsmith needs the server docker.cloudsmith.io, with or without a path; a domain of your own takes a token by \
     secretRef";
const ONE_MEMBER: &str =
    "source needs exactly one member: secretRef, ecr, gcp, acr, quay, jfrog or cloudsmith";
const ONE_AUTH: &str = "auth needs exactly one member: serviceAccountRef or secretRef";

const UNKNOWN: &str = "field not declared in schema";

/// A server, its source, and what a user is told.
type Spelling = (&'static str, Value, &'static str);

fn auth() -> Value {
    json!({ "serviceAccountRef": { "name": "puller" } })
}

fn secret() -> Value {
    json!({ "secretRef": { "name": "bot" } })
}

fn quay(robot: &str) -> Value {
    json!({ "quay": { "robot": robot, "auth": auth() } })
}

fn jfrog(provider: &str) -> Value {
    json!({ "jfrog": { "provider": provider, "auth": auth() } })
}

fn cloudsmith(organization: &str, service: &str) -> Value {
    json!({ "cloudsmith": { "organization": organization, "service": service, "auth": auth() } })
}

fn servers() -> Vec<Spelling> {
    let (ecr, gcp, acr) = (json!({ "ecr": {} }), json!({ "gcp": {} }), json!({ "acr": {} }));
    vec![
        ("https://ghcr.io", secret(), "write the server without a scheme: ghcr.io, not https://ghcr.io"),
        ("GHCR.io", secret(), "in lower case"),
        ("ghcr.io/", secret(), "without a trailing slash"),
        ("index.docker.io", secret(), "write docker.io for Docker Hub"),
        ("*.example.com", secret(), "a wildcard would send"),
        (
            "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            ecr.clone(),
            "write the server without a scheme",
        ),
        ("12345678901.dkr.ecr.eu-west-1.amazonaws.com", ecr.clone(), NEEDS_ECR),
        ("123456789012.dkr.ecr.amazonaws.com", ecr.clone(), NEEDS_ECR),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", ecr.clone(), NEEDS_ECR),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com:443", ecr.clone(), NEEDS_ECR),
        ("gallery.ecr.aws", ecr.clone(), NEEDS_ECR),
        ("*", ecr.clone(), NEEDS_ECR),
        ("ghcr.io", ecr, NEEDS_ECR),
        ("docker.pkg.dev", gcp.clone(), NEEDS_GCP),
        ("europe-npm.pkg.dev", gcp.clone(), NEEDS_GCP),
        ("gcr.io.evil.example", gcp.clone(), NEEDS_GCP),
        ("evilgcr.io", gcp, NEEDS_GCP),
        ("contoso.azurecr.de", acr.clone(), NEEDS_ACR),
        ("azurecr.io", acr.clone(), NEEDS_ACR),
        ("contoso.azurecr.io.evil.example", acr.clone(), NEEDS_ACR),
        ("mcr.microsoft.com", acr, NEEDS_ACR),
        ("quay.example.com", quay("acme+puller"), NEEDS_QUAY),
        ("quay.io:8443", quay("acme+puller"), NEEDS_QUAY),
        ("artifactory.example.com", jfrog("my-cluster"), NEEDS_JFROG),
        ("jfrog.io", jfrog("my-cluster"), NEEDS_JFROG),
        ("docker.example.com", cloudsmith("acme", "puller"), NEEDS_CLOUDSMITH),
        ("cloudsmith.io", cloudsmith("acme", "puller"), NEEDS_CLOUDSMITH),
    ]
}

/// Members of a source, and what is in a `secretRef`.
fn members() -> Vec<Spelling> {
    let pair = "give usernameKey and passwordKey together, or neither";
    let secret = |source: Value| json!({ "secretRef": source });
    vec![
        (ECR, json!({}), ONE_MEMBER),
        (ECR, json!({ "ecr": {}, "secretRef": { "name": "bot" } }), ONE_MEMBER),
        (ECR, json!({ "ecr": {}, "gcp": {} }), ONE_MEMBER),
        (ECR, json!({ "aws": {} }), UNKNOWN),
        ("ghcr.io", secret(json!({ "name": "bot", "usernameKey": "user" })), pair),
        ("ghcr.io", secret(json!({ "name": "bot", "passwordKey": "token" })), pair),
        ("ghcr.io", secret(json!({})), "source.secretRef.name: Required value"),
    ]
}

fn amazon() -> Vec<Spelling> {
    let role = "arn:aws:iam::123456789012:role/pull";
    let write = "write roleARN as arn:aws:iam::123456789012:role/NAME";
    let both = json!({ "serviceAccountRef": { "name": "a" }, "secretRef": { "name": "b" } });
    let elsewhere = json!({ "serviceAccountRef": { "name": "a", "namespace": "b" } });
    let needs_role = "externalID goes with the role that asks for it; give roleARN, too";
    let sources = [
        (json!({ "region": "eu-west-1" }), UNKNOWN),
        (json!({ "auth": {} }), ONE_AUTH),
        (json!({ "auth": both }), ONE_AUTH),
        (json!({ "auth": { "serviceAccountRef": {} } }), "serviceAccountRef.name: Required value"),
        (json!({ "auth": elsewhere }), UNKNOWN),
        (json!({ "roleARN": "pull" }), write),
        (json!({ "roleARN": "arn:aws:iam::123:role/pull" }), write),
        (json!({ "roleARN": "arn:aws:iam::123456789012:user/pull" }), write),
        (json!({ "roleArn": role }), UNKNOWN),
        (json!({ "externalID": "acme" }), needs_role),
        (
            json!({ "roleARN": role, "externalID": "a b" }),
            "externalID is made of letters, digits and _+=,.@:/-",
        ),
    ];
    sources.into_iter().map(|(source, message)| (ECR, json!({ "ecr": source }), message)).collect()
}

fn google() -> Vec<Spelling> {
    let provider = "projects/123/locations/global/workloadIdentityPools/p/providers/x";
    let keys = json!({ "secretRef": { "name": "k" } });
    let needs_account =
        "workloadIdentityProvider takes the token of a ServiceAccount; give auth.serviceAccountRef, too";
    let pool = "write workloadIdentityProvider as projects/NUMBER/locations/global";
    let mail = "write serviceAccount as an e-mail address, as in puller@project.iam.gserviceaccount.com";
    let sources = [
        (json!({ "workloadIdentityProvider": provider }), needs_account),
        (json!({ "workloadIdentityProvider": provider, "auth": keys }), needs_account),
        (json!({ "workloadIdentityProvider": "my-pool", "auth": auth() }), pool),
        (json!({ "serviceAccount": "puller" }), mail),
    ];
    sources.into_iter().map(|(source, message)| ("gcr.io", json!({ "gcp": source }), message)).collect()
}

fn azure() -> Vec<Spelling> {
    let sources = [
        (json!({ "tenantID": "contoso.onmicrosoft.com" }), "write tenantID as a UUID"),
        (json!({ "clientID": "puller" }), "write clientID as a UUID"),
        (json!({ "tenantId": "72f988bf-86f1-41af-91ab-2d7cd011db47" }), UNKNOWN),
    ];
    let told = |(source, message)| ("contoso.azurecr.io", json!({ "acr": source }), message);
    sources.into_iter().map(told).collect()
}

/// Quay, JFrog and Cloudsmith.
fn exchanges() -> Vec<Spelling> {
    let keys = json!({ "secretRef": { "name": "k" } });
    let (frog, smith) = ("acme.jfrog.io", "docker.cloudsmith.io");
    let provider = "provider is the name of the OpenID Connect integration: letters, digits and ._-";
    let organization = "organization is the organization's name in addresses: lower-case letters";
    let service = "service is the service account's name in addresses: lower-case letters";
    vec![
        ("quay.io", quay("puller"), "write robot as organization+name, as in acme+puller"),
        ("quay.io", json!({ "quay": { "auth": auth() } }), "source.quay.robot: Required value"),
        ("quay.io", json!({ "quay": { "robot": "acme+puller" } }), "source.quay.auth: Required value"),
        ("quay.io", json!({ "quay": { "robot": "acme+puller", "auth": keys } }), UNKNOWN),
        (frog, jfrog("my cluster"), provider),
        (frog, json!({ "jfrog": { "auth": auth() } }), "source.jfrog.provider: Required value"),
        (smith, cloudsmith("Acme Inc", "puller"), organization),
        (smith, cloudsmith("acme", "a/b"), service),
    ]
}

/// Servers, and whether they are of Amazon ECR.
const ECR_SERVERS: [(&str, bool); 25] = [
    ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", true),
    ("*.dkr.ecr.us-east-1.amazonaws.com/team", true),
    ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", true),
    ("123456789012.dkr-ecr.eu-central-1.on.aws", true),
    ("123456789012.dkr-ecr-fips.us-east-2.on.aws/team", true),
    ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", true),
    ("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", true),
    ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", true),
    ("123456789012.dkr-ecr.eusc-de-east-1.on.amazonwebservices.eu", true),
    ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", true),
    ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", true),
    ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", true),
    ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", true),
    ("public.ecr.aws/acme", true),
    ("123456789012.dkr.ecr.cn-north-1.amazonaws.com", false),
    ("123456789012.dkr-ecr.cn-north-1.on.aws/team", false),
    ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.cn", false),
    ("123456789012.dkr.ecr.eu-west-1.amazonaws.eu", false),
    ("123456789012.dkr.ecr.us-iso-east-1.amazonaws.com", false),
    ("123456789012.dkr.ecr.eu-central-1.on.aws", false),
    ("123456789012.dkr-ecr.eu-central-1.amazonaws.com", false),
    ("123456789012.dkr-ecr.us-iso-east-1.c2s.ic.gov", false),
    ("123456789012.dkr.ecr.eu.amazonaws.com", false),
    ("123456789012.dkr.ecr.eu-west1.amazonaws.com", false),
    ("ghcr.io/x.eu-west-1.amazonaws.com", false),
];

/// Regions of every partition of AWS, and some that begin almost as those do.
const REGIONS: [&str; 21] = [
    "eu-west-1",
    "us-gov-east-1",
    "cn-north-1",
    "eusc-de-east-1",
    "us-iso-east-1",
    "us-isob-east-1",
    "eu-isoe-west-1",
    "us-isof-south-1",
    "us-isog-east-1",
    "cnx-north-1",
    "eusc",
    "eu-west1",
    "eu-west",
    "eu-west-",
    "eu-west-1a",
    "eu--1",
    "-west-1",
    "eu-1",
    "cn-north1",
    "cn-1",
    "us-iso-1",
];
/// Every domain of a partition, and some that no partition has.
const DOMAINS: [&str; 12] = [
    "amazonaws.com",
    "on.aws",
    "amazonaws.com.cn",
    "on.amazonwebservices.com.cn",
    "amazonaws.eu",
    "on.amazonwebservices.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
    "aws",
    "amazonaws.com.evil.example",
];

/// Every way to put a host of Amazon ECR together.
fn combinations() -> impl Iterator<Item = String> {
    let names = ["dkr.ecr", "dkr.ecr-fips", "dkr-ecr", "dkr-ecr-fips"];
    let regions = names.into_iter().flat_map(|name| REGIONS.map(|region| format!("{name}.{region}")));
    regions.flat_map(|front| DOMAINS.map(|domain| format!("123456789012.{front}.{domain}")))
}

/// Whether the API server stores a server with `source.ecr`, and whether the operator asks for its token.
async fn is_ecr_for_both(scene: &Scene, server: &str) -> (bool, bool) {
    let registries = json!([{ "server": server, "source": { "ecr": {} } }]);
    let stored = apply(scene, "ecr", &registries).await.is_ok();
    let member = SourceMember::Ecr(regcred_api::EcrSource::default());
    (stored, TokenRequest::new(&Server::parse(server).unwrap(), &member, |_| None).is_ok())
}

#[tokio::test]
async fn api_server_and_operator_agree_on_the_hosts_of_amazon() {
    let scene = Scene::new().await;
    let mut wrong = Vec::new();
    for (server, is_ecr) in ECR_SERVERS {
        let said = is_ecr_for_both(&scene, server).await;
        if said != (is_ecr, is_ecr) {
            wrong.push(format!("{server}: the API server and the operator say {said:?}, not {is_ecr}"));
        }
    }
    let mut taken = 0;
    for server in combinations() {
        let (stored, asked) = is_ecr_for_both(&scene, &server).await;
        taken += usize::from(asked);
        if stored != asked {
            wrong.push(format!("{server}: the API server says {stored}, the operator {asked}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(taken > 10, "only {taken} are of Amazon");
    scene.finish().await;
}

#[tokio::test]
async fn every_wrong_spelling_is_refused_with_words_that_help() {
    let scene = Scene::new().await;
    let spellings = [servers(), members(), amazon(), google(), azure(), exchanges()].into_iter().flatten();
    let mut wrong = Vec::new();
    for (server, source, message) in spellings {
        let applied = apply(&scene, "bad", &json!([{ "server": server, "source": source }])).await;
        let text = applied.map_or_else(|error| error.to_string(), |_| "it is stored".to_owned());
        if !text.contains(message) {
            wrong.push(format!("{server} {source} should be refused with {message:?}, but: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    scene.finish().await;
}
