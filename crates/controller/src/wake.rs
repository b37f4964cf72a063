//! What is requeued after a change, in which lane and how soon. Gets no `Context`, so
//! that it cannot lock the index a second time and wait for itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::queue::{Lane, Patience, Queue, Ticket};

/// A change for no more namespaces than this does not wait behind one for thousands.
const FEW: usize = 64;
/// RegistryCredentials that are applied together reach a ServiceAccount in one patch: those that follow
/// each other by no more than this. kubectl and GitOps tools take some ten milliseconds for each.
const TOGETHER: Patience = Patience { quiet: Duration::from_millis(100), at_most: Duration::from_secs(2) };
/// The shortest time between two versions of a copy that a changing source sends out.
const ROTATION_INTERVAL: Duration = Duration::from_secs(2);
/// Changes of status that come together make one write.
const STATUS_DEBOUNCE: Duration = Duration::from_millis(250);

/// The queues of all loops, and how far each RegistryCredential has come through them.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    pub(crate) namespaces: Queue<Arc<str>>,
    pub(crate) credentials: Queue<Arc<str>>,
    pub(crate) sources: Queue<Arc<str>>,
    /// Those of `sources` that ask a network.
    pub(crate) remote_sources: Queue<Arc<str>>,
    /// Those whose registries are to be asked.
    pub(crate) probes: Queue<Arc<str>>,
    pub(crate) statuses: Queue<Arc<str>>,
    progress: Mutex<HashMap<Arc<str>, Progress>>,
}

/// How far a RegistryCredential has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Once everything pushed before it is done, every namespace has seen the last change.
    settled_after: Ticket,
    /// When its sources last sent out another copy than before.
    rotated_at: Option<Instant>,
}

impl Queues {
    /// Queues that are measured.
    pub(crate) fn measured(metrics: &Metrics) -> Self {
        Self {
            namespaces: Queue::measured(metrics.waits("namespaces")),
            credentials: Queue::measured(metrics.waits("finalizers")),
            sources: Queue::measured(metrics.waits("sources")),
            remote_sources: Queue::measured(metrics.waits("remote sources")),
            probes: Queue::measured(metrics.waits("verifications")),
            statuses: Queue::measured(metrics.waits("statuses")),
            progress: Mutex::default(),
        }
    }

    /// Something in a namespace changed.
    pub(crate) fn namespace(&self, name: Arc<str>) {
        self.namespaces.push(name, Lane::Urgent);
    }

    /// The copies in a namespace are to be looked at again. Nobody waits for that.
    pub(crate) fn verification(&self, namespace: Arc<str>) {
        self.namespaces.push(namespace, Lane::Bulk);
    }

    /// A RegistryCredential changed, and something is to be done in these namespaces.
    pub(crate) fn credential(&self, name: &Arc<str>, concerned: Vec<Arc<str>>) {
        self.new_copies(name, concerned);
        self.credentials.push(name.clone(), Lane::Urgent);
        self.probes.push(name.clone(), Lane::Urgent);
        self.status(name.clone());
    }

    /// A RegistryCredential does not exist any more. Nobody waits for what it leaves to be cleaned up. The loops of statuses
    /// and finalizers forget what was told of it: numbers, changes and troubles.
    pub(crate) fn deleted_credential(&self, name: &Arc<str>, concerned: Vec<Arc<str>>) {
        self.progress.lock().remove(name);
        self.probes.push(name.clone(), Lane::Bulk);
        self.credentials.push(name.clone(), Lane::Bulk);
        self.status(name.clone());
        for namespace in concerned {
            self.namespaces.push(namespace, Lane::Bulk);
        }
    }

    /// A RegistryCredential puts something else into these namespaces than before, and others may do so together
    /// with it.
    pub(crate) fn new_copies(&self, name: &Arc<str>, concerned: Vec<Arc<str>>) {
        if !concerned.is_empty() {
            let lane = lane(&concerned);
            self.namespaces.gather(concerned, lane, TOGETHER);
            self.await_passes(name);
        }
    }

    /// The copies of a RegistryCredential in these namespaces have another content. That concerns no list, so it
    /// waits for nothing.
    pub(crate) fn rotation(&self, name: &Arc<str>, concerned: Vec<Arc<str>>) {
        self.with_progress(name, |progress| progress.rotated_at = Some(Instant::now()));
        self.refresh(name, concerned);
    }

    /// Everything that a RegistryCredential has in these namespaces is to be tried now.
    pub(crate) fn refresh(&self, name: &Arc<str>, concerned: Vec<Arc<str>>) {
        let lane = lane(&concerned);
        for namespace in concerned {
            self.namespaces.push(namespace, lane);
        }
        self.await_passes(name);
    }

