//! Registries and token servers on loopback that answer what a test says, and a network in which names and addresses are
//! what a test says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]
#![allow(dead_code, reason = "each test program uses another part")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use regcred_dockerconfig::{Login, Server};
use regcred_https::{Network, Peer};
use regcred_registry::{Check, Environment, Image, Registries, Settings, Verdict};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What is checked. Neither may be seen in a verdict.
pub const USER: &str = "canary-user";
pub const PASSWORD: &str = "canary-PASSWORD_HUNTER";
/// `USER:PASSWORD` as a registry is shown it.
pub const BASIC: &str = "Basic Y2FuYXJ5LXVzZXI6Y2FuYXJ5LVBBU1NXT1JEX0hVTlRFUg==";
/// What token servers give.
pub const TOKEN: &str = "canary.TOKEN.one";

/// A request that a double got.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: HashMap<String, String>,
}

impl Asked {
    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let mut word = || first.next().unwrap_or_default().to_owned();
        let (method, path) = (word(), word());
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Self { method, path, headers }
    }

    pub fn authorization(&self) -> Option<&str> {
        self.headers.get("authorization").map(String::as_str)
    }

    pub fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }
}

/// What a double does with a request.
pub enum Answer {
    Bytes(Vec<u8>),
    /// Nothing, and the connection stays open.
    Silence,
    /// The head at once, and then a byte now and then for ever.
    Trickle(Vec<u8>),
}

/// An answer of this status, with headers and a body.
pub fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    Answer::Bytes((text + "\r\n" + body).into_bytes())
}

/// An answer without headers.
pub fn plain(status: u16, body: &str) -> Answer {
    answer(status, &[], body)
}

/// 401 with one challenge.
pub fn challenge(value: &str) -> Answer {
    answer(401, &[("WWW-Authenticate", value)], "")
}

/// 200 with a token.
pub fn token() -> Answer {
    plain(200, &format!(r#"{{"token":"{TOKEN}"}}"#))
}

type Handler = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

/// A server on loopback; dropping it ends it.
pub struct Double {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Double {
    /// Without TLS.
    pub async fn plain(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(Arc::new(handler), None).await
    }

    /// With a certificate.
    pub async fn tls(pair: &Pair, handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(Arc::new(handler), Some(pair.acceptor())).await
    }

    async fn start(handler: Handler, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<Mutex<usize>>::default());
        let (log, count) = (seen.clone(), connections.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                tokio::spawn(serve(stream, handler.clone(), tls.clone(), log.clone()));
            }
        });
        Self { address, seen, connections, task }
    }

    /// The address as an endpoint of the settings.
    pub fn endpoint(&self) -> http::Uri {
        format!("http://{}", self.address).parse().unwrap()
    }

    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, handler: Handler, tls: Option<TlsAcceptor>, log: Arc<Mutex<Vec<Asked>>>) {
    let mut stream: Box<dyn Peer> = match tls {
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => Box::new(stream),
            Err(_) => return,
        },
        None => Box::new(stream),
    };
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        text.push(byte);
    }
    let asked = Asked::parse(&String::from_utf8_lossy(&text));
    log.lock().unwrap().push(asked.clone());
    match handler(&asked) {
        Answer::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            // Until the other side has read it: an early end would take it away.
            let _ = stream.read_u8().await;
        }
        Answer::Silence => std::future::pending().await,
        Answer::Trickle(head) => {
            let _ = stream.write_all(&head).await;
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

/// An authority of certificates, whose own is in a file.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    file: tempfile::NamedTempFile,
}

/// A certificate and its key.
pub struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificate).unwrap();
        Self { issuer: rcgen::Issuer::new(params, key), file }
    }

    /// A certificate for these names.
    pub fn pair(&self, names: &[&str]) -> Pair {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        Pair { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// An environment that believes this authority.
    pub fn environment(&self) -> Environment {
        let path = self.file.path().display().to_string();
        Arc::new(move |name| (name == "SSL_CERT_FILE").then(|| path.clone()))
    }
}

impl Pair {
    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A network of names and addresses that a test made up. Every address is on loopback in truth.
#[derive(Default)]
pub struct MadeUp {
    /// What a name is looked up as: the last answer stays.
    names: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    hosts: Mutex<HashMap<SocketAddr, SocketAddr>>,
    /// Where connections to all other addresses go.
    elsewhere: Option<SocketAddr>,
    resolved: Mutex<Vec<String>>,
    dialed: Mutex<Vec<SocketAddr>>,
}

impl MadeUp {
    /// Connections to addresses that no host has go to this one.
    pub fn with_trap(trap: SocketAddr) -> Self {
        Self { elsewhere: Some(trap), ..Self::default() }
    }

    /// A name with addresses, one list for each time that it is looked up.
    pub fn name(&self, name: &str, answers: &[&[&str]]) {
        let answers = answers.iter().map(|list| list.iter().map(|text| text.parse().unwrap()).collect());
        self.names.lock().unwrap().insert(name.to_owned(), answers.collect());
    }

    /// A server at an address.
    pub fn host(&self, address: &str, double: &Double) {
        self.hosts.lock().unwrap().insert(address.parse().unwrap(), double.address);
    }

    pub fn resolved(&self) -> Vec<String> {
        self.resolved.lock().unwrap().clone()
    }

    pub fn dialed(&self) -> Vec<SocketAddr> {
        self.dialed.lock().unwrap().clone()
    }

    /// Forgets what was looked up and dialed.
    pub fn forget(&self) {
        self.resolved.lock().unwrap().clear();
        self.dialed.lock().unwrap().clear();
    }
}

impl Network for MadeUp {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.resolved.lock().unwrap().push(name.to_owned());
        let mut names = self.names.lock().unwrap();
        let found = names.get_mut(name).and_then(|answers| {
            if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
        });
        Box::pin(async { found.ok_or_else(|| io::Error::other("no such name")) })
    }

    fn connect(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'_, io::Result<Box<dyn Peer>>> {
        self.dialed.lock().unwrap().extend(&addresses);
        let hosts = self.hosts.lock().unwrap();
        let place = addresses.iter().find_map(|address| hosts.get(address)).copied().or(self.elsewhere);
        Box::pin(async move {
            let place = place.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(Box::new(TcpStream::connect(place).await?) as Box<dyn Peer>)
        })
    }
}

/// Settings without anything of the environment, and without the machine's authorities, which take a while to read.
pub fn settings() -> Settings {
    Settings { endpoints: BTreeMap::new(), allowed_realms: Vec::new(), environment: Arc::new(|_| None) }
}

/// Settings by which requests for these hosts go to doubles, which each other's registries may name as token servers.
pub fn endpoints(doubles: &[(&str, &Double)]) -> Settings {
    let endpoints = doubles.iter().map(|(host, double)| ((*host).to_owned(), double.endpoint())).collect();
    let allowed_realms = doubles.iter().map(|(host, _)| (*host).to_owned()).collect();
    Settings { endpoints, allowed_realms, ..settings() }
}

/// Checks the canary's login, and that the verdict shows nothing of it.
pub async fn check(registries: &Registries, server: &str, pull: Option<(&str, &str)>) -> Verdict {
    let server = Server::parse(server).unwrap();
    let login = Login::new(USER.as_bytes(), PASSWORD.as_bytes()).unwrap();
    let pull = pull.map(|(repository, reference)| Image { repository, reference });
    let verdict = registries.check(&Check { server: &server, login: &login, pull }).await;
    let shown = format!("{verdict} {verdict:?}").to_lowercase();
    for secret in ["canary", "hunter", &BASIC[6..26].to_lowercase()] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
    verdict
}
