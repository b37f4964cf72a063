//! The one HTTP client of the sources. It follows no redirect, reads at most 64 KiB, waits for 10 seconds, and repeats
//! nothing of an answer but the issuer's own word for a refusal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderName, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};
use regcred_dockerconfig::SecretBytes;
use regcred_https::{ANSWER_LIMIT, Failure, Reply, System, Transport, http_date, place, secret_value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::clouds::{Clock, CloudSettings};
use crate::expiry::End;
use crate::refusal;
use crate::sigv4::{self, Keys, Scope};
use crate::token::MintError;

/// How long an answer of a metadata server may take, which is on the node or nowhere.
const METADATA_LIMIT: Duration = Duration::from_secs(5);

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
    part: Option<&'static str>,
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
            part: None,
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

    pub(crate) fn bearer(mut self, token: &SecretBytes) -> Option<Self> {
        self.headers.insert(AUTHORIZATION, regcred_https::bearer(token)?);
        Some(self)
    }

    pub(crate) fn basic(mut self, user: &str, password: &SecretBytes) -> Option<Self> {
        self.headers.insert(AUTHORIZATION, regcred_https::basic(user.as_bytes(), password)?);
        Some(self)
    }

    /// A form, as HTML describes it.
    pub(crate) fn form(mut self, fields: &[(&str, &[u8])]) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.body = regcred_https::form(fields);
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = regcred_https::json(body);
        self
    }

    /// A body of a type that the caller names in a header.
    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = Zeroizing::new(body.to_vec());
        self
    }

    /// To a host whose name holds this part of the server in the spec, as in `region`: who mistypes it gets a host that does
    /// not exist.
    pub(crate) fn named_by(mut self, part: Option<&'static str>) -> Self {
        self.part = part;
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
    clock: Clock,
    transport: Transport,
}

impl Http {
    pub(crate) fn new(settings: &CloudSettings) -> Self {
        Self {
            endpoints: settings.endpoints.clone(),
            clock: settings.clock.clone(),
            transport: Transport::new(&settings.environment, Arc::new(System)),
        }
    }

    /// Sends a request. An answer other than success is an error.
    pub(crate) async fn send(&self, call: Call<'_>, asker: Asker<'_>) -> Result<Answer, MintError> {
        let (host, limit) = (call.host.clone(), if call.plain { METADATA_LIMIT } else { ANSWER_LIMIT });
        let part = call.part;
        let unavailable = |failure: Failure| MintError::Unavailable {
            host: host.clone(),
            what: told(failure, part),
            retry_after: Duration::ZERO,
        };
        let request = self.request(call).ok_or_else(|| unavailable(Failure::NoAddress))?;
        let reply = self.transport.send(request, limit).await.map_err(unavailable)?;
        let now = (self.clock)();
        if !reply.status.is_success() {
            return Err(refused(host, &reply, now, asker));
        }
        Ok(Answer { host, headers: reply.headers, body: reply.body, now })
    }

    fn request(&self, call: Call<'_>) -> Option<Request<Full<Bytes>>> {
        let uri = self.uri(&call)?;
        let mut headers = call.headers;
        headers.insert(HOST, HeaderValue::from_str(uri.authority()?.as_str()).ok()?);
        if let Some((keys, scope)) = call.signer {
            let parts = (&call.method, &uri, &**call.body);
            sigv4::sign(parts, &mut headers, (keys, scope), (self.clock)())?;
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(regcred_https::USER_AGENT));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json, */*;q=0.1"));
        let mut request = Request::new(Full::new(Bytes::from_owner(call.body)));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (call.method, uri, headers);
        Some(request)
    }

    fn uri(&self, call: &Call<'_>) -> Option<Uri> {
        let scheme = if call.plain { Scheme::HTTP } else { Scheme::HTTPS };
        place(&self.endpoints, &scheme, &call.host, &call.path)
    }
}

/// What is wrong with a host that gave no answer, and what in the spec may be.
fn told(failure: Failure, part: Option<&str>) -> String {
    match part {
        Some(part) if failure == Failure::Unresolved => {
            format!("{failure}; does the {part} exist? check the server")
        }
        _ => failure.to_string(),
    }
}

/// The error of an answer other than success.
fn refused(host: String, reply: &Reply, now: Timestamp, asker: Asker<'_>) -> MintError {
    let (status, retry_after) = (reply.status, reply.retry_after(Some(now)));
    let code = refusal::word(&reply.headers, &reply.body);
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
