//! A token server (distribution, "Token Authentication Specification"): clients show it a user and password, and get a
//! token that the registry takes. Compares passwords whole, which bcrypt in a registry's own file does not.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::registry::{Login, basic};
use crate::{
    error::{Context as _, Error, Result},
    pki::{Authority, Pair},
};

const SERVICE: &str = "registry";
const ISSUER: &str = "regcred-tests";
const LIFETIME_SECONDS: u64 = 300;

/// For an `Authorization` that is known: what the names of repositories must begin with.
type Who = dyn Fn(&str) -> Option<String> + Send + Sync;

/// A running token server, which lets each pull what its login says; dropping it ends it.
pub struct TokenServer {
    address: SocketAddr,
    authority: Authority,
    signer: Arc<Signer>,
    task: JoinHandle<()>,
}

impl TokenServer {
    /// Starts one that gives tokens to these, and 401 to everybody else.
    pub async fn start(logins: Vec<Login>) -> Result<Self> {
        Self::with(Rules { who: among(logins), lenient: false }).await
    }

    /// The same, but who asks for a scope with a wrong login gets a token that opens nothing, as Harbor does it.
    pub async fn start_lenient(logins: Vec<Login>) -> Result<Self> {
        Self::with(Rules { who: among(logins), lenient: true }).await
    }

    /// Starts one that asks at each request: for an `Authorization`, what must the names of repositories begin with?
    pub async fn start_with(who: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Result<Self> {
        Self::with(Rules { who: Box::new(who), lenient: false }).await
    }

    async fn with(rules: Rules) -> Result<Self> {
        let authority = Authority::new()?;
        let signer = Arc::new(Signer::new(&authority.client(ISSUER, &[])?)?);
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for token requests")?;
        let address = listener.local_addr().context("listen for token requests")?;
        let task = tokio::spawn(serve(listener, Arc::new(rules), signer.clone()));
        Ok(Self { address, authority, signer, task })
    }

    /// Where it listens, on loopback and without TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `Authorization` says for somebody who may push to a repository.
    pub fn pusher(&self, repository: &str) -> Result<String> {
        let access = json!([{ "type": "repository", "name": repository, "actions": ["pull", "push"] }]);
        Ok(format!("Bearer {}", self.signer.token(&access)?))
    }

    /// How a registry's configuration names this server. Writes its certificate to `folder`.
    pub(super) fn registry_settings(&self, folder: &Path) -> Result<Value> {
        let certificates = folder.join("token-authority.crt");
        std::fs::write(&certificates, self.authority.certificate()).context("write a certificate")?;
        let realm = format!("http://{}/token", self.address);
        let token =
            json!({ "realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": certificates });
        Ok(json!({ "token": token }))
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who gets what.
struct Rules {
    who: Box<Who>,
    /// Whether a wrong login gets a token, too, if it asks for a scope.
    lenient: bool,
}

impl Rules {
    /// What somebody may do, as a token says it; `None` for who gets no token.
    fn access(&self, shown: Option<&str>, query: &str) -> Option<Value> {
        let repositories = shown.and_then(&self.who);
        let nothing = || (self.lenient && query.contains("scope=")).then(|| json!([]));
        repositories.map(|repositories| granted(query, &repositories)).or_else(nothing)
    }
}

fn among(logins: Vec<Login>) -> Box<Who> {
    Box::new(move |shown| {
        let login = logins.iter().find(|login| shown == basic(login));
        login.map(|login| login.repositories.clone())
    })
}

async fn serve(listener: TcpListener, rules: Arc<Rules>, signer: Arc<Signer>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (rules, signer) = (rules.clone(), signer.clone());
        let service = hyper::service::service_fn(move |request| {
            let reply = reply(&request, &rules, &signer);
            async { Ok::<_, Infallible>(reply) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

fn reply(request: &Request<Incoming>, rules: &Rules, signer: &Signer) -> Response<Full<Bytes>> {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let access = rules.access(shown, request.uri().query().unwrap_or_default());
    let token = access.map(|access| signer.token(&access));
    let (status, body) = match token {
        Some(Ok(token)) => (StatusCode::OK, json!({ "token": token, "expires_in": LIFETIME_SECONDS })),
        Some(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, json!({ "details": error.to_string() })),
        None => (StatusCode::UNAUTHORIZED, json!({ "details": "incorrect username or password" })),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response
}

/// What a query asks for and somebody with these repositories gets: `scope=repository:acme/app:pull`, colons and
/// slashes escaped or not.
fn granted(query: &str, repositories: &str) -> Value {
    let query = query.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
    let scopes = query.split('&').filter_map(|parameter| parameter.strip_prefix("scope="));
    let access = scopes.filter_map(|scope| {
        let (kind, rest) = scope.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':').filter(|(name, _)| name.starts_with(repositories))?;
        Some(json!({ "type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>() }))
    });
    access.collect()
}

/// Signs tokens (RFC 7519) with ECDSA; the certificate travels along.
struct Signer {
    key: EcdsaKeyPair,
    certificate: String,
}

impl Signer {
    fn new(pair: &Pair) -> Result<Self> {
        let key =
            STANDARD.decode(pem_body(&pair.key)).map_err(|error| Error::Unexpected(error.to_string()))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &SystemRandom::new());
        let key = key.map_err(|error| Error::Unexpected(format!("a key for tokens: {error}")))?;
        Ok(Self { key, certificate: pem_body(&pair.certificate) })
    }

    #[expect(clippy::disallowed_methods, reason = "a token is good for a time of the day")]
    fn token(&self, access: &Value) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [self.certificate] });
        let claims = json!({
            "iss": ISSUER, "aud": SERVICE, "sub": "somebody", "jti": now.to_string(),
            "iat": now, "nbf": now.saturating_sub(60), "exp": now + LIFETIME_SECONDS, "access": access,
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|error| Error::Unexpected(format!("sign a token: {error}")))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The base64 between the first and last line.
fn pem_body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}
