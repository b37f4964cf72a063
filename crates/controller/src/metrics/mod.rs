//! Prometheus metrics. Labels are of closed sets, each member of which is there from the start, but for what is told of each
//! RegistryCredential. `docs/metrics.md` lists them all, and a test holds it to what is served.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod.rs` | every number, and its name |
//! | `told` | what is told of each RegistryCredential, of a bounded number of them |
//! | `requests` | requests to the API server |
//! | `waits` | how long keys wait in a queue |

mod requests;
mod told;
mod waits;

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use regcred_api::Reason;
use regcred_planner::{Contested, Step, StepError};

pub(crate) use requests::{Asked, Requests};
pub(crate) use told::Told;
pub(crate) use waits::Waits;

use crate::client;

const STEPS: [&str; 7] = [
    "PatchServiceAccount",
    "ApplySecret",
    "RotateSecret",
    "VerifySecret",
    "RecreateSecret",
    "DeleteSecret",
    "ReleaseSecret",
];
/// How a step may end.
const STEP_RESULTS: [&str; 8] = [
    SUCCEEDED,
    Reason::NameConflict.as_str(),
    Reason::TypeMismatch.as_str(),
    Reason::Forbidden.as_str(),
    Reason::Rejected.as_str(),
    Reason::QuotaExceeded.as_str(),
    Reason::Contested.as_str(),
    Reason::WriteFailed.as_str(),
];
/// What registries may say of a credential.
const VERDICTS: [Reason; 9] = [
    Reason::LoginVerified,
    Reason::PullVerified,
    Reason::PullDenied,
    Reason::Rejected,
    Reason::Expired,
    Reason::Unreachable,
    Reason::RateLimited,
    Reason::TooManyRejections,
    Reason::Unverifiable,
];
/// How asking for a token may end.
const TOKEN_RESULTS: [&str; 6] = [
    SUCCEEDED,
    Reason::AccessDenied.as_str(),
    Reason::Throttled.as_str(),
    Reason::TokenRequestFailed.as_str(),
    Reason::SourceUnavailable.as_str(),
    Reason::SourceInvalid.as_str(),
];
const SUCCEEDED: &str = "Succeeded";
/// What is watched.
const KINDS: [&str; 5] =
    ["Namespace", "ServiceAccount", "RegistryCredential", "Secret", crate::watch::SOURCES];
/// Bounds of the buckets for one write, in seconds; none takes longer than two requests may.
const WRITE_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

/// Which build this is.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

/// Which queue.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct QueueLabels {
    queue: &'static str,
}

/// What kind of step.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WriteStepLabels {
    step: &'static str,
}

/// Who was asked for a token, and how that ended.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct TokenLabels {
    issuer: &'static str,
    result: &'static str,
}

/// What kind of step, and how it ended.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StepLabels {
    step: &'static str,
    result: &'static str,
}

/// Which kind of object.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct KindLabels {
    kind: &'static str,
}

/// Which write of a RegistryCredential.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WriteLabels {
    write: &'static str,
}

/// Whether it went well.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResultLabels {
    result: &'static str,
}

/// The numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Passes over namespaces.
    pub(crate) passes: Counter,
    /// Writes of status.
    pub(crate) statuses_written: Counter,
    /// Looks at the lease that failed.
    pub(crate) lease_failures: Counter,
    /// Times that somebody took the lease from this replica before it had expired.
    pub(crate) leases_lost_by_force: Counter,
    /// 1 where admission policies limit what the operator's token can write.
    pub(crate) caged: Gauge,
    /// 1 while this replica works.
    pub(crate) leader: Gauge,
    /// What is told of each RegistryCredential.
    pub(crate) told: Told,
    /// Requests to the API server.
    pub(crate) requests: Requests,
    queue_depths: Family<QueueLabels, Gauge>,
    queue_waits: Histograms<QueueLabels>,
    write_durations: Histograms<WriteStepLabels>,
    token_requests: Family<TokenLabels, Counter>,
    steps: Family<StepLabels, Counter>,
    credential_write_failures: Family<WriteLabels, Counter>,
    watch_restarts: Family<KindLabels, Counter>,
    sources: Family<ResultLabels, Counter>,
    unreadable: Family<KindLabels, Counter>,
    contested: Family<KindLabels, Gauge>,
    verifications: Family<ResultLabels, Counter>,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            passes: Counter::default(),
            statuses_written: Counter::default(),
            lease_failures: Counter::default(),
            leases_lost_by_force: Counter::default(),
            caged: Gauge::default(),
            leader: Gauge::default(),
            told: Told::default(),
            requests: Requests::default(),
            queue_depths: Family::default(),
            queue_waits: Family::new_with_constructor(waits::histogram),
            write_durations: Family::new_with_constructor(|| Histogram::new(WRITE_BUCKETS)),
            token_requests: Family::default(),
            steps: Family::default(),
            credential_write_failures: Family::default(),
            watch_restarts: Family::default(),
            sources: Family::default(),
            unreadable: Family::default(),
            contested: Family::default(),
            verifications: Family::default(),
        };
        metrics.fill();
        metrics
    }
}

