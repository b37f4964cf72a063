//! The raw data of a run: everything that was measured, and nothing that was computed from it.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::{Deserialize, Serialize};

use crate::error::{InFile as _, Result};

/// The name of the subject that the page is about.
pub const SUBJECT: &str = "regcred";

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// When it began, as RFC 3339.
    pub began: String,
    /// How it was started.
    pub command: String,
    /// What it ran on.
    pub machine: Machine,
    /// The size that its workloads speak of, in namespaces.
    pub namespaces: usize,
    /// How often each was measured.
    pub rounds: usize,
    /// What was measured.
    pub samples: Vec<Sample>,
    /// What could not be measured, and why.
    #[serde(default)]
    pub gaps: Vec<String>,
}

/// What a run ran on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// As the kernel names it.
    pub processor: String,
    /// Processors that may be used.
    pub cores: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// The kernel.
    pub kernel: String,
    /// The API server.
    pub kubernetes: String,
    /// The commit of this repository, with `-dirty` where files differed from it.
    pub commit: String,
}

/// What was measured, by the name that raw data and page give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Workload {
    /// One credential comes into all namespaces.
    #[serde(rename = "W1")]
    Cold,
    /// The same with a tenth of the namespaces.
    #[serde(rename = "W1 on a tenth")]
    ColdOnATenth,
    /// The same with other numbers of namespaces.
    #[serde(rename = "W1 at scale")]
    ColdAtScale,
    /// The same while somebody else writes.
    #[serde(rename = "W1 beside a writer")]
    ColdBesideAWriter,
    /// The same while credentials of one namespace each come too.
    #[serde(rename = "W1 beside small ones")]
    ColdBesideSmallOnes,
    /// Many credentials at once.
    #[serde(rename = "W2")]
    ManyCredentials,
    /// A new password.
    #[serde(rename = "W3")]
    Rotation,
    /// Nothing is to be done while others write.
    #[serde(rename = "W4")]
    Steady,
    /// New namespaces, all at once.
    #[serde(rename = "W5")]
    NewNamespaces,
    /// Many new ServiceAccounts in a second.
    #[serde(rename = "W6")]
    AccountBurst,
    /// New ServiceAccounts, one after the other.
    #[serde(rename = "W6 quiet")]
    QuietAccounts,
    /// A restart with everything in place.
    #[serde(rename = "W7")]
    Restart,
    /// Every watch ends.
    #[serde(rename = "W8")]
    DroppedWatches,
    /// Credentials are deleted.
    #[serde(rename = "W9")]
    Deletion,
    /// More and more credentials in the most namespaces.
    #[serde(rename = "W10")]
    Ceiling,
    /// The first Pods of new namespaces.
    #[serde(rename = "W11")]
    FirstPods,
    /// The same with an admission policy that attaches at birth.
    #[serde(rename = "W11 with the policy")]
    FirstPodsWithPolicy,
    /// Many credentials of one identity, whose registry gives tokens.
    #[serde(rename = "W12")]
    Tokens,
    /// What making a ServiceAccount takes.
    #[serde(rename = "births without a policy")]
    BirthsWithoutPolicy,
    /// The same with an admission policy that attaches at birth.
    #[serde(rename = "births with the policy")]
    BirthsWithPolicy,
    /// The memory of a fresh process.
    #[serde(rename = "memory beside foreign Secrets")]
    MemoryBesideForeignSecrets,
}

impl fmt::Display for Workload {
    /// As in the raw data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What a series of numbers tells, with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Series {
    /// From the creation of each ServiceAccount until it has the name.
    AttachMilliseconds,
    /// A list of everything, without an operator.
    BareListSeconds,
    /// Creation and patch of each ServiceAccount, without an operator.
    BareMilliseconds,
    /// 1 for each first Pod that has the name, and 0 for each other.
    CarriesTheName,
    /// Secrets of credentials in the cluster.
    Copies,
    /// Creation of each ServiceAccount.
    CreateMilliseconds,
    /// From the trigger until the first pair was right.
    FirstPairSeconds,
    /// Each write of somebody else before the workload.
    ForeignBaselineMilliseconds,
    /// How many Secrets of somebody else there are.
    ForeignSecrets,
    /// Each write of somebody else during the workload.
    ForeignWriteMilliseconds,
    /// Tokens that an issuer gave.
    Mints,
    /// New ServiceAccounts.
    RatePerSecond,
    /// Requests of the subject in a time in which nothing changed, without watches.
    RequestsAtRest,
    /// From applying each small credential until it is in place.
    SmallCredentialMilliseconds,
    /// Tokens of ServiceAccounts that the subject asked the API server for.
    TokenRequests,
}

