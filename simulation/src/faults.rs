//! The network between the operator and the API server: delays, lost requests and answers, refusals, watches that
//! lag and break. Whatever varies is drawn from the thread's random numbers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Service};

use crate::guard;
use crate::server::{Answer, Refusal, Server, Watch, is_watch, line, refused, whole};
use crate::trace::Trace;

/// The API server sends a bookmark about once a minute (k8s.io/apiserver, storage/cacher).
const BOOKMARK: Duration = Duration::from_secs(58);
/// How long the operator's connector waits for a watch to say anything.
const SILENCE: Duration = Duration::from_secs(65);
/// The `timeoutSeconds` that kube asks for.
const WATCH_TIME: Duration = Duration::from_secs(290);

/// How likely each mishap is.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sky {
    /// That a request or an event takes its time.
    pub slow: f64,
    /// That a request is refused without being done.
    pub refused: f64,
    /// That an answer is lost, or the request.
    pub lost: f64,
    /// That a watch breaks before its time.
    pub breaks: f64,
    /// That the operator dies with a request.
    pub dies: f64,
}

/// The weather, which clears at the end.
#[derive(Clone, Debug)]
pub struct Weather(Arc<Mutex<Sky>>);

/// The way of one replica to the API server.
#[derive(Clone, Debug)]
pub struct Network {
    /// The other end.
    pub server: Server,
    /// What may go wrong.
    pub weather: Weather,
    /// Where it is told.
    pub trace: Trace,
    /// The replica.
    pub who: Arc<str>,
    /// Its name in the lease, if there is one.
    pub identity: Option<String>,
    /// Set while nothing of what the replica sends arrives.
    pub cut_off: Arc<AtomicBool>,
    /// Cancelled when the replica has died.
    pub dead: CancellationToken,
}

/// What happens to a request.
enum Mishap {
    None,
    Refused(Refusal),
    Lost { done: bool, hangs: bool },
    FailedAfter,
}

impl Sky {
    /// Whether anything may go wrong.
    pub fn is_foul(self) -> bool {
        self.slow + self.refused + self.lost + self.breaks + self.dies > 0.0
    }

    fn delay(self) -> Duration {
        let millis = if fastrand::f64() < self.slow {
            fastrand::u64(300..6_000)
        } else if fastrand::f64() < 0.3 {
            0
        } else if self.slow > 0.0 && fastrand::f64() < 0.2 {
            fastrand::u64(20..300)
        } else {
            fastrand::u64(1..20)
        };
        Duration::from_millis(millis)
    }

    fn mishap(self) -> Mishap {
        if fastrand::f64() < self.refused {
            return Mishap::Refused(refusal());
        }
        if fastrand::f64() < self.lost {
            return match fastrand::u8(0..3) {
                0 => Mishap::FailedAfter,
                _ => Mishap::Lost { done: fastrand::bool(), hangs: fastrand::u8(0..4) == 0 },
            };
        }
        Mishap::None
    }
}

fn refusal() -> Refusal {
    match fastrand::u8(0..5) {
        0 => Refusal {
            details: json!({"retryAfterSeconds": fastrand::u32(0..5)}),
            ..Refusal::new(429, "TooManyRequests", "too many requests")
        },
        1 => Refusal::new(500, "InternalError", "etcdserver: leader changed"),
        2 => Refusal::new(503, "ServiceUnavailable", "the server is currently unable to handle the request"),
        3 => Refusal::new(504, "Timeout", "request did not complete within the allotted timeout"),
        _ => Refusal::new(409, "Conflict", "the object has been modified"),
    }
}

impl Weather {
    /// Weather that begins like this.
    pub fn new(sky: Sky) -> Self {
        Self(Arc::new(Mutex::new(sky)))
    }

    /// Another weather from now on.
    pub fn turn(&self, sky: Sky) {
        *self.0.lock() = sky;
    }

    /// Nothing goes wrong from now on.
    pub fn clear(&self) {
        *self.0.lock() = Sky::default();
    }

    fn sky(&self) -> Sky {
        *self.0.lock()
    }
}

impl Service<Request<Body>> for Network {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let network = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            network.exchange(Request::from_parts(head, body)).await
        })
    }
}

