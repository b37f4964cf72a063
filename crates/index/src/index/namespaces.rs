//! News of namespaces.

use std::sync::Arc;

use super::state::Index;
use crate::decode::{self, NamespaceBody};
use crate::event::Event;
use crate::received::Received;
use crate::shelf::Origin;

impl Index {
    /// Ingests news of a namespace. Returns those to requeue.
    pub fn ingest_namespace(&mut self, event: Event<NamespaceBody>) -> Vec<Arc<str>> {
        match event {
            Event::ListBegins => {
                self.namespaces.begin();
                self.interests.namespaces.list_begins();
                Vec::new()
            }
            Event::Put(received, origin) => self.put_namespace(received, origin).into_iter().collect(),
            Event::Deleted(received) => {
                let (key, version) = self.key(&received);
                let existed = self.namespaces.delete(&key, version).is_some();
                self.memories.remove(&key.1);
                existed.then_some(key.1).into_iter().collect()
            }
            Event::ListEnds => {
                self.interests.namespaces.list_ends();
                let gone: Vec<_> = self.namespaces.finish().into_iter().map(|((_, name), _)| name).collect();
                for name in &gone {
                    self.memories.remove(name);
                }
                gone
            }
        }
    }

    fn put_namespace(&mut self, received: Received<NamespaceBody>, origin: Origin) -> Option<Arc<str>> {
        let (key, version) = self.key(&received);
        let Ok(body) = received.into_body() else {
            self.namespaces.touch(&key);
            return None;
        };
        let object = decode::namespace(&body, &self.interests.namespaces, &mut self.interner);
        let before = self.namespaces.get(&key);
        let same = before == Some(&object);
        if before.is_none_or(|before| before.uid != object.uid) {
            self.memories.remove(&key.1);
        }
        self.interner.note_drop();
        let applied = self.namespaces.apply(key.clone(), version, object, origin);
        (applied && !same).then_some(key.1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::index::fixtures::{
        credential, index, is_held_back, name, namespace, put, refuse_deletion, served,
    };

    #[test]
    fn a_namespace_is_requeued_only_if_something_that_matters_changed() {
        let mut index = index();
        index.ingest_credential(put(&credential("c1", 1, 1, &json!({}))));
        let labels = json!({"pull": "yes", "other": "1"});
        assert_eq!(index.ingest_namespace(put(&namespace("shop", "n1", 1, &labels))), [Arc::from("shop")]);
        assert!(index.ingest_namespace(put(&namespace("shop", "n1", 2, &labels))).is_empty());
        assert!(!index.ingest_namespace(put(&namespace("shop", "n1", 3, &json!({})))).is_empty());
        assert!(
            index.ingest_namespace(put(&namespace("shop", "n1", 2, &labels))).is_empty(),
            "an older event"
        );
    }

    #[test]
    fn a_namespace_made_again_under_its_name_starts_without_a_memory() {
        let mut index = served();
        refuse_deletion(&mut index, "pull");
        assert!(is_held_back(&index));
        index.ingest_namespace(put(&namespace("shop", "n9", 9, &json!({"pull": "yes"}))));
        assert!(!is_held_back(&index));
    }

    #[test]
    fn a_credential_that_is_being_deleted_still_selects() {
        let mut index = index();
        let mut deleting = credential("c1", 3, 1, &json!({}));
        deleting["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        index.ingest_credential(put(&deleting));
        index.ingest_namespace(put(&namespace("shop", "n1", 1, &json!({"pull": "yes"}))));
        let world = index.observe(&Arc::from("shop")).expect("a namespace");
        let planned = &index.credential(&name()).expect("an entry").planned;
        assert!(planned.scope.covers(&world.namespace), "by a label that nothing else asks for");
    }
}
