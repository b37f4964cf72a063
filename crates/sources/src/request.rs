//! What a source of the spec asks for. The CRD's own rules hold each kind to its hosts; they are checked again here,
//! because what is decided here is where a token goes.

use regcred_api::{CloudAuth, EcrHost, EcrSource, ServiceAccountAuth, SourceMember};
use regcred_dockerconfig::Server;

use crate::token::{AssumedRole, Identity, Issuer, MintError, TokenRequest};

pub(crate) const QUAY: &str = "quay.io";
const CLOUDSMITH: &str = "docker.cloudsmith.io";

impl TokenRequest {
    /// What a source asks for; an error where the server is none of its own. `secret_version` tells the version of a Secret
    /// with keys of an identity, if it exists.
    pub fn new(
        server: &Server,
        member: &SourceMember,
        secret_version: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, MintError> {
        let text = server.to_string();
        let host = text.split('/').next().unwrap_or_default();
        let issuer = match member {
            SourceMember::Secret(_) => None,
            SourceMember::Ecr(source) => ecr(host, source),
            SourceMember::Gcp(source) => is_google(host).then(|| Issuer::Gcp {
                service_account: source.service_account.clone(),
                provider: source.workload_identity_provider.clone(),
            }),
            SourceMember::Acr(source) => is_azure(host).then(|| Issuer::Acr {
                host: host.to_owned(),
                tenant_id: source.tenant_id.clone(),
                client_id: source.client_id.clone(),
            }),
            SourceMember::Quay(source) => {
                (host == QUAY).then(|| Issuer::Quay { robot: source.robot.clone() })
            }
            SourceMember::Jfrog(source) => is_jfrog(host)
                .then(|| Issuer::Jfrog { host: host.to_owned(), provider: source.provider.clone() }),
            SourceMember::Cloudsmith(source) => (host == CLOUDSMITH).then(|| Issuer::Cloudsmith {
                organization: source.organization.clone(),
                service: source.service.clone(),
            }),
        };
        let wrong = || MintError::WrongHost { server: text.clone(), kind: member.kind() };
        Ok(Self { issuer: issuer.ok_or_else(wrong)?, identity: identity(member, secret_version)? })
    }
}

fn identity(
    member: &SourceMember,
    secret_version: impl Fn(&str) -> Option<String>,
) -> Result<Identity, MintError> {
    let auth = match member {
        SourceMember::Ecr(source) => source.auth.as_ref(),
        SourceMember::Gcp(source) => source.auth.as_ref(),
        SourceMember::Acr(source) => source.auth.as_ref(),
        SourceMember::Quay(source) => return Ok(service_account(&source.auth)),
        SourceMember::Jfrog(source) => return Ok(service_account(&source.auth)),
        SourceMember::Cloudsmith(source) => return Ok(service_account(&source.auth)),
        SourceMember::Secret(_) => None,
    };
    match auth {
        None => Ok(Identity::Operator),
        Some(CloudAuth { service_account_ref: Some(reference), .. }) => {
            Ok(Identity::ServiceAccount(reference.name.clone()))
        }
        Some(CloudAuth { secret_ref: Some(reference), .. }) => {
            let name = reference.name.clone();
            // One that does not exist gives no token, and what it gave before expires in time like any other.
            Ok(Identity::Secret { version: secret_version(&name).unwrap_or_default(), name })
        }
        // Of a later version of the CRD: it must not become the operator's own identity.
        Some(CloudAuth { service_account_ref: None, secret_ref: None }) => Err(MintError::Incomplete {
            identity: "auth".to_owned(),
            missing: "member that this version of regcred knows",
            advice: "name serviceAccountRef or secretRef, or update the operator",
        }),
    }
}

fn service_account(auth: &ServiceAccountAuth) -> Identity {
    Identity::ServiceAccount(auth.service_account_ref.name.clone())
}

fn ecr(host: &str, source: &EcrSource) -> Option<Issuer> {
    let role =
        source.role_arn.clone().map(|arn| AssumedRole { arn, external_id: source.external_id.clone() });
    Some(match EcrHost::parse(host)? {
        EcrHost::Public => Issuer::EcrPublic { role },
        EcrHost::Private { region, domain } => Issuer::Ecr { region: region.to_owned(), domain, role },
    })
}

fn is_google(host: &str) -> bool {
    let location = host.strip_suffix(".gcr.io").or_else(|| host.strip_suffix("-docker.pkg.dev"));
    host == "gcr.io" || location.is_some_and(is_label)
}

fn is_azure(host: &str) -> bool {
    let name =
        [".azurecr.io", ".azurecr.cn", ".azurecr.us"].iter().find_map(|domain| host.strip_suffix(domain));
    name.is_some_and(|name| {
        let (registry, part) = name.split_once('.').map_or((name, None), |(name, part)| (name, Some(part)));
        is_label(registry)
            && !registry.starts_with('-')
            && !registry.ends_with('-')
            && part.is_none_or(is_label)
    })
}

fn is_jfrog(host: &str) -> bool {
    host.strip_suffix(".jfrog.io").is_some_and(|name| is_label(name) && !name.starts_with('-'))
}

fn is_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use regcred_api::{AcrSource, CloudsmithSource, GcpSource, JfrogSource, NameRef, QuaySource, SecretRef};

