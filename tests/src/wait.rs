//! Polling with a deadline, instead of sleeping. A test that sleeps is slow where it passes and wrong where it
//! fails; these return as soon as the world is as expected, and otherwise tell what it looked like last.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{Error, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Polls `check` until it is `Ok`, and panics with its last reason when `within` is over.
///
/// # Panics
/// When the deadline passes.
pub async fn eventually<T>(what: &str, within: Duration, check: impl AsyncFnMut() -> Result<T, String>) -> T {
    match try_eventually(what, within, check).await {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// As [`eventually`], for callers that are not tests: the missed deadline is an error.
pub async fn try_eventually<T>(
    what: &str,
    within: Duration,
    mut check: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut last = "the first look never ended".to_owned();
    loop {
        // A look that hangs must not outlive the deadline.
        match timeout_at(deadline, check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => last = reason,
            Err(_) => return Err(Error::timeout(what, within, last)),
        }
        if Instant::now() + POLL_INTERVAL >= deadline {
            return Err(Error::timeout(what, within, last));
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Looks again and again for the whole of `period`, and panics at the first look that is not `Ok`: for what must
/// stay as it is.
///
/// # Panics
/// At the first look that is an error.
pub async fn throughout(what: &str, period: Duration, mut check: impl AsyncFnMut() -> Result<(), String>) {
    let end = Instant::now() + period;
    while Instant::now() < end {
        if let Err(reason) = check().await {
            panic!("{what} should have stayed so for {period:?}: {reason}");
        }
        sleep(POLL_INTERVAL).await;
    }
}
