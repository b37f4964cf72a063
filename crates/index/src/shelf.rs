//! Objects of one watch, by namespace and name. Plain state: events go in, and what they changed
//! comes out. A re-list reports no deletions, so what it did not mention is dropped when it ends.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Namespace (empty for cluster-scoped kinds) and name.
pub type Key = (Arc<str>, Arc<str>);

/// `metadata.resourceVersion` as a number: later versions are larger (KEP-5504). Zero where it is
/// none, which makes every event the newest.
pub type Version = u64;

/// Where an object came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// It was listed or watched.
    Watch,
    /// It came back from our own write.
    OwnWrite,
}

/// Objects of one watch.
#[derive(Debug)]
pub struct Shelf<T> {
    items: BTreeMap<Key, Item<T>>,
    epoch: u32,
    complete: bool,
    /// A list began and has not ended.
    listing: bool,
    /// The newest version that the watch delivered.
    newest: Version,
}

#[derive(Debug)]
struct Item<T> {
    value: T,
    version: Version,
    epoch: u32,
    /// How many bytes of text it came as.
    bytes: u32,
}

/// Reads a `resourceVersion`.
pub(crate) fn version(text: &str) -> Version {
    text.parse().unwrap_or(0)
}

/// The key of a cluster-scoped object.
pub(crate) fn cluster_key(name: &Arc<str>) -> Key {
    (Arc::from(""), name.clone())
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), epoch: 0, complete: false, listing: false, newest: 0 }
    }
}

impl<T> Shelf<T> {
    /// Ingests an object. Returns false if the one on the shelf is as new or newer: a watch may lag
    /// behind our own writes. The answer to such a write counts for nothing once the watch is past
    /// it: it delivers in the order of versions, so it has delivered this one, and perhaps its deletion. During a list
    /// nobody can tell, so the answer counts until the list ends, and then only if that mentioned the object: what was
    /// written later is yet to be delivered.
    pub fn apply(&mut self, key: Key, version: Version, value: T, origin: Origin) -> bool {
        if origin == Origin::OwnWrite && self.is_version(&key, version) {
            // A write that changed nothing: it is read again, perhaps for more than before.
            self.items.entry(key).and_modify(|item| item.value = value);
            return false;
        }
        self.accepts(version, origin) && self.place(key, version, value, origin)
    }

    /// Notes how far the watch is. Returns false for the answer to a write that the watch is past.
    pub fn accepts(&mut self, version: Version, origin: Origin) -> bool {
        match origin {
            Origin::Watch => {
                self.newest = self.newest.max(version);
                true
            }
            Origin::OwnWrite => version == 0 || version > self.newest,
        }
    }

    /// Ingests an object that was accepted, now or before. Returns false as [`Self::apply`] does.
    pub fn place(&mut self, key: Key, version: Version, value: T, origin: Origin) -> bool {
        let mentioned = origin == Origin::Watch || !self.listing;
        self.put(key, version, value, mentioned)
    }

    /// Whether the object on the shelf is as new as this version, or newer.
    pub fn is_outdated(&self, key: &Key, version: Version) -> bool {
        self.items.get(key).is_some_and(|item| version != 0 && item.version >= version)
    }

    fn is_version(&self, key: &Key, version: Version) -> bool {
        self.items.get(key).is_some_and(|item| version != 0 && item.version == version)
    }

    /// `mentioned`: the list that goes on, or the last one, is known to have it.
    fn put(&mut self, key: Key, version: Version, value: T, mentioned: bool) -> bool {
        let known = self.items.get(&key);
        let newer = known.is_none_or(|item| version == 0 || item.version < version);
        let epoch = match known {
            _ if mentioned => self.epoch,
            Some(item) => item.epoch,
            None => self.epoch.wrapping_sub(1),
        };
        if newer {
            self.items.insert(key, Item { value, version, epoch, bytes: 0 });
        } else if let Some(item) = self.items.get_mut(&key) {
            item.epoch = epoch;
        }
        newer
    }

    /// Ingests a deletion. Returns the object, unless one of that name on the shelf is newer.
    pub fn delete(&mut self, key: &Key, version: Version) -> Option<T> {
        self.newest = self.newest.max(version);
        let newer = self.items.get(key).is_some_and(|item| version != 0 && item.version > version);
        if newer { None } else { self.items.remove(key).map(|item| item.value) }
    }

    /// Notes how many bytes of text the object came as, if it is the one on the shelf.
    pub fn note_size(&mut self, key: &Key, version: Version, bytes: usize) {
        if let Some(item) = self.items.get_mut(key).filter(|item| item.version == version) {
            item.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        }
    }

    /// How many bytes of text the object under this key came as; 0 if there is none.
    pub fn size(&self, key: &Key) -> usize {
        // A `u32` fits a `usize` wherever this runs.
        self.items.get(key).map_or(0, |item| item.bytes as usize)
    }

    /// A list begins. It is consistent, so it is newer than anything before it, whatever its versions
    /// say: they start over when etcd was restored from a backup.
    pub fn begin(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.listing = true;
        self.newest = 0;
        for item in self.items.values_mut() {
            item.version = 0;
        }
    }

    /// A list or a watch mentions an object without saying what it is now: it exists, as it was last seen.
    pub fn touch(&mut self, key: &Key) {
        let epoch = self.epoch;
        if let Some(item) = self.items.get_mut(key) {
            item.epoch = epoch;
        }
    }

