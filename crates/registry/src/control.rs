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
        let (own, at_registry) = (tokens.name(), tokens.name_at_registry());
        if let Some(known) = self.known(&own).or_else(|| self.known(&at_registry)) {
            return Ok(known);
        }
        let (tells_apart, by) = match tokens.accepts(None).await? {
            Answered::Yes => {
                let made_up = tokens.accepts_made_up().await?;
                (made_up != Answered::Yes, made_up)
            }
            no => (true, no),
        };
        // What the server itself refuses it refuses for whichever registry.
        let by_itself = by == Answered::NoToken;
        self.remember(if by_itself { own } else { at_registry }, tells_apart);
        Ok(tells_apart)
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

/// What comes of asking for a token and showing it.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Answered {
    /// The registry takes the token.
    Yes,
    /// The registry refuses the token.
    No,
    /// The token server gives none.
    NoToken,
}

impl Tokens<'_> {
    /// Whether somebody gets a token that the registry takes.
    async fn accepts(&self, login: Option<http::HeaderValue>) -> Step<Answered> {
        let reply = self.ask(login, None).await?;
        let given = is_yes(&reply).ok_or_else(|| unusable(&self.realm.place, &reply))?;
        if !given || answer::token(&reply.body).is_none() {
            return Ok(Answered::NoToken);
        }
        let reply = self.show(&reply).await?;
        let taken = is_yes(&reply).ok_or_else(|| unusable(self.registry, &reply))?;
        Ok(if taken { Answered::Yes } else { Answered::No })
    }

    /// Whether a login gets such a token that no registry knows.
    async fn accepts_made_up(&self) -> Step<Answered> {
        let attempt = self.tries.begin(&self.realm.place, MADE_UP.0).await?;
        let answered = self.accepts(made_up()).await?;
        attempt.refused(answered != Answered::Yes);
        Ok(answered)
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
