//! Events on RegistryCredentials: on transitions only, as the report found them.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType};
use regcred_api::{Reason, RegistryCredential};

use crate::calls::answer;
use crate::context::Context;

/// The longest note that the API server takes (k8s.io/kubernetes, pkg/apis/core/validation).
const NOTE_MAX: usize = 1024;

/// Publishes events. One that cannot be written is logged and not tried again: status has said it already.
pub(super) async fn publish(context: &Context, name: &str, uid: &str, events: Vec<regcred_planner::Event>) {
    let recorder = context.calls.recorder(&context.options.identity);
    let reference = ObjectReference {
        api_version: Some(RegistryCredential::api_version(&()).into_owned()),
        kind: Some(RegistryCredential::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..Default::default()
    };
    for event in events {
        let reason = event.reason;
        let event = Event {
            type_: if reason.is_warning() { EventType::Warning } else { EventType::Normal },
            reason: reason.to_string(),
            note: Some(truncated(event.note)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        log(name, reason, event.note.as_deref().unwrap_or_default());
        if let Err(error) = answer(recorder.publish(&event, &reference)).await
            && let Some(unsaid) = context.troubles.events.note((), error.code())
        {
            let (code, cause) = (error.code(), error.meaning());
            tracing::warn!(credential = %name, %reason, code, %cause, unsaid, "an event could not be written");
        }
    }
}

/// What no other line tells is told by that of its event.
fn log(name: &str, reason: Reason, cause: &str) {
    match reason {
        Reason::InvalidSpec
        | Reason::TargetNameNotAllowed
        | Reason::NoNamespaceSelected
        | Reason::ExpiringSoon
        | Reason::Expired => {
            tracing::warn!(credential = %name, %reason, cause, "a RegistryCredential needs somebody");
        }
        _ => tracing::debug!(credential = %name, %reason, cause, "an event"),
    }
}

fn truncated(mut note: String) -> String {
    let end = (0..=NOTE_MAX.min(note.len())).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
    note.truncate(end);
    note
}
