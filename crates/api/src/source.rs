//! Where a credential comes from: a Secret, or a cloud or registry that gives a token which expires. Each member is held
//! to the hosts of its registry, so that no token is ever handed to another.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

/// Where a credential comes from. A union: exactly one member is set. Every name in it is in the operator's source
/// namespace.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("[has(self.secretRef), has(self.ecr), has(self.gcp), has(self.acr), has(self.quay), has(self.jfrog), has(self.cloudsmith)].filter(set, set).size() == 1").message("source needs exactly one member: secretRef, ecr, gcp, acr, quay, jfrog or cloudsmith")
)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// A Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// Amazon Elastic Container Registry: a token of 12 hours. The region is that of the server; `{}` is enough where
    /// the operator's own identity may pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecr: Option<EcrSource>,

    /// Google Artifact Registry and Container Registry: an access token of an hour. `{}` is enough where the operator's
    /// own identity may pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp: Option<GcpSource>,

    /// Azure Container Registry: a refresh token of about three hours. `{}` is enough where the operator's own identity
    /// may pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<AcrSource>,

    /// A robot account of quay.io that trusts ServiceAccounts of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quay: Option<QuaySource>,

    /// JFrog Artifactory in JFrog's cloud, with an OpenID Connect integration that trusts this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jfrog: Option<JfrogSource>,

    /// Cloudsmith, with an OpenID Connect provider that trusts this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloudsmith: Option<CloudsmithSource>,
}

/// The one member of a [`Source`] that is set.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceMember {
    /// A Secret in the operator's source namespace.
    Secret(SecretRef),
    /// Amazon Elastic Container Registry.
    Ecr(EcrSource),
    /// Google Artifact Registry and Container Registry.
    Gcp(GcpSource),
    /// Azure Container Registry.
    Acr(AcrSource),
    /// A robot account of quay.io.
    Quay(QuaySource),
    /// JFrog Artifactory.
    Jfrog(JfrogSource),
    /// Cloudsmith.
    Cloudsmith(CloudsmithSource),
}

impl Source {
    /// The member that is set; `None` where it is one that this version does not know.
    pub fn member(&self) -> Option<SourceMember> {
        let secret = self.secret_ref.clone().map(SourceMember::Secret);
        secret
            .or_else(|| self.ecr.clone().map(SourceMember::Ecr))
            .or_else(|| self.gcp.clone().map(SourceMember::Gcp))
            .or_else(|| self.acr.clone().map(SourceMember::Acr))
            .or_else(|| self.quay.clone().map(SourceMember::Quay))
            .or_else(|| self.jfrog.clone().map(SourceMember::Jfrog))
            .or_else(|| self.cloudsmith.clone().map(SourceMember::Cloudsmith))
    }
}

impl SourceMember {
    /// As it stands in `status.registries[].source`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Secret(_) => "Secret",
            Self::Ecr(_) => "ECR",
            Self::Gcp(_) => "GCP",
            Self::Acr(_) => "ACR",
            Self::Quay(_) => "Quay",
            Self::Jfrog(_) => "JFrog",
            Self::Cloudsmith(_) => "Cloudsmith",
        }
    }

    /// The Secret of the source namespace that it reads, if it reads one.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Secret(reference) => Some(&reference.name),
            Self::Ecr(EcrSource { auth, .. })
            | Self::Gcp(GcpSource { auth, .. })
            | Self::Acr(AcrSource { auth, .. }) => {
                auth.as_ref()?.secret_ref.as_ref().map(|reference| &*reference.name)
            }
            Self::Quay(_) | Self::Jfrog(_) | Self::Cloudsmith(_) => None,
        }
    }
}

