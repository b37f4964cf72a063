//! The contract with users: the cluster-scoped `RegistryCredential` and every name that regcred
//! writes or reads on other objects.
//!
//! | file | what it holds |
//! |---|---|
//! | `spec.rs` | what an admin writes, with the CEL rules that the API server enforces |
//! | `source.rs` | where a credential comes from: a Secret, a cloud, a registry that trusts this cluster |
//! | `ecr.rs` | the hosts of Amazon ECR, for the rule of the CRD and for the operator |
//! | `verify.rs` | whether registries are asked if a credential is good |
//! | `reserved.rs` | keys that `target.metadata` does not take, as other tools act by them |
//! | `status.rs` | what regcred answers |
//! | `condition.rs` | the types of conditions, their statuses and their reasons, as closed sets |
//! | `class.rs` | what a failure asks for: a user, patience, another try |
//! | [`names`] | group, labels, annotations, finalizer, field manager |
//! | [`crd`] | the `CustomResourceDefinition` and its YAML |
//!
//! This crate knows neither a Kubernetes client nor a runtime.

mod class;
mod condition;
pub mod crd;
mod ecr;
pub mod names;
mod reserved;
mod source;
mod spec;
mod status;
mod verify;

pub use class::Class;
pub use condition::{ConditionStatus, ConditionType, Reason};
pub use ecr::EcrHost;
pub use reserved::{DOMAINS as RESERVED_DOMAINS, reserved};
pub use source::{
    AcrSource, CloudAuth, CloudsmithSource, EcrSource, GcpSource, JfrogSource, NameRef, QuaySource,
    SecretRef, ServiceAccountAuth, Source, SourceMember,
};
pub use spec::{
    ConflictPolicy, DeletionPolicy, DockerConfigSecretRef, LabelSelector, LabelSelectorOperator,
    LabelSelectorRequirement, NamespaceSelection, NamespacesFrom, Registry, RegistryCredential,
    RegistryCredentialSpec, ServiceAccountSelection, ServiceAccountsFrom, Target, TargetMetadata,
};
pub use status::{
    Failure, MAX_FAILURES, NamespaceCounts, RegistryCredentialStatus, RegistryStatus, ServiceAccountCounts,
    Summary, VerificationStatus,
};
pub use verify::{OnRejected, Verify, VerifyMode};
