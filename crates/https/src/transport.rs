//! Sends one request and reads its answer: no redirect is followed, no more than 64 KiB are read, and the whole takes no
//! longer than its limit.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::Environment;
use crate::failure::Failure;
use crate::network::Network;
use crate::route::{BoxError, Dialer, Reach, Route};

/// How long an answer may take, its body included.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The longest body that is read.
pub const BODY_LIMIT: usize = 64 * 1024;
/// Who asks to wait longer is asked again after this time.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

type Body = Full<Bytes>;
type Routed = Client<HttpsConnector<Route>, Body>;

/// An answer, whatever its status.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, which is overwritten when it is dropped.
    pub body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// How long `Retry-After` asks to wait: seconds, or a date, which counts from the answer's own time, else from
    /// `now`. Zero where it says nothing, and an hour at most.
    pub fn retry_after(&self, now: Option<Timestamp>) -> Duration {
        let Some(value) = self.headers.get(RETRY_AFTER) else { return Duration::ZERO };
        let now = self.headers.get(DATE).and_then(http_date).or(now);
        let seconds = value.to_str().ok().and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let until = || Duration::try_from(http_date(value)?.duration_since(now?)).ok();
        seconds.or_else(until).unwrap_or_default().min(LONGEST_WAIT)
    }
}

/// The time of a header such as `Date`.
pub fn http_date(value: &HeaderValue) -> Option<Timestamp> {
    let date = jiff::fmt::rfc2822::parse(value.to_str().ok()?).ok()?;
    Some(date.timestamp())
}

/// Sends requests to addresses within its reach. Keeps no connection: there are hours between two requests.
pub struct Transport {
    shared: Arc<Shared>,
    reach: Reach,
    client: OnceLock<Result<Routed, rustls::Error>>,
}

/// What the environment says of the way, and who vouches for hosts.
struct Shared {
    network: Arc<dyn Network>,
    proxies: Arc<Matcher>,
    authorities: Authorities,
    tls: OnceLock<Result<ClientConfig, rustls::Error>>,
}

impl Transport {
    /// To any address, over a network, with the proxies and authorities that the environment names.
    pub fn new(environment: &Environment, network: Arc<dyn Network>) -> Self {
        let path = |name| environment(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let shared = Shared {
            network,
            proxies: Arc::new(proxies(environment)),
            authorities: Authorities { file: path("SSL_CERT_FILE"), folder: path("SSL_CERT_DIR") },
            tls: OnceLock::new(),
        };
        Self { shared: Arc::new(shared), reach: |_| true, client: OnceLock::new() }
    }

    /// The same to fewer addresses.
    #[must_use]
    pub fn reaching(&self, reach: Reach) -> Self {
        Self { shared: self.shared.clone(), reach, client: OnceLock::new() }
    }

    /// Sends a request. Every answer is one, whatever its status.
    pub async fn send(&self, request: Request<Body>, limit: Duration) -> Result<Reply, Failure> {
        let exchanged = timeout(limit, self.exchange(request)).await;
        exchanged.map_err(|_| Failure::Late(limit))?.map_err(|error| Failure::of(&*error))
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Reply, BoxError> {
        let client = self.client.get_or_init(|| self.connect()).clone()?;
        let (head, body) = client.request(request).await?.into_parts();
        let mut body = Limited::new(body, BODY_LIMIT);
        // Room for the longest, so that no copy is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_LIMIT));
        while let Some(frame) = body.frame().await {
            bytes.extend_from_slice(&frame?.into_data().unwrap_or_default());
        }
        Ok(Reply { status: head.status, headers: head.headers, body: bytes })
    }

    fn connect(&self) -> Result<Routed, rustls::Error> {
        let tls = self.shared.tls.get_or_init(|| tls(&self.shared.authorities)).clone()?;
        let dialer = Dialer { network: self.shared.network.clone(), reach: self.reach };
        let route = Route { dialer, proxies: self.shared.proxies.clone() };
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        Ok(Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false)
            .http1_max_buf_size(BODY_LIMIT)
            .build(connector.wrap_connector(route)))
    }
}

fn proxies(environment: &Environment) -> Matcher {
    let variable =
        |name: &str| environment(&name.to_lowercase()).or_else(|| environment(name)).unwrap_or_default();
    Matcher::builder()
        .all(variable("ALL_PROXY"))
        .https(variable("HTTPS_PROXY"))
        .no(variable("NO_PROXY"))
        .build()
}

fn tls(authorities: &Authorities) -> Result<ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(authorities.load());
    Ok(ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Whose certificates are believed: those of the environment's file and folder, else those of the image.
struct Authorities {
    file: Option<PathBuf>,
    folder: Option<PathBuf>,
}

impl Authorities {
    fn load(&self) -> Vec<CertificateDer<'static>> {
        let found = match (self.file.as_deref(), self.folder.as_deref()) {
            (None, None) => rustls_native_certs::load_native_certs(),
            (file, folder) => rustls_native_certs::load_certs_from_paths(file, folder),
        };
        found.certs
    }
}
