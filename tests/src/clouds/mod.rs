//! Clouds and registries that give tokens: one server on loopback that plays them all, looks closely at what it is sent,
//! and misbehaves on command. Every secret that it gives out holds the core of the canary password, so the search at the
//! end of a scene finds those, too.
//!
//! A request for HOST comes to `http://127.0.0.1:PORT/HOST/…`, the address that [`Clouds::endpoint`] gives for it.
//!
//! | file | what it plays |
//! |---|---|
//! | `aws` | ECR, ECR Public, STS, EKS Pod Identity, the metadata server of EC2; recomputes each signature |
//! | `google` | the metadata server, the exchange of tokens, service accounts, key files |
//! | `azure` | Entra ID, the metadata server, the exchange at a registry |
//! | `registries` | Quay, JFrog, Cloudsmith |
//! | `received` | a request, and questions to it |
//! | `trap` | a listener that nobody should ever call |
//!
//! What they know:
//!
//! | cloud | who may pull |
//! |---|---|
//! | Amazon | [`STATIC_KEYS`]; any ServiceAccount for any role of the accounts 123456789012 and 210987654321; those of the latter, and those named `external…`, ask for the external ID `acme` |
//! | Google | the cluster `blue` in GKE, [`PROVIDER`], and [`key_file`]; all may act as [`ACCOUNT`] |
//! | Azure | [`CLIENT_ID`] of [`TENANT_ID`], by [`CLIENT_SECRET`] or for any ServiceAccount |
//! | Quay, JFrog, Cloudsmith | any ServiceAccount, as robot `acme+puller`, by provider `my-cluster`, as `puller` of `acme` |

mod aws;
mod azure;
mod google;
mod received;
mod registries;
mod trap;

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

pub use aws::STATIC_KEYS;
pub use azure::{CLIENT_ID, CLIENT_SECRET, TENANT_ID};
pub use google::{ACCOUNT, PROVIDER, key_file};
pub use trap::Trap;

use crate::{
    canary::CORE,
    error::{Context as _, Result},
};
use received::Received;

/// What registries' tokens live, as the clouds' own do.
const LIFE: i64 = 3600;
/// The hosts that [`Clouds::arguments`] names.
const HOSTS: [&str; 18] = [
    "api.ecr.eu-central-1.amazonaws.com",
    "api.ecr.eu-west-1.amazonaws.com",
    "api.ecr.us-east-1.amazonaws.com",
    "api.ecr-public.us-east-1.amazonaws.com",
    "sts.eu-west-1.amazonaws.com",
    "sts.us-east-1.amazonaws.com",
    "169.254.169.254",
    "sts.googleapis.com",
    "iamcredentials.googleapis.com",
    "oauth2.googleapis.com",
    "login.microsoftonline.com",
    "login.partner.microsoftonline.cn",
    "contoso.azurecr.io",
    "fabrikam.azurecr.io",
    "tailwind.azurecr.cn",
    "acme.jfrog.io",
    "quay.io",
    "api.cloudsmith.io",
];
/// More than any client reads.
const HUGE: usize = 4 * 1024 * 1024;

/// What a host does in place of its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misbehaviour {
    /// 429 with `Retry-After`.
    Throttle(u64),
    /// Too many requests as AWS says it: 400 and a word.
    ThrottleAws,
    /// 503 with `Retry-After`.
    Overloaded(u64),
    /// 403 with a word in each issuer's own form, and everything that was sent.
    AccessDenied,
    /// No answer.
    Slow,
    /// 200 with a body of megabytes.
    Huge,
    /// 200 with JSON that holds nothing of what it should.
    WrongJson,
    /// 200 with half of the answer.
    CutOff,
    /// 302 to another address.
    Redirect(String),
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The host that it was meant for.
    pub host: String,
    /// The path at that host.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
}

/// A user and a password that some registry takes.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenLogin {
    /// Who gave it.
    pub host: String,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// When it ends, in seconds since 1970 by the giver's clock.
    pub ends: i64,
}

impl GivenLogin {
    /// Whether this is what `Authorization` says of it (RFC 7617).
    pub fn is(&self, authorization: &str) -> bool {
        let pair = STANDARD.encode(format!("{}:{}", self.user, self.password));
        authorization.strip_prefix("Basic ").is_some_and(|sent| sent == pair)
    }
}

/// The running doubles; dropping them ends them.
pub struct Clouds {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Clouds {
    /// Starts them on loopback.
    pub async fn start() -> Result<Self> {
        Self::start_at("127.0.0.1").await
    }

    /// Starts them at another address of this machine.
    pub async fn start_at(ip: &str) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await.context("listen as the clouds")?;
        let address = listener.local_addr().context("listen as the clouds")?;
        let state = Arc::new(State { address: address.to_string(), ..State::default() });
        let task = tokio::spawn(serve(listener, state.clone()));
        Ok(Self { address, state, task })
    }

