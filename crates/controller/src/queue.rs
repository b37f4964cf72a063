//! Work by key. One pass for a key at a time; a change during a pass runs it again; two lanes, so
//! that new objects overtake refreshes; a debounce for keys that are pushed together; keys that are due at
//! a given time.
//!
//! kube's own `scheduler` and `applier` were weighed: they pop due keys in arbitrary order and know
//! one lane, so a new ServiceAccount would wait behind a rotation over ten thousand namespaces.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::Waits;

/// Priority.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lane {
    /// New namespaces, ServiceAccounts and drift: somebody may be waiting.
    Urgent,
    /// Refreshes of what is in place.
    Bulk,
}

/// The number of a push. Smaller is older.
pub(crate) type Ticket = u64;

/// How long keys wait for others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// From the last that came.
    pub(crate) quiet: Duration,
    /// From the first that came, however many follow.
    pub(crate) at_most: Duration,
}

/// Keys that wait for a pass.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
    waits: Waits,
}

#[derive(Debug)]
struct State<K> {
    urgent: VecDeque<(K, Ticket)>,
    bulk: VecDeque<(K, Ticket)>,
    gathering: Option<Gathering<K>>,
    /// Keys that wait, with the place and ticket under which they do.
    pending: HashMap<K, (Place, Ticket)>,
    /// Since when each of them does.
    since: HashMap<K, Instant>,
    running: HashMap<K, Ticket>,
    /// Tickets of everything that waits or runs.
    open: BTreeSet<Ticket>,
    delayed: BTreeMap<(Instant, Ticket), K>,
    due: HashMap<K, (Instant, Ticket)>,
    next_ticket: Ticket,
}

/// Keys that line up together once no more come.
#[derive(Debug)]
struct Gathering<K> {
    keys: Vec<(K, Ticket)>,
    since: Instant,
    until: Instant,
}

/// Where a key waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Lane(Lane),
    /// Among others that are gathered for this lane.
    Gathering(Lane),
}

