//! Pure planning. What was observed in a namespace becomes ordered steps, and what came of those
//! steps becomes status. Nothing here talks to a cluster, reads a clock or draws a random number.
//!
//! The files, in the order in which a change runs through them. Each uses only those above it:
//!
//! | file | what it does |
//! |---|---|
//! | `error.rs` | why a step fails ([`StepError`]), and what follows from it |
//! | `observed.rs` | what was observed, as plain data: [`Namespace`], [`ServiceAccount`], [`Secret`] |
//! | `select.rs` | which namespaces and ServiceAccounts a spec selects |
//! | `refresh.rs` | when the sources of a RegistryCredential are looked at next |
//! | `verify.rs` | how the credential of a server is verified ([`Verification`]), and when its registry is asked next |
//! | `validate.rs` | a raw spec becomes [`Validated`], once; after it nothing reads the raw spec |
//! | `copy.rs` | the desired Secret ([`SecretCopy`]), and whether an observed one matches it |
//! | `step.rs` | what is decided, as plain data: [`Plan`], [`Step`], [`Goal`] |
//! | `memory.rs` | what is remembered of earlier passes: writes that others undo, writes that failed |
//! | `world.rs` | everything that decides what is written in one namespace, as one [`World`] |
//! | `claim.rs` | which credential governs each target name in a namespace |
//! | `service_account.rs` | what is to change on the `imagePullSecrets` of a ServiceAccount |
//! | `plan.rs` | [`plan()`] makes a [`Plan`] of a [`World`]: ordered steps, and what is refused |
//! | `change.rs` | what a step changes, as an admin tells changes apart ([`Change`]) |
//! | `outcome.rs` | what became of the steps, as one [`PairReport`] for each credential |
//! | `ledger.rs` | those reports, summed over the cluster |
//! | `words.rs` | how messages count, list and give causes |
//! | `source_state.rs` | what a look at the sources came to ([`SourceState`]) |
//! | `verified.rs` | what a condition says of the answers of all registries |
//! | `registries.rs` | what status says of each server |
//! | `report.rs` | [`report()`] makes status and events of the sums |

mod change;
mod claim;
mod copy;
mod error;
mod ledger;
mod memory;
mod observed;
mod outcome;
mod plan;
mod refresh;
mod registries;
mod report;
mod select;
mod service_account;
mod source_state;
mod step;
mod validate;
mod verified;
mod verify;
mod words;
mod world;

pub use change::{Change, ChangeKind, changes};
pub use copy::{Payload, SecretCopy};
pub use error::{Gate, StepError};
pub use ledger::{Contested, Ledger, Tally};
pub use memory::Memory;
pub use observed::{MAX_ENTRIES, Marks, Namespace, Secret, ServiceAccount, StringMap, Trust, Uid};
pub use outcome::{AccountCounts, Fault, PairReport, State, outcomes};
pub use plan::plan;
pub use refresh::{Look, next_look};
pub use report::{Event, Observed, report};
pub use select::{NamespaceFilter, SelectorError, ServiceAccountFilter};
pub use source_state::{ResolvedRegistry, SourceNote, SourceState};
pub use step::{Goal, ListPatch, Object, Pair, Plan, Precondition, Removal, Role, Step};
pub use validate::{InvalidSpec, Registry, Scope, Settings, Validated, validate};
pub use verified::Verified;
pub use verify::{Answer, Proof, Verdict, Verification, Verifications, latest_check, next_check};
pub use words::{naming_source, quoted};
pub use world::{Credential, World};
