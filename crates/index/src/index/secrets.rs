//! News of Secrets, and whether what is seen of a copy can be trusted.

use std::sync::Arc;

use regcred_planner::{Object, Precondition, Secret, Trust};

use super::state::Index;
use crate::decode::{self, SecretBody};
use crate::event::Event;
use crate::received::Received;
use crate::scope::SecretScope;
use crate::shelf::{Key, Origin, Shelf};

impl Index {
    /// Ingests news of a Secret from the watch of this scope. Returns the namespaces to requeue.
    pub fn ingest_secret(&mut self, scope: &SecretScope, event: Event<SecretBody>) -> Vec<Arc<str>> {
        match event {
            Event::ListBegins => {
                self.secrets_mut(scope).begin();
                Vec::new()
            }
            Event::Put(received, origin) => {
                let (key, version) = self.key(&received);
                let bytes = received.bytes();
                let Ok(body) = received.into_body() else {
                    self.secrets_mut(scope).touch(&key);
                    return Vec::new();
                };
                let kept = &self.interests.copies;
                let secret = decode::secret(&body, scope.wrong_type, kept, &mut self.interner);
                self.interner.note_drop();
                let shelf = self.secrets_mut(scope);
                let secret = with_history(secret, shelf, &key, origin);
                let applied = shelf.apply(key.clone(), version, secret, origin);
                shelf.note_size(&key, version, bytes);
                applied.then_some(key.0).into_iter().collect()
            }
            Event::Deleted(received) => {
                let (key, version) = self.key(&received);
                self.secrets_mut(scope).delete(&key, version);
                vec![self.forget_hold(key, Object::Secret)]
            }
            Event::ListEnds => {
                let gone = self.secrets_mut(scope).finish();
                gone.into_iter().map(|(key, _)| self.forget_hold(key, Object::Secret)).collect()
            }
        }
    }

    /// Ingests a Secret that came back from our own write.
    pub fn ingest_written_secret(&mut self, written: Received<SecretBody>) {
        let scope =
            self.secrets.iter().map(|(scope, _)| scope).find(|scope| scope.covers_copy(written.name()));
        let Some(scope) = scope.cloned() else { return };
        self.ingest_secret(&scope, Event::Put(written, Origin::OwnWrite));
    }

    /// It is time to look at every copy in a namespace again.
    pub fn doubt_secrets_in(&mut self, namespace: &Arc<str>) {
        for (_, shelf) in &mut self.secrets {
            for secret in shelf.in_namespace_mut(namespace) {
                secret.trust = Trust::Doubtful;
            }
        }
    }

    /// Notes that we deleted the Secret that was observed with this UID and version. Its watch says when it no
    /// longer exists; until then nothing is planned for it. A Secret of that name that is another by now, made
    /// before our answer came, is not concerned.
    pub fn note_deleted_secret(&mut self, namespace: &Arc<str>, name: &str, deleted: &Precondition) {
        let key = (namespace.clone(), Arc::from(name));
        for (_, shelf) in &mut self.secrets {
            let secret = shelf.get_mut(&key).filter(|secret| Precondition::of(secret) == *deleted);
            if let Some(secret) = secret {
                secret.terminating = true;
            }
        }
    }
}

