//! The rules, case by case: `cases/*.yaml` holds small worlds, each with the plan and the status that it gives.
//! After a change of a rule `UPDATE_CASES=1 cargo test -p regcred-planner --test cases` writes them anew, and the diff
//! shows what changed. See `cases/README.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

#[path = "cases/case.rs"]
mod case;
mod fixture;
#[path = "cases/outcome.rs"]
mod outcome;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use case::Case;

/// The line between two cases of a file.
const SEPARATOR: &str = "\n---\n";
/// The first line of what is expected. Everything from here on is written by the test.
const EXPECTED: &str = "\nplan: |\n";

#[test]
fn every_case_gives_the_plan_and_the_status_that_its_file_says() {
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let mut wrong = String::new();
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut documents = Vec::new();
        for document in text.trim_end().split(SEPARATOR) {
            let (input, expected) = document.split_once(EXPECTED).unwrap_or((document.trim_end(), ""));
            let case = read(&path, input);
            let actual = outcome::of(&case);
            if actual.trim_end() != expected {
                let (name, difference) = (path.file_name().unwrap(), difference(expected, &actual));
                writeln!(wrong, "\n{}: {}\n{difference}", name.display(), case.rule).unwrap();
            }
            documents.push(format!("{input}{EXPECTED}{}", actual.trim_end()));
        }
        if update {
            std::fs::write(&path, documents.join(SEPARATOR) + "\n").unwrap();
        }
    }
    assert!(update || wrong.is_empty(), "UPDATE_CASES=1 accepts these:\n{wrong}");
}

#[test]
fn every_case_has_a_rule_of_its_own() {
    let mut rules = Vec::new();
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        rules.extend(text.split(SEPARATOR).map(|document| read(&path, document).rule));
    }
    let count = rules.len();
    rules.sort();
    rules.dedup();
    assert_eq!(rules.len(), count, "two cases have the same rule: {rules:#?}");
    assert!(rules.iter().all(|rule| rule.ends_with('.')), "a rule is a sentence: {rules:#?}");
    assert!(count >= 40, "{count}");
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files
}

fn read(path: &Path, document: &str) -> Case {
    serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{}: {error}\n{document}", path.display()))
}

/// Lines of only one of the two texts.
fn difference(expected: &str, actual: &str) -> String {
    let only = |sign: &str, text: &str, other: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !other.lines().any(|same| same == *line));
        lines.map(|line| format!("{sign} {line}")).collect()
    };
    [only("-", expected, actual), only("+", actual, expected)].concat().join("\n")
}
