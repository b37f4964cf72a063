//! The server as a client of kube sees it: a tower service that answers at once, and whose watches tell everything
//! as it happens.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::Value;
use tower::{BoxError, Service};

use super::Server;
use super::refusal::Refusal;
use super::watch::Watch;

/// The body of an answer.
pub type Answer = UnsyncBoxBody<Bytes, io::Error>;

impl Service<Request<Body>> for Server {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let request = Request::from_parts(head, body.collect().await?.to_bytes().to_vec());
            if !is_watch(&request) {
                return Ok(server.answer(&request).map(whole));
            }
            Ok(match server.watch(&request) {
                Ok(watch) => Response::new(events(server, watch)),
                Err(refusal) => refused(&refusal),
            })
        })
    }
}

fn events(server: Server, watch: Watch) -> Answer {
    let frames = stream::unfold((server, watch), |(server, mut watch)| async move {
        loop {
            let changed = server.changed().notified();
            let event = watch.next(&server.store());
            if let Some(event) = event {
                drop(changed);
                return Some((Ok(Frame::data(line(&event.body))), (server, watch)));
            }
            changed.await;
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Whether a request begins a watch.
pub fn is_watch(request: &Request<Vec<u8>>) -> bool {
    request.uri().query().is_some_and(|query| query.contains("watch=true"))
}

/// An answer that refuses.
pub fn refused(refusal: &Refusal) -> Response<Answer> {
    let mut response = Response::new(whole(refusal.status().to_string().into_bytes()));
    *response.status_mut() = http::StatusCode::from_u16(refusal.code).unwrap_or_default();
    response
}

/// A body that is there as a whole.
pub fn whole(bytes: Vec<u8>) -> Answer {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// An event as a watch tells it. The type comes first, as Go writes it: a reader may go by it while it reads the
/// object.
pub fn line(body: &Value) -> Bytes {
    Bytes::from(format!("{{\"type\":{},\"object\":{}}}\n", body["type"], body["object"]))
}
