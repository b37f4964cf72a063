//! One watch: what it still has to tell.

use std::collections::VecDeque;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::kind::{Kind, Target};
use super::refusal::Refusal;
use super::selector::Selector;
use super::store::{Change, Store};
use super::{View, show};

/// A watch, as far as it has come.
#[derive(Debug)]
pub struct Watch {
    target: Target,
    selector: Selector,
    view: View,
    initial: VecDeque<Value>,
    /// Everything up to this version was told.
    revision: u64,
}

/// An event that a watch has to tell.
#[derive(Debug)]
pub struct Event {
    /// `{type, object}`.
    pub body: Value,
    /// When it came to be.
    pub at: Instant,
    /// Its version.
    pub revision: u64,
}

impl Watch {
    /// A watch that goes on after a version.
    pub fn resume(target: Target, selector: Selector, view: View, revision: u64) -> Self {
        Self { target, selector, view, initial: VecDeque::new(), revision }
    }

    /// A watch that begins with everything there is.
    pub fn begin(target: Target, selector: Selector, view: View, store: &Store, with_end: bool) -> Self {
        let revision = store.revision();
        let mut watch = Self::resume(target, selector, view, revision);
        let all = store.list(watch.target.kind, watch.target.namespace.as_deref());
        let selected = all.iter().filter(|object| watch.selector.matches(object));
        watch.initial =
            selected.map(|object| json!({"type": "ADDED", "object": show(watch.view, object)})).collect();
        if with_end {
            let mut end = watch.bookmark();
            end["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            watch.initial.push_back(end);
        }
        watch
    }

    /// Tells of an error and nothing more.
    pub fn fail(&mut self, refusal: &Refusal) {
        self.initial = VecDeque::from([json!({"type": "ERROR", "object": refusal.status()})]);
        self.revision = u64::MAX;
    }

    /// The next event, if there is one already.
    pub fn next(&mut self, store: &Store) -> Option<Event> {
        if let Some(body) = self.initial.pop_front() {
            return Some(Event { body, at: Instant::now(), revision: self.revision });
        }
        while let Some(change) = store.since(self.revision).first() {
            self.revision = change.revision;
            if let Some(body) = self.tell(change) {
                return Some(Event { body, at: change.at, revision: change.revision });
            }
        }
        None
    }

    /// A bookmark at what was told.
    pub fn bookmark(&self) -> Value {
        json!({"type": "BOOKMARK", "object": {
            "apiVersion": self.target.kind.api_version(), "kind": self.target.kind.name(),
            "metadata": {"resourceVersion": self.revision.to_string()},
        }})
    }

    /// What it watches.
    pub fn kind(&self) -> Kind {
        self.target.kind
    }

    fn tell(&self, change: &Change) -> Option<Value> {
        let key = &change.key;
        let elsewhere = self.target.namespace.as_ref().is_some_and(|wanted| *wanted != key.namespace);
        if key.kind != self.target.kind || elsewhere {
            return None;
        }
        let was = change.before.as_ref().is_some_and(|before| self.selector.matches(before));
        let is = !change.deleted && self.selector.matches(&change.after);
        let kind = match (was, is) {
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, true) => "ADDED",
            (false, false) => return None,
        };
        // What is no longer selected is told as it last was.
        let mut object = match &change.before {
            Some(before) if was && !is => show(self.view, before),
            _ => show(self.view, &change.after),
        };
        object["metadata"]["resourceVersion"] = json!(change.revision.to_string());
        Some(json!({"type": kind, "object": object}))
    }
}
