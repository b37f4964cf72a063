//! The limit of every comparison: sends the requests of a file, unchanged, over `--concurrency`
//! connections (HTTP/1.1) or streams of one connection (HTTP/2). It watches nothing and decides nothing.
//!
//! It ends with an error if any answer is not a success, because then it did less than it was measured for.

#![allow(clippy::print_stderr, reason = "the only place where this program can say why it failed")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Parser, ValueEnum};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use regcred_bench::least_writes::Call;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Sends the requests of a file, and nothing else.
#[derive(Parser)]
struct Arguments {
    /// Cluster and token, as JSON with everything inline
    #[arg(long)]
    kubeconfig: PathBuf,
    /// One request per line
    #[arg(long)]
    requests: PathBuf,
    /// Requests in flight
    #[arg(long)]
    concurrency: usize,
    /// How requests in flight travel
    #[arg(long, value_enum)]
    protocol: Protocol,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Protocol {
    /// A connection for each
    Http1,
    /// Streams of one connection
    Http2,
}

/// Where to send requests, and as whom.
struct Target {
    authority: String,
    token: String,
    tls: TlsConnector,
}

/// A connection on which a request can be sent.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare-writer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let calls = std::fs::read_to_string(&arguments.requests)?;
    let calls: Result<Vec<Call>, _> = calls.lines().map(serde_json::from_str).collect();
    let target = Target::read(&arguments.kubeconfig, arguments.protocol)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(send_all(target, calls?, arguments))
}

async fn send_all(target: Target, calls: Vec<Call>, arguments: &Arguments) -> Result<(), Error> {
    let shared = Arc::new((target, calls, AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    let mut common = None;
    for _ in 0..arguments.concurrency {
        let sender = match (arguments.protocol, &common) {
            (Protocol::Http2, Some(sender)) => Sender::Http2(http2::SendRequest::clone(sender)),
            _ => shared.0.connect(arguments.protocol).await?,
        };
        if let Sender::Http2(sender) = &sender {
            common = Some(sender.clone());
        }
        workers.spawn(work(shared.clone(), sender));
    }
    while let Some(outcome) = workers.join_next().await {
        outcome??;
    }
    Ok(())
}

async fn work(shared: Arc<(Target, Vec<Call>, AtomicUsize)>, mut sender: Sender) -> Result<(), Error> {
    let (target, calls, next) = &*shared;
    while let Some(call) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
        let answer = sender.send(target.request(call)?).await?;
        let status = answer.status();
        answer.into_body().collect().await?;
        if !status.is_success() {
            return Err(format!("{} {}: {status}", call.method, call.path).into());
        }
    }
    Ok(())
}

impl Target {
    fn read(kubeconfig: &Path, protocol: Protocol) -> Result<Self, Error> {
        let config: Value = serde_json::from_slice(&std::fs::read(kubeconfig)?)?;
        let cluster = &config["clusters"][0]["cluster"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let authority = STANDARD.decode(text(&cluster["certificate-authority-data"]))?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&authority)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
        if protocol == Protocol::Http2 {
            tls.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(Self {
            authority: text(&cluster["server"]).trim_start_matches("https://").to_owned(),
            token: text(&config["users"][0]["user"]["token"]),
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    async fn connect(&self, protocol: Protocol) -> Result<Sender, Error> {
        let io = TokioIo::new(self.dial().await?);
        // The connection's own task ends with an error only after a request on it has failed, which reports it.
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Ok(Sender::Http1(sender))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Ok(Sender::Http2(sender))
            }
        }
    }

    async fn dial(&self) -> Result<TlsStream<TcpStream>, Error> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let host = self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host);
        Ok(self.tls.connect(ServerName::try_from(host.to_owned())?, stream).await?)
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Error> {
        let body = call.body.as_ref().map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(call.method.as_str())
            .uri(format!("https://{}{}", self.authority, call.path))
            .header("host", &self.authority)
            .header("authorization", format!("Bearer {}", self.token))
            .header("accept", call.accept.as_deref().unwrap_or("application/json"))
            .header("content-type", call.content_type.as_deref().unwrap_or("application/json"));
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }
}

impl Sender {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}
