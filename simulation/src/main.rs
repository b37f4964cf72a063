//! `simulate --seed N` shows one run; `simulate --seeds N [--from N]` looks for runs that go wrong.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use regcred_simulation::{account, run, search, verdict};
use tokio::time::Instant;

/// Runs the operator in simulated clusters, each drawn from a seed.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Args {
    #[command(flatten)]
    what: What,

    /// The first of the seeds
    #[arg(long, value_name = "SEED", default_value_t = 0, conflicts_with = "seed")]
    from: u64,
}

/// One seed or many.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Show the run of this seed
    #[arg(long)]
    seed: Option<u64>,

    /// Try so many seeds, and tell of those that went wrong
    #[arg(long, value_name = "NUMBER")]
    seeds: Option<u64>,
}

fn main() -> ExitCode {
    let Args { what, from } = Args::parse();
    match what.seed {
        Some(seed) => show(seed),
        None => look(from, what.seeds.unwrap_or_default()),
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
    search(from..from.saturating_add(count), |seed, outcome| {
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_is_no_argument_of_it_is_refused() {
        for wrong in [
            &[][..],
            &["--seed"],
            &["--seed", "x"],
            &["--sed", "1"],
            &["--seeds", "1", "--seed", "1"],
            &["--seed", "1", "--from", "1"],
        ] {
            let arguments = std::iter::once(&"simulate").chain(wrong);
            assert!(Args::try_parse_from(arguments).is_err(), "{wrong:?}");
        }
        let args = Args::try_parse_from(["simulate", "--seeds", "10", "--from", "5"]).unwrap();
        assert_eq!((args.what.seeds, args.from), (Some(10), 5));
    }
}
