//! News of ServiceAccounts.

use std::sync::Arc;

use regcred_planner::Object;

use super::state::Index;
use crate::decode::{self, ServiceAccountBody};
use crate::event::Event;

impl Index {
    /// Ingests news of a ServiceAccount. Returns the namespaces to requeue.
    pub fn ingest_service_account(&mut self, event: Event<ServiceAccountBody>) -> Vec<Arc<str>> {
        match event {
            Event::ListBegins => {
                self.service_accounts.begin();
                self.interests.service_accounts.list_begins();
                Vec::new()
            }
            Event::Put(received, origin) => {
                let (key, version) = self.key(&received);
                let bytes = received.bytes();
                let Ok(body) = received.into_body() else {
                    self.service_accounts.touch(&key);
                    return Vec::new();
                };
                let kept = &self.interests.service_accounts;
                let mut account = decode::service_account(&body, kept, &mut self.interner);
                account.marked.retain(|name| self.credentials.settings().allow(name));
                let same = self.service_accounts.get(&key) == Some(&account);
                self.interner.note_drop();
                let applied = self.service_accounts.apply(key.clone(), version, account, origin);
                self.service_accounts.note_size(&key, version, bytes);
                (applied && !same).then_some(key.0).into_iter().collect()
            }
            Event::Deleted(received) => {
                let (key, version) = self.key(&received);
                self.service_accounts.delete(&key, version);
                vec![self.forget_hold(key, Object::ServiceAccount)]
            }
            Event::ListEnds => {
                self.interests.service_accounts.list_ends();
                let gone = self.service_accounts.finish();
                gone.into_iter().map(|(key, _)| self.forget_hold(key, Object::ServiceAccount)).collect()
            }
        }
    }
}
