//! A namespace as an API server keeps it: versions that must match, UIDs that change, an owner for each field.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regcred_api::{DeletionPolicy, RegistryCredentialSpec, names};
use regcred_planner::{
    Credential, Marks, Memory, Namespace, Precondition, Secret, SecretCopy, ServiceAccount, Step, StepError,
    Trust, World,
};

use crate::fixture;

/// The namespace, everything in it, and the RegistryCredentials of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) labelled: bool,
    pub(crate) secrets: BTreeMap<Arc<str>, StoredSecret>,
    pub(crate) accounts: BTreeMap<Arc<str>, StoredAccount>,
    pub(crate) credentials: Vec<StoredCredential>,
    /// Whether an admission policy refuses to let Secrets of others be taken over.
    pub(crate) caged: bool,
    pub(crate) version: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct StoredSecret {
    pub(crate) uid: u64,
    pub(crate) version: u64,
    pub(crate) content: String,
    pub(crate) wrong_type: bool,
    pub(crate) immutable: bool,
    pub(crate) owns_data: bool,
    pub(crate) marks: Option<Marks>,
    /// UID of the credential as whose copy it was observed.
    pub(crate) copy_of: Option<Arc<str>>,
    pub(crate) trust: Trust,
}

#[derive(Clone, Debug)]
pub(crate) struct StoredAccount {
    pub(crate) uid: u64,
    pub(crate) version: u64,
    pub(crate) excluded: bool,
    pub(crate) list: Vec<Arc<str>>,
    pub(crate) marked: BTreeSet<Arc<str>>,
}

#[derive(Clone, Debug)]
pub(crate) struct StoredCredential {
    pub(crate) name: String,
    pub(crate) age: i64,
    pub(crate) spec: RegistryCredentialSpec,
    pub(crate) content: Option<String>,
    pub(crate) deleting: bool,
    pub(crate) finalized: bool,
}

/// Entries that are no target name, in their order, and all that we did not put there.
type TheirEntries = (Vec<String>, BTreeSet<Arc<str>>);

/// What others do.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    DeleteSecret(usize),
    EditData(usize),
    TakeLabel(usize),
    TakeAnnotation(usize),
    Forge(usize),
    Freeze(usize),
    CreateForeign { target: usize, wrong_type: bool },
    AddEntry { account: usize, entry: usize },
    TakeMark(usize),
    EditUid(usize),
    Restore(usize),
    Rename(usize),
    SpoilSpec(usize),
    OptOut(usize),
    DeleteAccount(usize),
    CreateAccount(usize),
    FlipLabel,
    Rotate(usize),
    LoseSource(usize),
    DeleteCredential(usize),
    Suspend(usize),
    Finalize(usize),
}

pub(crate) const TARGETS: [&str; 2] = ["t0", "t1"];
pub(crate) const ACCOUNTS: [&str; 3] = ["builder", "default", "deployer"];
pub(crate) const ENTRIES: [&str; 3] = ["own-a", "own-b", "own-c"];