    /// The sources of a RegistryCredential are to be looked at. Those that ask no network go first: passes wait for
    /// them at a start, and a network may hang.
    pub(crate) fn source(&self, name: Arc<str>, asks_network: bool) {
        self.sources.push(name, if asks_network { Lane::Bulk } else { Lane::Urgent });
    }

    /// A Secret that this RegistryCredential draws on changed. A first rotation is rolled out at once; those that follow
    /// soon after it are rolled out together.
    pub(crate) fn source_changed(&self, name: Arc<str>) {
        let now = Instant::now();
        let rotated_at = self.with_progress(&name, |progress| progress.rotated_at);
        let at = rotated_at.map_or(now, |rotated_at| now.max(rotated_at + ROTATION_INTERVAL));
        self.sources.push_at(name, at);
    }

    /// The status of a RegistryCredential may be another.
    pub(crate) fn status(&self, name: Arc<str>) {
        self.statuses.push_at(name, Instant::now() + STATUS_DEBOUNCE);
    }

    /// Whether every namespace has seen the last change of this RegistryCredential.
    pub(crate) fn is_settled(&self, name: &Arc<str>) -> bool {
        let settled_after = self.with_progress(name, |progress| progress.settled_after);
        self.namespaces.is_done_before(settled_after)
    }

    /// Counts a RegistryCredential as settled once everything that is queued by now had its pass.
    pub(crate) fn await_passes(&self, name: &Arc<str>) {
        let ticket = self.namespaces.next_ticket();
        self.with_progress(name, |progress| progress.settled_after = ticket);
    }

    fn with_progress<T>(&self, name: &Arc<str>, change: impl FnOnce(&mut Progress) -> T) -> T {
        change(self.progress.lock().entry(name.clone()).or_default())
    }
}

fn lane(concerned: &[Arc<str>]) -> Lane {
    if concerned.len() <= FEW { Lane::Urgent } else { Lane::Bulk }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Arc<str> {
        Arc::from("pull")
    }

    fn namespaces(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|number| Arc::from(format!("n{number}"))).collect()
    }

    async fn handed_out(queue: &Queue<Arc<str>>) -> (Arc<str>, Duration) {
        let start = Instant::now();
        let work = queue.next().await;
        let key = work.key.clone();
        work.done();
        (key, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_settled_once_each_of_its_namespaces_had_a_pass() {
        let queues = Queues::default();
        assert!(queues.is_settled(&name()));
        queues.credential(&name(), namespaces(2));
        for _ in 0..2 {
            assert!(!queues.is_settled(&name()));
            handed_out(&queues.namespaces).await;
        }
        assert!(queues.is_settled(&name()));
        assert_eq!(handed_out(&queues.credentials).await, (name(), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_for_few_namespaces_overtakes_one_for_many() {
        let queues = Queues::default();
        queues.rotation(&name(), namespaces(FEW + 1));
        queues.rotation(&Arc::from("small"), vec![Arc::from("one")]);
        assert_eq!(&*handed_out(&queues.namespaces).await.0, "one");
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_applied_together_are_waited_for_and_a_rotation_waits_for_nothing() {
        let queues = Queues::default();
        queues.new_copies(&name(), namespaces(1));
        assert_eq!(handed_out(&queues.namespaces).await.1, TOGETHER.quiet);
        queues.rotation(&name(), namespaces(1));
        assert_eq!(handed_out(&queues.namespaces).await.1, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_goes_on_changing_is_looked_at_in_intervals() {
        let queues = Queues::default();
        queues.source_changed(name());
        assert_eq!(handed_out(&queues.sources).await.1, Duration::ZERO);
        queues.rotation(&name(), namespaces(1));
        queues.source_changed(name());
        assert_eq!(handed_out(&queues.sources).await.1, ROTATION_INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_deleted_credential_leaves_goes_behind_what_somebody_waits_for() {
        let queues = Queues::default();
        queues.deleted_credential(&name(), vec![Arc::from("left")]);
        queues.namespace(Arc::from("new"));
        assert_eq!(&*handed_out(&queues.namespaces).await.0, "new");
        assert_eq!(&*handed_out(&queues.namespaces).await.0, "left");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_of_a_deleted_credential_is_forgotten_soon() {
        let queues = Queues::default();
        queues.deleted_credential(&name(), Vec::new());
        let soon = Duration::from_secs(1);
        let told = tokio::time::timeout(soon, handed_out(&queues.statuses)).await;
        assert_eq!(told, Ok((name(), STATUS_DEBOUNCE)), "numbers and log");
        let troubles = tokio::time::timeout(soon, handed_out(&queues.credentials)).await;
        assert_eq!(troubles, Ok((name(), Duration::ZERO)), "troubles");
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_status_that_come_together_make_one_look() {
        let queues = Queues::default();
        for _ in 0..3 {
            queues.status(name());
        }
        assert_eq!(handed_out(&queues.statuses).await.1, STATUS_DEBOUNCE);
        assert!(queues.statuses.is_empty());
    }
}
