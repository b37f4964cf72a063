//! What the numbers were measured on.

use std::process::Command;

use regcred_bench::record::Machine;
use regcred_tests::{binaries::kubernetes_version, install::repository};

/// This machine and these versions.
pub(crate) fn describe() -> Machine {
    Machine {
        processor: field("/proc/cpuinfo", "model name"),
        cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        memory: field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0) * 1024,
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        kubernetes: kubernetes_version().to_owned(),
        commit: commit(),
    }
}

/// Now, as RFC 3339.
pub(crate) fn now() -> String {
    #[expect(clippy::disallowed_methods, reason = "the date of a measurement; nothing is planned from it")]
    let now = std::time::SystemTime::now();
    jiff::Timestamp::try_from(now).map(|now| now.to_string()).unwrap_or_default()
}

fn field(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map_or(String::new(), |(_, value)| value.trim().to_owned())
}

fn commit() -> String {
    let arguments = ["describe", "--always", "--dirty", "--abbrev=12"];
    let output = Command::new("git").args(arguments).current_dir(repository()).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