impl Metrics {
    /// Registers every number.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("regcred");
        let build = Info::new(BuildLabels { version: client::VERSION, commit: client::COMMIT });
        registry.register("build", "Which build this is", build);
        self.register_replica(registry);
        self.register_writes(registry);
        self.register_sources(registry);
        self.told.register(registry);
        let requests = "Requests to the API server, by what they ask for and the HTTP status of the answer";
        registry.register("api_requests", requests, self.requests.0.clone());
        registry.register("queue_depth", "Keys that wait for a pass", self.queue_depths.clone());
        let waits = "How long a key waited for its pass";
        registry.register("queue_wait_seconds", waits, self.queue_waits.clone());
    }

    fn register_replica(&self, registry: &mut Registry) {
        registry.register("leader", "Whether this replica works", self.leader.clone());
        let caged = "Whether admission policies are seen to limit what this token can write";
        registry.register("caged", caged, self.caged.clone());
        registry.register("lease_failures", "Looks at the lease that failed", self.lease_failures.clone());
        let forced = "Times that somebody took the lease from this replica before it had expired";
        registry.register("leases_lost_by_force", forced, self.leases_lost_by_force.clone());
        let restarts = "Watches that were interrupted and begun again";
        registry.register("watch_restarts", restarts, self.watch_restarts.clone());
        registry.register("unreadable_objects", "Objects skipped as unreadable", self.unreadable.clone());
    }

    fn register_writes(&self, registry: &mut Registry) {
        registry.register("namespace_passes", "Passes over namespaces", self.passes.clone());
        registry.register("steps", "Writes of Secrets and ServiceAccounts", self.steps.clone());
        let durations =
            "How long a write of a Secret or ServiceAccount took, with the wait for room in memory";
        registry.register("write_duration_seconds", durations, self.write_durations.clone());
        registry.register("status_writes", "Writes of status", self.statuses_written.clone());
        let failures = self.credential_write_failures.clone();
        registry.register("credential_write_failures", "Failed writes of RegistryCredentials", failures);
        let contested = "Objects that others keep changing back, and that are written seldom for that";
        registry.register("contested_objects", contested, self.contested.clone());
    }

    fn register_sources(&self, registry: &mut Registry) {
        registry.register("source_reads", "Looks at the sources of a credential", self.sources.clone());
        let tokens = "Tokens asked for, by who was asked and how that ended";
        registry.register("token_requests", tokens, self.token_requests.clone());
        let asked = "Registries asked whether a credential is good, by what they said";
        registry.register("verifications", asked, self.verifications.clone());
    }

    /// Makes every member of the closed sets, so that each is there at 0.
    fn fill(&self) {
        self.requests.fill();
        for step in STEPS {
            self.write_durations.get_or_create_owned(&WriteStepLabels { step });
            for result in STEP_RESULTS {
                self.steps.get_or_create_owned(&StepLabels { step, result });
            }
        }
        for kind in KINDS {
            self.watch_restarts.get_or_create_owned(&KindLabels { kind });
            self.unreadable.get_or_create_owned(&KindLabels { kind });
        }
        for issuer in regcred_sources::ISSUERS {
            for result in TOKEN_RESULTS {
                self.token_requests.get_or_create_owned(&TokenLabels { issuer, result });
            }
        }
        for write in ["status", "finalizer"] {
            self.credential_write_failures.get_or_create_owned(&WriteLabels { write });
        }
        for result in ["Resolved", "Failed"] {
            self.sources.get_or_create_owned(&ResultLabels { result });
        }
        for verdict in VERDICTS {
            self.verifications.get_or_create_owned(&ResultLabels { result: verdict.as_str() });
        }
        self.contested(Contested::default());
    }

    /// What measures the queue of this name.
    pub(crate) fn waits(&self, queue: &'static str) -> Waits {
        let labels = QueueLabels { queue };
        Waits {
            depth: self.queue_depths.get_or_create_owned(&labels),
            wait: self.queue_waits.get_or_create_owned(&labels),
        }
    }

    /// A step was executed in this time.
    pub(crate) fn step_executed(&self, step: &Step, result: Result<(), StepError>, took: Duration) {
        let result = result.map_or_else(|error| error.reason().as_str(), |()| SUCCEEDED);
        let step = name(step);
        self.steps.get_or_create(&StepLabels { step, result }).inc();
        self.write_durations.get_or_create(&WriteStepLabels { step }).observe(took.as_secs_f64());
    }

    /// An issuer was asked for a token.
    pub(crate) fn token_requested(&self, issuer: &'static str, failure: Option<Reason>) {
        let result = failure.map_or(SUCCEEDED, Reason::as_str);
        self.token_requests.get_or_create(&TokenLabels { issuer, result }).inc();
    }

    /// A status or finalizer could not be written.
    pub(crate) fn credential_write_failed(&self, write: &'static str) {
        self.credential_write_failures.get_or_create(&WriteLabels { write }).inc();
    }

    /// A watch was interrupted, and is begun again.
    pub(crate) fn watch_restarted(&self, kind: &'static str) {
        self.watch_restarts.get_or_create(&KindLabels { kind }).inc();
    }

    /// An object that does not fit its type was skipped.
    pub(crate) fn object_unreadable(&self, kind: &'static str) {
        self.unreadable.get_or_create(&KindLabels { kind }).inc();
    }

    /// So many objects are contested.
    pub(crate) fn contested(&self, Contested { secrets, service_accounts }: Contested) {
        for (kind, count) in [("Secret", secrets), ("ServiceAccount", service_accounts)] {
            self.contested.get_or_create(&KindLabels { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A registry was asked whether a credential is good.
    pub(crate) fn registry_asked(&self, verdict: Reason) {
        self.verifications.get_or_create(&ResultLabels { result: verdict.as_str() }).inc();
    }

    /// The sources of a credential were looked at.
    pub(crate) fn source_resolved(&self, resolved: bool) {
        let result = if resolved { "Resolved" } else { "Failed" };
        self.sources.get_or_create(&ResultLabels { result }).inc();
    }
}

/// What a step is called.
pub(crate) fn name(step: &Step) -> &'static str {
    match step {
        Step::PatchServiceAccount(_) => "PatchServiceAccount",
        Step::ApplySecret { .. } => "ApplySecret",
        Step::RotateSecret { .. } => "RotateSecret",
        Step::VerifySecret { .. } => "VerifySecret",
        Step::RecreateSecret { .. } => "RecreateSecret",
        Step::DeleteSecret(_) => "DeleteSecret",
        Step::ReleaseSecret(_) => "ReleaseSecret",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn served(metrics: &Metrics) -> BTreeSet<String> {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#'));
        series.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    }

    #[test]
    fn every_member_of_a_closed_set_is_there_from_the_start() {
        let metrics = Metrics::default();
        let before = served(&metrics);
        for kind in KINDS {
            metrics.watch_restarted(kind);
            metrics.object_unreadable(kind);
        }
        for verdict in crate::messages::judged() {
            metrics.registry_asked(verdict.reason);
        }
        metrics.credential_write_failed("status");
        metrics.credential_write_failed("finalizer");
        metrics.source_resolved(true);
        metrics.token_requested("ECR", Some(Reason::Throttled));
        metrics.contested(Contested { secrets: 1, service_accounts: 2 });
        assert_eq!(served(&metrics), before);
        let judged: BTreeSet<_> = crate::messages::judged().map(|verdict| verdict.reason.as_str()).collect();
        assert_eq!(BTreeSet::from(VERDICTS.map(Reason::as_str)), judged, "and nothing that never comes");
        for one in [
            "regcred_steps_total{step=\"DeleteSecret\",result=\"WriteFailed\"}",
            "regcred_write_duration_seconds_bucket{le=\"+Inf\",step=\"ApplySecret\"}",
            "regcred_api_requests_total{verb=\"patch\",resource=\"secrets\",code=\"409\"}",
            "regcred_leader",
        ] {
            assert!(before.contains(one), "{one}: {before:#?}");
        }
    }
}
