//! News of RegistryCredentials: what is kept of everything else follows from them.

use std::sync::Arc;

use regcred_planner::{Credential, Uid};

use super::state::Index;
use crate::credentials::Change;
use crate::decode::{self, CredentialBody};
use crate::event::Event;

/// What an event about a RegistryCredential asks for.
#[derive(Debug, Eq, PartialEq)]
pub struct CredentialChange {
    /// Its name.
    pub name: Arc<str>,
    /// Namespaces in which something is to be done now.
    pub concerned: Vec<Arc<str>>,
    /// UID of the object that no longer exists, itself or under this name.
    pub gone: Option<Uid>,
    /// Whether no object of this name exists any more.
    pub deleted: bool,
}

impl Index {
    /// Ingests news of a RegistryCredential.
    pub fn ingest_credential(&mut self, event: Event<CredentialBody>) -> Vec<CredentialChange> {
        match event {
            Event::ListBegins => {
                self.credentials.begin();
                Vec::new()
            }
            Event::Put(received, origin) => {
                let ((_, name), version) = self.key(&received);
                let Ok(body) = received.into_body() else {
                    self.credentials.touch(&name);
                    return Vec::new();
                };
                let asked = self.credentials.receive(&name, version, decode::credential(body), origin);
                if let Some(asked) = asked {
                    self.interests.add(asked);
                }
                self.admit_credentials()
            }
            Event::Deleted(received) => {
                let ((_, name), version) = self.key(&received);
                let change = self.credentials.delete(&name, version);
                self.renew_interests();
                change.map(|change| self.credential_change(name, &change)).into_iter().collect()
            }
            Event::ListEnds => {
                let gone = self.credentials.finish();
                self.renew_interests();
                gone.into_iter().map(|(name, change)| self.credential_change(name, &change)).collect()
            }
        }
    }

    /// Puts in force the RegistryCredentials that ask for nothing unknown any more.
    pub fn admit_credentials(&mut self) -> Vec<CredentialChange> {
        let admitted = self.credentials.admit(&self.interests);
        for (name, change) in &admitted {
            if change.begins_deletion() {
                // Whoever deletes it wants to see now that everything of it can be removed.
                self.forgive(name);
            }
        }
        let asks_anew = admitted.iter().any(|(_, change)| change.asks_anew);
        let changes = admitted.into_iter().map(|(name, change)| self.credential_change(name, &change));
        let changes = changes.collect();
        if asks_anew {
            self.renew_interests();
        }
        changes
    }

    /// What is kept of other objects follows the RegistryCredentials. A source that none names any more is dropped.
    fn renew_interests(&mut self) {
        self.interests.ask(self.credentials.asked());
        let sources = &self.interests.sources;
        self.sources.retain(|(_, name)| sources.keeps(name));
    }

    fn credential_change(&self, name: Arc<str>, Change { before, after, .. }: &Change) -> CredentialChange {
        let same =
            before.as_ref().zip(after.as_ref()).is_some_and(|(before, after)| same_work(before, after));
        let versions = [before.as_deref(), after.as_deref()];
        let uid =
            |version: &Option<Arc<Credential>>| version.as_ref().map(|credential| credential.uid.clone());
        CredentialChange {
            name,
            concerned: if same { Vec::new() } else { self.concerned(&versions) },
            gone: uid(before).filter(|gone| uid(after).as_ref() != Some(gone)),
            deleted: after.is_none(),
        }
    }

    /// Notes that our finalizer is off a RegistryCredential. Its watch says when the object no longer exists.
    pub fn note_released(&mut self, name: &Arc<str>, uid: &Uid) {
        self.credentials.note_released(name, uid);
    }
}

