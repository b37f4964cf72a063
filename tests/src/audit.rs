//! Exact request counts, from the API server's own audit log: what a client says about itself is not trusted.
//!
//! The log is written before a request is answered, so a count is right the moment the reply has arrived. A
//! watch appears when it ends.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    ops::Deref,
    path::PathBuf,
};

use serde::Deserialize;

/// The verbs that change something. Server-side apply is a `patch`.
const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// Longer than any line at level Metadata.
const LONGEST_LINE: u64 = 1 << 20;

/// The audit log of one API server.
#[derive(Debug, Clone)]
pub struct AuditLog {
    path: PathBuf,
}

/// A point in the audit log: all entries before it had been written when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

/// One request and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who sent it.
    pub user: String,
    /// The verb, as in RBAC.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, in the plural; empty for a URL that is none, such as `/readyz`.
    pub resource: String,
    /// The subresource, such as `status`; often empty.
    pub subresource: String,
    /// The namespace; empty where there is none.
    pub namespace: String,
    /// The object's name; empty for lists, watches, and some creations.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// The path and the query.
    pub uri: String,
    /// The field manager given in the query; often empty.
    pub field_manager: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// When the answer was complete.
    pub time: String,
}

impl AuditLog {
    /// The audit log in this file, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The present end of the log.
    pub fn mark(&self) -> Mark {
        let length = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        // The last line may be half written: the mark is put before it.
        let near = Mark(length.saturating_sub(LONGEST_LINE));
        Mark(near.0 + whole_lines(&self.read_from(near)).len() as u64)
    }

    /// The entries written after the mark.
    pub fn since(&self, mark: Mark) -> Entries {
        let bytes = self.read_from(mark);
        let lines = whole_lines(&bytes).split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Entries(lines.map(parse).collect())
    }

    /// The whole log.
    pub fn entries(&self) -> Entries {
        self.since(Mark(0))
    }

    /// Nothing, if there is no file yet.
    fn read_from(&self, mark: Mark) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.path) {
            let position = file.seek(SeekFrom::Start(mark.0));
            position.and_then(|_| file.read_to_end(&mut bytes)).expect("read the audit log");
        }
        bytes
    }
}

fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Entries of the log, to narrow down step by step.
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries(Vec<Entry>);

#[allow(clippy::return_self_not_must_use, reason = "the type itself is must_use")]
impl Entries {
    /// Those of one user.
    pub fn by(self, user: &str) -> Self {
        self.filter(|entry| entry.user == user)
    }

    /// Those that change something, refused ones included.
    pub fn writes(self) -> Self {
        self.filter(|entry| WRITES.contains(&entry.verb.as_str()) && !entry.is_dry_run())
    }

    /// What one user wrote, other than leases: a held lease is renewed for ever.
    pub fn writes_by(self, user: &str) -> Self {
        self.by(user).writes().without("leases")
    }

    /// All but those of one resource, such as `leases` or `events`.
    pub fn without(self, resource: &str) -> Self {
        self.filter(|entry| entry.resource != resource)
    }

    /// Only those of one resource.
    pub fn of(self, resource: &str) -> Self {
        self.filter(|entry| entry.resource == resource)
    }

    /// Only those in one namespace.
    pub fn within(self, namespace: &str) -> Self {
        self.filter(|entry| entry.namespace == namespace)
    }

    /// Those that the API server granted.
    pub fn granted(self) -> Self {
        self.filter(|entry| entry.code < 400)
    }

    /// Those for which the predicate holds.
    pub fn filter(mut self, keep: impl Fn(&Entry) -> bool) -> Self {
        self.0.retain(|entry| keep(entry));
        self
    }

    /// How many there are of each verb and resource.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in &self.0 {
            *counts.0.entry((entry.verb.clone(), entry.full_resource())).or_default() += 1;
        }
        counts
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.0
    }
}

/// How many requests there were of each verb and resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<(String, String), usize>);

impl Counts {
    /// The number for one verb and one resource, or `resource/subresource`.
    pub fn of(&self, verb: &str, resource: &str) -> usize {
        self.0.get(&(verb.to_owned(), resource.to_owned())).copied().unwrap_or_default()
    }

    /// The number of all requests.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(formatter, "no requests");
        }
        let lines = self.0.iter().map(|((verb, resource), count)| format!("{count:>6}  {verb} {resource}"));
        write!(formatter, "{}", lines.collect::<Vec<_>>().join("\n"))
    }
}

impl Entry {
    /// Whether it asked what would happen, and changed nothing.
    pub fn is_dry_run(&self) -> bool {
        query_value(&self.uri, "dryRun") == "All"
    }

    /// `resource` or `resource/subresource`; the path where it is no resource.
    pub fn full_resource(&self) -> String {
        match (self.resource.as_str(), self.subresource.as_str()) {
            ("", _) => self.uri.split('?').next().unwrap_or_default().to_owned(),
            (resource, "") => resource.to_owned(),
            (resource, subresource) => format!("{resource}/{subresource}"),
        }
    }
}

/// One line of the log, as far as we read it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    user: User,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    #[serde(default)]
    object_ref: ObjectReference,
    #[serde(default)]
    response_status: ResponseStatus,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    stage_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectReference {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

fn parse(line: &[u8]) -> Entry {
    let line: Line = serde_json::from_slice(line)
        .unwrap_or_else(|error| panic!("audit log: {error}: {}", String::from_utf8_lossy(line)));
    Entry {
        user: line.user.username,
        verb: line.verb,
        group: line.object_ref.api_group,
        resource: line.object_ref.resource,
        subresource: line.object_ref.subresource,
        namespace: line.object_ref.namespace,
        name: line.object_ref.name,
        code: line.response_status.code,
        field_manager: query_value(&line.request_uri, "fieldManager"),
        uri: line.request_uri,
        user_agent: line.user_agent,
        time: line.stage_timestamp,
    }
}

fn query_value(uri: &str, key: &str) -> String {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).unwrap_or_default()
}
