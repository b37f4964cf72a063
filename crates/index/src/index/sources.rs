//! News of source Secrets, and what looks at them came to.

use std::sync::Arc;

use regcred_planner::{Credential, Validated};

use super::state::Index;
use crate::credentials::{CredentialEntry, SourceLook};
use crate::decode::{self, SourceSecretBody};
use crate::event::Event;

impl Index {
    /// Ingests news of a Secret in the source namespace. Returns the RegistryCredentials that draw on it.
    pub fn ingest_source(&mut self, event: Event<SourceSecretBody>) -> Vec<Arc<str>> {
        let changed: Vec<Arc<str>> = match event {
            Event::ListBegins => {
                self.sources.begin();
                self.interests.sources.list_begins();
                Vec::new()
            }
            Event::Put(received, origin) => {
                if !self.interests.sources.keeps(received.name()) {
                    return Vec::new();
                }
                let (key, version) = self.key(&received);
                let Ok(body) = received.into_body() else {
                    self.sources.touch(&key);
                    return Vec::new();
                };
                let secret = Arc::new(decode::source_secret(body));
                let applied = self.sources.apply(key.clone(), version, secret, origin);
                applied.then_some(key.1).into_iter().collect()
            }
            Event::Deleted(received) => {
                let (key, version) = self.key(&received);
                self.sources.delete(&key, version);
                vec![key.1]
            }
            Event::ListEnds => {
                self.interests.sources.list_ends();
                self.sources.finish().into_iter().map(|((_, name), _)| name).collect()
            }
        };
        let drawing = |entry: &CredentialEntry| changed.iter().any(|secret| draws_on(&entry.planned, secret));
        let entries = self.credentials.iter().filter(|(_, entry)| drawing(entry));
        entries.map(|(name, _)| name.clone()).collect()
    }

    /// Notes that a look came to nothing yet, because a registry is to be asked first, unless its spec is another by now.
    pub fn note_awaited(&mut self, name: &Arc<str>, spec: &Arc<Validated>, request: Option<String>) {
        self.credentials.note_awaited(name, spec, request);
    }

    /// Takes what a look at the sources of a RegistryCredential came to, unless its spec is another by now than the
    /// one that was asked for. Returns the namespaces whose copies are to change.
    pub fn take_look(&mut self, name: &Arc<str>, look: SourceLook) -> Vec<Arc<str>> {
        let changed = self.credentials.take_look(name, look);
        changed.map_or_else(Vec::new, |credential| self.concerned(&[Some(&*credential)]))
    }
}

/// Whether a credential takes anything from this Secret of the source namespace.
fn draws_on(credential: &Credential, secret: &str) -> bool {
    credential.spec.as_ref().is_ok_and(|spec| spec.reads(secret))
}

#[cfg(test)]
mod tests {
    use regcred_sources::SecretReader as _;
    use serde_json::json;

    use super::*;
    use crate::index::fixtures::{
        copy_of, credential, failed, look, name, payload, put, resolved, served, spec_of,
    };
    use crate::index::state::Listed;

    #[test]
    fn a_source_that_comes_to_be_named_is_listed_and_one_that_nobody_names_is_not_kept() {
        let mut index = served();
        let source = |name: &str| json!({"metadata": {"namespace": "regcred-system", "name": name, "resourceVersion": "4"}});
        let list = |index: &mut Index| {
            index.ingest_source(Event::ListBegins);
            for name in ["bot", "new"] {
                index.ingest_source(put(&source(name)));
            }
            index.ingest_source(Event::ListEnds);
        };
        list(&mut index);
        assert!(index.read("bot").is_some() && index.read("new").is_none());
        let registries = json!([{"server": "ghcr.io", "source": {"secretRef": {"name": "new"}}}]);
        let spec = json!({"registries": registries});
        assert!(index.ingest_credential(put(&credential("c1", 9, 2, &spec))).is_empty());
        assert!(index.needs_list(Listed::Sources) && index.read("bot").is_some());
        list(&mut index);
        assert_eq!(index.admit_credentials().len(), 1);
        assert!(index.read("bot").is_none() && index.read("new").is_some());
    }

