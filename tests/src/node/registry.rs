//! A private registry: docker-registry, which asks for a user and password, or for a token of a token server.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use regcred_image::oci::MANIFEST;
use serde_json::json;

use super::{oci::Image, token_server::TokenServer};
use crate::{
    error::{Context as _, Error, Result},
    process::{Launch, Process},
    site::free_addresses,
    wait::try_eventually,
};

const START_DEADLINE: Duration = Duration::from_secs(20);
const PASSWORDS: &str = "htpasswd";
/// The least that bcrypt allows: a registry checks it at each request.
const BCRYPT_COST: u32 = 4;

/// Who may pull, and from where.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// What the names of repositories must begin with; only a token server can hold somebody to that.
    pub repositories: String,
}

impl Login {
    /// A user and a password, for all repositories.
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned(), repositories: String::new() }
    }

    /// The same for those whose names begin so.
    #[must_use]
    pub fn only(self, repositories: &str) -> Self {
        Self { repositories: repositories.to_owned(), ..self }
    }
}

/// How a registry tells who asks.
pub enum Authentication<'a> {
    /// By user and password (`WWW-Authenticate: Basic`).
    Passwords(&'a [Login]),
    /// By the token of a server that it sends clients to (`WWW-Authenticate: Bearer`).
    Tokens(&'a TokenServer),
}

/// A running registry; dropping it ends it.
pub struct Registry {
    address: SocketAddr,
    folder: PathBuf,
    _process: Process,
}

impl Registry {
    /// Starts a registry in `folder`; `spawn` ties its life to ours.
    pub async fn start(
        program: &Path,
        folder: PathBuf,
        authentication: &Authentication<'_>,
        spawn: impl FnOnce(&Launch) -> Result<Process>,
    ) -> Result<Self> {
        std::fs::create_dir_all(&folder).context(format!("create {}", folder.display()))?;
        let [address] = free_addresses()?;
        let config = configure(&folder, address, authentication)?;
        let launch = Launch {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            program: program.to_owned(),
            arguments: vec!["serve".to_owned(), config.display().to_string()],
            environment: Vec::new(),
        };
        let this = Self { address, folder, _process: spawn(&launch)? };
        try_eventually("the registry to answer", START_DEADLINE, async || {
            this.send(Request::get("/v2/"), None, Bytes::new()).await.map_err(|error| error.to_string())
        })
        .await?;
        Ok(this)
    }

    /// Where it listens, on loopback and without TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on these may pull and push, and nobody else. docker-registry reads the file again when it changes.
    pub fn set_passwords(&self, logins: &[Login]) -> Result<()> {
        write_passwords(&self.folder.join(PASSWORDS), logins)
    }

    /// Pushes an image (distribution-spec, "Pushing manifests"). `authorization` is the header's value.
    pub async fn push(&self, image: &Image, repository: &str, tag: &str, authorization: &str) -> Result<()> {
        for blob in &image.blobs {
            let uploads = format!("/v2/{repository}/blobs/uploads/");
            let place = self.send(Request::post(uploads), Some(authorization), Bytes::new()).await?;
            let place = place.location.ok_or_else(|| unexpected("no Location for an upload"))?;
            let separator = if place.contains('?') { '&' } else { '?' };
            let upload = Request::put(format!("{place}{separator}digest={}", blob.digest))
                .header(header::CONTENT_TYPE, "application/octet-stream");
            self.send(upload, Some(authorization), blob.content.clone().into()).await?.created()?;
        }
        let manifest =
            Request::put(format!("/v2/{repository}/manifests/{tag}")).header(header::CONTENT_TYPE, MANIFEST);
        self.send(manifest, Some(authorization), image.manifest.content.clone().into()).await?.created()
    }

    async fn send(
        &self,
        request: http::request::Builder,
        authorization: Option<&str>,
        body: Bytes,
    ) -> Result<Answer> {
        let request = request.header(header::HOST, self.address.to_string());
        let request = match authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        };
        let request = request.body(Full::new(body)).map_err(|error| unexpected(&error.to_string()))?;
        let stream = tokio::net::TcpStream::connect(self.address).await.context("connect to the registry")?;
        let broken = |error: hyper::Error| unexpected(&format!("registry: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let reply = sender.send_request(relative(request)).await.map_err(broken)?;
        let location = reply.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.map(str::to_owned);
        let status = reply.status();
        let body = reply.into_body().collect().await.map_err(broken)?.to_bytes();
        connection.abort();
        Ok(Answer { status, location, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

/// Writes the registry's configuration; returns its path.
fn configure(folder: &Path, address: SocketAddr, authentication: &Authentication<'_>) -> Result<PathBuf> {
    let auth = match authentication {
        Authentication::Passwords(logins) => {
            let passwords = folder.join(PASSWORDS);
            write_passwords(&passwords, logins)?;
            json!({ "htpasswd": { "realm": "regcred", "path": passwords } })
        }
        Authentication::Tokens(server) => server.registry_settings(folder)?,
    };
    let config = json!({
        "version": "0.1",
        "log": { "level": "info" },
        "storage": { "filesystem": { "rootdirectory": folder.join("data") } },
        "http": { "addr": address.to_string() },
        "auth": auth,
    });
    let path = folder.join("config.yaml");
    std::fs::write(&path, config.to_string()).context(format!("write {}", path.display()))?;
    Ok(path)
}

struct Answer {
    status: StatusCode,
    location: Option<String>,
    body: String,
}

impl Answer {
    fn created(&self) -> Result<()> {
        if self.status == StatusCode::CREATED {
            return Ok(());
        }
        Err(unexpected(&format!("registry: {} {}", self.status, self.body)))
    }
}

/// What the registry calls a place may be a whole URL; a request to a server names the path alone.
fn relative(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = http::Uri::from(path);
    }
    request
}

fn write_passwords(path: &Path, logins: &[Login]) -> Result<()> {
    let line = |login: &Login| {
        let hash =
            bcrypt::hash(&login.password, BCRYPT_COST).map_err(|error| unexpected(&error.to_string()))?;
        Ok(format!("{}:{hash}\n", login.user))
    };
    let lines = logins.iter().map(line).collect::<Result<String>>()?;
    std::fs::write(path, lines).context(format!("write {}", path.display()))
}

fn unexpected(reason: &str) -> Error {
    Error::Unexpected(reason.to_owned())
}

/// What `Authorization` says for a user and a password (RFC 7617).
pub fn basic(login: &Login) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("{}:{}", login.user, login.password)))
}
