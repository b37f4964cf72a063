//! Says once, at start, of which version the API server is, and what it lacks of what regcred makes use of.

use std::time::Duration;

use kube::Client;

const AGAIN: Duration = Duration::from_secs(5);

/// What regcred makes use of: the first minor version that has it, and what an older one means.
const USES: [(u32, &str); 3] = [
    (30, "the cage, which needs ValidatingAdmissionPolicies (1.30)"),
    (34, "lists as a stream (1.34), so that they come in pages"),
    (36, "attaching at birth, which needs MutatingAdmissionPolicies (1.36)"),
];

/// Asks until the API server answers, and logs one line.
pub(crate) async fn log_version(client: Client) {
    loop {
        match client.apiserver_version().await {
            Ok(info) => {
                // One that emulates an older version serves what that one did.
                let minor = info.emulation_minor.as_ref().unwrap_or(&info.minor);
                return log(&info.git_version, number(minor));
            }
            Err(kube::Error::Api(status)) => {
                return tracing::info!(
                    code = status.code,
                    "the API server does not say of which version it is"
                );
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn log(version: &str, minor: Option<u32>) {
    let lacks = lacks(minor);
    if lacks.is_empty() {
        tracing::info!(kubernetes = version, "the API server has all that regcred makes use of");
    } else {
        tracing::info!(
            kubernetes = version,
            lacks = lacks.join("; "),
            "the API server lacks what a later version has"
        );
    }
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
