//! What RegistryCredentials ask of other objects: which labels decide, which source Secrets they name, what they put on
//! copies. Nothing else is kept of those objects, because others decide how much else there is.

use std::collections::BTreeSet;
use std::sync::Arc;

use regcred_api::names;
use regcred_planner::{Credential, NamespaceFilter};

/// Labels and annotations of our own on a copy.
const OWN_LABELS: [&str; 2] = [names::MANAGED_BY_LABEL, names::CREDENTIAL_LABEL];
const OWN_ANNOTATIONS: [&str; 5] = [
    names::CREDENTIAL_UID_ANNOTATION,
    names::SERVERS_ANNOTATION,
    names::FINGERPRINT_ANNOTATION,
    names::EXPIRES_AT_ANNOTATION,
    names::SUPERSEDED_AT_ANNOTATION,
];

/// Names, as of labels or of Secrets.
pub(crate) type Names = BTreeSet<Arc<str>>;

/// What one RegistryCredential asks for, or all of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Asked {
    /// Keys of labels on namespaces.
    pub(crate) namespace_labels: Names,
    /// Keys of labels on ServiceAccounts.
    pub(crate) account_labels: Names,
    /// Names of Secrets of the source namespace.
    pub(crate) sources: Names,
    /// Keys of labels on copies.
    pub(crate) copy_labels: Names,
    /// Keys of annotations on copies.
    pub(crate) copy_annotations: Names,
}

/// What is kept of the objects of one watch. A name that is new to it asks for a list: what was dropped of the objects
/// received before does not come again by itself.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    asked: Names,
    /// What was asked for when the list in progress began.
    listing: Option<Names>,
    /// What is known of every object, since a whole list; `None` before the first.
    known: Option<Names>,
}

/// What is kept of all watches.
#[derive(Debug, Default)]
pub(crate) struct Interests {
    /// Labels of namespaces.
    pub(crate) namespaces: Interest,
    /// Labels of ServiceAccounts.
    pub(crate) service_accounts: Interest,
    /// Source Secrets.
    pub(crate) sources: Interest,
    /// What copies carry. One that carries more of ours is written anyway, so no list is needed for a new key.
    pub(crate) copies: CopyKeys,
}

/// The keys of labels and annotations of copies that are kept besides our own.
#[derive(Debug, Default)]
pub(crate) struct CopyKeys {
    labels: Names,
    annotations: Names,
}

impl Asked {
    /// What a RegistryCredential asks for. Of one that is being deleted, it must be known which namespaces it selects: there
    /// a copy goes also where somebody took marks off it.
    pub(crate) fn by(credential: &Credential) -> Self {
        let scope = credential.scope.namespaces.as_ref();
        let namespace_labels = names(scope.into_iter().flat_map(NamespaceFilter::label_keys));
        if credential.deleting {
            return Self { namespace_labels, ..Self::default() };
        }
        let spec = credential.spec.as_ref().ok();
        Self {
            namespace_labels,
            account_labels: names(spec.into_iter().flat_map(|spec| spec.service_accounts.label_keys())),
            sources: names(spec.into_iter().flat_map(|spec| spec.source_secrets())),
            copy_labels: names(spec.into_iter().flat_map(|spec| spec.labels.keys().map(String::as_str))),
            copy_annotations: names(
                spec.into_iter().flat_map(|spec| spec.annotations.keys().map(String::as_str)),
            ),
        }
    }

    /// Adds what another one asks for.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { namespace_labels, account_labels, sources, copy_labels, copy_annotations } = other;
        self.namespace_labels.extend(namespace_labels.iter().cloned());
        self.account_labels.extend(account_labels.iter().cloned());
        self.sources.extend(sources.iter().cloned());
        self.copy_labels.extend(copy_labels.iter().cloned());
        self.copy_annotations.extend(copy_annotations.iter().cloned());
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> Names {
    names.map(Arc::from).collect()
}

impl Interests {
    /// Adds what one RegistryCredential asks for.
    pub(crate) fn add(&mut self, asked: &Asked) {
        self.namespaces.add(&asked.namespace_labels);
        self.service_accounts.add(&asked.account_labels);
        self.sources.add(&asked.sources);
        self.copies.labels.extend(asked.copy_labels.iter().cloned());
        self.copies.annotations.extend(asked.copy_annotations.iter().cloned());
    }

