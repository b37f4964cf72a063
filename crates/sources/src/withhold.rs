//! Credentials that their registries reject are kept from copies, which hold what was accepted before.

use jiff::Timestamp;
use regcred_api::Reason;
use regcred_dockerconfig::{Login, Server};

use crate::error::SourceError;
use crate::resolve::{Failed, Resolved};

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
        /// What copies hold instead, and when that ends.
        instead: Option<(Login, Option<Timestamp>)>,
    },
}

impl Resolved {
    /// Puts what was accepted before in the place of what is rejected. `None` while a registry is yet to be asked. An error
    /// where nothing was accepted before, as a configuration that lacks a server is never passed off as the whole.
    pub fn withhold(
        mut self,
        standing: impl Fn(&Server, &Login) -> Standing,
    ) -> Result<Option<Self>, Failed> {
        let entries: Vec<_> =
            self.config.entries().map(|(server, login)| (server.clone(), login.clone())).collect();
        for (server, login) in entries {
            let (reason, message, instead) = match standing(&server, &login) {
                Standing::Free => continue,
                Standing::Awaited => return Ok(None),
                Standing::Rejected { reason, message, instead } => (reason, message, instead),
            };
            let error = || SourceError::Rejected { reason, message };
            match instead {
                None => return Err(error().into()),
                // What copies hold was accepted once, and nothing better is known.
                Some((accepted, _)) if accepted == login => {}
                Some((accepted, end)) => {
                    self.failed.push(error().into());
                    self.replace(&server, accepted, end);
                }
            }
        }
        Ok(Some(self))
    }

    fn replace(&mut self, server: &Server, login: Login, end: Option<Timestamp>) {
        self.config.replace(server, login);
        for opened in self.opened.iter_mut().filter(|opened| opened.server == *server) {
            opened.expires_at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use regcred_dockerconfig::{DockerConfig, merge};

    use super::*;
    use crate::resolve::Opened;

    fn server(name: &str) -> Server {
        Server::parse(name).unwrap()
    }

    fn login(password: &str) -> Login {
        Login::new(b"u", password.as_bytes()).unwrap()
    }

    fn resolved(entries: &[(&str, &str)]) -> Resolved {
        let configs =
            entries.iter().map(|(name, password)| DockerConfig::single(server(name), login(password)));
        let opened =
            |(name, _): &(&str, &str)| Opened { server: server(name), expires_at: None, renew_at: None };
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

    fn rejects(
        password: &'static str,
        instead: Option<&'static str>,
    ) -> impl Fn(&Server, &Login) -> Standing {
        move |_, own| {
            if *own != login(password) {
                return Standing::Free;
            }
            let end = Some(Timestamp::UNIX_EPOCH);
            let (reason, message) = (Reason::Rejected, "a.example rejects it".to_owned());
            Standing::Rejected { reason, message, instead: instead.map(|own| (login(own), end)) }
        }
    }

    #[test]
    fn copies_hold_what_was_accepted_before_and_the_other_servers_are_renewed() {
        let given = resolved(&[("a.example", "bad"), ("b.example", "new")]);
        let Ok(Some(held)) = given.withhold(rejects("bad", Some("old"))) else { panic!("nothing is held") };
        let has = |name: &str, password: &str| held.config.login(&server(name)) == Some(&login(password));
        assert!(has("a.example", "old") && has("b.example", "new"));
        assert_eq!(held.opened[0].expires_at, Some(Timestamp::UNIX_EPOCH));
        assert_eq!(held.opened[1].expires_at, None);
        assert_eq!(held.failed[0].error.reason(), Reason::Rejected);
    }

    #[test]
    fn what_is_in_place_already_stays_and_nothing_failed() {
        let given = resolved(&[("a.example", "bad")]);
        let held = given.withhold(rejects("bad", Some("bad"))).ok().flatten().expect("the same");
        assert!(held.failed.is_empty());
    }

    #[test]
    fn without_anything_before_a_rejected_credential_reaches_nobody() {
        let given = resolved(&[("a.example", "bad"), ("b.example", "new")]);
        let Err(failed) = given.withhold(rejects("bad", None)) else { panic!("it is passed on") };
        assert_eq!(failed.error.reason(), Reason::Rejected);
    }

    #[test]
    fn nothing_is_passed_on_while_a_registry_is_asked() {
        let given = resolved(&[("a.example", "new")]);
        assert!(given.withhold(|_, _| Standing::Awaited).is_ok_and(|held| held.is_none()));
    }
}
