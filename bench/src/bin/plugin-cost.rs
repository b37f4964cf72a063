//! `just plugin-cost`: measures an audit of a large cluster, and writes the numbers into `docs/kubectl-regcred.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::process::ExitCode;

use clap::Parser;
use regcred_bench::Result;
use regcred_bench::plugin::{Size, measure};

/// Measures an audit of a large cluster, holds it to its bounds, and writes the numbers into docs/kubectl-regcred.md.
#[derive(Parser)]
struct Arguments {
    /// Pods; the API server takes about a hundred in a second
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1000..))]
    pods: u32,
    /// Workloads that own them
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(100..))]
    workloads: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plugin-cost: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let [pods, workloads] = [arguments.pods, arguments.workloads].map(|count| count as usize);
    let size = Size { pods, workloads, page: None, released: true };
    let cost = measure(size, &|line: &str| println!("{line}")).await?;
    println!("{:?}, {:.1} s", cost.usage, cost.elapsed.as_secs_f64());
    cost.check_counts(size)?;
    cost.check_usage()?;
    cost.publish(size)
}
