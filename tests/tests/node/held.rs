//! A new password that the registry does not know: with `Hold`, what runs goes on, and what is new pulls with the former one.

use regcred_tests::node::registry::Login;
use serde_json::json;

use crate::stage::{HOST, SOON, Stage, credential, pod, puller, source};

const NAME: &str = "held";
/// A namespace that comes while the new password is rejected.
const LATE: &str = "held-late";
const VERIFIED: &str = "CredentialsVerified";

pub(crate) async fn a_rejected_new_password_stops_no_pod_under_hold(stage: &Stage) {
    let (old, new) = (puller(), Login::new("puller", "n0t-y3t"));
    let mut credential = credential(NAME, HOST);
    credential["spec"]["verify"] = json!({ "mode": "Login", "onRejected": "Hold" });
    stage.apply(&[source(NAME, &old), credential]).await;
    stage.namespace(NAME, NAME).await;
    stage.condition(NAME, VERIFIED, "LoginVerified").await;
    stage.served(NAME, NAME).await;
    starts(stage, NAME, "before", &old).await;

    stage.apply(&[source(NAME, &new)]).await;
    stage.condition(NAME, VERIFIED, "Rejected").await;
    stage.namespace(LATE, NAME).await;
    stage.served(LATE, NAME).await;
    starts(stage, NAME, "during", &old).await;
    starts(stage, LATE, "during", &old).await;
    stage.condition(NAME, "SourceReady", "Rejected").await;

    stage.registry.set_passwords(std::slice::from_ref(&new)).unwrap();
    stage.kubectl("annotate regcred held regcred.dev/requestedAt=now").await;
    stage.condition(NAME, VERIFIED, "LoginVerified").await;
    for namespace in [NAME, LATE] {
        stage.holds(namespace, NAME, &new).await;
        starts(stage, namespace, "after", &new).await;
    }
    for (namespace, name) in [(NAME, "before"), (NAME, "during"), (LATE, "during")] {
        let state = stage.state(namespace, name).await;
        assert!(state.starts_with("Running true"), "{namespace}/{name}: {state}");
    }

    stage.registry.set_passwords(&[old]).unwrap();
    stage.clear(&[NAME, LATE], &[NAME]).await;
}

/// Starts a Pod with an image that nobody has pulled yet, which `pusher` pushes, and demands that its first pull succeeds.
async fn starts(stage: &Stage, namespace: &str, name: &str, pusher: &Login) {
    let image = stage.new_image("acme/held", pusher).await;
    stage.apply(&[pod(namespace, name, &image)]).await;
    stage.runs(namespace, name, SOON).await;
    stage.tells(namespace, name, "Successfully pulled").await;
    let failed = format!("get events --namespace {namespace} --field-selector reason=Failed --output name");
    assert_eq!(stage.kubectl(&failed).await, "", "no pull failed in {namespace}");
}
