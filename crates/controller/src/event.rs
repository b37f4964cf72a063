//! Events on RegistryCredentials: on transitions only, as the report found them.

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use regcred_api::RegistryCredential;

use crate::Context;
use crate::client::CALL_DEADLINE;

/// The longest note that the API server takes (k8s.io/kubernetes, pkg/apis/core/validation).
const NOTE_MAX: usize = 1024;

/// Publishes events. One that cannot be written is told in the log and not tried again: status has
/// said it already.
pub async fn publish(context: &Context, name: &str, uid: &str, events: Vec<regcred_planner::Event>) {
    let reporter = Reporter {
        controller: regcred_api::names::FIELD_MANAGER.to_owned(),
        instance: Some(context.options.identity.clone()),
    };
    let recorder = Recorder::new(context.clients.write.clone(), reporter);
    let reference = k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(<RegistryCredential as kube::Resource>::api_version(&()).into_owned()),
        kind: Some(<RegistryCredential as kube::Resource>::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..Default::default()
    };
    for event in events {
        let event = Event {
            type_: if event.reason.is_warning() { EventType::Warning } else { EventType::Normal },
            reason: event.reason.to_string(),
            note: Some(truncated(event.note)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let write = recorder.publish(&event, &reference);
        if !matches!(tokio::time::timeout(CALL_DEADLINE, write).await, Ok(Ok(()))) {
            tracing::warn!(credential = %name, reason = event.reason, "an event could not be written");
        }
    }
}

fn truncated(mut note: String) -> String {
    let end = (0..=NOTE_MAX.min(note.len())).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
    note.truncate(end);
    note
}
