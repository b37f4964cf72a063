//! Every request to the API server passes here: it is counted, and where there is no answer the log says what is wrong
//! with the connection. Of an error only its kind is told, because its text may hold an address with a password.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
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
        Self { server: server.into(), requests, news: Arc::default() }
    }

    fn answered(&self) {
        if self.news.over(&()) {
            tracing::info!(server = &*self.server, "the API server answers again");
        }
    }

    fn unanswered(&self, trouble: Trouble) {
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
                self.observe.unanswered(Trouble::of(&**error));
            }
        }
        answer
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended && self.begun.elapsed() >= PATIENCE {
            self.observe.requests.ended(self.asked, None);
            self.observe.unanswered(Trouble::Timeout);
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

    #[test]
    fn the_server_is_named_without_path_and_login() {
        let uri = "https://me:password@rancher.example:8443/k8s/clusters/c-1?token=t".parse().unwrap();
        assert_eq!(&*Observe::new(&uri, Requests::default()).server, "rancher.example:8443");
    }
}
