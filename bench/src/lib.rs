//! What regcred costs, measured from outside: the API server's audit log counts requests, a watch of the
//! driver's own sees each pair become right, `/proc` tells memory and processor time. Nothing that a subject
//! says about itself is used.
//!
//! Outermost first; each file uses only those below it:
//!
//! | file | what it is for |
//! |---|---|
//! | [`page`], [`plot`] | `docs/performance.md` and its plots, made from the raw data and nothing else |
//! | [`goals`] | each goal: what was measured, and whether that is good enough |
//! | [`suite`] | which workloads run, on which subjects, in which order |
//! | [`birth`] | an admission policy that attaches at birth: first Pods, and what it costs |
//! | [`hostile_memory`] | the operator beside objects of the largest size, and its page |
//! | [`plugin`] | an audit of a large cluster by `kubectl regcred`, and its paragraph |
//! | [`workload`], `tokens` | W1 to W12, each on one subject |
//! | [`subject`] | an operator to measure, from its file, and its process |
//! | [`cluster`] | the control plane, its namespaces, and the other users in it |
//! | [`observer`] | sees when each Secret and each entry on a ServiceAccount is in place |
//! | [`least_writes`] | the least writes, as the bare writer sends them |
//! | [`profile`] | where processor time goes, in kube-apiserver and in a subject |
//! | [`usage`] | memory and processor time of a process |
//! | [`record`] | the raw data |
//! | [`error`] | what can go wrong around a measurement |

pub mod birth;
pub mod cluster;
pub mod error;
pub mod goals;
pub mod hostile_memory;
pub mod least_writes;
pub mod observer;
pub mod page;
pub mod plot;
pub mod plugin;
pub mod profile;
pub mod record;
pub mod subject;
pub mod suite;
mod tokens;
pub mod usage;
pub mod workload;

pub use error::{Error, Result};
