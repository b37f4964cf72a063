//! Stands between an operator and the API server and breaks things on purpose: refuses, delays or swallows
//! requests, drops replies, cuts watches or lets them fall silent, and halts everything at the n-th write, so
//! that a test can kill the operator exactly there.
//!
//! It speaks HTTP/1.1 over TLS, with a certificate of the control plane's authority, and opens one upstream
//! connection per request, so no state of one request reaches the next. It runs in a runtime of its own:
//! dropping it closes every connection, whatever the test's runtime does.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    client, server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
    time::{Interval, MissedTickBehavior, interval, sleep},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    control_plane::ControlPlane,
    error::{Context as _, Error, Result},
    pki::Pair,
};

type AnyError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, AnyError>;
type Rule = Box<dyn FnMut(&Seen) -> Action + Send>;

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Passed on, and so is the reply.
    Forward,
    /// Passed on after a while.
    Delay(Duration),
    /// Passed on; the reply comes back one byte per interval.
    Trickle(Duration),
    /// Answered with this status and body; the API server never sees it.
    Refuse(StatusCode, String),
    /// The connection is closed; the API server never sees the request.
    Drop,
    /// Passed on; the connection is closed instead of replying.
    ForwardThenDrop,
    /// No answer, ever; the API server never sees the request.
    Hang,
    /// Passed on; the reply never comes.
    ForwardThenHang,
}

/// Which side of the n-th write the operator is halted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The API server does not see that write.
    Before,
    /// The API server has answered that write; the operator does not learn of it.
    After,
}

/// A request that reached the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The HTTP method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The query; often empty.
    pub query: String,
    /// Which write this is, from 1 on. Leases and events do not count: their number depends on time.
    pub write: Option<usize>,
}

impl Seen {
    /// Is this a watch?
    pub fn is_watch(&self) -> bool {
        self.query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"))
    }
}

/// The proxy; dropping it closes all its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    upstream: SocketAddr,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    rule: Mutex<Rule>,
    log: Mutex<Vec<Seen>>,
    watches: watch::Sender<Watches>,
    halted: watch::Sender<bool>,
}

/// What all watches are subject to.
#[derive(Debug, Clone, Copy, Default)]
struct Watches {
    /// Watches begun before this many cuts are closed.
    cuts: usize,
    silent: bool,
    refused: bool,
}

impl Proxy {
    /// Starts a proxy that passes everything on.
    pub fn start(control_plane: &ControlPlane) -> Result<Self> {
        crate::install_crypto_provider();
        let shared = Arc::new(Shared::new(control_plane)?);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("make the proxy's runtime")?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind the proxy")?;
        let address = listener.local_addr().context("the proxy's address")?;
        listener.set_nonblocking(true).context("the proxy's socket")?;
        runtime.spawn(serve(shared.clone(), listener));
        Ok(Self { address, shared, runtime: Some(runtime) })
    }

