//! What can go wrong around a measurement. A person reads it who wants numbers, so it says what to mend.

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control plane, or a process in it.
    #[error(transparent)]
    Rig(#[from] regcred_tests::Error),
    /// The API server refused what the driver itself asked for.
    #[error("the driver's own request: {0}")]
    Kube(Box<kube::Error>),
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A subject's file does not say what it should.
    #[error("subject file {path}: {reason}")]
    Subject {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A subject could not be set up, or ended.
    #[error("{subject}: {source}")]
    OfSubject {
        /// The subject.
        subject: String,
        /// Why.
        source: regcred_tests::Error,
    },
    /// A profile could not be read.
    #[error("{program}: {reason}")]
    Profile {
        /// What should have read it.
        program: String,
        /// What it says.
        reason: String,
    },
    /// Raw data that this version cannot read.
    #[error("raw data: {0}")]
    Raw(#[from] serde_json::Error),
    /// A subject did not do its job, so there is nothing to measure.
    #[error("{subject} in {workload}: {reason}")]
    Undone {
        /// The subject.
        subject: String,
        /// What it was to do.
        workload: String,
        /// What is missing.
        reason: String,
    },
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// Names the file in an error that does not know it.
pub trait InFile<T> {
    /// Turns the error into ours, naming the file.
    fn in_file(self, path: &std::path::Path) -> Result<T>;
}

impl<T> InFile<T> for std::io::Result<T> {
    fn in_file(self, path: &std::path::Path) -> Result<T> {
        self.map_err(|source| Error::File { path: path.display().to_string(), source })
    }
}
