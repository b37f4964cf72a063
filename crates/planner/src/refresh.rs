//! When the sources of a RegistryCredential are looked at next.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use regcred_api::Class;

/// A credential is replaced at least so long before it expires: Pods may be pulling with it.
const BEFORE_EXPIRY: Duration = Duration::from_mins(5);
/// The shortest pause, also where a credential is about to expire.
const SHORTEST: Duration = Duration::from_secs(10);
/// The first pause after a failure that a later try may cure, and the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(5);

/// What a look at the sources came to.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// Every server has a credential.
    Resolved {
        /// When the first of them expires, where that is known.
        expires_at: Option<Timestamp>,
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
        Look::Resolved { expires_at: Some(at) } => {
            let life = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            let two_thirds = life * 2 / 3;
            let early = spread(name, two_thirds / 10);
            two_thirds
                .saturating_sub(early)
                .min(life.saturating_sub(BEFORE_EXPIRY))
                .max(SHORTEST)
                .min(interval)
        }
        Look::Failed { class: Class::Retry, retry_after, failures } => {
            let doubled = FIRST_RETRY.saturating_mul(1_u32 << (failures.max(1) - 1).min(16));
            let pause = doubled.min(LAST_RETRY).max(retry_after);
            pause + spread(name, pause / 4)
        }
        // What is missing announces itself through its watch.
        Look::Resolved { expires_at: None }
        | Look::Failed { class: Class::Wait | Class::UserMustAct, .. } => interval,
    }
}

/// A share of `most` that is drawn from the name, so that the same world gives the same pause.
fn spread(name: &str, most: Duration) -> Duration {
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

    fn resolved(life: Duration) -> Look {
        Look::Resolved { expires_at: Some(now() + life) }
    }

    fn failed(class: Class, retry_after: u64, failures: u32) -> Look {
        Look::Failed { class, retry_after: Duration::from_secs(retry_after), failures }
    }

    #[test]
    fn what_never_expires_is_looked_at_in_the_interval() {
        assert_eq!(next_look("a", &Look::Resolved { expires_at: None }, HOUR, now()), HOUR);
    }

    #[test]
    fn what_expires_is_renewed_at_about_two_thirds_of_its_life() {
        for name in ["a", "b", "c", "d"] {
            let pause = next_look(name, &resolved(12 * HOUR), 24 * HOUR, now());
            assert!((7 * HOUR..=8 * HOUR).contains(&pause), "{name}: {pause:?}");
        }
        assert_eq!(next_look("a", &resolved(12 * HOUR), HOUR, now()), HOUR, "the interval is the longest");
    }

    #[test]
    fn what_expires_soon_is_renewed_five_minutes_before() {
        let pause = next_look("a", &resolved(Duration::from_mins(6)), HOUR, now());
        assert_eq!(pause, Duration::from_mins(1));
        for life in [Duration::from_secs(1), Duration::from_mins(5)] {
            assert_eq!(next_look("a", &resolved(life), HOUR, now()), SHORTEST);
        }
        let expired = Look::Resolved { expires_at: Some(now() - HOUR) };
        assert_eq!(next_look("a", &expired, HOUR, now()), SHORTEST);
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
