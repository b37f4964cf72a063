//! How many keys wait in a queue, and for how long.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Bounds of the buckets, in seconds: from one that waits for nothing to a rotation over ten thousand namespaces.
const BUCKETS: [f64; 11] = [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

/// Measures one queue.
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    pub(super) depth: Gauge,
    pub(super) wait: Histogram,
}

impl Default for Waits {
    fn default() -> Self {
        Self { depth: Gauge::default(), wait: histogram() }
    }
}

impl Waits {
    /// So many keys wait now.
    pub(crate) fn waiting(&self, keys: usize) {
        self.depth.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// A key was taken after so long.
    pub(crate) fn taken_after(&self, wait: Duration) {
        self.wait.observe(wait.as_secs_f64());
    }
}

pub(super) fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}
