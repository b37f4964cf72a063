//! Says once, at start, what this regcred is, on which cluster it works and in which way, and what the API server lacks of
//! what regcred makes use of.

use std::time::Duration;

use kube::Client;
use regcred_controller::{COMMIT, Stage, VERSION};

/// How long the line waits for an answer to whether the operator is caged.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(5);

/// What regcred makes use of: the first minor version that has it, and what an older one means.
const USES: [(u32, &str); 3] = [
    (30, "the cage, which needs ValidatingAdmissionPolicies (1.30)"),
    (34, "lists as a stream (1.34), so that they come in pages"),
    (36, "attaching at birth, which needs MutatingAdmissionPolicies (1.36)"),
];

/// How this operator was started, as far as its first line tells it.
pub(crate) struct Start {
    pub(crate) source_namespace: String,
    pub(crate) target_names: Vec<String>,
}

/// What the API server says of itself.
#[derive(Default)]
struct Version {
    text: String,
    minor: Option<u32>,
}

/// Asks until the API server answers, and logs one line.
pub(crate) async fn log_start(client: Client, stage: Stage, start: Start) {
    let mut cage = stage.cage.subscribe();
    let version = version(&client).await;
    // Without an answer it is not known, and said so.
    let _asked = tokio::time::timeout(PATIENCE, cage.changed()).await;
    let caged = cage.borrow().as_str();
    log(&version, &start, caged);
}

async fn version(client: &Client) -> Version {
    loop {
        match client.apiserver_version().await {
            Ok(info) => {
                // One that emulates an older version serves what that one did.
                let minor = number(info.emulation_minor.as_ref().unwrap_or(&info.minor));
                return Version { text: info.git_version, minor };
            }
            Err(kube::Error::Api(_)) => return Version { text: "unknown".to_owned(), minor: None },
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn log(kubernetes: &Version, start: &Start, caged: &str) {
    let profile = if start.target_names.is_empty() { "any target name" } else { "listed target names" };
    tracing::info!(
        version = VERSION,
        commit = COMMIT,
        kubernetes = kubernetes.text,
        lacks = lacks(kubernetes.minor).join("; "),
        source_namespace = start.source_namespace,
        profile,
        target_names = start.target_names.join(","),
        caged,
        "regcred has started"
    );
}

/// A minor version: clouds write `30+`.
fn number(minor: &str) -> Option<u32> {
    minor.trim_end_matches('+').parse().ok()
}

/// Nothing is said of a version that nobody can read.
fn lacks(minor: Option<u32>) -> Vec<&'static str> {
    let Some(minor) = minor else { return Vec::new() };
    USES.iter().filter(|(since, _)| minor < *since).map(|(_, what)| *what).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_version_lacks_is_named() {
        let counted = |minor: &str| lacks(number(minor)).len();
        assert_eq!(
            ["36", "37+", "35", "34", "33", "30+", "29", "later"].map(counted),
            [0, 0, 1, 1, 2, 2, 3, 0]
        );
        assert!(lacks(Some(33))[0].contains("stream") && lacks(Some(35))[0].contains("at birth"));
    }
}
