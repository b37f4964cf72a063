//! What the documents refer to is there: files, and headings in them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

use std::{collections::BTreeSet, path::Path, process::Command};

use regcred_tests::install::repository;

/// Every document that Git has.
fn documents() -> Vec<String> {
    let output =
        Command::new("git").args(["ls-files", "-z", "*.md"]).current_dir(repository()).output().unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    let all: Vec<String> = names.split_terminator('\0').map(str::to_owned).collect();
    assert!(all.contains(&"README.md".to_owned()), "{all:?}");
    all
}

fn text_of(document: &Path) -> String {
    std::fs::read_to_string(document).unwrap_or_else(|error| panic!("{}: {error}", document.display()))
}

/// The lines of a document that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// What is between `](` and `)`.
fn targets(text: &str) -> Vec<&str> {
    let rests = prose(text).flat_map(|line| line.split("](").skip(1));
    rests.filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
}

/// The name by which a heading is linked: lower case, spaces as hyphens, no other signs.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings =
        prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |sign: char| sign.is_alphanumeric() || "-_ ".contains(sign);
    headings
        .map(|heading| {
            heading.to_lowercase().chars().filter(|sign| kept(*sign)).collect::<String>().replace(' ', "-")
        })
        .collect()
}

/// What is wrong with a link of a document.
fn broken(document: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let own = repository().join(document);
    let file = if path.is_empty() { own.clone() } else { own.parent()?.join(path) };
    if !file.exists() {
        return Some(format!("{document}: there is no {path}"));
    }
    let is_missing = !anchor.is_empty()
        && file.extension().is_some_and(|end| end == "md")
        && !anchors(&text_of(&file)).contains(anchor);
    is_missing.then(|| format!("{document}: {path} has no heading #{anchor}"))
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut links = 0;
    for document in documents() {
        let text = text_of(&repository().join(&document));
        let targets = targets(&text);
        links += targets.len();
        wrong.extend(targets.into_iter().filter_map(|target| broken(&document, target)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(links > 50, "{links}");
}

#[test]
fn a_link_to_nothing_is_seen() {
    assert!(broken("README.md", "docs/nothing.md").is_some());
    assert!(broken("README.md", "SECURITY.md#nothing-of-this-name").is_some());
    assert_eq!(broken("docs/metrics.md", "../README.md"), None);
    assert_eq!(targets("[a](b.md)\n```\n[c](d.md)\n```\n[e](f.md#g) [h](i)"), ["b.md", "f.md#g", "i"]);
    assert!(anchors("## At birth: `attachAtBirth`").contains("at-birth-attachatbirth"));
}
