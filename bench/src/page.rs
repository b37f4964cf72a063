//! The tables of a run, and `docs/performance.md` with its plots: made from the raw data, and for what a number
//! cannot say from `bench/notes.yaml`.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    goals::{self, Figures, Goal, Verdict, float, mebibytes},
    plot,
    profile::{Part, Profiles},
    record::{Run, SUBJECT, Sample, Series, Workload, median, quantile},
};

/// Where profiles are kept, in the repository.
pub const PROFILES: &str = "bench/results/profile.json";

const NOTES: &str = include_str!("../notes.yaml");
const WORKLOADS: [Workload; 4] =
    [Workload::Cold, Workload::ManyCredentials, Workload::Rotation, Workload::Deletion];

/// Every generated file: its path in the repository, and its content.
pub fn files(run: &Run, profiles: Option<&Profiles>) -> Vec<(String, String)> {
    let mut files = vec![("docs/performance.md".to_owned(), page(run, profiles))];
    files.extend(plot::all(run).into_iter().map(|(name, svg)| (format!("bench/results/{name}"), svg)));
    files
}

/// Subjects and goals, for a terminal.
pub fn tables(run: &Run) -> String {
    format!("{}\n{}", subject_table(run), goal_table(&goals::all(run, SUBJECT)))
}

fn subjects(run: &Run) -> Vec<&str> {
    let mut names = Vec::new();
    for sample in &run.samples {
        if !names.contains(&sample.subject.as_str()) {
            names.push(&sample.subject);
        }
    }
    names
}

fn subject_table(run: &Run) -> String {
    let figures = Figures::new(run, SUBJECT);
    let mut rows = vec![header(&[
        "subject",
        "workload",
        "seconds (range)",
        "/ bare",
        "requests / pair",
        "CPU s",
        "API server CPU s",
    ])];
    for workload in WORKLOADS {
        for subject in subjects(run) {
            let samples: Vec<&Sample> = figures.of(subject, workload).collect();
            let Some(first) = samples.first() else { continue };
            let of = |figure: fn(&Sample) -> f64| samples.iter().map(|s| figure(s)).collect::<Vec<_>>();
            let against = median(&figures.against_bare(subject, workload, |s| s.seconds));
            rows.push(row(&[
                subject,
                &workload.to_string(),
                &with_range(&of(|s| s.seconds)),
                &against.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")),
                &format!("{:.3}", float(first.all_requests()) / float(first.pairs)),
                &format!("{:.2}", median(&of(|s| s.cpu_seconds)).unwrap_or_default()),
                &format!("{:.2}", median(&of(|s| s.api_server_cpu_seconds)).unwrap_or_default()),
            ]));
        }
    }
    rows.join("\n") + "\n"
}

fn with_range(values: &[f64]) -> String {
    let at = |share| quantile(values, share).unwrap_or_default();
    match values {
        [only] => format!("{only:.2}"),
        _ => format!("{:.2} ({:.2} – {:.2})", at(0.5), at(0.0), at(1.0)),
    }
}

fn goal_table(goals: &[Goal]) -> String {
    let mut rows = vec![header(&["goal", "what", "measured", "pass", "stretch", ""])];
    rows.extend(
        goals.iter().map(|goal| {
            row(&[goal.id, goal.what, &goal.measured, goal.pass, goal.stretch, told(goal.verdict)])
        }),
    );
    rows.join("\n") + "\n"
}

fn told(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Stretch => "stretch",
        Verdict::Pass => "pass",
        Verdict::Missed => "**missed**",
        Verdict::Open => "",
    }
}

fn header(cells: &[&str]) -> String {
    format!("{}\n|{}", row(cells), "---|".repeat(cells.len()))
}

fn row(cells: &[&str]) -> String {
    format!("| {} |", cells.join(" | "))
}

fn page(run: &Run, profiles: Option<&Profiles>) -> String {
    let goals = goals::all(run, SUBJECT);
    let notes: BTreeMap<String, String> = serde_saphyr::from_str(NOTES).unwrap_or_default();
    let note = |name: &str| notes.get(name).map_or("", String::as_str);
    let mut page = head(run);
    // Writing to a String cannot fail.
    let _ = write!(page, "\n{}\n## Goals\n\n{}\n", note("method"), goal_table(&goals));
    for goal in goals.iter().filter(|goal| notes.contains_key(goal.id)) {
        let _ = writeln!(page, "- **{}**: {}", goal.id, note(goal.id).trim());
    }
    for gap in &run.gaps {
        let _ = writeln!(page, "- {gap}");
    }
    let _ = write!(page, "\n## Workloads\n\n{}", note("workloads"));
    let _ = write!(page, "\n## Subjects\n\nMedians over the rounds.\n\n{}", subject_table(run));
    if let Some(profiles) = profiles {
        let _ = write!(
            page,
            "\n## Where the API server's time goes\n\n{}",
            profile_table(profiles, note("profiles"))
        );
    }
    let _ = write!(page, "\n## Scale\n\n{}", scale_table(run));
    let _ = write!(page, "\n## At birth\n\n{}", birth_table(run));
    for (name, title) in plot::TITLES {
        let _ = write!(page, "\n![{title}](../bench/results/{name})\n");
    }
    page
}

