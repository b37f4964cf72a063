//! Names that regcred writes on objects of a cluster, or reads there. Changing one is a breaking
//! change: clusters hold objects that carry them.

/// API group of the resource; also the prefix of every label and annotation below.
pub const GROUP: &str = "regcred.dev";

/// Field manager of every write, as `kubectl get --show-managed-fields` prints it.
pub const FIELD_MANAGER: &str = "regcred";

/// On a RegistryCredential, so that entries are detached and copies removed before it is deleted.
pub const FINALIZER: &str = "regcred.dev/cleanup";

/// Label on a copy: which tool manages it (a recommended label of Kubernetes).
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "regcred";

/// Label on a copy: the name of its RegistryCredential.
pub const CREDENTIAL_LABEL: &str = "regcred.dev/credential";

/// Annotation on a copy: the UID of its RegistryCredential.
pub const CREDENTIAL_UID_ANNOTATION: &str = "regcred.dev/credential-uid";

/// Annotation on a copy: the servers it has an entry for, sorted, separated by commas; of many only the first.
pub const SERVERS_ANNOTATION: &str = "regcred.dev/servers";

/// Annotation on a copy: keyed digest of its content, 32 hexadecimal digits.
pub const FINGERPRINT_ANNOTATION: &str = "regcred.dev/fingerprint";

/// Annotation on a copy: when the first of its credentials expires (RFC 3339), where that is known. On a source Secret:
/// when what somebody wrote into it expires.
pub const EXPIRES_AT_ANNOTATION: &str = "regcred.dev/expires-at";

/// Annotation on a copy under a former target name: since when the present one is in place (RFC 3339).
pub const SUPERSEDED_AT_ANNOTATION: &str = "regcred.dev/superseded-at";

/// The annotations of a copy that change with what it holds, or with whether it is needed: a merge patch writes them, together
/// with the data, where nothing else of the copy differs.
pub const CONTENT_ANNOTATIONS: [&str; 4] =
    [SERVERS_ANNOTATION, FINGERPRINT_ANNOTATION, EXPIRES_AT_ANNOTATION, SUPERSEDED_AT_ANNOTATION];

/// Annotation on a Secret that `deletionPolicy: Retain` left: the name of the RegistryCredential that made it. One
/// of that name may take it back.
pub const RETAINED_FROM_ANNOTATION: &str = "regcred.dev/retained-from";

/// Annotation on a ServiceAccount: the names in its `imagePullSecrets` that regcred put there, sorted, separated by
/// commas. No other entry is ever taken off.
pub const ATTACHED_ANNOTATION: &str = "regcred.dev/attached";

/// Annotation on a Namespace or a ServiceAccount that opts it out; [`opts_out`] says by which values.
pub const EXCLUDE_ANNOTATION: &str = "regcred.dev/exclude";

/// Whether this value of [`EXCLUDE_ANNOTATION`] opts an object out: `""` and `"false"` do not. Anything else does, as
/// whoever writes `"True"` or `"yes"` wants no credential. The policy that attaches at birth has the same rule in CEL.
pub fn opts_out(value: &str) -> bool {
    !matches!(value, "" | "false")
}

/// Label on a Secret of type Opaque in the source namespace: `"true"` makes it a source, [`IDENTITY`] an identity.
pub const SOURCE_LABEL: &str = "regcred.dev/source";

/// Value of [`SOURCE_LABEL`] on a Secret with keys by which a cloud is asked for tokens. They are never handed out.
pub const IDENTITY: &str = "identity";

/// The Secret, in the operator's own namespace, that holds the key of fingerprints.
pub const FINGERPRINT_KEY_SECRET: &str = "regcred-fingerprint-key";

/// Annotation on a RegistryCredential: a changed value asks for a refresh now.
pub const REQUESTED_AT_ANNOTATION: &str = "regcred.dev/requestedAt";

/// Type of every Secret that regcred writes.
pub const SECRET_TYPE: &str = "kubernetes.io/dockerconfigjson";

/// The one key in the data of such a Secret.
pub const SECRET_KEY: &str = ".dockerconfigjson";

/// The chart value without which the shipped admission policy refuses to let a Secret be adopted; the policy's
/// message names it.
pub const ADOPT_SETTING: &str = "cage.allowAdopt";

/// The chart value that says which labels and annotations the shipped admission policy lets a copy have; the
/// policy's message names it.
pub const METADATA_SETTING: &str = "cage.metadataKeys";
