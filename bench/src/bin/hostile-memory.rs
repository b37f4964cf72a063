//! `just hostile-memory`: measures the operator beside a hostile tenant, and writes `docs/hostile-memory.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::process::ExitCode;

use clap::Parser;
use regcred_bench::{Result, error::InFile as _, hostile_memory};
use regcred_tests::install::repository;

/// Measures the operator beside a hostile tenant, and writes docs/hostile-memory.md.
#[derive(Parser)]
struct Arguments {
    /// Objects of the largest size; the API server needs a second or more for each
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(10..))]
    objects: u16,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hostile-memory: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let page = hostile_memory::measure(arguments.objects.into(), &|line: &str| println!("{line}")).await?;
    let path = repository().join("docs/hostile-memory.md");
    std::fs::write(&path, page).in_file(&path)
}
