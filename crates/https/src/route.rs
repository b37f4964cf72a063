//! The way to a host: its addresses are looked up once, each is checked, and the connection goes to no other.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tower::Service;

use crate::failure::{ForbiddenAddress, NoSuchName, UnfitProxy};
use crate::network::{Network, Stream};

/// Whether a request may go to an address.
pub type Reach = fn(IpAddr) -> bool;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
type Connecting = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

/// Connects to a host, through a proxy where the environment names one for it. What is not encrypted goes through none.
/// A proxy looks names up itself, so behind one only addresses that are written as such are checked.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) dialer: Dialer,
    pub(crate) proxies: Arc<Matcher>,
}

impl Service<Uri> for Route {
    type Response = Stream;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        match secure.then(|| self.proxies.intercept(&uri)).flatten() {
            Some(proxy) => self.through(&proxy, uri),
            None => self.dialer.call(uri),
        }
    }
}

impl Route {
    fn through(&self, proxy: &Intercept, uri: Uri) -> Connecting {
        if proxy.uri().scheme() != Some(&Scheme::HTTP) {
            return Box::pin(async { Err(UnfitProxy.into()) });
        }
        if literal(&uri).is_some_and(|address| !(self.dialer.reach)(address)) {
            return Box::pin(async { Err(ForbiddenAddress.into()) });
        }
        let to_proxy = Dialer { reach: |_| true, ..self.dialer.clone() };
        let tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
        let mut tunnel = match proxy.basic_auth() {
            Some(login) => tunnel.with_auth(login.clone()),
            None => tunnel,
        };
        let connecting = tunnel.call(uri);
        Box::pin(async { connecting.await.map_err(Into::into) })
    }
}

/// Connects to the addresses of a name, if all of them are within reach.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) network: Arc<dyn Network>,
    pub(crate) reach: Reach,
}

impl Dialer {
    async fn dial(self, uri: Uri) -> Result<Stream, BoxError> {
        let host = uri.host().ok_or("no host")?;
        let port = uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
        let addresses = match literal(&uri) {
            Some(address) => vec![address],
            None => self.network.resolve(host).await.map_err(|_| NoSuchName)?,
        };
        if addresses.is_empty() {
            return Err(NoSuchName.into());
        }
        if !addresses.iter().all(|address| (self.reach)(*address)) {
            return Err(ForbiddenAddress.into());
        }
        let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        Ok(Stream::new(self.network.connect(addresses).await?))
    }
}

impl Service<Uri> for Dialer {
    type Response = Stream;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        Box::pin(self.clone().dial(uri))
    }
}

/// The address, where a host is written as one.
fn literal(uri: &Uri) -> Option<IpAddr> {
    uri.host()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