    /// A list is complete: what it did not mention no longer exists, and is returned.
    pub fn finish(&mut self) -> Vec<(Key, T)> {
        self.complete = true;
        self.listing = false;
        let epoch = self.epoch;
        self.items
            .extract_if(.., |_, item| item.epoch != epoch)
            .map(|(key, item)| (key, item.value))
            .collect()
    }

    /// Drops the objects whose keys do not pass, without a word.
    pub fn retain(&mut self, passes: impl Fn(&Key) -> bool) {
        self.items.retain(|key, _| passes(key));
    }

    /// Whether a list was ever complete.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The object under this key.
    pub fn get(&self, key: &Key) -> Option<&T> {
        self.items.get(key).map(|item| &item.value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut T> {
        self.items.get_mut(key).map(|item| &mut item.value)
    }

    /// All objects.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.items.iter().map(|(key, item)| (key, &item.value))
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Key, &mut T)> {
        self.items.iter_mut().map(|(key, item)| (key, &mut item.value))
    }

    /// The objects of a namespace, to be changed.
    pub fn in_namespace_mut(&mut self, namespace: &Arc<str>) -> impl Iterator<Item = &mut T> {
        let first = (namespace.clone(), Arc::from(""));
        let items = self.items.range_mut(first..).take_while(move |(key, _)| key.0 == *namespace);
        items.map(|(_, item)| &mut item.value)
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace(&self, namespace: &Arc<str>) -> impl Iterator<Item = (&Arc<str>, &T)> {
        let first = (namespace.clone(), Arc::from(""));
        self.items
            .range(first..)
            .take_while(move |(key, _)| key.0 == *namespace)
            .map(|(key, item)| (&key.1, &item.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        (Arc::from("ns"), Arc::from(name))
    }

    #[test]
    fn a_relist_sweeps_what_vanished_during_a_gap() {
        let mut shelf = Shelf::default();
        shelf.begin();
        shelf.apply(key("old"), 1, "old", Origin::Watch);
        shelf.apply(key("kept"), 2, "kept", Origin::Watch);
        assert!(shelf.finish().is_empty());
        shelf.begin();
        shelf.apply(key("kept"), 2, "kept", Origin::Watch);
        assert_eq!(shelf.finish(), [(key("old"), "old")]);
        assert_eq!(shelf.iter().count(), 1);
    }

    #[test]
    fn a_size_is_that_of_the_version_on_the_shelf() {
        let mut shelf = Shelf::default();
        shelf.apply(key("a"), 2, "now", Origin::Watch);
        shelf.note_size(&key("a"), 2, 70_000);
        shelf.apply(key("a"), 1, "stale", Origin::Watch);
        shelf.note_size(&key("a"), 1, 5);
        assert_eq!((shelf.size(&key("a")), shelf.size(&key("b"))), (70_000, 0));
        shelf.apply(key("a"), 3, "later", Origin::Watch);
        shelf.note_size(&key("a"), 3, 9);
        assert_eq!(shelf.size(&key("a")), 9);
    }

    #[test]
    fn an_answer_during_a_list_counts_only_for_what_the_list_mentions() {
        let mut shelf = Shelf::default();
        shelf.apply(key("updated"), 3, "before", Origin::Watch);
        shelf.begin();
        shelf.apply(key("updated"), 3, "before", Origin::Watch);
        shelf.apply(key("updated"), 5, "after", Origin::OwnWrite);
        shelf.apply(key("deleted since"), 4, "a late answer", Origin::OwnWrite);
        assert_eq!(shelf.finish(), [(key("deleted since"), "a late answer")]);
        assert_eq!(shelf.get(&key("updated")), Some(&"after"));
    }

    #[test]
    fn a_list_counts_also_where_versions_started_over() {
        let mut shelf = Shelf::default();
        shelf.apply(key("a"), 900, "before the restore", Origin::Watch);
        shelf.begin();
        assert!(shelf.apply(key("a"), 30, "restored", Origin::Watch));
        shelf.finish();
        assert_eq!(shelf.get(&key("a")), Some(&"restored"));
    }

    #[test]
    fn a_lagging_watch_does_not_undo_our_own_write() {
        let mut shelf = Shelf::default();
        assert!(shelf.apply(key("a"), 7, "ours", Origin::OwnWrite));
        assert!(!shelf.apply(key("a"), 6, "stale", Origin::Watch));
        assert!(shelf.delete(&key("a"), 6).is_none());
        assert_eq!(shelf.get(&key("a")), Some(&"ours"));
        assert_eq!(shelf.delete(&key("a"), 9), Some("ours"));
    }

    #[test]
    fn the_answer_to_our_own_write_does_not_bring_back_what_was_deleted_since() {
        let mut shelf = Shelf::default();
        shelf.apply(key("a"), 7, "written and watched", Origin::Watch);
        shelf.delete(&key("a"), 8);
        assert!(!shelf.apply(key("a"), 7, "the late answer", Origin::OwnWrite));
        assert!(shelf.get(&key("a")).is_none());
        assert!(shelf.apply(key("a"), 9, "a new one", Origin::OwnWrite));
    }

    #[test]
    fn a_namespace_is_listed_without_its_neighbours() {
        let mut shelf = Shelf::default();
        for namespace in ["a", "a-b", "b"] {
            shelf.apply((Arc::from(namespace), Arc::from("x")), 1, (), Origin::Watch);
        }
        assert_eq!(shelf.in_namespace(&Arc::from("a")).count(), 1);
    }
}
