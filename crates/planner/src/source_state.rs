//! What a look at the sources of a RegistryCredential came to.

use jiff::Timestamp;
use regcred_api::Reason;

/// What came of reading the sources.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceState {
    /// Every server has a credential.
    Resolved {
        /// One for each server that the copy has an entry for; of many only the first.
        registries: Vec<ResolvedRegistry>,
        /// What somebody has to know nevertheless.
        note: Option<SourceNote>,
    },
    /// Some server has none.
    Failed {
        /// `SourceNotFound`, `SourceInvalid`, `SourceUnavailable`, `AccessDenied` or `Expired`.
        reason: Reason,
        /// What is wrong, where, and what to do.
        message: String,
        /// The servers that the copy has an entry for all the same; `None` where nothing is known of it.
        registries: Option<Vec<ResolvedRegistry>>,
    },
}

impl SourceState {
    /// The servers that the copy has an entry for, as far as that is known.
    pub fn registries(&self) -> &[ResolvedRegistry] {
        match self {
            Self::Resolved { registries, .. } => registries,
            Self::Failed { registries, .. } => registries.as_deref().unwrap_or_default(),
        }
    }
}

/// What somebody has to know of sources that gave a credential for every server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceNote {
    /// `Expired` where one of them is over and `SourceConflict` where two of them differ, which `SourceReady` then
    /// reports; `ExpiringSoon`; else `Resolved`.
    pub reason: Reason,
    /// What is wrong or not used, where, and what to do.
    pub message: String,
}

/// What one registry's source gave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResolvedRegistry {
    /// The server, as in spec.
    pub server: String,
    /// The kind of source.
    pub kind: &'static str,
    /// 8 hexadecimal digits of a keyed digest.
    pub fingerprint: String,
    /// When its credential expires, where that is known.
    pub expires_at: Option<Timestamp>,
    /// When a token is to be replaced; `None` for what somebody else replaces.
    pub renew_at: Option<Timestamp>,
}
