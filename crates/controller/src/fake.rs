//! For unit tests: a context whose API server is a function. What a real API server does is proven in
//! `tests/`; here a test says what it answers, under paused time.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio::time::Instant;

use futures::future::BoxFuture;
use regcred_dockerconfig::{Login, Server};
use regcred_planner::{Proof, Verdict};
use regcred_sources::{Mint, MintError, Token, TokenRequest};

use crate::client::{Clients, Pulse};
use crate::clock::Clock;
use crate::context::{Context, Issuers, Options, Registries, Stage};
use crate::entropy::Entropy;
use crate::metrics::Metrics;
use crate::verifier::Verifier;

/// A context whose API server answers `(method, path, body)` with a status and a body.
pub(crate) fn context<F>(identity: &str, answer: F) -> Arc<Context>
where
    F: Fn(&str, &str, Value) -> (u16, Value) + Clone + Send + Sync + 'static,
{
    let client = client(answer);
    let clients = Clients { watch: client.clone(), write: client, pulse: Pulse::new() };
    let options = Options {
        source_namespace: "regcred-system".to_owned(),
        target_names: Vec::new(),
        concurrency: 1,
        lease: true,
        identity: identity.to_owned(),
        verification_period: Duration::from_hours(24),
        clock: paused(),
        entropy: Entropy::default(),
        issuers: Issuers::Other(Arc::new(NoTokens)),
        registries: Registries::Other(Arc::new(NoRegistry)),
    };
    Context::new(clients, options, Metrics::default(), Stage::default())
}

/// What is logged meanwhile on this thread, without times and targets.
pub(crate) fn logged(work: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    text.lines().map(|line| line.trim_start().to_owned() + "\n").collect()
}

#[derive(Clone, Default)]
struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct NoRegistry;

impl Verifier for NoRegistry {
    fn verify<'a>(
        &'a self,
        _server: &'a Server,
        _login: &'a Login,
        _proof: &'a Proof,
    ) -> BoxFuture<'a, (Verdict, Duration)> {
        Box::pin(std::future::pending())
    }
}

struct NoTokens;

impl Mint for NoTokens {
    fn mint<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<Token, MintError>> {
        let host = request.issuer.to_string();
        Box::pin(async { Err(MintError::Throttled { host, retry_after: Duration::ZERO }) })
    }
}

fn client<F>(answer: F) -> Client
where
    F: Fn(&str, &str, Value) -> (u16, Value) + Clone + Send + Sync + 'static,
{
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (status, reply) = answer(head.method.as_str(), head.uri.path(), body);
            let reply = Body::from(reply.to_string().into_bytes());
            Ok::<_, tower::BoxError>(Response::builder().status(status).body(reply)?)
        }
    });
    Client::new(service, "default")
}

/// A clock that keeps pace with tokio's, which a test may have paused.
fn paused() -> Clock {
    let start = Instant::now();
    Clock::new(move || Timestamp::UNIX_EPOCH + start.elapsed())
}
