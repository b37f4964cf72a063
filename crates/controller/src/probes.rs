//! What registries said of credentials, and which of them are asked next. One question is asked once for all
//! RegistryCredentials that have it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use regcred_api::{ConditionStatus, Reason, RegistryStatus, SourceMember};
use regcred_dockerconfig::{Login, Server};
use regcred_planner::{Answer, Uid, Verdict, Verification, Verified, latest_check, next_check};

/// A question to a registry: the keyed digest of the credential and of what it should be good for.
pub(crate) type Question = Arc<str>;

/// The keyed digest of a credential and of the host that is asked about it.
pub(crate) type Account = Arc<str>;

/// The kind of source of a server that came with a whole configuration.
pub(crate) const OF_CONFIGURATION: &str = "Secret";
/// How many rejected logins are remembered though nobody asks about them.
const MAX_REJECTED: usize = 4096;
/// How long copies wait for a first answer. A registry that is asked answers, or is given up, within a minute: what takes longer
/// is the turn of others, which must not let a credential through that nobody asked about.
pub(crate) const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// The same while its registry must not be asked: longer than logins are counted, and no author can prolong it.
const LONG_PATIENCE: SignedDuration = SignedDuration::from_hours(1);
/// The shortest time between two tries of one login, whoever asks for them.
const SHORTEST_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// A credential whose registry is to be asked.
#[derive(Clone)]
pub(crate) struct Probe {
    /// The server.
    pub(crate) server: Server,
    /// The credential that its source gives.
    pub(crate) login: Login,
    /// When that ends, where it is known.
    pub(crate) expires_at: Option<Timestamp>,
    /// Its fingerprint in status.
    pub(crate) fingerprint: String,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// What is asked.
    pub(crate) question: Question,
    /// Whose login is at stake.
    pub(crate) account: Account,
    /// How, and how often.
    pub(crate) verification: Verification,
}

/// Where the credential of a server comes from. What was accepted of one origin is put in the place of no other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Origin {
    /// UID of the RegistryCredential.
    pub(crate) credential: Uid,
    /// The source that names the server.
    pub(crate) source: Option<SourceMember>,
    /// The Secrets with whole configurations, where none does.
    pub(crate) configurations: Vec<String>,
}

impl Origin {
    /// The kind of the source, as in status.
    fn kind(&self) -> &'static str {
        self.source.as_ref().map_or(OF_CONFIGURATION, SourceMember::kind)
    }
}

/// A login that was accepted.
#[derive(Clone)]
pub(crate) struct Accepted {
    origin: Origin,
    /// The login.
    pub(crate) login: Login,
    /// When it ends, where that is known.
    pub(crate) expires_at: Option<Timestamp>,
}

/// What is known of a credential that copies are to hold.
pub(crate) enum Standing {
    /// Nothing speaks against it.
    Accepted,
    /// Its registry is yet to be asked, and copies wait for that.
    Awaited,
    /// Its registry rejects it.
    Rejected {
        /// What the registry said.
        verdict: Verdict,
        /// What it accepted last.
        accepted: Option<Box<Accepted>>,
    },
}

/// The probes of all RegistryCredentials, and the answers.
#[derive(Default)]
pub(crate) struct Probes(Mutex<State>);

#[derive(Default)]
struct State {
    wanted: BTreeMap<Arc<str>, Wanted>,
    answers: HashMap<Question, Answer>,
    /// Logins about which registries are being asked: each is shown once at a time.
    asking: HashSet<Account>,
    /// Questions that are asked before their time, as somebody wants to know now.
    forced: HashSet<Question>,
    /// Since when copies wait for an answer.
    awaited: HashMap<Question, Timestamp>,
    /// What registries said of logins that they do not know. It outlives whoever asked, so that no edit of a spec has a wrong
    /// password tried once more.
    rejected: HashMap<Account, Answer>,
}

/// What is asked for one RegistryCredential.
#[derive(Default)]
struct Wanted {
    probes: Vec<Probe>,
    /// What each registry accepted last.
    accepted: BTreeMap<Server, Accepted>,
}

/// A question that is being asked. Dropped without an answer, it may be asked again.
pub(crate) struct Asking<'a> {
    probes: &'a Probes,
    pub(crate) probe: Probe,
    ended: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.probes.0.lock().asking.remove(&self.probe.account);
        }
    }
}

