//! Answers of registries and token servers that somebody bent: nothing panics, every check ends in a verdict, and no
//! verdict shows anything of the login or of what was answered. No login goes to a place that was not allowed.
//! `REGCRED_FUZZ_CASES=100000` tries more; proptest makes one that fails small. A shape that failed joins the corpus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use proptest::prelude::*;
use regcred_dockerconfig::{Login, Server};
use regcred_https::{Network, Peer};
use regcred_registry::{Check, Environment, Image, Registries, Settings, Verdict};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One answer in each line.
const CORPUS: &str = include_str!("corpus.jsonl");
/// What turns up at the seams of HTTP, challenges, URLs and JSON.
const PIECES: [&str; 24] = [
    "\"",
    "\\",
    ",",
    "=",
    " ",
    "Basic",
    "Bearer",
    "realm=",
    "https://",
    "@",
    "127.0.0.1",
    "[::1]",
    "%00",
    "#",
    "?",
    "{",
    "}",
    "[",
    "null",
    "\\u0000",
    "token",
    "\u{e9}",
    "\u{ff11}",
    "expired",
];

#[derive(Clone, Debug, Deserialize)]
struct Answer {
    status: u16,
    header: String,
    body: String,
}

impl Answer {
    fn bytes(&self) -> Vec<u8> {
        let Self { status, header, body } = self;
        let header = header.replace(['\r', '\n', '\0'], " ");
        let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        format!("{head}WWW-Authenticate: {header}\r\nRetry-After: {header}\r\n\r\n{body}").into_bytes()
    }
}

/// A change to the text of an answer; places count from the start and wrap around.
#[derive(Clone, Debug)]
enum Change {
    Status(u16),
    Insert { header: bool, at: usize, piece: usize },
    Remove { header: bool, at: usize, length: usize },
    Repeat { header: bool, at: usize, length: usize, times: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let (at, header) = (any::<usize>, any::<bool>);
    prop_oneof![
        prop_oneof![Just(200), Just(401), Just(403), Just(404), 100..1000_u16].prop_map(Change::Status),
        (header(), at(), 0..PIECES.len()).prop_map(|(header, at, piece)| Change::Insert {
            header,
            at,
            piece
        }),
        (header(), at(), 1..12_usize).prop_map(|(header, at, length)| Change::Remove { header, at, length }),
        (header(), at(), 1..20_usize, 1..40_usize).prop_map(|(header, at, length, times)| Change::Repeat {
            header,
            at,
            length,
            times
        }),
    ]
}

fn apply(answer: &mut Answer, change: &Change) {
    let part = match change {
        Change::Status(status) => return answer.status = *status,
        Change::Insert { header, .. } | Change::Remove { header, .. } | Change::Repeat { header, .. } => {
            *header
        }
    };
    let text = if part { &mut answer.header } else { &mut answer.body };
    let mut letters: Vec<char> = text.chars().collect();
    let place = |at: usize| at % (letters.len() + 1);
    match *change {
        Change::Status(_) => {}
        Change::Insert { at, piece, .. } => {
            let at = place(at);
            letters.splice(at..at, PIECES[piece].chars());
        }
        Change::Remove { at, length, .. } => {
            let at = place(at);
            letters.drain(at..(at + length).min(letters.len()));
        }
        Change::Repeat { at, length, times, .. } => {
            let at = place(at);
            let part = letters[at..(at + length).min(letters.len())].repeat(times);
            letters.splice(at..at, part);
        }
    }
    *text = letters.into_iter().collect();
}

/// A network in memory: each connection gets the next answer, whatever it asks, and what was asked is kept.
struct InMemory {
    answers: Vec<Answer>,
    next: Mutex<usize>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Network for InMemory {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let forbidden =
            name.parse::<IpAddr>().is_ok() || !name.is_ascii() || name.contains(['@', '%', '[', ' ']);
        assert!(!forbidden, "{name} is looked up");
        Box::pin(async { Ok(vec![Ipv4Addr::new(93, 184, 215, 14).into()]) })
    }

