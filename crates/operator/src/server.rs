//! /healthz, /readyz and /metrics. Whoever reaches the port may open connections, so there is a bound on how many
//! there are, how long one lives and how long it may take to ask.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use regcred_controller::{Pulse, Stage};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// With a bookmark a minute on each watch, silence for so long means that the process is stuck.
const WEDGED: Duration = Duration::from_mins(2);

/// Connections at once. Probes and scrapes need a few; each takes some ten kilobytes.
const MAX_CONNECTIONS: usize = 128;
/// How long a connection may take until a whole request is read, or may rest between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection lives, whatever trickles in or out.
const LONGEST_CONNECTION: Duration = Duration::from_secs(30);
/// The pause after a connection could not be accepted, as where no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) pulse: Pulse,
    pub(crate) stage: Stage,
    pub(crate) registry: Arc<Registry>,
}

/// The pages by path.
pub(crate) fn router(pages: Pages) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(pages)
}

/// Serves the pages for ever. Where there are too many connections the oldest ends, so that a probe is answered however
/// many others wait for nothing.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let mut connections: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if connections.len() >= MAX_CONNECTIONS {
            connections.retain(|connection| !connection.is_finished());
        }
        if connections.len() >= MAX_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        connections.push_back(tokio::spawn(answer(stream, router.clone())));
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Whoever is at the other end knows that it did not get an answer.
    let _ended = tokio::time::timeout(LONGEST_CONNECTION, connection).await;
}

async fn healthz(State(pages): State<Pages>) -> (StatusCode, String) {
    let silence = pages.pulse.silence();
    if silence < WEDGED {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        let text = format!("no watch received anything for {} s\n", silence.as_secs());
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

async fn readyz(State(pages): State<Pages>) -> (StatusCode, String) {
    match pages.stage.obstacle() {
        None => (StatusCode::OK, format!("ok\ncaged: {}\n", pages.stage.cage.borrow().as_str())),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &pages.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
