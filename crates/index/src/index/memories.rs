//! What is remembered of namespaces between passes.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use regcred_planner::{Memory, Object, Plan, StepError, Trust};

use super::state::Index;
use crate::shelf::{Key, cluster_key};

impl Index {
    /// Remembers what a plan found and what became of its steps. Returns all that is remembered of the namespace;
    /// `None` if it does not exist any more.
    pub fn record(
        &mut self,
        plan: &Plan,
        results: &[Result<(), StepError>],
        now: Timestamp,
    ) -> Option<&Memory> {
        let memory = self.memory(&plan.namespace)?;
        memory.record(plan, results, now);
        Some(memory)
    }

    /// Ends every back-off and fight over the target name of a RegistryCredential, and over former ones: its admin asks
    /// for a try now. Returns the namespaces to requeue.
    pub fn forgive(&mut self, name: &Arc<str>) -> Vec<Arc<str>> {
        let Some(planned) = self.credential(name).map(|entry| entry.planned.clone()) else {
            return Vec::new();
        };
        let concerned = self.concerned(&[Some(&planned)]);
        for namespace in &concerned {
            let mut names: BTreeSet<_> = self.copies(namespace, &planned).cloned().collect();
            names.insert(planned.scope.target_name.clone());
            if let Some(memory) = self.memories.get_mut(namespace) {
                memory.forgive(&names);
            }
        }
        concerned
    }

    /// Forgets what this replica made of sources and remembers of lists: another one worked meanwhile, and knows
    /// better. Returns the RegistryCredentials whose sources are to be looked at.
    pub fn start_over(&mut self) -> Vec<Arc<str>> {
        self.memories.clear();
        let secrets = self.secrets.iter_mut().flat_map(|(_, shelf)| shelf.iter_mut());
        for (_, secret) in secrets.filter(|(_, secret)| secret.trust == Trust::Doubtful) {
            // Another replica wrote it.
            secret.trust = Trust::Assumed;
        }
        self.credentials.forget_sources()
    }

    /// The memory of a namespace, if it exists: one that does not would never be forgotten.
    fn memory(&mut self, namespace: &Arc<str>) -> Option<&mut Memory> {
        self.namespaces.get(&cluster_key(namespace))?;
        Some(self.memories.entry(namespace.clone()).or_default())
    }

    /// What was in the way does not exist any more.
    pub(super) fn forget_hold(&mut self, (namespace, name): Key, object: fn(Arc<str>) -> Object) -> Arc<str> {
        self.interner.note_drop();
        if let Some(memory) = self.memories.get_mut(&namespace) {
            memory.forget_hold(&object(name));
        }
        namespace
    }
}

#[cfg(test)]
mod tests {
    use regcred_planner::{ListPatch, Precondition, Removal, Step};
    use serde_json::json;

    use super::*;
    use crate::event::Event;
    use crate::index::fixtures::{
        COPIES, copy_of, credential, failed, is_held_back, look, name, namespace, payload, put, received,
        refuse_deletion, resolved, secret, served, spec_of,
    };

    #[test]
    fn a_deletion_is_tried_at_once_whatever_was_held_back_before() {
        let mut index = served();
        let shop: Arc<str> = Arc::from("shop");
        let over = Precondition { uid: Arc::from("s1"), resource_version: Arc::from("5") };
        let removal = Removal { name: name(), over, credential: Arc::from("c1"), credential_name: name() };
        let plan =
            Plan { namespace: shop.clone(), steps: vec![Step::DeleteSecret(removal)], ..Plan::default() };
        let now = Timestamp::UNIX_EPOCH;
        index.record(&plan, &[Err(StepError::Forbidden)], now);
        assert!(index.observe(&shop).unwrap().memory.wake_at(now).is_some());
        let mut deleted = credential("c1", 9, 1, &json!({}));
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        index.ingest_credential(put(&deleted));
        assert!(index.observe(&shop).unwrap().memory.wake_at(now).is_none());
    }

    #[test]
    fn a_serviceaccount_that_was_deleted_leaves_no_back_off() {
        let mut index = served();
        let shop: Arc<str> = Arc::from("shop");
        let patch = ListPatch {
            name: Arc::from("ci"),
            uid: Arc::from("a1"),
            resource_version: Arc::from("5"),
            list: Vec::new(),
            attach: BTreeSet::new(),
            detach: BTreeSet::new(),
            unmark: BTreeSet::new(),
            marked: BTreeSet::new(),
        };
        let steps = vec![Step::PatchServiceAccount(patch)];
        let now = Timestamp::UNIX_EPOCH;
        index.record(
            &Plan { namespace: shop.clone(), steps, ..Plan::default() },
            &[Err(StepError::Gone)],
            now,
        );
        let account =
            json!({"metadata": {"namespace": "shop", "name": "ci", "uid": "a1", "resourceVersion": "9"}});
        index.ingest_service_account(Event::Deleted(received(&account)));
        assert!(index.observe(&shop).unwrap().memory.wake_at(now).is_none());
    }

    #[test]
    fn nothing_is_remembered_of_a_namespace_that_does_not_exist() {
        let mut index = served();
        let shop: Arc<str> = Arc::from("shop");
        index.ingest_namespace(Event::Deleted(received(&namespace("shop", "n1", 9, &json!({})))));
        let plan = Plan { namespace: shop, ..Plan::default() };
        assert!(index.record(&plan, &[], Timestamp::UNIX_EPOCH).is_none());
        index.ingest_secret(&COPIES, Event::Deleted(received(&secret("s1", 10))));
        assert!(index.memories.is_empty());
    }

    #[test]
    fn a_replica_that_works_again_takes_no_source_for_what_it_was() {
        let mut index = served();
        let spec = spec_of(&index);
        look(&mut index, &spec, resolved(), Some(payload("one")));
        assert!(!index.awaits_local_sources());
        assert_eq!(index.start_over(), [name()]);
        assert!(index.awaits_local_sources());
        look(&mut index, &spec, failed(), None);
        assert_eq!(copy_of(&index), None, "a source that gives nothing brings no old copy back");
    }

    #[test]
    fn a_request_ends_back_offs_under_former_names_too() {
        for (name_of_secret, ends) in [("pull", true), ("former", true), ("of another", false)] {
            let mut index = served();
            let mut former = secret("s1", 4);
            former["metadata"]["name"] = json!("former");
            index.ingest_secret(&COPIES, put(&former));
            refuse_deletion(&mut index, name_of_secret);
            assert_eq!(index.forgive(&name()), [Arc::from("shop")]);
            assert_eq!(is_held_back(&index), !ends, "{name_of_secret}");
        }
    }
}
