//! What registries said of credentials, and which of them are asked next. One question is asked once for all
//! RegistryCredentials that have it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use regcred_api::{ConditionStatus, RegistryStatus};
use regcred_dockerconfig::{Login, Server};
use regcred_planner::{Answer, Verdict, Verification, Verified, next_check};

/// A login, and when it ends.
type Ending = (Login, Option<Timestamp>);

/// A question to a registry: the keyed digest of the credential and of what it should be good for.
pub(crate) type Question = Arc<str>;

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
    /// What is asked.
    pub(crate) question: Question,
    /// How, and how often.
    pub(crate) verification: Verification,
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
        accepted: Option<Ending>,
    },
}

/// The probes of all RegistryCredentials, and the answers.
#[derive(Default)]
pub(crate) struct Probes(Mutex<State>);

#[derive(Default)]
struct State {
    wanted: BTreeMap<Arc<str>, Wanted>,
    answers: HashMap<Question, Answer>,
    /// Questions that are being asked.
    asking: HashSet<Question>,
    /// Questions that are asked before their time, as somebody wants to know now.
    forced: HashSet<Question>,
}

/// What is asked for one RegistryCredential.
#[derive(Default)]
struct Wanted {
    probes: Vec<Probe>,
    /// What each registry accepted last.
    accepted: BTreeMap<Server, Ending>,
}

/// A question that is being asked. Dropped without an answer, it may be asked again.
pub(crate) struct Asking<'a> {
    probes: &'a Probes,
    pub(crate) probe: Probe,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.probes.0.lock().asking.remove(&self.probe.question);
    }
}

impl Probes {
    /// These are to be asked for a RegistryCredential, and no others. What its status says of earlier answers counts where
    /// this process has none.
    pub(crate) fn want(&self, name: &Arc<str>, probes: Vec<Probe>, told: &[RegistryStatus]) {
        let mut state = self.0.lock();
        for probe in &probes {
            if !state.answers.contains_key(&probe.question)
                && let Some(answer) = earlier(probe, told)
            {
                state.answers.insert(probe.question.clone(), answer);
            }
        }
        let wanted = state.wanted.entry(name.clone()).or_default();
        wanted.accepted.retain(|server, _| probes.iter().any(|probe| probe.server == *server));
        wanted.probes = probes;
        state.note_accepted(name);
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

    /// What is known of the credential that a source gives for a server.
    pub(crate) fn standing(&self, name: &Arc<str>, server: &Server) -> Standing {
        let state = self.0.lock();
        let Some(wanted) = state.wanted.get(name) else { return Standing::Accepted };
        let mut probes = wanted.probes.iter();
        let held = probes.find(|probe| probe.server == *server && probe.verification.hold);
        let Some(probe) = held else { return Standing::Accepted };
        let Some(answer) = state.answers.get(&probe.question) else { return Standing::Awaited };
        if answer.verdict.status != ConditionStatus::False {
            return Standing::Accepted;
        }
        Standing::Rejected { verdict: answer.verdict.clone(), accepted: wanted.accepted.get(server).cloned() }
    }

    /// What status says of each server; `None` before the sources were looked at.
    pub(crate) fn verified(&self, name: &Arc<str>) -> Option<Vec<Verified>> {
        let state = self.0.lock();
        let verified = |probe: &Probe| Verified {
            server: probe.server.to_string(),
            fingerprint: probe.fingerprint.clone(),
            hold: probe.verification.hold,
            answer: state.answers.get(&probe.question).cloned(),
        };
        Some(state.wanted.get(name)?.probes.iter().map(verified).collect())
    }

    /// The next question of a RegistryCredential that is due and that nobody asks already.
    pub(crate) fn begin(&self, name: &Arc<str>, now: Timestamp) -> Option<Asking<'_>> {
        let mut state = self.0.lock();
        let is_open = |probe: &&Probe| {
            !state.asking.contains(&probe.question) && state.due(probe).is_none_or(|at| at <= now)
        };
        let probe = state.wanted.get(name)?.probes.iter().find(is_open)?.clone();
        state.asking.insert(probe.question.clone());
        Some(Asking { probes: self, probe })
    }

    /// Takes an answer. Returns the RegistryCredentials that have this question, and whether their copies wait for it.
    pub(crate) fn end(
        &self,
        asking: &Asking<'_>,
        verdict: Verdict,
        retry_after: Duration,
        now: Timestamp,
    ) -> Vec<(Arc<str>, bool)> {
        let mut state = self.0.lock();
        let question = &asking.probe.question;
        let of: Vec<_> =
            state.wanting(question).map(|(name, probe)| (name.clone(), probe.verification.clone())).collect();
        let interval =
            of.iter().map(|(_, own)| own.interval).min().unwrap_or(asking.probe.verification.interval);
        let before = state.answers.get(question);
        let pause = next_check(question, &verdict, before, interval, retry_after);
        let next_at = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        state.answers.insert(question.clone(), Answer { verdict, checked_at: now, next_at });
        state.forced.remove(question);
        for (name, _) in &of {
            state.note_accepted(name);
        }
        state.forget_unasked();
        of.into_iter().map(|(name, verification)| (name, verification.hold)).collect()
    }

    /// When a question of a RegistryCredential is due; `None` if it has none but those that are being asked.
    pub(crate) fn next_at(&self, name: &Arc<str>) -> Option<Timestamp> {
        let state = self.0.lock();
        let open =
            state.wanted.get(name)?.probes.iter().filter(|probe| !state.asking.contains(&probe.question));
        open.map(|probe| state.due(probe).unwrap_or(Timestamp::MIN)).min()
    }
}

