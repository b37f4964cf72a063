//! What the condition `CredentialsVerified` says of the answers of all registries.

use regcred_api::{ConditionStatus, Reason};

use crate::verify::{Answer, Verdict};
use crate::words::listed_by;

/// How it is about the credential of one server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The server, as in status.
    pub server: String,
    /// The kind of its source.
    pub kind: &'static str,
    /// 8 hexadecimal digits of a keyed digest of the credential that its source gives.
    pub fingerprint: String,
    /// Whether copies keep another credential for the time that this one is rejected.
    pub hold: bool,
    /// The answer about it; `None` until there is one.
    pub answer: Option<Answer>,
    /// Its copies wait no longer for an answer that there is not yet.
    pub is_late: bool,
}

/// What the condition `CredentialsVerified` says; `None` where no registry is asked, and [`Judgement::Pending`] while
/// some answer is awaited and none is bad.
pub(crate) fn condition(verified: &[Verified]) -> Option<Judgement> {
    let with = |status| verified.iter().filter(move |own| own.status() == Some(status));
    let told = |status| listed_by(with(status).map(Verified::told), "; ");
    if verified.is_empty() {
        return None;
    }
    let worst = [Reason::Rejected, Reason::Expired, Reason::PullDenied];
    let reason_of = |status| with(status).filter_map(Verified::reason);
    if let Some(reason) =
        worst.into_iter().find(|worst| reason_of(ConditionStatus::False).any(|own| own == *worst))
    {
        return Some(Judgement::Known(Verdict {
            status: ConditionStatus::False,
            reason,
            message: told(ConditionStatus::False),
        }));
    }
    let waiting = || verified.iter().filter(|own| own.answer.is_none());
    if waiting().next().is_some() {
        let servers = listed_by(waiting().map(|own| own.server.clone()), ", ");
        let message = format!("not asked yet: {servers}");
        let verdict = Verdict { status: ConditionStatus::Unknown, reason: Reason::NotChecked, message };
        let is_late = waiting().any(|own| own.is_late);
        return Some(if is_late { Judgement::Known(verdict) } else { Judgement::Pending(verdict) });
    }
    if let Some(reason) = reason_of(ConditionStatus::Unknown).next() {
        let message = told(ConditionStatus::Unknown);
        return Some(Judgement::Known(Verdict { status: ConditionStatus::Unknown, reason, message }));
    }
    let pulls = reason_of(ConditionStatus::True).all(|reason| reason == Reason::PullVerified);
    let reason = if pulls { Reason::PullVerified } else { Reason::LoginVerified };
    Some(Judgement::Known(Verdict {
        status: ConditionStatus::True,
        reason,
        message: told(ConditionStatus::True),
    }))
}

/// What a condition says, and whether it may say something else in a moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Judgement {
    /// Every registry was asked, or one refused.
    Known(Verdict),
    /// Some registry is about to be asked.
    Pending(Verdict),
}

impl Verified {
    fn status(&self) -> Option<ConditionStatus> {
        self.answer.as_ref().map(|answer| answer.verdict.status)
    }

    /// Whether its registry rejects it.
    pub(crate) fn is_rejected(&self) -> bool {
        self.status() == Some(ConditionStatus::False)
    }

    fn reason(&self) -> Option<Reason> {
        self.answer.as_ref().map(|answer| answer.verdict.reason)
    }

    /// What the registry said, and what copies hold meanwhile. The server stands before it where the host alone does not say
    /// which one is meant.
    fn told(&self) -> String {
        let message = self.answer.as_ref().map_or("", |answer| &*answer.verdict.message);
        let server =
            if message.contains(&self.server) { String::new() } else { format!("{}: ", self.server) };
        let is_held = self.hold && self.is_rejected();
        let meanwhile = if is_held { "; copies that lack it do not get it" } else { "" };
        format!("{server}{message}{meanwhile}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn answer(status: ConditionStatus, reason: Reason, pause: Duration) -> Answer {
        let checked_at = Timestamp::from_second(1_000_000).unwrap();
        let verdict = Verdict { status, reason, message: format!("says {reason}") };
        Answer { verdict, checked_at, next_at: checked_at + pause }
    }

    fn verified(server: &str, answer: Option<Answer>) -> Verified {
        Verified {
            server: server.to_owned(),
            kind: "Secret",
            fingerprint: "1".to_owned(),
            hold: false,
            answer,
            is_late: false,
        }
    }

    #[test]
    fn the_worst_answer_is_told_and_those_not_asked_yet_before_those_that_said_nothing() {
        let bad = || answer(ConditionStatus::False, Reason::PullDenied, HOUR);
        let worse = || answer(ConditionStatus::False, Reason::Rejected, HOUR);
        let silent = || answer(ConditionStatus::Unknown, Reason::Unreachable, HOUR);
        let good = |reason| answer(ConditionStatus::True, reason, HOUR);
        let reason = |all: &[Verified]| match condition(all) {
            Some(Judgement::Known(verdict)) => Some((verdict.reason, false)),
            Some(Judgement::Pending(verdict)) => Some((verdict.reason, true)),
            None => None,
        };
        let (login, pull) = (good(Reason::LoginVerified), good(Reason::PullVerified));
        assert_eq!(reason(&[]), None);
        let all = [verified("a", Some(bad())), verified("b", Some(worse())), verified("c", None)];
        assert_eq!(reason(&all), Some((Reason::Rejected, false)));
        assert_eq!(reason(&all[..1]), Some((Reason::PullDenied, false)));
        let waiting = [verified("a", Some(silent())), verified("c", None)];
        assert_eq!(reason(&waiting), Some((Reason::NotChecked, true)));
        assert_eq!(reason(&waiting[..1]), Some((Reason::Unreachable, false)));
        let late = [Verified { is_late: true, ..verified("c", None) }];
        assert_eq!(reason(&late), Some((Reason::NotChecked, false)));
        let mixed = [verified("a", Some(pull)), verified("b", Some(login))];
        assert_eq!(reason(&mixed), Some((Reason::LoginVerified, false)));
        assert_eq!(reason(&mixed[..1]), Some((Reason::PullVerified, false)));
    }
}
