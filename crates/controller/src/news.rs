//! Which troubles are news: each cause is logged when it first shows, and while it lasts at most every five minutes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use regcred_api::Reason;
use tokio::time::Instant;

/// How soon a trouble that lasts is logged again.
const AGAIN: Duration = Duration::from_mins(5);
/// Of how many things it is remembered what was logged; of more nothing is logged, only counted in metrics.
const MAX_KEPT: usize = 4096;
/// How many causes are logged of one thing in five minutes: tenants have a say in the words of some.
const MAX_CAUSES: usize = 16;

/// What was logged of the troubles of this process.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// Sources, by RegistryCredential.
    pub(crate) sources: News<Arc<str>, (Reason, String)>,
    /// What is not in place, by RegistryCredential.
    pub(crate) faults: News<Arc<str>, (Reason, Arc<str>)>,
    /// Watches, by the kind of object where that matters, and HTTP status.
    pub(crate) watches: News<Option<&'static str>, u16>,
    /// Events that could not be written, by HTTP status.
    pub(crate) events: News<(), u16>,
}

/// What was logged of each thing that may be in trouble.
#[derive(Debug)]
pub(crate) struct News<K, C>(Mutex<HashMap<K, Vec<Said<C>>>>);

/// A cause that was logged.
#[derive(Debug)]
struct Said<C> {
    cause: C,
    at: Instant,
    /// How often it came since.
    unsaid: u64,
}

impl<K, C> Default for News<K, C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, C: PartialEq> News<K, C> {
    /// A trouble came, for this cause. If it is to be logged, how often it came before without being logged.
    pub(crate) fn note(&self, key: K, cause: C) -> Option<u64> {
        let now = Instant::now();
        let mut said = self.0.lock();
        if said.len() >= MAX_KEPT && !said.contains_key(&key) {
            said.retain(|_, causes| causes.iter().any(|said| now - said.at < AGAIN));
        }
        if said.len() >= MAX_KEPT && !said.contains_key(&key) {
            return None;
        }
        let causes = said.entry(key).or_default();
        let Some(known) = causes.iter_mut().find(|said| said.cause == cause) else {
            causes.retain(|said| now - said.at < AGAIN);
            if causes.len() >= MAX_CAUSES {
                return None;
            }
            causes.push(Said { cause, at: now, unsaid: 0 });
            return Some(0);
        };
        if now - known.at < AGAIN {
            known.unsaid += 1;
            return None;
        }
        known.at = now;
        Some(std::mem::take(&mut known.unsaid))
    }

    /// There is no trouble any more. Returns whether one was logged.
    pub(crate) fn over<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.lock().remove(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cause_is_news_at_first_and_then_every_five_minutes() {
        let news = News::default();
        let mut said = Vec::new();
        for second in 0..620 {
            let cause = if second % 2 == 0 { "even" } else { "odd" };
            said.extend(news.note("pull", cause).map(|before| (second, cause, before)));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let expected = [
            (0, "even", 0),
            (1, "odd", 0),
            (300, "even", 149),
            (301, "odd", 149),
            (600, "even", 149),
            (601, "odd", 149),
        ];
        assert_eq!(said, expected);
        assert!(news.over("pull") && !news.over("pull"));
        assert_eq!(news.note("pull", "even"), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_fills_the_log_with_ever_new_causes() {
        let news = News::default();
        let said = (0..1000).filter(|cause| news.note("pull", *cause).is_some()).count();
        assert_eq!(said, MAX_CAUSES);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_fills_the_log_by_having_ever_new_things_in_trouble() {
        let news = News::default();
        let said = (0..2 * MAX_KEPT).filter(|number| news.note(*number, ()).is_some()).count();
        assert_eq!(said, MAX_KEPT);
        tokio::time::sleep(AGAIN).await;
        assert_eq!(news.note(2 * MAX_KEPT, ()), Some(0), "what is old makes room");
    }
}
