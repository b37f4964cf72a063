//! Why a step failed, and what follows from it.

use regcred_api::{Class, Reason};

/// Why the API server refused a step. Carries no text of the server: an admission webhook may
/// quote the Secret it refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StepError {
    /// 409: the object changed since it was observed.
    #[error("the object changed in the meantime")]
    Conflict,
    /// 404: the object or its namespace is gone.
    #[error("the object or its namespace is gone")]
    Gone,
    /// 403 with cause `NamespaceTerminating`.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// 409: a Secret that regcred did not make holds the name.
    #[error("Secret exists and is not managed by regcred; delete it, or choose another target.name")]
    NameConflict,
    /// 403 by the admission policy that ships with regcred: `conflictPolicy: Adopt` is not allowed here.
    #[error(
        "Secret exists, is not managed by regcred, and this installation lets none be taken over; delete it, or \
         set the chart value cage.allowAdopt"
    )]
    AdoptNotAllowed,
    /// 409 on the type, which cannot be changed.
    #[error("a Secret of another type holds the name; delete it, or choose another target.name")]
    TypeMismatch,
    /// 403 by RBAC.
    #[error("the operator may not write it; grant it the permissions of the installed ClusterRole")]
    Forbidden,
    /// 403 by a ResourceQuota.
    #[error("a ResourceQuota leaves no room for it; raise the quota")]
    QuotaExceeded,
    /// 400, 422, or 403 by an admission policy.
    #[error("the API server or an admission policy rejected it (HTTP {0})")]
    Rejected(u16),
    /// 413: larger than the API server allows.
    #[error("the Secret is larger than the API server takes (1 MiB); use fewer or shorter credentials")]
    TooLarge,
    /// 429, 5xx.
    #[error("the API server answered HTTP {code}")]
    Unavailable {
        /// The status.
        code: u16,
        /// Seconds that it asked to wait.
        retry_after: u32,
    },
    /// No answer in time, or no connection.
    #[error("the API server did not answer")]
    NoAnswer,
    /// An answer that does not fit its type. The step was executed all the same.
    #[error("the API server's answer could not be read")]
    UnreadableAnswer,
    /// The write succeeded, and something undid it at once: an admission webhook, most likely.
    #[error(
        "something changes back what regcred writes; exclude its Secrets and imagePullSecrets from the admission \
         webhook or policy that does, or change the spec to agree with it"
    )]
    Undone,
    /// Not executed, because a step that it depends on failed.
    #[error("waits until the name is off every ServiceAccount")]
    Blocked,
}

impl StepError {
    /// What this failure asks for.
    pub const fn class(self) -> Class {
        match self {
            Self::Gone | Self::NamespaceTerminating | Self::Blocked => Class::Wait,
            Self::NameConflict
            | Self::AdoptNotAllowed
            | Self::TypeMismatch
            | Self::Forbidden
            | Self::QuotaExceeded
            | Self::Rejected(_)
            | Self::Undone
            | Self::TooLarge => Class::UserMustAct,
            Self::Conflict | Self::Unavailable { .. } | Self::NoAnswer | Self::UnreadableAnswer => {
                Class::Retry
            }
        }
    }

    /// The reason in status, events and metrics.
    pub const fn reason(self) -> Reason {
        match self {
            Self::NameConflict | Self::AdoptNotAllowed => Reason::NameConflict,
            Self::TypeMismatch => Reason::TypeMismatch,
            Self::Forbidden | Self::Rejected(_) => Reason::Forbidden,
            Self::QuotaExceeded => Reason::QuotaExceeded,
            Self::Undone => Reason::Contested,
            Self::Conflict
            | Self::Gone
            | Self::NamespaceTerminating
            | Self::TooLarge
            | Self::Unavailable { .. }
            | Self::NoAnswer
            | Self::UnreadableAnswer
            | Self::Blocked => Reason::WriteFailed,
        }
    }
}
