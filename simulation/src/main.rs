//! `simulate --seed N` shows one run; `simulate --seeds N [--from N]` looks for runs that go wrong.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use regcred_simulation::{account, run, search, verdict};
use tokio::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    match (number("--seed"), number("--seeds")) {
        (Some(seed), _) => show(seed),
        (None, Some(count)) => look(number("--from").unwrap_or(0), count),
        (None, None) => {
            say("give --seed N, or --seeds N and perhaps --from N");
            ExitCode::FAILURE
        }
    }
}

fn show(seed: u64) -> ExitCode {
    let outcome = run(seed);
    say(&account(seed, &outcome));
    if outcome.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn look(from: u64, count: u64) -> ExitCode {
    let start = Instant::now();
    let wrong = AtomicU64::new(0);
    search(from..from + count, |seed, outcome| {
        wrong.fetch_add(1, Ordering::Relaxed);
        say(&verdict(seed, &outcome));
    });
    let (wrong, took) = (wrong.into_inner(), start.elapsed().as_secs_f64());
    say(&format!("{wrong} of {count} seeds from {from} went wrong; {took:.0} s"));
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Nobody is left to tell if this cannot be written.
fn say(line: &str) {
    let _unheard = writeln!(std::io::stdout(), "{line}");
}
