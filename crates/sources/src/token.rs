//! Tokens that a cloud or a registry gives: what is asked for, as a value, so that equal requests share one token.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use regcred_api::{Class, Reason, names};
use regcred_dockerconfig::Login;

/// What a token is asked for. Everybody whose request is equal shares one token.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct TokenRequest {
    /// What kind of token, and from where.
    pub issuer: Issuer,
    /// Who asks for it.
    pub identity: Identity,
}

impl TokenRequest {
    /// Whether it is another's request by keys that this one's Secret had before.
    pub(crate) fn is_of_other_keys(&self, later: &Self) -> bool {
        match (&self.identity, &later.identity) {
            (Identity::Secret { name, version }, Identity::Secret { name: of, version: other }) => {
                name == of && version != other
            }
            _ => false,
        }
    }
}

/// Who gives a token, and everything of the spec that makes it another one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Issuer {
    /// Private registries of Amazon ECR: one token opens all that the identity may read.
    Ecr {
        /// As in `eu-west-1`.
        region: String,
        /// Where the partition's hosts are: `amazonaws.com`, `amazonaws.com.cn`, `amazonaws.eu` and others.
        domain: &'static str,
        /// A role to assume first.
        role: Option<AssumedRole>,
    },
    /// Amazon ECR Public.
    EcrPublic {
        /// A role to assume first.
        role: Option<AssumedRole>,
    },
    /// Google: one token opens every registry that the account may read.
    Gcp {
        /// E-mail of the Google service account to act as.
        service_account: Option<String>,
        /// The provider of a workload identity pool.
        provider: Option<String>,
    },
    /// Azure Container Registry: a token is for one registry.
    Acr {
        /// Host of the registry.
        host: String,
        /// Tenant of the identity.
        tenant_id: Option<String>,
        /// Application or managed identity.
        client_id: Option<String>,
    },
    /// A robot account of quay.io.
    Quay {
        /// As in `acme+puller`.
        robot: String,
    },
    /// JFrog Artifactory.
    Jfrog {
        /// Host of the registry.
        host: String,
        /// The OpenID Connect integration.
        provider: String,
    },
    /// Cloudsmith.
    Cloudsmith {
        /// The organization.
        organization: String,
        /// The service account of Cloudsmith.
        service: String,
    },
}

impl Issuer {
    /// The longest that any of its tokens lives: twelve hours for Amazon, three for Azure; Google's live an hour, or up
    /// to twelve where an organization allows it, and those of the others as long as their settings say, a day at most.
    pub(crate) const fn longest_life(&self) -> SignedDuration {
        SignedDuration::from_hours(match self {
            Self::Ecr { .. } | Self::EcrPublic { .. } | Self::Gcp { .. } => 12,
            Self::Acr { .. } => 3,
            Self::Quay { .. } | Self::Jfrog { .. } | Self::Cloudsmith { .. } => 24,
        })
    }
}

/// Every kind of issuer, as [`Issuer::kind`] names it.
pub const ISSUERS: [&str; 7] = ["ECR", "ECRPublic", "GCP", "ACR", "Quay", "JFrog", "Cloudsmith"];

impl Issuer {
    /// What kind of issuer it is, as metrics name it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ecr { .. } => "ECR",
            Self::EcrPublic { .. } => "ECRPublic",
            Self::Gcp { .. } => "GCP",
            Self::Acr { .. } => "ACR",
            Self::Quay { .. } => "Quay",
            Self::Jfrog { .. } => "JFrog",
            Self::Cloudsmith { .. } => "Cloudsmith",
        }
    }
}

/// As a message names it.
impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecr { region, .. } => write!(f, "Amazon ECR in {region}"),
            Self::EcrPublic { .. } => f.write_str("Amazon ECR Public"),
            Self::Gcp { .. } => f.write_str("Google"),
            Self::Acr { host, .. } | Self::Jfrog { host, .. } => f.write_str(host),
            Self::Quay { .. } => f.write_str("quay.io"),
            Self::Cloudsmith { .. } => f.write_str("Cloudsmith"),
        }
    }
}

/// A role of AWS that is assumed on top of an identity.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct AssumedRole {
    /// Its ARN.
    pub arn: String,
    /// What it asks for besides.
    pub external_id: Option<String>,
}

/// Who asks for a token. Names are of the source namespace.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Identity {
    /// The operator itself: what its Pod or its node is to the cloud.
    Operator,
    /// A ServiceAccount, by a token of its own.
    ServiceAccount(String),
    /// Keys of a Secret, as it is at this version: other keys are another identity.
    Secret {
        /// Its name.
        name: String,
        /// Of its UID and data; empty where it does not exist.
        version: String,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("the operator's own identity"),
            Self::ServiceAccount(name) => write!(f, "ServiceAccount {name}"),
            Self::Secret { name, .. } => write!(f, "the keys of Secret {name}"),
        }
    }
}

