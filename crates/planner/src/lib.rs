//! Pure planning. What was observed in a namespace becomes ordered steps, and what came of those
//! steps becomes status. Nothing here talks to a cluster, reads a clock or draws a random number.
//!
//! The pipeline, in the order in which a change runs through it:
//!
//! 1. [`validate`]: a raw spec becomes [`validate::Validated`], once; after it nothing reads the spec.
//! 2. [`world`]: plain data for what was observed, one [`world::World`] for a namespace.
//! 3. [`memory`]: what the last passes over a namespace left behind: names seen attached, writes
//!    that are held back after a failure, ServiceAccounts somebody fights over.
//! 4. [`select`]: which namespaces and ServiceAccounts a credential is for.
//! 5. [`claim`]: which credential governs each target name in a namespace.
//! 6. [`secret`] and [`service_account`]: the wanted Secret, the wanted list, and the way there.
//! 7. [`plan()`]: all of it, as an ordered list of [`Step`]s and the refusals.
//! 8. [`outcome`]: what became of the steps, as one [`outcome::PairReport`] for each credential.
//! 9. [`ledger`]: those reports, summed over the cluster.
//! 10. [`report()`]: the sums become status and events.

pub mod claim;
pub mod error;
pub mod ledger;
pub mod memory;
pub mod outcome;
pub mod plan;
pub mod report;
pub mod secret;
pub mod select;
pub mod service_account;
pub mod validate;
pub mod world;

pub use plan::{Plan, Step, plan};
pub use report::report;
