//! What stands in for registries: they know every password but some, and answer late, never, or nothing of use until everybody
//! rests.

use std::time::Duration;

use futures::future::BoxFuture;
use regcred_api::Reason;
use regcred_controller::Verifier;
use regcred_dockerconfig::{Login, Server};
use regcred_planner::{Proof, Verdict};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::trace::Trace;

/// Longer than anybody waits for an answer.
const FOREVER: Duration = Duration::from_mins(10);

/// All registries.
#[derive(Clone, Debug)]
pub struct Registries {
    started: Instant,
    rest: Duration,
    trace: Trace,
}

impl Registries {
    /// Registries that misbehave until `rest`.
    pub fn new(started: Instant, rest: Duration, trace: Trace) -> Self {
        Self { started, rest, trace }
    }

    async fn answer(&self, server: &Server, login: &Login) -> (Verdict, Duration) {
        sleep(Duration::from_millis(fastrand::u64(1..2_000))).await;
        if self.started.elapsed() < self.rest {
            match fastrand::u8(0..8) {
                0 => {
                    self.trace.note("registry", &format!("{server} is silent"));
                    sleep(FOREVER).await;
                }
                1 => sleep(Duration::from_secs(fastrand::u64(1..50))).await,
                2 => {
                    self.trace.note("registry", &format!("{server} is asked too often"));
                    return (verdict(Reason::RateLimited), Duration::from_secs(fastrand::u64(0..20)));
                }
                _ => {}
            }
        }
        let password = String::from_utf8_lossy(login.password().expose()).into_owned();
        let reason = if rejects(&password) { Reason::Rejected } else { Reason::LoginVerified };
        self.trace.disturbed("registry", &format!("{server} says {reason} of {password}"));
        (verdict(reason), Duration::ZERO)
    }
}

impl Verifier for Registries {
    fn verify<'a>(
        &'a self,
        server: &'a Server,
        login: &'a Login,
        _proof: &'a Proof,
    ) -> BoxFuture<'a, (Verdict, Duration)> {
        Box::pin(self.answer(server, login))
    }
}

fn verdict(reason: Reason) -> Verdict {
    let verdict = Verdict::of(reason, format!("the registry says {reason}"));
    verdict.unwrap_or_else(|| unreachable!("{reason} is a verdict"))
}

/// Whether no registry knows this password: every odd one of those that people write.
pub fn rejects(password: &str) -> bool {
    let number = password.strip_prefix('p').and_then(|number| number.parse::<u32>().ok());
    number.is_some_and(|number| number % 2 == 1)
}

/// How a spec asks for it.
pub fn verify(hold: bool) -> Value {
    json!({"mode": "Login", "onRejected": if hold { "Hold" } else { "Report" }})
}