impl State {
    fn questions(&self, name: &Arc<str>) -> impl Iterator<Item = &Question> {
        self.wanted.get(name).into_iter().flat_map(|wanted| &wanted.probes).map(|probe| &probe.question)
    }

    fn wanting(&self, question: &Question) -> impl Iterator<Item = (&Arc<str>, &Probe)> {
        let probes =
            self.wanted.iter().flat_map(|(name, wanted)| wanted.probes.iter().map(move |own| (name, own)));
        probes.filter(move |(_, probe)| probe.question == *question)
    }

    /// When a question is due; `None` for now.
    fn due(&self, probe: &Probe) -> Option<Timestamp> {
        let answer = self.answers.get(&probe.question).filter(|_| !self.forced.contains(&probe.question));
        answer.map(|answer| answer.next_at)
    }

    /// Keeps what registries accept by now.
    fn note_accepted(&mut self, name: &Arc<str>) {
        let Some(wanted) = self.wanted.get_mut(name) else { return };
        for probe in &wanted.probes {
            let answer = self.answers.get(&probe.question);
            if answer.is_some_and(|answer| answer.verdict.status == ConditionStatus::True) {
                wanted.accepted.insert(probe.server.clone(), (probe.login.clone(), probe.expires_at));
            }
        }
    }

    /// Forgets answers to questions that nobody has.
    fn forget_unasked(&mut self) {
        let questions = self.wanted.values().flat_map(|wanted| &wanted.probes).map(|probe| &probe.question);
        let questions: HashSet<_> = questions.collect();
        self.answers.retain(|question, _| questions.contains(question));
        self.forced.retain(|question| questions.contains(question));
    }
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
            question: Arc::from(question),
            verification: Verification { proof: Proof::Login, interval: Duration::from_hours(1), hold },
        }
    }

    fn verdict(reason: Reason) -> Verdict {
        Verdict::of(reason, String::new()).unwrap()
    }

    /// Asks what is due for a name.
    fn ask(probes: &Probes, of: &str, reason: Reason, now: i64) -> Option<Vec<(Arc<str>, bool)>> {
        let asking = probes.begin(&name(of), at(now))?;
        Some(probes.end(&asking, verdict(reason), Duration::ZERO, at(now)))
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
        let asking = probes.begin(&name("a"), at(0)).expect("it is due");
        assert!(probes.begin(&name("b"), at(0)).is_none(), "somebody asks it");
        assert_eq!(probes.next_at(&name("b")), None);
        let having = probes.end(&asking, verdict(Reason::LoginVerified), Duration::ZERO, at(0));
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
        assert!(matches!(probes.standing(&name("a"), &probe("q", true).server), Standing::Rejected { .. }));
        assert!(probes.begin(&name("a"), at(99)).is_none());
        assert!(probes.begin(&name("a"), at(100)).is_some());
        for odd in [told("other", "Rejected", 100), told("q", "Synced", 100), told("q", "Rejected", 10)] {
            let probes = Probes::default();
            probes.want(&name("a"), vec![probe("q", true)], &[odd]);
            assert!(matches!(probes.standing(&name("a"), &probe("q", true).server), Standing::Awaited));
        }
    }

    #[test]
    fn what_was_accepted_last_stays_known_while_another_is_rejected() {
        let probes = Probes::default();
        let server = probe("q", true).server;
        probes.want(&name("a"), vec![probe("old", true)], &[]);
        ask(&probes, "a", Reason::LoginVerified, 0).expect("it is due");
        probes.want(&name("a"), vec![probe("new", true)], &[]);
        assert!(matches!(probes.standing(&name("a"), &server), Standing::Awaited));
        ask(&probes, "a", Reason::Rejected, 0).expect("it is due");
        let Standing::Rejected { accepted: Some((login, _)), .. } = probes.standing(&name("a"), &server)
        else {
            panic!("nothing is known")
        };
        assert_eq!(login.password().expose(), b"old");
        probes.want(&name("a"), Vec::new(), &[]);
        assert!(matches!(probes.standing(&name("a"), &server), Standing::Accepted), "nobody asks");
    }

    #[test]
    fn a_rejection_is_tried_again_at_once_where_somebody_asks_and_a_good_answer_is_not() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("q", false)], &[]);
        ask(&probes, "a", Reason::Rejected, 0).expect("it is due");
        assert!(ask(&probes, "a", Reason::Rejected, 1).is_none());
        probes.force(&name("a"));
        assert!(probes.is_forced(&name("a")));
        ask(&probes, "a", Reason::LoginVerified, 1).expect("somebody asked");
        assert!(!probes.is_forced(&name("a")));
        probes.force(&name("a"));
        assert!(!probes.is_forced(&name("a")) && ask(&probes, "a", Reason::Rejected, 2).is_none());
    }

    #[test]
    fn answers_to_questions_that_nobody_has_are_forgotten() {
        let probes = Probes::default();
        probes.want(&name("a"), vec![probe("q", false)], &[]);
        ask(&probes, "a", Reason::LoginVerified, 0).expect("it is due");
        probes.forget(&name("a"));
        assert!(probes.0.lock().answers.is_empty());
        assert!(probes.verified(&name("a")).is_none());
    }
}
