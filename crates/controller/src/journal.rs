//! What the log tells an admin of the work: one line for a namespace where few changed, and sums where many did. Each
//! RegistryCredential has its lines once the passes that it waits for are done, and not more often than every few seconds.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use regcred_planner::{Change, ChangeKind, Object};
use tokio::time::Instant;

/// Of how many namespaces each is told for itself, and of how many objects that were mended.
const FEW: usize = 5;
/// The shortest time between two tellings of one RegistryCredential.
const PACE: Duration = Duration::from_secs(5);

/// What was changed for each RegistryCredential since it was last told of.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<HashMap<Arc<str>, Page>>);

#[derive(Debug, Default)]
struct Page {
    untold: Option<Work>,
    told_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Work {
    sums: Sums,
    /// By namespace, as long as these are few.
    few: BTreeMap<Arc<str>, Sums>,
    many: bool,
    mended: Vec<Mended>,
}

#[derive(Clone, Debug, Default)]
struct Sums {
    made: u64,
    updated: u64,
    mended: u64,
    deleted: u64,
    left: u64,
    attached: u64,
    detached: u64,
}

#[derive(Debug)]
struct Mended {
    namespace: Arc<str>,
    object: Object,
    undone_by: String,
}

/// An object, as lines name it.
pub(crate) struct Named<'a>(pub(crate) &'a Object);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Object::Secret(name) => write!(f, "Secret {name}"),
            Object::ServiceAccount(name) => write!(f, "ServiceAccount {name}"),
        }
    }
}

impl Journal {
    /// Something was changed in a namespace.
    pub(crate) fn note(&self, namespace: &Arc<str>, change: Change) {
        let mut pages = self.0.lock();
        if !pages.contains_key(&change.credential) {
            let now = Instant::now();
            pages.retain(|_, page| page.untold.is_some() || page.told_until().is_some_and(|at| at > now));
        }
        let page = pages.entry(change.credential.clone()).or_default();
        page.untold.get_or_insert_default().note(namespace, change);
    }

    /// Logs what was changed for a RegistryCredential. Returns when to come again, where its last lines are too recent.
    pub(crate) fn tell(&self, credential: &Arc<str>) -> Option<Instant> {
        let work = {
            let mut pages = self.0.lock();
            let page = pages.get_mut(credential).filter(|page| page.untold.is_some())?;
            let now = Instant::now();
            let later = page.told_until().filter(|at| *at > now);
            if later.is_some() {
                return later;
            }
            page.told_at = Some(now);
            page.untold.take()?
        };
        work.tell(credential);
        None
    }

    /// Logs what is left at the end of work: it was done, and would be told as new if this replica worked again.
    pub(crate) fn tell_rest(&self) {
        let pages = std::mem::take(&mut *self.0.lock());
        for (credential, work) in pages.into_iter().filter_map(|(name, page)| Some((name, page.untold?))) {
            work.tell(&credential);
        }
    }
}

impl Page {
    /// Until when nothing is told again.
    fn told_until(&self) -> Option<Instant> {
        self.told_at.map(|at| at + PACE)
    }
}

impl Work {
    fn note(&mut self, namespace: &Arc<str>, change: Change) {
        self.sums.add(&change.kind);
        if self.few.len() < FEW || self.few.contains_key(namespace) {
            self.few.entry(namespace.clone()).or_default().add(&change.kind);
        } else {
            self.many = true;
        }
        if let ChangeKind::Mended { undone_by } = change.kind
            && self.mended.len() < FEW
        {
            self.mended.push(Mended { namespace: namespace.clone(), object: change.object, undone_by });
        }
    }

    fn tell(&self, credential: &Arc<str>) {
        for Mended { namespace, object, undone_by } in &self.mended {
            let object = Named(object);
            tracing::info!(%credential, %namespace, %object, undone_by, "drift was mended");
        }
        if self.many {
            return tell_sums(credential, &self.sums, "many namespaces were brought up to date");
        }
        if self.sums.mended > self.mended.len() as u64 {
            return tell_sums(credential, &self.sums, "many objects were brought up to date");
        }
        for (namespace, sums) in &self.few {
            tell_namespace(credential, namespace, sums);
        }
    }
}

/// The first line of a namespace has the numbers of its entries.
fn tell_namespace(credential: &Arc<str>, namespace: &Arc<str>, sums: &Sums) {
    let Sums { attached, detached, .. } = sums;
    let mut words = sums.words();
    if let Some(what) = words.next() {
        tracing::info!(%credential, %namespace, attached, detached, "{what}");
    }
    for what in words {
        tracing::info!(%credential, %namespace, "{what}");
    }
}

fn tell_sums(credential: &Arc<str>, sums: &Sums, what: &str) {
    let Sums { made, updated, mended, deleted, left, attached, detached } = sums;
    tracing::info!(
        %credential, made, updated, mended, deleted, left, attached, detached, "{what}"
    );
}

impl Sums {
    fn add(&mut self, kind: &ChangeKind) {
        *match kind {
            ChangeKind::Made => &mut self.made,
            ChangeKind::Updated => &mut self.updated,
            ChangeKind::Mended { .. } => &mut self.mended,
            ChangeKind::Deleted => &mut self.deleted,
            ChangeKind::Left => &mut self.left,
            ChangeKind::Attached => &mut self.attached,
            ChangeKind::Detached => &mut self.detached,
        } += 1;
    }

