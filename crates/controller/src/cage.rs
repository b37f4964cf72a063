//! Whether the admission policies that limit what the operator's token can write are in force: the operator asks, as a
//! dry run, for something that they forbid.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use regcred_api::names;
use regcred_planner::{Gate, StepError};
use serde_json::json;

use crate::calls::{Objects, answer};
use crate::context::Context;

/// How often it asks: policies that somebody removes are missed after so long.
const EVERY: Duration = Duration::from_mins(1);
/// How the name of the policy for Secrets ends in each installation.
const POLICY: &str = "-cage-secrets";

pub(crate) const OPEN: &str = "no admission policy limits what this token can write, only RBAC does; apply the chart with \
                               cage.enabled, or deploy/install.yaml, again";
pub(crate) const UNKNOWN: &str = "the try ended in another way; see that the operator may patch the Secret regcred-fingerprint-key in \
                                  its own namespace, and that no other policy or webhook refuses it";

/// What is known of the cage.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Cage {
    /// It was not asked yet, or something else stood in the way.
    #[default]
    Unknown,
    /// It refuses what it should.
    Closed,
    /// It let pass what it forbids.
    Open,
}

impl Cage {
    /// As `/readyz` shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Closed => "yes",
            Self::Open => "no",
        }
    }
}

/// Asks for ever. Each change is logged.
pub(crate) async fn watch(context: Arc<Context>) {
    let secrets = context.calls.own_secrets();
    let mut logged = None;
    loop {
        let cage = ask(&secrets).await;
        context.metrics.caged.set(i64::from(cage == Cage::Closed));
        context.stage.cage.send_replace(cage);
        if logged.replace(cage) != Some(cage) {
            log(cage);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The Secret of the fingerprint key is there by now, and the operator may patch it whatever its profile.
async fn ask(secrets: &Objects) -> Cage {
    let forbidden = Patch::Merge(json!({"immutable": true}));
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    match answer(secrets.patch(names::FINGERPRINT_KEY_SECRET, &params, &forbidden)).await {
        Ok(()) => Cage::Open,
        Err(error) => match error.meaning() {
            StepError::Denied(Gate::Policy(Some(name))) if name.ends_with(POLICY) => Cage::Closed,
            _ => Cage::Unknown,
        },
    }
}

fn log(cage: Cage) {
    match cage {
        Cage::Closed => tracing::info!("caged: admission policies limit what this token can write"),
        Cage::Open => tracing::warn!(cause = OPEN, "not caged"),
        Cage::Unknown => tracing::warn!(cause = UNKNOWN, "not known whether caged"),
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde_json::Value;

    use super::*;
    use crate::fake;

    fn refused(policy: &str) -> (u16, Value) {
        let message = format!(
            "secrets \"regcred-fingerprint-key\" is forbidden: ValidatingAdmissionPolicy '{policy}' with binding \
             '{policy}' denied request: no"
        );
        (403, json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": message}))
    }

    #[tokio::test(start_paused = true)]
    async fn a_cage_that_is_removed_or_put_back_is_seen_within_a_minute() {
        let reply = Arc::new(Mutex::new(refused("regcred-cage-secrets")));
        let kept = reply.clone();
        let replica = fake::context("only", move |_, _, _| kept.lock().clone());
        tokio::spawn(watch(replica.clone()));
        let mut cage = replica.stage.cage.subscribe();
        for (answer, expected, metric) in [
            (refused("regcred-cage-secrets"), Cage::Closed, 1),
            ((200, json!({})), Cage::Open, 0),
            (refused("other-cage-secrets"), Cage::Closed, 1),
            (refused("policy-of-somebody"), Cage::Unknown, 0),
            ((503, json!({"status": "Failure", "code": 503})), Cage::Unknown, 0),
            ((200, json!({})), Cage::Open, 0),
        ] {
            *reply.lock() = answer;
            let seen = cage.wait_for(|cage| *cage == expected);
            tokio::time::timeout(EVERY + Duration::from_secs(1), seen).await.unwrap().unwrap();
            assert_eq!(replica.metrics.caged.get(), metric);
        }
    }
}