/// Whether a change leaves everything as it is in the namespaces.
fn same_work(before: &Credential, after: &Credential) -> bool {
    let same_spec = match (&before.spec, &after.spec) {
        (Ok(before), Ok(after)) => Arc::ptr_eq(before, after),
        (Err(_), Err(_)) => Arc::ptr_eq(&before.scope, &after.scope),
        _ => false,
    };
    let stage = |credential: &Credential| (credential.uid.clone(), credential.deleting, credential.finalized);
    same_spec && stage(before) == stage(after)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::index::fixtures::{
        COPIES, copy_of, credential, look, name, namespace, payload, put, received, resolved, secret, served,
        spec_of,
    };
    use crate::index::state::Listed;
    use crate::shelf::Origin;

    #[test]
    fn an_object_that_cannot_be_read_is_not_taken_for_deleted() {
        let mut index = served();
        index.ingest_credential(Event::ListBegins);
        let mut odd = credential("c1", 4, 1, &json!({}));
        odd["metadata"]["finalizers"] = json!(7);
        assert!(index.ingest_credential(put(&odd)).is_empty());
        assert!(index.ingest_credential(Event::ListEnds).is_empty());
        assert!(index.credential(&name()).is_some());
    }

    #[test]
    fn a_change_concerns_namespaces_selected_before_or_after_and_those_that_hold_a_copy() {
        let mut index = served();
        let spec = json!({"namespaces": {"matchNames": ["late"]}});
        index.ingest_namespace(put(&namespace("late", "n3", 4, &json!({}))));
        let changes = index.ingest_credential(put(&credential("c1", 5, 2, &spec)));
        assert_eq!(changes[0].concerned, [Arc::from("late"), Arc::from("shop")]);
        let spec = json!({"namespaces": {"matchNames": ["nowhere"]}});
        index.ingest_credential(put(&credential("c1", 6, 3, &spec)));
        index.ingest_secret(&COPIES, put(&secret("s1", 7)));
        let changes = index.ingest_credential(Event::Deleted(received(&credential("c1", 8, 3, &spec))));
        assert_eq!(changes[0].concerned, [Arc::from("shop")]);
        assert!(changes[0].deleted && changes[0].gone.as_deref() == Some("c1"));
    }

    #[test]
    fn the_end_of_an_idle_credential_concerns_what_it_held_back() {
        let account = |marked: &str| {
            json!({"metadata": {
                "namespace": "other", "name": "default", "uid": "a1", "resourceVersion": "7",
                "annotations": {"regcred.dev/attached": marked},
            }})
        };
        let concerned = |spec: &Value, account: &Value| {
            let mut index = served();
            index.ingest_service_account(put(account));
            index.ingest_credential(put(&credential("c1", 8, 2, spec)));
            let end = Event::Deleted(received(&credential("c1", 9, 2, spec)));
            index.ingest_credential(end)[0].concerned.clone()
        };
        let (shop, other): (Arc<str>, Arc<str>) = (Arc::from("shop"), Arc::from("other"));
        assert_eq!(concerned(&json!({}), &account("orphan")), std::slice::from_ref(&shop));
        assert_eq!(concerned(&json!({"suspend": true}), &account("orphan")), [other, shop.clone()]);
        // An invalid spec kept the name from rivals, wherever it selects.
        assert_eq!(concerned(&json!({"registries": []}), &account("")), [shop]);
    }

    /// A list of namespaces, as it is from now on.
    fn list_namespaces(index: &mut Index, namespaces: &[Value]) {
        index.ingest_namespace(Event::ListBegins);
        for namespace in namespaces {
            index.ingest_namespace(put(namespace));
        }
        index.ingest_namespace(Event::ListEnds);
    }

    #[test]
    fn nobody_is_deselected_before_every_namespace_was_looked_at_for_a_new_label() {
        let mut index = served();
        let shop = namespace("shop", "n1", 1, &json!({"pull": "yes", "tier": "gold"}));
        list_namespaces(&mut index, std::slice::from_ref(&shop));
        let spec = json!({"namespaces": {"selector": {"matchLabels": {"tier": "gold"}}}});
        let renamed = |tier: &str| json!({"namespaces": {"selector": {"matchLabels": {tier: "gold"}}}});
        let selects = |index: &Index| {
            let world = index.observe(&Arc::from("shop")).unwrap();
            world.credentials[0].active_spec().unwrap().namespaces.selects(&world.namespace)
        };
        assert!(index.ingest_credential(put(&credential("c1", 5, 2, &spec))).is_empty());
        assert!(selects(&index) && index.needs_list(Listed::Namespaces) && !index.is_complete());
        assert!(index.admit_credentials().is_empty());
        list_namespaces(&mut index, &[shop]);
        let changes = index.admit_credentials();
        assert_eq!((changes[0].concerned.clone(), selects(&index)), (vec![Arc::from("shop")], true));
        assert!(!index.needs_list(Listed::Namespaces));
        // One that ends, or is superseded, is waited for no longer.
        index.ingest_credential(put(&credential("c1", 6, 3, &renamed("team"))));
        assert!(index.needs_list(Listed::Namespaces));
        index.ingest_credential(Event::Deleted(received(&credential("c1", 7, 3, &renamed("team")))));
        assert!(!index.needs_list(Listed::Namespaces) && index.admit_credentials().is_empty());
        assert!(index.credential(&name()).is_none());
    }

    #[test]
    fn a_status_of_our_own_concerns_no_namespace_and_asks_for_no_look() {
        let mut index = served();
        let spec = spec_of(&index);
        look(&mut index, &spec, resolved(), Some(payload("one")));
        let mut written = credential("c1", 9, 1, &json!({}));
        written["status"] = json!({"observedGeneration": 1});
        let changes = index.ingest_credential(Event::Put(received(&written), Origin::OwnWrite));
        assert!(changes[0].concerned.is_empty() && changes[0].gone.is_none());
        assert!(!index.credential(&name()).unwrap().is_look_due());
        assert_eq!(copy_of(&index).as_deref(), Some("one as pull"));
    }
}
