//! What happened in a run, in words and simulated time, and what was found wrong on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::server::Key;

/// How far the lines under the first are indented in the account.
const INDENT: &str = "                         ";

/// A value as YAML, in lines of its own under the one that it is part of.
pub fn yaml(value: &impl Serialize) -> String {
    let text = serde_saphyr::to_string(value).unwrap_or_else(|error| format!("no YAML: {error}"));
    let lines = text.trim_end().lines();
    lines.flat_map(|line| ["\n", INDENT, line]).collect()
}

/// A length of time in seconds, as the account tells all times.
pub fn in_seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// The account of a run.
#[derive(Clone, Debug)]
pub struct Trace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    lines: Vec<String>,
    violations: Vec<String>,
    writes: BTreeMap<Key, usize>,
    written: Vec<Key>,
    requests: usize,
    last_write: Option<Instant>,
    starts: usize,
    disturbances: usize,
}

impl Trace {
    /// An empty account that begins now.
    pub fn new() -> Self {
        Self(Arc::new(Inner { started: Instant::now(), book: Mutex::default() }))
    }

    /// Takes down what somebody did.
    pub fn note(&self, who: &str, what: &str) {
        let at = self.0.started.elapsed().as_secs_f64();
        self.0.book.lock().lines.push(format!("{at:>10.3} {who:<12} {what}"));
    }

    /// Takes down something that may cost the operator a write of any object.
    pub fn disturbed(&self, who: &str, what: &str) {
        self.note(who, what);
        self.0.book.lock().disturbances += 1;
    }

    /// How many such things there were.
    pub fn disturbances(&self) -> usize {
        let book = self.0.book.lock();
        book.disturbances + book.starts
    }

    /// Takes down that the operator did what it never may.
    pub fn violation(&self, what: String) {
        self.note("VIOLATION", &what);
        self.0.book.lock().violations.push(what);
    }

    /// Takes down that a process of the operator started.
    pub fn started(&self, who: &str) {
        self.note(who, "starts");
        self.0.book.lock().starts += 1;
    }

    /// Counts a write of the operator.
    pub fn wrote(&self, key: &Key) {
        let mut book = self.0.book.lock();
        *book.writes.entry(key.clone()).or_default() += 1;
        book.written.push(key.clone());
        book.last_write = Some(Instant::now());
    }

    /// What the operator wrote, in order, less the first so many.
    pub fn written(&self, skipped: usize) -> Vec<Key> {
        self.0.book.lock().written[skipped..].to_vec()
    }

    /// Counts a request of the operator that could write something, leases aside.
    pub fn asked(&self) {
        self.0.book.lock().requests += 1;
    }

    /// How many such requests there were.
    pub fn requests(&self) -> usize {
        self.0.book.lock().requests
    }

    /// When the operator last wrote anything, leases aside.
    pub fn last_write(&self) -> Instant {
        self.0.book.lock().last_write.unwrap_or(self.0.started)
    }

    /// The object that the operator wrote most often, and how often.
    pub fn most_written(&self) -> Option<(Key, usize)> {
        let book = self.0.book.lock();
        book.writes.iter().max_by_key(|(_, count)| **count).map(|(key, count)| (key.clone(), *count))
    }

    /// Everything that the operator never may and did.
    pub fn violations(&self) -> Vec<String> {
        self.0.book.lock().violations.clone()
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.book.lock().lines.clone()
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}
