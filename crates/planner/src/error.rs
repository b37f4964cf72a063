//! Why a step failed, and what follows from it.

use std::fmt;

use regcred_api::{Class, Reason};

/// Who stands before the store of the API server and may refuse a write, by name where that is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gate {
    /// An admission webhook.
    Webhook(Option<&'static str>),
    /// An admission policy, validating or mutating.
    Policy(Option<&'static str>),
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook(Some(name)) => write!(f, "admission webhook {name}"),
            Self::Webhook(None) => f.write_str("an admission webhook"),
            Self::Policy(Some(name)) => write!(f, "admission policy {name}"),
            Self::Policy(None) => f.write_str("an admission policy"),
        }
    }
}

/// Why a step failed. Carries no text of the API server but the name of who refused it: an admission webhook may
/// quote the Secret that it refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StepError {
    /// 409: the object changed since it was observed.
    #[error("the object changed in the meantime; it is planned again")]
    Conflict,
    /// 404: the object or its namespace is gone.
    #[error("the object or its namespace is gone; it is looked for again")]
    Gone,
    /// 403 with cause `NamespaceTerminating`.
    #[error("the namespace is being deleted; nothing is written there any more")]
    NamespaceTerminating,
    /// 409: a Secret that regcred did not make holds the name.
    #[error("Secret exists and is not managed by regcred; delete it, or choose another target.name")]
    NameConflict,
    /// Not executed, because the list of the ServiceAccount has no room for one more entry.
    #[error(
        "its imagePullSecrets are longer than regcred writes: it adds no entry beyond {max}, nor beside a name longer \
         than 253 characters; shorten the list, put the entry there yourself, or exclude the ServiceAccount",
        max = crate::MAX_ENTRIES
    )]
    ListTooLong,
    /// 403 by the admission policy that ships with regcred: `conflictPolicy: Adopt` is not allowed here.
    #[error(
        "Secret exists, is not managed by regcred, and this installation lets none be taken over; delete it, or \
         set the chart value cage.allowAdopt"
    )]
    AdoptNotAllowed,
    /// 403 by the admission policy that ships with regcred: a key of a label or annotation is not allowed here.
    #[error(
        "this installation lets no copy have a label or annotation that target.metadata or a webhook puts on it; take it \
         out, or list its key in the chart value cage.metadataKeys, unless other tools act on it"
    )]
    MetadataNotAllowed,
    /// 409 or 422 on the type, which cannot be changed.
    #[error("a Secret of another type holds the name; delete it, or choose another target.name")]
    TypeMismatch,
    /// 422: the Secret is `immutable`, which its managed fields need not tell, as where a policy made it so.
    #[error(
        "the Secret is immutable, so its content cannot be replaced; delete it, and let the policy that makes \
         Secrets immutable leave regcred's alone"
    )]
    Immutable,
    /// 403 by RBAC.
    #[error("the operator may not write it; grant it the permissions of the installed ClusterRole")]
    Forbidden,
    /// 403 by a ResourceQuota.
    #[error("a ResourceQuota leaves no room for it; raise the quota")]
    QuotaExceeded,
    /// Any code, by an admission webhook or policy.
    #[error("{0} refused the write; let it pass what regcred writes and deletes")]
    Denied(Gate),
    /// The same for a copy, which may be given what somebody asks of Secrets.
    #[error(
        "{0} refused the write; let it pass what regcred writes, or give the copies what it asks for with \
         spec.target.metadata"
    )]
    DeniedCopy(Gate),
    /// 500: an admission webhook that must be asked gave no answer.
    #[error(
        "{0} is not reachable or does not answer in time; mend it, or let it leave Secrets and ServiceAccounts alone"
    )]
    WebhookUnavailable(Gate),
    /// 422: the API server takes no such value; the field as the spec calls it.
    #[error("the API server does not take the value of {0}; correct it in the spec")]
    InvalidField(&'static str),
    /// Another refusal that trying again will hardly change.
    #[error("the API server refused the write with HTTP {0}; its log says why")]
    Rejected(u16),
    /// 413, or 422 for the size of the data: larger than the API server allows.
    #[error("the Secret is larger than the API server takes (1 MiB); use fewer or shorter credentials")]
    TooLarge,
    /// 429, 5xx, or 403 of an API server that is not ready to decide.
    #[error("the API server could not serve the write (HTTP {code}); it is tried again")]
    Unavailable {
        /// The status.
        code: u16,
        /// Seconds that it asked to wait.
        retry_after: u32,
    },
    /// No answer in time, or no connection.
    #[error("the API server did not answer; the write is tried again")]
    NoAnswer,
    /// An answer that does not fit its type. The step was executed all the same.
    #[error("the API server's answer could not be read; the object is looked at again")]
    UnreadableAnswer,
    /// The write succeeded, and something undid it at once: an admission webhook, most likely.
    #[error(
        "something changes back what regcred writes, and it is wrong now; exclude its Secrets and imagePullSecrets \
         from the admission webhook or policy that does, or change the spec to agree with it"
    )]
    Undone,
    /// Not executed, because a step that it depends on failed.
    #[error("waits until the name is off every ServiceAccount")]
    Blocked,
}

impl StepError {
    /// What the failure means where a copy was written.
    #[must_use]
    pub const fn of_copy(self) -> Self {
        match self {
            Self::Denied(gate) => Self::DeniedCopy(gate),
            other => other,
        }
    }

    /// What this failure asks for.
    pub const fn class(self) -> Class {
        match self {
            Self::Gone | Self::NamespaceTerminating | Self::Blocked => Class::Wait,
            Self::NameConflict
            | Self::ListTooLong
            | Self::AdoptNotAllowed
            | Self::MetadataNotAllowed
            | Self::TypeMismatch
            | Self::Forbidden
            | Self::QuotaExceeded
            | Self::Immutable
            | Self::Denied(_)
            | Self::DeniedCopy(_)
            | Self::InvalidField(_)
            | Self::Rejected(_)
            | Self::Undone
            | Self::TooLarge => Class::UserMustAct,
            Self::Conflict
            | Self::WebhookUnavailable(_)
            | Self::Unavailable { .. }
            | Self::NoAnswer
            | Self::UnreadableAnswer => Class::Retry,
        }
    }

    /// The reason in status, events and metrics.
    pub const fn reason(self) -> Reason {
        match self {
            Self::NameConflict | Self::AdoptNotAllowed => Reason::NameConflict,
            Self::TypeMismatch => Reason::TypeMismatch,
            Self::Forbidden => Reason::Forbidden,
            Self::ListTooLong
            | Self::Immutable
            | Self::MetadataNotAllowed
            | Self::Denied(_)
            | Self::DeniedCopy(_)
            | Self::InvalidField(_)
            | Self::Rejected(_) => Reason::Rejected,
            Self::QuotaExceeded => Reason::QuotaExceeded,
            Self::Undone => Reason::Contested,
            Self::Conflict
            | Self::Gone
            | Self::NamespaceTerminating
            | Self::TooLarge
            | Self::WebhookUnavailable(_)
            | Self::Unavailable { .. }
            | Self::NoAnswer
            | Self::UnreadableAnswer
            | Self::Blocked => Reason::WriteFailed,
        }
    }
}
