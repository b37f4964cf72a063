//! The API server in memory: takes an `http::Request`, gives an `http::Response`.
//!
//! | file | what it holds |
//! |---|---|
//! | `kind` | kinds, keys, paths |
//! | `store` | the objects, and the log of what happened to them |
//! | `schema` | which fields belong to several managers, and which are filled in |
//! | `fields` | managedFields and server-side apply |
//! | `patch` | the other patches |
//! | `selector` | selectors of fields and of labels |
//! | `watch` | what a watch still has to tell |
//! | `refusal` | `Status` |
//! | `service` | the server as a client sees it |

mod fields;
mod kind;
mod patch;
mod refusal;
mod schema;
mod selector;
mod service;
mod store;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{Method, Request, Response};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use selector::Selector;

pub use fields::Writer;
pub use kind::{Key, Kind, Target};
pub use refusal::Refusal;
pub use service::{Answer, is_watch, line, refused, whole};
pub use store::{Object, Store, finalizers, is_terminating};
pub use watch::{Event, Watch};

/// How an object is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum View {
    /// The whole object.
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
}

/// What a server was made to do.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Traits {
    /// Whether it knows `sendInitialEvents`.
    pub streaming_lists: bool,
    /// The most objects on a page of a list.
    pub page: usize,
}

/// The API server.
#[derive(Clone, Debug)]
pub struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Mutex<Store>,
    changed: Notify,
    traits: Traits,
    refusing: Mutex<BTreeSet<String>>,
    pages: Mutex<Vec<Vec<Object>>>,
    started: tokio::time::Instant,
}

/// Parameters of a query.
struct Query(Vec<(String, String)>);

/// The only dry run that regcred sends asks for what its cage forbids.
fn caged(target: &Target) -> Refusal {
    let message = format!(
        "{} \"{}\" is forbidden: ValidatingAdmissionPolicy 'regcred-cage-secrets' with binding \
         'regcred-cage-secrets' denied request: no",
        target.kind.plural(),
        target.name.as_deref().unwrap_or_default()
    );
    Refusal::new(403, "Forbidden", message)
}

/// The simulated clock: starts at the same second in each run.
pub fn time_at(elapsed: std::time::Duration) -> Timestamp {
    /// 2026-01-01T00:00:00Z.
    const START: i64 = 1_767_225_600;
    let millis = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(START * 1000 + millis).unwrap_or(Timestamp::MAX)
}

impl Server {
    /// An empty server.
    pub fn new(traits: Traits) -> Self {
        Self(Arc::new(Inner {
            store: Mutex::default(),
            changed: Notify::new(),
            traits,
            refusing: Mutex::default(),
            pages: Mutex::default(),
            started: tokio::time::Instant::now(),
        }))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        time_at(self.0.started.elapsed())
    }

    /// When the server was started.
    pub fn started(&self) -> tokio::time::Instant {
        self.0.started
    }

