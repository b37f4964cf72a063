//! Credentials that their registries reject are kept from copies, which hold what was accepted before.

use jiff::Timestamp;
use regcred_api::Reason;
use regcred_dockerconfig::{Login, Server};

use crate::error::SourceError;
use crate::resolve::{Failed, Opened, Resolved};

/// What copies hold meanwhile, as messages end.
const KEPT: &str = "copies keep what was accepted last";
const TAKEN_OUT: &str =
    "the token that was accepted last has expired, and copies have no entry for this server";

/// Whether copies may hold what a source gave.
pub enum Standing {
    /// They may.
    Free,
    /// The registry is yet to be asked.
    Awaited,
    /// The registry rejects it.
    Rejected {
        /// `Rejected`, `Expired` or `PullDenied`.
        reason: Reason,
        /// What the registry said, with its host.
        message: String,
        /// What copies hold instead.
        instead: Instead,
    },
}

/// What copies hold for a server whose credential is rejected.
pub enum Instead {
    /// A login, and when it ends.
    Login(Login, Option<Timestamp>),
    /// No entry: the token that they held has expired, and an expired entry fails even pulls that need none.
    Ended,
    /// Nothing is known to be good.
    Nothing,
}

impl Resolved {
    /// Puts what was accepted before in the place of what is rejected. `None` while a registry is yet to be asked. An error
    /// where nothing is known to be good, as a configuration that lacks a server is never passed off as the whole.
    pub fn withhold(mut self, standing: impl Fn(&Opened) -> Standing) -> Result<Option<Self>, Failed> {
        for opened in self.opened.clone() {
            let Some(login) = self.config.login(&opened.server).cloned() else { continue };
            let (reason, message, instead) = match standing(&opened) {
                Standing::Free => continue,
                Standing::Awaited => return Ok(None),
                Standing::Rejected { reason, message, instead } => (reason, message, instead),
            };
            let meanwhile = match instead {
                Instead::Nothing => return Err(SourceError::Rejected { reason, message }.into()),
                // Copies hold it already, and nothing better is known.
                Instead::Login(accepted, _) if accepted == login => continue,
                Instead::Login(accepted, end) => {
                    self.replace(&opened.server, accepted, end);
                    KEPT
                }
                Instead::Ended => {
                    self.take_out(&opened.server);
                    TAKEN_OUT
                }
            };
            let message = format!("{message}; {meanwhile}");
            self.failed.push(SourceError::Rejected { reason, message }.into());
        }
        Ok(Some(self))
    }

    /// The sources are looked at again when a token that is held ends.
    fn replace(&mut self, server: &Server, login: Login, end: Option<Timestamp>) {
        self.config.replace(server, login);
        for opened in self.opened.iter_mut().filter(|opened| opened.server == *server) {
            opened.expires_at = end;
            let next = end.filter(|_| opened.renew_at.is_some());
            self.next = self.next.into_iter().chain(next).min();
        }
    }

    fn take_out(&mut self, server: &Server) {
        self.config.remove(server);
        self.opened.retain(|opened| opened.server != *server);
    }
}

#[cfg(test)]
mod tests {
    use regcred_dockerconfig::{DockerConfig, merge};

    use super::*;

    fn server(name: &str) -> Server {
        Server::parse(name).unwrap()
    }

    fn login(password: &str) -> Login {
        Login::new(b"u", password.as_bytes()).unwrap()
    }

    fn resolved(entries: &[(&str, &str)]) -> Resolved {
        let configs =
            entries.iter().map(|(name, password)| DockerConfig::single(server(name), login(password)));
        let opened = |(name, _): &(&str, &str)| Opened {
            server: server(name),
            expires_at: None,
            renew_at: None,
            secret: None,
        };
        Resolved {
            config: merge(configs).config,
            opened: entries.iter().map(opened).collect(),
            failed: Vec::new(),
            overridden: Vec::new(),
            left_out: Vec::new(),
            odd_ends: Vec::new(),
            next: None,
        }
    }

    /// What is said of a.example; the others are free.
    fn rejects(instead: impl Fn() -> Instead) -> impl Fn(&Opened) -> Standing {
        move |opened| {
            if opened.server != server("a.example") {
                return Standing::Free;
            }
            let (reason, message) = (Reason::Rejected, "a.example rejects it".to_owned());
            Standing::Rejected { reason, message, instead: instead() }
        }
    }

    fn held(password: &str) -> Instead {
        Instead::Login(login(password), Some(Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn copies_hold_what_was_accepted_before_and_the_other_servers_are_renewed() {
        let mut given = resolved(&[("a.example", "bad"), ("b.example", "new")]);
        given.opened[0].renew_at = Some(Timestamp::MAX);
        let Ok(Some(held)) = given.withhold(rejects(|| held("old"))) else { panic!("nothing is held") };
        let has = |name: &str, password: &str| held.config.login(&server(name)) == Some(&login(password));
        assert!(has("a.example", "old") && has("b.example", "new"));
        assert_eq!(held.opened[0].expires_at, Some(Timestamp::UNIX_EPOCH));
        assert_eq!(held.opened[1].expires_at, None);
        assert_eq!(held.failed[0].error.reason(), Reason::Rejected);
        assert!(held.failed[0].error.to_string().ends_with(KEPT));
        assert_eq!(held.next, Some(Timestamp::UNIX_EPOCH), "looked at again when it ends");
    }

    #[test]
    fn what_is_in_place_already_stays_and_nothing_failed() {
        let given = resolved(&[("a.example", "bad")]);
        let held = given.withhold(rejects(|| held("bad"))).ok().flatten().expect("the same");
        assert!(held.failed.is_empty());
    }

    #[test]
    fn a_held_token_that_has_ended_is_taken_out_and_the_other_servers_go_on() {
        let given = resolved(&[("a.example", "bad"), ("b.example", "new")]);
        let Ok(Some(held)) = given.withhold(rejects(|| Instead::Ended)) else { panic!("nothing is held") };
        assert!(held.config.login(&server("a.example")).is_none());
        assert!(held.config.login(&server("b.example")) == Some(&login("new")));
        assert_eq!((held.opened.len(), held.failed.len()), (1, 1));
        assert!(held.failed[0].error.to_string().ends_with(TAKEN_OUT));
    }

    #[test]
    fn without_anything_before_a_rejected_credential_reaches_nobody() {
        let given = resolved(&[("a.example", "bad"), ("b.example", "new")]);
        let Err(failed) = given.withhold(rejects(|| Instead::Nothing)) else { panic!("it is passed on") };
        assert_eq!(failed.error.reason(), Reason::Rejected);
    }

    #[test]
    fn nothing_is_passed_on_while_a_registry_is_asked() {
        let given = resolved(&[("a.example", "new")]);
        assert!(given.withhold(|_| Standing::Awaited).is_ok_and(|held| held.is_none()));
    }
}