    /// Where operators find the proxy.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Decides about every request from now on, in the order of their arrival. The rule may kill an operator, but
    /// must not call this proxy.
    pub fn set_rule(&self, rule: impl FnMut(&Seen) -> Action + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// Passes everything on again.
    pub fn clear_rule(&self) {
        self.set_rule(|_| Action::Forward);
    }

    /// Answers as an API server does that knows no streaming lists, so that whoever asks for one lists in pages.
    pub fn refuse_streaming_lists(&self) {
        let message = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        let status = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422, "message": message,
        });
        self.set_rule(move |seen| {
            if seen.query.contains("sendInitialEvents=true") {
                Action::Refuse(StatusCode::UNPROCESSABLE_ENTITY, status.to_string())
            } else {
                Action::Forward
            }
        });
    }

    /// Lets `number - 1` writes from now on pass and halts at the next, so that an operator can be killed there:
    /// no later write passes, and [`Self::halted`] returns. Writes count anew from here.
    pub fn halt_at_write(&self, number: usize, moment: Moment) {
        self.shared.halted.send_replace(false);
        let shared = Arc::downgrade(&self.shared);
        let mut writes = 0;
        self.set_rule(move |seen| {
            writes += usize::from(seen.write.is_some());
            let last = match moment {
                Moment::Before => Action::Hang,
                Moment::After => Action::ForwardThenHang,
            };
            match (seen.write, writes.cmp(&number)) {
                (None, _) | (_, std::cmp::Ordering::Less) => Action::Forward,
                (_, std::cmp::Ordering::Greater) => Action::Hang,
                (_, std::cmp::Ordering::Equal) => {
                    if let (Moment::Before, Some(shared)) = (moment, shared.upgrade()) {
                        shared.halted.send_replace(true);
                    }
                    last
                }
            }
        });
    }

    /// Returns when the write of [`Self::halt_at_write`] has come, and been answered if that was asked for.
    pub async fn halted(&self) {
        let mut halted = self.shared.halted.subscribe();
        halted.wait_for(|it| *it).await.expect("the sender lives as long as we do");
    }

    /// True once the write of [`Self::halt_at_write`] has come.
    pub fn is_halted(&self) -> bool {
        *self.shared.halted.borrow()
    }

    /// Closes all watches at once, mid-stream.
    pub fn cut_watches(&self) {
        self.shared.watches.send_modify(|watches| watches.cuts += 1);
    }

    /// Closes the connection of every new watch before an answer.
    pub fn refuse_watches(&self) {
        self.shared.watches.send_modify(|watches| watches.refused = true);
    }

    /// Keeps watches open, old and new, and passes no byte of them on.
    pub fn silence_watches(&self) {
        self.shared.watches.send_modify(|watches| watches.silent = true);
    }

    /// Ends [`Self::refuse_watches`] and [`Self::silence_watches`]; what was held back is passed on.
    pub fn allow_watches(&self) {
        self.shared.watches.send_modify(|watches| (watches.silent, watches.refused) = (false, false));
    }

    /// All requests so far.
    pub fn log(&self) -> Vec<Seen> {
        self.shared.log.lock().unwrap().clone()
    }

    /// The number of writes so far, without leases and events.
    pub fn writes(&self) -> usize {
        self.shared.log.lock().unwrap().iter().filter(|seen| seen.write.is_some()).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // An ordinary drop would block, which a runtime forbids on its own threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn new(control_plane: &ControlPlane) -> Result<Self> {
        let pair = control_plane.authority().server(&["127.0.0.1", "localhost"])?;
        Ok(Self {
            upstream: control_plane.api_address(),
            acceptor: acceptor(&pair)?,
            connector: connector(control_plane.ca_pem())?,
            rule: Mutex::new(Box::new(|_| Action::Forward)),
            log: Mutex::default(),
            watches: watch::Sender::default(),
            halted: watch::Sender::default(),
        })
    }

    fn record(&self, request: &Request<Incoming>) -> Seen {
        let uri = request.uri();
        let mut log = self.log.lock().unwrap();
        let writes = log.iter().rev().find_map(|seen| seen.write).unwrap_or_default();
        let seen = Seen {
            method: request.method().clone(),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            write: is_counted_write(request.method(), uri.path()).then_some(writes + 1),
        };
        log.push(seen.clone());
        seen
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, AnyError> {
        let seen = self.record(&request);
        let watches = *self.watches.borrow();
        if seen.is_watch() && watches.refused {
            return Err("watches are refused".into());
        }
        let action = (self.rule.lock().unwrap())(&seen);
        match action {
            Action::Forward => self.pass_on(request, &seen, watches).await,
            Action::Delay(delay) => {
                sleep(delay).await;
                self.pass_on(request, &seen, watches).await
            }
            Action::Trickle(period) => Ok(self.forward(request).await?.map(|body| trickle(body, period))),
            Action::Refuse(status, body) => Ok(reply(status, body)),
            Action::Drop => Err("dropped before it was forwarded".into()),
            Action::ForwardThenDrop => {
                self.forward_whole(request).await?;
                Err("dropped instead of a reply".into())
            }
            Action::Hang => std::future::pending().await,
            Action::ForwardThenHang => {
                self.forward_whole(request).await?;
                self.halted.send_replace(true);
                std::future::pending().await
            }
        }
    }

    async fn pass_on(
        &self,
        request: Request<Incoming>,
        seen: &Seen,
        watches: Watches,
    ) -> Result<Response<Body>, AnyError> {
        let response = self.forward(request).await?;
        if seen.is_watch() {
            return Ok(response.map(|body| watched(body, self.watches.subscribe(), watches.cuts)));
        }
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }

    /// Returns once the API server's answer is complete.
    async fn forward_whole(&self, request: Request<Incoming>) -> Result<(), AnyError> {
        self.forward(request).await?.into_body().collect().await?;
        Ok(())
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Incoming>, AnyError> {
        let stream = TcpStream::connect(self.upstream).await?;
        let stream = self.connector.connect(ServerName::from(self.upstream.ip()), stream).await?;
        let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the response body; its errors appear there.
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    }
}

async fn serve(shared: Arc<Shared>, listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("the socket is non-blocking");
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_connection(shared.clone(), stream));
    }
}