impl Probes {
    /// These are to be asked for a RegistryCredential, and no others. What its status says of earlier answers counts where
    /// this process has none. Returns the others whose copies waited for such an answer.
    pub(crate) fn want(&self, name: &Arc<str>, probes: Vec<Probe>, told: &[RegistryStatus]) -> Vec<Arc<str>> {
        let mut state = self.0.lock();
        let recalled: Vec<_> = probes.iter().filter(|probe| state.recall(probe, told)).cloned().collect();
        let wanted = state.wanted.entry(name.clone()).or_default();
        let is_of = |server: &Server, origin: &Origin| {
            probes.iter().any(|probe| probe.server == *server && probe.origin == *origin)
        };
        wanted.accepted.retain(|server, accepted| is_of(server, &accepted.origin));
        wanted.probes = probes;
        let questions: HashSet<_> = recalled.iter().map(|probe| &probe.question).collect();
        let accounts: HashSet<_> = recalled.iter().map(|probe| &probe.account).collect();
        let concerned =
            state.concerned(|own| questions.contains(&own.question) || accounts.contains(&own.account));
        let holding = concerned.into_iter().filter(|(_, hold)| *hold);
        let waiting: BTreeSet<_> = holding.map(|(name, _)| name).collect();
        for name in waiting.iter().chain([name]) {
            state.note_accepted(name);
        }
        state.forget_unasked();
        waiting.into_iter().filter(|own| own != name).collect()
    }

    /// Of what is asked for a RegistryCredential only this goes on.
    pub(crate) fn keep(&self, name: &Arc<str>, goes_on: impl Fn(&Probe) -> bool) {
        let mut state = self.0.lock();
        if let Some(wanted) = state.wanted.get_mut(name) {
            wanted.probes.retain(goes_on);
        }
        state.forget_unasked();
    }

    /// Nothing is asked for a RegistryCredential any more.
    pub(crate) fn forget(&self, name: &Arc<str>) {
        let mut state = self.0.lock();
        state.wanted.remove(name);
        state.forget_unasked();
    }

    /// Another replica may know newer answers, and have replaced what was accepted.
    pub(crate) fn forget_all(&self) {
        let mut state = self.0.lock();
        state.wanted.clear();
        state.answers.clear();
        state.forced.clear();
        state.awaited.clear();
    }

    /// Somebody wants to know now whether what was rejected is accepted by now.
    pub(crate) fn force(&self, name: &Arc<str>) {
        let mut state = self.0.lock();
        let questions: Vec<_> = state.questions(name).cloned().collect();
        let is_bad = |answer: &Answer| answer.verdict.status != ConditionStatus::True;
        let bad: Vec<_> =
            questions.into_iter().filter(|own| state.answers.get(own).is_some_and(is_bad)).collect();
        state.forced.extend(bad);
    }

    /// Whether an answer is awaited that somebody asked for.
    pub(crate) fn is_forced(&self, name: &Arc<str>) -> bool {
        let state = self.0.lock();
        state.questions(name).any(|question| state.forced.contains(question))
    }

    /// What is known of the credential that a source gives for a server. A registry that is not asked in time holds nothing up.
    pub(crate) fn standing(&self, name: &Arc<str>, server: &Server, now: Timestamp) -> Standing {
        let state = &mut *self.0.lock();
        let Some(wanted) = state.wanted.get(name) else { return Standing::Accepted };
        let mut probes = wanted.probes.iter();
        let held = probes.find(|probe| probe.server == *server && probe.verification.hold);
        let Some(probe) = held else { return Standing::Accepted };
        let answer = state.answers.get(&probe.question);
        let Some(answer) = answer.filter(|answer| answer.verdict.reason != Reason::TooManyRejections) else {
            state.awaited.entry(probe.question.clone()).or_insert(now);
            return if state.is_late(&probe.question, now) { Standing::Accepted } else { Standing::Awaited };
        };
        if answer.verdict.status != ConditionStatus::False {
            return Standing::Accepted;
        }
        let accepted = wanted.accepted.get(server).cloned().map(Box::new);
        Standing::Rejected { verdict: answer.verdict.clone(), accepted }
    }

