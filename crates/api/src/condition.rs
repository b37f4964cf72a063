//! Conditions and reasons as closed sets: what an admin may audit, alert on or wait for.
//!
//! kstatus reads `Ready`, `Reconciling`, `Stalled` and `observedGeneration`
//! (sigs.k8s.io/cli-utils, pkg/kstatus), so `kubectl wait` and Flux need nothing else.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::IntoDeserializer;

/// The type of a condition.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ConditionType {
    /// Everything that the spec asks for is in place.
    Ready,
    /// Work is under way. Only present while it is True or the object is suspended.
    Reconciling,
    /// Only a user can help. Only present while True.
    Stalled,
    /// The sources could be read and give one credential for every server.
    SourceReady,
    /// The registries accept the credentials. Only present where `verify` has them asked.
    CredentialsVerified,
    /// Every selected namespace holds the right Secret.
    SecretsSynced,
    /// Every selected ServiceAccount names the Secret.
    ServiceAccountsAttached,
}

impl ConditionType {
    /// As written in `status.conditions[].type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::SourceReady => "SourceReady",
            Self::CredentialsVerified => "CredentialsVerified",
            Self::SecretsSynced => "SecretsSynced",
            Self::ServiceAccountsAttached => "ServiceAccountsAttached",
        }
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody has looked yet.
    Unknown,
}

impl ConditionStatus {
    /// As written in `status.conditions[].status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Reads what a condition says; a text that is no status is `Unknown`.
impl From<&str> for ConditionStatus {
    fn from(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

/// The reason of a condition, of a failure in status, and of an event: one set for all three.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// Everything is in place.
    Succeeded,
    /// The source gives no credential yet.
    SourceNotReady,
    /// Some namespaces lack the right Secret.
    PartiallySynced,
    /// Some ServiceAccounts lack the name.
    PartiallyAttached,
    /// The selection matches no namespace.
    NoNamespaceSelected,
    /// Only a user can help; see the condition `Stalled`.
    Stalled,
    /// Work is under way.
    Progressing,
    /// Waiting for a source that is not there yet.
    WaitingForSource,
    /// Something failed and is being tried again.
    Retrying,
    /// `spec.suspend` is set.
    Suspended,
    /// The spec cannot be carried out as written.
    InvalidSpec,
    /// An older RegistryCredential has the same target in the same namespace.
    TargetClaimed,
    /// The operator runs with a list of target names, and this is none of them.
    TargetNameNotAllowed,
    /// The sources gave a credential for every server.
    Resolved,
    /// A source Secret does not exist.
    SourceNotFound,
    /// A source Secret holds no usable credential.
    SourceInvalid,
    /// Two sources have different credentials for one server, of which one is used.
    SourceConflict,
    /// A source does not answer, and is asked again.
    SourceUnavailable,
    /// The API server or a registry refused to show the source.
    AccessDenied,
    /// A cloud or registry gets too many requests.
    Throttled,
    /// Kubernetes gives no token for a ServiceAccount that a source names.
    TokenRequestFailed,
    /// The credential has expired.
    Expired,
    /// A credential expires within a week, and nobody has replaced it yet.
    ExpiringSoon,
    /// The registry knows the credential.
    LoginVerified,
    /// The registry lets the credential pull.
    PullVerified,
    /// The registry knows the credential, which may not pull the image asked for.
    PullDenied,
    /// The registry was not asked yet.
    NotChecked,
    /// The registry could not be asked.
    Unreachable,
    /// The registry gets too many requests.
    RateLimited,
    /// The registry refused the user some times lately, and is spared for now, lest it locks the user out.
    TooManyRejections,
    /// The registry's answer says nothing of the credential.
    Unverifiable,
    /// Every selected namespace holds the right Secret.
    AllSynced,
    /// A Secret that regcred did not make holds the target name.
    NameConflict,
    /// A Secret of another type holds the target name.
    TypeMismatch,
    /// RBAC refused a write.
    Forbidden,
    /// An admission webhook or policy, or the API server's validation, refused a write; or a registry does not know the
    /// credential.
    Rejected,
    /// A ResourceQuota leaves no room for the Secret.
    QuotaExceeded,
    /// Every selected ServiceAccount names the Secret.
    AllAttached,
    /// `serviceAccounts.from` is `None`.
    NotRequested,
    /// Something keeps undoing what regcred writes.
    Contested,
    /// A write failed for a cause that a later try may cure.
    WriteFailed,
    /// Event: somebody keeps removing the name from a ServiceAccount.
    ServiceAccountContested,
    /// Event: a source gave a new credential.
    CredentialRefreshed,
    /// Event: everything is in place for the first time, or again.
    Synced,
}

impl Reason {
    /// As written in conditions, failures and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::SourceNotReady => "SourceNotReady",
            Self::PartiallySynced => "PartiallySynced",
            Self::PartiallyAttached => "PartiallyAttached",
            Self::NoNamespaceSelected => "NoNamespaceSelected",
            Self::Stalled => "Stalled",
            Self::Progressing => "Progressing",
            Self::WaitingForSource => "WaitingForSource",
            Self::Retrying => "Retrying",
            Self::Suspended => "Suspended",
            Self::InvalidSpec => "InvalidSpec",
            Self::TargetClaimed => "TargetClaimed",
            Self::TargetNameNotAllowed => "TargetNameNotAllowed",
            Self::Resolved => "Resolved",
            Self::SourceNotFound => "SourceNotFound",
            Self::SourceInvalid => "SourceInvalid",
            Self::SourceConflict => "SourceConflict",
            Self::SourceUnavailable => "SourceUnavailable",
            Self::AccessDenied => "AccessDenied",
            Self::Throttled => "Throttled",
            Self::TokenRequestFailed => "TokenRequestFailed",
            Self::Expired => "Expired",
            Self::ExpiringSoon => "ExpiringSoon",
            Self::LoginVerified => "LoginVerified",
            Self::PullVerified => "PullVerified",
            Self::PullDenied => "PullDenied",
            Self::NotChecked => "NotChecked",
            Self::Unreachable => "Unreachable",
            Self::RateLimited => "RateLimited",
            Self::TooManyRejections => "TooManyRejections",
            Self::Unverifiable => "Unverifiable",
            Self::AllSynced => "AllSynced",
            Self::NameConflict => "NameConflict",
            Self::TypeMismatch => "TypeMismatch",
            Self::Forbidden => "Forbidden",
            Self::Rejected => "Rejected",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::AllAttached => "AllAttached",
            Self::NotRequested => "NotRequested",
            Self::Contested => "Contested",
            Self::WriteFailed => "WriteFailed",
            Self::ServiceAccountContested => "ServiceAccountContested",
            Self::CredentialRefreshed => "CredentialRefreshed",
            Self::Synced => "Synced",
        }
    }