    fn connect(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'_, io::Result<Box<dyn Peer>>> {
        assert!(
            addresses
                .iter()
                .all(|address| address.ip() == Ipv4Addr::new(93, 184, 215, 14) || address.ip().is_loopback())
        );
        let mut next = self.next.lock().unwrap();
        let answer = self.answers[*next % self.answers.len()].bytes();
        *next += 1;
        let (ours, mut theirs) = tokio::io::duplex(256 * 1024);
        let asked = self.asked.clone();
        tokio::spawn(async move {
            let mut text = Vec::new();
            while !text.ends_with(b"\r\n\r\n") {
                let Ok(byte) = theirs.read_u8().await else { return };
                text.push(byte);
            }
            asked.lock().unwrap().push(String::from_utf8(text).unwrap());
            let _ = theirs.write_all(&answer).await;
        });
        Box::pin(async { Ok(Box::new(ours) as Box<dyn Peer>) })
    }
}

/// Checks a login at a registry that answers so; gives the verdict and everything that was asked.
fn check(answers: Vec<Answer>) -> (Verdict, Vec<String>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let plain = |host: &str| (host.to_owned(), format!("http://{host}").parse().unwrap());
        let endpoints = BTreeMap::from(["registry.example", "tokens.example"].map(plain));
        // Without the machine's authorities, which take a while to read.
        let environment: Environment =
            Arc::new(|name| (name == "SSL_CERT_FILE").then(|| "/dev/null".to_owned()));
        let settings = Settings { endpoints, allowed_realms: Vec::new(), environment };
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let network = InMemory { answers, next: Mutex::new(0), asked: asked.clone() };
        let registries = Registries::over(&settings, Arc::new(network));
        let login = Login::new(b"canary-user", b"canary-password").unwrap();
        let server = Server::parse("registry.example/acme").unwrap();
        let pull = Some(Image { repository: "acme/app", reference: "1" });
        let verdict = registries.check(&Check { server: &server, login: &login, pull }).await;
        (verdict, asked.lock().unwrap().clone())
    })
}

fn lines() -> Vec<Answer> {
    CORPUS
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

fn holds(verdict: &Verdict, asked: &[String]) -> Result<(), String> {
    let shown = format!("{verdict} {verdict:?}");
    if shown.contains("canary") || shown.contains("Y2FuYXJ5") || shown.len() > 1500 {
        return Err(format!("shows too much: {shown}"));
    }
    if asked.len() > 9 {
        return Err(format!("asks {} times", asked.len()));
    }
    let shows_login = |text: &&String| text.contains("Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXBhc3N3b3Jk");
    let allowed =
        |text: &&String| text.contains("host: registry.example") || text.contains("host: tokens.example");
    match asked.iter().filter(shows_login).find(|text| !allowed(text)) {
        Some(text) => Err(format!("shows the login elsewhere: {text}")),
        None => Ok(()),
    }
}

#[test]
fn every_answer_of_the_corpus_ends_in_a_verdict() {
    assert!(lines().len() > 10);
    for first in lines() {
        for second in lines() {
            let (verdict, asked) = check(vec![first.clone(), second.clone()]);
            holds(&verdict, &asked).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("REGCRED_FUZZ_CASES").map_or(500, |text| text.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn bent_answers_end_in_a_verdict_and_lead_nowhere_else(
        answers in prop::collection::vec((any::<usize>(), prop::collection::vec(change(), 0..4)), 1..6),
    ) {
        let lines = lines();
        let bent = answers.iter().map(|(line, changes)| {
            let mut answer = lines[line % lines.len()].clone();
            for change in changes {
                apply(&mut answer, change);
            }
            answer
        });
        let (verdict, asked) = check(bent.collect());
        prop_assert_eq!(holds(&verdict, &asked), Ok(()));
    }
}
