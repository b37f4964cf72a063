//! When the sources of a RegistryCredential are looked at next.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use regcred_api::Class;

/// The shortest pause before a look that is due at some time.
const SHORTEST: Duration = Duration::from_secs(1);
/// Over how long looks are spread that are due at one time: many may share a token.
const SPREAD: Duration = Duration::from_secs(2);
/// The first pause after a failure that a later try may cure, and the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(5);

/// What a look at the sources came to.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// Every server has a credential.
    Resolved {
        /// When another look may bring something else, where that is known.
        next: Option<Timestamp>,
    },
    /// Some server has none.
    Failed {
        /// What the failure asks for.
        class: Class,
        /// How long the source asked to wait.
        retry_after: Duration,
        /// Failures in a row, this one included.
        failures: u32,
    },
}

/// How long to wait for the next look. `interval` is the longest; `name` spreads credentials that were looked at
/// together.
pub fn next_look(name: &str, look: &Look, interval: Duration, now: Timestamp) -> Duration {
    match *look {
        Look::Resolved { next: Some(at) } => {
            let until = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            until.max(SHORTEST).min(interval) + spread(name, SPREAD)
        }
        Look::Failed { class: Class::Retry, retry_after, failures } => {
            let doubled = FIRST_RETRY.saturating_mul(1_u32 << (failures.max(1) - 1).min(16));
            let pause = doubled.min(LAST_RETRY).max(retry_after);
            pause + spread(name, pause / 4)
        }
        // What is missing announces itself through its watch.
        Look::Resolved { next: None } | Look::Failed { class: Class::Wait | Class::UserMustAct, .. } => {
            interval
        }
    }
}

/// A share of `most` that is drawn from the name, so that the same world gives the same pause.
pub(crate) fn spread(name: &str, most: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 256).unwrap_or(0);
    most * share / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    fn failed(class: Class, retry_after: u64, failures: u32) -> Look {
        Look::Failed { class, retry_after: Duration::from_secs(retry_after), failures }
    }

    #[test]
    fn what_never_expires_is_looked_at_in_the_interval() {
        assert_eq!(next_look("a", &Look::Resolved { next: None }, HOUR, now()), HOUR);
    }

    #[test]
    fn what_changes_at_a_known_time_is_looked_at_then_and_not_by_all_at_once() {
        let pause = |name, life| next_look(name, &Look::Resolved { next: Some(now() + life) }, HOUR, now());
        let pauses: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| pause(name, HOUR / 2)).collect();
        assert!(pauses.iter().all(|pause| (HOUR / 2..=HOUR / 2 + SPREAD).contains(pause)), "{pauses:?}");
        assert!(pauses.windows(2).any(|two| two[0] != two[1]), "{pauses:?}");
        assert!(pause("a", 12 * HOUR) <= HOUR + SPREAD, "the interval is the longest");
        assert!(pause("a", Duration::ZERO) >= SHORTEST);
        let past = Look::Resolved { next: Some(now() - HOUR) };
        assert!(next_look("a", &past, HOUR, now()) >= SHORTEST);
    }

    #[test]
    fn a_failure_backs_off_and_heeds_what_the_source_asks() {
        let pause =
            |retry_after, failures| next_look("a", &failed(Class::Retry, retry_after, failures), HOUR, now());
        let within = |pause: Duration, least: u64| {
            pause >= Duration::from_secs(least) && pause <= Duration::from_secs(least) * 5 / 4
        };
        assert!(within(pause(0, 1), 1) && within(pause(0, 4), 8) && within(pause(0, 100), 300));
        assert!(within(pause(20, 1), 20) && within(pause(600, 1), 600));
    }

    #[test]
    fn what_only_a_change_can_cure_waits_for_its_watch() {
        for class in [Class::Wait, Class::UserMustAct] {
            assert_eq!(next_look("a", &failed(class, 0, 3), HOUR, now()), HOUR);
        }
    }
}
