//! Requests to registries and token servers: to which addresses they may go, and within which limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use regcred_https::{ANSWER_LIMIT, Failure, Network, Reply, Transport, place};

use crate::Settings;
use crate::address::{is_public, is_this_machine, is_written_oddly, may_be_registry};
use crate::check::with_usual_port;
use crate::realm::split_port;
use crate::vendor;
use crate::verdict::{Trouble, Unknown};

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// `host` or `host:port`.
    pub(crate) host: String,
    pub(crate) trust: Trust,
}

/// How far a host is trusted not to lead somewhere else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trust {
    /// The registry, and what belongs to it: may be in a private network.
    Registry,
    /// Whatever else the registry names: on the public internet only.
    Public,
}

/// What is asked at a place.
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) accept: &'static str,
    pub(crate) authorization: Option<HeaderValue>,
}

impl<'a> Question<'a> {
    /// What can be had at a path, for whoever `authorization` shows.
    pub(crate) fn get(path: &'a str, authorization: Option<HeaderValue>) -> Self {
        Self { method: Method::GET, path, accept: "application/json", authorization }
    }
}

/// The client.
pub(crate) struct Client {
    pub(crate) endpoints: BTreeMap<String, Uri>,
    /// To the addresses that the settings give: they are trusted.
    anywhere: Transport,
    to_registries: Transport,
    to_public: Transport,
}

/// Under the hosts that are asked: `docker.io` means that of its registry.
fn by_host(endpoints: &BTreeMap<String, Uri>) -> BTreeMap<String, Uri> {
    let asked = |host: &String| with_usual_port(host).map(|host| vendor::host(&host));
    endpoints.iter().filter_map(|(host, address)| Some((asked(host)?, address.clone()))).collect()
}

impl Client {
    pub(crate) fn new(settings: &Settings, network: Arc<dyn Network>) -> Self {
        let anywhere = Transport::new(&settings.environment, network);
        Self {
            endpoints: by_host(&settings.endpoints),
            to_registries: anywhere.reaching(may_be_registry),
            to_public: anywhere.reaching(is_public),
            anywhere,
        }
    }

    /// Asks, and gives whatever comes as an answer.
    pub(crate) async fn ask(&self, at: &Place, question: Question<'_>) -> Result<Reply, Unknown> {
        let trouble = |what| Unknown::Unreachable { host: at.host.clone(), what };
        let transport = self.transport(at).ok_or_else(|| trouble(Trouble::Failed(Failure::Forbidden)))?;
        let request = self.request(at, question).ok_or_else(|| trouble(Trouble::Unsendable))?;
        transport.send(request, ANSWER_LIMIT).await.map_err(|failure| trouble(Trouble::Failed(failure)))
    }

    /// The way to a place; `None` if its name may not be looked up, which a proxy would do unseen.
    fn transport(&self, at: &Place) -> Option<&Transport> {
        let (host, _) = split_port(&at.host);
        match at.trust {
            _ if self.endpoints.contains_key(&at.host) => Some(&self.anywhere),
            _ if is_written_oddly(host) || is_this_machine(host) => None,
            Trust::Registry => Some(&self.to_registries),
            Trust::Public => Some(&self.to_public),
        }
    }

    fn request(&self, at: &Place, question: Question<'_>) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = question.method;
        *request.uri_mut() = place(&self.endpoints, &Scheme::HTTPS, &at.host, question.path)?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(regcred_https::USER_AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static(question.accept));
        headers.extend(question.authorization.map(|value| (AUTHORIZATION, value)));
        Some(request)
    }
}