    /// What is stored. Not to be held across a wait.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock()
    }

    /// Changes what is stored, as somebody who does not come through HTTP.
    pub fn write<T>(&self, change: impl FnOnce(&mut Store, Timestamp) -> T) -> T {
        let now = self.now();
        let done = change(&mut self.store(), now);
        self.0.changed.notify_waiters();
        done
    }

    /// Told whenever something was written.
    pub fn changed(&self) -> &Notify {
        &self.0.changed
    }

    /// Namespaces in which a webhook refuses what comes through HTTP.
    pub fn refusing(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.refusing.lock()
    }

    /// Answers any request but a watch.
    pub fn answer(&self, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let answered = self.serve(request);
        if *request.method() != Method::GET {
            self.0.changed.notify_waiters();
        }
        match answered {
            Ok((code, body)) => response(code, &body),
            Err(refusal) => response(refusal.code, &refusal.status()),
        }
    }

    /// Begins a watch.
    pub fn watch(&self, request: &Request<Vec<u8>>) -> Result<Watch, Refusal> {
        let query = Query::of(request);
        let target = Target::parse(request.uri().path()).ok_or_else(Refusal::not_served)?;
        let (selector, view) = (query.selector(target.kind)?, View::asked(request));
        let store = self.store();
        let streaming = query.get("sendInitialEvents") == "true";
        if streaming && !self.0.traits.streaming_lists {
            let message = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch";
            return Err(Refusal::new(422, "Invalid", message));
        }
        let from: u64 = query.get("resourceVersion").parse().unwrap_or(0);
        if streaming || from == 0 {
            return Ok(Watch::begin(target, selector, view, &store, streaming));
        }
        let mut watch = Watch::resume(target, selector, view, from);
        if from < store.compacted() {
            // An event and not a status, like every error after a version was parsed (k8s.io/apiserver, storage/cacher).
            watch.fail(&Refusal::expired());
        }
        Ok(watch)
    }

    fn serve(&self, request: &Request<Vec<u8>>) -> Result<(u16, Value), Refusal> {
        let target = Target::parse(request.uri().path()).ok_or_else(Refusal::not_served)?;
        let (query, view) = (Query::of(request), View::asked(request));
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        if *request.method() != Method::GET {
            self.admit(&target)?;
        }
        if query.get("dryRun") == "All" {
            return Err(caged(&target));
        }
        match (request.method(), &target.name) {
            (&Method::GET, None) => self.list(&target, &query, view).map(|list| (200, list)),
            (&Method::GET, Some(_)) => Ok((200, show(view, &*self.store().find(&target.key())?))),
            (&Method::POST, None) => {
                self.create(&target, body, &query).map(|object| (201, show(view, &object)))
            }
            (&Method::PUT, Some(_)) => {
                self.replace(&target, body, &query).map(|(code, object)| (code, show(view, &object)))
            }
            (&Method::DELETE, Some(_)) => self.delete(&target.key(), &body),
            (&Method::PATCH, Some(_)) => {
                let (code, object) = self.patch(request, &target, &body, &query)?;
                Ok((code, show(view, &object)))
            }
            _ => Err(Refusal::new(405, "MethodNotAllowed", "not served")),
        }
    }

    fn admit(&self, target: &Target) -> Result<(), Refusal> {
        let refused = target.namespace.as_ref().is_some_and(|namespace| self.refusing().contains(namespace));
        if refused {
            let message = "admission webhook \"policy.example.com\" denied the request: no";
            return Err(Refusal::new(403, "Forbidden", message));
        }
        Ok(())
    }

    fn create(&self, target: &Target, body: Value, query: &Query) -> Result<Object, Refusal> {
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = Key { name, ..target.key() };
        self.store().create(&key, body, &query.writer("Update", false), self.now())
    }

    fn replace(&self, target: &Target, body: Value, query: &Query) -> Result<(u16, Object), Refusal> {
        let (key, writer) = (target.key(), query.writer("Update", target.status));
        let mut store = self.store();
        if store.get(&key).is_none() && key.kind.is_made_by_put() {
            if let Some(uid) = body["metadata"]["uid"].as_str() {
                return Err(Refusal::another(&key, uid, ""));
            }
            return store.create(&key, body, &writer, self.now()).map(|object| (201, object));
        }
        may_replace(&key, &*store.find(&key)?, &body)?;
        store.update(&key, body, &writer, self.now()).map(|object| (200, object))
    }

    fn patch(
        &self,
        request: &Request<Vec<u8>>,
        target: &Target,
        body: &Value,
        query: &Query,
    ) -> Result<(u16, Object), Refusal> {
        let (key, now) = (target.key(), self.now());
        let writer = query.writer("Update", target.status);
        let mut store = self.store();
        let kind = request.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind == Some("application/apply-patch+yaml") {
            let writer = query.writer("Apply", target.status);
            return apply(&mut store, &key, body, &writer, query.get("force") == "true", now);
        }
        let before = store.find(&key)?;
        let mut object = (*before).clone();
        match kind {
            Some("application/merge-patch+json") => patch::merge(&mut object, body),
            Some("application/strategic-merge-patch+json") => patch::strategic(&mut object, body),
            Some("application/json-patch+json") => patch::json(&mut object, body)?,
            _ => return Err(Refusal::new(415, "UnsupportedMediaType", "not served")),
        }
        store.update(&key, object, &writer, now).map(|object| (200, object))
    }

    fn delete(&self, key: &Key, options: &Value) -> Result<(u16, Value), Refusal> {
        let uid = self.store().find(key)?["metadata"]["uid"].clone();
        let deleted = self.remove(key, options)?;
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": key.name, "kind": key.kind.plural(), "uid": uid},
        });
        if let Some(group) = key.kind.group() {
            status["details"]["group"] = json!(group);
        }
        Ok((200, deleted.map_or(status, |object| (*object).clone())))
    }

    /// Deletes as these `DeleteOptions` say. `None`: the object is gone.
    pub fn remove(&self, key: &Key, options: &Value) -> Result<Option<Object>, Refusal> {
        let mut store = self.store();
        let object = store.find(key)?;
        for (member, name) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let asked = options["preconditions"][member].as_str();
            let live = object["metadata"][member].as_str().unwrap_or_default();
            if let Some(asked) = asked.filter(|asked| live != *asked) {
                return Err(Refusal::unmet(key, name, asked, live));
            }
        }
        let deleted = store.delete(key, options["propagationPolicy"].as_str(), self.now());
        drop(store);
        self.0.changed.notify_waiters();
        deleted
    }

    fn list(&self, target: &Target, query: &Query, view: View) -> Result<Value, Refusal> {
        let (items, revision, at) = match query.get("continue").split_once(':') {
            Some((revision, at)) => self.kept(revision, at)?,
            None => self.fresh_list(target, query)?,
        };
        let asked: usize = query.get("limit").parse().unwrap_or(usize::MAX);
        let page = if asked == usize::MAX { asked } else { asked.min(self.0.traits.page) };
        let end = at.saturating_add(page).min(items.len());
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if target.kind == Kind::RegistryCredential && view == View::Whole {
            metadata["continue"] = json!("");
        }
        if end < items.len() {
            if query.get("fieldSelector").is_empty() && query.get("labelSelector").is_empty() {
                metadata["remainingItemCount"] = json!(items.len() - end);
            }
            self.0.pages.lock().push(items.clone());
            metadata["continue"] = json!(format!("{revision}:{end}.{}", self.0.pages.lock().len() - 1));
        }
        let (version, kind) = match view {
            View::Whole => (target.kind.api_version(), format!("{}List", target.kind.name())),
            View::Metadata => ("meta.k8s.io/v1", "PartialObjectMetadataList".to_owned()),
        };
        let items = match &items[at..end] {
            // Go writes a list that was never begun.
            [] if view == View::Metadata => Value::Null,
            items => items.iter().map(|object| as_item(target.kind, view, show(view, object))).collect(),
        };
        Ok(json!({"apiVersion": version, "kind": kind, "metadata": metadata, "items": items}))
    }

    fn fresh_list(&self, target: &Target, query: &Query) -> Result<(Vec<Object>, u64, usize), Refusal> {
        let selector = query.selector(target.kind)?;
        let store = self.store();
        let all = store.list(target.kind, target.namespace.as_deref());
        let selected = all.into_iter().filter(|object| selector.matches(object));
        Ok((selected.collect(), store.revision(), 0))
    }

    /// The rest of a list, from the version at which it began.
    fn kept(&self, revision: &str, at: &str) -> Result<(Vec<Object>, u64, usize), Refusal> {
        let revision: u64 = revision.parse().unwrap_or(0);
        if revision < self.store().compacted() {
            return Err(Refusal::expired());
        }
        let (at, page) = at.split_once('.').unwrap_or_default();
        let pages = self.0.pages.lock();
        let items = pages.get(page.parse::<usize>().unwrap_or(usize::MAX)).cloned().unwrap_or_default();
        Ok((items, revision, at.parse().unwrap_or(0)))
    }
}

