//! The names of everything in the simulated cluster. Few, so that things meet.

/// Where the operator lives.
pub const HOME: &str = "regcred-system";
/// Namespaces that people make and delete.
pub const NAMESPACES: [&str; 4] = ["n0", "n1", "n2", "n3"];
/// Namespaces that a spec may name.
pub const NAMED: [&str; 5] = ["n0", "n1", "n2", "n3", HOME];
/// ServiceAccounts of a namespace; the first is made by Kubernetes.
pub const ACCOUNTS: [&str; 2] = ["default", "builder"];
/// RegistryCredentials.
pub const CREDENTIALS: [&str; 3] = ["alpha", "beta", "gamma"];
/// Secrets in the source namespace.
pub const SOURCES: [&str; 2] = ["bot-a", "bot-b"];
/// Secrets in the source namespace that hold a whole docker configuration.
pub const CONFIGS: [&str; 1] = ["hub"];
/// The server in such a configuration; `quay.io` may be in `registries` as well.
pub const CONFIG_SERVER: &str = "quay.io";
/// Every name that a copy can have.
pub const TARGETS: [&str; 5] = ["alpha", "beta", "gamma", "pull", "push"];
/// The label by which namespaces are selected.
pub const LABEL: &str = "pull";
/// A refresh interval that the operator takes for invalid.
pub const INVALID_INTERVAL: &str = "1s";
