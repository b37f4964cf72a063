//! The kubelet's own code is asked what it would try for an image, and ours must give the same answer, in the same
//! order: for shapes seen in the wild, for generated ones, and for what we render.

mod generate;
mod kubelet;

use generate::Case;
use kubelet::Kubelet;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use regcred_dockerconfig::{DockerConfig, Keyring, Login, SecretBytes, Server, repository_of};

/// How many generated cases are compared.
const CASES: usize = 120_000;

/// What we say, in the words of the kubelet's program: `user:password` for each, or an error.
fn ours(case: &Case) -> Result<Vec<String>, String> {
    let repository = repository_of(&case.image).map_err(|error| error.to_string())?;
    let configs = case.secrets.iter().map(String::as_bytes);
    let keyring = Keyring::new(configs).map_err(|error| error.to_string())?;
    let shown = |bytes: &SecretBytes| String::from_utf8_lossy(bytes.expose()).into_owned();
    let logins = keyring.lookup(&repository);
    Ok(logins
        .iter()
        .map(|login| format!("{}:{}", shown(login.username()), shown(login.password())))
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
        if case.has_equal_keys() {
            // Go walks a map: the kubelet itself has no order here.
            for list in [&mut ours, &mut theirs].into_iter().flatten() {
                list.sort();
            }
        }
        assert_eq!(ours, theirs, "ours is left, the kubelet's is right, for {case:#?}");
        found += usize::from(ours.as_ref().is_ok_and(|logins| !logins.is_empty()));
        unreadable += usize::from(ours.is_err());
    }
    (found, unreadable)
}

#[test]
fn shapes_seen_in_the_wild_match_as_for_the_kubelet() {
    let corpus: Vec<Case> = serde_json::from_str(include_str!("corpus.json")).unwrap();
    let (found, unreadable) = compare(&corpus);
    assert!(found > corpus.len() / 3 && unreadable > 5, "{found} found, {unreadable} unreadable");
}

#[test]
fn generated_configurations_match_as_for_the_kubelet() {
    let mut runner = TestRunner::deterministic();
    let strategy = generate::case();
    let cases: Vec<Case> = (0..CASES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let (found, unreadable) = compare(&cases);
    // A generator whose cases never meet would prove nothing.
    assert!(found > CASES / 10, "only {found} of {CASES} found a credential");
    assert!(unreadable > CASES / 50, "only {unreadable} of {CASES} could not be read");
}

#[test]
fn the_kubelet_finds_what_we_render() {
    let mut runner = TestRunner::deterministic();
    let strategy = (generate::server(), "[a-z0-9$\"':@/ ü-]{0,8}", "[ -~äß]{1,24}");
    let mut cases = Vec::new();
    let mut wanted = Vec::new();
    for _ in 0..5_000 {
        let (server, user, password) = strategy.new_tree(&mut runner).unwrap().current();
        let server = Server::parse(&server).unwrap();
        let username = format!("u{}", user.replace(':', ""));
        let bytes = |text: &str| SecretBytes::from(text.as_bytes().to_vec());
        let login = Login::new(bytes(&username), bytes(&password)).unwrap();
        let rendered = DockerConfig::single(server.clone(), login).render();
        let image = format!("{server}/app");
        if repository_of(&image).is_err() {
            continue;
        }
        cases.push(Case { secrets: vec![String::from_utf8(rendered.expose().to_vec()).unwrap()], image });
        wanted.push(vec![format!("{username}:{password}")]);
    }
    assert!(cases.len() > 4_000, "only {} servers make an image", cases.len());
    let answers = Kubelet::start().ask(&cases);
    for ((case, answer), wanted) in cases.iter().zip(answers).zip(wanted) {
        assert_eq!(answer.as_ref(), Ok(&wanted), "{case:?}");
    }
}
