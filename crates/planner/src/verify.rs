//! Which registries are asked if a credential is good, what one said, and when it is asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use regcred_api::{ConditionStatus, Reason};
use regcred_dockerconfig::Server;

use crate::refresh::spread;

/// The longest pause after a rejection.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// By which part of a pause those are spread that were asked together.
const SPREAD: u32 = 16;
/// The first pause after an answer that says nothing.
const FIRST_RETRY: Duration = Duration::from_mins(1);

/// What is asked of a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Proof {
    /// Whether it knows the credential.
    Login,
    /// And whether the credential may pull this.
    Pull {
        /// The repository, without the server.
        repository: String,
        /// A tag or a digest.
        reference: String,
    },
}

/// How the credential of a server is verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verification {
    /// What is asked.
    pub proof: Proof,
    /// How long a good answer counts.
    pub interval: Duration,
    /// Whether copies keep the credential that was accepted last where this one is rejected.
    pub hold: bool,
}

/// How the credential of each server is verified.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verifications {
    /// Servers that `registries` names.
    own: BTreeMap<Server, Option<Verification>>,
    /// All others.
    others: Option<Verification>,
}

/// What a registry said of a credential, as a condition says it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// True where it accepts the credential, False where it does not, Unknown where it did not say.
    pub status: ConditionStatus,
    /// One of the reasons of `CredentialsVerified`.
    pub reason: Reason,
    /// What that means, where, and what to do.
    pub message: String,
}

/// What a registry said, and when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// What it said.
    pub verdict: Verdict,
    /// When it was asked.
    pub checked_at: Timestamp,
    /// When it is asked again.
    pub next_at: Timestamp,
}

impl Verdict {
    /// The verdict of a reason of `CredentialsVerified`; `None` if it is none.
    pub fn of(reason: Reason, message: String) -> Option<Self> {
        let status = match reason {
            Reason::LoginVerified | Reason::PullVerified => ConditionStatus::True,
            Reason::Rejected | Reason::Expired | Reason::PullDenied => ConditionStatus::False,
            Reason::Unreachable | Reason::RateLimited | Reason::TooManyRejections | Reason::Unverifiable => {
                ConditionStatus::Unknown
            }
            _ => return None,
        };
        Some(Self { status, reason, message })
    }
}

impl Verifications {
    /// How the credential of this server is verified; `None` if it is not. A repository outside the server's path says nothing
    /// of its credential, so only the login is asked about then.
    pub fn of(&self, server: &Server) -> Option<Verification> {
        let verification = self.own.get(server).unwrap_or(&self.others).clone()?;
        let name = server.to_string();
        let path = name.split_once('/').map_or("", |(_, path)| path);
        let proof = match verification.proof {
            Proof::Pull { repository, .. } if !repository.starts_with(path) => Proof::Login,
            proof => proof,
        };
        Some(Verification { proof, ..verification })
    }

    /// Those of the servers that `registries` names, and that of all others.
    pub(crate) fn new(own: BTreeMap<Server, Option<Verification>>, others: Option<Verification>) -> Self {
        Self { own, others }
    }
}

/// When a registry is asked again: a good answer counts for the interval; a rejected credential is tried ever less often, so
/// that no account is locked; what says nothing is tried again soon, and then ever less often. `key` spreads those that were
/// asked together. `before` is the last answer about the same credential.
pub fn next_check(
    key: &str,
    verdict: &Verdict,
    before: Option<&Answer>,
    interval: Duration,
    retry_after: Duration,
) -> Duration {
    let doubled = |first: Duration| {
        let same = before.filter(|before| before.verdict.status == verdict.status);
        let pause =
            same.and_then(|before| Duration::try_from(before.next_at.duration_since(before.checked_at)).ok());
        pause.map_or(first, |pause| pause.saturating_mul(2)).max(first)
    };
    let pause = match verdict.status {
        ConditionStatus::True => interval,
        ConditionStatus::False => doubled(interval).min(LONGEST_PAUSE.max(interval)),
        ConditionStatus::Unknown => doubled(FIRST_RETRY.min(interval)).min(interval),
    };
    let pause = pause.max(retry_after);
    pause + spread(key, pause / SPREAD)
}

/// The longest that a good answer counts, as [`next_check`] spreads them.
pub fn latest_check(interval: Duration) -> Duration {
    interval + interval / SPREAD
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn verdict(status: ConditionStatus, reason: Reason) -> Verdict {
        Verdict { status, reason, message: format!("says {reason}") }
    }

    fn answer(status: ConditionStatus, reason: Reason, pause: Duration) -> Answer {
        let checked_at = Timestamp::from_second(1_000_000).unwrap();
        Answer { verdict: verdict(status, reason), checked_at, next_at: checked_at + pause }
    }

    fn within(pause: Duration, least: Duration) -> bool {
        pause >= least && pause <= least + least / 16
    }

    #[test]
    fn a_good_answer_counts_for_the_interval_and_a_rejection_for_ever_longer() {
        let good = verdict(ConditionStatus::True, Reason::LoginVerified);
        let bad = verdict(ConditionStatus::False, Reason::Rejected);
        let pause = |verdict, before: Option<&Answer>| next_check("k", verdict, before, HOUR, Duration::ZERO);
        assert!(within(pause(&good, None), HOUR));
        assert!(within(pause(&bad, None), HOUR));
        let once = answer(ConditionStatus::False, Reason::Rejected, HOUR);
        assert!(within(pause(&bad, Some(&once)), 2 * HOUR));
        let often = answer(ConditionStatus::False, Reason::Rejected, 20 * HOUR);
        assert!(within(pause(&bad, Some(&often)), 24 * HOUR));
        assert!(within(pause(&good, Some(&often)), HOUR));
    }

    #[test]
    fn what_says_nothing_is_tried_again_soon_and_heeds_what_the_registry_asks() {
        let silent = verdict(ConditionStatus::Unknown, Reason::RateLimited);
        let pause = |before: Option<&Answer>, after| {
            next_check("k", &silent, before, HOUR, Duration::from_secs(after))
        };
        assert!(within(pause(None, 0), FIRST_RETRY));
        let once = answer(ConditionStatus::Unknown, Reason::Unreachable, 40 * FIRST_RETRY);
        assert!(within(pause(Some(&once), 0), HOUR));
        assert!(within(pause(None, 7200), 2 * HOUR));
    }
}
