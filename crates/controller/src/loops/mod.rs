//! The loops, each with a queue of its own.
//!
//! | file | key | what a pass does |
//! |---|---|---|
//! | [`credential`] | RegistryCredential | puts our finalizer on, and takes it off once nothing is left |
//! | [`source`] | RegistryCredential | looks at the sources, and renders the copy that every namespace gets |
//! | [`probe`] | RegistryCredential | asks a registry whether a credential is good |
//! | [`namespace`] | namespace | observe, plan, apply, until there is nothing to do; report |
//! | [`apply`] | | one request for each step: the only writer of Secrets and ServiceAccounts |
//! | [`status`] | RegistryCredential | the only writer of status |
//! | [`failures`] | | writes of status and finalizers that failed, and when each is tried again |
//! | [`verification`] | | the walk in which every copy is looked at again |
//! | [`event`] | | the events of a status's transitions |

mod apply;
pub(crate) mod credential;
mod event;
mod failures;
pub(crate) mod namespace;
pub(crate) mod probe;
pub(crate) mod source;
pub(crate) mod status;
pub(crate) mod verification;

use std::sync::Arc;

use crate::context::Context;
use crate::queue::{Queue, Work};

/// The next key of a queue; `None` once the operator is to stop.
async fn next<'a>(context: &Context, queue: &'a Queue<Arc<str>>) -> Option<Work<'a, Arc<str>>> {
    tokio::select! {
        biased;
        () = context.stage.stopping.cancelled() => None,
        work = queue.next() => Some(work),
    }
}
