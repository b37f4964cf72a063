//! Objects of the API server become the plain data of the planner. managedFields are read as they arrive and
//! not kept: they are most of an object's size.
//!
//! | file | what it holds |
//! |---|---|
//! | `namespace`, `service_account`, `secret`, `source`, `credential` | a kind as it is received, and what is kept of it |
//! | `common` | what several of them are read by |

mod common;
mod credential;
#[cfg(test)]
mod fixtures;
mod namespace;
mod secret;
mod service_account;
mod source;

pub(crate) use credential::credential;
pub use credential::{CredentialBody, CredentialObject};
pub use namespace::NamespaceBody;
pub(crate) use namespace::{NamespaceObject, namespace};
pub use secret::SecretBody;
pub(crate) use secret::secret;
pub use service_account::ServiceAccountBody;
pub(crate) use service_account::service_account;
pub use source::SourceSecretBody;
pub(crate) use source::source_secret;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::fixtures::{managed, read};
    use super::*;
    use crate::received::{Received, Undecodable};

    #[test]
    fn what_the_api_server_stores_is_read_however_odd() {
        let deep = (0..500).fold(json!({}), |inner, _| json!({"f:x": inner}));
        for metadata in [
            json!({"name": "a", "labels": null, "annotations": null, "managedFields": null, "ownerReferences": null}),
            json!({"name": "a", "managedFields": [managed("x", "Update", "9999-12-31T23:59:59Z", &json!({}))]}),
            json!({"name": "a", "managedFields": [managed("x", "Update", "0001-01-01T00:00:00Z", &deep)]}),
            json!({"name": "a", "managedFields": [{"manager": "x", "fieldsV1": null}, {}]}),
            json!({"name": "a", "deletionTimestamp": "9999-12-31T23:59:59Z", "selfLink": 7, "unknown": [[]]}),
        ] {
            let object = json!({"metadata": metadata, "unknown": {"x": 1}, "secrets": null});
            read::<ServiceAccountBody>(&object);
            read::<SecretBody>(&object);
            read::<NamespaceBody>(&object);
            read::<SourceSecretBody>(&object);
            read::<CredentialBody>(&object);
        }
    }

    #[test]
    fn an_object_that_does_not_fit_is_named_and_fails_nothing_else() {
        let text =
            r#"{"metadata": {"name": "odd", "namespace": "shop", "resourceVersion": "9"}, "data": {"k": 7}}"#;
        let received: Received<SourceSecretBody> = serde_json::from_str(text).expect("one with a name");
        assert_eq!(
            (received.namespace(), received.name(), received.resource_version()),
            ("shop", "odd", "9")
        );
        assert_eq!(format!("{received:?}"), "shop/odd");
        assert_eq!(received.into_body().err(), Some(Undecodable));

        let list = format!(
            r#"{{"apiVersion":"v1","kind":"SecretList","metadata":{{}},"items":[{text},{{"metadata":{{"name":"good"}}}}]}}"#
        );
        let list: kube_core::ObjectList<Received<SourceSecretBody>> =
            serde_json::from_str(&list).expect("a list");
        let readable: Vec<_> = list.items.iter().map(Received::is_readable).collect();
        assert_eq!(readable, [false, true]);

        let event = format!(r#"{{"type":"MODIFIED","object":{text}}}"#);
        let event: kube_core::watch::WatchEvent<Received<SourceSecretBody>> =
            serde_json::from_str(&event).expect("an event");
        assert!(matches!(event, kube_core::watch::WatchEvent::Modified(received) if !received.is_readable()));
    }
}
