//! A registry that knows some users and passwords, shows its images to some of them, and counts who asked. It speaks HTTP on
//! loopback, and answers nobody where a test says so.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::error::{Context as _, Result};

/// The one repository that every known login may pull, with the tag `latest`.
pub const REPOSITORY: &str = "acme/app";
/// A repository that nobody may pull.
pub const HIDDEN: &str = "secret/app";

/// A running registry; dropping it ends it.
pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    known: Vec<String>,
    /// How often each pair of user and password was shown at the door.
    shown: BTreeMap<String, usize>,
    /// The status that everybody gets.
    broken: Option<u16>,
}

impl Registry {
    /// Starts one that knows these pairs of `user:password`.
    pub async fn start(known: &[&str]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen as a registry")?;
        let address = listener.local_addr().context("listen as a registry")?;
        let state = Arc::new(Mutex::new(State::default()));
        let task = tokio::spawn(serve(listener, state.clone()));
        let this = Self { address, state, task };
        this.know(known);
        Ok(this)
    }

    /// The operator's flag that sends what is meant for a host here.
    pub fn endpoint(&self, host: &str) -> String {
        format!("--registry-endpoint={host}=http://{}", self.address)
    }

    /// From now on it knows these, and no others.
    pub fn know(&self, known: &[&str]) {
        lock(&self.state).known = known.iter().map(|pair| (*pair).to_owned()).collect();
    }

    /// From now on everybody gets this status; `None`: it works again.
    pub fn break_down(&self, status: Option<u16>) {
        lock(&self.state).broken = status;
    }

    /// How often a pair was shown to learn whether it is known.
    pub fn shown(&self, pair: &str) -> usize {
        lock(&self.state).shown.get(pair).copied().unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut reply = Response::new(Empty::<Bytes>::new());
            *reply.status_mut() = answer(&request, &mut lock(&state));
            if reply.status() == StatusCode::UNAUTHORIZED {
                let challenge = header::HeaderValue::from_static("Basic realm=\"a registry\"");
                reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            async { Ok::<_, Infallible>(reply) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

fn answer(request: &Request<Incoming>, state: &mut State) -> StatusCode {
    if let Some(status) = state.broken {
        return StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let encoded = header.and_then(|text| text.strip_prefix("Basic "));
    let decoded = encoded.and_then(|text| STANDARD.decode(text).ok());
    let Some(pair) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return StatusCode::UNAUTHORIZED;
    };
    let path = request.uri().path();
    if path == "/v2/" {
        *state.shown.entry(pair.clone()).or_default() += 1;
    }
    if !state.known.contains(&pair) {
        return StatusCode::UNAUTHORIZED;
    }
    match path {
        "/v2/" => StatusCode::OK,
        _ if path == format!("/v2/{REPOSITORY}/manifests/latest") => StatusCode::OK,
        _ if path.starts_with(&format!("/v2/{HIDDEN}/")) => StatusCode::FORBIDDEN,
        _ => StatusCode::NOT_FOUND,
    }
}
