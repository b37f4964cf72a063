//! Objects that cannot be read are skipped; each is logged once, however often its owner writes it.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// How many are remembered by name. More are only counted in the metric.
const MAX_REMEMBERED: usize = 256;

/// The objects that were logged, by kind and name.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(Mutex<BTreeSet<(&'static str, String)>>);

impl Unreadable {
    /// Logs that an object is skipped, unless that was logged before.
    pub(crate) fn log_once(&self, kind: &'static str, object: String) {
        let mut logged = self.0.lock();
        if logged.len() < MAX_REMEMBERED && !logged.contains(&(kind, object.clone())) {
            tracing::warn!(
                kind,
                object,
                "the object does not fit its type and is skipped; see it with kubectl get --output json"
            );
            logged.insert((kind, object));
        }
    }
}
