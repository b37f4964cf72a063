//! One of the two servers. Requests name UIDs and versions by where they came from, since the two servers differ in
//! them; answers are rewritten so that they can be compared.

use std::collections::BTreeMap;

use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Map, Value, json};

use crate::draw::Ask;

/// A server, and what it has said so far.
pub struct Side {
    /// How it is reached.
    pub client: Client,
    /// Each object's states, by path, the newest last.
    objects: BTreeMap<String, Vec<Value>>,
    names: Names,
    next_page: String,
}

/// UIDs and versions in the order in which they appeared.
#[derive(Debug, Default)]
pub struct Names {
    uids: BTreeMap<String, usize>,
    versions: BTreeMap<String, usize>,
}

impl Side {
    /// A server that has said nothing.
    pub fn new(client: Client) -> Self {
        Self { client, objects: BTreeMap::new(), names: Names::default(), next_page: String::new() }
    }

    /// Sends a request, and returns code and body in a form that can be compared.
    pub async fn ask(&mut self, ask: &Ask) -> Value {
        let request = self.request(ask);
        let response = self.client.send(request).await.unwrap_or_else(|error| panic!("{ask:?}: {error}"));
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        let mut body: Value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| json!({"text": String::from_utf8_lossy(&bytes)}));
        self.remember(ask, code, &body);
        sort_conflicts(&mut body);
        self.names.plain(&mut body);
        json!({"code": code, "body": body})
    }

    /// The version that an object had so many states ago.
    pub fn version(&self, path: &str, ago: usize) -> Option<String> {
        Some(self.state(path, ago)?["metadata"]["resourceVersion"].as_str()?.to_owned())
    }

    /// Rewrites an event so that it can be compared.
    pub fn plain(&mut self, event: &mut Value) {
        self.names.plain(event);
    }

    fn state(&self, path: &str, ago: usize) -> Option<&Value> {
        self.objects.get(path)?.iter().rev().nth(ago)
    }

    fn remember(&mut self, ask: &Ask, code: u16, body: &Value) {
        if ask.object.is_empty() {
            body["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut self.next_page);
        }
        if code < 300 && body["metadata"]["uid"].is_string() && ask.is_whole() {
            let states = self.objects.entry(ask.object.clone()).or_default();
            if states.last().is_none_or(|last| last["metadata"] != body["metadata"]) {
                states.push(body.clone());
            }
        }
    }

    fn request(&self, ask: &Ask) -> http::Request<Body> {
        let mut query = ask.query.clone();
        for (_, value) in &mut query {
            let mut text = json!(value.clone());
            self.fill(&mut text);
            text.as_str().unwrap_or_default().clone_into(value);
        }
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let mut request =
            http::Request::builder().method(ask.method).uri(format!("{}?{}", ask.path, query.join("&")));
        if !ask.content.is_empty() {
            request = request.header("content-type", ask.content);
        }
        if !ask.accept.is_empty() {
            request = request.header("accept", ask.accept);
        }
        let mut body = ask.body.clone();
        self.fill(&mut body);
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        request.body(Body::from(bytes)).expect("a request")
    }

    /// Puts in what this server has said: `$uid:AGO:PATH`, `$version:AGO:PATH`, `$continue`, and the whole object
    /// `{"$object": PATH, "$ago": AGO, "$edit": MERGE PATCH}`.
    fn fill(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(filled) = self.filled(text) {
                    *text = filled;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.fill(item)),
            Value::Object(members) if members.contains_key("$object") => {
                let path = members["$object"].as_str().unwrap_or_default();
                let ago = usize::try_from(members["$ago"].as_u64().unwrap_or(0)).unwrap_or(0);
                let mut object = self.state(path, ago).cloned().unwrap_or_else(|| json!({"metadata": {}}));
                let mut edit = members["$edit"].clone();
                self.fill(&mut edit);
                merge(&mut object, &edit);
                *value = object;
            }
            Value::Object(members) => members.values_mut().for_each(|member| self.fill(member)),
            _ => {}
        }
    }

    fn filled(&self, text: &str) -> Option<String> {
        if text == "$continue" {
            return Some(self.next_page.clone());
        }
        let (what, rest) = text.strip_prefix('$')?.split_once(':')?;
        let (ago, path) = rest.split_once(':')?;
        let member = if what == "uid" { "uid" } else { "resourceVersion" };
        let state = self.state(path, ago.parse().ok()?);
        let known = state.and_then(|state| state["metadata"][member].as_str());
        Some(
            known
                .unwrap_or(if what == "uid" {
                    "00000000-aaaa-4000-8000-000000000000"
                } else {
                    "4000000000000"
                })
                .to_owned(),
        )
    }
}