impl Network {
    async fn exchange(self, request: Request<Vec<u8>>) -> Result<Response<Answer>, BoxError> {
        let sky = self.weather.sky();
        guard::may_ask(&self.server, &self.trace, self.identity.as_deref(), &request);
        sleep(sky.delay()).await;
        self.while_alive().await;
        if self.cut_off.load(Ordering::Relaxed) {
            return self.lose(request, false, false).await;
        }
        if fastrand::f64() < sky.dies && fastrand::bool() {
            return self.die(&request, "before").await;
        }
        match sky.mishap() {
            Mishap::Refused(refusal) if refusal.code != 409 || *request.method() != Method::GET => {
                Ok(self.refuse(&request, &refusal))
            }
            Mishap::Lost { done, hangs } => self.lose(request, done, hangs).await,
            Mishap::FailedAfter => Ok(self.fail_after(&request)),
            Mishap::None | Mishap::Refused(_) if is_watch(&request) => Ok(self.open(&request)),
            Mishap::None | Mishap::Refused(_) => self.carry(request, sky).await,
        }
    }

    async fn carry(self, request: Request<Vec<u8>>, sky: Sky) -> Result<Response<Answer>, BoxError> {
        let response = self.perform(&request);
        if fastrand::f64() < sky.dies {
            return self.die(&request, "after").await;
        }
        sleep(sky.delay()).await;
        self.while_alive().await;
        if *request.method() != Method::GET {
            self.tell(&request, &format!("{} answered", response.status().as_u16()));
        }
        Ok(response.map(whole))
    }

    /// Does what the request asks for, and looks whether the operator may ask for it.
    fn perform(&self, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let response = guard::watched(&self.server, &self.trace, request);
        self.tell(request, &format!("{}{}", response.status().as_u16(), conditions(request)));
        response
    }

    async fn die(&self, request: &Request<Vec<u8>>, when: &str) -> Result<Response<Answer>, BoxError> {
        self.tell(request, &format!("the replica dies {when} it"));
        self.dead.cancel();
        std::future::pending().await
    }

    fn refuse(&self, request: &Request<Vec<u8>>, refusal: &Refusal) -> Response<Answer> {
        self.disturb(request, &format!("{} (not done)", refusal.code));
        refused(refusal)
    }

    fn fail_after(&self, request: &Request<Vec<u8>>) -> Response<Answer> {
        if !is_watch(request) {
            self.perform(request);
            self.disturb(request, "answered as 500");
        }
        refused(&Refusal::new(500, "InternalError", "context deadline exceeded"))
    }

    async fn lose(
        &self,
        request: Request<Vec<u8>>,
        done: bool,
        hangs: bool,
    ) -> Result<Response<Answer>, BoxError> {
        if done && !is_watch(&request) {
            self.perform(&request);
        }
        self.disturb(&request, "lost, or its answer");
        if hangs {
            // The operator's own deadline ends a write; its connector ends the rest.
            sleep(SILENCE).await;
            self.while_alive().await;
        }
        Err(io::Error::from(io::ErrorKind::ConnectionReset).into())
    }

    fn open(self, request: &Request<Vec<u8>>) -> Response<Answer> {
        match self.server.watch(request) {
            Ok(watch) => {
                self.tell(request, "opened");
                let line = Line::new(self, watch);
                let frames = stream::unfold(line, |mut line| async {
                    let told = line.next().await?;
                    Some((told.map(Frame::data), line))
                });
                Response::new(StreamBody::new(frames).boxed_unsync())
            }
            Err(refusal) => {
                self.tell(request, &refusal.code.to_string());
                refused(&refusal)
            }
        }
    }

