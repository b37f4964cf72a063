//! What regcred answers in `status`. Its size does not grow with the number of namespaces.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::condition::ConditionType;

/// How many failures status lists at most; `failuresOmitted` counts the rest.
pub const MAX_FAILURES: usize = 20;

/// What is in place, what is not, and why.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct RegistryCredentialStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The value of the annotation `regcred.dev/requestedAt` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,

    /// Ready, Reconciling, Stalled, SourceReady, CredentialsVerified, SecretsSynced, ServiceAccountsAttached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The selected namespaces, counted.
    #[serde(default)]
    pub namespaces: NamespaceCounts,

    /// The selected ServiceAccounts, counted.
    #[serde(default)]
    pub service_accounts: ServiceAccountCounts,

    /// The same as text, for the columns of `kubectl get`.
    #[serde(default)]
    pub summary: Summary,

    /// What each server's source last gave, those of `dockerConfigSecretRefs` too; of more than 64 servers the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["server".into()]))]
    pub registries: Vec<RegistryStatus>,

    /// The whole copy's fingerprint, as in the annotation `regcred.dev/fingerprint` of each copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,

    /// The first failures, by namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub failures: Vec<Failure>,

    /// How many failures are not listed.
    #[serde(default)]
    #[schemars(extend("format" = "int64"))]
    pub failures_omitted: usize,
}

impl RegistryCredentialStatus {
    /// The condition of this type, if it is present.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind.as_str())
    }
}

/// Selected namespaces, counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct NamespaceCounts {
    /// How many the spec selects.
    #[serde(default)]
    #[schemars(extend("format" = "int64"))]
    pub matched: usize,
    /// How many of them hold the right Secret.
    #[serde(default)]
    #[schemars(extend("format" = "int64"))]
    pub synced: usize,
    /// How many of them cannot have it.
    #[serde(default)]
    #[schemars(extend("format" = "int64"))]
    pub failed: usize,
}

/// Selected ServiceAccounts, counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ServiceAccountCounts {
    /// How many the spec selects.
    #[serde(default)]
    #[schemars(extend("format" = "int64"))]
    pub matched: usize,
    /// How many of them name the Secret.
    #[serde(default)]
    #[schemars(extend("format" = "int64"))]
    pub attached: usize,
    /// How many of them could not be written.
    #[serde(default)]
    #[schemars(extend("format" = "int64"))]
    pub failed: usize,
    /// How many of them somebody else keeps taking the name off.
    #[serde(default)]
    #[schemars(extend("format" = "int64"))]
    pub contested: usize,
}

/// Text for the columns of `kubectl get`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// In sync of selected, as in `41/42`.
    #[serde(default)]
    pub namespaces: String,
    /// Attached of selected.
    #[serde(default)]
    pub service_accounts: String,
    /// When the first credential expires (RFC 3339), where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_expiry: Option<String>,
    /// Name of the Secret in each namespace.
    #[serde(default)]
    pub secret: String,
}

/// What one registry's source last gave.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The server, as in spec.
    pub server: String,
    /// The kind of its source: `Secret`, `ECR`, `GCP`, `ACR`, `Quay`, `JFrog` or `Cloudsmith`.
    pub source: String,
    /// The first 8 hexadecimal digits of a keyed digest: the same here and there, or changed?
    pub fingerprint: String,
    /// When the credential was last seen to change.
    pub refreshed_at: Time,
    /// When it expires, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When regcred asks for another token; absent where somebody else replaces the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_refresh_at: Option<Time>,
    /// What the registry said of the credential, where `verify` has it asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
}

/// What a registry said of a credential.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// The verdict, as one of the reasons of the condition `CredentialsVerified`.
    pub reason: String,
    /// What that means, and what to do.
    pub message: String,
    /// The fingerprint of the credential that the registry was asked about; another than the one beside it where a rejected
    /// credential is held back.
    pub fingerprint: String,
    /// When the registry was asked.
    pub checked_at: Time,
    /// When it is asked again, unless the credential changes before.
    pub next_check_at: Time,
}

/// One thing that is not in place.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Failure {
    /// Its namespace.
    pub namespace: String,
    /// `Secret` or `ServiceAccount`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Why, as one of the reasons of the conditions.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Since when.
    pub since: Time,
}