impl Cluster {
    fn next(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// What the operator sees.
    pub(crate) fn observe(&self, memory: Memory) -> World {
        let labels = if self.labelled {
            BTreeMap::from([("pull".to_owned(), "yes".to_owned())])
        } else {
            BTreeMap::new()
        };
        World {
            namespace: Namespace { labels: Arc::new(labels), ..fixture::namespace("ns") },
            secrets: self.secrets.iter().map(|(name, secret)| (name.clone(), secret.observe())).collect(),
            service_accounts: self
                .accounts
                .iter()
                .map(|(name, account)| (name.clone(), account.observe()))
                .collect(),
            credentials: self.credentials.iter().map(|credential| Arc::new(credential.observe())).collect(),
            memory,
        }
    }

    /// Takes a step as an API server would.
    pub(crate) fn take(&mut self, step: &Step) -> Result<(), StepError> {
        let version = self.next();
        match step {
            Step::PatchServiceAccount(patch) => {
                let account = self.accounts.get_mut(&patch.name).ok_or(StepError::Gone)?;
                if account.version.to_string() != *patch.resource_version {
                    return Err(StepError::Conflict);
                }
                (account.list, account.version) = (patch.list.clone(), version);
                account.marked.clone_from(&patch.marked);
            }
            Step::ApplySecret { copy, over } => self.apply(copy, over.as_ref(), version)?,
            Step::RotateSecret { copy, over } => self.rotate(copy, over, version)?,
            Step::VerifySecret { copy, over } => return self.verify(copy, over, version),
            Step::RecreateSecret { copy, over } => {
                self.delete(&copy.name, over)?;
                self.apply(copy, None, version)?;
            }
            Step::DeleteSecret(removal) => self.delete(&removal.name, &removal.over)?,
            Step::ReleaseSecret(removal) => {
                let secret = self.secrets.get_mut(&removal.name).ok_or(StepError::Gone)?;
                secret.meets(&removal.over)?;
                let name = secret.marks.take().and_then(|marks| marks.credential_name);
                secret.marks = Some(Marks { retained_from: name, ..Marks::default() });
                (secret.owns_data, secret.version) = (false, version);
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        copy: &SecretCopy,
        over: Option<&Precondition>,
        version: u64,
    ) -> Result<(), StepError> {
        let name = copy.name.clone();
        let uid = match (self.secrets.get(&name), over) {
            (Some(secret), _) if secret.wrong_type => return Err(StepError::TypeMismatch),
            (Some(_), None) => return Err(StepError::NameConflict),
            (None, Some(_)) => return Err(StepError::Conflict),
            (Some(secret), Some(_)) if self.caged && secret.marks.is_none() => {
                return Err(StepError::AdoptNotAllowed);
            }
            (Some(secret), Some(over)) => {
                secret.meets(over)?;
                if secret.immutable {
                    return Err(StepError::Immutable);
                }
                secret.uid
            }
            (None, None) => version,
        };
        let marks = Marks {
            credential_uid: Some(copy.credential_uid.clone()),
            credential_name: Some(copy.credential_name.clone()),
            labels: copy.labels.clone(),
            annotations: copy.annotations.clone(),
            owner_uid: copy.owned.then(|| copy.credential_uid.clone()),
            owns_more: false,
            retained_from: None,
        };
        let content = String::from_utf8(copy.payload.content.expose().to_vec()).unwrap();
        let secret = StoredSecret {
            uid,
            version,
            content,
            wrong_type: false,
            immutable: false,
            owns_data: true,
            copy_of: marks.credential_uid.clone(),
            marks: Some(marks),
            trust: Trust::Confirmed,
        };
        self.secrets.insert(name, secret);
        Ok(())
    }

    /// Writes data and the annotations that tell of it, and leaves everything else as it is.
    fn rotate(&mut self, copy: &SecretCopy, over: &Precondition, version: u64) -> Result<(), StepError> {
        let secret = self.secrets.get_mut(&copy.name).ok_or(StepError::Gone)?;
        secret.meets(over)?;
        if secret.immutable {
            return Err(StepError::Immutable);
        }
        secret.content = String::from_utf8(copy.payload.content.expose().to_vec()).unwrap();
        let marks = secret.marks.get_or_insert_default();
        let is_content = |key: &str| names::CONTENT_ANNOTATIONS.contains(&key);
        marks.annotations.retain(|key, _| !is_content(key) || copy.annotations.contains_key(key));
        // One that is not ours may have the right value already, which a patch leaves as it is.
        for (key, value) in marks.annotations.iter_mut().filter(|(key, _)| is_content(key)) {
            value.clone_from(&copy.annotations[key]);
        }
        (secret.version, secret.owns_data, secret.trust) = (version, true, Trust::Confirmed);
        Ok(())
    }

    /// Writes nothing where the content is right.
    fn verify(&mut self, copy: &SecretCopy, over: &Precondition, version: u64) -> Result<(), StepError> {
        let secret = self.secrets.get_mut(&copy.name).ok_or(StepError::Gone)?;
        secret.meets(over)?;
        if secret.content.as_bytes() == copy.payload.content.expose() {
            secret.trust = Trust::Confirmed;
            return Ok(());
        }
        self.rotate(copy, over, version)?;
        Err(StepError::Undone)
    }

    fn delete(&mut self, name: &str, over: &Precondition) -> Result<(), StepError> {
        self.secrets.get(name).ok_or(StepError::Gone)?.meets(over)?;
        self.secrets.remove(name);
        Ok(())
    }

    /// Others do something. What does not apply here does nothing.
    pub(crate) fn change(&mut self, change: &Change) {
        let version = self.next();
        self.change_secret(change, version);
        self.change_account(change, version);
        match change {
            Change::Rename(at) => self.edit_credential(*at, |c| {
                let renamed = TARGETS[usize::from(c.target() == TARGETS[0])];
                c.spec.target.name = Some(renamed.to_owned());
            }),
            Change::SpoilSpec(at) => self.edit_credential(*at, |c| {
                let valid = c.spec.refresh_interval != "1s";
                if valid { "1s" } else { "1h" }.clone_into(&mut c.spec.refresh_interval);
            }),
            Change::FlipLabel => self.labelled = !self.labelled,
            Change::Rotate(at) => {
                self.edit_credential(*at, |c| c.content = Some(format!("rotated-{version}")));
            }
            Change::LoseSource(at) => self.edit_credential(*at, |c| {
                c.content = None;
            }),
            Change::DeleteCredential(at) => self.edit_credential(*at, |c| {
                c.deleting = true;
            }),
            Change::Suspend(at) => self.edit_credential(*at, |c| {
                c.spec.suspend = !c.spec.suspend;
            }),
            Change::Finalize(at) => self.edit_credential(*at, |c| {
                c.finalized = true;
            }),
            _ => {}
        }
    }

    fn change_secret(&mut self, change: &Change, version: u64) {
        match change {
            Change::DeleteSecret(at) => drop(self.secrets.remove(TARGETS[at % 2])),
            Change::EditData(at) => self.edit_secret(*at, |secret| {
                {
                    "edited".clone_into(&mut secret.content);
                    secret.owns_data = false;
                };
            }),
            Change::TakeLabel(at) => self.edit_secret(*at, |secret| {
                if let Some(marks) = &mut secret.marks {
                    marks.labels.remove(names::CREDENTIAL_LABEL);
                    marks.credential_name = None;
                }
            }),
            Change::TakeAnnotation(at) => self.edit_secret(*at, |secret| {
                if let Some(marks) = &mut secret.marks {
                    marks.annotations.remove(names::FINGERPRINT_ANNOTATION);
                }
            }),
            Change::Freeze(at) => self.edit_secret(*at, |secret| {
                secret.immutable = true;
            }),
            Change::CreateForeign { target, wrong_type } => {
                let name = Arc::from(TARGETS[target % 2]);
                self.secrets.entry(name).or_insert_with(|| StoredSecret::foreign(version, *wrong_type));
            }
            Change::Forge(at) => self.edit_secret(*at, |secret| "forged".clone_into(&mut secret.content)),
            Change::EditUid(at) => self.edit_secret(*at, |secret| {
                if let Some(marks) = &mut secret.marks {
                    marks.annotations.remove(names::CREDENTIAL_UID_ANNOTATION);
                    marks.credential_uid = Some(Arc::from("edited"));
                }
            }),
            Change::Restore(at) => self.edit_secret(*at, |secret| {
                if let Some(marks) = &mut secret.marks {
                    *marks = Marks {
                        credential_uid: Some(Arc::from("former")),
                        credential_name: marks.credential_name.clone(),
                        ..Marks::default()
                    };
                    secret.owns_data = false;
                }
            }),
            _ => {}
        }
    }

    fn change_account(&mut self, change: &Change, version: u64) {
        match change {
            Change::AddEntry { account, entry } => self.edit_account(*account, |account| {
                account
                    .list
                    .insert(0, Arc::from([ENTRIES, [TARGETS[0], TARGETS[1], "own-a"]].concat()[entry % 6]));
            }),
            Change::TakeMark(at) => self.edit_account(*at, |account| account.marked.clear()),
            Change::OptOut(at) => self.edit_account(*at, |account| {
                account.excluded = !account.excluded;
            }),
            Change::DeleteAccount(at) => drop(self.accounts.remove(ACCOUNTS[at % 3])),
            Change::CreateAccount(at) => {
                let fresh = StoredAccount {
                    uid: version,
                    version,
                    excluded: false,
                    list: Vec::new(),
                    marked: BTreeSet::new(),
                };
                self.accounts.entry(Arc::from(ACCOUNTS[at % 3])).or_insert(fresh);
            }
            _ => {}
        }
    }

    fn edit_secret(&mut self, at: usize, edit: impl Fn(&mut StoredSecret)) {
        let version = self.version;
        if let Some(secret) = self.secrets.get_mut(TARGETS[at % 2]) {
            edit(secret);
            (secret.version, secret.trust) = (version, Trust::Doubtful);
        }
    }

    fn edit_account(&mut self, at: usize, edit: impl Fn(&mut StoredAccount)) {
        let version = self.version;
        if let Some(account) = self.accounts.get_mut(ACCOUNTS[at % 3]) {
            edit(account);
            account.version = version;
        }
    }

    fn edit_credential(&mut self, at: usize, edit: impl Fn(&mut StoredCredential)) {
        let count = self.credentials.len();
        if let Some(credential) = self.credentials.get_mut(at % count.max(1)) {
            edit(credential);
        }
    }

    /// Somebody takes an entry off a list.
    pub(crate) fn take_off(&mut self, account: &str, entry: &str) {
        let version = self.next();
        let account = self.accounts.get_mut(account).unwrap();
        account.list.retain(|name| **name != *entry);
        account.version = version;
    }

    /// Somebody makes a Secret again as it was, if it is not there.
    pub(crate) fn put_back_secret(&mut self, name: &str, as_it_was: &StoredSecret) {
        let version = self.next();
        let again = StoredSecret { uid: version, version, ..as_it_was.clone() };
        self.secrets.entry(Arc::from(name)).or_insert(again);
    }

    /// Somebody takes off a copy since when it is superseded.
    pub(crate) fn take_time(&mut self, secret: &str) {
        let version = self.next();
        if let Some(secret) = self.secrets.get_mut(secret)
            && let Some(marks) = &mut secret.marks
            && marks.annotations.remove(names::SUPERSEDED_AT_ANNOTATION).is_some()
        {
            secret.version = version;
        }
    }

    /// Somebody writes a ServiceAccount as it was.
    pub(crate) fn put_back_account(&mut self, name: &str, as_it_was: &StoredAccount) {
        let version = self.next();
        self.accounts.insert(Arc::from(name), StoredAccount { version, ..as_it_was.clone() });
    }

    /// Whether a Pod of this ServiceAccount can pull: its list names a copy of ours.
    pub(crate) fn works(&self, account: &str) -> bool {
        let copies = self.accounts[account].list.iter().filter_map(|name| self.secrets.get(name));
        copies.into_iter().any(|secret| secret.content == "content")
    }

    pub(crate) fn drop_all_sources(&mut self) {
        for credential in &mut self.credentials {
            credential.content = None;
        }
    }

    /// Secrets without our marks, entries that are no target name, in their order, and all others that we did not
    /// put there.
    pub(crate) fn foreign(&self) -> (Vec<String>, Vec<TheirEntries>) {
        let secrets = self.secrets.iter().filter(|(_, secret)| secret.marks.is_none());
        let adopters = |name: &str| self.credentials.iter().any(|credential| credential.may_adopt(name));
        let secrets =
            secrets.filter(|(name, _)| !adopters(name)).map(|(name, secret)| format!("{name} {secret:?}"));
        let theirs = |account: &StoredAccount| {
            let entries = account.list.iter().filter(|entry| !TARGETS.contains(&&***entry));
            let unmarked = account.list.iter().filter(|entry| !account.marked.contains(*entry));
            (entries.map(ToString::to_string).collect(), unmarked.cloned().collect())
        };
        (secrets.collect(), self.accounts.values().map(theirs).collect())
    }

    /// Everything but UIDs and versions.
    pub(crate) fn end_state(&self) -> Vec<String> {
        let secret = |(name, secret): (&Arc<str>, &StoredSecret)| {
            format!(
                "{name}: {} {:?} {} {}",
                secret.content, secret.marks, secret.immutable, secret.wrong_type
            )
        };
        let account = |(name, account): (&Arc<str>, &StoredAccount)| {
            format!("{name}: {:?} {:?}", account.list, account.marked)
        };
        self.secrets.iter().map(secret).chain(self.accounts.iter().map(account)).collect()
    }

    /// The version of each object: a write changes one.
    pub(crate) fn versions(&self) -> BTreeMap<&str, u64> {
        let secrets = self.secrets.iter().map(|(name, secret)| (&**name, secret.version));
        secrets.chain(self.accounts.iter().map(|(name, account)| (&**name, account.version))).collect()
    }

    pub(crate) fn is_ours(&self, secret: &str) -> bool {
        let is_ours = |marks: &Marks| marks.retained_from.is_none();
        self.secrets.get(secret).is_some_and(|secret| secret.marks.as_ref().is_some_and(is_ours))
    }

    pub(crate) fn uid_changed(&self, before: &Self, secret: &str) -> bool {
        let uid = |cluster: &Self| cluster.secrets.get(secret).map(|secret| secret.uid);
        uid(before).is_some() && uid(self) != uid(before)
    }

    /// ServiceAccounts that name a Secret because we put it there.
    pub(crate) fn managed_lists_with(&self, secret: &str) -> BTreeSet<&str> {
        let ours = |account: &StoredAccount| {
            account.marked.contains(secret) && account.list.iter().any(|name| **name == *secret)
        };
        self.accounts.iter().filter(|(_, account)| ours(account)).map(|(name, _)| &**name).collect()
    }
}

impl StoredSecret {
    pub(crate) fn foreign(version: u64, wrong_type: bool) -> Self {
        Self {
            uid: version,
            version,
            content: "theirs".to_owned(),
            wrong_type,
            immutable: false,
            owns_data: false,
            marks: None,
            copy_of: None,
            trust: Trust::Doubtful,
        }
    }

    fn observe(&self) -> Secret {
        Secret {
            uid: Arc::from(self.uid.to_string()),
            resource_version: Arc::from(self.version.to_string()),
            wrong_type: self.wrong_type,
            immutable: self.immutable,
            owns_data: self.owns_data,
            marks: self.marks.clone().map(Arc::new),
            copy_of: self.copy_of.clone(),
            trust: self.trust,
            ..fixture::foreign_secret()
        }
    }

    fn meets(&self, over: &Precondition) -> Result<(), StepError> {
        let met = *over.uid == self.uid.to_string() && *over.resource_version == self.version.to_string();
        if met { Ok(()) } else { Err(StepError::Conflict) }
    }
}

impl StoredAccount {
    fn observe(&self) -> ServiceAccount {
        ServiceAccount {
            uid: Arc::from(self.uid.to_string()),
            resource_version: Arc::from(self.version.to_string()),
            excluded: self.excluded,
            marked: self.marked.iter().cloned().collect(),
            ..fixture::service_account(self.list.clone())
        }
    }
}

impl StoredCredential {
    pub(crate) fn target(&self) -> &str {
        self.spec.target.name.as_deref().unwrap()
    }

    fn may_adopt(&self, secret: &str) -> bool {
        self.target() == secret && self.spec.deletion_policy == DeletionPolicy::Retain
    }

    fn observe(&self) -> Credential {
        Credential {
            created: jiff::Timestamp::from_second(self.age).unwrap(),
            deleting: self.deleting,
            finalized: self.finalized,
            ..fixture::credential(&self.name, &self.spec, self.content.as_deref())
        }
    }
}
