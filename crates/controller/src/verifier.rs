//! Who asks registries whether a credential is good: the client of `regcred-registry`, or what stands in for registries in a
//! simulation.

use std::time::Duration;

use futures::future::BoxFuture;
use regcred_api::{ConditionStatus, Reason};
use regcred_dockerconfig::{Login, Server};
use regcred_planner::{Proof, Verdict};
use regcred_registry::{Check, Image, Registries, Unknown, Verdict as Said};

/// Asks registries.
pub trait Verifier: Send + Sync {
    /// What the registry of a server says of a login, and how long it asks to wait before the next question.
    fn verify<'a>(
        &'a self,
        server: &'a Server,
        login: &'a Login,
        proof: &'a Proof,
    ) -> BoxFuture<'a, (Verdict, Duration)>;
}

impl Verifier for Registries {
    fn verify<'a>(
        &'a self,
        server: &'a Server,
        login: &'a Login,
        proof: &'a Proof,
    ) -> BoxFuture<'a, (Verdict, Duration)> {
        let pull = match proof {
            Proof::Login => None,
            Proof::Pull { repository, reference } => Some(Image { repository, reference }),
        };
        Box::pin(async move {
            let said = self.check(&Check { server, login, pull }).await;
            let retry_after = match &said {
                Said::Unknown { retry_after, .. } => *retry_after,
                _ => Duration::ZERO,
            };
            (judged(&said), retry_after)
        })
    }
}

/// What a registry said, as a condition says it.
pub(crate) fn judged(said: &Said) -> Verdict {
    let (status, reason) = match said {
        Said::LoginVerified { .. } => (ConditionStatus::True, Reason::LoginVerified),
        Said::PullVerified { .. } => (ConditionStatus::True, Reason::PullVerified),
        Said::Rejected(_) => (ConditionStatus::False, Reason::Rejected),
        Said::Expired(_) => (ConditionStatus::False, Reason::Expired),
        Said::PullDenied(_) => (ConditionStatus::False, Reason::PullDenied),
        Said::Unknown { why, .. } => (ConditionStatus::Unknown, silence(why)),
    };
    Verdict { status, reason, message: said.to_string() }
}

const fn silence(why: &Unknown) -> Reason {
    match why {
        Unknown::Unreachable { .. } => Reason::Unreachable,
        Unknown::RateLimited { .. } => Reason::RateLimited,
        Unknown::Spared { .. } => Reason::TooManyRejections,
        Unknown::Pattern | Unknown::Unverifiable { .. } | Unknown::UntrustedRealm { .. } => {
            Reason::Unverifiable
        }
    }
}