/// Errors end the connection, which is all that a peer can see of them.
async fn serve_connection(shared: Arc<Shared>, stream: TcpStream) {
    let Ok(stream) = shared.acceptor.accept(stream).await else { return };
    let service = service_fn(move |request| shared.clone().answer(request));
    let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn is_counted_write(method: &Method, path: &str) -> bool {
    let mut parts = path.split('/');
    let timed = parts.any(|part| matches!(part, "leases" | "events"));
    !timed && matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE)
}

fn reply(status: StatusCode, body: String) -> Response<Body> {
    let body = Full::from(body).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

/// The body of a watch, which ends when watches are cut and sends nothing while they are silent.
fn watched(body: Incoming, watches: watch::Receiver<Watches>, cuts_before: usize) -> Body {
    let frames = stream::unfold((body, watches), move |(mut body, mut watches)| async move {
        let frame = next_frame(&mut body, &mut watches, cuts_before).await?;
        Some((frame, (body, watches)))
    });
    boxed(frames)
}

async fn next_frame(
    body: &mut Incoming,
    watches: &mut watch::Receiver<Watches>,
    cuts_before: usize,
) -> Option<Result<Frame<Bytes>, AnyError>> {
    loop {
        let now = *watches.borrow_and_update();
        if now.cuts > cuts_before {
            return Some(Err("watches are cut".into()));
        }
        tokio::select! {
            changed = watches.changed() => changed.ok()?,
            frame = body.frame(), if !now.silent => return frame.map(|frame| frame.map_err(Into::into)),
        }
    }
}

/// The body, one byte per period.
fn trickle(body: Incoming, period: Duration) -> Body {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let bytes = body.into_data_stream().flat_map(|chunk| match chunk {
        Ok(chunk) => stream::iter((0..chunk.len()).map(|at| Ok(chunk.slice(at..=at))).collect::<Vec<_>>()),
        Err(error) => stream::iter(vec![Err(AnyError::from(error))]),
    });
    boxed(stream::unfold((Box::pin(bytes), ticks), next_byte))
}

async fn next_byte<S: Stream<Item = Result<Bytes, AnyError>> + Unpin>(
    (mut bytes, mut ticks): (S, Interval),
) -> Option<(Result<Frame<Bytes>, AnyError>, (S, Interval))> {
    ticks.tick().await;
    let byte = bytes.next().await?;
    Some((byte.map(Frame::data), (bytes, ticks)))
}

fn boxed(frames: impl Stream<Item = Result<Frame<Bytes>, AnyError>> + Send + 'static) -> Body {
    StreamBody::new(frames).boxed_unsync()
}

pub(crate) fn acceptor(pair: &Pair) -> Result<TlsAcceptor> {
    let certificate = pem(CertificateDer::from_pem_slice(pair.certificate.as_bytes()))?;
    let key = pem(PrivateKeyDer::from_pem_slice(pair.key.as_bytes()))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn connector(ca: &str) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(pem(CertificateDer::from_pem_slice(ca.as_bytes()))?)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn pem<T>(parsed: Result<T, rustls::pki_types::pem::Error>) -> Result<T> {
    parsed.map_err(|error| Error::Unexpected(format!("our own PEM: {error}")))
}
