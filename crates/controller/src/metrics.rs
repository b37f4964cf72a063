//! Prometheus metrics. Labels are closed sets, but for when credentials expire: that is told for each server of each
//! RegistryCredential, of which status lists a bounded number.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use regcred_api::{Reason, RegistryStatus};
use regcred_planner::{Contested, Step, StepError};

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

/// A server of a RegistryCredential.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ServerLabels {
    name: String,
    server: String,
}

/// Whether it went well.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResultLabels {
    result: &'static str,
}

/// The numbers.
#[derive(Clone, Debug, Default)]
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
    steps: Family<StepLabels, Counter>,
    credential_write_failures: Family<WriteLabels, Counter>,
    watch_failures: Family<KindLabels, Counter>,
    sources: Family<ResultLabels, Counter>,
    unreadable: Family<KindLabels, Counter>,
    contested: Family<KindLabels, Gauge>,
    verifications: Family<ResultLabels, Counter>,
    expirations: Family<ServerLabels, Gauge>,
    /// The labels of each RegistryCredential in `expirations`.
    expiring: Arc<Mutex<HashMap<Arc<str>, Vec<ServerLabels>>>>,
}

impl Metrics {
    /// Registers every number.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("regcred");
        registry.register("namespace_passes", "Passes over namespaces", self.passes.clone());
        registry.register("steps", "Writes of Secrets and ServiceAccounts", self.steps.clone());
        registry.register("status_writes", "Writes of status", self.statuses_written.clone());
        let failures = self.credential_write_failures.clone();
        registry.register("credential_write_failures", "Failed writes of RegistryCredentials", failures);
        registry.register("lease_failures", "Looks at the lease that failed", self.lease_failures.clone());
        let forced = "Times that somebody took the lease from this replica before it had expired";
        registry.register("leases_lost_by_force", forced, self.leases_lost_by_force.clone());
        let caged = "Whether admission policies are seen to limit what this token can write";
        registry.register("caged", caged, self.caged.clone());
        registry.register("watch_failures", "Interruptions of watches", self.watch_failures.clone());
        registry.register("unreadable_objects", "Objects skipped as unreadable", self.unreadable.clone());
        let contested = "Objects that others keep changing back, and that are written seldom for that";
        registry.register("contested_objects", contested, self.contested.clone());
        let expirations = "When a credential expires, in seconds since 1970, where that is known";
        registry.register("credential_expiration_timestamp_seconds", expirations, self.expirations.clone());
        let asked = "Registries asked whether a credential is good, by what they said";
        registry.register("verifications", asked, self.verifications.clone());
        registry.register("source_reads", "Looks at the sources of a credential", self.sources.clone());
    }

    /// A step was executed.
    pub(crate) fn step_executed(&self, step: &Step, result: Result<(), StepError>) {
        let result = result.map_or_else(|error| error.reason().as_str(), |()| "Succeeded");
        self.steps.get_or_create(&StepLabels { step: name(step), result }).inc();
    }

    /// A status or finalizer could not be written.
    pub(crate) fn credential_write_failed(&self, write: &'static str) {
        self.credential_write_failures.get_or_create(&WriteLabels { write }).inc();
    }

    /// A watch was interrupted.
    pub(crate) fn watch_failed(&self, kind: &'static str) {
        self.watch_failures.get_or_create(&KindLabels { kind }).inc();
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

    /// These servers of a RegistryCredential, and no others, have these credentials.
    pub(crate) fn expirations(&self, credential: &Arc<str>, registries: &[RegistryStatus]) {
        let labels = |registry: &RegistryStatus| {
            let end = registry.expires_at.as_ref()?.0.as_second();
            Some((ServerLabels { name: credential.to_string(), server: registry.server.clone() }, end))
        };
        let now: Vec<_> = registries.iter().filter_map(labels).collect();
        let mut expiring = self.expiring.lock();
        let before = expiring.remove(credential).unwrap_or_default();
        for labels in before.iter().filter(|labels| !now.iter().any(|(own, _)| own == *labels)) {
            self.expirations.remove(labels);
        }
        for (labels, end) in &now {
            self.expirations.get_or_create(labels).set(*end);
        }
        if !now.is_empty() {
            expiring.insert(credential.clone(), now.into_iter().map(|(labels, _)| labels).collect());
        }
    }

    /// This replica does not work any more: whoever works tells when credentials expire.
    pub(crate) fn forget_expirations(&self) {
        self.expiring.lock().clear();
        self.expirations.clear();
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

fn name(step: &Step) -> &'static str {
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
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn status(server: &str, end: Option<i64>) -> RegistryStatus {
        let time = |second| Time(Timestamp::from_second(second).unwrap());
        RegistryStatus {
            server: server.to_owned(),
            source: "ECR".to_owned(),
            fingerprint: "1".to_owned(),
            refreshed_at: time(1),
            expires_at: end.map(time),
            next_refresh_at: None,
            verification: None,
        }
    }

    #[test]
    fn an_end_is_told_while_there_is_such_a_credential() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        let told = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let lines = text.lines().filter(|line| line.starts_with("regcred_credential_expiration"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let (pull, line) = (Arc::from("pull"), |server: &str, end| {
            format!(
                "regcred_credential_expiration_timestamp_seconds{{name=\"pull\",server=\"{server}\"}} {end}"
            )
        });
        metrics.expirations(&pull, &[status("a", Some(10)), status("b", None)]);
        assert_eq!(told(), [line("a", 10)]);
        metrics.expirations(&pull, &[status("b", Some(20))]);
        assert_eq!(told(), [line("b", 20)]);
        metrics.expirations(&pull, &[]);
        assert!(told().is_empty());
        metrics.expirations(&pull, &[status("a", Some(10))]);
        metrics.forget_expirations();
        assert!(told().is_empty());
    }
}