fn apply(
    store: &mut Store,
    key: &Key,
    body: &Value,
    writer: &Writer,
    force: bool,
    now: Timestamp,
) -> Result<(u16, Object), Refusal> {
    let live = store.get(key).cloned();
    if live.is_none() {
        may_make(key, body, writer)?;
    }
    let from = live.as_deref().cloned().unwrap_or_else(|| json!({"metadata": {}}));
    let mut merged = fields::apply(key.kind, &from, body, writer, force, &store::stamp(now))
        .map_err(|conflicts| Refusal::owned_by_others(&conflicts))?;
    if live.is_none() {
        // A resourceVersion does not keep an object from being made.
        drop(merged["metadata"].as_object_mut().map(|metadata| metadata.remove("resourceVersion")));
        return store.create(key, merged, writer, now).map(|object| (201, object));
    }
    for member in ["resourceVersion", "uid"] {
        if body["metadata"][member].is_string() {
            merged["metadata"][member] = body["metadata"][member].clone();
        }
    }
    store.update(key, merged, writer, now).map(|object| (200, object))
}

/// What is looked at in a PUT alone.
fn may_replace(key: &Key, live: &Value, body: &Value) -> Result<(), Refusal> {
    let given = |member: &str| body["metadata"][member].as_str().filter(|given| !given.is_empty());
    if let Some(uid) = given("uid").filter(|uid| live["metadata"]["uid"] != **uid) {
        return Err(Refusal::another(key, uid, live["metadata"]["uid"].as_str().unwrap_or_default()));
    }
    if key.kind.needs_version() && given("resourceVersion").is_none() {
        return Err(Refusal::lacks_version(key));
    }
    Ok(())
}

