//! `simulate --seed N` shows one run; `simulate --seeds N [--from N]` looks for one that goes wrong.

use std::io::Write;
use std::process::ExitCode;

use regcred_simulation::run::{Outcome, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    match (number("--seed"), number("--seeds")) {
        (Some(seed), _) => show(seed),
        (None, Some(count)) => search(number("--from").unwrap_or(0), count),
        (None, None) => {
            say("give --seed N, or --seeds N and perhaps --from N");
            ExitCode::FAILURE
        }
    }
}

fn show(seed: u64) -> ExitCode {
    match run(seed) {
        Ok(outcome) => {
            outcome.trace.iter().for_each(|line| say(line));
            verdict(seed, &outcome)
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn search(from: u64, count: u64) -> ExitCode {
    let mut failed = 0;
    for seed in from..from + count {
        let Ok(outcome) = run(seed) else { return ExitCode::FAILURE };
        if !outcome.problems.is_empty() {
            failed += 1;
            verdict(seed, &outcome);
        }
    }
    say(&format!("{failed} of {count} seeds from {from} went wrong"));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn verdict(seed: u64, outcome: &Outcome) -> ExitCode {
    if outcome.problems.is_empty() {
        say(&format!("seed {seed} is as it should be"));
        return ExitCode::SUCCESS;
    }
    outcome.problems.iter().for_each(|problem| say(&format!("seed {seed}: {problem}")));
    ExitCode::FAILURE
}

/// Nobody is left to tell if this cannot be written.
fn say(line: &str) {
    let _unheard = writeln!(std::io::stdout(), "{line}");
}
