//! Memory and processor time of a process, from `/proc` (man 5 proc).

use std::{path::Path, time::Duration};

use regcred_tests::process::processor_time;
use tokio::time::{Instant, sleep};

use crate::error::{InFile as _, Result};

/// A process is at rest when it used no more than this much processor time in a second.
const AT_REST: f64 = 0.02;
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a process holds, and has used since it started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Resident memory now, in bytes.
    pub resident: u64,
    /// The most it ever was, in bytes.
    pub peak: u64,
    /// Processor time in seconds, in user and kernel mode.
    pub cpu_seconds: f64,
}

impl Usage {
    /// Of this process, now.
    pub fn of(process: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{process}/{name}");
            std::fs::read_to_string(&path).in_file(Path::new(&path))
        };
        let status = read("status")?;
        Ok(Self {
            resident: kibibytes(&status, "VmRSS:") * 1024,
            peak: kibibytes(&status, "VmHWM:") * 1024,
            cpu_seconds: processor_time(process)?.as_secs_f64(),
        })
    }
}

/// Waits until a process has nothing to do, and returns what it then holds. Gives up after `within`, which the
/// figures of a subject that never rests will show.
pub async fn settled(process: u32, within: Duration) -> Result<Usage> {
    let end = Instant::now() + within;
    let mut before = Usage::of(process)?;
    loop {
        sleep(LOOK_INTERVAL).await;
        let now = Usage::of(process)?;
        if now.cpu_seconds - before.cpu_seconds <= AT_REST || Instant::now() >= end {
            return Ok(now);
        }
        before = now;
    }
}

fn kibibytes(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
