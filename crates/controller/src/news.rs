//! Which troubles are news: each cause is logged when it first shows, and while it lasts at most every five minutes.

use std::borrow::Borrow;
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
    pub(crate) sources: News<Arc<str>, Reason>,
    /// What is not in place, by RegistryCredential.
    pub(crate) faults: News<Arc<str>, Reason>,
    /// Watches, by the kind of object where that matters, and HTTP status.
    pub(crate) watches: News<Option<&'static str>, u16>,
    /// Events that could not be written, by HTTP status.
    pub(crate) events: News<(), u16>,
}

impl Troubles {
    /// This replica works again: another one may have told the end of what it told. Watches go on meanwhile.
    pub(crate) fn start_over(&self) {
        self.sources.clear();
        self.faults.clear();
        self.events.clear();
    }

    /// A RegistryCredential does not exist any more.
    pub(crate) fn forget(&self, credential: &str) {
        self.sources.forget(credential);
        self.faults.forget(credential);
    }
}

/// What was logged of each thing that may be in trouble. A trouble that is over is remembered until it is no news any more
/// if it comes again, so that one which comes and goes does not fill the log.
#[derive(Debug)]
pub(crate) struct News<K, C>(Mutex<HashMap<K, Told<C>>>);

/// What was logged of one thing.
#[derive(Debug)]
struct Told<C> {
    causes: Vec<Said<C>>,
    /// Whether a trouble was logged and its end not.
    is_open: bool,
}

/// A cause that was logged.
#[derive(Debug)]
struct Said<C> {
    cause: C,
    at: Instant,
    /// How often it came since.
    unsaid: u64,
}

impl<C> Default for Told<C> {
    fn default() -> Self {
        Self { causes: Vec::new(), is_open: false }
    }
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
        let mut told = self.0.lock();
        if told.len() >= MAX_KEPT && !told.contains_key(&key) {
            told.retain(|_, told| told.causes.iter().any(|said| now - said.at < AGAIN));
        }
        if told.len() >= MAX_KEPT && !told.contains_key(&key) {
            return None;
        }
        let told = told.entry(key).or_default();
        let unsaid = told.note(cause, now);
        told.is_open |= unsaid.is_some();
        unsaid
    }

    /// There is no trouble any more. Returns whether that is to be logged: a trouble was, and its end not yet.
    pub(crate) fn over<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let now = Instant::now();
        let mut all = self.0.lock();
        let Some(told) = all.get_mut(key) else { return false };
        let was_open = std::mem::take(&mut told.is_open);
        told.causes.retain(|said| now - said.at < AGAIN);
        if told.causes.is_empty() {
            all.remove(key);
        }
        was_open
    }

    /// There is no such thing any more.
    pub(crate) fn forget<Q: Eq + Hash + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.0.lock().remove(key);
    }

    fn clear(&self) {
        self.0.lock().clear();
    }
}

impl<C: PartialEq> Told<C> {
    fn note(&mut self, cause: C, now: Instant) -> Option<u64> {
        let Some(known) = self.causes.iter_mut().find(|said| said.cause == cause) else {
            self.causes.retain(|said| now - said.at < AGAIN);
            if self.causes.len() >= MAX_CAUSES {
                return None;
            }
            self.causes.push(Said { cause, at: now, unsaid: 0 });
            return Some(0);
        };
        if now - known.at < AGAIN {
            known.unsaid += 1;
            return None;
        }
        known.at = now;
        Some(std::mem::take(&mut known.unsaid))
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
        news.forget("pull");
        assert_eq!(news.note("pull", "even"), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trouble_that_comes_and_goes_is_told_no_more_often_than_one_that_lasts() {
        let news = News::default();
        let mut said = Vec::new();
        for second in 0..620 {
            said.extend(news.note("pull", "cause").map(|before| (second, Some(before))));
            said.extend(news.over("pull").then_some((second, None)));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let expected =
            [(0, Some(0)), (0, None), (300, Some(299)), (300, None), (600, Some(299)), (600, None)];
        assert_eq!(said, expected);
        tokio::time::sleep(AGAIN).await;
        assert!(!news.over("pull"));
        assert!(news.0.lock().is_empty(), "what is no news any more is not kept");
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
