//! A bounded number of seeds in each test run, and those that found something before.

use std::collections::BTreeMap;
use std::sync::Mutex;

use regcred_simulation::{account, run, search};

/// How many seeds run each time.
const SEEDS: u64 = 2_000;

/// A seed in each line, and what it found.
const REGRESSIONS: &str = include_str!("regressions.txt");

#[test]
fn every_cluster_ends_as_its_specs_say() {
    let failed = Mutex::new(BTreeMap::new());
    search(0..SEEDS, |seed, outcome| drop(failed.lock().unwrap().insert(seed, outcome)));
    let failed = failed.into_inner().unwrap();
    if let Some((seed, outcome)) = failed.first_key_value() {
        panic!("{}\n{} of {SEEDS} seeds went wrong", account(*seed, outcome), failed.len());
    }
}

#[test]
fn what_was_found_once_is_not_found_again() {
    for line in REGRESSIONS.lines().filter(|line| !line.starts_with('#')) {
        let (seed, found) = line.split_once(' ').expect("a seed and what it found");
        let seed = seed.parse().expect("a number");
        let outcome = run(seed);
        assert!(outcome.problems.is_empty(), "{}\nit once found: {found}", account(seed, &outcome));
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 0..40 {
        let (first, second) = (run(seed).trace, run(seed).trace);
        let differs = first.iter().zip(&second).position(|(first, second)| first != second);
        if let Some(at) = differs {
            panic!("seed {seed} differs:\n{}\n{}", first[at], second[at]);
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}
