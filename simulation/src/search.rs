//! Many seeds on all cores.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::run::{Outcome, run};

/// Runs every seed of a range, each core one at a time. Those that went wrong, in order.
pub fn search(seeds: std::ops::Range<u64>) -> Vec<(u64, Outcome)> {
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| work(&next, seeds.end, &failed));
        }
    });
    let mut failed = failed.into_inner();
    failed.sort_by_key(|(seed, _)| *seed);
    failed
}

fn work(next: &AtomicU64, end: u64, failed: &Mutex<Vec<(u64, Outcome)>>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let outcome = run(seed);
        if !outcome.problems.is_empty() {
            failed.lock().push((seed, outcome));
        }
    }
}

/// The account of a seed that went wrong, with the command that shows it again.
pub fn account(seed: u64, outcome: &Outcome) -> String {
    let mut lines = outcome.trace.clone();
    lines.extend(outcome.problems.iter().map(|problem| format!("seed {seed}: {problem}")));
    lines.push(format!("again: just simulate --seed {seed}"));
    lines.join("\n")
}
