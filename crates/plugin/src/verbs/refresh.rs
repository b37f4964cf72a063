//! `refresh`: has the operator try again now, also what it holds back. It writes one annotation.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use regcred_api::{ConditionType, RegistryCredential, names};
use serde::Serialize;
use serde_json::json;

use crate::cluster::{Cluster, Error};
use crate::print::{Colour, Report, Style};
use crate::text::sentence;

/// How often status is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// The report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RefreshReport {
    name: String,
    requested_at: String,
    /// The operator has acted on it.
    handled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Asks for a refresh, and waits for `wait` until the operator has acted on it.
pub(crate) async fn refresh(
    cluster: &mut Cluster,
    name: &str,
    requested_at: String,
    wait: Option<Duration>,
) -> Result<RefreshReport, Error> {
    let api = Api::<RegistryCredential>::all(cluster.client.clone());
    let patch = json!({"metadata": {"annotations": {names::REQUESTED_AT_ANNOTATION: requested_at}}});
    let params = PatchParams { field_manager: Some("kubectl-regcred".to_owned()), ..PatchParams::default() };
    let doing = |error| Error::Request { doing: format!("annotating RegistryCredential {name}"), error };
    api.patch_metadata(name, &params, &Patch::Merge(patch)).await.map_err(doing)?;
    let Some(wait) = wait else { return Ok(RefreshReport::new(name, requested_at, false, None)) };
    let told = tokio::time::timeout(wait, handled(&api, name, &requested_at));
    let told = cluster.progress.during("waiting for the operator", told).await;
    cluster.progress.end();
    let ready = told.map_err(|_| late(name, wait))?.map_err(doing)?;
    Ok(RefreshReport::new(name, requested_at, true, ready.as_ref()))
}

/// The condition `Ready` after the operator has acted on the request.
async fn handled(
    api: &Api<RegistryCredential>,
    name: &str,
    requested_at: &str,
) -> kube::Result<Option<Condition>> {
    loop {
        let status = api.get_status(name).await?.status.unwrap_or_default();
        let is_working = status
            .condition(ConditionType::Reconciling)
            .is_some_and(|condition| condition.status == "True" && condition.reason == "Progressing");
        if status.last_handled_request.as_deref() == Some(requested_at) && !is_working {
            return Ok(status.condition(ConditionType::Ready).cloned());
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn late(name: &str, wait: Duration) -> Error {
    Error::Missing(format!(
        "the operator has not acted on RegistryCredential {name} within {} s; kubectl regcred check says whether it runs",
        wait.as_secs()
    ))
}

impl RefreshReport {
    fn new(name: &str, requested_at: String, handled: bool, ready: Option<&Condition>) -> Self {
        Self {
            name: name.to_owned(),
            requested_at,
            ready: ready.map(|ready| format!("{} {}", sentence(&ready.status), sentence(&ready.reason))),
            message: ready.map(|ready| sentence(&ready.message)),
            handled,
        }
    }
}

impl Report for RefreshReport {
    const KIND: &'static str = "RefreshReport";

    fn text(&self, style: Style) -> String {
        let Self { name, .. } = self;
        match (&self.ready, &self.message) {
            (Some(ready), Some(message)) => {
                let colour = if ready.starts_with("True") { Colour::Green } else { Colour::Red };
                format!("{name}   {}   {message}\n", style.paint(colour, &format!("Ready={ready}")))
            }
            _ if self.handled => format!("{name}   tried again; its status says nothing yet\n"),
            _ => format!("{name}   asked for; add --wait to see what comes of it\n"),
        }
    }

    fn names(&self) -> Vec<String> {
        vec![format!("registrycredential.regcred.dev/{}", self.name)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false, headers: true, wide: false };

    #[test]
    fn the_answer_says_what_came_of_it() {
        let condition =
            serde_json::from_value(json!({"type": "Ready", "status": "False", "reason": "SourceNotReady",
            "message": "Secret bot is missing", "lastTransitionTime": "2026-01-01T00:00:00Z"}));
        let condition: Condition = condition.expect("a condition");
        let report =
            |handled, ready| RefreshReport::new("pull", "now".to_owned(), handled, ready).text(PLAIN);
        assert_eq!(
            report(true, Some(&condition)),
            "pull   Ready=False SourceNotReady   Secret bot is missing\n"
        );
        assert_eq!(report(true, None), "pull   tried again; its status says nothing yet\n");
        assert_eq!(report(false, None), "pull   asked for; add --wait to see what comes of it\n");
    }
}
