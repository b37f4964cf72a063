//! How often a user's login may be refused at a host, whoever asks and for whichever registry: many lock a user out after some
//! wrong passwords, and a registry may name the token server of another one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::check::Step;
use crate::client::Place;
use crate::realm::split_port;
use crate::verdict::{Unknown, Verdict};

/// So many refused logins of a user at a host, those under way included.
const MOST: usize = 3;
/// In so long a time.
const WINDOW: Duration = Duration::from_mins(15);
/// How many users at hosts are remembered. Where there are more, nobody else's login is shown until some are forgotten.
const MOST_USERS: usize = 65_536;

/// The refused logins of every user at every host.
#[derive(Default)]
pub(crate) struct Tries {
    users: Mutex<HashMap<u64, User>>,
    /// With a key of this process, so that nobody finds names that collide.
    hasher: RandomState,
    /// A login that waited for its answer has it.
    answered: Notify,
}

/// What is known of a user at a host.
#[derive(Default)]
struct User {
    /// When the last logins were refused.
    refused: Vec<Instant>,
    /// Logins that wait for an answer.
    open: usize,
}

/// A login that is shown now.
pub(crate) struct Try<'a> {
    tries: &'a Tries,
    user: u64,
    refused: bool,
}

impl Tries {
    /// A login of this user is about to be shown to a host; the verdict if it must not be. Waits for those under way, where these
    /// are all that stands against it.
    pub(crate) async fn begin(&self, at: &Place, username: &[u8]) -> Step<Try<'_>> {
        loop {
            let answered = self.answered.notified();
            if let Some(attempt) = self.take(at, username)? {
                return Ok(attempt);
            }
            answered.await;
        }
    }

    /// `None` while too many are under way.
    fn take(&self, at: &Place, username: &[u8]) -> Step<Option<Try<'_>>> {
        let (host, _) = split_port(&at.host);
        let (key, now) = (self.hasher.hash_one((host, username)), Instant::now());
        let mut users = self.users.lock();
        if users.len() >= MOST_USERS {
            users.retain(|_, user| user.is_remembered(now));
        }
        let spared = |retry_after| {
            let why = Unknown::Spared { host: host.to_owned() };
            Verdict::Unknown { why, retry_after }
        };
        if users.len() >= MOST_USERS && !users.contains_key(&key) {
            return Err(spared(WINDOW));
        }
        let user = users.entry(key).or_default();
        user.refused.retain(|at| now.duration_since(*at) < WINDOW);
        if let Some(first) = user.refused.first().filter(|_| user.refused.len() >= MOST) {
            return Err(spared((*first + WINDOW).duration_since(now)));
        }
        if user.refused.len() + user.open >= MOST {
            return Ok(None);
        }
        user.open += 1;
        Ok(Some(Try { tries: self, user: key, refused: false }))
    }
}

impl User {
    fn is_remembered(&self, now: Instant) -> bool {
        self.open > 0 || self.refused.iter().any(|at| now.duration_since(*at) < WINDOW)
    }
}

impl Try<'_> {
    /// Takes what the host said of the login. Silence is no refusal.
    pub(crate) fn judged<T>(mut self, said: Step<T>) -> Step<T> {
        self.refused = matches!(said, Err(Verdict::Rejected(_) | Verdict::Expired(_)));
        said
    }

    /// Takes whether the host refused the login.
    pub(crate) fn refused(mut self, refused: bool) {
        self.refused = refused;
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let mut users = self.tries.users.lock();
        let Some(user) = users.get_mut(&self.user) else { return };
        user.open -= 1;
        if self.refused {
            user.refused.push(Instant::now());
        } else if user.open == 0 && user.refused.is_empty() {
            users.remove(&self.user);
        }
        self.tries.answered.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Trust;
    use crate::verdict::Refusal;

    fn at(host: &str) -> Place {
        Place { host: host.to_owned(), trust: Trust::Public }
    }

    fn rejected() -> Step<()> {
        Err(Verdict::Rejected(Refusal { host: String::new(), status: 401, code: None }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_is_refused_three_times_in_a_quarter_of_an_hour() {
        let tries = Tries::default();
        for port in ["", ":8443", ":5000"] {
            let place = at(&format!("auth.example{port}"));
            assert_eq!(tries.begin(&place, b"bot").await.unwrap().judged(rejected()), rejected());
            tokio::time::advance(Duration::from_mins(1)).await;
        }
        let spared = tries.begin(&at("auth.example"), b"bot").await.err().unwrap();
        let Verdict::Unknown { why: Unknown::Spared { host }, retry_after } = spared else {
            panic!("{spared:?}")
        };
        assert_eq!((host.as_str(), retry_after), ("auth.example", Duration::from_mins(12)));
        assert!(tries.begin(&at("auth.example"), b"other").await.is_ok());
        assert!(tries.begin(&at("other.example"), b"bot").await.is_ok());
        tokio::time::advance(Duration::from_mins(12)).await;
        assert!(tries.begin(&at("auth.example"), b"bot").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_waits_for_those_under_way_and_good_ones_do_not_count() {
        let tries = Tries::default();
        let place = at("auth.example");
        let mut open = Vec::new();
        for _ in 0..MOST {
            open.push(tries.begin(&place, b"bot").await.unwrap());
        }
        let waits = tokio::time::timeout(Duration::from_secs(1), tries.begin(&place, b"bot"));
        assert!(waits.await.is_err());
        let waiting = tries.begin(&place, b"bot");
        let end = async {
            for shown in open {
                assert_eq!(shown.judged(Ok(())), Ok(()));
            }
        };
        let (shown, ()) = tokio::join!(waiting, end);
        drop(shown.unwrap());
        assert!(tries.users.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn where_too_many_are_remembered_nobody_else_is_tried() {
        let tries = Tries::default();
        for number in 0..MOST_USERS {
            let shown = tries.begin(&at("auth.example"), number.to_string().as_bytes()).await.unwrap();
            shown.refused(true);
        }
        assert!(tries.begin(&at("auth.example"), b"bot").await.is_err());
        assert!(tries.begin(&at("auth.example"), b"0").await.is_ok());
        tokio::time::advance(WINDOW).await;
        assert!(tries.begin(&at("auth.example"), b"bot").await.is_ok());
    }
}
