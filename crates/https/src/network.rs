//! Names become addresses, and addresses connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector, dns::Name};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::lookup_host;
use tower::{Service, service_fn};

/// What a connection is made of.
pub trait Peer: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Peer for T {}

/// The network: the system's, or that of a test.
pub trait Network: Send + Sync {
    /// The addresses of a name.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;

    /// A connection to one of these addresses.
    fn connect(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'_, io::Result<Box<dyn Peer>>>;
}

/// The network of the operating system.
pub struct System;

impl Network for System {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    }

    fn connect(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'_, io::Result<Box<dyn Peer>>> {
        Box::pin(async move {
            // Hyper's connector tries both families of addresses at once; it is handed them, and looks up nothing.
            let given = service_fn(move |_name: Name| {
                let addresses = addresses.clone();
                async { Ok::<_, io::Error>(addresses.into_iter()) }
            });
            let mut connector = HttpConnector::new_with_resolver(given);
            let connected = connector.call(Uri::from_static("http://checked")).await;
            Ok(Box::new(connected.map_err(io::Error::other)?.into_inner()) as Box<dyn Peer>)
        })
    }
}

/// A connection as hyper takes it.
pub struct Stream(TokioIo<Box<dyn Peer>>);

impl Stream {
    pub(crate) fn new(peer: Box<dyn Peer>) -> Self {
        Self(TokioIo::new(peer))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
