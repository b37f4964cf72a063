//! Wires arguments, logs, pages and signals around the library.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use prometheus_client::registry::Registry;
use regcred_controller::{Clients, Clock, Entropy, Issuers, Metrics, Options, Registries, Stage};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::RunArgs;
use crate::kubernetes::{self, Start};
use crate::process::Process;
use crate::server::{self, Pages, router};
use crate::telemetry;

/// Where a Pod finds the name of its own namespace
/// (kubernetes.io/docs/tasks/run-application/access-api-from-pod).
const POD_NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
const DEFAULT_NAMESPACE: &str = "regcred-system";

/// Why the program ends with an error.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs the operator until a signal ends it.
pub(crate) fn run(args: RunArgs) -> Result<(), Error> {
    // An error means that a provider is installed already, which is as good.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    telemetry::start(args.log_format, args.log_level);
    tokio::runtime::Runtime::new()?.block_on(serve(args))
}

/// Prints text on standard output.
pub(crate) fn print<E: Into<Error>>(text: Result<impl AsRef<str>, E>) -> Result<(), Error> {
    std::io::stdout().write_all(text.map_err(Into::into)?.as_ref().as_bytes())?;
    Ok(())
}

/// Prints an error on standard error; if even that fails, nobody is there to read it.
pub(crate) fn complain(error: &Error) {
    let _unheard = writeln!(std::io::stderr(), "regcred: {error}");
}

async fn serve(args: RunArgs) -> Result<(), Error> {
    let (stage, metrics, mut registry) = (Stage::default(), Metrics::default(), Registry::default());
    let clients = Clients::new(&config(&args).await?, &metrics)?;
    metrics.register(&mut registry);
    registry.register_collector(Box::new(Process));
    let pages = Pages { pulse: clients.pulse.clone(), stage: stage.clone(), registry: Arc::new(registry) };
    let listener = TcpListener::bind(args.listen).await?;
    print(Ok::<_, Error>(format!("listening on {}\n", listener.local_addr()?)))?;
    let server = tokio::spawn(server::serve(listener, router(pages)));
    let signals = tokio::spawn(stop_on_signal(stage.clone()));
    let options = options(args);
    let start = Start {
        source_namespace: options.source_namespace.clone(),
        target_names: options.target_names.clone(),
    };
    let started = tokio::spawn(kubernetes::log_start(clients.write.clone(), stage.clone(), start));
    let outcome = regcred_controller::run(clients, options, metrics, stage).await;
    started.abort();
    signals.abort();
    server.abort();
    Ok(outcome?)
}

async fn config(args: &RunArgs) -> Result<Config, regcred_controller::Error> {
    match &args.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(unusable)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)
        }
        None => Config::infer().await.map_err(unusable),
    }
}

fn unusable(error: impl std::error::Error) -> regcred_controller::Error {
    regcred_controller::Error::Config(error.to_string())
}

fn options(args: RunArgs) -> Options {
    Options {
        source_namespace: args.source_namespace.unwrap_or_else(own_namespace),
        target_names: args.target_names,
        concurrency: args.concurrency.into(),
        lease: !args.no_lease,
        identity: identity(),
        verification_period: Duration::from_hours(args.verification_hours.into()),
        clock: Clock::default(),
        entropy: Entropy::default(),
        issuers: Issuers::Clouds { endpoints: args.token_endpoints.into_iter().collect() },
        registries: Registries::Real {
            endpoints: args.registry_endpoints.into_iter().collect(),
            allowed_realms: args.allowed_realms,
        },
    }
}

fn own_namespace() -> String {
    let text = std::fs::read_to_string(POD_NAMESPACE_FILE).unwrap_or_default();
    let name = text.trim();
    if name.is_empty() { DEFAULT_NAMESPACE } else { name }.to_owned()
}

/// The Pod's name, which is its host name, and a number, for replicas outside a cluster that share
/// a host.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "regcred".to_owned());
    format!("{host}_{}", std::process::id())
}

async fn stop_on_signal(stage: Stage) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return tracing::warn!("signals cannot be caught; the operator ends without giving its lease back");
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: writes in flight end, nothing new begins");
    stage.stopping.cancel();
}
