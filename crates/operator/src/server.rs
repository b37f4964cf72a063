//! /healthz, /readyz and /metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use regcred_controller::{Pulse, Stage};

/// With a bookmark a minute on each watch, silence for so long means that the process is stuck.
const WEDGED: Duration = Duration::from_mins(2);

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
        None => (StatusCode::OK, "ok\n".to_owned()),
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
