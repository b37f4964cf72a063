//! Whether a token server refuses wrong logins at all. One that serves everybody may give a token whatever it is shown
//! (Nexus with anonymous pulls does), and then a token proves no login. It is shown a made-up login to see, once a day.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use regcred_dockerconfig::SecretBytes;
use regcred_https::{Reply, basic};
use tokio::time::Instant;

use crate::check::{Step, Tokens, unusable};
use crate::{answer, vendor};

/// How long an answer is remembered.
const REMEMBERED: Duration = Duration::from_hours(24);
/// How many token servers are remembered.
const MOST: usize = 1024;
/// A login that no registry knows.
const MADE_UP: (&[u8], &[u8]) = (b"regcred-verification", b"this-login-is-made-up");

/// What is known of token servers.
#[derive(Default)]
pub(crate) struct Controls(Mutex<HashMap<String, (bool, Instant)>>);

impl Controls {
    /// Whether a token of this server proves a login.
    pub(crate) async fn tells_logins_apart(&self, tokens: &Tokens<'_>) -> Step<bool> {
        if vendor::tells_logins_apart(&tokens.registry.host) {
            return Ok(true);
        }
        if let Some(known) = self.known(&tokens.name()) {
            return Ok(known);
        }
        let found = !tokens.accepts(None).await? || !tokens.accepts_made_up().await?;
        self.remember(tokens.name(), found);
        Ok(found)
    }

    fn known(&self, name: &str) -> Option<bool> {
        let (known, at) = *self.0.lock().get(name)?;
        (at.elapsed() < REMEMBERED).then_some(known)
    }

    fn remember(&self, name: String, found: bool) {
        let mut known = self.0.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(name, (found, Instant::now()));
    }
}

impl Tokens<'_> {
    /// Whether somebody gets a token that the registry takes.
    async fn accepts(&self, login: Option<http::HeaderValue>) -> Step<bool> {
        let reply = self.ask(login, None).await?;
        if !is_yes(&reply).ok_or_else(|| unusable(&self.realm.place, &reply))? {
            return Ok(false);
        }
        if answer::token(&reply.body).is_none() {
            return Ok(false);
        }
        let reply = self.show(&reply).await?;
        is_yes(&reply).ok_or_else(|| unusable(self.registry, &reply))
    }

    /// Whether a login gets such a token that no registry knows.
    async fn accepts_made_up(&self) -> Step<bool> {
        let attempt = self.tries.begin(&self.realm.place, MADE_UP.0)?;
        let accepted = self.accepts(made_up()).await?;
        attempt.refused(!accepted);
        Ok(accepted)
    }
}

fn made_up() -> Option<http::HeaderValue> {
    basic(MADE_UP.0, &SecretBytes::from(MADE_UP.1.to_vec()))
}

/// Whether an answer is a yes or a no; `None` if it is neither.
fn is_yes(reply: &Reply) -> Option<bool> {
    match reply.status.as_u16() {
        200..300 => Some(true),
        408 | 429 => None,
        400..500 => Some(false),
        _ => None,
    }
}