/// A user and a password for a server.
pub struct Token {
    /// User and password.
    pub login: Login,
    /// When it expires, where that is known.
    pub expires_at: Option<Timestamp>,
}

/// Why no token was given. Never quotes an answer: a body may repeat what was sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MintError {
    /// The issuer knows the identity, or does not, and gives it nothing.
    #[error("{host} gives {identity} no token (HTTP {status}{}); {advice}", code_text(code.as_ref()))]
    AccessDenied {
        /// Who was asked.
        host: String,
        /// For whom.
        identity: String,
        /// Status of the answer.
        status: u16,
        /// The issuer's own word for it, if it is one plain word, as in `AccessDeniedException`.
        code: Option<String>,
        /// What to do.
        advice: &'static str,
    },
    /// Too many requests.
    #[error("{host} answers that it gets too many requests; it is asked again")]
    Throttled {
        /// Who was asked.
        host: String,
        /// How long it asked to wait.
        retry_after: Duration,
    },
    /// No answer, or one that says that it cannot be served now.
    #[error("{host} {what}; it is asked again")]
    Unavailable {
        /// Who was asked.
        host: String,
        /// What happened, as in `does not answer in 10 s`.
        what: String,
        /// How long it asked to wait.
        retry_after: Duration,
    },
    /// An answer without what it should hold.
    #[error("{host} gave an answer without {missing}; it is asked again")]
    Unreadable {
        /// Who was asked.
        host: String,
        /// What should be in it.
        missing: &'static str,
    },
    /// Kubernetes gives no token for the ServiceAccount.
    #[error("no token for ServiceAccount {name}: {why}")]
    TokenRequest {
        /// Name of the ServiceAccount.
        name: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The identity lacks something that its cloud needs: a role, a client, a key.
    #[error("{identity} has no {missing}; {advice}")]
    Incomplete {
        /// Who.
        identity: String,
        /// What it lacks.
        missing: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A Secret that is named as an identity is none.
    #[error(
        "Secret {secret} {why} (an identity is of type Opaque and has the label {}=identity)",
        names::SOURCE_LABEL
    )]
    NoIdentity {
        /// Name of the Secret.
        secret: String,
        /// What is wrong, and what to do.
        why: &'static str,
    },
    /// This server is none that the source may serve.
    #[error("{server} is no registry of {kind}; name one of its own, or another source")]
    WrongHost {
        /// The server.
        server: String,
        /// The kind of the source.
        kind: &'static str,
    },
}

impl MintError {
    /// Nothing came in the time that a token may take.
    pub fn late(request: &TokenRequest) -> Self {
        let what = "gave no token in half a minute".to_owned();
        Self::Unavailable { host: request.issuer.to_string(), what, retry_after: Duration::ZERO }
    }

    /// The reason of the condition `SourceReady`.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::AccessDenied { .. } => Reason::AccessDenied,
            Self::Throttled { .. } => Reason::Throttled,
            Self::TokenRequest { .. } => Reason::TokenRequestFailed,
            Self::Unavailable { .. } | Self::Unreadable { .. } => Reason::SourceUnavailable,
            Self::Incomplete { .. } | Self::WrongHost { .. } | Self::NoIdentity { .. } => {
                Reason::SourceInvalid
            }
        }
    }

    /// What it asks for. No watch says when a cloud changes its mind, so all but what the spec says is tried again.
    pub const fn class(&self) -> Class {
        match self {
            Self::WrongHost { .. } | Self::NoIdentity { .. } => Class::UserMustAct,
            Self::AccessDenied { .. }
            | Self::Throttled { .. }
            | Self::Unavailable { .. }
            | Self::Unreadable { .. }
            | Self::TokenRequest { .. }
            | Self::Incomplete { .. } => Class::Retry,
        }
    }

    /// Whether it names a Secret or a ServiceAccount, which are of the source namespace.
    pub fn names_object(&self) -> bool {
        match self {
            Self::TokenRequest { .. } | Self::NoIdentity { .. } => true,
            Self::AccessDenied { identity, .. } | Self::Incomplete { identity, .. } => {
                identity.starts_with("ServiceAccount ") || identity.contains("Secret ")
            }
            Self::Throttled { .. }
            | Self::Unavailable { .. }
            | Self::Unreadable { .. }
            | Self::WrongHost { .. } => false,
        }
    }

    /// Whether the issuer may only be out of order for a moment.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unavailable { .. } | Self::Unreadable { .. })
    }

    /// How long the issuer asked to wait.
    pub(crate) const fn retry_after(&self) -> Duration {
        match self {
            Self::Throttled { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => Duration::ZERO,
        }
    }
}

fn code_text(code: Option<&String>) -> String {
    code.map(|code| format!(", {code}")).unwrap_or_default()
}

/// Gives tokens: the clouds, or what stands in for them in a simulation.
pub trait Mint: Send + Sync {
    /// A new token.
    fn mint<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<Token, MintError>>;
}
