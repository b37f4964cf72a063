//! The whole operator against an API server in memory, in paused time. A seed stands for a cluster, for what people
//! do to it, and for everything that goes wrong meanwhile; the same seed gives the same run.
//!
//! | file | what it holds |
//! |---|---|
//! | `run` | what a seed stands for, and one run of it |
//! | `search` | many runs |
//! | `server` | the API server in memory |
//! | `faults` | the network between the operator and it |
//! | `replica` | the operator, killed and started again |
//! | `cluster` | what Kubernetes itself does |
//! | `people` | what people and their tools do |
//! | `issuer` | what stands in for a cloud that gives tokens |
//! | `registry` | what stands in for registries that are asked whether a credential is good |
//! | `meddler` | somebody who writes what the operator has just written |
//! | `guard` | what the operator may never do |
//! | `oracle` | what the cluster should look like in the end |
//! | `trace` | what happened, in words |
//! | `names` | the names of everything |

mod cluster;
mod faults;
mod guard;
mod issuer;
mod meddler;
mod names;
mod oracle;
mod people;
mod registry;
mod replica;
mod run;
mod search;
mod server;
mod trace;

pub use run::{Outcome, run};
pub use search::{account, search, verdict};
pub use server::{Server, Traits};
