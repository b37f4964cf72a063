//! What the log tells an admin of the work: one line for a namespace where few changed, and sums where many did. Each
//! RegistryCredential has its lines once the passes that it waits for are done.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use regcred_planner::{Change, ChangeKind, Object};

/// Of how many namespaces each is told for itself, and of how many objects that were mended.
const FEW: usize = 5;

/// What was changed for each RegistryCredential since its last line.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<HashMap<Arc<str>, Work>>);

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
        let mut journal = self.0.lock();
        let work = journal.entry(change.credential.clone()).or_default();
        work.sums.add(&change.kind);
        if work.few.len() < FEW || work.few.contains_key(namespace) {
            work.few.entry(namespace.clone()).or_default().add(&change.kind);
        } else {
            work.many = true;
        }
        if let ChangeKind::Mended { undone_by } = change.kind
            && work.mended.len() < FEW
        {
            work.mended.push(Mended { namespace: namespace.clone(), object: change.object, undone_by });
        }
    }

    /// Logs what was changed for a RegistryCredential.
    pub(crate) fn tell(&self, credential: &Arc<str>) {
        let Some(work) = self.0.lock().remove(credential) else { return };
        for Mended { namespace, object, undone_by } in &work.mended {
            let object = Named(object);
            tracing::info!(%credential, %namespace, %object, undone_by, "drift was mended");
        }
        if work.many {
            return tell_sums(credential, &work.sums);
        }
        for (namespace, sums) in &work.few {
            if let Some(what) = sums.words() {
                let Sums { attached, detached, .. } = sums;
                tracing::info!(%credential, %namespace, attached, detached, "{what}");
            }
        }
    }
}

fn tell_sums(credential: &Arc<str>, sums: &Sums) {
    let Sums { made, updated, mended, deleted, left, attached, detached } = sums;
    tracing::info!(
        %credential, made, updated, mended, deleted, left, attached, detached,
        "many namespaces were brought up to date"
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

    /// What happened in one namespace. What was mended has lines of its own.
    const fn words(&self) -> Option<&'static str> {
        match self {
            Self { made: 1.., .. } => Some("a namespace is served"),
            Self { updated: 1.., .. } => Some("a copy was brought up to date"),
            Self { deleted: 1.., .. } => Some("a copy was deleted"),
            Self { left: 1.., .. } => Some("a copy was left, and is not managed any more"),
            Self { attached: 1.., .. } => Some("entries were attached"),
            Self { detached: 1.., .. } => Some("entries were detached"),
            _ => None,
        }
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
        let journal = Journal::default();
        let credential = Arc::from("pull");
        let told = |namespaces: usize| {
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
    fn what_is_mended_names_who_had_changed_it_and_a_storm_of_that_is_summed_up() {
        let journal = Journal::default();
        let credential = Arc::from("pull");
        let one = logged(|| {
            journal.note(&Arc::from("shop"), mended());
            journal.tell(&credential);
        });
        let line = "INFO drift was mended credential=pull namespace=shop object=Secret copy \
                    undone_by=\"the field manager kubectl-edit\"\n";
        assert_eq!(one, line);
        let storm = logged(|| {
            for number in 0..1000 {
                journal.note(&Arc::from(format!("n{number}")), mended());
            }
            journal.tell(&credential);
        });
        assert_eq!(storm.lines().count(), FEW + 1, "{storm}");
        assert!(storm.contains("mended=1000"), "{storm}");
    }
}
