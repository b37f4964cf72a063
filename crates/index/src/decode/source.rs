//! A whole Secret of the source namespace, as it is received, and what it is made for.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use regcred_api::names;
use regcred_dockerconfig::SecretBytes;
use regcred_sources::{Purpose, SourceSecret};
use serde::Deserialize;

use super::common::body;
use super::secret::{OwnedFields, marks};
use crate::interest::CopyKeys;
use crate::metadata::Metadata;
use crate::received::Body;

/// A whole Secret of the source namespace as it is received.
#[derive(Clone, Deserialize)]
pub struct SourceSecretBody {
    metadata: Metadata,
    #[serde(rename = "type")]
    kind: Option<String>,
    data: Option<std::collections::BTreeMap<String, ByteString>>,
}

body!(SourceSecretBody, core::Secret, metadata_only: false);

/// What is kept of an annotation that should hold a time: no time is as long.
const LONGEST_TIME: usize = 65;

/// The bytes of a source move; they are not copied.
pub(crate) fn source_secret(body: SourceSecretBody) -> SourceSecret {
    let bytes = |(key, ByteString(value))| (key, SecretBytes::from(value));
    let version = version(&body);
    SourceSecret {
        kind: body.kind.unwrap_or_else(|| "Opaque".to_owned()),
        version,
        expires_at: body
            .metadata
            .annotation(names::EXPIRES_AT_ANNOTATION)
            .map(|text| text.chars().take(LONGEST_TIME).collect()),
        labelled: body.metadata.label(names::SOURCE_LABEL) == Some("true"),
        purpose: purpose(&body.metadata),
        data: body.data.unwrap_or_default().into_iter().map(bytes).collect(),
    }
}

/// Another UID, or other data. Its digest is keyed by this process, and is shown to nobody: what else is written on the
/// Secret makes no other credential of it.
fn version(body: &SourceSecretBody) -> String {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let data = body.data.iter().flatten().map(|(key, ByteString(value))| (key, value));
    format!("{}/{:x}", body.metadata.uid, KEY.hash_one(data.collect::<Vec<_>>()))
}

/// The annotations by which Kubernetes and OpenShift tie a Secret with a token to its ServiceAccount. OpenShift makes
/// such Secrets of type `kubernetes.io/dockercfg`.
const OF_SERVICE_ACCOUNT: [&str; 2] =
    ["kubernetes.io/service-account.name", "openshift.io/internal-registry-auth-token.service-account"];

/// What a Secret of the source namespace is made for, where that is no source.
fn purpose(metadata: &Metadata) -> Option<Purpose> {
    if marks(metadata, &OwnedFields::default(), &CopyKeys::default()).is_some() {
        Some(Purpose::Copy)
    } else if OF_SERVICE_ACCOUNT.iter().any(|key| metadata.annotation(key).is_some()) {
        Some(Purpose::ServiceAccount)
    } else {
        (metadata.label(names::SOURCE_LABEL) == Some(names::IDENTITY)).then_some(Purpose::Identity)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decode::fixtures::read;

    #[test]
    fn a_source_is_read_with_what_it_is_made_for() {
        let read = |metadata: Value| {
            let source = source_secret(read(&json!({"metadata": metadata})));
            (source.labelled, source.purpose)
        };
        let labelled = |value: &str| json!({"name": "bot", "labels": {"regcred.dev/source": value}});
        assert_eq!(read(labelled("true")), (true, None));
        assert_eq!(read(labelled("True")), (false, None));
        assert_eq!(read(labelled("identity")), (false, Some(Purpose::Identity)));
        let mark = json!({"regcred.dev/credential-uid": "c1"});
        assert_eq!(read(json!({"name": "bot", "annotations": mark})), (false, Some(Purpose::Copy)));
        let mark = json!({"regcred.dev/credential": "pull"});
        assert_eq!(read(json!({"name": "bot", "labels": mark})), (false, Some(Purpose::Copy)));
        for key in OF_SERVICE_ACCOUNT {
            let annotated = json!({"name": "regcred-dockercfg", "annotations": {key: "regcred"}});
            assert_eq!(read(annotated), (false, Some(Purpose::ServiceAccount)), "{key}");
        }
    }

    #[test]
    fn another_version_of_a_source_is_other_data_and_nothing_else() {
        let version = |uid: &str, version: &str, data: &str| {
            let metadata = json!({"name": "keys", "uid": uid, "resourceVersion": version});
            source_secret(read(&json!({"metadata": metadata, "data": {"a": data}}))).version
        };
        assert_eq!(version("u", "1", "Ym90"), version("u", "2", "Ym90"));
        assert_ne!(version("u", "1", "Ym90"), version("u", "1", "Ym9v"));
        assert_ne!(version("u", "1", "Ym90"), version("v", "1", "Ym90"));
    }

    #[test]
    fn the_data_of_a_source_is_decoded_and_its_type_defaults_to_opaque() {
        let source = source_secret(read(&json!({"metadata": {"name": "bot"}, "data": {"user": "Ym90"}})));
        assert_eq!(source.kind, "Opaque");
        assert_eq!(source.data["user"].expose(), b"bot");
    }
}