    use super::*;

    fn auth() -> ServiceAccountAuth {
        ServiceAccountAuth { service_account_ref: NameRef { name: "puller".to_owned() } }
    }

    fn quay() -> SourceMember {
        SourceMember::Quay(QuaySource { robot: "acme+puller".to_owned(), auth: auth() })
    }

    fn jfrog() -> SourceMember {
        SourceMember::Jfrog(JfrogSource { provider: "cluster".to_owned(), auth: auth() })
    }

    fn cloudsmith() -> SourceMember {
        let (organization, service) = ("acme".to_owned(), "puller".to_owned());
        SourceMember::Cloudsmith(CloudsmithSource { organization, service, auth: auth() })
    }

    fn asked(server: &str, member: &SourceMember) -> Result<TokenRequest, MintError> {
        let server = Server::parse(server).unwrap_or_else(|error| panic!("{server}: {error}"));
        TokenRequest::new(&server, member, |name| (name == "keys").then(|| "uid/7".to_owned()))
    }

    #[test]
    fn ecr_takes_region_and_partition_from_the_server() {
        let ecr = SourceMember::Ecr(EcrSource::default());
        for (server, region, domain) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", "amazonaws.com"),
            ("*.dkr.ecr.us-east-1.amazonaws.com/team", "us-east-1", "amazonaws.com"),
            ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", "amazonaws.eu"),
        ] {
            let issuer = Issuer::Ecr { region: region.to_owned(), domain, role: None };
            assert_eq!(
                asked(server, &ecr),
                Ok(TokenRequest { issuer, identity: Identity::Operator }),
                "{server}"
            );
        }
        let public = asked("public.ecr.aws/acme", &ecr).unwrap();
        assert_eq!(public.issuer, Issuer::EcrPublic { role: None });
    }

    #[test]
    fn two_accounts_of_a_region_share_a_request_and_two_roles_do_not() {
        let ecr = |role: Option<&str>| {
            SourceMember::Ecr(EcrSource { role_arn: role.map(str::to_owned), ..EcrSource::default() })
        };
        let (one, other) =
            ("111111111111.dkr.ecr.eu-west-1.amazonaws.com", "*.dkr.ecr.eu-west-1.amazonaws.com");
        assert_eq!(asked(one, &ecr(None)), asked(other, &ecr(None)));
        assert_ne!(asked(one, &ecr(None)), asked(one, &ecr(Some("arn:aws:iam::1:role/a"))));
    }

    #[test]
    fn each_kind_takes_its_own_hosts_and_no_other() {
        let ecr = SourceMember::Ecr(EcrSource::default());
        let gcp = SourceMember::Gcp(GcpSource::default());
        let acr = SourceMember::Acr(AcrSource::default());
        let kinds = [&ecr, &gcp, &acr, &quay(), &jfrog(), &cloudsmith()];
        for (server, kind) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "ECR"),
            ("public.ecr.aws", "ECR"),
            ("gcr.io", "GCP"),
            ("eu.gcr.io/project", "GCP"),
            ("europe-west1-docker.pkg.dev", "GCP"),
            ("contoso.azurecr.io", "ACR"),
            ("contoso-a1b2.azurecr.cn/team", "ACR"),
            ("contoso.eastus.azurecr.us", "ACR"),
            ("quay.io/acme", "Quay"),
            ("acme.jfrog.io", "JFrog"),
            ("docker.cloudsmith.io/acme/repo", "Cloudsmith"),
        ] {
            for member in kinds {
                assert_eq!(
                    asked(server, member).is_ok(),
                    member.kind() == kind,
                    "{server} as {}",
                    member.kind()
                );
            }
        }
    }

    #[test]
    fn wrong_spellings_are_refused_by_every_kind() {
        let ecr = SourceMember::Ecr(EcrSource::default());
        let gcp = SourceMember::Gcp(GcpSource::default());
        let acr = SourceMember::Acr(AcrSource::default());
        for server in [
            "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
            "123456789012.dkr.ecr.eu-west-1.evil.example",
            "123456789012.dkr.ecr.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com:443",
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.cn",
            "123456789012.dkr.ecr.eu.amazonaws.com",
            "123456789012.dkr.ecr.*.amazonaws.com",
            "*.*.ecr.eu-west-1.amazonaws.com",
            "evil.123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "evil-public.ecr.aws",
            "public.ecr.aws.evil.example",
            "x.public.ecr.aws",
            "evilgcr.io",
            "a.b.gcr.io",
            "gcr.io.evil.example",
            "gcr.io:5000",
            "docker.pkg.dev",
            "-docker.pkg.dev",
            "europe-docker.pkg.dev.evil.example",
            "europe.evil-docker.pkg.dev",
            "europe-npm.pkg.dev",
            "azurecr.io",
            "contosoazurecr.io",
            "contoso.azurecr.io.evil.example",
            "contoso.azurecr.de",
            "a.b.c.azurecr.io",
            "-.azurecr.io",
            "*.azurecr.io",
            "quay.io:443",
            "evilquay.io",
            "quay.io.evil.example",
            "x.quay.io",
            "jfrog.io",
            "evil.acme.jfrog.io",
            "acme.jfrog.io.evil.example",
            "acmejfrog.io",
            "*.jfrog.io",
            "cloudsmith.io",
            "x.docker.cloudsmith.io",
            "docker.cloudsmith.io:80",
            "docker.io",
            "localhost:5000",
            "169.254.169.254",
            "[::1]:443",
            "EUROPE-DOCKER.PKG.DEV",
            "Contoso.azurecr.io",
        ] {
            for member in [&ecr, &gcp, &acr, &quay(), &jfrog(), &cloudsmith()] {
                let error = asked(server, member).expect_err(server);
                assert_eq!(error, MintError::WrongHost { server: server.to_owned(), kind: member.kind() });
            }
        }
    }

    #[test]
    fn who_asks_is_the_operator_a_service_account_or_a_version_of_keys() {
        let ecr = |auth| SourceMember::Ecr(EcrSource { auth, ..EcrSource::default() });
        let name = |name: &str| Some(NameRef { name: name.to_owned() });
        let auth = |service_account_ref, secret_ref| Some(CloudAuth { service_account_ref, secret_ref });
        let identity = |auth| asked("public.ecr.aws", &ecr(auth)).map(|request| request.identity);
        assert_eq!(identity(None), Ok(Identity::Operator));
        assert_eq!(identity(auth(name("a"), None)), Ok(Identity::ServiceAccount("a".to_owned())));
        let keys = Identity::Secret { name: "keys".to_owned(), version: "uid/7".to_owned() };
        assert_eq!(identity(auth(None, name("keys"))), Ok(keys));
        let gone = Identity::Secret { name: "gone".to_owned(), version: String::new() };
        assert_eq!(identity(auth(None, name("gone"))), Ok(gone));
        assert!(
            matches!(identity(auth(None, None)), Err(MintError::Incomplete { .. })),
            "never the operator's own"
        );
    }

    #[test]
    fn a_secret_asks_for_no_token() {
        let reference = SecretRef { name: "bot".to_owned(), username_key: None, password_key: None };
        let server = Server::parse("ghcr.io").unwrap();
        assert!(TokenRequest::new(&server, &SourceMember::Secret(reference), |_| None).is_err());
    }
}
