//! Many seeds on all cores.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::run::{Outcome, run};

/// Runs every seed of a range, each core one at a time, and tells of each that went wrong as soon as it did.
pub fn search(seeds: std::ops::Range<u64>, found: impl Fn(u64, Outcome) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| work(&next, seeds.end, &found));
        }
    });
}

fn work(next: &AtomicU64, end: u64, found: &impl Fn(u64, Outcome)) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let outcome = run(seed);
        if !outcome.problems.is_empty() {
            found(seed, outcome);
        }
    }
}

/// The account of a seed: what happened, what was wrong, and the command that shows it again.
pub fn account(seed: u64, outcome: &Outcome) -> String {
    let trace = outcome.trace.iter().cloned();
    trace.chain([verdict(seed, outcome)]).collect::<Vec<_>>().join("\n")
}

/// What was wrong with a seed, and the command that shows it again.
pub fn verdict(seed: u64, outcome: &Outcome) -> String {
    let problems = outcome.problems.iter().map(|problem| format!("seed {seed}: {problem}"));
    let end = if outcome.problems.is_empty() { "nothing was wrong" } else { "again" };
    problems.chain([format!("{end}: just simulate --seed {seed}")]).collect::<Vec<_>>().join("\n")
}