    #[test]
    fn a_source_secret_wakes_those_that_draw_on_it() {
        let mut index = served();
        let source = |name: &str, version: u64| json!({"metadata": {"namespace": "regcred-system", "name": name, "resourceVersion": version.to_string()}});
        assert!(index.ingest_source(put(&source("unrelated", 4))).is_empty());
        assert!(index.read("unrelated").is_none());
        assert_eq!(index.ingest_source(put(&source("bot", 5))), [name()]);
        assert!(index.read("bot").is_some());
        index.ingest_source(Event::ListBegins);
        assert_eq!(index.ingest_source(Event::ListEnds), [name()]);
        assert!(index.read("bot").is_none());
    }

    #[test]
    fn failures_that_the_next_look_may_cure_are_counted_until_one_is_none() {
        let mut index = served();
        let spec = spec_of(&index);
        let counts = [true, true, false, true].map(|retrying| {
            let request = None;
            let look = SourceLook { spec: spec.clone(), request, state: failed(), payload: None, retrying };
            index.take_look(&name(), look);
            index.credential(&name()).unwrap().failed_looks
        });
        assert_eq!(counts, [1, 2, 0, 1]);
    }

    #[test]
    fn what_a_source_last_gave_outlives_its_failure_and_a_spec_that_names_the_same_sources() {
        let mut index = served();
        let spec = spec_of(&index);
        assert_eq!(look(&mut index, &spec, resolved(), Some(payload("one"))), [Arc::from("shop")]);
        assert!(look(&mut index, &spec, failed(), None).is_empty());
        assert_eq!(copy_of(&index).as_deref(), Some("one as pull"));
        index.ingest_credential(put(&credential("c1", 9, 2, &json!({"target": {"name": "renamed"}}))));
        assert_eq!(copy_of(&index).as_deref(), Some("one as renamed"));
        assert!(index.credential(&name()).unwrap().is_look_due(), "a new spec is looked at all the same");
        let registries = json!([{"server": "ghcr.io", "source": {"secretRef": {"name": "another"}}}]);
        index.ingest_credential(put(&credential("c1", 10, 3, &json!({"registries": registries}))));
        assert_eq!(copy_of(&index), None);
    }

    #[test]
    fn what_was_asked_for_by_an_older_spec_is_not_taken() {
        let mut index = served();
        let outdated = spec_of(&index);
        index.ingest_credential(put(&credential("c1", 9, 2, &json!({}))));
        assert!(look(&mut index, &outdated, resolved(), Some(payload("one"))).is_empty());
        assert_eq!(copy_of(&index), None);
    }

    #[test]
    fn a_look_that_waits_for_a_registry_holds_up_no_start_and_acts_on_a_request_once() {
        let mut index = served();
        let spec = spec_of(&index);
        assert!(index.awaits_local_sources());
        let mut asked = credential("c1", 9, 1, &json!({}));
        asked["metadata"]["annotations"] = json!({"regcred.dev/requestedAt": "noon"});
        index.ingest_credential(put(&asked));
        assert!(index.credential(&name()).unwrap().is_refresh_new());
        index.note_awaited(&name(), &spec, Some("noon".to_owned()));
        let entry = index.credential(&name()).unwrap();
        assert!(!index.awaits_local_sources() && !entry.is_refresh_new());
        assert!(entry.is_refresh_asked(), "it is not answered yet");
        index.ingest_credential(put(&credential("c1", 10, 2, &json!({"refreshInterval": "2h"}))));
        index.note_awaited(&name(), &spec, None);
        assert!(index.awaits_local_sources(), "another spec was not looked at");
    }

    #[test]
    fn a_request_for_a_refresh_is_due_until_it_is_acted_on() {
        let mut index = served();
        let spec = spec_of(&index);
        look(&mut index, &spec, resolved(), Some(payload("one")));
        let mut asked = credential("c1", 9, 1, &json!({}));
        asked["metadata"]["annotations"] = json!({"regcred.dev/requestedAt": "noon"});
        index.ingest_credential(put(&asked));
        assert!(index.credential(&name()).unwrap().is_look_due());
        look(&mut index, &spec, resolved(), Some(payload("one")));
        let entry = index.credential(&name()).unwrap();
        assert_eq!((entry.is_look_due(), entry.handled_request.as_deref()), (false, Some("noon")));
    }
}
