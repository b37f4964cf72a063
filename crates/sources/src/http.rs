//! The one HTTP client of the sources. It follows no redirect, reads at most 64 KiB, waits for 10 seconds, and repeats
//! nothing of an answer but the issuer's own word for a refusal.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderName, RETRY_AFTER, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use regcred_dockerconfig::SecretBytes;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tower::Service;
use zeroize::Zeroizing;

use crate::clouds::{Clock, CloudSettings};
use crate::expiry::End;
use crate::refusal;
use crate::sigv4::{self, Keys, Scope, secret_value};
use crate::token::MintError;

/// How long an answer may take, its body included.
const LIMIT: Duration = Duration::from_secs(10);
/// The same for a metadata server, which is on the node or nowhere.
const METADATA_LIMIT: Duration = Duration::from_secs(5);
const BODY_LIMIT: usize = 64 * 1024;
/// An issuer that asks to wait longer is asked again after this time.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
const NAME: &str = concat!("regcred/", env!("CARGO_PKG_VERSION"));

type Routed = Client<HttpsConnector<Route>, Full<Bytes>>;
type BoxError = Box<dyn Error + Send + Sync>;

/// For whom a request is made, and what to do where it is refused.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub identity: &'a str,
    pub advice: &'static str,
}

/// A request that is not sent yet.
pub(crate) struct Call<'a> {
    host: String,
    plain: bool,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
    signer: Option<(&'a Keys, Scope<'a>)>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, host: &str, path: &str) -> Self {
        Self {
            host: host.to_owned(),
            plain: false,
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Zeroizing::default(),
            signer: None,
        }
    }

    /// To a metadata server, which speaks no TLS and is never behind a proxy.
    pub(crate) fn metadata(method: Method, host: &str, path: &str) -> Self {
        Self { plain: true, ..Self::new(method, host, path) }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// A header with a secret value; `None` if it fits into none.
    pub(crate) fn secret_header(mut self, name: HeaderName, value: &[u8]) -> Option<Self> {
        self.headers.insert(name, secret_value(value)?);
        Some(self)
    }

    pub(crate) fn bearer(self, token: &SecretBytes) -> Option<Self> {
        self.secret_header(AUTHORIZATION, &Zeroizing::new([b"Bearer ", token.expose()].concat()))
    }

    pub(crate) fn basic(self, user: &str, password: &SecretBytes) -> Option<Self> {
        let pair = Zeroizing::new([user.as_bytes(), b":", password.expose()].concat());
        let encoded = Zeroizing::new(STANDARD.encode(&*pair));
        self.secret_header(AUTHORIZATION, &Zeroizing::new([b"Basic ", encoded.as_bytes()].concat()))
    }

    /// A form, as HTML describes it.
    pub(crate) fn form(mut self, fields: &[(&str, &[u8])]) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.body = form(fields);
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = json(body);
        self
    }

    /// A body of a type that the caller names in a header.
    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = Zeroizing::new(body.to_vec());
        self
    }

    /// Signed by keys of AWS as it is sent.
    pub(crate) fn signed(mut self, keys: &'a Keys, scope: Scope<'a>) -> Self {
        self.signer = Some((keys, scope));
        self
    }
}

/// A good answer.
pub(crate) struct Answer {
    pub host: String,
    pub headers: HeaderMap,
    pub body: Zeroizing<Vec<u8>>,
    /// When it came, by our clock.
    now: Timestamp,
}

impl Answer {
    /// The body, where it is JSON of this form.
    pub(crate) fn json<T: DeserializeOwned>(&self, holds: &'static str) -> Result<T, MintError> {
        serde_json::from_slice(&self.body).map_err(|_| self.without(holds))
    }

    /// The error of an answer that lacks something.
    pub(crate) fn without(&self, missing: &'static str) -> MintError {
        MintError::Unreadable { host: self.host.clone(), missing }
    }

    /// When a token of this answer expires; an error if it has.
    pub(crate) fn expiry(&self, end: End, usual: SignedDuration) -> Result<Timestamp, MintError> {
        let issued = self.headers.get(DATE).and_then(http_date);
        end.by_our_clock(self.now, issued, usual).ok_or_else(|| self.without("a token that is still good"))
    }
}

/// The client.
pub(crate) struct Http {
    endpoints: BTreeMap<String, Uri>,
    proxies: Arc<Matcher>,
    authorities: Authorities,
    clock: Clock,
    client: OnceLock<Result<Routed, rustls::Error>>,
}

