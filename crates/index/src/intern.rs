//! One copy of what thousands of objects have in common: names, label sets, marks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regcred_planner::{Marks, StringMap};

/// How many bytes an interner takes, and how many objects are dropped, before it looks for what nobody uses any more.
const FIRST_SWEEP: usize = 64 * 1024;
const FEW_DROPS: usize = 1024;
/// What a value takes besides its text, about: counts, pointers, its place in the set.
const OVERHEAD: usize = 64;

/// Hands out shared values; equal ones are the same.
#[derive(Debug)]
pub struct Interner {
    strings: BTreeSet<Arc<str>>,
    maps: BTreeSet<StringMap>,
    marks: BTreeSet<Arc<Marks>>,
    bytes: usize,
    sweep_at: usize,
    drops: usize,
}

/// How much memory a value takes, about.
trait Size {
    fn size(&self) -> usize;
}

impl Default for Interner {
    fn default() -> Self {
        Self {
            strings: BTreeSet::new(),
            maps: BTreeSet::new(),
            marks: BTreeSet::new(),
            bytes: 0,
            sweep_at: FIRST_SWEEP,
            drops: 0,
        }
    }
}

impl Interner {
    /// A shared string.
    pub fn string(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(text) {
            return known.clone();
        }
        let fresh: Arc<str> = Arc::from(text);
        self.strings.insert(fresh.clone());
        self.grow(fresh.size());
        fresh
    }

    /// A shared map.
    pub fn map(&mut self, map: BTreeMap<String, String>) -> StringMap {
        let (shared, grown) = share(&mut self.maps, map);
        self.grow(grown);
        shared
    }

    /// Shared marks.
    pub fn marks(&mut self, marks: Marks) -> Arc<Marks> {
        let (shared, grown) = share(&mut self.marks, marks);
        self.grow(grown);
        shared
    }

    /// An object that held shared values exists no more, or holds others now.
    pub fn note_drop(&mut self) {
        self.drops += 1;
        if self.drops >= self.len().max(FEW_DROPS) {
            self.sweep();
        }
    }

    /// Every doubling, drops what only the interner holds: churn must not grow it for ever.
    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= self.sweep_at {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        self.strings.retain(|value| Arc::strong_count(value) > 1);
        self.maps.retain(|value| Arc::strong_count(value) > 1);
        self.marks.retain(|value| Arc::strong_count(value) > 1);
        self.bytes = sizes(&self.strings) + sizes(&self.maps) + sizes(&self.marks);
        self.sweep_at = (self.bytes * 2).max(FIRST_SWEEP);
        self.drops = 0;
    }

    fn len(&self) -> usize {
        self.strings.len() + self.maps.len() + self.marks.len()
    }
}

/// The shared value, and how much the set grew.
fn share<T: Ord + Size>(known: &mut BTreeSet<Arc<T>>, value: T) -> (Arc<T>, usize) {
    if let Some(known) = known.get(&value) {
        return (known.clone(), 0);
    }
    let size = value.size();
    let fresh = Arc::new(value);
    known.insert(fresh.clone());
    (fresh, size)
}

fn sizes<T: Size + ?Sized>(values: &BTreeSet<Arc<T>>) -> usize {
    values.iter().map(|value| value.size()).sum()
}

impl Size for str {
    fn size(&self) -> usize {
        self.len() + OVERHEAD
    }
}

impl Size for BTreeMap<String, String> {
    fn size(&self) -> usize {
        self.iter().map(|(key, value)| key.size() + value.size()).sum::<usize>() + OVERHEAD
    }
}

impl Size for Marks {
    fn size(&self) -> usize {
        let own = [&self.credential_uid, &self.credential_name, &self.owner_uid, &self.retained_from];
        let own = own.into_iter().flatten().map(|text| text.size()).sum::<usize>();
        self.labels.size() + self.annotations.size() + own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(number: usize) -> BTreeMap<String, String> {
        (0..1000).map(|key| (format!("{number}-{key}"), "x".repeat(50))).collect()
    }

    #[test]
    fn equal_values_are_one_and_churn_is_forgotten() {
        let mut interner = Interner::default();
        let kept = interner.string("default");
        assert!(Arc::ptr_eq(&kept, &interner.string("default")));
        for number in 0..10_000 {
            interner.string(&number.to_string());
        }
        assert!(interner.bytes <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&kept, &interner.string("default")));
    }

    #[test]
    fn few_large_values_are_forgotten_as_soon_as_many_small_ones() {
        let mut interner = Interner::default();
        for number in 0..100 {
            interner.map(large(number));
            interner.marks(Marks { annotations: large(number), ..Marks::default() });
            assert!(interner.len() <= 4, "{} after {number}", interner.len());
        }
    }

    #[test]
    fn what_dropped_objects_held_is_forgotten_without_anything_new() {
        let mut interner = Interner::default();
        let used: Vec<_> = (0..100).map(|number| interner.map(large(number))).collect();
        assert_eq!(interner.len(), used.len());
        drop(used);
        (0..FEW_DROPS).for_each(|_| interner.note_drop());
        assert_eq!((interner.len(), interner.bytes), (0, 0));
    }
}