    /// The address that requests for this host should go to.
    pub fn endpoint(&self, host: &str) -> String {
        format!("http://{}/{host}", self.address)
    }

    /// How many tokens for registries were given.
    pub fn mints(&self) -> usize {
        self.state.log().logins.len()
    }

    /// The tokens for registries that were given, in order.
    pub fn logins(&self) -> Vec<GivenLogin> {
        self.state.log().logins.clone()
    }

    /// What a registry asks them: is this `Authorization` that of a token which was given for it, and is still good?
    pub fn taker(&self) -> impl Fn(&str) -> bool + Send + Sync + 'static {
        let state = self.state.clone();
        move |authorization| {
            let log = state.log();
            let login = log.logins.iter().find(|login| login.is(authorization)).cloned();
            drop(log);
            login.is_some_and(|login| login.ends > state.now())
        }
    }

    /// All requests, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.log().seen.clone()
    }

    /// What was wrong with requests, in words. A test that expects no wrong request demands that this be empty.
    pub fn complaints(&self) -> Vec<String> {
        self.state.log().complaints.clone()
    }

    /// The tokens of ServiceAccounts that were shown, in order.
    pub fn shown(&self) -> Vec<String> {
        self.state.log().shown.clone()
    }

    /// The address of every host that an operator asks in tests, as `HOST=URL`.
    pub fn endpoints(&self) -> Vec<String> {
        HOSTS.iter().map(|host| format!("{host}={}", self.endpoint(host))).collect()
    }

    /// What sends an operator's requests for every host here.
    pub fn arguments(&self) -> Vec<String> {
        self.endpoints().iter().map(|endpoint| format!("--token-endpoint={endpoint}")).collect()
    }

    /// Makes a host misbehave, or behave again.
    pub fn misbehave(&self, host: &str, how: Option<Misbehaviour>) {
        let mut settings = self.state.settings();
        match how {
            Some(how) => settings.misbehaving.insert(host.to_owned(), how),
            None => settings.misbehaving.remove(host),
        };
    }

    /// How many seconds tokens live from now on; less than none, and they are over as they are given.
    pub fn set_life(&self, seconds: i64) {
        self.state.settings().life = seconds;
    }

    /// How many seconds the clouds' clock is ahead of ours.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.state.settings().ahead = seconds;
    }
}

impl Drop for Clouds {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A token of a ServiceAccount, as an API server gives it but for the signature.
pub fn service_account_token(name: &str, audience: &str) -> String {
    let claims = json!({
        "iss": "https://kubernetes.default.svc", "aud": [audience],
        "sub": format!("system:serviceaccount:regcred-system:{name}"),
    });
    let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.{CORE}", part(&json!({ "alg": "none" })), part(&claims))
}

/// What the doubles remember, and how they are told to behave.
#[derive(Default)]
struct State {
    /// Where the doubles listen.
    address: String,
    log: Mutex<Log>,
    settings: Mutex<Settings>,
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    complaints: Vec<String>,
    logins: Vec<GivenLogin>,
    shown: Vec<String>,
    /// Secrets that were given out and are shown again later, with what each is.
    issued: HashMap<String, String>,
    keys: HashMap<String, aws::IssuedKeys>,
    count: usize,
}

struct Settings {
    misbehaving: HashMap<String, Misbehaviour>,
    life: i64,
    ahead: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { misbehaving: HashMap::new(), life: LIFE, ahead: 0 }
    }
}