impl Names {
    fn plain(&mut self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                if members.contains_key("resourceVersion") || members.contains_key("continue") {
                    self.plain_metadata(members);
                }
                *members = std::mem::take(members)
                    .into_iter()
                    .map(|(name, value)| (self.plain_text(&name), value))
                    .collect();
                members.values_mut().for_each(|member| self.plain(member));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.plain(item)),
            Value::String(text) => *text = self.plain_text(text),
            _ => {}
        }
    }

    fn plain_metadata(&mut self, metadata: &mut Map<String, Value>) {
        let of_object = metadata.contains_key("uid");
        if let Some(Value::String(version)) = metadata.get_mut("resourceVersion") {
            let next = self.versions.len();
            *version = if of_object {
                format!("version {}", self.versions.entry(version.clone()).or_insert(next))
            } else {
                "of the list".to_owned()
            };
        }
        for time in ["creationTimestamp", "deletionTimestamp", "continue"] {
            if let Some(value @ Value::String(_)) = metadata.get_mut(time) {
                *value = json!("some");
            }
        }
        let entries = metadata.get_mut("managedFields").and_then(Value::as_array_mut);
        if let Some(entries) = entries {
            entries.iter_mut().filter(|entry| entry["time"].is_string()).for_each(|entry| {
                entry["time"] = json!("some");
            });
            entries.sort_by_key(|entry| {
                [&entry["operation"], &entry["manager"], &entry["subresource"]].map(Value::to_string)
            });
        }
    }

    /// Puts numbers in the place of UIDs and versions.
    fn plain_text(&mut self, text: &str) -> String {
        let mut plain = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(uid) = rest.get(..36).filter(|text| is_uid(text)) {
                let next = self.uids.len();
                plain.push_str("uid ");
                plain.push_str(&self.uids.entry(uid.to_owned()).or_insert(next).to_string());
                rest = &rest[36..];
            } else if let Some(digits) = version_in(&plain, rest) {
                plain += &self
                    .versions
                    .get(digits)
                    .map_or("unknown".to_owned(), |number| format!("version {number}"));
                rest = &rest[digits.len()..];
            } else {
                plain.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        plain
    }
}

/// They come in any order.
fn sort_conflicts(body: &mut Value) {
    let causes = body.pointer_mut("/details/causes").and_then(Value::as_array_mut);
    if let Some(causes) = causes {
        causes.sort_by_key(Value::to_string);
    }
}

fn is_uid(text: &str) -> bool {
    text.bytes()
        .enumerate()
        .all(|(at, byte)| if [8, 13, 18, 23].contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// The version that a message names.
fn version_in<'a>(before: &str, rest: &'a str) -> Option<&'a str> {
    let named = [
        "the ResourceVersion in the precondition (",
        "the ResourceVersion in record (",
        "ResourceVersion in precondition: ",
        "ResourceVersion in object meta: ",
    ];
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    (end > 0 && named.iter().any(|name| before.ends_with(name))).then_some(&rest[..end])
}

fn merge(at: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        if !patch.is_null() {
            *at = patch.clone();
        }
        return;
    };
    if !at.is_object() {
        *at = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            at.as_object_mut().map(|members| members.remove(name));
        } else {
            merge(&mut at[name], value);
        }
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Where two values differ.
pub fn differences(path: &str, real: &Value, fake: &Value, found: &mut Vec<String>) {
    match (real, fake) {
        (Value::Object(one), Value::Object(other)) => {
            let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                differences(&format!("{path}/{name}"), &real[name], &fake[name], found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (at, (real, fake)) in one.iter().zip(other).enumerate() {
                differences(&format!("{path}/{at}"), real, fake, found);
            }
        }
        _ if real != fake => found.push(format!("{path}: real {real}, fake {fake}")),
        _ => {}
    }
}