/// Whether an apply makes an object that is not there.
fn may_make(key: &Key, body: &Value, writer: &Writer) -> Result<(), Refusal> {
    if writer.status {
        return Err(Refusal::not_found(key));
    }
    match body["metadata"]["uid"].as_str() {
        Some(uid) => {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            Err(Refusal::conflict(key, &why))
        }
        None => Ok(()),
    }
}

impl Query {
    fn of(request: &Request<Vec<u8>>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), decoded(value))
        };
        Self(query.split('&').map(pair).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    fn selector(&self, kind: Kind) -> Result<Selector, Refusal> {
        Selector::parse(kind, self.get("fieldSelector"), self.get("labelSelector"))
    }

    fn writer(&self, operation: &'static str, status: bool) -> Writer {
        let manager =
            Some(self.get("fieldManager")).filter(|manager| !manager.is_empty()).unwrap_or("unknown");
        Writer { manager: manager.to_owned(), operation, status }
    }
}

/// Undoes percent encoding.
fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&plain).into_owned()
}

impl View {
    fn asked(request: &Request<Vec<u8>>) -> Self {
        let accept = request.headers().get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
        if accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata")) {
            Self::Metadata
        } else {
            Self::Whole
        }
    }
}

fn show(how: View, object: &Value) -> Value {
    match how {
        View::Whole => object.clone(),
        View::Metadata => json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"],
        }),
    }
}

/// Items of typed lists do not say what they are: the list does.
fn as_item(kind: Kind, view: View, mut object: Value) -> Value {
    if kind != Kind::RegistryCredential && view == View::Whole {
        for member in ["apiVersion", "kind"] {
            drop(object.as_object_mut().map(|members| members.remove(member)));
        }
    }
    object
}

fn response(code: u16, body: &Value) -> Response<Vec<u8>> {
    let mut response = Response::new(body.to_string().into_bytes());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
}
