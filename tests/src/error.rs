//! The one error of this crate. It is read by a person whose test did not start, so each message carries what
//! was being done, and a failed program carries the end of its log.

use std::time::Duration;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong around a control plane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, pipe, or socket failed.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The API server refused a request, or did not answer it.
    #[error("{context}: {source}")]
    Kube {
        /// What was being done.
        context: String,
        /// The cause.
        source: Box<kube::Error>,
    },
    /// A kubeconfig could not be read.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// A certificate could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS settings were refused.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A program is not there and cannot be built.
    #[error("{program} is missing: {remedy}")]
    Missing {
        /// The program that is missing.
        program: String,
        /// What to do about it.
        remedy: String,
    },
    /// A program ended, or never did what it was started for.
    #[error("{program}: {reason}\n--- the end of its log:\n{log_tail}\n---")]
    Program {
        /// The program.
        program: String,
        /// What is wrong.
        reason: String,
        /// The last lines it wrote.
        log_tail: String,
    },
    /// Something did not happen in time.
    #[error("waited {within:?} for {what}, in vain; last: {last}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        within: Duration,
        /// Why the last look was not good enough.
        last: String,
    },
    /// This machine cannot be a node.
    #[error("a node needs {0}")]
    NoNode(String),
    /// A reply, or a caller's wish, makes no sense.
    #[error("{0}")]
    Unexpected(String),
}

impl Error {
    /// The error that says what was awaited in vain.
    pub fn timeout(what: &str, within: Duration, last: impl Into<String>) -> Self {
        Self::Timeout { what: what.to_owned(), within, last: last.into() }
    }

    /// True if a program found its port in use, so that trying again with other ports may help.
    pub fn is_port_clash(&self) -> bool {
        matches!(self, Self::Program { log_tail, .. } if log_tail.contains("address already in use"))
    }
}

/// Adds what was being done to an error that does not know it.
pub trait Context<T> {
    /// Turns the error into ours, saying what was being done.
    fn context(self, what: impl Into<String>) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io { context: what.into(), source })
    }
}

impl<T> Context<T> for kube::Result<T> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Kube { context: what.into(), source: Box::new(source) })
    }
}
