//! A ServiceAccount, as it is received; the planner's type is what is kept of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use regcred_api::names;
use regcred_planner::{MAX_ENTRIES, ServiceAccount};
use serde::Deserialize;

use super::common::{LONGEST_NAME, body, labels, last_other_writer, short};
use crate::interest::Interest;
use crate::intern::Interner;
use crate::metadata::Metadata;
use crate::received::Body;

/// How many names of an annotation count that are not on the list.
const MAX_MARKED: usize = 64;

/// A ServiceAccount as it is received.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountBody {
    metadata: Metadata,
    image_pull_secrets: Option<Vec<Reference>>,
}

/// An entry of `imagePullSecrets`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Reference {
    name: String,
}

impl ServiceAccountBody {
    /// Whether the list has this name, as an entry of ours.
    pub fn keeps(&self, name: &str) -> bool {
        self.image_pull_secrets.iter().flatten().any(|entry| entry.name == name)
            && attached(&self.metadata).any(|own| own == name)
    }
}

body!(ServiceAccountBody, core::ServiceAccount, metadata_only: false);

pub(crate) fn service_account(
    body: &ServiceAccountBody,
    kept: &Interest,
    interner: &mut Interner,
) -> ServiceAccount {
    let metadata = &body.metadata;
    let list = Entries::read(metadata, body.image_pull_secrets.as_deref().unwrap_or_default());
    let mut shared = |names: Vec<&str>| names.into_iter().map(|name| interner.string(name)).collect();
    ServiceAccount {
        image_pull_secrets: shared(list.names),
        marked: shared(list.marked),
        oversized: list.oversized,
        uid: Arc::from(metadata.uid.as_str()),
        resource_version: Arc::from(metadata.resource_version.as_str()),
        excluded: metadata.is_excluded(),
        terminating: metadata.is_being_deleted(),
        list_manager: short(list_manager(metadata)).map(|manager| interner.string(&manager)),
        labels: labels(metadata, kept, interner),
    }
}

/// The names in the annotation that says which entries are ours.
fn attached(metadata: &Metadata) -> impl Iterator<Item = &str> {
    let text = metadata.annotation(names::ATTACHED_ANNOTATION).unwrap_or_default();
    text.split(',').map(str::trim).filter(|name| (1..=LONGEST_NAME).contains(&name.len()))
}

/// What counts of a list and of the annotation about it, whoever wrote them.
struct Entries<'a> {
    names: Vec<&'a str>,
    marked: Vec<&'a str>,
    oversized: bool,
}

impl<'a> Entries<'a> {
    /// Of a list that is not written anyway, only the names that the annotation has, too: they are in place. Of marked
    /// names that are not on the list only the first few count.
    fn read(metadata: &'a Metadata, list: &'a [Reference]) -> Self {
        let names = || list.iter().map(|entry| entry.name.as_str());
        let oversized = list.len() > MAX_ENTRIES || names().any(|name| name.len() > LONGEST_NAME);
        let on_list: BTreeSet<&str> = names().collect();
        let (listed, others): (BTreeSet<&str>, BTreeSet<&str>) =
            attached(metadata).partition(|name| on_list.contains(name));
        if oversized {
            let names = listed.into_iter().take(MAX_ENTRIES).collect();
            return Self { names, marked: Vec::new(), oversized };
        }
        let marked: BTreeSet<&str> = others.into_iter().take(MAX_MARKED).chain(listed).collect();
        Self { names: names().collect(), marked: marked.into_iter().collect(), oversized }
    }
}

/// The manager that last wrote `imagePullSecrets`: an atomic list has one owner.
fn list_manager(metadata: &Metadata) -> Option<&str> {
    last_other_writer(metadata, |fields| fields.image_pull_secrets.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decode::fixtures::{interests, managed, read};

    fn account(metadata: &Value, list: &Value) -> ServiceAccount {
        let object = json!({"metadata": metadata, "imagePullSecrets": list});
        service_account(&read(&object), &interests().service_accounts, &mut Interner::default())
    }

    #[test]
    fn of_labels_only_those_are_kept_that_a_selector_names() {
        let many: serde_json::Map<_, _> = (0..30_000)
            .map(|number| (format!("l{number}"), json!("x")))
            .chain([("pull".into(), json!("yes"))])
            .collect();
        let account = account(&json!({"name": "default", "labels": many}), &json!([]));
        assert_eq!(account.labels.iter().collect::<Vec<_>>(), [(&"pull".to_owned(), &"yes".to_owned())]);
    }

    #[test]
    fn a_list_is_read_as_it_is_with_its_repeats() {
        let names = |list: Value| account(&json!({"name": "default"}), &list).image_pull_secrets;
        assert_eq!(
            names(json!([{"name": "b"}, {"name": "a"}, {"name": "b"}, {}])),
            ["b", "a", "b", ""].map(Arc::from)
        );
        assert!(names(Value::Null).is_empty());
    }

    #[test]
    fn marks_of_entries_are_read_however_they_are_written_and_not_without_end() {
        let marked = |text: &str| {
            let metadata = json!({"name": "default", "annotations": {"regcred.dev/attached": text}});
            account(&metadata, &json!([])).marked
        };
        assert_eq!(marked("b,a"), ["a", "b"].map(Arc::from));
        assert_eq!(marked(" b ,, b,"), ["b"].map(Arc::from));
        assert!(marked("").is_empty() && marked(&"x".repeat(254)).is_empty());
        let many: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
        assert_eq!(marked(&many.join(",")).len(), 64);
        let metadata = json!({"name": "default", "annotations": {"regcred.dev/attached": many.join(",")}});
        let list: Vec<_> = many[9_000..9_050].iter().map(|name| json!({"name": name})).collect();
        assert_eq!(account(&metadata, &json!(list)).marked.len(), 114, "what is on the list is known anyway");
    }

    #[test]
    fn of_a_list_that_is_never_written_only_our_own_entries_are_kept() {
        let metadata = json!({"name": "default", "annotations": {"regcred.dev/attached": "pull,former"}});
        let named = |names: &[String]| {
            let list: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
            account(&metadata, &json!(list))
        };
        let mut names: Vec<_> = (0..63).map(|number| format!("n{number}")).collect();
        names.push("pull".to_owned());
        let full = named(&names);
        assert!(!full.oversized && full.image_pull_secrets.len() == 64 && full.marks("former"));
        let longer = [names.clone(), vec!["n64".to_owned()]].concat();
        names[0] = "x".repeat(254);
        for names in [longer, names] {
            let account = named(&names);
            assert!(account.oversized && account.marked.is_empty(), "{names:?}");
            assert_eq!(account.image_pull_secrets, [Arc::from("pull")]);
        }
    }

    #[test]
    fn the_writer_of_a_list_is_its_owner_or_else_the_last_other_writer() {
        let list = json!({"f:imagePullSecrets": {}});
        let manager = |managed_fields: &[Value]| {
            account(&json!({"name": "default", "managedFields": managed_fields}), &json!([])).list_manager
        };
        let helm = managed("helm", "Update", "2026-01-01T00:00:00Z", &list);
        let later = managed("kubectl", "Update", "2026-01-02T00:00:00Z", &json!({"f:metadata": {}}));
        let ours = managed("regcred", "Update", "9999-12-31T23:59:59Z", &json!({}));
        assert_eq!(manager(&[helm, later.clone(), ours.clone()]).as_deref(), Some("helm"));
        assert_eq!(manager(&[later, ours]).as_deref(), Some("kubectl"));
        assert_eq!(manager(&[]), None);
    }
}