impl Http {
    pub(crate) fn new(settings: &CloudSettings) -> Self {
        let variable = |name: &str| {
            let lower = (settings.environment)(&name.to_lowercase());
            lower.or_else(|| (settings.environment)(name)).unwrap_or_default()
        };
        let proxies = Matcher::builder()
            .all(variable("ALL_PROXY"))
            .https(variable("HTTPS_PROXY"))
            .no(variable("NO_PROXY"))
            .build();
        let path = |name| (settings.environment)(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self {
            endpoints: settings.endpoints.clone(),
            proxies: Arc::new(proxies),
            authorities: Authorities { file: path("SSL_CERT_FILE"), folder: path("SSL_CERT_DIR") },
            clock: settings.clock.clone(),
            client: OnceLock::new(),
        }
    }

    /// Sends a request. An answer other than success is an error.
    pub(crate) async fn send(&self, call: Call<'_>, asker: Asker<'_>) -> Result<Answer, MintError> {
        let (host, limit) = (call.host.clone(), if call.plain { METADATA_LIMIT } else { LIMIT });
        let unavailable =
            |what: String| MintError::Unavailable { host: host.clone(), what, retry_after: Duration::ZERO };
        let request =
            self.request(call).ok_or_else(|| unavailable("cannot be asked: its address is none".into()))?;
        let exchanged = timeout(limit, self.exchange(request)).await;
        let (status, headers, body) = exchanged
            .map_err(|_| unavailable(format!("does not answer in {} s", limit.as_secs())))?
            .map_err(|error| unavailable(describe(&*error).to_owned()))?;
        let answer = Answer { host: host.clone(), headers, body, now: (self.clock)() };
        if status.is_success() { Ok(answer) } else { Err(refused(status, answer, asker)) }
    }

    fn request(&self, call: Call<'_>) -> Option<Request<Full<Bytes>>> {
        let uri = self.uri(&call)?;
        let mut headers = call.headers;
        headers.insert(HOST, HeaderValue::from_str(uri.authority()?.as_str()).ok()?);
        if let Some((keys, scope)) = call.signer {
            let parts = (&call.method, &uri, &**call.body);
            sigv4::sign(parts, &mut headers, (keys, scope), (self.clock)())?;
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(NAME));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json, */*;q=0.1"));
        let mut request = Request::new(Full::new(Bytes::from_owner(call.body)));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (call.method, uri, headers);
        Some(request)
    }

    /// Where a request goes: to its host, or to the address that the operator was given for it.
    fn uri(&self, call: &Call<'_>) -> Option<Uri> {
        let (scheme, authority, base) = match self.endpoints.get(&call.host) {
            Some(base) => {
                (base.scheme()?.clone(), base.authority()?.clone(), base.path().trim_end_matches('/'))
            }
            None if call.plain => (Scheme::HTTP, call.host.parse().ok()?, ""),
            None => (Scheme::HTTPS, call.host.parse().ok()?, ""),
        };
        if authority.as_str().contains('@') {
            return None;
        }
        let path = PathAndQuery::try_from(format!("{base}{}", call.path)).ok()?;
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, HeaderMap, Zeroizing<Vec<u8>>), BoxError> {
        let client = self.client.get_or_init(|| client(self.proxies.clone(), &self.authorities)).clone()?;
        let (head, body) = client.request(request).await?.into_parts();
        let mut body = Limited::new(body, BODY_LIMIT);
        // Room for the longest, so that no copy is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_LIMIT));
        while let Some(frame) = body.frame().await {
            bytes.extend_from_slice(&frame?.into_data().unwrap_or_default());
        }
        Ok((head.status, head.headers, bytes))
    }
}

/// The error of an answer other than success.
fn refused(status: StatusCode, answer: Answer, asker: Asker<'_>) -> MintError {
    let retry_after = answer.headers.get(RETRY_AFTER).map_or(Duration::ZERO, |value| wait(value, &answer));
    let code = refusal::word(&answer.headers, &answer.body);
    let Answer { host, .. } = answer;
    let unavailable = |what| MintError::Unavailable { host: host.clone(), what, retry_after };
    if status == StatusCode::TOO_MANY_REQUESTS || code.as_deref().is_some_and(refusal::is_throttling) {
        return MintError::Throttled { host, retry_after };
    }
    if status.is_redirection() {
        return unavailable(format!("redirects elsewhere (HTTP {}), which is not followed", status.as_u16()));
    }
    if !status.is_client_error() || status == StatusCode::REQUEST_TIMEOUT {
        return unavailable(format!("cannot serve now (HTTP {})", status.as_u16()));
    }
    MintError::AccessDenied {
        host,
        identity: asker.identity.to_owned(),
        status: status.as_u16(),
        code,
        advice: asker.advice,
    }
}

/// How long `Retry-After` asks to wait: seconds, or a date.
fn wait(value: &HeaderValue, answer: &Answer) -> Duration {
    let now = answer.headers.get(DATE).and_then(http_date).unwrap_or(answer.now);
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let until = || Duration::try_from(http_date(value)?.duration_since(now)).ok();
    seconds.or_else(until).unwrap_or_default().min(LONGEST_WAIT)
}

fn http_date(value: &HeaderValue) -> Option<Timestamp> {
    let date = jiff::fmt::rfc2822::parse(value.to_str().ok()?).ok()?;
    Some(date.timestamp())
}

/// What went wrong on the way, without a word of the other side's.
fn describe(error: &(dyn Error + 'static)) -> &'static str {
    if caused_by::<LengthLimitError>(error) {
        return "answers with more than 64 KiB";
    }
    if caused_by::<rustls::Error>(error) {
        return "shows a certificate that no known authority signed, or speaks no TLS; \
                SSL_CERT_FILE names a file with authorities of your own";
    }
    if caused_by::<UnfitProxy>(error) {
        return "cannot be reached through the proxy of HTTPS_PROXY or ALL_PROXY: write it as http://HOST:PORT, \
                as no other kind is spoken";
    }
    "cannot be reached"
}

/// A proxy that is written as one of TLS or SOCKS. It would be asked without either, and get its password so.
#[derive(Debug, thiserror::Error)]
#[error("only proxies of http:// are spoken to")]
struct UnfitProxy;

fn caused_by<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<E>() || inner.is_some_and(|inner| caused_by::<E>(inner)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// A client without a pool: tokens are asked for every few hours.
fn client(proxies: Arc<Matcher>, authorities: &Authorities) -> Result<Routed, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(authorities.load());
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    Ok(Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .retry_canceled_requests(false)
        .build(connector.wrap_connector(Route { http, proxies })))
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

/// Connects to a host, through a proxy where the environment names one for it. What is not encrypted goes through none.
#[derive(Clone)]
struct Route {
    http: HttpConnector,
    proxies: Arc<Matcher>,
}

type Connected = <HttpConnector as Service<Uri>>::Response;

impl Service<Uri> for Route {
    type Response = Connected;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connected, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let Some(proxy) = secure.then(|| self.proxies.intercept(&uri)).flatten() else {
            let connecting = self.http.call(uri);
            return Box::pin(async { connecting.await.map_err(Into::into) });
        };
        if proxy.uri().scheme() != Some(&Scheme::HTTP) {
            return Box::pin(async { Err(UnfitProxy.into()) });
        }
        let tunnel = Tunnel::new(proxy.uri().clone(), self.http.clone());
        let mut tunnel = match proxy.basic_auth() {
            Some(login) => tunnel.with_auth(login.clone()),
            None => tunnel,
        };
        let connecting = tunnel.call(uri);
        Box::pin(async { connecting.await.map_err(Into::into) })
    }
}

/// JSON in bytes that never grow, so that no copy is left behind: it is measured first.
fn json(body: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut length = Length(0);
    let measured = serde_json::to_writer(&mut length, body);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    match measured.and_then(|()| serde_json::to_writer(&mut *bytes, body)) {
        Ok(()) => bytes,
        // What is sent has names and texts only, which can all be written.
        Err(_) => Zeroizing::default(),
    }
}

/// Counts what is written, and keeps nothing of it.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn form(fields: &[(&str, &[u8])]) -> Zeroizing<Vec<u8>> {
    // Room for the worst case, so that no copy is left behind by growing.
    let room = fields.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut form = Zeroizing::new(Vec::with_capacity(room));
    for (name, value) in fields {
        if !form.is_empty() {
            form.push(b'&');
        }
        escape(&mut form, name.as_bytes());
        form.push(b'=');
        escape(&mut form, value);
    }
    form
}

/// A value in a query or in a path.
pub(crate) fn escaped(text: &str) -> String {
    let mut bytes = Vec::new();
    escape(&mut bytes, text.as_bytes());
    String::from_utf8(bytes).unwrap_or_default()
}

fn escape(target: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            target.push(*byte);
        } else {
            target.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}
