//! The kubelet's own code is asked what it would try for an image, and ours must give the same answer, in the same
//! order: for shapes seen in the wild, for generated ones, and for what we render.

mod copies;
mod generate;

use std::fmt::Debug;

use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use regcred_dockerconfig::{DockerConfig, Keyring, Login, SecretBytes, Server, repository_of};
use regcred_tests::keyring::{self as kubelet, Case, Kubelet};

/// How many generated cases each test compares: a few seconds' worth, or what `REGCRED_KEYRING_CASES` says.
fn cases() -> usize {
    let asked = std::env::var("REGCRED_KEYRING_CASES").map(|text| text.parse().expect("a number of cases"));
    asked.unwrap_or(5_000)
}

/// As many generated values as there are cases to compare: the same in every run, from a generator that is fast without
/// optimisation, too.
fn drawn<T: Debug>(strategy: impl Strategy<Value = T>) -> Vec<T> {
    let rng = TestRng::from_seed(RngAlgorithm::XorShift, b"sixteen byte key");
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..cases()).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Shapes that people and tools made, collected from public files and threads.
fn corpus() -> Vec<Case> {
    serde_json::from_str(include_str!("corpus.json")).unwrap()
}

/// What we say.
fn ours(case: &Case) -> kubelet::Answer {
    let repository = repository_of(&case.image).map_err(|error| error.to_string())?;
    let configs = case.secrets.iter().map(String::as_bytes);
    let keyring = Keyring::new(configs).map_err(|error| error.to_string())?;
    let shown = |bytes: &SecretBytes| String::from_utf8_lossy(bytes.expose()).into_owned();
    let logins = keyring.lookup(&repository);
    Ok(logins
        .iter()
        .map(|login| kubelet::Login { username: shown(login.username()), password: shown(login.password()) })
        .collect())
}

/// Asks both about every case. Returns how many found a credential, and how many could not be read.
fn compare(cases: &[Case]) -> (usize, usize) {
    let answers = Kubelet::start().ask(cases);
    assert_eq!(answers.len(), cases.len());
    let (mut found, mut unreadable) = (0, 0);
    for (case, theirs) in cases.iter().zip(answers) {
        let mut ours = ours(case).map_err(drop);
        let mut theirs = theirs.map_err(drop);
        if case.secrets.iter().any(|secret| generate::has_equal_keys(secret)) {
            // Go walks a map: the kubelet itself has no order here.
            for list in [&mut ours, &mut theirs].into_iter().flatten() {
                list.sort();
            }
        }
        assert_eq!(ours, theirs, "ours is left, the kubelet's is right, for {case:#?}");
        found += usize::from(ours.as_ref().is_ok_and(|logins| !logins.is_empty()));
        unreadable += usize::from(ours.is_err());
    }
    say(cases.len(), &format!("{found} find a credential, {unreadable} cannot be read"));
    (found, unreadable)
}

/// `just keyring` shows how much was compared: a difference ends the test.
#[expect(clippy::print_stdout, reason = "the numbers are what `just keyring` is run for")]
fn say(cases: usize, what: &str) {
    println!("{cases} cases, 0 differences: {what}");
}

#[test]
fn shapes_seen_in_the_wild_match_as_for_the_kubelet() {
    let corpus = corpus();
    let (found, unreadable) = compare(&corpus);
    assert!(found > corpus.len() / 3 && unreadable > 5, "{found} found, {unreadable} unreadable");
}

#[test]
fn generated_configurations_match_as_for_the_kubelet() {
    let cases: Vec<Case> = drawn(generate::case());
    let (found, unreadable) = compare(&cases);
    // A generator whose cases never meet would prove nothing.
    let all = cases.len();
    assert!(found > all / 10, "only {found} of {all} found a credential");
    assert!(unreadable > all / 50, "only {unreadable} of {all} could not be read");
}

#[test]
fn the_kubelet_finds_what_we_render() {
    let strategy = (generate::server(), "[a-z0-9$\"':@/ ü-]{0,8}", "[ -~äß]{1,24}");
    let mut cases = Vec::new();
    let mut wanted = Vec::new();
    for (server, user, password) in drawn(strategy) {
        let server = Server::parse(&server).unwrap();
        let username = format!("u{}", user.replace(':', ""));
        let login = Login::new(username.as_bytes(), password.as_bytes()).unwrap();
        let rendered = DockerConfig::single(server.clone(), login).render();
        let image = format!("{server}/app");
        if repository_of(&image).is_err() {
            continue;
        }
        cases.push(Case { secrets: vec![String::from_utf8(rendered.expose().to_vec()).unwrap()], image });
        wanted.push(vec![kubelet::Login { username, password }]);
    }
    assert!(cases.len() > crate::cases() / 2, "only {} servers make an image", cases.len());
    let answers = Kubelet::start().ask(&cases);
    for ((case, answer), wanted) in cases.iter().zip(answers).zip(wanted) {
        assert_eq!(answer.as_ref(), Ok(&wanted), "{case:?}");
    }
    say(cases.len(), "the kubelet finds what we render");
}
