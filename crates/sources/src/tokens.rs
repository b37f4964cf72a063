//! Tokens, each asked for once for everybody who wants the same, kept until near its end. They are in no other place than
//! the copies, so a process that starts asks anew; how many are asked for at once is bounded.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::token::{Issuer, Mint, MintError, Token, TokenRequest};

/// A token is replaced at least so long before its end: Pods may be pulling with it.
const BEFORE_EXPIRY: SignedDuration = SignedDuration::from_mins(5);
/// The shortest time between two tokens for one request, also where they live for less.
const SHORTEST: SignedDuration = SignedDuration::from_secs(10);
/// How old a token or a refusal must be before somebody who asks for a refresh gets a new one: many may ask at once.
const FRESH: SignedDuration = SignedDuration::from_secs(30);
/// The first pause after a failure, and the longest.
const FIRST_RETRY: SignedDuration = SignedDuration::from_secs(2);
const LAST_RETRY: SignedDuration = SignedDuration::from_mins(5);
/// So many failures in a row are told although the former token is good.
const TOLD_AFTER: u32 = 3;
/// The longest time for one token.
const DEADLINE: Duration = Duration::from_secs(30);
/// How many tokens of one kind are asked for at once: a start asks for all, and one cloud that hangs holds up no other.
const AT_ONCE: usize = 8;
/// How many requests are remembered; of more, those that were not used for longest are forgotten.
const MAX_SLOTS: usize = 16 * 1024;

/// All tokens, by what they were asked for.
pub struct Tokens {
    mint: Arc<dyn Mint>,
    slots: Mutex<HashMap<TokenRequest, Kept>>,
    at_once: Mutex<HashMap<Discriminant<Issuer>, Arc<Semaphore>>>,
}

/// What came of asking for a token.
pub struct Given {
    /// The token, while it is good: also an earlier one, where no new one came.
    pub token: Option<Arc<Token>>,
    /// Why no new one came.
    pub error: Option<MintError>,
    /// When asking again may bring another.
    pub next: Timestamp,
    /// When the last token ended, if none is good.
    pub ended: Option<Timestamp>,
}

/// A slot, and when it was used last.
struct Kept {
    slot: Arc<tokio::sync::Mutex<Slot>>,
    used: Timestamp,
}

/// One request's token. Who asks while it is being asked for waits for that answer.
#[derive(Default)]
struct Slot {
    token: Option<Arc<Token>>,
    renew_at: Timestamp,
    tried_at: Option<Timestamp>,
    failure: Option<Failure>,
}

struct Failure {
    error: MintError,
    in_a_row: u32,
    retry_at: Timestamp,
}

impl Tokens {
    /// No token yet; `mint` gives them.
    pub fn new(mint: Arc<dyn Mint>) -> Self {
        Self { mint, slots: Mutex::default(), at_once: Mutex::default() }
    }

    /// The token for a request. `refresh` asks for a new one although the old one is good.
    pub async fn get(
        &self,
        request: &TokenRequest,
        refresh: bool,
        now: impl Fn() -> Timestamp + Send,
    ) -> Given {
        let slot = self.slot(request, now());
        let mut slot = slot.lock().await;
        // One time for both, or a token could end in between, and be missing without a cause.
        let mut at = now();
        if slot.is_due(refresh, at) {
            // The semaphore is never closed, so waiting for it cannot fail.
            let at_once = self.at_once(&request.issuer);
            let _permit = at_once.acquire().await.ok();
            let minted = tokio::time::timeout(DEADLINE, self.mint.mint(request)).await;
            at = now();
            slot.take(request, minted.unwrap_or_else(|_| Err(MintError::late(request))), at);
        }
        slot.given(at)
    }

    /// Forgets every token: another replica may have handed out later ones since.
    pub fn forget(&self) {
        self.slots.lock().clear();
    }

    fn at_once(&self, issuer: &Issuer) -> Arc<Semaphore> {
        let mut at_once = self.at_once.lock();
        at_once.entry(discriminant(issuer)).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
    }

