//! The desired Secret, and whether an observed one matches it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use regcred_api::{DeletionPolicy, names};
use regcred_dockerconfig::SecretBytes;

use crate::observed::{Secret, Uid};
use crate::validate::Validated;

/// The longest list of servers in an annotation, in bytes, and what follows one that is cut.
const LONGEST_LIST: usize = 1024;
const MORE: &str = "...";

/// The content of the desired Secret, rendered from its sources.
#[derive(Clone, PartialEq)]
pub struct Payload {
    /// The value of `.dockerconfigjson`.
    pub content: SecretBytes,
    /// Keyed digest of `content`, 32 hexadecimal digits. Equal digests: equal content.
    pub fingerprint: String,
    /// The servers it has an entry for, sorted.
    pub servers: Arc<[String]>,
    /// When the first credential in it expires, where that is known.
    pub expires_at: Option<Timestamp>,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} for {})", self.fingerprint, self.servers.join(","))
    }
}

/// The desired Secret: the same in every selected namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretCopy {
    /// Its name.
    pub name: Arc<str>,
    /// UID of its RegistryCredential.
    pub credential_uid: Uid,
    /// Name of its RegistryCredential.
    pub credential_name: Arc<str>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// All annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether an ownerReference lets garbage collection remove it after the RegistryCredential.
    pub owned: bool,
    /// Its content.
    pub payload: Payload,
}

impl Payload {
    /// Uses the memory of another payload for what both hold: one source may fill many.
    #[must_use]
    pub fn sharing(self, other: &Self) -> Self {
        if self.content != other.content || self.servers != other.servers {
            return self;
        }
        Self { content: other.content.clone(), servers: other.servers.clone(), ..self }
    }
}

impl SecretCopy {
    /// The copy for a credential of this name and UID. The fingerprint among its annotations is how a
    /// change of content is seen without reading Secrets.
    pub fn new(credential_name: &Arc<str>, credential_uid: &Uid, spec: &Validated, payload: Payload) -> Self {
        Self {
            name: spec.target_name.clone(),
            credential_uid: credential_uid.clone(),
            credential_name: credential_name.clone(),
            labels: labels(credential_name, spec),
            annotations: annotations(credential_uid, spec, &payload),
            owned: spec.deletion_policy == DeletionPolicy::Delete,
            payload,
        }
    }

    /// The same under a former target name, which is superseded since then.
    #[must_use]
    pub fn under_former_name(&self, name: &Arc<str>, superseded_at: Option<Timestamp>) -> Self {
        let mut copy = Self { name: name.clone(), ..self.clone() };
        if let Some(at) = superseded_at {
            copy.annotations.insert(names::SUPERSEDED_AT_ANNOTATION.to_owned(), at.to_string());
        }
        copy
    }

    /// Whether this Secret has no drift: our labels, annotations, owner and data are as we wrote them.
    pub fn matches(&self, secret: &Secret) -> bool {
        self.matches_but_for(secret, &[])
    }

    /// Whether a merge patch of the content makes this Secret the copy: nothing but data and the annotations that tell of it
    /// differs, and those are ours. A patch does not make a field ours that has the right value already; an apply does.
    pub fn differs_in_content(&self, secret: &Secret) -> bool {
        let is_ours = |key: &&str| {
            let marks = secret.marks.as_ref();
            !self.annotations.contains_key(*key)
                || marks.is_some_and(|own| own.annotations.contains_key(*key))
        };
        let content = &names::CONTENT_ANNOTATIONS;
        content.iter().all(is_ours) && self.matches_but_for(secret, content)
    }

    fn matches_but_for(&self, secret: &Secret, ignored: &[&str]) -> bool {
        let owner = self.owned.then_some(&self.credential_uid);
        secret.owns_data
            && !secret.immutable
            && secret.marks.as_ref().is_some_and(|marks| {
                !marks.owns_more
                    && marks.labels == self.labels
                    && without(&marks.annotations, ignored).eq(without(&self.annotations, ignored))
                    && marks.owner_uid.as_ref() == owner
            })
    }
}

fn without<'a>(
    annotations: &'a BTreeMap<String, String>,
    ignored: &[&str],
) -> impl Iterator<Item = (&'a String, &'a String)> {
    annotations.iter().filter(|(key, _)| !ignored.contains(&key.as_str()))
}

fn labels(credential_name: &str, spec: &Validated) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    labels.insert(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned());
    labels.insert(names::CREDENTIAL_LABEL.to_owned(), credential_name.to_owned());
    labels
}

fn annotations(credential_uid: &str, spec: &Validated, payload: &Payload) -> BTreeMap<String, String> {
    let mut annotations = spec.annotations.clone();
    annotations.insert(names::CREDENTIAL_UID_ANNOTATION.to_owned(), credential_uid.to_owned());
    annotations.insert(names::SERVERS_ANNOTATION.to_owned(), listed(&payload.servers));
    annotations.insert(names::FINGERPRINT_ANNOTATION.to_owned(), payload.fingerprint.clone());
    if let Some(expires_at) = payload.expires_at {
        annotations.insert(names::EXPIRES_AT_ANNOTATION.to_owned(), expires_at.to_string());
    }
    annotations
}

/// The first servers, and a sign that there are more: annotations are limited in size, and for people to read.
fn listed(servers: &[String]) -> String {
    let whole = servers.join(",");
    if whole.len() <= LONGEST_LIST {
        return whole;
    }
    let mut text = String::new();
    for server in servers {
        if text.len() + server.len() + MORE.len() >= LONGEST_LIST {
            break;
        }
        text += server;
        text += ",";
    }
    text + MORE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_servers_is_cut_at_a_server() {
        let servers: Vec<_> = (100..900).map(|number| format!("r{number}.example.com")).collect();
        assert_eq!(listed(&servers[..2]), "r100.example.com,r101.example.com");
        let text = listed(&servers);
        assert!(text.len() <= LONGEST_LIST && text.starts_with("r100.example.com,r101"), "{text}");
        assert!(text.ends_with(".example.com,..."), "{text}");
    }

    #[test]
    fn payloads_of_one_source_are_held_once() {
        let payload = |content: &str| Payload {
            content: SecretBytes::from(content.as_bytes().to_vec()),
            fingerprint: String::new(),
            servers: [content.to_owned()].into(),
            expires_at: None,
        };
        let first = payload("a");
        let [second, other] = ["a", "b"].map(|content| payload(content).sharing(&first));
        assert!(std::ptr::eq(first.content.expose(), second.content.expose()));
        assert!(Arc::ptr_eq(&first.servers, &second.servers));
        assert_eq!(other.content.expose(), b"b");
    }
}
