//! Every request to the API server passes here: it is counted, and where there is no answer the log says what is wrong
//! with the connection. Of an error only its kind is told, because its text may hold an address with a password.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::AuthError;
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

use crate::metrics::{Asked, Requests};
use crate::news::News;

/// A request that is given up after so long was not answered; one given up sooner is not wanted any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is wrong with a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trouble {
    Refused,
    Timeout,
    Name,
    Certificate,
    Tls,
    Login,
    Broken,
}

impl Trouble {
    /// What is wrong, and what to look at.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "connection refused: nothing listens there; see whether the API server runs",
            Self::Timeout => {
                "timeout: no answer in time; see the network and its policies between here and there"
            }
            Self::Name => "DNS: the name of the API server is not known; see the cluster's DNS",
            Self::Certificate => {
                "certificate: the API server's is not of the authority that this operator trusts, or not for this name"
            }
            Self::Tls => {
                "TLS: the two sides do not agree; see which versions and certificates the API server takes"
            }
            Self::Login => {
                "login: no token was to be had for the request, which was not sent; see the token that is mounted into this Pod, or what the kubeconfig names"
            }
            Self::Broken => "the connection broke; see what stands between here and the API server",
        }
    }

    /// What lies behind an error of a client.
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(trouble) = Self::of_one(error) {
                return trouble;
            }
            next = error.source();
        }
        Self::Broken
    }

    fn of_one(error: &(dyn StdError + 'static)) -> Option<Self> {
        if error.is::<AuthError>() {
            return Some(Self::Login);
        }
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            let certificate = matches!(tls, rustls::Error::InvalidCertificate(_));
            return Some(if certificate { Self::Certificate } else { Self::Tls });
        }
        // The type of this error is private; its first words are all that tells it.
        if error.to_string().starts_with("dns error") {
            return Some(Self::Name);
        }
        let error = error.downcast_ref::<io::Error>()?;
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::Refused),
            io::ErrorKind::TimedOut => Some(Self::Timeout),
            _ => error.get_ref().map(|inner| Self::of(inner)).filter(|trouble| *trouble != Self::Broken),
        }
    }
}

/// Observes the requests of a client.
#[derive(Clone)]
pub(crate) struct Observe {
    /// Host and port of the API server.
    server: Arc<str>,
    requests: Requests,
    news: Arc<News<(), Trouble>>,
    /// When any request of any client was last answered.
    answered_at: Arc<Mutex<Option<Instant>>>,
}

/// A client whose requests are observed.
#[derive(Clone)]
pub(crate) struct Observed<S> {
    inner: S,
    observe: Observe,
}

impl Observe {
    pub(crate) fn new(cluster: &http::Uri, requests: Requests) -> Self {
        let host = cluster.host().unwrap_or_default();
        let server = cluster.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Self { server: server.into(), requests, news: Arc::default(), answered_at: Arc::default() }
    }

    fn answered(&self) {
        *self.answered_at.lock() = Some(Instant::now());
        if self.news.over(&()) {
            tracing::info!(server = &*self.server, "the API server answers again");
        }
    }

    /// A request that began then has no answer. Where another was answered meanwhile the API server can be reached, and
    /// only that request is slow, for instance on somebody's webhook: whoever made it tells so.
    fn unanswered(&self, begun: Instant, trouble: Trouble) {
        if self.answered_at.lock().is_some_and(|at| at > begun) {
            return;
        }
        if self.news.note((), trouble).is_some() {
            tracing::warn!(
                server = &*self.server,
                cause = trouble.as_str(),
                "the API server cannot be reached"
            );
        }
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observed { inner, observe: self.clone() }
    }
}

impl<S, A, B> Service<Request<A>> for Observed<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let asked = Asked::of(request.method(), request.uri());
        let open = Open { observe: self.observe.clone(), asked, begun: Instant::now(), ended: false };
        let answer = self.inner.call(request);
        Box::pin(async move { open.end(answer.await) })
    }
}

/// A request that is not answered yet.
struct Open {
    observe: Observe,
    asked: Asked,
    begun: Instant,
    ended: bool,
}

