//! The command line. Flags are kubectl's, where it has them.

use std::path::PathBuf;

use clap::{Args as Flags, Parser, Subcommand, ValueEnum};
use regcred_https::endpoint;

/// Says why a Pod does not pull, who cannot pull, and what a RegistryCredential holds together.
#[derive(Debug, Parser)]
#[command(name = "kubectl-regcred", bin_name = "kubectl regcred", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    #[command(flatten)]
    pub(crate) global: Global,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Why an image will (not) be pulled, and the command that mends it
    Explain(Explain),
    /// Which workloads cannot pull now, and which would not pull again
    Audit(Audit),
    /// Registries, expiry and namespaces of RegistryCredentials
    Status(Status),
    /// What loses its credential if a RegistryCredential goes
    Impact(Impact),
    /// What applying a file would change
    Diff(Diff),
    /// Have the operator try again now, also what it holds back
    Refresh(Refresh),
    /// Whether the installation is sound; exits with 2 if not
    Check,
    /// What a shell may complete: kubectl asks, by way of `kubectl_complete-regcred`
    #[command(name = "__complete", hide = true)]
    Complete(Complete),
}

/// What is on the line so far.
#[derive(Debug, Flags)]
pub(crate) struct Complete {
    /// The words after `kubectl regcred`, the last one as far as it is written
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

/// Which Pod or image.
#[derive(Debug, Flags)]
pub(crate) struct Explain {
    /// A Pod (pod/NAME or NAME), or an image with a tag, a digest or a slash
    #[arg(value_name = "POD|IMAGE")]
    pub(crate) subject: String,
    /// The ServiceAccount that an image is pulled for
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) serviceaccount: String,
    /// Ask the registry with the credentials that the kubelet would try; reads the Secrets of the list
    #[arg(long)]
    pub(crate) probe: bool,
    /// Where to send requests of --probe meant for a registry, as in registry.example.com=http://10.0.0.5:5000 (repeatable)
    #[arg(long = "registry-endpoint", value_name = "HOST=URL", value_parser = endpoint, requires = "probe")]
    pub(crate) registry_endpoints: Vec<(String, http::Uri)>,
    /// Token server that a registry may name although its address is a private one: a host, *.DOMAIN or HOST:PORT (repeatable)
    #[arg(long = "verify-allow-realm", value_name = "HOST", requires = "probe")]
    pub(crate) allowed_realms: Vec<String>,
    /// Exit with 2 if an image finds no entry that opens it
    #[arg(long)]
    pub(crate) exit_code: bool,
}

/// What to look for.
#[derive(Debug, Flags)]
pub(crate) struct Audit {
    /// One line for each workload or for each Pod
    #[arg(long, value_enum, default_value_t = By::Workload)]
    pub(crate) by: By,
    /// Exit with 2 if there is anything of this level
    #[arg(long, value_enum, value_name = "LEVEL", ignore_case = true)]
    pub(crate) fail_on: Option<Level>,
}

/// Which RegistryCredential.
#[derive(Debug, Flags)]
pub(crate) struct Status {
    /// One RegistryCredential [default: all]
    pub(crate) name: Option<String>,
}

/// Which RegistryCredential goes.
#[derive(Debug, Flags)]
pub(crate) struct Impact {
    /// The RegistryCredential; --namespace asks about one namespace alone
    pub(crate) name: String,
}

/// Which file.
#[derive(Debug, Flags)]
pub(crate) struct Diff {
    /// RegistryCredentials as YAML or JSON; - reads standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) filename: PathBuf,
    /// Exit with 2 if anything would change
    #[arg(long)]
    pub(crate) exit_code: bool,
}

/// What to try again.
#[derive(Debug, Flags)]
pub(crate) struct Refresh {
    /// The RegistryCredential
    pub(crate) name: String,
    /// Wait until the operator has acted on it, and say what came of it
    #[arg(long)]
    pub(crate) wait: bool,
    /// How many seconds to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
}

/// What a line of an audit stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum By {
    /// What made the Pods
    Workload,
    /// Each Pod
    Pod,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum, serde::Serialize)]
pub(crate) enum Level {
    /// Cannot pull now
    #[value(name = "FAIL")]
    #[serde(rename = "FAIL")]
    Fail,
    /// Has pulled, and would not pull again
    #[value(name = "RISK")]
    #[serde(rename = "RISK")]
    Risk,
}

impl Level {
    /// As it is printed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            Self::Risk => "RISK",
        }
    }
}

/// The form of the output.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// At most 120 columns
    Table,
    /// Nothing is cut
    Wide,
    /// For machines
    Json,
    /// For machines
    Yaml,
    /// Names alone
    Name,
}

/// Flags of every verb.
#[derive(Debug, Flags)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Global {
    /// Path of the kubeconfig
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// User to impersonate
    #[arg(long = "as", global = true, value_name = "USER")]
    pub(crate) impersonate: Option<String>,
    /// Group to impersonate (repeatable)
    #[arg(long = "as-group", global = true, value_name = "GROUP", requires = "impersonate")]
    pub(crate) groups: Vec<String>,
    /// Namespace [default: the context's]
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Labels of the Pods
    #[arg(short = 'l', long, global = true, value_name = "LABELS")]
    pub(crate) selector: Option<String>,
    /// Fields of the Pods, as in spec.nodeName=n1
    #[arg(long, global = true, value_name = "FIELDS")]
    pub(crate) field_selector: Option<String>,
    /// How many objects are read at once; 0 reads all
    #[arg(long, global = true, value_name = "COUNT", default_value_t = 500)]
    pub(crate) chunk_size: u32,
    /// Form of the output
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// No line with the names of columns
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
    /// No colours; the variable `NO_COLOR` has none either
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Also read the Secrets that Pods name. Without it and --probe, no Secret is read
    #[arg(long, global = true)]
    pub(crate) deep: bool,
    /// Namespace of the operator
    #[arg(long, global = true, value_name = "NAMESPACE", default_value = "regcred-system")]
    pub(crate) operator_namespace: String,
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
    fn flags_may_stand_before_and_after_the_verb() {
        let args =
            Args::parse_from(["kubectl-regcred", "-n", "shop", "audit", "--fail-on", "fail", "-o", "json"]);
        assert_eq!((args.global.namespace.as_deref(), args.global.output), (Some("shop"), Format::Json));
        let Verb::Audit(audit) = args.verb else { panic!("not audit") };
        assert_eq!(audit.fail_on, Some(Level::Fail));
    }
}
