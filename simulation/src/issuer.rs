//! What stands in for a cloud: tokens that are numbered, come late or never, and live for a short time until everybody
//! rests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use regcred_dockerconfig::Login;
use regcred_sources::{Issuer as Kind, Mint, MintError, Token, TokenRequest};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::server::time_at;
use crate::trace::Trace;

/// The registry that tokens open.
pub const SERVER: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

const ROLE: &str = "arn:aws:iam::210987654321:role/pull";

/// How long tokens live, in seconds, while things happen; and once everybody rests.
const SHORT_LIFE: std::ops::Range<i64> = 20..150;
const LONG_LIFE: i64 = 12 * 3600;
/// Longer than anybody waits for a token.
const FOREVER: Duration = Duration::from_mins(10);

/// Who gives tokens.
#[derive(Clone, Debug)]
pub struct Issuer {
    started: Instant,
    rest: Duration,
    trace: Trace,
    /// The last login for each of the two roles, and when it ends.
    given: Arc<Mutex<BTreeMap<bool, (String, Timestamp)>>>,
}

impl Issuer {
    /// One that misbehaves until `rest`.
    pub fn new(started: Instant, rest: Duration, trace: Trace) -> Self {
        Self { started, rest, trace, given: Arc::default() }
    }

    /// The login that a copy should hold for a registry of a spec: what was given last, which must not have expired.
    /// `None` for one that names no cloud.
    pub fn last(&self, registry: &Value) -> Option<String> {
        let source = registry["source"].get("ecr")?;
        let given = self.given.lock().get(&source["roleARN"].is_string()).cloned();
        Some(match given {
            None => "a token that nobody asked for".to_owned(),
            Some((_, end)) if end <= self.now() => "another than the expired token".to_owned(),
            Some((login, _)) => login,
        })
    }

    fn now(&self) -> Timestamp {
        time_at(self.started.elapsed())
    }

    async fn answer(&self, request: &TokenRequest) -> Result<Token, MintError> {
        sleep(Duration::from_millis(fastrand::u64(1..2_000))).await;
        let unrest = self.started.elapsed() < self.rest;
        match fastrand::u8(0..8) {
            0 if unrest => sleep(FOREVER).await,
            1 if unrest => sleep(Duration::from_secs(fastrand::u64(1..40))).await,
            2 if unrest => return Err(self.refused(fastrand::bool())),
            _ => {}
        }
        let life = if unrest { fastrand::i64(SHORT_LIFE) } else { LONG_LIFE };
        Ok(self.token(is_assumed(request), life))
    }

    fn refused(&self, throttled: bool) -> MintError {
        self.trace.disturbed("issuer", "no token");
        let (host, retry_after) = ("ecr".to_owned(), Duration::from_secs(fastrand::u64(0..20)));
        if throttled {
            return MintError::Throttled { host, retry_after };
        }
        MintError::Unavailable { host, what: "is out of order".to_owned(), retry_after }
    }

    fn token(&self, assumed: bool, life: i64) -> Token {
        let mut given = self.given.lock();
        let end = self.now() + SignedDuration::from_secs(life);
        let password = format!("{}-until-{}", if assumed { "role" } else { "own" }, end.as_millisecond());
        self.trace.disturbed("issuer", &format!("gives {password}"));
        given.insert(assumed, (format!("AWS:{password}"), end));
        // Neither is empty, and neither has a character that a login may not have.
        let login = Login::new(b"AWS", password.as_bytes()).unwrap_or_else(|error| unreachable!("{error}"));
        Token { login, expires_at: Some(end) }
    }
}

impl Mint for Issuer {
    fn mint<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<Token, MintError>> {
        Box::pin(self.answer(request))
    }
}

fn is_assumed(request: &TokenRequest) -> bool {
    matches!(&request.issuer, Kind::Ecr { role: Some(_), .. })
}

/// A registry whose credential is a token.
pub fn registry(assumed: bool) -> Value {
    let source = if assumed { json!({"roleARN": ROLE}) } else { json!({}) };
    json!({"server": SERVER, "source": {"ecr": source}})
}
