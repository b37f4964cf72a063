//! Numbers of each RegistryCredential, as its status has them. They have its name, which is no closed set, so they are
//! told of a bounded number, and only by the replica that works.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use regcred_api::{ConditionStatus, ConditionType, RegistryCredentialStatus, RegistryStatus};

/// Of how many RegistryCredentials is told.
pub(crate) const MAX_TOLD: usize = 1000;
const CONDITIONS: [ConditionType; 7] = [
    ConditionType::Ready,
    ConditionType::Reconciling,
    ConditionType::Stalled,
    ConditionType::SourceReady,
    ConditionType::CredentialsVerified,
    ConditionType::SecretsSynced,
    ConditionType::ServiceAccountsAttached,
];
const STATUSES: [ConditionStatus; 3] =
    [ConditionStatus::True, ConditionStatus::False, ConditionStatus::Unknown];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct NameLabels {
    name: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ConditionLabels {
    name: String,
    r#type: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StateLabels {
    name: String,
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ServerLabels {
    name: String,
    server: String,
}

/// What is told of each RegistryCredential.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    conditions: Family<ConditionLabels, Gauge>,
    namespaces: Family<StateLabels, Gauge>,
    service_accounts: Family<StateLabels, Gauge>,
    rotations: Family<NameLabels, Gauge>,
    expirations: Family<ServerLabels, Gauge>,
    /// Those of which is told, with the servers whose end is.
    servers: Arc<Mutex<HashMap<Arc<str>, Vec<String>>>>,
}

impl Told {
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("credential");
        let help = "Conditions of RegistryCredentials: 1 for the status that a condition has";
        registry.register("condition", help, self.conditions.clone());
        let help = "Namespaces that a RegistryCredential selects, and how many of them are in sync or failed";
        registry.register("namespaces", help, self.namespaces.clone());
        let help = "ServiceAccounts that a RegistryCredential selects, and how many are attached, failed or contested";
        registry.register("serviceaccounts", help, self.service_accounts.clone());
        let help = "When a source last gave another credential, in seconds since 1970";
        registry.register("last_rotation_timestamp_seconds", help, self.rotations.clone());
        let help = "When a credential expires, in seconds since 1970, where that is known";
        registry.register("expiration_timestamp_seconds", help, self.expirations.clone());
    }

    /// This is the status of a RegistryCredential now.
    pub(crate) fn tell(&self, name: &Arc<str>, status: &RegistryCredentialStatus) {
        let mut servers = self.servers.lock();
        if servers.len() >= MAX_TOLD && !servers.contains_key(name) {
            return;
        }
        let before = servers.remove(name).unwrap_or_default();
        self.tell_conditions(name, status);
        self.tell_counts(name, status);
        let rotation = status.registries.iter().map(|registry| registry.refreshed_at.0.as_second()).max();
        let labels = NameLabels { name: name.to_string() };
        match rotation {
            Some(at) => {
                self.rotations.get_or_create(&labels).set(at);
            }
            None => {
                self.rotations.remove(&labels);
            }
        }
        servers.insert(name.clone(), self.tell_ends(name, &before, &status.registries));
    }

    fn tell_conditions(&self, name: &Arc<str>, status: &RegistryCredentialStatus) {
        for kind in CONDITIONS {
            let present = status.condition(kind).map(|condition| ConditionStatus::from(&*condition.status));
            for status in STATUSES {
                let labels = condition_labels(name, kind, status);
                self.conditions.get_or_create(&labels).set(i64::from(present == Some(status)));
            }
        }
    }

    fn tell_counts(&self, name: &Arc<str>, status: &RegistryCredentialStatus) {
        for (family, state, count) in self.counts(status) {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            family.get_or_create(&StateLabels { name: name.to_string(), state }).set(count);
        }
    }

    fn counts(
        &self,
        status: &RegistryCredentialStatus,
    ) -> [(&Family<StateLabels, Gauge>, &'static str, usize); 7] {
        let (namespaces, accounts) = (&status.namespaces, &status.service_accounts);
        [
            (&self.namespaces, "matched", namespaces.matched),
            (&self.namespaces, "synced", namespaces.synced),
            (&self.namespaces, "failed", namespaces.failed),
            (&self.service_accounts, "matched", accounts.matched),
            (&self.service_accounts, "attached", accounts.attached),
            (&self.service_accounts, "failed", accounts.failed),
            (&self.service_accounts, "contested", accounts.contested),
        ]
    }

    /// Returns the servers whose end is known.
    fn tell_ends(&self, name: &Arc<str>, before: &[String], registries: &[RegistryStatus]) -> Vec<String> {
        let end = |registry: &RegistryStatus| {
            Some((registry.server.clone(), registry.expires_at.as_ref()?.0.as_second()))
        };
        let ends: Vec<_> = registries.iter().filter_map(end).collect();
        for server in before.iter().filter(|server| !ends.iter().any(|(own, _)| own == *server)) {
            self.expirations.remove(&server_labels(name, server));
        }
        for (server, end) in &ends {
            self.expirations.get_or_create(&server_labels(name, server)).set(*end);
        }
        ends.into_iter().map(|(server, _)| server).collect()
    }

    /// A RegistryCredential is gone.
    pub(crate) fn forget(&self, name: &Arc<str>) {
        let Some(servers) = self.servers.lock().remove(name) else { return };
        self.tell_ends(name, &servers, &[]);
        self.rotations.remove(&NameLabels { name: name.to_string() });
        for kind in CONDITIONS {
            for status in STATUSES {
                self.conditions.remove(&condition_labels(name, kind, status));
            }
        }
        for (family, state, _) in self.counts(&RegistryCredentialStatus::default()) {
            family.remove(&StateLabels { name: name.to_string(), state });
        }
    }

    /// This replica does not work any more: whoever works tells.
    pub(crate) fn forget_all(&self) {
        let told: Vec<_> = self.servers.lock().keys().cloned().collect();
        for name in &told {
            self.forget(name);
        }
    }
}

fn condition_labels(name: &Arc<str>, kind: ConditionType, status: ConditionStatus) -> ConditionLabels {
    ConditionLabels { name: name.to_string(), r#type: kind.as_str(), status: status.as_str() }
}

fn server_labels(name: &Arc<str>, server: &str) -> ServerLabels {
    ServerLabels { name: name.to_string(), server: server.to_owned() }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn registry(server: &str, end: Option<i64>) -> RegistryStatus {
        let time = |second| Time(Timestamp::from_second(second).unwrap());
        RegistryStatus {
            server: server.to_owned(),
            source: "ECR".to_owned(),
            fingerprint: "1".to_owned(),
            refreshed_at: time(7),
            expires_at: end.map(time),
            next_refresh_at: None,
            verification: None,
        }
    }

    fn status(registries: Vec<RegistryStatus>) -> RegistryCredentialStatus {
        RegistryCredentialStatus { registries, ..RegistryCredentialStatus::default() }
    }

    /// The lines with a value, of the numbers whose name begins so.
    fn lines(told: &Told, prefix: &str) -> Vec<String> {
        let mut registry = Registry::default();
        told.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(prefix));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn an_end_is_told_while_there_is_such_a_credential() {
        let (told, pull) = (Told::default(), Arc::from("pull"));
        let ends = || lines(&told, "credential_expiration");
        let line = |server: &str, end| {
            format!("credential_expiration_timestamp_seconds{{name=\"pull\",server=\"{server}\"}} {end}")
        };
        told.tell(&pull, &status(vec![registry("a", Some(10)), registry("b", None)]));
        assert_eq!(ends(), [line("a", 10)]);
        told.tell(&pull, &status(vec![registry("b", Some(20))]));
        assert_eq!(ends(), [line("b", 20)]);
        told.tell(&pull, &status(Vec::new()));
        assert!(ends().is_empty());
        told.tell(&pull, &status(vec![registry("a", Some(10))]));
        told.forget_all();
        assert!(ends().is_empty());
    }

    #[test]
    fn nothing_is_told_of_a_credential_that_is_gone() {
        let (told, pull, other) = (Told::default(), Arc::from("pull"), Arc::from("other"));
        told.tell(&other, &status(Vec::new()));
        let before = lines(&told, "credential_");
        told.tell(&pull, &status(vec![registry("a", Some(10))]));
        assert!(lines(&told, "credential_last_rotation")[0].ends_with("{name=\"pull\"} 7"));
        told.forget(&pull);
        let mut after = lines(&told, "credential_");
        after.sort();
        let mut before = before;
        before.sort();
        assert_eq!(after, before);
        assert_eq!(before.len(), CONDITIONS.len() * STATUSES.len() + 7);
    }

    #[test]
    fn no_more_are_told_of_than_the_bound_says() {
        let told = Told::default();
        for number in 0..MAX_TOLD + 10 {
            told.tell(&Arc::from(format!("n{number}")), &status(Vec::new()));
        }
        assert_eq!(lines(&told, "credential_namespaces").len(), MAX_TOLD * 3);
        told.forget(&Arc::from("n0"));
        told.tell(&Arc::from("late"), &status(Vec::new()));
        assert_eq!(lines(&told, "credential_namespaces{name=\"late\"").len(), 3);
    }
}
