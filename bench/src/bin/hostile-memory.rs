//! `just hostile-memory`: measures the operator beside a hostile tenant, and writes `docs/hostile-memory.md`; with fewer objects
//! `target/hostile-memory.md`, as the committed page is about the whole size.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::process::ExitCode;

use clap::Parser;
use regcred_bench::{Result, error::InFile as _, hostile_memory};
use regcred_tests::install::repository;

/// As many objects as the committed page is about.
const WHOLE: u16 = 500;

/// Measures the operator beside a hostile tenant, and writes docs/hostile-memory.md; with fewer objects
/// target/hostile-memory.md.
#[derive(Parser)]
struct Arguments {
    /// Objects of the largest size; the API server needs a second or more for each
    #[arg(long, default_value_t = WHOLE, value_parser = clap::value_parser!(u16).range(10..))]
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
    let path = repository().join(page_of(arguments.objects));
    std::fs::write(&path, page).in_file(&path)?;
    println!("the page is {}", path.display());
    Ok(())
}

/// Where the page of a run goes: a smaller one must not take the place of the committed one.
const fn page_of(objects: u16) -> &'static str {
    if objects < WHOLE { "target/hostile-memory.md" } else { "docs/hostile-memory.md" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_run_leaves_the_committed_page_alone() {
        assert_eq!(page_of(50), "target/hostile-memory.md");
        assert_eq!(page_of(WHOLE), "docs/hostile-memory.md");
    }
}