/// A Secret in the operator's source namespace. Its type decides how it is read:
/// `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg` by the entry that best matches
/// the server, `kubernetes.io/basic-auth` by its own keys, `Opaque` by the two keys below and only with the label
/// `regcred.dev/source: "true"`. No other type is a source.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("has(self.usernameKey) == has(self.passwordKey)").message("give usernameKey and passwordKey together, or neither")
)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Key of the user name, for a Secret of type Opaque. Such a Secret needs the label `regcred.dev/source: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub username_key: Option<String>,

    /// Key of the password or token, for a Secret of type Opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub password_key: Option<String>,
}

/// Amazon Elastic Container Registry, private or public. One token opens every registry that its identity may read, so
/// the server may be a wildcard for all accounts of a region, as in `*.dkr.ecr.eu-west-1.amazonaws.com`.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("!has(self.externalID) || has(self.roleARN)").message("externalID goes with the role that asks for it; give roleARN, too")
)]
#[serde(rename_all = "camelCase")]
pub struct EcrSource {
    /// A role to assume on top of the identity, as for a registry of another account.
    #[serde(default, rename = "roleARN", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]+$')").message("write roleARN as arn:aws:iam::123456789012:role/NAME"))]
    pub role_arn: Option<String>,

    /// What the role asks for besides, if its trust policy does.
    #[serde(default, rename = "externalID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_+=,.@:/-]+$')").message("externalID is made of letters, digits and _+=,.@:/-"))]
    pub external_id: Option<String>,

    /// Whose identity. Left out: the operator's own (EKS Pod Identity, IRSA, or the node's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<CloudAuth>,
}

/// Google Artifact Registry (`*-docker.pkg.dev`) and Container Registry (`gcr.io`).
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("!has(self.workloadIdentityProvider) || (has(self.auth) && has(self.auth.serviceAccountRef))").message("workloadIdentityProvider takes the token of a ServiceAccount; give auth.serviceAccountRef, too")
)]
#[serde(rename_all = "camelCase")]
pub struct GcpSource {
    /// E-mail of the Google service account to act as. Left out: the annotation `iam.gke.io/gcp-service-account` of the
    /// ServiceAccount, or the identity itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 254))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9-]+@[a-z0-9.:-]+$')").message("write serviceAccount as an e-mail address, as in puller@project.iam.gserviceaccount.com"))]
    pub service_account: Option<String>,

    /// The provider of a workload identity pool that trusts this cluster's ServiceAccounts, outside GKE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+$')").message("write workloadIdentityProvider as projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"))]
    pub workload_identity_provider: Option<String>,

    /// Whose identity. Left out: the operator's own, from the metadata server of GKE or of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<CloudAuth>,
}

/// Azure Container Registry. The cloud is that of the server: `azurecr.io`, `azurecr.cn` or `azurecr.us`.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct AcrSource {
    /// The tenant of the identity. Left out: the annotation `azure.workload.identity/tenant-id` of the ServiceAccount,
    /// or the operator's own.
    #[serde(default, rename = "tenantID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')").message("write tenantID as a UUID"))]
    pub tenant_id: Option<String>,

    /// The application or managed identity. Left out: the annotation `azure.workload.identity/client-id` of the
    /// ServiceAccount, or the operator's own.
    #[serde(default, rename = "clientID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')").message("write clientID as a UUID"))]
    pub client_id: Option<String>,

    /// Whose identity. Left out: the operator's own (Azure workload identity, or the node's managed identity).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<CloudAuth>,
}

/// A robot account of quay.io with robot federation: it trusts the tokens of a ServiceAccount.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct QuaySource {
    /// The robot account, as in `acme+puller`.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9._-]+[+][a-z0-9_.-]+$')").message("write robot as organization+name, as in acme+puller"))]
    pub robot: String,

    /// Whose identity.
    pub auth: ServiceAccountAuth,
}

/// JFrog Artifactory in JFrog's cloud (`*.jfrog.io`).
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct JfrogSource {
    /// The name of the OpenID Connect integration.
    #[schemars(length(max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._-]+$')").message("provider is the name of the OpenID Connect integration: letters, digits and ._-"))]
    pub provider: String,

    /// Whose identity.
    pub auth: ServiceAccountAuth,
}

/// Cloudsmith (`docker.cloudsmith.io`).
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct CloudsmithSource {
    /// The organization's name in addresses.
    #[schemars(length(max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9_-]*$')").message("organization is the organization's name in addresses: lower-case letters, digits, _ and -"))]
    pub organization: String,

    /// The service account of Cloudsmith, by its name in addresses.
    #[schemars(length(max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9_-]*$')").message("service is the service account's name in addresses: lower-case letters, digits, _ and -"))]
    pub service: String,

    /// Whose identity.
    pub auth: ServiceAccountAuth,
}

/// Whose identity asks a cloud for a token. A union: exactly one member is set.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("has(self.serviceAccountRef) != has(self.secretRef)").message("auth needs exactly one member: serviceAccountRef or secretRef")
)]
#[serde(rename_all = "camelCase")]
pub struct CloudAuth {
    /// A ServiceAccount of the source namespace that the operator may ask tokens for (`tokens.serviceAccounts` of the
    /// chart). The cloud's own annotations on it say which role, client or account it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<NameRef>,

    /// An Opaque Secret of the source namespace with the label `regcred.dev/source: identity`, whose keys are named as
    /// the cloud's environment variables: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; `GOOGLE_CREDENTIALS` with a
    /// key file in JSON; `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
}

/// A ServiceAccount whose token a registry takes for its own.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountAuth {
    /// A ServiceAccount of the source namespace that the operator may ask tokens for (`tokens.serviceAccounts` of the
    /// chart).
    pub service_account_ref: NameRef,
}

/// An object of the source namespace.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct NameRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