    /// What happened in one namespace. What was mended has lines of its own; entries are told for themselves only where
    /// no copy was written.
    fn words(&self) -> impl Iterator<Item = &'static str> {
        let of_copies = [
            (self.made, "a namespace is served"),
            (self.updated, "a copy was brought up to date"),
            (self.deleted, "a copy was deleted"),
            (self.left, "a copy was left, and is not managed any more"),
        ];
        let of_entries = [(self.attached, "entries were attached"), (self.detached, "entries were detached")];
        let happened = |(count, what)| (count > 0).then_some(what);
        let nothing_else = of_copies.iter().all(|(count, _)| *count == 0);
        let entries = of_entries.into_iter().find_map(happened).filter(|_| nothing_else);
        of_copies.into_iter().filter_map(happened).chain(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::logged;

    fn change(kind: ChangeKind) -> Change {
        Change { credential: Arc::from("pull"), object: Object::Secret(Arc::from("copy")), kind }
    }

    fn mended() -> Change {
        change(ChangeKind::Mended { undone_by: "the field manager kubectl-edit".to_owned() })
    }

    #[test]
    fn a_namespace_has_a_line_and_many_have_sums() {
        let credential = Arc::from("pull");
        let told = |namespaces: usize| {
            let journal = Journal::default();
            logged(|| {
                for number in 0..namespaces {
                    let namespace = Arc::from(format!("n{number}"));
                    journal.note(&namespace, change(ChangeKind::Made));
                    journal.note(&namespace, change(ChangeKind::Attached));
                }
                journal.tell(&credential);
                journal.tell(&credential);
            })
        };
        let few = told(2);
        assert_eq!(few.lines().count(), 2, "{few}");
        let line = "INFO a namespace is served credential=pull namespace=n1 attached=1 detached=0";
        assert!(few.lines().any(|told| told == line), "{few}");
        let many = told(1000);
        assert_eq!(many.lines().count(), 1, "{many}");
        assert!(many.contains("made=1000") && many.contains("attached=1000"), "{many}");
    }

    #[test]
    fn what_is_mended_beyond_a_few_objects_of_one_namespace_is_summed_up() {
        let journal = Journal::default();
        let told = logged(|| {
            for _ in 0..20 {
                journal.note(&Arc::from("shop"), mended());
            }
            journal.tell(&Arc::from("pull"));
        });
        assert_eq!(told.lines().count(), FEW + 1, "{told}");
        let sums = told.lines().find(|line| line.contains("mended=20"));
        assert!(sums.is_some_and(|line| line.starts_with("INFO many objects were")), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_whose_objects_go_back_and_forth_is_told_of_at_a_pace() {
        let journal = Journal::default();
        let mut lines = Vec::new();
        for second in 0..60 {
            let told = logged(|| {
                journal.note(&Arc::from("shop"), change(ChangeKind::Attached));
                journal.tell(&Arc::from("pull"));
            });
            lines.extend(told.lines().map(|line| (second, line.to_owned())));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(lines.len() <= 12, "{lines:#?}");
        assert!(lines[1].1.contains("attached=5"), "nothing is lost: {lines:#?}");
    }

    #[test]
    fn what_is_left_at_the_end_of_work_is_told_then_and_not_later() {
        let journal = Journal::default();
        let note = || journal.note(&Arc::from("shop"), change(ChangeKind::Made));
        let told = logged(|| {
            note();
            journal.tell(&Arc::from("pull"));
            note();
            journal.tell_rest();
            journal.tell_rest();
            journal.tell(&Arc::from("pull"));
        });
        assert_eq!(told.lines().count(), 2, "{told}");
    }

    #[test]
    fn each_thing_that_happened_in_a_namespace_is_told() {
        let journal = Journal::default();
        let told = logged(|| {
            for kind in [ChangeKind::Made, ChangeKind::Updated, ChangeKind::Attached, ChangeKind::Deleted] {
                journal.note(&Arc::from("shop"), change(kind));
            }
            journal.tell(&Arc::from("pull"));
        });
        let of = "credential=pull namespace=shop";
        let expected = [
            format!("INFO a namespace is served {of} attached=1 detached=0"),
            format!("INFO a copy was brought up to date {of}"),
            format!("INFO a copy was deleted {of}"),
        ];
        assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_mended_names_who_had_changed_it_and_a_storm_of_that_is_summed_up() {
        let credential = Arc::from("pull");
        let one = logged(|| {
            let journal = Journal::default();
            journal.note(&Arc::from("shop"), mended());
            journal.tell(&credential);
        });
        let line = "INFO drift was mended credential=pull namespace=shop object=Secret copy \
                    undone_by=\"the field manager kubectl-edit\"\n";
        assert_eq!(one, line);
        let storm = logged(|| {
            let journal = Journal::default();
            for number in 0..1000 {
                journal.note(&Arc::from(format!("n{number}")), mended());
            }
            journal.tell(&credential);
        });
        assert_eq!(storm.lines().count(), FEW + 1, "{storm}");
        assert!(storm.contains("mended=1000"), "{storm}");
    }
}
