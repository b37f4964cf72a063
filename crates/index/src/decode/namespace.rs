//! A namespace, as it is received and as it is kept.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use regcred_planner::{StringMap, Uid};
use serde::Deserialize;

use super::common::{body, labels};
use crate::interest::Interest;
use crate::intern::Interner;
use crate::metadata::Metadata;
use crate::received::Body;

/// A namespace as it is received.
#[derive(Clone, Deserialize)]
pub struct NamespaceBody {
    metadata: Metadata,
}

body!(NamespaceBody, core::Namespace, metadata_only: true);

/// A namespace as it was observed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamespaceObject {
    /// UID.
    pub uid: Uid,
    /// Labels, as far as selectors name them.
    pub labels: StringMap,
    /// The annotation `regcred.dev/exclude` opts it out.
    pub excluded: bool,
    /// It is being deleted.
    pub terminating: bool,
}

pub(crate) fn namespace(body: &NamespaceBody, kept: &Interest, interner: &mut Interner) -> NamespaceObject {
    let metadata = &body.metadata;
    NamespaceObject {
        uid: Arc::from(metadata.uid.as_str()),
        excluded: metadata.is_excluded(),
        terminating: metadata.is_being_deleted(),
        labels: labels(metadata, kept, interner),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decode::fixtures::{interests, read};

    #[test]
    fn a_namespace_is_read_with_what_excludes_it() {
        let kept = interests().namespaces;
        let read = |metadata: Value| {
            namespace(&read(&json!({"metadata": metadata})), &kept, &mut Interner::default())
        };
        let plain = read(json!({"name": "a", "uid": "n1", "labels": {"pull": "yes"}}));
        assert_eq!((plain.excluded, plain.terminating, plain.labels["pull"].as_str()), (false, false, "yes"));
        for (value, excluded) in [
            ("true", true),
            ("True", true),
            ("1", true),
            ("yes", true),
            ("no", true),
            ("false", false),
            ("", false),
        ] {
            let annotations = json!({"regcred.dev/exclude": value});
            assert_eq!(
                read(json!({"name": "a", "annotations": annotations})).excluded,
                excluded,
                "{value:?}"
            );
        }
        assert!(read(json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"})).terminating);
    }
}