impl Open {
    fn end<B>(mut self, answer: Result<Response<B>, BoxError>) -> Result<Response<B>, BoxError> {
        self.ended = true;
        match &answer {
            Ok(response) => {
                self.observe.requests.ended(self.asked, Some(response.status().as_u16()));
                self.observe.answered();
            }
            Err(error) => {
                self.observe.requests.ended(self.asked, None);
                self.observe.unanswered(self.begun, Trouble::of(&**error));
            }
        }
        answer
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended && self.begun.elapsed() >= PATIENCE {
            self.observe.requests.ended(self.asked, None);
            self.observe.unanswered(self.begun, Trouble::Timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("https://user:password@10.0.0.1/")]
    struct Outer(#[source] io::Error);

    #[test]
    fn the_cause_of_a_lost_connection_is_told_without_its_text() {
        let io = |kind| Outer(io::Error::from(kind));
        assert_eq!(Trouble::of(&io(io::ErrorKind::ConnectionRefused)), Trouble::Refused);
        assert_eq!(Trouble::of(&io(io::ErrorKind::TimedOut)), Trouble::Timeout);
        assert_eq!(Trouble::of(&io(io::ErrorKind::ConnectionReset)), Trouble::Broken);
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert_eq!(Trouble::of(&Outer(io::Error::other(unknown))), Trouble::Certificate);
        assert_eq!(Trouble::of(&Outer(io::Error::other(rustls::Error::DecryptError))), Trouble::Tls);
    }

    #[tokio::test]
    async fn real_connections_that_fail_are_told_apart() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for (uri, trouble) in [
            (format!("http://{closed}/"), Trouble::Refused),
            ("http://no-such-name.invalid/".to_owned(), Trouble::Name),
        ] {
            let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                .build_http::<http_body_util::Empty<&'static [u8]>>();
            let error = client.get(uri.parse().unwrap()).await.unwrap_err();
            assert_eq!(Trouble::of(&error), trouble, "{error:?}");
        }
    }

    /// What is logged of these requests, each `(seconds until it ends, whether it is answered)`, begun a second apart.
    fn logged_of(requests: &'static [(u64, bool)]) -> Vec<String> {
        let rounds = async {
            let service = tower::service_fn(|request: Request<(u64, bool)>| async move {
                let (seconds, is_answered) = *request.body();
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                let broken = || BoxError::from(io::Error::from(io::ErrorKind::TimedOut));
                if is_answered { Ok(Response::new(())) } else { Err(broken()) }
            });
            let uri = "https://10.0.0.1/".parse().unwrap();
            let mut observed = Observe::new(&uri, Requests::default()).layer(service);
            let mut open = Vec::new();
            for request in requests {
                open.push(tokio::spawn(observed.call(Request::new(*request))));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            for request in open {
                let _answer = request.await.unwrap();
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let told = crate::fake::logged(|| runtime.unwrap().block_on(rounds));
        told.lines().map(|line| line.split(" server=").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_slow_request_beside_others_that_are_answered_is_no_lost_connection() {
        let slow = &[(30, false), (1, true), (30, false), (1, true), (1, true)];
        assert_eq!(logged_of(slow), Vec::<String>::new());
    }

    #[test]
    fn a_connection_that_comes_and_goes_is_told_once_in_a_while() {
        const LOST: &str = "WARN the API server cannot be reached";
        const BACK: &str = "INFO the API server answers again";
        const FLAPPING: [(u64, bool); 600] = {
            let mut requests = [(0, false); 600];
            let mut number = 1;
            while number < requests.len() {
                requests[number] = (0, true);
                number += 2;
            }
            requests
        };
        assert_eq!(logged_of(&FLAPPING), [LOST, BACK, LOST, BACK]);
    }

    #[test]
    fn a_login_that_cannot_be_had_is_not_told_as_a_broken_connection() {
        let error = kube::client::AuthError::ReadTokenFile(
            io::Error::from(io::ErrorKind::NotFound),
            "/var/run/secrets/token".into(),
        );
        assert_ne!(Trouble::of(&Outer(io::Error::other(error))), Trouble::Broken);
    }

    #[test]
    fn the_server_is_named_without_path_and_login() {
        let uri = "https://me:password@rancher.example:8443/k8s/clusters/c-1?token=t".parse().unwrap();
        assert_eq!(&*Observe::new(&uri, Requests::default()).server, "rancher.example:8443");
    }
}
