//! The raw data of a run: everything that was measured, and nothing that was computed from it.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::error::{InFile as _, Result};

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

/// One measurement of one subject.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sample {
    /// Such as `W1`.
    pub workload: String,
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
    /// Further series of numbers, each with its unit in its name.
    pub series: BTreeMap<String, Vec<f64>>,
}

/// Verbs that change something.
const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

impl Sample {
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
    pub fn series(&self, name: &str) -> &[f64] {
        self.series.get(name).map_or(&[], Vec::as_slice)
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
