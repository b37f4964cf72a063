//! The last report of every namespace, and their sums for each credential, kept up to date.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use regcred_api::{NamespaceCounts, Reason, ServiceAccountCounts};

use crate::observed::Uid;
use crate::outcome::{Fault, PairReport, State};
use crate::step::{Object, Role};

/// The last report of each namespace, and the sums over them.
#[derive(Debug, Default)]
pub struct Ledger {
    by_namespace: HashMap<Arc<str>, Vec<PairReport>>,
    tallies: HashMap<Uid, Tally>,
    contested: Contested,
}

/// How many objects others keep changing back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Contested {
    /// Secrets.
    pub secrets: usize,
    /// ServiceAccounts.
    pub service_accounts: usize,
}

/// The sums for one credential.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Namespaces.
    pub namespaces: NamespaceCounts,
    /// ServiceAccounts.
    pub service_accounts: ServiceAccountCounts,
    /// Namespaces where the credential still has something to be removed.
    pub departing: BTreeSet<Arc<str>>,
    /// Former target names, and in how many namespaces the copy under each stays for now.
    pub kept: BTreeMap<Arc<str>, usize>,
    /// What is not in place: namespace and object, in order.
    pub failures: BTreeMap<(Arc<str>, Object), Fault>,
}

impl Ledger {
    /// Replaces the last report of a namespace. Returns the credentials whose sums changed.
    pub fn replace(&mut self, namespace: &Arc<str>, mut reports: Vec<PairReport>) -> Vec<Uid> {
        let old = self.by_namespace.remove(namespace).unwrap_or_default();
        keep_since(&old, &mut reports);
        if old == reports {
            if !old.is_empty() {
                self.by_namespace.insert(namespace.clone(), old);
            }
            return Vec::new();
        }
        let mut changed: Vec<Uid> = old.iter().chain(&reports).map(|r| r.credential.clone()).collect();
        changed.sort();
        changed.dedup();
        for report in &old {
            self.tally_mut(&report.credential).subtract(namespace, report);
            self.contested.subtract(report);
        }
        for report in &reports {
            self.tally_mut(&report.credential).add(namespace, report);
            self.contested.add(report);
        }
        if !reports.is_empty() {
            // One credential is common, and a vector begins with room for four.
            reports.shrink_to_fit();
            self.by_namespace.insert(namespace.clone(), reports);
        }
        changed
    }

    /// The sums for a credential.
    pub fn tally(&self, credential: &str) -> Tally {
        self.tallies.get(credential).cloned().unwrap_or_default()
    }

    /// Whether a credential had its copy under this target name in a namespace, as the last report says.
    pub fn had_copy(&self, namespace: &str, credential: &str, target: &str) -> bool {
        let reports = self.by_namespace.get(namespace).into_iter().flatten();
        let own = |report: &&PairReport| {
            &*report.credential == credential && &*report.target == target && report.role == Role::Wanted
        };
        reports.filter(own).any(|report| report.secret == State::Synced)
    }

    /// Forgets the sums of a credential that no longer exists.
    pub fn forget(&mut self, credential: &str) {
        self.tallies.remove(credential);
        for reports in self.by_namespace.values_mut() {
            for report in reports.extract_if(.., |report| &*report.credential == credential) {
                self.contested.subtract(&report);
            }
        }
    }

    /// How many objects others keep changing back, over all credentials.
    pub fn contested(&self) -> Contested {
        self.contested
    }

    fn tally_mut(&mut self, credential: &Uid) -> &mut Tally {
        self.tallies.entry(credential.clone()).or_default()
    }
}

impl Contested {
    fn add(&mut self, report: &PairReport) {
        let Self { secrets, service_accounts } = Self::of(report);
        self.secrets += secrets;
        self.service_accounts += service_accounts;
    }

    fn subtract(&mut self, report: &PairReport) {
        let Self { secrets, service_accounts } = Self::of(report);
        self.secrets -= secrets;
        self.service_accounts -= service_accounts;
    }

    fn of(report: &PairReport) -> Self {
        let contested = report.failures.iter().filter(|(_, fault)| fault.reason == Reason::Contested);
        let (secrets, accounts): (Vec<_>, Vec<_>) = contested.partition(|(object, _)| object.is_secret());
        Self { secrets: secrets.len(), service_accounts: accounts.len() }
    }
}

impl Tally {
    fn add(&mut self, namespace: &Arc<str>, report: &PairReport) {
        match report.role {
            Role::Wanted => {
                self.namespaces.matched += 1;
                self.namespaces.synced += usize::from(report.secret == State::Synced);
                self.namespaces.failed += usize::from(report.secret == State::Failed);
            }
            Role::Departing => {
                self.departing.insert(namespace.clone());
            }
            Role::Mistaken => {}
        }
        self.service_accounts.matched += report.accounts.matched;
        self.service_accounts.attached += report.accounts.attached;
        self.service_accounts.failed += report.accounts.failed;
        self.service_accounts.contested += report.accounts.contested;
        for (object, fault) in &report.failures {
            self.failures.insert((namespace.clone(), object.clone()), fault.clone());
        }
        if report.kept {
            *self.kept.entry(report.target.clone()).or_default() += 1;
        }
    }

    fn subtract(&mut self, namespace: &Arc<str>, report: &PairReport) {
        match report.role {
            Role::Wanted => {
                self.namespaces.matched -= 1;
                self.namespaces.synced -= usize::from(report.secret == State::Synced);
                self.namespaces.failed -= usize::from(report.secret == State::Failed);
            }
            Role::Departing => {
                self.departing.remove(namespace);
            }
            Role::Mistaken => {}
        }
        self.service_accounts.matched -= report.accounts.matched;
        self.service_accounts.attached -= report.accounts.attached;
        self.service_accounts.failed -= report.accounts.failed;
        self.service_accounts.contested -= report.accounts.contested;
        for (object, _) in &report.failures {
            self.failures.remove(&(namespace.clone(), object.clone()));
        }
        if report.kept
            && let Some(count) = self.kept.get_mut(&report.target)
        {
            *count -= 1;
            self.kept.retain(|_, count| *count > 0);
        }
    }
}

/// The same fault as before began when it began before.
fn keep_since(old: &[PairReport], new: &mut [PairReport]) {
    for report in new {
        let own = old.iter().filter(|before| before.credential == report.credential);
        let earlier: Vec<_> = own.flat_map(|before| &before.failures).collect();
        for (object, fault) in &mut report.failures {
            let same = earlier.iter().find(|(o, f)| o == object && f.reason == fault.reason);
            if let Some((_, earlier)) = same {
                fault.since = earlier.since;
            }
        }
    }
}