/// One measurement of one subject.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// What was measured.
    pub workload: Workload,
    /// The subject's name.
    pub subject: String,
    /// From one.
    pub round: usize,
    /// Namespaces that were to change.
    pub namespaces: usize,
    /// Credentials that were to be put there.
    pub credentials: usize,
    /// Pairs of credential and namespace that were to change.
    pub pairs: usize,
    /// The least writes of Secrets and ServiceAccounts that do it.
    pub least_writes: usize,
    /// From the trigger until the last pair was seen to be right.
    pub seconds: f64,
    /// Requests of the subject's user by `verb resource`, without leases.
    pub requests: BTreeMap<String, usize>,
    /// Requests of anybody that the API server refused with 429.
    pub throttled: usize,
    /// Processor time of the subject, in seconds.
    pub cpu_seconds: f64,
    /// Processor time of the API server, in seconds.
    pub api_server_cpu_seconds: f64,
    /// Resident memory of the subject at rest afterwards, or of the API server where no subject runs, in bytes.
    pub resident: u64,
    /// The most that the subject ever held, in bytes.
    pub peak: u64,
    /// Further series of numbers.
    pub series: BTreeMap<Series, Vec<f64>>,
}

/// Verbs that change something.
const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

impl Sample {
    /// A measurement of which nothing but this is known yet.
    pub fn new(workload: Workload, subject: &str) -> Self {
        Self {
            workload,
            subject: subject.to_owned(),
            round: 0,
            namespaces: 0,
            credentials: 0,
            pairs: 0,
            least_writes: 0,
            seconds: 0.0,
            requests: BTreeMap::new(),
            throttled: 0,
            cpu_seconds: 0.0,
            api_server_cpu_seconds: 0.0,
            resident: 0,
            peak: 0,
            series: BTreeMap::new(),
        }
    }

    /// All requests.
    pub fn all_requests(&self) -> usize {
        self.requests.values().sum()
    }

    /// Writes of Secrets and ServiceAccounts: what the least writes are the least of.
    pub fn writes_in_namespaces(&self) -> usize {
        self.writes(|resource| resource == "secrets" || resource == "serviceaccounts")
    }

    /// Writes of anything else: the credential's own object, its status, events.
    pub fn other_writes(&self) -> usize {
        self.writes(|resource| resource != "secrets" && resource != "serviceaccounts")
    }

    fn writes(&self, counts: impl Fn(&str) -> bool) -> usize {
        let split = self.requests.iter().filter_map(|(key, count)| Some((key.split_once(' ')?, count)));
        split.filter(|((verb, resource), _)| WRITES.contains(verb) && counts(resource)).map(|(_, n)| n).sum()
    }

    /// A series; empty if it was not measured.
    pub fn series(&self, series: Series) -> &[f64] {
        self.series.get(&series).map_or(&[], Vec::as_slice)
    }
}

impl Run {
    /// Reads a run.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path).in_file(path)?)?)
    }

    /// Writes a run.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).in_file(folder)?;
        }
        std::fs::write(path, text + "\n").in_file(path)
    }
}

/// The value below which this share of all values lies, by nearest rank.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The middle value.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers are left out: reading may change the last digit.
    #[test]
    fn committed_raw_data_keeps_its_names() {
        let text = include_str!("../results/full.json");
        let run: Run = serde_json::from_str(text).unwrap();
        let mut names = Vec::new();
        for sample in run.samples {
            names.push(sample.workload.to_string());
            names.extend(sample.series.keys().map(|series| serde_json::to_string(series).unwrap()));
        }
        let raw: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut written = Vec::new();
        for sample in raw["samples"].as_array().unwrap() {
            written.push(sample["workload"].as_str().unwrap().to_owned());
            written.extend(sample["series"].as_object().unwrap().keys().map(|name| format!("{name:?}")));
        }
        assert_eq!(names, written);
    }
}
