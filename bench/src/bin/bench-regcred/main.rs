//! `cargo bench-regcred`: measures, prints the table, and makes page and plots from the raw data.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

mod machine;
mod programs;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use regcred_bench::{Error, Result, error::InFile as _, page, record::Run, subject::Subject, suite};
use regcred_tests::install::repository;
use tokio::time::Instant;

/// Measures regcred against the bare writer on a control plane of its own.
#[derive(Parser)]
#[command(name = "bench-regcred")]
struct Arguments {
    /// Only 200 namespaces and one round: a few minutes
    #[arg(long)]
    quick: bool,
    /// Namespaces in the workloads [default: 2000; 200 with --quick]
    #[arg(long)]
    namespaces: Option<usize>,
    /// How often subjects take turns [default: 3; 1 with --quick]
    #[arg(long)]
    rounds: Option<usize>,
    /// Subject file (repeatable) [default: those in bench/subjects; fewer with --quick]
    #[arg(long = "subject", value_name = "FILE")]
    subjects: Vec<PathBuf>,
    /// Where the raw data goes [default: bench/results/full.json; target/bench-quick.json with --quick]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Measure nothing: make docs/performance.md and the plots from bench/results/full.json
    #[arg(long)]
    render: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-regcred: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let committed = repository().join("bench/results/full.json");
    if arguments.render {
        return render(&Run::read(&committed)?);
    }
    let run = measure(arguments)?;
    let output = arguments.output.clone().unwrap_or_else(|| {
        if arguments.quick { repository().join("target/bench-quick.json") } else { committed.clone() }
    });
    run.write(&output)?;
    println!("\n{}\nraw data: {}", page::tables(&run), output.display());
    if output == committed { render(&run) } else { Ok(()) }
}

fn measure(arguments: &Arguments) -> Result<Run> {
    let mut parameters = if arguments.quick { suite::Parameters::quick() } else { suite::Parameters::full() };
    parameters.namespaces = arguments.namespaces.unwrap_or(parameters.namespaces);
    parameters.rounds = arguments.rounds.unwrap_or(parameters.rounds);
    let subjects = subjects(arguments)?;
    let programs = programs::build()?;
    let began = Instant::now();
    let say = |line: &str| println!("{:>6.0} s  {line}", began.elapsed().as_secs_f64());
    let runtime = tokio::runtime::Runtime::new().in_file(Path::new("a runtime"))?;
    // What is measured is what stands here now, whatever is edited meanwhile.
    let (run_began, machine) = (machine::now(), machine::describe());
    let (samples, gaps) = runtime.block_on(suite::run(&parameters, &subjects, &programs, &say))?;
    Ok(Run {
        began: run_began,
        command: command(),
        machine,
        namespaces: parameters.namespaces,
        rounds: parameters.rounds,
        samples,
        gaps,
    })
}

fn command() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    ["cargo bench-regcred".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// The subjects of the given files, or else of the repository: bare writers first, since rates are told by theirs.
fn subjects(arguments: &Arguments) -> Result<Vec<Subject>> {
    let files = if arguments.subjects.is_empty() { shipped()? } else { arguments.subjects.clone() };
    let mut subjects = Vec::new();
    for file in files {
        subjects.extend(Subject::read(&file)?);
    }
    let quick = ["bare-http1-c32", "bare-http2-c32", "applier-http2-c32", "regcred", "regcred-listed"];
    if arguments.quick && arguments.subjects.is_empty() {
        subjects.retain(|subject| quick.contains(&subject.name.as_str()));
    }
    subjects.sort_by_key(|subject| (!subject.is_one_shot(), subject.applies(), subject.name.clone()));
    Ok(subjects)
}

fn shipped() -> Result<Vec<PathBuf>> {
    let folder = repository().join("bench/subjects");
    let entries = std::fs::read_dir(&folder).in_file(&folder)?;
    let files: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    files.in_file(&folder)
}

fn render(run: &Run) -> Result<()> {
    for (path, content) in page::files(run) {
        let path = repository().join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).in_file(folder)?;
        }
        std::fs::write(&path, content).in_file(&path)?;
        println!("wrote {}", path.display());
    }
    Ok::<(), Error>(())
}
