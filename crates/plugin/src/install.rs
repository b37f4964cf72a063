//! Reads of an installation, for `check`: each may be refused, and then is unknown.

use jiff::Timestamp;
use kube::api::{GetParams, ListParams, PostParams, Request};
use regcred_api::crd;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Error};
use crate::verbs::check::{Fact, Facts, Right, user};

/// Where the kinds are served.
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
const BIRTHS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
const BIRTH_BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const CREDENTIALS: &str = "/apis/regcred.dev/v1alpha1/registrycredentials";
/// What takes long, or fails.
const READING: &str = "reading the installation";
/// The name of the CRD.
const CRD: &str = "registrycredentials.regcred.dev";
/// What the operator asks for, by group, resource and verb. What may be granted by name is asked for by name.
const REQUESTS: [(&str, &str, &str); 7] = [
    ("regcred.dev", "registrycredentials", "list"),
    ("regcred.dev", "registrycredentials", "patch"),
    ("regcred.dev", "registrycredentials/status", "patch"),
    ("", "namespaces", "watch"),
    ("", "serviceaccounts", "watch"),
    ("", "serviceaccounts", "patch"),
    ("", "secrets", "patch"),
];

impl Cluster {
    /// One RegistryCredential as it is stored.
    pub(crate) async fn credential(&mut self, name: &str) -> Result<Option<Value>, Error> {
        match self.fact(CREDENTIALS, Some(name)).await? {
            Fact::Found(object) => Ok(Some(object)),
            Fact::Missing => Ok(None),
            Fact::Refused => {
                Err(Error::Missing(format!("RegistryCredential {name} is not shown to you: forbidden")))
            }
        }
    }

    /// Reads an installation.
    pub(crate) async fn facts(&mut self, home: &str, now: Timestamp) -> Result<Facts, Error> {
        let deployments = self.deployments(home).await?;
        let rights = self.rights(&user(home, &deployments)).await?;
        let own_crd = serde_json::to_value(crd::definition()).unwrap_or_default();
        let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{home}/leases");
        Ok(Facts {
            home: home.to_owned(),
            now,
            crd: self.fact(CRDS, Some(CRD)).await?,
            own_crd,
            deployments,
            lease: self.fact(&leases, Some("regcred")).await?,
            policies: self.fact(POLICIES, None).await?,
            bindings: self.fact(BINDINGS, None).await?,
            births: self.fact(BIRTHS, None).await?,
            birth_bindings: self.fact(BIRTH_BINDINGS, None).await?,
            rights,
        })
    }

    /// Deployments of the operator; a namespace that does not exist has none.
    async fn deployments(&mut self, home: &str) -> Result<Fact, Error> {
        let path = format!("/apis/apps/v1/namespaces/{home}/deployments");
        let params = ListParams::default().labels("app.kubernetes.io/name=regcred");
        let request = Request::new(path).list(&params).map_err(kube::Error::BuildRequest);
        self.ask(request).await
    }

    /// An object, or all of its kind.
    async fn fact(&mut self, path: &str, name: Option<&str>) -> Result<Fact, Error> {
        let request = Request::new(path);
        let request = match name {
            Some(name) => request.get(name, &GetParams::default()),
            None => request.list(&ListParams::default()),
        };
        self.ask(request.map_err(kube::Error::BuildRequest)).await
    }

    /// Whether the operator may do what it has to; `None` where the caller may not ask for others.
    async fn rights(&mut self, user: &str) -> Result<Option<Vec<Right>>, Error> {
        let name = self.target_name().await?;
        let mut rights = Vec::new();
        for (group, resource, verb) in REQUESTS {
            let by_name = if resource == "secrets" { name.as_deref() } else { None };
            let attributes = json!({"group": group, "resource": resource.split('/').next(), "verb": verb, "name": by_name,
                "subresource": resource.split_once('/').map(|(_, below)| below)});
            let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": {"user": user, "groups": groups(user), "resourceAttributes": attributes}});
            let request =
                Request::new(REVIEWS).create(&PostParams::default(), review.to_string().into_bytes());
            match self.ask(request.map_err(kube::Error::BuildRequest)).await? {
                Fact::Found(answer) => {
                    rights.push(Right {
                        what: format!("{verb} {resource}"),
                        allowed: answer["status"]["allowed"] == true,
                    });
                }
                Fact::Missing | Fact::Refused => return Ok(None),
            }
        }
        Ok(Some(rights))
    }

    /// The target name of some RegistryCredential: rights on Secrets may be granted by name.
    async fn target_name(&mut self) -> Result<Option<String>, Error> {
        let Fact::Found(list) = self.fact(CREDENTIALS, None).await? else { return Ok(None) };
        let first = &list["items"][0];
        let name = first.pointer("/spec/target/name").unwrap_or(&first["metadata"]["name"]);
        Ok(name.as_str().map(str::to_owned))
    }

    async fn ask(&mut self, request: kube::Result<http::Request<Vec<u8>>>) -> Result<Fact, Error> {
        let read = async { self.client.request::<Value>(request?).await };
        let answer = self.progress.during(READING, read).await;
        self.progress.end();
        match answer {
            Ok(found) => Ok(Fact::Found(found)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Fact::Missing),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(Fact::Refused),
            Err(error) => Err(Error::Request { doing: READING.to_owned(), error }),
        }
    }
}

/// The groups that a ServiceAccount is in.
fn groups(user: &str) -> Vec<String> {
    let namespace = user.split(':').nth(2).unwrap_or_default();
    vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".to_owned(),
    ]
}
