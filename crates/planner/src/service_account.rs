//! What is to change on the `imagePullSecrets` of a ServiceAccount, and on the annotation that says which of its
//! entries are ours. The list is atomic: every write carries the whole of it, so foreign entries are kept, in their
//! place and order.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::claim::{Claims, Entries};
use crate::observed::{MAX_ENTRIES, ServiceAccount};
use crate::world::{Credential, World};

/// What is to change on one list.
#[derive(Clone, Debug, Default)]
pub struct ListChange {
    /// Desired names that the list has.
    pub present: BTreeSet<Arc<str>>,
    /// Desired names that the list lacks.
    pub attach: BTreeSet<Arc<str>>,
    /// Desired names that the list lacks and has no room for.
    pub no_room: BTreeSet<Arc<str>>,
    /// Names that we put on the list and that it must not have any more.
    pub detach: BTreeSet<Arc<str>>,
    /// Names that are no longer ours, while the list stays as it is.
    pub unmark: BTreeSet<Arc<str>>,
}

/// What a claim asks of one ServiceAccount.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Entry {
    Wanted,
    Unwanted,
    Released,
    Untouched,
}

impl ListChange {
    /// Compares a list with the claims of its namespace.
    pub fn new(world: &World, name: &str, account: &ServiceAccount, claims: &Claims<'_>) -> Self {
        let mut change = Self::default();
        for (target, claim) in &claims.by_name {
            let entry = match claim.entries {
                Entries::Attach(spec) if spec.service_accounts.selects(name, account) => Entry::Wanted,
                Entries::Superseded(credential) if needs_former(world, name, account, credential) => {
                    Entry::Untouched
                }
                Entries::Attach(_) | Entries::Superseded(_) | Entries::Detach => Entry::Unwanted,
                Entries::Release => Entry::Released,
                Entries::Untouched => Entry::Untouched,
            };
            change.ask(account, target, entry);
        }
        for orphan in &claims.orphans {
            change.ask(account, orphan, Entry::Unwanted);
        }
        change.limit(account);
        change
    }

    /// A list is not made longer than [`MAX_ENTRIES`].
    fn limit(&mut self, account: &ServiceAccount) {
        let kept = self.kept(&account.image_pull_secrets).count();
        let room = if account.oversized { 0 } else { MAX_ENTRIES.saturating_sub(kept) };
        if let Some(first) = self.attach.iter().nth(room).cloned() {
            self.no_room = self.attach.split_off(&first);
        }
    }

    fn ask(&mut self, account: &ServiceAccount, target: &Arc<str>, entry: Entry) {
        let names = match (entry, account.lists(target), account.marks(target)) {
            (Entry::Wanted, true, _) => &mut self.present,
            (Entry::Wanted, false, _) => &mut self.attach,
            (Entry::Unwanted, true, true) => &mut self.detach,
            (Entry::Unwanted, false, true) | (Entry::Released, _, true) => &mut self.unmark,
            (Entry::Unwanted | Entry::Released, _, false) | (Entry::Untouched, _, _) => return,
        };
        names.insert(target.clone());
    }

    /// Whether the list and the annotation are as desired.
    pub fn is_empty(&self) -> bool {
        self.attach.is_empty() && self.detach.is_empty() && self.unmark.is_empty()
    }

    /// The whole new list. Our names are appended; a duplicate of one of ours is dropped.
    pub fn apply_to(&self, list: &[Arc<str>]) -> Vec<Arc<str>> {
        self.kept(list).chain(&self.attach).cloned().collect()
    }

    fn kept<'a>(&self, list: &'a [Arc<str>]) -> impl Iterator<Item = &'a Arc<str>> {
        let mut seen = BTreeSet::new();
        list.iter().filter(move |entry| {
            let repeated = self.present.contains(*entry) && !seen.insert((*entry).clone());
            !self.detach.contains(*entry) && !repeated
        })
    }

    /// All names that are ours afterwards, in order.
    pub fn marked_after(&self, marked: &[Arc<str>]) -> BTreeSet<Arc<str>> {
        let kept = marked.iter().filter(|name| !self.detach.contains(*name) && !self.unmark.contains(*name));
        kept.chain(&self.attach).cloned().collect()
    }
}

/// Whether a ServiceAccount still needs a former target name: its Pods cannot use the present one yet.
fn needs_former(world: &World, name: &str, account: &ServiceAccount, credential: &Credential) -> bool {
    let selected = credential.active_spec().is_some_and(|spec| spec.service_accounts.selects(name, account));
    selected && !(account.lists(&credential.scope.target_name) && world.has_copy(credential))
}
