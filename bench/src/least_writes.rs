//! The least writes that a workload needs, as single requests: what the bare writer sends, and what every
//! subject's count is divided by.

use std::{fs::File, io::Write as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use regcred_tests::{SECRET_KEY, SECRET_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// The HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `Accept`; JSON if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<String>,
    /// `Content-Type`; JSON if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The body, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

impl Call {
    /// The same write of a Secret by server-side apply, with labels and annotations that say whose it is and answers
    /// that are metadata alone: what an operator sends that may write Secrets by name only and reads none.
    fn applied(mut self, path: &str, name: &str) -> Self {
        let data = self.body.take().map(|mut body| body["data"].take());
        let body = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "labels": { "app.kubernetes.io/managed-by": "bare-writer", "example.com/credential": name },
                "annotations": {
                    "example.com/credential-uid": "00000000-0000-0000-0000-000000000000",
                    "example.com/servers": crate::cluster::SERVER,
                    "example.com/fingerprint": "00000000000000000000000000000000",
                },
            },
            "type": SECRET_TYPE,
            "data": data,
        });
        Self {
            method: "PATCH".to_owned(),
            path: format!("{path}?fieldManager=bare-writer&force=true&fieldValidation=Ignore"),
            accept: Some(METADATA_OF_ONE.to_owned()),
            content_type: Some(APPLY.to_owned()),
            body: Some(body),
        }
    }

    /// As [`Self::applied`], where this creates or patches a Secret; anything else stays.
    #[must_use]
    pub fn as_apply(self) -> Self {
        let name = self.body.as_ref().and_then(|body| body["metadata"]["name"].as_str()).map(str::to_owned);
        match (self.method.as_str(), self.path.rsplit_once("/secrets")) {
            ("POST", Some(_)) => {
                let name = name.unwrap_or_default();
                let path = format!("{}/{name}", self.path);
                self.applied(&path, &name)
            }
            ("PATCH", Some((_, name))) => {
                let (path, name) = (self.path.clone(), name.trim_start_matches('/').to_owned());
                self.applied(&path, &name)
            }
            _ => self,
        }
    }
}

const APPLY: &str = "application/apply-patch+yaml";
const METADATA_OF_ONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const MERGE: &str = "application/merge-patch+json";
/// Asks for metadata alone (k8s.io/apimachinery, pkg/apis/meta/v1: `PartialObjectMetadataList`).
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Puts every Secret into every namespace, and all their names on its ServiceAccount in one patch.
pub fn cold(namespaces: &[String], secrets: &[String], password: &str) -> Vec<Call> {
    let content = json!({ SECRET_KEY: STANDARD.encode(docker_config(password)) });
    let in_namespace = |namespace: &String| {
        let create = secrets.iter().map(|name| Call {
            body: Some(json!({
                "metadata": { "name": name },
                "type": SECRET_TYPE,
                "data": content,
            })),
            ..call("POST", secrets_path(namespace))
        });
        let list: Vec<Value> = secrets.iter().map(|name| json!({ "name": name })).collect();
        let attach = merge(account_path(namespace), json!({ "imagePullSecrets": list }));
        create.chain([attach]).collect::<Vec<_>>()
    };
    namespaces.iter().flat_map(in_namespace).collect()
}

/// Puts a new password into every Secret.
pub fn rotation(namespaces: &[String], secret: &str, password: &str) -> Vec<Call> {
    let data = json!({ "data": { SECRET_KEY: STANDARD.encode(docker_config(password)) } });
    let path = |namespace: &String| format!("{}/{secret}", secrets_path(namespace));
    namespaces.iter().map(|namespace| merge(path(namespace), data.clone())).collect()
}

/// Takes the name off every ServiceAccount, and then the Secrets away.
pub fn deletion(namespaces: &[String], secrets: &[String]) -> Vec<Call> {
    let nothing = json!({ "imagePullSecrets": null });
    let in_namespace = |namespace: &String| {
        let detach = merge(account_path(namespace), nothing.clone());
        let delete = secrets.iter().map(|name| call("DELETE", format!("{}/{name}", secrets_path(namespace))));
        [detach].into_iter().chain(delete).collect::<Vec<_>>()
    };
    namespaces.iter().flat_map(in_namespace).collect()
}

/// Lists all that an operator has to know before it can plan.
pub fn lists() -> Vec<Call> {
    let metadata = |path: &str| Call { accept: Some(METADATA.to_owned()), ..call("GET", path.to_owned()) };
    vec![
        metadata("/api/v1/namespaces"),
        metadata(&format!("/api/v1/secrets?fieldSelector=type%3D{}", SECRET_TYPE.replace('/', "%2F"))),
        call("GET", "/api/v1/serviceaccounts".to_owned()),
    ]
}

/// Writes requests as the bare writer reads them: one per line.
pub fn write(path: &Path, calls: &[Call]) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(File::create(path)?);
    for call in calls {
        serde_json::to_writer(&mut file, call)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// A docker configuration of the size that one registry takes.
fn docker_config(password: &str) -> String {
    let auth = STANDARD.encode(format!("{}:{password}", crate::cluster::USER));
    json!({ "auths": { crate::cluster::SERVER: { "auth": auth } } }).to_string()
}

fn call(method: &str, path: String) -> Call {
    Call { method: method.to_owned(), path, accept: None, content_type: None, body: None }
}

fn merge(path: String, body: Value) -> Call {
    Call { content_type: Some(MERGE.to_owned()), body: Some(body), ..call("PATCH", path) }
}

fn secrets_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

fn account_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/serviceaccounts/default")
}
