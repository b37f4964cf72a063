//! What is to change on the `imagePullSecrets` of a ServiceAccount. It is an atomic list: every write
//! carries the whole of it, so foreign entries are kept, in their place and order.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::claim::{Claims, Entries};
use crate::memory::Memory;
use crate::observed::ServiceAccount;

/// What is to change on one list.
#[derive(Clone, Debug, Default)]
pub struct ListChange {
    /// Desired names that the list has.
    pub present: BTreeSet<Arc<str>>,
    /// Desired names that the list lacks.
    pub attach: BTreeSet<Arc<str>>,
    /// Names that the list has and must not have.
    pub detach: BTreeSet<Arc<str>>,
}

impl ListChange {
    /// Compares a list with the claims of its namespace.
    pub fn new(name: &str, account: &ServiceAccount, claims: &Claims<'_>, memory: &Memory) -> Self {
        let mut change = Self::default();
        for (target, claim) in &claims.by_name {
            let listed = account.image_pull_secrets.contains(target);
            match desired(name, account, target, claim.entries, memory) {
                Some(true) if listed => change.present.insert(target.clone()),
                Some(true) => change.attach.insert(target.clone()),
                Some(false) if listed => change.detach.insert(target.clone()),
                Some(false) | None => false,
            };
        }
        let leftover =
            |entry: &&Arc<str>| !claims.by_name.contains_key(*entry) && memory.saw_attached(name, entry);
        change.detach.extend(account.image_pull_secrets.iter().filter(leftover).cloned());
        change
    }

    /// The same without the names that it adds.
    #[must_use]
    pub fn without_attach(&self) -> Self {
        Self { attach: BTreeSet::new(), ..self.clone() }
    }

    /// Whether the list is as desired.
    pub fn is_empty(&self) -> bool {
        self.attach.is_empty() && self.detach.is_empty()
    }

    /// The whole new list. Our names are appended; a duplicate of one of ours is dropped.
    pub fn apply_to(&self, list: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut seen = BTreeSet::new();
        let kept = list.iter().filter(|entry| {
            let repeated = self.present.contains(*entry) && !seen.insert((*entry).clone());
            !self.detach.contains(*entry) && !repeated
        });
        kept.chain(&self.attach).cloned().collect()
    }
}

/// Whether the list must have the name, or must not; `None`: either is fine.
fn desired(
    name: &str,
    account: &ServiceAccount,
    target: &str,
    entries: Entries<'_>,
    memory: &Memory,
) -> Option<bool> {
    match entries {
        Entries::Attach(spec) if spec.service_accounts.selects(name, account) => Some(true),
        Entries::Attach(spec) if spec.service_accounts.is_none() => None,
        Entries::Attach(_) | Entries::Detach => Some(false),
        Entries::DetachSeen => memory.saw_attached(name, target).then_some(false),
        Entries::Untouched => None,
    }
}