    /// What status says of each server; `None` before the sources were looked at.
    pub(crate) fn verified(&self, name: &Arc<str>, now: Timestamp) -> Option<Vec<Verified>> {
        let state = self.0.lock();
        let verified = |probe: &Probe| Verified {
            server: probe.server.to_string(),
            kind: probe.origin.kind(),
            fingerprint: probe.fingerprint.clone(),
            hold: probe.verification.hold,
            answer: state.answers.get(&probe.question).cloned(),
            is_late: state.is_late(&probe.question, now),
        };
        Some(state.wanted.get(name)?.probes.iter().map(verified).collect())
    }

    /// Whether copies wait for an answer that nobody is asked for.
    pub(crate) fn is_awaited(&self, name: &Arc<str>) -> bool {
        let state = self.0.lock();
        state.open(name).any(|probe| state.is_awaited(probe))
    }

    /// The next question of a RegistryCredential that is due and about whose login nobody asks: first one for which copies wait.
    pub(crate) fn begin(&self, name: &Arc<str>, now: Timestamp) -> Option<Asking<'_>> {
        let mut state = self.0.lock();
        let is_due = |probe: &&Probe| state.due(probe).is_none_or(|at| at <= now);
        let probe = state.open(name).filter(is_due).min_by_key(|probe| !state.is_awaited(probe))?.clone();
        state.asking.insert(probe.account.clone());
        Some(Asking { probes: self, probe, ended: false })
    }

    /// Takes an answer. Returns the RegistryCredentials that it concerns, and whether their copies wait for it.
    pub(crate) fn end(
        &self,
        asking: &mut Asking<'_>,
        verdict: Verdict,
        retry_after: Duration,
        now: Timestamp,
    ) -> Vec<(Arc<str>, bool)> {
        let mut state = self.0.lock();
        asking.ended = true;
        let Probe { question, account, .. } = &asking.probe;
        let answer = state.answered(&asking.probe, verdict, retry_after, now);
        state.asking.remove(account);
        state.forced.remove(question);
        state.answers.insert(question.clone(), answer.clone());
        if is_wrong_login(&answer) {
            state.reject(account, &answer, now);
        } else if answer.verdict.status == ConditionStatus::True {
            state.rejected.remove(account);
        }
        let concerned = state.concerned(|own| own.question == *question || own.account == *account);
        for (name, _) in &concerned {
            state.note_accepted(name);
        }
        state.forget_unasked();
        concerned
    }

    /// When a question of a RegistryCredential is due; `None` if it has none but those that are being asked.
    pub(crate) fn next_at(&self, name: &Arc<str>) -> Option<Timestamp> {
        let state = self.0.lock();
        state.open(name).map(|probe| state.due(probe).unwrap_or(Timestamp::MIN)).min()
    }
}

impl State {
    fn questions(&self, name: &Arc<str>) -> impl Iterator<Item = &Question> {
        self.wanted.get(name).into_iter().flat_map(|wanted| &wanted.probes).map(|probe| &probe.question)
    }

    /// The probes of a RegistryCredential about whose login nobody asks.
    fn open(&self, name: &Arc<str>) -> impl Iterator<Item = &Probe> {
        let probes = self.wanted.get(name).into_iter().flat_map(|wanted| &wanted.probes);
        probes.filter(|probe| !self.asking.contains(&probe.account))
    }

    /// Whether copies wait no longer for an answer that there is not yet.
    fn is_late(&self, question: &Question, now: Timestamp) -> bool {
        let patience = if self.answers.contains_key(question) { LONG_PATIENCE } else { PATIENCE };
        self.awaited.get(question).is_some_and(|since| now.duration_since(*since) >= patience)
    }

    /// Whether copies wait for the answer to a probe.
    fn is_awaited(&self, probe: &Probe) -> bool {
        probe.verification.hold && !self.answers.contains_key(&probe.question)
    }

    fn probes(&self) -> impl Iterator<Item = (&Arc<str>, &Probe)> {
        self.wanted.iter().flat_map(|(name, wanted)| wanted.probes.iter().map(move |own| (name, own)))
    }

