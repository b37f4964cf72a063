//! The one place that reads the wall clock. Everything else is given the time.

use jiff::Timestamp;

/// The time now.
#[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