/// What was run, and where.
fn head(run: &Run) -> String {
    let machine = &run.machine;
    format!(
        "<!-- Made by `cargo bench-regcred --render` from bench/results/full.json and bench/notes.yaml. -->\n\
         # What regcred costs\n\n\
         Measured {} by `{}` at commit {}: {} namespaces, {} rounds in which subjects take turns; {}, {} cores, \
         {:.0} GiB, Linux {}, Kubernetes {}.\n\n{}\n",
        run.began.split('T').next().unwrap_or_default(),
        run.command,
        machine.commit,
        run.namespaces,
        run.rounds,
        machine.processor,
        machine.cores,
        mebibytes(machine.memory) / 1024.0,
        machine.kernel,
        machine.kubernetes,
        cost(run),
    )
}

/// What an admin asks first.
fn cost(run: &Run) -> String {
    let figures = Figures::new(run, SUBJECT);
    let per_thousand = |workload, figure: fn(&Sample) -> f64| {
        let each = figures.of(SUBJECT, workload).map(|s| figure(s) / float(s.namespaces) * 1000.0);
        median(&each.collect::<Vec<_>>()).unwrap_or_default()
    };
    let mut text = "**For each 1,000 namespaces and one credential**, on this machine:\n\n".to_owned();
    for (workload, what) in [
        (Workload::Cold, "putting it there"),
        (Workload::Rotation, "a rotation"),
        (Workload::Deletion, "taking it away"),
    ] {
        let _ = writeln!(
            text,
            "- {what}: {:.0} requests, {:.1} s, {:.2} s of regcred's processor time, {:.1} s of the API server's",
            per_thousand(workload, |s| float(s.all_requests())),
            per_thousand(workload, |s| s.seconds),
            per_thousand(workload, |s| s.cpu_seconds),
            per_thousand(workload, |s| s.api_server_cpu_seconds),
        );
    }
    let at = |namespaces| {
        let mut there =
            run.samples.iter().filter(|s| s.subject == SUBJECT && s.workload == Workload::ColdAtScale);
        there.find(|sample| sample.namespaces == namespaces).map(|sample| mebibytes(sample.resident))
    };
    if let (Some(small), Some(large)) = (at(1000), at(10_000)) {
        let each = (large - small) / 9.0;
        let _ = writeln!(
            text,
            "- regcred's memory: {small:.0} MiB, and {each:.1} MiB for each 1,000 namespaces more"
        );
    }
    text
}

/// Each part of kube-apiserver, for each subject and workload.
fn profile_table(profiles: &Profiles, note: &str) -> String {
    let date = profiles.began.split('T').next().unwrap_or_default();
    let commit = &profiles.machine.commit;
    let head = ["subject".to_owned(), "workload".to_owned(), "CPU s".to_owned()];
    let cells: Vec<String> = head.into_iter().chain(Part::ALL.map(|part| part.to_string())).collect();
    let mut rows = vec![header(&cells.iter().map(String::as_str).collect::<Vec<_>>())];
    for profile in &profiles.profiles {
        let all: f64 = profile.api_server.values().sum();
        let share = |part| 100.0 * profile.api_server.get(&part).copied().unwrap_or_default() / all;
        let parts = Part::ALL.map(|part| format!("{:.0} %", share(part)));
        let told = [profile.subject.clone(), profile.workload.to_string(), format!("{:.2}", all / 1000.0)];
        let cells: Vec<String> = told.into_iter().chain(parts).collect();
        rows.push(row(&cells.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    let namespaces = profiles.namespaces;
    format!(
        "{note}Recorded {date} by `cargo bench-regcred --profile` at commit {commit}: {namespaces} namespaces.\n\n{}\n",
        rows.join("\n")
    )
}

/// What the policy that attaches at birth costs whoever makes a ServiceAccount that no credential selects.
fn birth_table(run: &Run) -> String {
    let cells = ["a ServiceAccount is made", "median ms", "p99 ms", "API server resident"];
    let mut rows = vec![header(&cells)];
    for sample in &run.samples {
        let latencies = sample.series(Series::CreateMilliseconds);
        let at = |share| format!("{:.2}", quantile(latencies, share).unwrap_or_default());
        let what = match sample.workload {
            Workload::BirthsWithoutPolicy => "without the policy".to_owned(),
            Workload::BirthsWithPolicy => {
                format!("with it, beside {} RegistryCredentials", sample.credentials)
            }
            _ => continue,
        };
        rows.push(row(&[&what, &at(0.5), &at(0.99), &format!("{:.0} MiB", mebibytes(sample.resident))]));
    }
    rows.join("\n") + "\n"
}

fn scale_table(run: &Run) -> String {
    let cells = ["workload", "namespaces", "credentials", "seconds", "writes / s", "resident", "peak"];
    let mut rows = vec![header(&cells)];
    let shown = [Workload::Cold, Workload::ColdAtScale, Workload::Ceiling];
    let there = |sample: &&Sample| shown.contains(&sample.workload);
    for sample in run.samples.iter().filter(|s| s.subject == SUBJECT).filter(there) {
        rows.push(row(&[
            &sample.workload.to_string(),
            &sample.namespaces.to_string(),
            &sample.credentials.to_string(),
            &format!("{:.1}", sample.seconds),
            &format!("{:.0}", float(sample.least_writes) / sample.seconds),
            &format!("{:.1} MiB", mebibytes(sample.resident)),
            &format!("{:.1} MiB", mebibytes(sample.peak)),
        ]));
    }
    rows.join("\n") + "\n"
}