    /// The RegistryCredentials with such a probe, and whether their copies wait for the answer.
    fn concerned(&self, is_concerned: impl Fn(&Probe) -> bool) -> Vec<(Arc<str>, bool)> {
        let concerned = self.probes().filter(|(_, probe)| is_concerned(probe));
        let holds: BTreeMap<_, _> = concerned.fold(BTreeMap::new(), |mut holds, (name, probe)| {
            *holds.entry(name.clone()).or_default() |= probe.verification.hold;
            holds
        });
        holds.into_iter().collect()
    }

    /// What an answer says, and until when. One that says nothing of a credential leaves a rejection as it is, whose next
    /// try comes later for it.
    fn answered(&self, probe: &Probe, verdict: Verdict, retry_after: Duration, now: Timestamp) -> Answer {
        let before = self.answers.get(&probe.question);
        let is_no = |answer: &&Answer| answer.verdict.status == ConditionStatus::False;
        let verdict = match before.filter(is_no) {
            Some(no) if verdict.status == ConditionStatus::Unknown => no.verdict.clone(),
            _ => verdict,
        };
        let having = self.probes().filter(|(_, own)| own.question == probe.question);
        let intervals = having.map(|(_, own)| own.verification.interval);
        let interval = intervals.min().unwrap_or(probe.verification.interval);
        let pause = next_check(&probe.question, &verdict, before, interval, retry_after);
        Answer { verdict, checked_at: now, next_at: now.checked_add(pause).unwrap_or(Timestamp::MAX) }
    }

    /// Remembers that a login is not known to its registry, for every question about it.
    fn reject(&mut self, account: &Account, answer: &Answer, now: Timestamp) {
        let same = self.probes().filter(|(_, probe)| probe.account == *account);
        let questions: Vec<_> = same.map(|(_, probe)| probe.question.clone()).collect();
        for question in questions {
            self.forced.remove(&question);
            self.answers.insert(question, answer.clone());
        }
        if self.rejected.len() >= MAX_REJECTED {
            self.rejected.retain(|_, answer| answer.next_at > now);
        }
        if self.rejected.len() < MAX_REJECTED {
            self.rejected.insert(account.clone(), answer.clone());
        }
    }

    /// Takes what is known of a login, or of this very question, as the answer to it. Whether it had none. One that was good
    /// counts no longer than the present interval says.
    fn recall(&mut self, probe: &Probe, told: &[RegistryStatus]) -> bool {
        if let Some(answer) = self.answers.get_mut(&probe.question) {
            let good = answer.verdict.status == ConditionStatus::True;
            let latest = latest_check(probe.verification.interval);
            let until = answer.checked_at.checked_add(latest).unwrap_or(Timestamp::MAX);
            if good && answer.next_at > until {
                answer.next_at = until;
            }
            return false;
        }
        let known = self.rejected.get(&probe.account).cloned().or_else(|| earlier(probe, told));
        let Some(answer) = known else { return false };
        if is_wrong_login(&answer) {
            self.reject(&probe.account, &answer, answer.checked_at);
        }
        self.answers.insert(probe.question.clone(), answer);
        true
    }

    /// When a question is due; `None` for now.
    fn due(&self, probe: &Probe) -> Option<Timestamp> {
        let answer = self.answers.get(&probe.question)?;
        let soon = answer.checked_at.checked_add(SHORTEST_PAUSE).unwrap_or(Timestamp::MAX);
        let is_forced = self.forced.contains(&probe.question);
        Some(if is_forced { soon.min(answer.next_at) } else { answer.next_at })
    }

    /// Keeps what registries accept by now.
    fn note_accepted(&mut self, name: &Arc<str>) {
        let Some(wanted) = self.wanted.get_mut(name) else { return };
        for probe in &wanted.probes {
            let answer = self.answers.get(&probe.question);
            if answer.is_some_and(|answer| answer.verdict.status == ConditionStatus::True) {
                let (origin, login) = (probe.origin.clone(), probe.login.clone());
                let accepted = Accepted { origin, login, expires_at: probe.expires_at };
                wanted.accepted.insert(probe.server.clone(), accepted);
            }
        }
    }

