//! `cargo bench-regcred`: measures, prints the table, and makes page and plots from the raw data.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

mod machine;
mod programs;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use regcred_bench::{
    Error, Result, error::InFile as _, page, profile::Profiles, record::Run, subject::Subject, suite,
};
use regcred_tests::install::repository;
use tokio::time::Instant;

/// Measures regcred against the bare writer on a control plane of its own.
///
/// Without --quick it writes bench/results/full.json, and docs/performance.md and its plots from that. The operator is
/// built from this checkout, or is the program that `REGCRED_BINARY` names. How another operator joins:
/// bench/subjects/README.md.
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
    /// Subject file (repeatable), measured beside the bare writers [default: those in bench/subjects; --quick leaves
    /// out some concurrencies]
    #[arg(long = "subject", value_name = "FILE")]
    subjects: Vec<PathBuf>,
    /// Where the raw data goes [default: bench/results/full.json; target/bench-quick.json with --quick]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Measure nothing: show where processor time goes in W1 and W3, in bench/results/profile.json, and the functions that
    /// take the most beside it. Needs Go; the operator's own functions need `perf`
    #[arg(long)]
    profile: bool,
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
    if arguments.profile {
        profile(arguments)?.write(&repository().join(page::PROFILES))?;
        return render(&Run::read(&committed)?);
    }
    let run = measure(arguments)?;
    let output = arguments.output.clone().unwrap_or_else(|| {
        if arguments.quick { repository().join("target/bench-quick.json") } else { committed.clone() }
    });
    run.write(&output)?;
    println!("\n{}", page::tables(&run));
    if arguments.quick {
        println!(
            "Limits are those of the full run; with a tenth of its size, ratios to the bare writer only hint."
        );
    }
    println!("raw data: {}", output.display());
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
    // Read now, because files may be edited during the measurement.
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

fn profile(arguments: &Arguments) -> Result<Profiles> {
    let namespaces = arguments.namespaces.unwrap_or(suite::Parameters::full().namespaces);
    let mut subjects = subjects(arguments)?;
    subjects.retain(|subject| !NOT_QUICK.contains(&subject.name.as_str()));
    let programs = programs::build_with_symbols()?;
    let began = Instant::now();
    let say = |line: &str| println!("{:>6.0} s  {line}", began.elapsed().as_secs_f64());
    let runtime = tokio::runtime::Runtime::new().in_file(Path::new("a runtime"))?;
    let (run_began, machine) = (machine::now(), machine::describe());
    let profiles = runtime.block_on(suite::profile(namespaces, &subjects, &programs, &say))?;
    Ok(Profiles { began: run_began, machine, namespaces, profiles })
}

fn command() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    ["cargo bench-regcred".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// Shipped subjects that --quick leaves out: the same at another concurrency.
const NOT_QUICK: [&str; 2] = ["bare-http2-c16", "regcred-c16"];

/// The subjects of the given files and the bare writers, or all of the repository: bare writers first, since rates are
/// derived from theirs.
fn subjects(arguments: &Arguments) -> Result<Vec<Subject>> {
    let read = |files: &[PathBuf]| -> Result<Vec<Subject>> {
        let each: Vec<Vec<Subject>> = files.iter().map(|file| Subject::read(file)).collect::<Result<_>>()?;
        Ok(each.concat())
    };
    let mut subjects = read(&shipped()?)?;
    if arguments.quick {
        subjects.retain(|subject| !NOT_QUICK.contains(&subject.name.as_str()));
    }
    if !arguments.subjects.is_empty() {
        let given = read(&arguments.subjects)?;
        subjects.retain(|shipped| shipped.is_one_shot() && given.iter().all(|own| own.name != shipped.name));
        subjects.extend(given);
    }
    subjects.sort_by_key(|subject| (!subject.is_one_shot(), subject.applies(), subject.name.clone()));
    Ok(subjects)
}

fn shipped() -> Result<Vec<PathBuf>> {
    let folder = repository().join("bench/subjects");
    let entries = std::fs::read_dir(&folder).in_file(&folder)?;
    let files: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let is_subject = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "yaml");
    Ok(files.in_file(&folder)?.into_iter().filter(is_subject).collect())
}

fn render(run: &Run) -> Result<()> {
    let profiles = Profiles::read(&repository().join(page::PROFILES))?;
    for (path, content) in page::files(run, profiles.as_ref()) {
        let path = repository().join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).in_file(folder)?;
        }
        std::fs::write(&path, content).in_file(&path)?;
        println!("wrote {}", path.display());
    }
    Ok::<(), Error>(())
}
