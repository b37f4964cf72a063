//! Why a source gave nothing. Names objects and keys; never quotes what is in them.

use std::fmt;
use std::time::Duration;

use regcred_api::{Class, Reason, names};
use regcred_dockerconfig::{ConfigError, LoginError, Server};

use crate::secret::Purpose;
use crate::token::MintError;

/// Why a source gave nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SourceError {
    /// The Secret is not there.
    #[error("Secret {secret} does not exist; create it")]
    NotFound {
        /// Name of the Secret.
        secret: String,
    },
    /// The Secret is of type Opaque, and nobody said that it may be handed out.
    #[error(
        "Secret {secret} is of type Opaque and has no label {}=true; label it if it may be handed out",
        names::SOURCE_LABEL
    )]
    NotLabelled {
        /// Name of the Secret.
        secret: String,
    },
    /// The Secret is of a type that is made for something else.
    #[error(
        "Secret {secret} is of type {kind}, which no source is; make one of type kubernetes.io/basic-auth or kubernetes.io/dockerconfigjson"
    )]
    NoSourceType {
        /// Name of the Secret.
        secret: String,
        /// Its type.
        kind: String,
    },
    /// The Secret is made for something else, as its metadata says.
    #[error(
        "Secret {secret} {purpose}, and is no source; make another of type kubernetes.io/basic-auth or kubernetes.io/dockerconfigjson"
    )]
    MadeForAnother {
        /// Name of the Secret.
        secret: String,
        /// What for.
        purpose: Purpose,
    },
    /// The Secret is the operator's own.
    #[error("Secret {} is regcred's own key, and no source; name another", names::FINGERPRINT_KEY_SECRET)]
    FingerprintKey,
    /// A cloud or a registry gave no new token.
    #[error("{}{held}", of_server(server, error))]
    Token {
        /// The server.
        server: Server,
        /// Why.
        error: MintError,
        /// What the copies hold meanwhile.
        held: Held,
    },
    /// The Secret's type needs the names of its keys.
    #[error(
        "Secret {secret} is of type Opaque; name its keys with usernameKey and passwordKey, or use kubernetes.io/dockerconfigjson or kubernetes.io/basic-auth"
    )]
    KeysNotNamed {
        /// Name of the Secret.
        secret: String,
    },
    /// The Secret is not a docker configuration.
    #[error(
        "Secret {secret} is of type {kind}; give dockerConfigSecretRefs one of type kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg, or name a server in registries"
    )]
    NotADockerConfig {
        /// Name of the Secret.
        secret: String,
        /// Its type.
        kind: String,
    },
    /// A key is not there.
    #[error("Secret {secret} has no key {key}; add it, or name the key that it has")]
    KeyMissing {
        /// Name of the Secret.
        secret: String,
        /// The key.
        key: String,
    },
    /// The docker configuration cannot be used.
    #[error("Secret {secret}, key {key}: {error}")]
    Invalid {
        /// Name of the Secret.
        secret: String,
        /// The key that holds the configuration.
        key: &'static str,
        /// What is wrong with it.
        error: ConfigError,
    },
    /// The user name or the password cannot be used.
    #[error("Secret {secret}, keys {} and {}: {error}", keys.0, keys.1)]
    Unusable {
        /// Name of the Secret.
        secret: String,
        /// The keys of the user name and of the password.
        keys: (String, String),
        /// What is wrong with them.
        error: LoginError,
    },
    /// The registry rejects what the source gives, and it is held back. The message names the registry.
    #[error("{message}")]
    Rejected {
        /// `Rejected`, `Expired` or `PullDenied`.
        reason: Reason,
        /// What the registry said, and what to do.
        message: String,
    },
    /// All entries together are larger than a Secret may be.
    #[error("the credentials together are larger than a Secret may be (1 MiB); use fewer or shorter ones")]
    TooLarge,
    /// The source did not answer in time, or could not serve now.
    #[error("the source did not answer; it is asked again")]
    Unavailable {
        /// How long it asked to wait.
        retry_after: Duration,
    },
}

/// The server before what is wrong, unless that begins with it.
fn of_server(server: &Server, error: &MintError) -> String {
    let (server, error) = (server.to_string(), error.to_string());
    let host = server.split('/').next().unwrap_or_default();
    if error.starts_with(host) { error } else { format!("{server}: {error}") }
}

/// What the copies hold for a server whose new token did not come. Its text ends a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Held {
    /// A token that is still good.
    Good,
    /// No entry: the last token has expired, and an expired entry fails even pulls that need none.
    Expired,
    /// What they held when this process started.
    Unknown,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "; copies keep the last token until it expires",
            Self::Expired => "; the last token has expired, and copies have no entry for this server until there is a new one",
            Self::Unknown => "; copies, where there are any, stay as they are",
        })
    }
}

impl SourceError {
    /// The reason of the condition `SourceReady`.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NotFound { .. } => Reason::SourceNotFound,
            Self::Unavailable { .. } => Reason::SourceUnavailable,
            Self::Token { held: Held::Expired, .. } => Reason::Expired,
            Self::Token { error, .. } => error.reason(),
            Self::Rejected { reason, .. } => *reason,
            Self::NotLabelled { .. }
            | Self::NoSourceType { .. }
            | Self::MadeForAnother { .. }
            | Self::FingerprintKey
            | Self::KeysNotNamed { .. }
            | Self::NotADockerConfig { .. }
            | Self::KeyMissing { .. }
            | Self::Invalid { .. }
            | Self::Unusable { .. }
            | Self::TooLarge => Reason::SourceInvalid,
        }
    }

    /// What this failure asks for. What waits, or needs a user, is looked at again when its watch reports a change.
    pub const fn class(&self) -> Class {
        match self {
            Self::NotFound { .. } => Class::Wait,
            Self::Unavailable { .. } => Class::Retry,
            Self::Token { error, .. } => error.class(),
            Self::NotLabelled { .. }
            | Self::NoSourceType { .. }
            | Self::MadeForAnother { .. }
            | Self::FingerprintKey
            | Self::KeysNotNamed { .. }
            | Self::NotADockerConfig { .. }
            | Self::KeyMissing { .. }
            | Self::Invalid { .. }
            | Self::Unusable { .. }
            | Self::Rejected { .. }
            | Self::TooLarge => Class::UserMustAct,
        }
    }

    /// How long the source asked to wait before the next look.
    pub const fn retry_after(&self) -> Duration {
        match self {
            Self::Unavailable { retry_after } => *retry_after,
            Self::Token { error, .. } => error.retry_after(),
            _ => Duration::ZERO,
        }
    }
}