/// A key that is being worked on. Dropped before it is done, it waits for a pass again: work is cut off where a
/// lease is lost.
#[derive(Debug)]
pub(crate) struct Work<'a, K: Clone + Eq + Hash> {
    /// The key.
    pub(crate) key: K,
    queue: &'a Queue<K>,
    done: bool,
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self::measured(Waits::default())
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// A queue that tells how many keys wait in it, and for how long.
    pub(crate) fn measured(waits: Waits) -> Self {
        let state = State {
            urgent: VecDeque::new(),
            bulk: VecDeque::new(),
            gathering: None,
            pending: HashMap::new(),
            since: HashMap::new(),
            running: HashMap::new(),
            open: BTreeSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            next_ticket: 0,
        };
        Self { state: Mutex::new(state), changed: Notify::new(), waits }
    }

    /// Asks for a pass over `key`.
    pub(crate) fn push(&self, key: K, lane: Lane) {
        let mut state = self.state.lock();
        state.push(key, lane);
        self.waits.waiting(state.pending.len());
        drop(state);
        self.changed.notify_one();
    }

    /// Asks for a pass over each of `keys` once no more have come for a while, so that changes which
    /// come together make one pass. A key that is asked for otherwise meanwhile does not wait.
    pub(crate) fn gather(&self, keys: Vec<K>, lane: Lane, patience: Patience) {
        let mut state = self.state.lock();
        state.gather(keys, lane, patience);
        self.waits.waiting(state.pending.len());
        drop(state);
        self.changed.notify_one();
    }

    /// Asks for a pass over `key` at `at`; an earlier time that was asked for before is kept.
    pub(crate) fn push_at(&self, key: K, at: Instant) {
        let mut state = self.state.lock();
        if state.due.get(&key).is_some_and(|(earlier, _)| *earlier <= at) {
            return;
        }
        state.forget_delay(&key);
        let ticket = state.ticket();
        state.delayed.insert((at, ticket), key.clone());
        state.due.insert(key, (at, ticket));
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for a key that may be worked on.
    pub(crate) async fn next(&self) -> Work<'_, K> {
        loop {
            let changed = self.changed.notified();
            let (key, wake_at) = self.take(Instant::now());
            if let Some(key) = key {
                // Whoever waits next may find more.
                self.changed.notify_one();
                return Work { key, queue: self, done: false };
            }
            match wake_at {
                Some(at) => {
                    let _elapsed = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// A key to work on, or else when to look again.
    fn take(&self, now: Instant) -> (Option<K>, Option<Instant>) {
        let mut state = self.state.lock();
        let taken = state.take(now);
        self.waits.waiting(state.pending.len());
        if let Some(since) = taken.0.as_ref().and_then(|key| state.since.remove(key)) {
            self.waits.taken_after(now - since);
        }
        taken
    }

    /// The ticket that the next push will get.
    pub(crate) fn next_ticket(&self) -> Ticket {
        self.state.lock().next_ticket
    }

    /// Whether everything pushed before `ticket` was drawn has had its pass.
    pub(crate) fn is_done_before(&self, ticket: Ticket) -> bool {
        self.state.lock().open.first().is_none_or(|oldest| *oldest >= ticket)
    }

    /// Whether no key waits for a pass now.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().pending.is_empty()
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn push(&mut self, key: K, lane: Lane) {
        let ticket = match self.pending.get(&key) {
            Some((Place::Lane(place), _)) if *place == lane || *place == Lane::Urgent => return,
            Some((_, ticket)) => *ticket,
            None => self.ticket(),
        };
        self.open.insert(ticket);
        self.since.entry(key.clone()).or_insert_with(Instant::now);
        self.pending.insert(key.clone(), (Place::Lane(lane), ticket));
        if !self.running.contains_key(&key) {
            self.line_up(key, lane, ticket);
        }
    }

    fn gather(&mut self, keys: Vec<K>, lane: Lane, patience: Patience) {
        let now = Instant::now();
        let mut gathering =
            self.gathering.take().unwrap_or_else(|| Gathering { keys: Vec::new(), since: now, until: now });
        gathering.until = (now + patience.quiet).min(gathering.since + patience.at_most);
        for key in keys {
            match self.pending.get_mut(&key) {
                Some((Place::Lane(_), _)) => self.push(key, lane),
                Some((Place::Gathering(gathered_for), _)) if lane == Lane::Urgent => *gathered_for = lane,
                Some(_) => {}
                None => {
                    let ticket = self.ticket();
                    self.open.insert(ticket);
                    self.since.entry(key.clone()).or_insert(now);
                    self.pending.insert(key.clone(), (Place::Gathering(lane), ticket));
                    gathering.keys.push((key, ticket));
                }
            }
        }
        self.gathering = Some(gathering);
    }

    /// Moves what was gathered into its lanes, but for keys that were pushed to a lane meanwhile.
    fn release(&mut self) {
        for (key, ticket) in self.gathering.take().map(|gathering| gathering.keys).unwrap_or_default() {
            match self.pending.get(&key) {
                Some((Place::Gathering(lane), waiting)) if *waiting == ticket => self.push(key, *lane),
                _ => {}
            }
        }
    }

    fn line_up(&mut self, key: K, lane: Lane, ticket: Ticket) {
        match lane {
            Lane::Urgent => self.urgent.push_back((key, ticket)),
            Lane::Bulk => self.bulk.push_back((key, ticket)),
        }
    }

    /// A key to work on, or else when to look again.
    fn take(&mut self, now: Instant) -> (Option<K>, Option<Instant>) {
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let key = entry.remove();
            self.due.remove(&key);
            self.push(key, Lane::Bulk);
        }
        if self.gathering.as_ref().is_some_and(|gathering| gathering.until <= now) {
            self.release();
        }
        while let Some((lane, (key, ticket))) = self.pop() {
            // A key that changed lanes is in both; the older place no longer counts.
            if self.pending.get(&key) == Some(&(Place::Lane(lane), ticket))
                && !self.running.contains_key(&key)
            {
                self.pending.remove(&key);
                self.running.insert(key.clone(), ticket);
                self.forget_delay(&key);
                return (Some(key), None);
            }
        }
        let due = self.delayed.keys().next().map(|(at, _)| *at);
        (None, due.into_iter().chain(self.gathering.as_ref().map(|gathering| gathering.until)).min())
    }

    fn pop(&mut self) -> Option<(Lane, (K, Ticket))> {
        let urgent = self.urgent.pop_front().map(|entry| (Lane::Urgent, entry));
        urgent.or_else(|| self.bulk.pop_front().map(|entry| (Lane::Bulk, entry)))
    }

    fn finish(&mut self, key: &K) {
        if let Some(ticket) = self.running.remove(key) {
            self.open.remove(&ticket);
        }
        if let Some((Place::Lane(lane), ticket)) = self.pending.get(key).copied() {
            self.line_up(key.clone(), lane, ticket);
        }
    }

    /// A pass that was cut off: its key waits again, under the ticket that it had.
    fn abandon(&mut self, key: &K) {
        let Some(ticket) = self.running.remove(key) else { return };
        let place = match self.pending.remove(key) {
            Some((place, newer)) => {
                self.open.remove(&newer);
                place
            }
            None => Place::Lane(Lane::Bulk),
        };
        let (Place::Lane(lane) | Place::Gathering(lane)) = place;
        self.since.entry(key.clone()).or_insert_with(Instant::now);
        self.pending.insert(key.clone(), (Place::Lane(lane), ticket));
        self.line_up(key.clone(), lane, ticket);
    }

    fn forget_delay(&mut self, key: &K) {
        if let Some(at) = self.due.remove(key) {
            self.delayed.remove(&at);
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket - 1
    }
}

impl<K: Clone + Eq + Hash> Work<'_, K> {
    /// The pass came to its end, whatever it found.
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl<K: Clone + Eq + Hash> Drop for Work<'_, K> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        if self.done {
            state.finish(&self.key);
        } else {
            state.abandon(&self.key);
        }
        self.queue.waits.waiting(state.pending.len());
        drop(state);
        self.queue.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn how_many_keys_wait_and_for_how_long_is_told() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        let queue = Queue::measured(metrics.waits("namespaces"));
        let told = |line: &str| {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            assert!(text.contains(line), "{line}: {text}");
        };
        queue.push("a", Lane::Bulk);
        queue.push("b", Lane::Bulk);
        queue.push("b", Lane::Urgent);
        told("regcred_queue_depth{queue=\"namespaces\"} 2\n");
        tokio::time::sleep(Duration::from_secs(3)).await;
        queue.next().await.done();
        told("regcred_queue_depth{queue=\"namespaces\"} 1\n");
        told("regcred_queue_wait_seconds_sum{queue=\"namespaces\"} 3.0\n");
        // What is due later does not wait yet.
        queue.push_at("c", Instant::now() + Duration::from_mins(1));
        queue.next().await.done();
        queue.next().await.done();
        told("regcred_queue_wait_seconds_count{queue=\"namespaces\"} 3\n");
        told("regcred_queue_wait_seconds_sum{queue=\"namespaces\"} 6.0\n");
        told("regcred_queue_depth{queue=\"namespaces\"} 0\n");
        queue.push("d", Lane::Bulk);
        drop(queue.next().await);
        told("regcred_queue_depth{queue=\"namespaces\"} 1\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_pushed_during_its_pass_runs_again_and_never_twice_at_once() {
        let queue = Queue::default();
        queue.push("a", Lane::Bulk);
        let first = queue.next().await;
        queue.push("a", Lane::Bulk);
        queue.push("a", Lane::Bulk);
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
        first.done();
        let second = queue.next().await;
        assert_eq!(second.key, "a");
        second.done();
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn urgent_keys_overtake_bulk_ones_also_when_they_waited_there() {
        let queue = Queue::default();
        for key in ["a", "b", "c"] {
            queue.push(key, Lane::Bulk);
        }
        queue.push("c", Lane::Urgent);
        let mut order = Vec::new();
        for _ in 0..3 {
            let work = queue.next().await;
            order.push(work.key);
            work.done();
        }
        assert_eq!(order, ["c", "a", "b"]);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_key_comes_at_the_earliest_time_asked_for() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.push_at("a", start + Duration::from_mins(1));
        queue.push_at("a", start + Duration::from_secs(5));
        queue.push_at("a", start + Duration::from_secs(30));
        queue.next().await.done();
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        assert!(tokio::time::timeout(Duration::from_mins(2), queue.next()).await.is_err());
    }

    const PATIENCE: Patience =
        Patience { quiet: Duration::from_millis(100), at_most: Duration::from_millis(500) };

    async fn handed_out<'a>(queue: &Queue<&'a str>) -> &'a str {
        let work = queue.next().await;
        let key = work.key;
        work.done();
        key
    }

    async fn handed_out_after(queue: &Queue<&str>, start: Instant) -> u128 {
        queue.next().await.done();
        start.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gathered_makes_one_pass_and_waits_no_longer_than_it_may() {
        let queue = Queue::default();
        let start = Instant::now();
        let changes = async {
            for _ in 0..10 {
                queue.gather(vec!["a"], Lane::Urgent, PATIENCE);
                tokio::time::sleep(Duration::from_millis(90)).await;
            }
        };
        let ((), handed_out) = tokio::join!(changes, handed_out_after(&queue, start));
        assert!((490..510).contains(&handed_out), "{handed_out}");
        // What came after that made one more.
        queue.next().await.done();
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_for_what_is_gathered_but_that_itself() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.gather(vec!["a", "b"], Lane::Bulk, PATIENCE);
        let gathered = queue.next_ticket();
        queue.push("c", Lane::Bulk);
        queue.push("a", Lane::Urgent);
        assert_eq!(handed_out(&queue).await, "a");
        assert_eq!(handed_out(&queue).await, "c");
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(!queue.is_done_before(gathered));
        assert_eq!(handed_out(&queue).await, "b");
        assert_eq!(start.elapsed(), PATIENCE.quiet);
        assert!(queue.is_done_before(gathered) && queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_gathered_during_its_pass_runs_again_once_both_are_over() {
        let queue = Queue::default();
        queue.push("a", Lane::Bulk);
        let pass = queue.next().await;
        queue.gather(vec!["a"], Lane::Bulk, PATIENCE);
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
        pass.done();
        assert_eq!(queue.next().await.key, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_was_cut_off_is_made_again_and_its_ticket_stays_open() {
        let queue = Queue::default();
        queue.push("a", Lane::Bulk);
        let ticket = queue.next_ticket();
        let cut_off = queue.next().await;
        queue.push("a", Lane::Urgent);
        drop(cut_off);
        assert!(!queue.is_done_before(ticket));
        assert_eq!(handed_out(&queue).await, "a");
        assert!(queue.is_done_before(ticket) && queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_done_when_all_earlier_pushes_had_their_pass() {
        let queue = Queue::default();
        queue.push("a", Lane::Bulk);
        queue.push("b", Lane::Bulk);
        let ticket = queue.next_ticket();
        queue.push("c", Lane::Bulk);
        let a = queue.next().await;
        let b = queue.next().await;
        a.done();
        assert!(!queue.is_done_before(ticket));
        b.done();
        assert!(queue.is_done_before(ticket));
    }
}
