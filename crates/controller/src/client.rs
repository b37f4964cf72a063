//! The two clients of the operator. Watches and writes differ in how long silence is normal: a
//! watch gets a bookmark about every minute, a write an answer within seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use http_body_util::BodyExt;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{ClientBuilder, ConfigExt, DynBody};
use kube::{Client, Config};
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tower::{BoxError, ServiceBuilder};
use tower_http::map_response_body::MapResponseBodyLayer;

use crate::calls::DEADLINE;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::observed::Observe;

/// The API server sends a bookmark on each watch about once a minute
/// (k8s.io/apiserver, storage/cacher); a watch that is silent for longer is dead.
const WATCH_SILENCE: Duration = Duration::from_secs(65);
/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that this build is of, where whoever built it said so with `REGCRED_COMMIT`.
pub const COMMIT: &str = match option_env!("REGCRED_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection whose other end disappeared silently is given up within twice this: before a leader's lease is
/// lost, as the lease travels on it too.
const PING_INTERVAL: Duration = Duration::from_secs(3);

/// The clients.
#[derive(Clone)]
pub struct Clients {
    /// For watches.
    pub watch: Client,
    /// For everything else.
    pub write: Client,
    /// When a watch last received anything.
    pub pulse: Pulse,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

/// When a watch last received anything, bookmarks and refusals included.
#[derive(Clone, Debug)]
pub struct Pulse {
    started: Instant,
    last_beat: Arc<AtomicU64>,
}

impl Pulse {
    /// A pulse that beats now.
    pub fn new() -> Self {
        Self { started: Instant::now(), last_beat: Arc::new(AtomicU64::new(0)) }
    }

    /// How long ago a watch last received anything.
    pub fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last_beat.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }

    /// A watch received something, or was refused: the process is not stuck.
    pub(crate) fn beat(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_beat.store(now, Ordering::Relaxed);
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

impl Clients {
    /// Clients for this cluster, whose requests are counted.
    pub fn new(config: &Config, metrics: &Metrics) -> Result<Self, Error> {
        let pulse = Pulse::new();
        let mut config = config.clone();
        if let Ok(name) = HeaderValue::from_str(&user_agent()) {
            config.headers.push((USER_AGENT, name));
        }
        let observe = Observe::new(&config.cluster_url, metrics.requests.clone());
        let watch = watch_client(config.clone(), pulse.clone(), &observe)?;
        Ok(Self { watch, write: write_client(config, &observe)?, pulse })
    }
}

/// As audit logs show it, so that another program with the operator's token stands out.
fn user_agent() -> String {
    let (os, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    let architecture = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("regcred/{VERSION} ({os}/{architecture}) {COMMIT}")
}

fn watch_client(mut config: Config, pulse: Pulse, observe: &Observe) -> Result<Client, Error> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(WATCH_SILENCE);
    config.reset_reader_on_write = true;
    config.default_retry = false;
    let heard = MapResponseBodyLayer::new(move |body: Box<DynBody>| {
        let pulse = pulse.clone();
        body.map_frame(move |frame| {
            pulse.beat();
            frame
        })
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&heard).with_layer(observe).build())
}

/// Writes travel as streams of one HTTP/2 connection where the server speaks it: kube's own connector
/// speaks HTTP/1.1 only, and then each write in flight is a connection. There are no retries inside a
/// call: a namespace that has to wait gives its place to another.
fn write_client(mut config: Config, observe: &Observe) -> Result<Client, Error> {
    if config.proxy_url.is_some() {
        // kube knows which proxies it was built for, and says so.
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(DEADLINE);
        config.reset_reader_on_write = true;
        config.default_retry = false;
        return Ok(ClientBuilder::try_from(config)?.with_layer(observe).build());
    }
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let tls = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    let tls = match &config.tls_server_name {
        Some(name) => tls.with_server_name_resolver(FixedServerNameResolver::new(server_name(name)?)),
        None => tls,
    };
    let client = hyper_util::client::legacy::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_INTERVAL)
        .build(tls.enable_http1().enable_http2().wrap_connector(http));
    let service = ServiceBuilder::new()
        .layer(observe)
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace))
}

fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    let wrong = || Error::Config(format!("tls-server-name {name:?} is no name of a server"));
    ServerName::try_from(name.to_owned()).map_err(|_| wrong())
}
