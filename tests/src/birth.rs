//! What one request that makes a ServiceAccount costs the API server: processor time, which does not depend on what else
//! the machine does, and the time until it answers.

use std::time::Duration;

use http::Request;
use kube::Client;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    control_plane::ControlPlane,
    error::{Context as _, Result},
    process::processor_time,
};

/// The largest lists and maps that fit into one request of the size that the API server takes, or nearly.
const ENTRIES: usize = 20_000;
const LABELS: usize = 8_000;
const FIELDS: usize = 30_000;

/// A ServiceAccount to make.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// As people make them: a name.
    Plain,
    /// As many `imagePullSecrets` as fit into a request.
    Entries,
    /// As many labels as fit.
    Labels,
    /// `managedFields` with as many fields as fit.
    Fields,
}

/// What a request costs, on average.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time of the API server.
    pub processor: Duration,
    /// From sending to the answer.
    pub answer: Duration,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Entries, Self::Labels, Self::Fields];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Plain => "a name alone",
            Self::Entries => "20,000 imagePullSecrets",
            Self::Labels => "8,000 labels",
            Self::Fields => "30,000 fields in managedFields",
        }
    }

    fn object(self) -> Value {
        let mut object =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "measured"}});
        let numbered = |prefix: &str, count: usize, value: Value| -> Map<String, Value> {
            (0..count).map(|number| (format!("{prefix}{number:05}"), value.clone())).collect()
        };
        match self {
            Self::Plain => {}
            Self::Entries => {
                let entries = (0..ENTRIES).map(|number| json!({"name": format!("entry-{number:05}")}));
                object["imagePullSecrets"] = entries.collect();
            }
            Self::Labels => {
                object["metadata"]["labels"] = numbered("l", LABELS, json!("v".repeat(20))).into();
            }
            Self::Fields => {
                let fields = json!({"f:metadata": {"f:labels": numbered("f:l", FIELDS, json!({}))}});
                object["metadata"]["managedFields"] = json!([{
                    "manager": "measured", "operation": "Update", "apiVersion": "v1",
                    "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields,
                }]);
            }
        }
        object
    }
}

impl Cost {
    /// Of making this ServiceAccount so many times, without storing it.
    pub async fn of(
        control_plane: &ControlPlane,
        client: &Client,
        namespace: &str,
        shape: Shape,
        times: u32,
    ) -> Result<Self> {
        let body = shape.object().to_string().into_bytes();
        let api_server = control_plane.api_server();
        let (began, before) = (Instant::now(), processor_time(api_server)?);
        for _ in 0..times {
            let uri = format!("/api/v1/namespaces/{namespace}/serviceaccounts?dryRun=All");
            let request = Request::post(uri).header("content-type", "application/json");
            let request = request.body(body.clone()).map_err(kube::Error::HttpError);
            let answer = client.request_text(request.context("a request")?).await;
            answer.context(format!("make a ServiceAccount with {}", shape.title()))?;
        }
        let processor = processor_time(api_server)?.saturating_sub(before) / times;
        Ok(Self { processor, answer: began.elapsed() / times })
    }
}