/// A Secret with what its earlier versions tell: whose copy it was, and whether somebody wrote it since we did.
fn with_history(secret: Secret, shelf: &Shelf<Secret>, key: &Key, origin: Origin) -> Secret {
    let before = shelf.get(key).filter(|before| before.uid == secret.uid);
    let trust = match before {
        _ if origin == Origin::OwnWrite => Trust::Confirmed,
        Some(before) if before.resource_version == secret.resource_version => before.trust,
        None if !shelf.is_complete() => Trust::Assumed,
        _ => Trust::Doubtful,
    };
    let earlier = || before.filter(|_| secret.marks.is_some()).and_then(|before| before.copy_of.clone());
    Secret { copy_of: secret.copy_of.clone().or_else(earlier), trust, ..secret }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::index::fixtures::{COPIES, credential, put, received, secret, served};

    #[test]
    fn the_answer_to_a_delete_does_not_concern_the_next_secret_of_that_name() {
        let shop: Arc<str> = Arc::from("shop");
        let deleted = Precondition { uid: Arc::from("s1"), resource_version: Arc::from("5") };
        let is_terminating = |index: &Index| index.observe(&shop).unwrap().secrets["pull"].terminating;
        let mut index = served();
        index.ingest_secret(&COPIES, put(&secret("s1", 5)));
        index.note_deleted_secret(&shop, "pull", &deleted);
        assert!(is_terminating(&index));
        for successor in [secret("s2", 7), secret("s1", 6)] {
            let mut index = served();
            index.ingest_secret(&COPIES, put(&successor));
            index.note_deleted_secret(&shop, "pull", &deleted);
            assert!(!is_terminating(&index), "{successor}");
        }
    }

    fn trust(index: &Index) -> Trust {
        index.observe(&Arc::from("shop")).unwrap().secrets["pull"].trust
    }

    #[test]
    fn what_others_wrote_since_our_own_write_is_doubtful_until_we_write_again() {
        let mut index = served();
        index.ingest_secret(&COPIES, Event::ListEnds);
        index.ingest_secret(&COPIES, put(&secret("s1", 5)));
        assert_eq!(trust(&index), Trust::Doubtful, "made by somebody while we watched");
        index.ingest_written_secret(received(&secret("s1", 6)));
        assert_eq!(trust(&index), Trust::Confirmed);
        index.ingest_secret(&COPIES, put(&secret("s1", 6)));
        assert_eq!(trust(&index), Trust::Confirmed, "the event of our own write");
        index.ingest_secret(&COPIES, put(&secret("s1", 7)));
        assert_eq!(trust(&index), Trust::Doubtful);
        index.ingest_secret(&COPIES, put(&secret("s1", 8)));
        index.ingest_written_secret(received(&secret("s1", 8)));
        assert_eq!(trust(&index), Trust::Confirmed, "the answer came after its event");
    }

    #[test]
    fn a_list_doubts_what_changed_during_a_gap_and_a_first_list_nothing() {
        let mut index = served();
        index.ingest_secret(&COPIES, Event::ListBegins);
        index.ingest_secret(&COPIES, put(&secret("s1", 5)));
        assert_eq!(trust(&index), Trust::Assumed);
        index.ingest_secret(&COPIES, Event::ListEnds);
        index.ingest_written_secret(received(&secret("s1", 6)));
        for (version, expected) in [(6, Trust::Confirmed), (9, Trust::Doubtful)] {
            index.ingest_secret(&COPIES, Event::ListBegins);
            index.ingest_secret(&COPIES, put(&secret("s1", version)));
            index.ingest_secret(&COPIES, Event::ListEnds);
            assert_eq!(trust(&index), expected, "{version}");
        }
    }

    #[test]
    fn one_who_begins_to_lead_does_not_doubt_what_the_last_leader_wrote() {
        let mut index = served();
        index.ingest_secret(&COPIES, Event::ListEnds);
        index.ingest_secret(&COPIES, put(&secret("s1", 5)));
        index.start_over();
        assert_eq!(trust(&index), Trust::Assumed);
        index.doubt_secrets_in(&Arc::from("shop"));
        assert_eq!(trust(&index), Trust::Doubtful);
    }

    #[test]
    fn a_copy_that_was_seen_in_full_stays_known_under_edited_marks() {
        let copy_of =
            |index: &Index| index.observe(&Arc::from("shop")).unwrap().secrets["pull"].copy_of.clone();
        let mut whole = secret("s1", 5);
        whole["metadata"]["labels"] = json!({"regcred.dev/credential": "pull"});
        whole["metadata"]["managedFields"] = json!([{
            "manager": "regcred", "operation": "Apply", "fieldsV1": {"f:data": {"f:.dockerconfigjson": {}}},
        }]);
        for (uid, known) in [("s1", true), ("s2", false)] {
            let mut index = served();
            index.ingest_secret(&COPIES, put(&whole));
            assert_eq!(copy_of(&index).as_deref(), Some("c1"));
            index.ingest_secret(&COPIES, put(&secret(uid, 6)));
            assert_eq!(copy_of(&index).is_some(), known, "{uid}");
        }
    }

    #[test]
    fn a_copy_whose_key_was_not_kept_is_read_again_from_a_write_that_changed_nothing() {
        let mut index = served();
        let mut copy = secret("s1", 5);
        copy["metadata"]["labels"] = json!({"team": "a"});
        copy["metadata"]["managedFields"] = json!([{
            "manager": "regcred", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:labels": {"f:team": {}}}},
        }]);
        index.ingest_secret(&COPIES, put(&copy));
        let labels = |index: &Index| {
            let marks = index.observe(&Arc::from("shop")).unwrap().secrets["pull"].marks.clone().unwrap();
            (marks.labels.len(), marks.owns_more)
        };
        assert_eq!(labels(&index), (0, true));
        let spec = json!({"target": {"metadata": {"labels": {"team": "a"}}}});
        index.ingest_credential(put(&credential("c1", 9, 2, &spec)));
        index.ingest_written_secret(received(&copy));
        assert_eq!(labels(&index), (1, false));
    }

    #[test]
    fn a_secret_that_was_deleted_is_no_longer_held_back() {
        let mut index = served();
        index.ingest_secret(&COPIES, put(&secret("s1", 5)));
        assert_eq!(
            index.ingest_secret(&COPIES, Event::Deleted(received(&secret("s1", 6)))),
            [Arc::from("shop")]
        );
        assert!(index.observe(&Arc::from("shop")).unwrap().secrets.is_empty());
    }
}
