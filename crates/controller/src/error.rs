//! What can go wrong while the operator starts. After that nothing ends it: loops report and retry.

/// Why the operator could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster to talk to.
    #[error("no usable cluster configuration: {0}; give --kubeconfig, set KUBECONFIG, or run in a cluster")]
    Config(String),
    /// The client could not be made from the configuration.
    #[error("the client could not be made: {0}")]
    Client(#[from] kube::Error),
    /// The system gave no random bytes for the fingerprint key.
    #[error("the system gave no random bytes")]
    NoRandomness,
}