    /// Whether its event is a Warning: something does not work, or the outcome is hardly what a user wants.
    pub const fn is_warning(self) -> bool {
        match self {
            Self::InvalidSpec
            | Self::TargetClaimed
            | Self::TargetNameNotAllowed
            | Self::SourceNotFound
            | Self::SourceInvalid
            | Self::SourceConflict
            | Self::SourceUnavailable
            | Self::AccessDenied
            | Self::Throttled
            | Self::TokenRequestFailed
            | Self::Expired
            | Self::ExpiringSoon
            | Self::PullDenied
            | Self::NameConflict
            | Self::TypeMismatch
            | Self::Forbidden
            | Self::Rejected
            | Self::QuotaExceeded
            | Self::Contested
            | Self::WriteFailed
            | Self::NoNamespaceSelected
            | Self::ServiceAccountContested => true,
            Self::Succeeded
            | Self::SourceNotReady
            | Self::PartiallySynced
            | Self::PartiallyAttached
            | Self::Stalled
            | Self::Progressing
            | Self::WaitingForSource
            | Self::Retrying
            | Self::Suspended
            | Self::Resolved
            | Self::LoginVerified
            | Self::PullVerified
            | Self::NotChecked
            | Self::Unreachable
            | Self::RateLimited
            | Self::TooManyRejections
            | Self::Unverifiable
            | Self::AllSynced
            | Self::AllAttached
            | Self::NotRequested
            | Self::CredentialRefreshed
            | Self::Synced => false,
        }
    }
}

/// Reads back what [`Reason::as_str`] writes.
impl FromStr for Reason {
    type Err = serde::de::value::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::deserialize(text.into_deserializer())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
