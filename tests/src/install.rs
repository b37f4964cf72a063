//! Puts regcred into the cluster, as a user would: with kubectl, strictly validated. Tests so run with exactly the
//! RBAC and the policies that we ship. The Deployment is applied too; no node runs it.

use std::{path::PathBuf, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};

use crate::{
    control_plane::{ControlPlane, get},
    error::{Context as _, Error, Result},
    wait::try_eventually,
};

/// The namespace that the manifest puts the operator in; its source Secrets are there too.
pub const OPERATOR_NAMESPACE: &str = "regcred-system";
/// The ServiceAccount that the manifest gives the operator.
pub const OPERATOR_SERVICE_ACCOUNT: &str = "regcred";
/// The CRD's name.
pub const CRD_NAME: &str = "registrycredentials.regcred.dev";

const LIST_PATH: &str = "/apis/regcred.dev/v1alpha1/registrycredentials";
const SERVED_DEADLINE: Duration = Duration::from_secs(20);

/// Applies all of regcred and waits until its kind is served.
pub async fn install(control_plane: &ControlPlane) -> Result<()> {
    apply(control_plane, "deploy/install.yaml").await?;
    served(control_plane).await
}

/// Applies the CRD and waits until it is served.
pub async fn install_crd(control_plane: &ControlPlane) -> Result<()> {
    apply(control_plane, "crds/registrycredentials.regcred.dev.yaml").await?;
    served(control_plane).await
}

async fn served(control_plane: &ControlPlane) -> Result<()> {
    let client = control_plane.admin().await?;
    let look = async || is_served(&client).await.map_err(|error| error.to_string());
    try_eventually("the CRD to be served", SERVED_DEADLINE, look).await
}

/// Established is not all: for a moment after that, lists still get 429 "storage is (re)initializing".
async fn is_served(client: &Client) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = crds.get(CRD_NAME).await.context("get the CRD")?;
    let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
    if !conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
        return Err(Error::Unexpected(format!("not established: {conditions:?}")));
    }
    client.request_text(get(LIST_PATH)).await.context("list RegistryCredentials").map(drop)
}

/// Applies a file or a folder of this repository as admin, by server-side apply.
pub async fn apply(control_plane: &ControlPlane, path: &str) -> Result<()> {
    let full = repository().join(path);
    if !full.exists() {
        return Err(Error::Missing {
            program: path.to_owned(),
            remedy: "the repository should contain it".into(),
        });
    }
    let full = full.display().to_string();
    let arguments = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", &full];
    let output = control_plane.kubectl(control_plane.admin_identity(), &arguments, "").await?;
    output.success().map(drop)
}

/// Deletes what a file of this repository holds, as admin.
pub async fn remove(control_plane: &ControlPlane, path: &str) -> Result<()> {
    let full = repository().join(path).display().to_string();
    let arguments = ["delete", "--ignore-not-found", "-f", &full];
    control_plane.kubectl(control_plane.admin_identity(), &arguments, "").await?.success().map(drop)
}

/// The root of this repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