    /// Sets what is asked for by all RegistryCredentials.
    pub(crate) fn ask(&mut self, asked: Asked) {
        let Asked { namespace_labels, account_labels, sources, copy_labels, copy_annotations } = asked;
        self.namespaces.ask(namespace_labels);
        self.service_accounts.ask(account_labels);
        self.sources.ask(sources);
        self.copies = CopyKeys { labels: copy_labels, annotations: copy_annotations };
    }

    /// Whether all that a RegistryCredential asks for is known.
    pub(crate) fn know(&self, asked: &Asked) -> bool {
        self.namespaces.knows(&asked.namespace_labels)
            && self.service_accounts.knows(&asked.account_labels)
            && self.sources.knows(&asked.sources)
    }

    pub(crate) fn are_met(&self) -> bool {
        self.namespaces.is_met() && self.service_accounts.is_met() && self.sources.is_met()
    }
}

impl CopyKeys {
    pub(crate) fn keep_label(&self, key: &str) -> bool {
        OWN_LABELS.contains(&key) || self.labels.contains(key)
    }

    pub(crate) fn keep_annotation(&self, key: &str) -> bool {
        OWN_ANNOTATIONS.contains(&key) || self.annotations.contains(key)
    }
}

impl Interest {
    /// Sets what is asked for. What nobody asks for is not kept any more, and so is not known.
    pub(crate) fn ask(&mut self, asked: Names) {
        for known in [&mut self.listing, &mut self.known].into_iter().flatten() {
            known.retain(|name| asked.contains(name));
        }
        self.asked = asked;
    }

    fn add(&mut self, asked: &Names) {
        self.asked.extend(asked.iter().cloned());
    }

    /// Whether this is to be kept.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        self.asked.contains(name)
    }

    pub(crate) fn list_begins(&mut self) {
        self.listing = Some(self.asked.clone());
    }

    pub(crate) fn list_ends(&mut self) {
        self.known = Some(self.listing.take().unwrap_or_default());
    }

    /// Whether all these names are known of every object; anything is good enough before the first list, as nothing is
    /// planned then.
    pub(crate) fn knows(&self, names: &Names) -> bool {
        self.known.as_ref().is_none_or(|known| names.is_subset(known))
    }

    /// Whether everything that is asked for is known of every object.
    pub(crate) fn is_met(&self) -> bool {
        self.knows(&self.asked)
    }

    /// Whether a list must be asked for: something is missing, and none is in progress.
    pub(crate) fn needs_list(&self) -> bool {
        self.listing.is_none() && !self.is_met()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(names: &[&str]) -> Names {
        names.iter().copied().map(Arc::from).collect()
    }

    fn listed(asked: &[&str]) -> Interest {
        let mut interest = Interest::default();
        interest.ask(some(asked));
        interest.list_begins();
        interest.list_ends();
        interest
    }

    #[test]
    fn nothing_asks_for_a_list_before_the_first() {
        let mut interest = Interest::default();
        interest.ask(some(&["team"]));
        assert!(interest.knows(&some(&["team"])) && !interest.needs_list());
        interest.list_begins();
        interest.ask(some(&["team", "late"]));
        assert!(!interest.needs_list(), "while a list is in progress");
        interest.list_ends();
        assert!(interest.needs_list() && !interest.is_met(), "which began before it was asked for");
    }

    #[test]
    fn a_new_name_is_known_after_a_list_that_began_since() {
        let mut interest = listed(&["team"]);
        assert!(interest.is_met());
        interest.ask(some(&["team", "tier"]));
        assert!(interest.keeps("tier") && interest.needs_list());
        assert!(interest.knows(&some(&["team"])) && !interest.knows(&some(&["tier"])));
        interest.list_begins();
        assert!(!interest.needs_list() && !interest.is_met());
        interest.list_ends();
        assert!(interest.is_met() && interest.knows(&some(&["tier"])));
    }

    #[test]
    fn what_nobody_asked_for_meanwhile_is_not_known_any_more() {
        let mut interest = listed(&["team"]);
        interest.ask(some(&[]));
        assert!(interest.is_met() && !interest.keeps("team"));
        interest.ask(some(&["team"]));
        assert!(interest.needs_list());
        interest.list_begins();
        interest.ask(some(&[]));
        interest.ask(some(&["team"]));
        interest.list_ends();
        assert!(interest.needs_list(), "objects came meanwhile of which it was not kept");
    }
}