    async fn while_alive(&self) {
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    fn disturb(&self, request: &Request<Vec<u8>>, what: &str) {
        let path = shown(request.uri().path());
        self.trace.disturbed(&self.who, &format!("{} {path} {what}", request.method()));
    }

    fn tell(&self, request: &Request<Vec<u8>>, outcome: &str) {
        let path = shown(request.uri().path());
        if path.contains("/leases") && outcome.starts_with("200") {
            return;
        }
        let method = if is_watch(request) { "WATCH" } else { request.method().as_str() };
        self.trace.note(&self.who, &format!("{method} {path}{} {outcome}", asked(request.uri())));
    }
}

/// What a status says, where one is written.
fn conditions(request: &Request<Vec<u8>>) -> String {
    if !request.uri().path().ends_with("/status") {
        return String::new();
    }
    let operations: serde_json::Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let conditions = operations[1]["value"]["conditions"].as_array().into_iter().flatten();
    let text = |condition: &serde_json::Value, member: &str| {
        condition[member].as_str().unwrap_or_default().to_owned()
    };
    let told = conditions.into_iter().flat_map(|condition| {
        [" ".to_owned(), text(condition, "type"), "=".to_owned(), text(condition, "reason")]
    });
    told.collect()
}

/// A path, less the time of the real clock in the name of an event.
fn shown(path: &str) -> &str {
    match path.rsplit_once("/events/") {
        Some((_, name)) => path.strip_suffix(name.rsplit('.').next().unwrap_or_default()).unwrap_or(path),
        None => path,
    }
}

/// What of a query tells one request from another. The manager of the fingerprint key is named at random.
fn asked(uri: &http::Uri) -> String {
    let parameters = uri.query().unwrap_or_default().split('&');
    let told = parameters.filter(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        matches!(name, "fieldSelector" | "resourceVersion" | "continue" | "force" | "sendInitialEvents")
    });
    told.flat_map(|parameter| [" ".to_owned(), parameter.replace("%3D", "=").replace("%2F", "/")]).collect()
}

/// One watch on its way to the operator.
struct Line {
    network: Network,
    watch: Watch,
    bookmark_at: Instant,
    ends_at: Instant,
    breaks_at: Option<Instant>,
    over: bool,
}

type Told = Result<Bytes, io::Error>;

impl Line {
    fn new(network: Network, watch: Watch) -> Self {
        let now = Instant::now();
        let breaks = fastrand::f64() < network.weather.sky().breaks;
        let breaks_at = breaks.then(|| now + Duration::from_millis(fastrand::u64(0..20_000)));
        Self {
            network,
            watch,
            bookmark_at: now + BOOKMARK,
            ends_at: now + WATCH_TIME,
            breaks_at,
            over: false,
        }
    }

    async fn next(&mut self) -> Option<Told> {
        if self.over {
            return None;
        }
        loop {
            self.network.while_alive().await;
            let server = self.network.server.clone();
            let changed = server.changed().notified();
            let event = self.watch.next(&server.store());
            if let Some(event) = event {
                return self.deliver(event).await;
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = sleep_until(self.bookmark_at) => return Some(Ok(self.bookmark())),
                () = sleep_until(self.breaks_at.unwrap_or(self.ends_at)) => return self.end().await,
            }
        }
    }

    async fn deliver(&mut self, event: crate::server::Event) -> Option<Told> {
        let at = (event.at + self.network.weather.sky().delay()).max(Instant::now());
        if let Some(breaks_at) = self.breaks_at.filter(|breaks_at| *breaks_at <= at) {
            sleep_until(breaks_at).await;
            return self.end().await;
        }
        sleep_until(at).await;
        self.network.while_alive().await;
        let metadata = &event.body["object"]["metadata"];
        let name = [&metadata["namespace"], &metadata["name"]]
            .map(|name| name.as_str().unwrap_or_default())
            .join("/");
        let kind = self.watch.kind().plural();
        let told = event.body["type"].as_str().unwrap_or_default();
        self.tell(&format!("{told} {kind} {name} at {}", event.revision));
        Some(Ok(line(&event.body)))
    }

    fn bookmark(&mut self) -> Bytes {
        self.bookmark_at = Instant::now() + BOOKMARK;
        line(&self.watch.bookmark())
    }

    async fn end(&mut self) -> Option<Told> {
        self.over = true;
        let kind = self.watch.kind().plural();
        self.breaks_at?;
        match fastrand::u8(0..4) {
            0 => None,
            1 => {
                // It told of nothing for a while before.
                sleep(Duration::from_millis(fastrand::u64(0..20_000))).await;
                self.network.while_alive().await;
                self.tell(&format!("410 on the watch of {kind}"));
                Some(Ok(line(&json!({"type": "ERROR", "object": Refusal::expired().status()}))))
            }
            2 => {
                self.tell(&format!("the watch of {kind} falls silent"));
                sleep(SILENCE).await;
                Some(Err(io::Error::from(io::ErrorKind::TimedOut)))
            }
            _ => {
                self.tell(&format!("the watch of {kind} breaks"));
                Some(Err(io::Error::from(io::ErrorKind::ConnectionReset)))
            }
        }
    }

    fn tell(&self, what: &str) {
        self.network.trace.note(&self.network.who, &format!("  <~ {what}"));
    }
}