    /// Forgets answers to questions that nobody has.
    fn forget_unasked(&mut self) {
        let questions: HashSet<_> = self.probes().map(|(_, probe)| probe.question.clone()).collect();
        self.answers.retain(|question, _| questions.contains(question));
        self.forced.retain(|question| questions.contains(question));
        self.awaited.retain(|question, _| questions.contains(question));
    }
}

/// Whether the login is wrong for whatever it is asked.
fn is_wrong_login(answer: &Answer) -> bool {
    matches!(answer.verdict.reason, Reason::Rejected | Reason::Expired)
}

/// The answer that status has about this very credential.
fn earlier(probe: &Probe, told: &[RegistryStatus]) -> Option<Answer> {
    let server = probe.server.to_string();
    let told = told.iter().find(|registry| registry.server == server)?.verification.as_ref()?;
    let reason = told.reason.parse().ok()?;
    let same = told.fingerprint == probe.fingerprint && told.next_check_at.0 > told.checked_at.0;
    let verdict = Verdict::of(reason, told.message.clone())?;
    same.then_some(Answer { verdict, checked_at: told.checked_at.0, next_at: told.next_check_at.0 })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use regcred_api::{Reason, VerificationStatus};
    use regcred_planner::Proof;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    fn probe(question: &str, hold: bool) -> Probe {
        Probe {
            server: Server::parse("a.example").unwrap(),
            login: Login::new(b"u", question.as_bytes()).unwrap(),
            expires_at: None,
            fingerprint: question.to_owned(),
            origin: Origin {
                credential: Arc::from("c1"),
                source: None,
                configurations: vec!["s".to_owned()],
            },
            question: Arc::from(question),
            account: Arc::from(format!("account of {question}")),
            verification: Verification { proof: Proof::Login, interval: Duration::from_hours(1), hold },
        }
    }

    fn verdict(reason: Reason) -> Verdict {
        Verdict::of(reason, String::new()).unwrap()
    }

    /// Asks what is due for a name.
    fn ask(probes: &Probes, of: &str, reason: Reason, now: i64) -> Option<Vec<(Arc<str>, bool)>> {
        let mut asking = probes.begin(&name(of), at(now))?;
        Some(probes.end(&mut asking, verdict(reason), Duration::ZERO, at(now)))
    }

    fn told(fingerprint: &str, reason: &str, next: i64) -> RegistryStatus {
        let time = |second| Time(at(second));
        RegistryStatus {
            server: "a.example".to_owned(),
            source: "Secret".to_owned(),
            fingerprint: fingerprint.to_owned(),
            refreshed_at: time(1),
            expires_at: None,
            next_refresh_at: None,
            verification: Some(VerificationStatus {
                reason: reason.to_owned(),
                message: "m".to_owned(),
                fingerprint: fingerprint.to_owned(),
                checked_at: time(10),
                next_check_at: time(next),
            }),
        }
    }

    #[test]
    fn one_question_is_asked_once_for_everybody_who_has_it() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("q", false)], &[]);
        probes.want(&name("b"), vec![probe("q", true)], &[]);
        let mut asking = probes.begin(&name("a"), at(0)).expect("it is due");
        assert!(probes.begin(&name("b"), at(0)).is_none(), "somebody asks it");
        assert_eq!(probes.next_at(&name("b")), None);
        let having = probes.end(&mut asking, verdict(Reason::LoginVerified), Duration::ZERO, at(0));
        assert_eq!(having, [(name("a"), false), (name("b"), true)]);
        drop(asking);
        assert!(probes.begin(&name("b"), at(3599)).is_none());
        assert!(probes.begin(&name("b"), at(4000)).is_some());
    }

    #[test]
    fn a_question_that_was_cut_off_is_asked_again() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("q", false)], &[]);
        drop(probes.begin(&name("a"), at(0)).expect("it is due"));
        assert!(probes.begin(&name("a"), at(0)).is_some());
    }

    #[test]
    fn an_answer_of_status_counts_for_the_same_credential_until_its_time() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("q", true)], &[told("q", "Rejected", 100)]);
        assert!(matches!(
            probes.standing(&name("a"), &probe("q", true).server, at(0)),
            Standing::Rejected { .. }
        ));
        assert!(probes.begin(&name("a"), at(99)).is_none());
        assert!(probes.begin(&name("a"), at(100)).is_some());
        for odd in [told("other", "Rejected", 100), told("q", "Synced", 100), told("q", "Rejected", 10)] {
            let probes = Probes::default();
            probes.want(&name("a"), vec![probe("q", true)], &[odd]);
            assert!(matches!(
                probes.standing(&name("a"), &probe("q", true).server, at(0)),
                Standing::Awaited
            ));
        }
    }

    #[test]
    fn what_was_accepted_last_stays_known_while_another_is_rejected() {
        let probes = Probes::default();
        let server = probe("q", true).server;
        probes.want(&name("a"), vec![probe("old", true)], &[]);
        ask(&probes, "a", Reason::LoginVerified, 0).expect("it is due");
        probes.want(&name("a"), vec![probe("new", true)], &[]);
        assert!(matches!(probes.standing(&name("a"), &server, at(0)), Standing::Awaited));
        ask(&probes, "a", Reason::Rejected, 0).expect("it is due");
        let Standing::Rejected { accepted: Some(accepted), .. } = probes.standing(&name("a"), &server, at(0))
        else {
            panic!("nothing is known")
        };
        assert_eq!(accepted.login.password().expose(), b"old");
        probes.want(&name("a"), Vec::new(), &[]);
        assert!(matches!(probes.standing(&name("a"), &server, at(0)), Standing::Accepted), "nobody asks");
    }

    #[test]
    fn a_rejection_is_tried_again_at_once_where_somebody_asks_and_a_good_answer_is_not() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("q", false)], &[]);
        ask(&probes, "a", Reason::Rejected, 0).expect("it is due");
        assert!(ask(&probes, "a", Reason::Rejected, 10).is_none());
        probes.force(&name("a"));
        assert!(probes.is_forced(&name("a")));
        assert!(
            ask(&probes, "a", Reason::LoginVerified, 9).is_none(),
            "one login is tried every ten seconds at most"
        );
        ask(&probes, "a", Reason::LoginVerified, 10).expect("somebody asked");
        assert!(!probes.is_forced(&name("a")));
        probes.force(&name("a"));
        assert!(!probes.is_forced(&name("a")) && ask(&probes, "a", Reason::Rejected, 20).is_none());
    }

    #[test]
    fn answers_to_questions_that_nobody_has_are_forgotten() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("q", false)], &[]);
        ask(&probes, "a", Reason::LoginVerified, 0).expect("it is due");
        probes.forget(&name("a"));
        assert!(probes.0.lock().answers.is_empty());
        assert!(probes.verified(&name("a"), at(0)).is_none());
    }

    #[test]
    fn a_registry_that_falls_silent_leaves_a_rejection_as_it_is_and_is_asked_ever_less_often() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("q", true)], &[]);
        ask(&probes, "a", Reason::Rejected, 0).expect("it is due");
        ask(&probes, "a", Reason::RateLimited, 4000).expect("it is due");
        let standing = probes.standing(&name("a"), &probe("q", true).server, at(4000));
        assert!(matches!(standing, Standing::Rejected { .. }));
        assert!(probes.begin(&name("a"), at(4000 + 7000)).is_none(), "twice the hour");
        assert!(probes.begin(&name("a"), at(4000 + 8000)).is_some());
    }

    #[test]
    fn a_login_that_is_not_known_is_tried_once_whatever_it_is_asked_for_and_whoever_asks_again() {
        let probes = Probes::default();
        let of = |question: &str| Probe { account: Arc::from("robot"), ..probe(question, false) };
        probes.want(&name("a"), vec![of("app")], &[]);
        probes.want(&name("b"), vec![of("other")], &[]);
        assert_eq!(ask(&probes, "a", Reason::Rejected, 0).expect("it is due").len(), 2);
        assert!(ask(&probes, "b", Reason::Rejected, 1).is_none());
        probes.forget(&name("a"));
        probes.forget(&name("b"));
        probes.want(&name("c"), vec![of("third")], &[]);
        assert!(ask(&probes, "c", Reason::Rejected, 1).is_none());
        assert!(ask(&probes, "c", Reason::LoginVerified, 4000).is_some());
        assert!(probes.0.lock().rejected.is_empty());
    }

    #[test]
    fn copies_wait_ten_minutes_for_a_first_answer_and_no_longer() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("q", true)], &[]);
        let standing = |now| probes.standing(&name("a"), &probe("q", true).server, at(now));
        assert!(matches!(standing(0), Standing::Awaited));
        let is_late = |now| probes.verified(&name("a"), at(now)).unwrap()[0].is_late;
        assert!(matches!(standing(599), Standing::Awaited) && !is_late(599));
        assert!(matches!(standing(600), Standing::Accepted) && is_late(600));
    }

    #[test]
    fn copies_wait_an_hour_for_a_registry_that_is_spared() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("q", true)], &[]);
        let standing = |now| probes.standing(&name("a"), &probe("q", true).server, at(now));
        assert!(matches!(standing(0), Standing::Awaited));
        ask(&probes, "a", Reason::TooManyRejections, 0).expect("it is due");
        assert!(matches!(standing(600), Standing::Awaited));
        assert!(matches!(standing(3599), Standing::Awaited));
        assert!(matches!(standing(3600), Standing::Accepted));
        ask(&probes, "a", Reason::Rejected, 3600).expect("it is due");
        assert!(matches!(standing(3600), Standing::Rejected { .. }));
    }

    #[test]
    fn a_login_is_shown_once_at_a_time_and_first_where_copies_wait() {
        let probes = Probes::default();
        let account: Account = Arc::from("shared");
        let pull = Probe { account: account.clone(), ..probe("pull", false) };
        let login = Probe { account, ..probe("login", false) };
        probes.want(&name("a"), vec![pull.clone(), login.clone(), probe("held", true)], &[]);
        assert!(probes.is_awaited(&name("a")));
        let first = probes.begin(&name("a"), at(0)).expect("it is due");
        assert_eq!(&*first.probe.question, "held");
        assert!(!probes.is_awaited(&name("a")));
        let second = probes.begin(&name("a"), at(0)).expect("it is due");
        assert_eq!(&*second.probe.question, "pull");
        assert!(probes.begin(&name("a"), at(0)).is_none() && probes.next_at(&name("a")).is_none());
        drop(second);
        assert!(probes.begin(&name("a"), at(0)).is_some());
    }

    #[test]
    fn what_was_accepted_of_one_source_is_put_in_the_place_of_no_other() {
        let probes = Probes::default();
        let server = probe("q", true).server;
        probes.want(&name("a"), vec![probe("old", true)], &[]);
        ask(&probes, "a", Reason::LoginVerified, 0).expect("it is due");
        let origin = Origin { credential: Arc::from("c2"), ..probe("q", true).origin };
        probes.want(&name("a"), vec![Probe { origin, ..probe("new", true) }], &[]);
        ask(&probes, "a", Reason::Rejected, 0).expect("it is due");
        let standing = probes.standing(&name("a"), &server, at(0));
        assert!(matches!(standing, Standing::Rejected { accepted: None, .. }));
    }

    #[test]
    fn a_shorter_interval_counts_at_once() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("q", false)], &[]);
        ask(&probes, "a", Reason::LoginVerified, 0).expect("it is due");
        let mut sooner = probe("q", false);
        sooner.verification.interval = Duration::from_mins(15);
        probes.want(&name("a"), vec![sooner], &[]);
        assert!(probes.begin(&name("a"), at(957)).is_some());
    }

    #[test]
    fn who_waits_for_an_answer_that_another_status_has_is_looked_at_again() {
        let probes = Probes::default();
        assert!(probes.want(&name("a"), vec![probe("q", true)], &[]).is_empty());
        let waiting = probes.want(&name("b"), vec![probe("q", true)], &[told("q", "LoginVerified", 100)]);
        assert_eq!(waiting, [name("a")]);
        let standing = probes.standing(&name("a"), &probe("q", true).server, at(20));
        assert!(matches!(standing, Standing::Accepted));
    }

    #[test]
    fn only_what_the_present_spec_asks_for_goes_on_while_its_sources_give_nothing() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("old", false), probe("q", true)], &[]);
        probes.keep(&name("a"), |probe| probe.verification.hold);
        let going_on: Vec<_> = probes.verified(&name("a"), at(0)).unwrap();
        assert_eq!(going_on.iter().map(|own| &*own.fingerprint).collect::<Vec<_>>(), ["q"]);
    }
}
