//! Configurations that somebody bent: nothing panics, and whatever is read is written as something that reads the same.
//! `REGCRED_FUZZ_CASES=1000000` tries more; proptest makes one that fails small. A shape that failed joins `corpus`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

use proptest::prelude::*;
use regcred_dockerconfig::{Keyring, Server, WrittenConfig, repository_of};

/// One configuration in each line, as people and tools write them.
const CORPUS: &str = include_str!("corpus.jsonl");
/// What turns up at the seams of JSON, base64, server names and Go.
const PIECES: [&str; 20] = [
    "\"", "{", "}", "[", "]", ":", ",", "null", "\\u0000", "\\ud800", "\u{feff}", "://", "/v1/", "*", "=",
    "\n", "auths", "1e999", "\u{e9}", "dTpw",
];

/// A change to the bytes of a configuration; places count from the start and wrap around.
#[derive(Clone, Debug)]
enum Change {
    Remove { at: usize, length: usize },
    Insert { at: usize, piece: usize },
    Set { at: usize, byte: u8 },
    Repeat { at: usize, length: usize, times: usize },
    Nest { times: usize },
    Splice { at: usize, line: usize, from: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    prop_oneof![
        (at(), 1..20_usize).prop_map(|(at, length)| Change::Remove { at, length }),
        (at(), 0..PIECES.len()).prop_map(|(at, piece)| Change::Insert { at, piece }),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set { at, byte }),
        (at(), 1..40_usize, 1..30_usize).prop_map(|(at, length, times)| Change::Repeat { at, length, times }),
        (1..400_usize).prop_map(|times| Change::Nest { times }),
        (at(), at(), at()).prop_map(|(at, line, from)| Change::Splice { at, line, from }),
    ]
}

fn lines() -> Vec<&'static str> {
    CORPUS.lines().filter(|line| !line.is_empty()).collect()
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let place = |at: usize| at % (bytes.len() + 1);
    match *change {
        Change::Remove { at, length } => {
            let at = place(at);
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        Change::Insert { at, piece } => {
            let at = place(at);
            bytes.splice(at..at, PIECES[piece].bytes());
        }
        Change::Set { at, byte } => {
            let at = place(at);
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
        }
        Change::Repeat { at, length, times } => {
            let at = place(at);
            let part = bytes[at..(at + length).min(bytes.len())].repeat(times);
            bytes.splice(at..at, part);
        }
        Change::Nest { times } => {
            let inner = std::mem::take(bytes);
            bytes.extend(b"{\"auths\":".repeat(times));
            bytes.extend(inner);
            bytes.extend(b"}".repeat(times));
        }
        Change::Splice { at, line, from } => {
            let (at, lines) = (place(at), lines());
            let other = lines[line % lines.len()].as_bytes();
            bytes.truncate(at);
            bytes.extend(&other[from % other.len()..]);
        }
    }
}

/// Everything that is done with a source, and what must hold of it.
fn read(bytes: &[u8]) -> Result<(), TestCaseError> {
    let server = Server::parse("ghcr.io/acme").unwrap();
    for parse in [WrittenConfig::parse_dockerconfigjson, WrittenConfig::parse_dockercfg] {
        let Ok(config) = parse(bytes) else { continue };
        let _ = config.login_for(&server).map_err(|error| error.to_string());
        let Ok(whole) = config.whole() else { continue };
        let rendered = whole.config.render();
        let again = WrittenConfig::parse_dockerconfigjson(rendered.expose());
        let again = again.and_then(WrittenConfig::whole).map_err(|error| error.to_string());
        let again = again.map_err(|error| TestCaseError::fail(format!("what was written: {error}")))?;
        prop_assert_eq!(again.config.servers(), whole.config.servers());
        let twice = again.config.render();
        prop_assert!(twice.expose() == rendered.expose(), "written again it is another");
        prop_assert!(again.left_out.is_empty());
        let keyring = Keyring::new([rendered.expose()]);
        prop_assert!(keyring.is_ok(), "the kubelet reads what is written");
    }
    if let (Ok(keyring), Ok(repository)) = (Keyring::new([bytes]), repository_of("ghcr.io/acme/app:v1")) {
        keyring.lookup(&repository);
    }
    Ok(())
}

fn cases() -> u32 {
    std::env::var("REGCRED_FUZZ_CASES").map_or(20_000, |text| text.parse().unwrap())
}

#[test]
fn every_line_of_the_corpus_is_read() {
    assert!(lines().len() > 20);
    for line in lines() {
        read(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn bent_configurations_are_read_or_refused(
        line in any::<usize>(),
        changes in prop::collection::vec(change(), 0..6),
    ) {
        let lines = lines();
        let mut bytes = lines[line % lines.len()].as_bytes().to_vec();
        for change in &changes {
            apply(&mut bytes, change);
        }
        read(&bytes)?;
    }
}
