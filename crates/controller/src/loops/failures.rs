//! Writes of RegistryCredentials that fail: when the next try of each may be made, and whether its cause is news. Plans
//! have a back-off of their own, which knows more of what it waits for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use regcred_api::Class;
use regcred_planner::StepError;
use tokio::time::Instant;

/// The first and the longest pause where a later try may succeed by itself.
const PASSING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// The same where a user must act.
const LASTING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// How soon a cause that lasts is logged again.
const TOLD_AGAIN: Duration = Duration::from_mins(5);

/// The failures of each RegistryCredential since its last success, shared by the workers of a loop.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<Arc<str>, Failure>>);

#[derive(Debug)]
struct Failure {
    cause: StepError,
    pause: Duration,
    retry_at: Instant,
    told_at: Instant,
}

impl Failures {
    /// When the next try may be made, where that is not now.
    pub(super) fn wait_until(&self, name: &str) -> Option<Instant> {
        self.0.lock().get(name).map(|failure| failure.retry_at).filter(|at| *at > Instant::now())
    }

    /// Notes a failure. Returns when to try again, and whether to log it: the cause is another than before, or was logged
    /// five minutes ago.
    pub(super) fn note(&self, name: &Arc<str>, cause: StepError) -> (Instant, bool) {
        let mut failures = self.0.lock();
        let before = failures.get(name);
        let (first, longest) = if cause.class() == Class::UserMustAct { LASTING } else { PASSING };
        let pause = before.map_or(first, |failure| (failure.pause * 2).clamp(first, longest));
        let now = Instant::now();
        let told_at = before.filter(|failure| failure.cause == cause && now - failure.told_at < TOLD_AGAIN);
        let (is_news, told_at) = (told_at.is_none(), told_at.map_or(now, |failure| failure.told_at));
        let retry_at = now + pause;
        failures.insert(name.clone(), Failure { cause, pause, retry_at, told_at });
        (retry_at, is_news)
    }

    /// The write succeeded, or there is nothing to write any more.
    pub(super) fn forget(&self, name: &str) {
        self.0.lock().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_and_a_cause_is_news_once() {
        let (failures, name) = (Failures::default(), Arc::from("pull"));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let (at, is_news) = failures.note(&name, StepError::Forbidden);
            let waited: u64 = pauses.iter().sum();
            assert_eq!(is_news, [0, 315, 615].contains(&waited), "{waited}");
            assert_eq!(failures.wait_until(&name), Some(at));
            pauses.push((at - Instant::now()).as_secs());
            tokio::time::sleep_until(at).await;
            assert_eq!(failures.wait_until(&name), None);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
        assert!(failures.note(&name, StepError::NoAnswer).1, "another cause is news");
        failures.forget(&name);
        assert!(failures.note(&name, StepError::NoAnswer).1, "so is the first after a success");
    }
}
