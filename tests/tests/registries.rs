//! The page about registries, on a real API server: each of its examples is taken, and each wrong spelling is refused with
//! words that help.

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
            (Some((_, text)), line) => *text += &format!("{line}\n"),
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

fn members() -> Vec<Spelling> {
    let role = "arn:aws:iam::123456789012:role/pull";
    let provider = "projects/123/locations/global/workloadIdentityPools/p/providers/x";
    let both = json!({ "serviceAccountRef": { "name": "a" }, "secretRef": { "name": "b" } });
    let ecr = |source: Value| (ECR, json!({ "ecr": source }));
    let gcp = |source: Value| ("gcr.io", json!({ "gcp": source }));
    let acr = |source: Value| ("contoso.azurecr.io", json!({ "acr": source }));
    let told = |(server, source): (&'static str, Value), message| (server, source, message);
    vec![
        (ECR, json!({}), ONE_MEMBER),
        (ECR, json!({ "ecr": {}, "secretRef": { "name": "bot" } }), ONE_MEMBER),
        (ECR, json!({ "ecr": {}, "gcp": {} }), ONE_MEMBER),
        (ECR, json!({ "aws": {} }), "field not declared in schema"),
        (
            "ghcr.io",
            json!({ "secretRef": { "name": "bot", "usernameKey": "user" } }),
            "give usernameKey and passwordKey together, or neither",
        ),
        (
            "ghcr.io",
            json!({ "secretRef": { "name": "bot", "passwordKey": "token" } }),
            "give usernameKey and passwordKey together, or neither",
        ),
        ("ghcr.io", json!({ "secretRef": {} }), "source.secretRef.name: Required value"),
        told(ecr(json!({ "region": "eu-west-1" })), "field not declared in schema"),
        told(ecr(json!({ "auth": {} })), ONE_AUTH),
        told(ecr(json!({ "auth": both })), ONE_AUTH),
        told(ecr(json!({ "auth": { "serviceAccountRef": {} } })), "serviceAccountRef.name: Required value"),
        told(
            ecr(json!({ "auth": { "serviceAccountRef": { "name": "a", "namespace": "b" } } })),
            "field not declared in schema",
        ),
        told(ecr(json!({ "roleARN": "pull" })), "write roleARN as arn:aws:iam::123456789012:role/NAME"),
        told(
            ecr(json!({ "roleARN": "arn:aws:iam::123:role/pull" })),
            "write roleARN as arn:aws:iam::123456789012:role/NAME",
        ),
        told(ecr(json!({ "roleARN": "arn:aws:iam::123456789012:user/pull" })), "write roleARN as"),
        told(ecr(json!({ "roleArn": role })), "field not declared in schema"),
        told(
            ecr(json!({ "externalID": "acme" })),
            "externalID goes with the role that asks for it; give roleARN, too",
        ),
        told(
            ecr(json!({ "roleARN": role, "externalID": "a b" })),
            "externalID is made of letters, digits and _+=,.@:/-",
        ),
        told(
            gcp(json!({ "workloadIdentityProvider": provider })),
            "workloadIdentityProvider takes the token of a ServiceAccount; give auth.serviceAccountRef, too",
        ),
        told(
            gcp(json!({ "workloadIdentityProvider": provider, "auth": { "secretRef": { "name": "k" } } })),
            "give auth.serviceAccountRef, too",
        ),
        told(
            gcp(json!({ "workloadIdentityProvider": "my-pool", "auth": auth() })),
            "write workloadIdentityProvider as projects/NUMBER/locations/global",
        ),
        told(
            gcp(json!({ "serviceAccount": "puller" })),
            "write serviceAccount as an e-mail address, as in puller@project.iam.gserviceaccount.com",
        ),
        told(acr(json!({ "tenantID": "contoso.onmicrosoft.com" })), "write tenantID as a UUID"),
        told(acr(json!({ "clientID": "puller" })), "write clientID as a UUID"),
        told(
            acr(json!({ "tenantId": "72f988bf-86f1-41af-91ab-2d7cd011db47" })),
            "field not declared in schema",
        ),
        ("quay.io", quay("puller"), "write robot as organization+name, as in acme+puller"),
        ("quay.io", json!({ "quay": { "auth": auth() } }), "source.quay.robot: Required value"),
        ("quay.io", json!({ "quay": { "robot": "acme+puller" } }), "source.quay.auth: Required value"),
        (
            "quay.io",
            json!({ "quay": { "robot": "acme+puller", "auth": { "secretRef": { "name": "k" } } } }),
            "field not declared in schema",
        ),
        (
            "acme.jfrog.io",
            jfrog("my cluster"),
            "provider is the name of the OpenID Connect integration: letters, digits and ._-",
        ),
        ("acme.jfrog.io", json!({ "jfrog": { "auth": auth() } }), "source.jfrog.provider: Required value"),
        (
            "docker.cloudsmith.io",
            cloudsmith("Acme Inc", "puller"),
            "organization is the organization's name in addresses: lower-case letters",
        ),
        (
            "docker.cloudsmith.io",
            cloudsmith("acme", "a/b"),
            "service is the service account's name in addresses: lower-case letters",
        ),
    ]
}

#[tokio::test]
async fn every_wrong_spelling_is_refused_with_words_that_help() {
    let scene = Scene::new().await;
    let spellings = servers().into_iter().chain(members());
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
