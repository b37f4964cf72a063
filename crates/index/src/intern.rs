//! One copy of what thousands of objects have in common: names, label sets, marks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regcred_planner::{Marks, StringMap};

/// How much an interner grows before it looks for what nobody uses any more.
const FIRST_SWEEP: usize = 1024;

/// Hands out shared values; equal ones are the same.
#[derive(Debug)]
pub struct Interner {
    strings: BTreeSet<Arc<str>>,
    maps: BTreeSet<StringMap>,
    marks: BTreeSet<Arc<Marks>>,
    sweep_at: usize,
}

impl Default for Interner {
    fn default() -> Self {
        Self {
            strings: BTreeSet::new(),
            maps: BTreeSet::new(),
            marks: BTreeSet::new(),
            sweep_at: FIRST_SWEEP,
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
        self.sweep();
        fresh
    }

    /// A shared map.
    pub fn map(&mut self, map: BTreeMap<String, String>) -> StringMap {
        let shared = share(&mut self.maps, map);
        self.sweep();
        shared
    }

    /// Shared marks.
    pub fn marks(&mut self, marks: Marks) -> Arc<Marks> {
        let shared = share(&mut self.marks, marks);
        self.sweep();
        shared
    }

    /// Every doubling, drops what only the interner holds: churn must not grow it for ever.
    fn sweep(&mut self) {
        if self.len() < self.sweep_at {
            return;
        }
        self.strings.retain(|value| Arc::strong_count(value) > 1);
        self.maps.retain(|value| Arc::strong_count(value) > 1);
        self.marks.retain(|value| Arc::strong_count(value) > 1);
        self.sweep_at = (self.len() * 2).max(FIRST_SWEEP);
    }

    fn len(&self) -> usize {
        self.strings.len() + self.maps.len() + self.marks.len()
    }
}

fn share<T: Ord>(known: &mut BTreeSet<Arc<T>>, value: T) -> Arc<T> {
    if let Some(known) = known.get(&value) {
        return known.clone();
    }
    let fresh = Arc::new(value);
    known.insert(fresh.clone());
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_churn_is_forgotten() {
        let mut interner = Interner::default();
        let kept = interner.string("default");
        assert!(Arc::ptr_eq(&kept, &interner.string("default")));
        for number in 0..10_000 {
            interner.string(&number.to_string());
        }
        assert!(interner.len() <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&kept, &interner.string("default")));
    }
}
