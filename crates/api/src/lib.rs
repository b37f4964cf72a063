//! The contract with users: the cluster-scoped `RegistryCredential` and every name that regcred
//! writes or reads on other objects.
//!
//! | file | what it holds |
//! |---|---|
//! | [`spec`] | what an admin writes, with the CEL rules that the API server enforces |
//! | [`status`] | what regcred answers |
//! | [`condition`] | the kinds of conditions and their reasons, as closed sets |
//! | [`names`] | group, labels, annotations, finalizer, field manager |
//! | [`crd`] | the `CustomResourceDefinition` and its YAML |
//!
//! This crate knows neither a Kubernetes client nor a runtime.

pub mod condition;
pub mod crd;
pub mod names;
pub mod spec;
pub mod status;

pub use spec::{RegistryCredential, RegistryCredentialSpec};
pub use status::RegistryCredentialStatus;
