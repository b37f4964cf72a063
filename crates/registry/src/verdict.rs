//! What a registry says of a login, and the sentence for it. Nothing that the registry wrote is repeated.

use std::fmt;
use std::time::Duration;

use regcred_https::Failure;

/// What a registry says of a login.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The registry accepts the user and the password.
    LoginVerified {
        /// The registry.
        host: String,
        /// What the answer about the image leaves open.
        hint: Option<Hint>,
    },
    /// The registry shows the manifest to this login.
    PullVerified {
        /// The registry.
        host: String,
    },
    /// The registry does not accept the user and the password.
    Rejected(Refusal),
    /// The password was good once.
    Expired(Refusal),
    /// The registry accepts the login, and refuses the image to it.
    PullDenied(Refusal),
    /// Nothing is known of the login.
    Unknown {
        /// Why.
        why: Unknown,
        /// How long the other side asked to wait; zero where it did not say.
        retry_after: Duration,
    },
}

/// Why a login that was accepted proves no pull.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hint {
    /// There is no such manifest, or it is hidden from this login.
    ManifestNotFound,
}

/// Who refused a login, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The registry, or the token server that it names.
    pub host: String,
    /// Status of the answer.
    pub status: u16,
    /// Error code of the answer, if it is one that the specification knows.
    pub code: Option<&'static str>,
}

/// Why nothing is known of a login.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unknown {
    /// The server is a pattern, which names no single registry.
    Pattern,
    /// No answer, or one that says that it cannot be served now.
    Unreachable {
        /// Who was asked.
        host: String,
        /// What happened.
        what: Trouble,
    },
    /// Too many requests.
    RateLimited {
        /// Who was asked.
        host: String,
    },
    /// Some logins of the user were refused there lately, so no more are shown for now.
    Spared {
        /// The registry, or the token server that it names.
        host: String,
    },
    /// The registry answers everybody alike, so that its answers prove nothing.
    Unverifiable {
        /// The registry.
        host: String,
    },
    /// The registry names a token server to which no login is sent.
    UntrustedRealm {
        /// The registry.
        host: String,
        /// The token server, if its name is a plain one.
        realm: Option<String>,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What happened instead of an answer that means something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// No answer.
    Failed(Failure),
    /// It sends elsewhere.
    Redirect(u16),
    /// It is out of order.
    Broken(u16),
    /// It refuses everybody, whatever the login: a ban, or a wall in front of it.
    Barred(u16),
    /// An answer that the protocol does not know at this place.
    Odd(u16),
    /// It has no API of a registry.
    NoRegistry,
    /// It asks for a login in a way that is not known.
    NoChallenge,
    /// It gave an answer without a token.
    NoToken,
    /// The login or the names fit into no request.
    Unsendable,
    /// The steps together took too long.
    Slow,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::Redirect(status) => write!(f, "redirects elsewhere (HTTP {status}), which is not followed"),
            Self::Broken(status) => write!(f, "cannot serve now (HTTP {status})"),
            Self::Barred(status) => {
                write!(
                    f,
                    "turns regcred away before it looks at a login (HTTP {status}): a ban of its address, or a firewall"
                )
            }
            Self::Odd(status) => write!(f, "gave an answer that means nothing there (HTTP {status})"),
            Self::NoRegistry => {
                f.write_str("has no registry at /v2/ (HTTP 404): check the server's name and port")
            }
            Self::NoChallenge => f.write_str("asks for a login neither as Basic nor as Bearer"),
            Self::NoToken => f.write_str("gave an answer without a token"),
            Self::Unsendable => f.write_str(
                "cannot be asked: the login, the repository or the reference fits into no request",
            ),
            Self::Slow => f.write_str("needs more than 30 s for all answers together"),
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern => f.write_str(
                "the server is a pattern, and no registry is asked for one; name a server to have its credential verified",
            ),
            Self::Unreachable { host, what } => write!(f, "{host} {what}; it is asked again"),
            Self::RateLimited { host } => {
                write!(f, "{host} answers that it gets too many requests; it is asked again")
            }
            Self::Spared { host } => write!(
                f,
                "{host} rejected this user some times within 15 minutes, so it is not asked for now, lest it locks the user \
                 out; it is asked again"
            ),
            Self::Unverifiable { host } => write!(
                f,
                "{host} accepts whatever it is shown, as it serves everybody, so this proves no credential; \
                 turn anonymous access off there, or verification off here"
            ),
            Self::UntrustedRealm { host, realm, why } => {
                write!(f, "{host} sends logins to ")?;
                match realm {
                    Some(realm) => write!(f, "the token server {realm}")?,
                    None => f.write_str("a token server")?,
                }
                write!(f, ", which {why}")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        self.code.map_or(Ok(()), |code| write!(f, ", {code}"))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoginVerified { host, hint: None } => write!(f, "{host} accepts the user and password"),
            Self::LoginVerified { host, hint: Some(Hint::ManifestNotFound) } => write!(
                f,
                "{host} accepts the user and password, but shows no such manifest; \
                 check repository and reference, and whether this user may see them"
            ),
            Self::PullVerified { host } => write!(f, "{host} lets the user and password pull"),
            Self::Rejected(refusal) => write!(
                f,
                "{} rejects the user and password ({refusal}); put good ones into the source",
                refusal.host
            ),
            Self::Expired(refusal) => write!(
                f,
                "{} says that the password has expired ({refusal}); put a new one into the source",
                refusal.host
            ),
            Self::PullDenied(refusal) => write!(
                f,
                "{} accepts the user and password, but lets them not pull ({refusal}); \
                 give the user the right to pull the repository, or name another repository",
                refusal.host
            ),
            Self::Unknown { why, .. } => why.fmt(f),
        }
    }
}
