//! The command line. Each flag has an environment variable, so that a Deployment needs no arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use regcred_https::endpoint;

/// Keeps image pull secrets right in every namespace of a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "regcred")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the operator
    Run(RunArgs),
    /// Print the CustomResourceDefinition as YAML
    Crd,
    /// Print the version
    Version,
}

/// How to run the operator.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Cluster to work on [default: $KUBECONFIG, then the cluster that the Pod runs in]
    #[arg(long, env = "REGCRED_KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Namespace of source Secrets, lease and fingerprint key [default: the Pod's own, else regcred-system]
    #[arg(long, env = "REGCRED_SOURCE_NAMESPACE", value_name = "NAMESPACE")]
    pub(crate) source_namespace: Option<String>,

    /// The only Secret names to watch and write; RBAC by name is enough then (repeatable)
    #[arg(long = "target-name", env = "REGCRED_TARGET_NAME", value_name = "NAME", value_delimiter = ',')]
    pub(crate) target_names: Vec<String>,

    /// Namespaces to work on at once
    #[arg(long, env = "REGCRED_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,

    /// Hours in which every copy is applied again, one after the other, in case that somebody changed it without a trace
    #[arg(long, env = "REGCRED_VERIFICATION_HOURS", value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=720))]
    pub(crate) verification_hours: u16,

    /// Where to send requests meant for a host that gives tokens, as in sts.amazonaws.com=https://vpce-1.example.com (repeatable)
    #[arg(long = "token-endpoint", env = "REGCRED_TOKEN_ENDPOINT", value_name = "HOST=URL", value_delimiter = ',', value_parser = endpoint)]
    pub(crate) token_endpoints: Vec<(String, http::Uri)>,

    /// Where to send requests meant for a registry that is asked whether a credential is good, as in
    /// registry.example.com=http://10.0.0.5:5000 (repeatable)
    #[arg(long = "registry-endpoint", env = "REGCRED_REGISTRY_ENDPOINT", value_name = "HOST=URL", value_delimiter = ',', value_parser = endpoint)]
    pub(crate) registry_endpoints: Vec<(String, http::Uri)>,

    /// Token server that a registry may name although its address is a private one: a host, *.DOMAIN or HOST:PORT (repeatable)
    #[arg(
        long = "verify-allow-realm",
        env = "REGCRED_VERIFY_ALLOW_REALM",
        value_name = "HOST",
        value_delimiter = ','
    )]
    pub(crate) allowed_realms: Vec<String>,

    /// Work without a lease: only for a single replica
    #[arg(long, env = "REGCRED_NO_LEASE")]
    pub(crate) no_lease: bool,

    /// Address of /healthz, /readyz and /metrics; port 0 takes a free one and prints it
    #[arg(long, env = "REGCRED_LISTEN", value_name = "ADDR:PORT", default_value = "0.0.0.0:8080")]
    pub(crate) listen: SocketAddr,

    /// Form of the log on standard error
    #[arg(long, env = "REGCRED_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// What to log of regcred itself: off, error, warn, info, debug or trace
    #[arg(long, env = "REGCRED_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: tracing::level_filters::LevelFilter,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// For machines
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn target_names_are_repeatable_and_may_be_listed() {
        let args = Args::parse_from(["regcred", "run", "--target-name", "a,b", "--target-name", "c"]);
        let Command::Run(run) = args.command else { panic!("not run") };
        assert_eq!(run.target_names, ["a", "b", "c"]);
    }
}
