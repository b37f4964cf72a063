//! An admission webhook that refuses what it is asked about, or never answers: over TLS, with a certificate of the
//! control plane's authority. What it does is chosen by the path that a configuration names.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_rustls::TlsAcceptor;

use crate::{
    control_plane::ControlPlane,
    error::{Context as _, Result},
    proxy::acceptor,
};

/// What it says when it refuses. A webhook may quote the object it was shown, so nobody may repeat this.
pub const FREE_TEXT: &str = "free text that may quote a password";

/// A running webhook; dropping it closes all its connections.
pub struct Webhook {
    address: SocketAddr,
    authority: String,
    runtime: Option<Runtime>,
}

impl Webhook {
    /// Starts a webhook in a runtime of its own.
    pub fn start(control_plane: &ControlPlane) -> Result<Self> {
        crate::install_crypto_provider();
        let acceptor = acceptor(&control_plane.authority().server(&["127.0.0.1"])?)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("make the webhook's runtime")?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind the webhook")?;
        let address = listener.local_addr().context("the webhook's address")?;
        listener.set_nonblocking(true).context("the webhook's socket")?;
        runtime.spawn(serve(acceptor, listener));
        Ok(Self { address, authority: control_plane.ca_pem().to_owned(), runtime: Some(runtime) })
    }

    /// A configuration that asks it about writes of `resource` in one namespace. Path `/deny/409` refuses with that
    /// code, any other path gets no answer.
    pub fn configuration(&self, name: &str, path: &str, namespace: &str, resource: &str) -> Value {
        let url = format!("https://{}{path}", self.address);
        configuration(
            name,
            &json!({"url": url, "caBundle": STANDARD.encode(&self.authority)}),
            namespace,
            resource,
        )
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        // An ordinary drop would block, which a runtime forbids on its own threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A configuration whose webhook nobody serves.
pub fn dead(name: &str, namespace: &str, resource: &str) -> Value {
    configuration(name, &json!({"url": "https://127.0.0.1:1/"}), namespace, resource)
}

fn configuration(name: &str, client: &Value, namespace: &str, resource: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{
            "name": name, "clientConfig": client, "sideEffects": "None", "timeoutSeconds": 1,
            "failurePolicy": "Fail", "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}],
        }],
    })
}

async fn serve(acceptor: TlsAcceptor, listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("the socket is non-blocking");
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(answer);
            let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let code = request.uri().path().strip_prefix("/deny/").and_then(|code| code.parse::<u16>().ok());
    let Some(code) = code else { return std::future::pending().await };
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": asked["request"]["uid"], "allowed": false, "status": {"code": code, "message": FREE_TEXT}},
    });
    let mut response = Response::new(Full::from(review.to_string()));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}