    fn slot(&self, request: &TokenRequest, now: Timestamp) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.slots.lock();
        if slots.len() >= MAX_SLOTS && !slots.contains_key(request) {
            forget_older_half(&mut slots);
        }
        if !slots.contains_key(request) {
            slots.retain(|own, _| !own.is_of_other_keys(request));
        }
        let kept = slots.entry(request.clone()).or_insert_with(|| Kept { slot: Arc::default(), used: now });
        kept.used = now;
        kept.slot.clone()
    }
}

fn forget_older_half(slots: &mut HashMap<TokenRequest, Kept>) {
    let mut times: Vec<_> = slots.values().map(|kept| kept.used).collect();
    let middle = times.len() / 2;
    let (older, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    // Many may be of one moment: as many of those go as are missing to the half.
    let mut of_median = older.iter().filter(|time| **time == median).count();
    slots.retain(|_, kept| {
        let goes = kept.used == median && of_median > 0;
        of_median -= usize::from(goes);
        kept.used >= median && !goes
    });
}

impl Slot {
    fn is_due(&self, refresh: bool, now: Timestamp) -> bool {
        let asked_to_wait = self.failure.as_ref().is_some_and(|failure| {
            failure.retry_at > now && matches!(failure.error, MintError::Throttled { .. })
        });
        if refresh && !asked_to_wait && self.tried_at.is_none_or(|at| now.duration_since(at) >= FRESH) {
            return true;
        }
        match &self.failure {
            Some(failure) => failure.retry_at <= now,
            None => self.token.is_none() || self.renew_at <= now,
        }
    }

    fn take(&mut self, request: &TokenRequest, minted: Result<Token, MintError>, now: Timestamp) {
        self.tried_at = Some(now);
        match minted.and_then(|token| not_over(request, token, now)) {
            Ok(token) => {
                self.renew_at = renew_at(request, &token, now);
                // An issuer that repeats a token has told its end before, but for what time has taken off since.
                if self.token.as_ref().is_none_or(|former| former.login != token.login) {
                    self.token = Some(Arc::new(token));
                }
                self.failure = None;
            }
            Err(error) => {
                let in_a_row = self.failure.as_ref().map_or(0, |failure| failure.in_a_row) + 1;
                let retry_at = now + pause(&error, in_a_row);
                self.failure = Some(Failure { error, in_a_row, retry_at });
            }
        }
    }

    fn given(&self, now: Timestamp) -> Given {
        let is_good = |token: &&Arc<Token>| token.expires_at.is_none_or(|at| at > now);
        let token = self.token.as_ref().filter(is_good).cloned();
        let end = self.token.as_ref().and_then(|token| token.expires_at);
        let ended = end.filter(|_| token.is_none());
        match &self.failure {
            Some(failure) => {
                let next =
                    end.filter(|end| *end > now).map_or(failure.retry_at, |end| failure.retry_at.min(end));
                let told = token.is_none() || failure.is_told();
                Given { token, error: told.then(|| failure.error.clone()), next, ended }
            }
            None => Given { token, error: None, next: self.renew_at, ended },
        }
    }
}

impl Failure {
    /// Whether somebody has to know of it while the former token is good: an issuer that is out of order for a moment is
    /// no news.
    fn is_told(&self) -> bool {
        self.in_a_row >= TOLD_AFTER || !self.error.is_passing()
    }
}

/// A token that had expired before it came is none: it would break pulls that need no credential.
fn not_over(request: &TokenRequest, token: Token, now: Timestamp) -> Result<Token, MintError> {
    if token.expires_at.is_some_and(|at| at <= now) {
        return Err(MintError::Unreadable {
            host: request.issuer.to_string(),
            missing: "a token whose end is in the future (compare the clocks)",
        });
    }
    Ok(token)
}

/// At about two thirds of its life, at the latest some minutes before its end; never after it.
fn renew_at(request: &TokenRequest, token: &Token, now: Timestamp) -> Timestamp {
    let Some(end) = token.expires_at else { return now + request.issuer.longest_life() / 2 };
    let life = end.duration_since(now);
    let two_thirds = life / 3 * 2;
    let early = spread(request, two_thirds / 10);
    now + (two_thirds - early).min(life - BEFORE_EXPIRY).max(SHORTEST).min(life)
}

fn pause(error: &MintError, in_a_row: u32) -> SignedDuration {
    let doubled = FIRST_RETRY * (1 << in_a_row.saturating_sub(1).min(16));
    let asked = SignedDuration::try_from(error.retry_after()).unwrap_or(LAST_RETRY);
    doubled.min(LAST_RETRY).max(asked)
}

/// A share of `most` that is drawn from the request: tokens of one start are not renewed in one second.
fn spread(request: &TokenRequest, most: SignedDuration) -> SignedDuration {
    let mut hasher = DefaultHasher::new();
    request.hash(&mut hasher);
    let share = i32::try_from(hasher.finish() % 256).unwrap_or(0);
    most / 256 * share
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::{BoxFuture, join_all};
    use regcred_dockerconfig::Login;

    use super::*;
    use crate::token::Identity;

    /// What the next call answers: a life in seconds, or why there is none.
    struct Double {
        answers: Mutex<Vec<Result<i64, MintError>>>,
        asked: AtomicUsize,
    }

    impl Mint for Double {
        fn mint<'a>(&'a self, _request: &'a TokenRequest) -> BoxFuture<'a, Result<Token, MintError>> {
            Box::pin(async {
                tokio::task::yield_now().await;
                self.asked.fetch_add(1, Ordering::SeqCst);
                let next = self.answers.lock().pop().expect("an answer");
                next.map(|life| Token { login: login(life), expires_at: Some(at(life)) })
            })
        }
    }

    /// The same for ends that differ by seconds.
    fn login(life: i64) -> Login {
        Login::new(b"AWS", format!("token-{}", life / 60).as_bytes()).expect("a login")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).expect("a time")
    }

    fn request() -> TokenRequest {
        TokenRequest { issuer: Issuer::EcrPublic { role: None }, identity: Identity::Operator }
    }

    fn tokens(answers: impl IntoIterator<Item = Result<i64, MintError>>) -> (Arc<Double>, Tokens) {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        let double = Arc::new(Double { answers: Mutex::new(answers), asked: AtomicUsize::new(0) });
        (double.clone(), Tokens::new(double))
    }

    async fn get(tokens: &Tokens, second: i64) -> Given {
        tokens.get(&request(), false, || at(second)).await
    }

    fn throttled(seconds: u64) -> MintError {
        MintError::Throttled { host: "h".to_owned(), retry_after: Duration::from_secs(seconds) }
    }

    const LIFE: i64 = 12 * 3600;

    #[tokio::test]
    async fn everybody_who_asks_for_the_same_shares_one_token() {
        let (double, tokens) = tokens([Ok(LIFE)]);
        let all = join_all((0..500).map(|second| get(&tokens, second % 60))).await;
        assert!(all.iter().all(|given| given.token.is_some() && given.error.is_none()));
        assert_eq!(double.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_token_is_renewed_at_about_two_thirds_of_its_life() {
        let (double, tokens) = tokens([Ok(LIFE), Ok(2 * LIFE)]);
        let next = get(&tokens, 0).await.next;
        assert!((at(LIFE * 6 / 10)..=at(LIFE * 2 / 3)).contains(&next), "{next}");
        let before = next.duration_since(at(0)).as_secs() - 1;
        get(&tokens, before).await;
        assert_eq!(double.asked.load(Ordering::SeqCst), 1);
        let renewed = get(&tokens, before + 1).await;
        assert_eq!(
            (double.asked.load(Ordering::SeqCst), renewed.token.unwrap().expires_at),
            (2, Some(at(2 * LIFE)))
        );
    }

    #[tokio::test]
    async fn a_token_that_ends_soon_is_renewed_five_minutes_before() {
        for (life, expected) in [(360, 60), (60, 10), (1, 1)] {
            let (_, tokens) = tokens([Ok(life)]);
            assert_eq!(get(&tokens, 0).await.next, at(expected), "{life}");
        }
    }

    #[tokio::test]
    async fn a_failure_keeps_the_former_token_until_its_end_and_heeds_what_the_issuer_asks() {
        let failures = (0..20).map(|_| Err(throttled(700)));
        let (double, tokens) = tokens(std::iter::once(Ok(3600)).chain(failures));
        get(&tokens, 0).await;
        let failed = get(&tokens, 3000).await;
        assert!(failed.token.is_some() && failed.ended.is_none());
        assert_eq!(failed.next, at(3600), "a look at its end, which is before the next try");
        get(&tokens, 3500).await;
        assert_eq!(double.asked.load(Ordering::SeqCst), 2, "not before the issuer wants it");
        let over = get(&tokens, 3600).await;
        assert!(over.token.is_none() && over.error == Some(throttled(700)));
        assert_eq!((over.ended, over.next), (Some(at(3600)), at(3700)));
    }

    #[tokio::test]
    async fn an_issuer_that_is_out_of_order_for_a_moment_is_no_news_while_the_token_is_good() {
        let (_, tokens) = tokens(std::iter::once(Ok(3600)).chain((0..3).map(|_| Err(throttled(0)))));
        get(&tokens, 0).await;
        let mut told = Vec::new();
        for second in [3000, 3010, 3020] {
            told.push(get(&tokens, second).await.error.is_some());
        }
        assert_eq!(told, [false, false, true]);
    }

    #[tokio::test]
    async fn a_token_that_is_given_again_keeps_its_end() {
        let (_, tokens) = tokens([Ok(3600), Ok(3601)]);
        let first = get(&tokens, 0).await.token.unwrap();
        let again = get(&tokens, 3000).await.token.unwrap();
        assert!(Arc::ptr_eq(&first, &again), "else every copy would be written for a second's difference");
    }

    #[tokio::test]
    async fn one_cloud_that_hangs_holds_up_no_other() {
        let (_, tokens) = tokens([Ok(3600)]);
        let hanging = tokens.at_once(&Issuer::Quay { robot: "a+b".to_owned() });
        let _held = hanging.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
        assert!(get(&tokens, 0).await.token.is_some());
    }

    #[tokio::test]
    async fn tokens_of_former_keys_are_forgotten() {
        let (double, tokens) = tokens([Ok(3600), Ok(3600), Ok(3600)]);
        let request = |version: &str| TokenRequest {
            identity: Identity::Secret { name: "keys".to_owned(), version: version.to_owned() },
            ..request()
        };
        for version in ["1", "2", "1"] {
            tokens.get(&request(version), false, || at(0)).await;
        }
        assert_eq!(double.asked.load(Ordering::SeqCst), 3);
        assert_eq!(tokens.slots.lock().len(), 1);
    }

    #[tokio::test]
    async fn of_too_many_requests_of_one_moment_half_are_remembered() {
        let (_, tokens) = tokens([]);
        let request = |number: usize| TokenRequest {
            identity: Identity::ServiceAccount(format!("account-{number}")),
            ..request()
        };
        for number in 0..=MAX_SLOTS {
            tokens.slot(&request(number), at(0));
        }
        assert_eq!(tokens.slots.lock().len(), MAX_SLOTS / 2 + 1);
        let mut slots = HashMap::new();
        for number in 0..4 {
            let used = at(i64::from(number > 0));
            slots.insert(request(number), Kept { slot: Arc::default(), used });
        }
        forget_older_half(&mut slots);
        assert_eq!((slots.len(), slots.contains_key(&request(0))), (2, false), "the oldest goes first");
    }

    #[tokio::test]
    async fn a_token_that_came_expired_is_none() {
        let (_, tokens) = tokens([Ok(-1)]);
        let given = get(&tokens, 0).await;
        assert!(given.token.is_none() && given.error.is_some() && given.ended.is_none());
    }

    #[tokio::test]
    async fn a_refresh_asks_anew_but_not_for_each_of_many() {
        let (double, tokens) = tokens([Ok(LIFE), Ok(LIFE)]);
        get(&tokens, 0).await;
        let request = request();
        let refresh = |second| tokens.get(&request, true, move || at(second));
        join_all((100..110).map(refresh)).await;
        assert_eq!(double.asked.load(Ordering::SeqCst), 2);
    }
}