impl State {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self) -> i64 {
        self.settings().life
    }

    /// The clouds' own time, in seconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "a token is good for a time of the day")]
    fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        i64::try_from(now).unwrap_or(i64::MAX) + self.settings().ahead
    }

    /// A secret that nobody has seen before.
    fn secret(&self, kind: &str) -> String {
        let mut log = self.log();
        log.count += 1;
        format!("{CORE}{kind}{}", log.count)
    }

    /// A secret that is shown again later, to be known by what it is.
    fn issue(&self, kind: &str) -> String {
        let secret = self.secret(&kind.replace(' ', ""));
        self.log().issued.insert(secret.clone(), kind.to_owned());
        secret
    }

    /// Whether a secret is one of this kind that was given out.
    fn is_issued(&self, secret: &str, kind: &str) -> bool {
        self.log().issued.get(secret).is_some_and(|issued| issued == kind)
    }

    /// A token that says its own end, as RFC 7519 has it.
    fn jwt(&self, subject: &str) -> String {
        let claims = json!({
            "exp": self.now() + self.life(), "iat": self.now(), "sub": subject, "jti": self.secret("jti"),
        });
        let signature = self.secret("signature");
        format!("e30.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    /// The name of the ServiceAccount of a token, which must be for this audience alone.
    fn service_account(&self, token: &str, audience: &str) -> Result<String, String> {
        self.log().shown.push(token.to_owned());
        received::service_account(token, audience)
    }

    fn gave(&self, host: &str, user: &str, password: &str) {
        let (host, user, password) = (host.to_owned(), user.to_owned(), password.to_owned());
        let ends = self.now() + self.life();
        self.log().logins.push(GivenLogin { host, user, password, ends });
    }
}

/// An answer.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    fn json(body: &Value) -> Self {
        Self::new(200, body.to_string()).with("content-type", "application/json")
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        let service = hyper::service::service_fn(move |request| {
            let state = state.clone();
            async move { Ok::<_, Infallible>(respond(request, &state).await) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn respond(request: Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let received = Received::new(&head, body.to_vec());
    let how = state.settings().misbehaving.get(&received.host).cloned();
    let reply = match how {
        Some(how) => misbehaved(how, &received, state).await,
        None => checked(&received, state),
    };
    let Received { host, path, .. } = received;
    state.log().seen.push(Seen { host, path, status: reply.status });
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = StatusCode::from_u16(reply.status).expect("a status");
    for (name, value) in reply.headers {
        response.headers_mut().insert(name, value.parse().expect("a header"));
    }
    response.headers_mut().insert(header::DATE, date(state.now()).parse().expect("a date"));
    response
}

/// The answer to a request; a wrong one gets back all that it sent, which no client may repeat.
fn checked(received: &Received, state: &State) -> Reply {
    play(received, state).unwrap_or_else(|complaint| {
        let complaint = format!("{} {}{}: {complaint}", received.method, received.host, received.path);
        state.log().complaints.push(complaint);
        Reply::new(400, received.echo("wrong_request"))
    })
}

/// `Err` says what is wrong with the request.
fn play(received: &Received, state: &State) -> Result<Reply, String> {
    let host = &*received.host;
    match host {
        "169.254.169.254" if received.path.starts_with("/latest/") => aws::node(received, state),
        "169.254.169.254" if received.path.starts_with("/computeMetadata/") => {
            google::metadata(received, state)
        }
        "169.254.169.254" => azure::metadata(received, state),
        "169.254.170.23" => aws::pod_identity(received, state),
        "sts.googleapis.com" => google::sts(received, state),
        "iamcredentials.googleapis.com" => google::act_as(received, state),
        "oauth2.googleapis.com" => google::token_uri(received, state),
        "quay.io" => registries::quay(received, state),
        "api.cloudsmith.io" => registries::cloudsmith(received, state),
        _ if host.starts_with("api.ecr.") => aws::ecr(received, state),
        _ if host.starts_with("api.ecr-public.") => aws::ecr_public(received, state),
        _ if host.starts_with("sts.") => aws::sts(received, state),
        _ if host.starts_with("login.") => azure::entra(received, state),
        _ if host.contains(".azurecr.") => azure::exchange(received, state),
        _ if host.ends_with(".jfrog.io") => registries::jfrog(received, state),
        _ => Err("nobody plays this host".to_owned()),
    }
}

async fn misbehaved(how: Misbehaviour, received: &Received, state: &State) -> Reply {
    match how {
        Misbehaviour::Throttle(seconds) => {
            Reply::new(429, received.echo("slow_down")).with("retry-after", seconds.to_string())
        }
        Misbehaviour::ThrottleAws => Reply::new(400, r#"{"__type":"ThrottlingException"}"#),
        Misbehaviour::Overloaded(seconds) => {
            Reply::new(503, received.echo("overloaded")).with("retry-after", seconds.to_string())
        }
        Misbehaviour::AccessDenied => Reply::new(403, received.echo("AccessDenied")),
        Misbehaviour::Slow => std::future::pending().await,
        Misbehaviour::Huge => Reply::new(200, vec![b' '; HUGE]),
        Misbehaviour::WrongJson => Reply::json(&json!({ "authorizationData": 7, "tokens": [CORE] })),
        Misbehaviour::CutOff => {
            let mut reply = checked(received, state);
            reply.body.truncate(reply.body.len() / 2);
            reply
        }
        Misbehaviour::Redirect(location) => Reply::new(302, "").with("location", location),
    }
}

/// A time as HTTP writes it.
fn date(second: i64) -> String {
    let (day, time) = (second.div_euclid(86_400), second.rem_euclid(86_400));
    let (year, month, of_month) = civil(day);
    let name =
        ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from(day.rem_euclid(7)).unwrap_or(0)];
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months[usize::try_from(month - 1).unwrap_or(0)];
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{name}, {of_month:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// The same as RFC 3339 writes it.
fn rfc3339(second: i64) -> String {
    let ((year, month, day), time) = (civil(second.div_euclid(86_400)), second.rem_euclid(86_400));
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time / 3600, time / 60 % 60, time % 60)
}

/// Year, month and day of the month, for days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_rest_of_the_world_writes_them() {
        assert_eq!(date(1_440_938_160), "Sun, 30 Aug 2015 12:36:00 GMT");
        assert_eq!(rfc3339(1_440_938_160), "2015-08-30T12:36:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_796_040_060), "2026-11-30T12:01:00Z");
    }
}
