//! Why an image finds, or does not find, an entry of a RegistryCredential: one of ten reasons, each with one command that
//! mends it.

use regcred_api::{ConditionType, Reason as Told};
use regcred_dockerconfig::WrittenConfig;
use regcred_index::CredentialEntry;
use regcred_planner::{Goal, Pair};
use serde::Serialize;

use crate::mend;
use crate::pod::{Complaint, Workload};
use crate::scene::{CREDENTIALS, Image, Look, Place, Scene, failures, registry_of};
use crate::text::{bracketed, sentence, word};

/// Why an image finds no entry, or one that does not help.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) enum Reason {
    /// No RegistryCredential for this registry selects the namespace.
    NamespaceNotSelected,
    /// One does, and not the ServiceAccount.
    ServiceAccountNotSelected,
    /// The Pod is older than the entry on its ServiceAccount.
    StalePod,
    /// The Pod has a list of its own, without the entry.
    OwnList,
    /// The list names a Secret that is not there.
    DeadReference,
    /// A Secret has an entry for the host that does not match the image.
    WrongKey,
    /// A Secret is of a type that is not pulled with.
    WrongType,
    /// A Secret cannot be read, which fails every pull of the Pod.
    Undecodable,
    /// The operator says why Secret or entry are not in place.
    NotInPlace,
    /// The credential has expired.
    Expired,
}

impl Reason {
    /// As it is printed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NamespaceNotSelected => "NamespaceNotSelected",
            Self::ServiceAccountNotSelected => "ServiceAccountNotSelected",
            Self::StalePod => "StalePod",
            Self::OwnList => "OwnList",
            Self::DeadReference => "DeadReference",
            Self::WrongKey => "WrongKey",
            Self::WrongType => "WrongType",
            Self::Undecodable => "Undecodable",
            Self::NotInPlace => "NotInPlace",
            Self::Expired => "Expired",
        }
    }

    /// How much is to be done until the image finds its entry: of several RegistryCredentials the nearest is told of.
    fn distance(self) -> u8 {
        match self {
            Self::WrongKey | Self::WrongType | Self::Undecodable => 0,
            Self::StalePod | Self::OwnList => 1,
            Self::Expired | Self::NotInPlace => 2,
            Self::ServiceAccountNotSelected => 3,
            Self::DeadReference => 4,
            Self::NamespaceNotSelected => 5,
        }
    }
}

/// An image in its place, as it is pulled with a list.
pub(crate) struct Subject<'a> {
    pub(crate) namespace: &'a str,
    /// The Pod and what made it; `None` for an image that is only asked about.
    pub(crate) pod: Option<(&'a str, &'a Workload)>,
    pub(crate) account: &'a str,
    /// The names that the kubelet looks up.
    pub(crate) list: &'a [String],
    pub(crate) image: &'a Image,
    /// What the kubelet says of a Secret of the list.
    pub(crate) complaint: Option<Complaint>,
}

/// What there is to say of a subject.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Diagnosis {
    /// Nothing, where an entry is in place, or where no RegistryCredential has anything to do with it.
    pub(crate) reason: Option<Reason>,
    /// A RegistryCredential whose entry is in place, if that is so.
    pub(crate) opened_by: Option<String>,
    /// The RegistryCredential that the reason speaks of.
    pub(crate) credential: Option<String>,
    /// In one line of a table.
    pub(crate) short: String,
    /// The same for `explain`: a sentence, and what it rests on.
    pub(crate) why: Vec<String>,
    /// The command that mends it.
    pub(crate) fix: Option<String>,
    /// What is to be done after it.
    pub(crate) then: Option<String>,
    /// What else is needed or worth knowing.
    pub(crate) notes: Vec<String>,
}

/// Says why an image finds, or does not find, its entry.
pub(crate) fn diagnose(scene: &Scene, place: Option<&Place>, subject: &Subject<'_>) -> Diagnosis {
    if let Some(spoiled) = deep(scene, subject) {
        return spoiled;
    }
    if subject.complaint == Some(Complaint::Undecodable)
        && let Some(first) = subject.list.first()
    {
        return undecodable(subject, first);
    }
    let openers = scene.openers(subject.image);
    let Some(place) = place else { return unknown(subject) };
    let case = Case { scene, place, subject };
    let told = openers.iter().map(|(name, entry)| case.look(name, entry));
    let nearest = told.min_by_key(|told| told.reason.map_or(0, |reason| 1 + reason.distance()));
    nearest.unwrap_or_else(|| case.nobody())
}

/// Whether a list is the Pod's own, and not an earlier state of its ServiceAccount's.
pub(crate) fn is_own_list(place: Option<&Place>, account: &str, list: &[String]) -> bool {
    let lists =
        |name: &String| place.and_then(|place| place.account(account)).is_some_and(|known| known.lists(name));
    list.iter().any(|name| !lists(name))
}

struct Case<'a> {
    scene: &'a Scene,
    place: &'a Place,
    subject: &'a Subject<'a>,
}

impl Case<'_> {
    /// What keeps one RegistryCredential from opening the image, if anything does.
    fn look(&self, name: &str, entry: &CredentialEntry) -> Diagnosis {
        let target = &entry.planned.scope.target_name;
        let is_listed = self.subject.list.iter().any(|listed| **listed == **target);
        let told = match self.place.pair(entry) {
            None if entry.planned.spec.is_err() => self.invalid(name, entry),
            None if is_listed => self.dead(name, entry),
            None => self.unselected(name, entry),
            Some(_) if is_listed => self.standing(name, entry),
            Some(pair) => self.unlisted(name, entry, pair),
        };
        Diagnosis { credential: Some(name.to_owned()), ..told }
    }

    /// The list has the name: is the Secret in place, and good?
    fn standing(&self, name: &str, entry: &CredentialEntry) -> Diagnosis {
        let target = &entry.planned.scope.target_name;
        if let Some(words) = self.not_in_place(entry, "Secret", target) {
            return self.refused(name, &words);
        }
        if matches!(self.scene.look(self.subject.namespace, target), Some(Look::Missing)) {
            return self.refused(
                name,
                &format!("Secret {target} is not there, and the operator says nothing of it"),
            );
        }
        if let Some(words) = self.expired(entry) {
            return Diagnosis {
                reason: Some(Reason::Expired),
                short: format!("{name}: {words}"),
                why: vec![format!(
                    "{name} is in place, and its credential for {} {words}",
                    self.subject.image.host
                )],
                fix: Some(mend::renew(self.scene, name, entry, self.subject.image)),
                ..Diagnosis::default()
            };
        }
        let verdict =
            registry_of(entry, self.subject.image).and_then(|registry| registry.verification.as_ref());
        let doubt = verdict.filter(|verdict| matches!(verdict.reason.as_str(), "Rejected" | "PullDenied"));
        Diagnosis {
            opened_by: Some(name.to_owned()),
            short: format!("{name} is in place"),
            why: vec![format!(
                "{name} opens {} and is on the list; its Secret is in place",
                self.subject.image.host
            )],
            notes: doubt.map(|verdict| sentence(&verdict.message)).into_iter().collect(),
            ..Diagnosis::default()
        }
    }

    /// The list lacks the name: does the ServiceAccount have it?
    fn unlisted(&self, name: &str, entry: &CredentialEntry, pair: &Pair) -> Diagnosis {
        let subject = self.subject;
        if self.place.account(subject.account).is_none() {
            return self.unread_account(name);
        }
        if subject.pod.is_some() && is_own_list(Some(self.place), subject.account, subject.list) {
            return self.own_list(entry);
        }
        let goal = pair.accounts.iter().find(|(account, _)| **account == *subject.account);
        match goal.map(|(_, goal)| goal) {
            None => self.account_not_selected(name, entry),
            Some(Goal::InPlace) => self.stale(name),
            Some(_) => {
                let words =
                    self.not_in_place(entry, "ServiceAccount", subject.account).unwrap_or_else(|| {
                        format!(
                            "the operator has not put the entry on ServiceAccount {} yet",
                            subject.account
                        )
                    });
                self.refused(name, &words)
            }
        }
    }

    /// What the list would be is not known, and so neither what is wrong with it.
    fn unread_account(&self, name: &str) -> Diagnosis {
        let account = self.subject.account;
        let words = format!("{name} opens it; ServiceAccount {account} was not read, or does not exist");
        Diagnosis { short: words.clone(), why: vec![words], ..Diagnosis::default() }
    }

    fn unselected(&self, name: &str, entry: &CredentialEntry) -> Diagnosis {
        let Ok(spec) = &entry.object.spec else { return self.invalid(name, entry) };
        let namespace = &self.place.world.namespace;
        let host = &self.subject.image.host;
        let told = mend::unselected(name, spec, namespace);
        let accounts = entry.planned.spec.as_ref().ok().map(|spec| &spec.service_accounts);
        let account = self.place.account(self.subject.account);
        let misses = accounts
            .zip(account)
            .is_some_and(|(filter, account)| !filter.selects(self.subject.account, account));
        let note = misses.then(|| {
            let account = self.subject.account;
            format!("{name} does not select ServiceAccount {account} either: also add serviceAccounts.matchNames [{account}]")
        });
        let own = self.subject.pod.is_some()
            && is_own_list(Some(self.place), self.subject.account, self.subject.list);
        let own = own.then(|| {
            format!(
                "the Pod lists {} itself: also add {} there",
                bracketed(self.subject.list),
                entry.planned.scope.target_name
            )
        });
        Diagnosis {
            reason: Some(Reason::NamespaceNotSelected),
            short: format!("{name} opens it; {}", told.short),
            why: vec![
                format!(
                    "no RegistryCredential that opens {host} selects namespace {}",
                    self.subject.namespace
                ),
                format!("  {name}   {}", told.why),
            ],
            fix: told.fix,
            then: self.remake(),
            notes: note.into_iter().chain(own).collect(),
            ..Diagnosis::default()
        }
    }

    fn account_not_selected(&self, name: &str, entry: &CredentialEntry) -> Diagnosis {
        let (account, namespace) = (self.subject.account, self.subject.namespace);
        let observed = self.place.account(account);
        let excluded = observed.is_some_and(|observed| observed.excluded);
        let spec = entry.object.spec.as_ref().ok();
        let fix = match spec
            .zip(observed)
            .and_then(|(spec, observed)| mend::select_account(name, spec, account, observed))
        {
            _ if excluded => mend::include_account(namespace, account),
            Some(fix) => fix,
            None => mend::edit(name),
        };
        let cause = if excluded {
            "which opts out by its annotation regcred.dev/exclude"
        } else {
            "which its serviceAccounts do not select"
        };
        Diagnosis {
            reason: Some(Reason::ServiceAccountNotSelected),
            short: format!("{name} opens it, not for ServiceAccount {account}"),
            why: vec![format!(
                "{name} selects namespace {namespace}, and the Pod runs as ServiceAccount {account}, {cause}"
            )],
            fix: Some(fix),
            then: self.remake(),
            ..Diagnosis::default()
        }
    }

    /// A Pod takes its list when it is made.
    fn stale(&self, name: &str) -> Diagnosis {
        let account = self.subject.account;
        Diagnosis {
            reason: Some(Reason::StalePod),
            short: format!("made before ServiceAccount {account} listed {name}"),
            why: vec![format!(
                "the Pod was made before ServiceAccount {account} listed {name}; a Pod takes its list when it is made"
            )],
            fix: self.remake(),
            ..Diagnosis::default()
        }
    }

    fn own_list(&self, entry: &CredentialEntry) -> Diagnosis {
        let Subject { namespace, account, list, pod, .. } = self.subject;
        let target = &entry.planned.scope.target_name;
        let listed = self.place.account(account).map(|known| &known.image_pull_secrets);
        let ignored = listed.filter(|listed| !listed.is_empty());
        let ignored = ignored.map(|listed| format!("; ServiceAccount's {} do not count", bracketed(listed)));
        let own = format!("lists {} itself{}", bracketed(*list), ignored.unwrap_or_default());
        Diagnosis {
            reason: Some(Reason::OwnList),
            why: vec![format!("the Pod {own}: with a list of its own it gets none of its ServiceAccount")],
            short: own,
            fix: pod.map(|(_, workload)| mend::add_to_list(namespace, workload, target)),
            ..Diagnosis::default()
        }
    }

    /// The list names the Secret of a RegistryCredential that puts none here.
    fn dead(&self, name: &str, entry: &CredentialEntry) -> Diagnosis {
        let target = &entry.planned.scope.target_name;
        let told = self.unselected(name, entry);
        Diagnosis {
            reason: Some(Reason::DeadReference),
            short: format!(
                "lists {target}, which {name} does not put here; {}",
                told.short.replace(&format!("{name} opens it; "), "")
            ),
            why: std::iter::once(format!(
                "the list names {target}, and {name} puts no Secret into this namespace"
            ))
            .chain(told.why.into_iter().skip(1))
            .collect(),
            then: None,
            ..told
        }
    }

    fn invalid(&self, name: &str, entry: &CredentialEntry) -> Diagnosis {
        let words = entry.planned.spec.as_ref().err().map(ToString::to_string).unwrap_or_default();
        Diagnosis { fix: Some(mend::edit(name)), ..self.refused(name, &words) }
    }

    fn refused(&self, name: &str, words: &str) -> Diagnosis {
        Diagnosis {
            reason: Some(Reason::NotInPlace),
            short: format!("{name}: {words}"),
            why: vec![
                format!(
                    "{name} opens {}, and is not in place in {}:",
                    self.subject.image.host, self.subject.namespace
                ),
                format!("  {words}"),
            ],
            fix: Some(format!("kubectl regcred refresh {} --wait", word(name))),
            notes: vec!["mend what the operator says first; the command has it try again now".to_owned()],
            ..Diagnosis::default()
        }
    }

    /// What the operator, or the planner, says against an object.
    fn not_in_place(&self, entry: &CredentialEntry, kind: &str, object: &str) -> Option<String> {
        if let Some(failure) =
            failures(entry, self.subject.namespace, kind).find(|failure| failure.name == object)
        {
            return Some(sentence(&format!("{}: {}", failure.reason, failure.message)));
        }
        if entry.planned.spec.as_ref().is_ok_and(|spec| spec.suspend) {
            return Some("Suspended: spec.suspend is set, and nothing is written".to_owned());
        }
        if let Some(Goal::Refused { reason, message, .. }) = self.place.pair(entry).map(|pair| &pair.secret) {
            return Some(format!("{}: {message}", reason.as_str()));
        }
        let missing = registry_of(entry, self.subject.image).is_none();
        let condition =
            entry.object.status.as_ref().and_then(|status| status.condition(ConditionType::SourceReady));
        match condition.filter(|condition| missing && condition.status != "True") {
            Some(condition) => Some(sentence(&format!("{}: {}", condition.reason, condition.message))),
            None if entry.object.status.is_none() => Some("the operator has not looked at it yet".to_owned()),
            None => None,
        }
    }

    fn expired(&self, entry: &CredentialEntry) -> Option<String> {
        let end = registry_of(entry, self.subject.image).and_then(|registry| registry.expires_at.as_ref());
        if let Some(end) = end.map(|end| end.0).filter(|end| *end <= self.scene.now) {
            return Some(format!("expired at {}", end.strftime("%Y-%m-%d %H:%M UTC")));
        }
        let condition = entry.object.status.as_ref()?.condition(ConditionType::SourceReady)?;
        let is_said =
            end.is_none() && condition.status != "True" && condition.reason == Told::Expired.as_str();
        is_said.then(|| format!("has expired: {}", sentence(&condition.message)))
    }

    /// No RegistryCredential opens this registry at all.
    fn nobody(&self) -> Diagnosis {
        let Subject { image, list, complaint, namespace, .. } = self.subject;
        let host = if image.host.is_empty() { "it" } else { &image.host };
        let none = if self.scene.unread.lacks(CREDENTIALS) {
            "RegistryCredentials were not read".to_owned()
        } else {
            format!("no RegistryCredential opens {host}")
        };
        let is_missing = |name: &&String| matches!(self.scene.look(namespace, name), Some(Look::Missing));
        if let Some(name) = list.iter().find(is_missing) {
            let words = format!("the list names Secret {}, which does not exist", word(name));
            return by_secret(Reason::DeadReference, self.subject, name, words);
        }
        if *complaint == Some(Complaint::Missing) {
            let names = bracketed(*list);
            return Diagnosis {
                reason: Some(Reason::DeadReference),
                short: format!("a Secret of {names} does not exist, as the kubelet says"),
                why: vec![
                    format!("the kubelet says that a Secret of {names} does not exist"),
                    format!("  {none}"),
                ],
                fix: list.first().map(|name| create(namespace, name, host)),
                ..Diagnosis::default()
            };
        }
        let read = if self.scene.secrets.is_some() { "" } else { ", not read" };
        let others =
            if list.is_empty() { String::new() } else { format!("; lists {}{read}", bracketed(*list)) };
        Diagnosis {
            short: format!("{none}{others}"),
            why: vec![format!("{none}{others}")],
            ..Diagnosis::default()
        }
    }

    fn remake(&self) -> Option<String> {
        let (pod, workload) = self.subject.pod?;
        Some(mend::remake(self.subject.namespace, workload, pod, !self.subject.list.is_empty()))
    }
}

/// What Secrets that were read say: one that spoils every pull, one that is missing, one for another image.
fn deep(scene: &Scene, subject: &Subject<'_>) -> Option<Diagnosis> {
    scene.secrets.as_ref()?;
    let looks = || subject.list.iter().filter_map(|name| Some((name, scene.look(subject.namespace, name)?)));
    let configs = || {
        looks().filter_map(|(name, look)| match look {
            Look::Config(config) => Some((name, config)),
            _ => None,
        })
    };
    if let Some((name, _)) = configs().find(|(_, config)| subject.image.finds(config).is_none()) {
        let words = format!("Secret {} cannot be decoded, which fails every pull of the Pod", word(name));
        return Some(by_secret(Reason::Undecodable, subject, name, words));
    }
    let ours = |name: &str| scene.credentials().any(|(_, entry)| *entry.planned.scope.target_name == *name);
    if let Some((name, _)) = configs().find(|(_, config)| subject.image.finds(config) == Some(true)) {
        return (!ours(name)).then(|| by_others(name, subject.image));
    }
    let wrong_type = looks().find(|(_, look)| matches!(look, Look::OtherType));
    if let Some((name, _)) = wrong_type {
        let words = format!("Secret {} is of a type that no Pod pulls with", word(name));
        return Some(by_secret(Reason::WrongType, subject, name, words));
    }
    if let Some((name, near)) =
        configs().find_map(|(name, config)| Some((name, near(subject.image, config)?)))
    {
        let words = format!("Secret {} has an entry that does not match: {near}", word(name));
        return Some(by_secret(Reason::WrongKey, subject, name, words));
    }
    None
}

/// The kubelet says that a Secret of the list cannot be decoded: it is known which, if there is but one.
fn undecodable(subject: &Subject<'_>, first: &str) -> Diagnosis {
    let fails = "cannot be decoded, as the kubelet says, which fails every pull of the Pod";
    let words = if subject.list.len() == 1 {
        format!("Secret {} {fails}", word(first))
    } else {
        format!("a Secret of {} {fails}; --deep says which", bracketed(subject.list))
    };
    let told = by_secret(Reason::Undecodable, subject, first, words);
    match subject.pod.filter(|_| subject.list.len() > 1) {
        Some((pod, _)) => {
            let fix =
                format!("kubectl regcred explain -n {} pod/{} --deep", word(subject.namespace), word(pod));
            Diagnosis { fix: Some(fix), notes: Vec::new(), ..told }
        }
        None => told,
    }
}

/// Entries of the image's host that do not match it, as the words of an error name them.
fn near(image: &Image, config: &regcred_dockerconfig::SecretBytes) -> Option<String> {
    let written = WrittenConfig::parse_dockerconfigjson(config.expose()).ok()?;
    match written.login_for(image.server()?) {
        // An entry that means the registry in a spelling that the kubelet does not understand.
        Ok(_) => Some(format!("its key means {} in another spelling", image.host)),
        Err(error) => Some(error.to_string()).filter(|text| text.contains("only for")).map(|text| {
            let names = text.split("only for ").nth(1).unwrap_or_default();
            format!("only for {}", names.split(';').next().unwrap_or_default())
        }),
    }
}

/// A Secret that is none of ours has an entry for the image.
fn by_others(secret: &str, image: &Image) -> Diagnosis {
    let words = format!("Secret {} has an entry for {}", word(secret), image.host);
    Diagnosis {
        opened_by: Some(secret.to_owned()),
        short: words.clone(),
        why: vec![words],
        ..Diagnosis::default()
    }
}

fn by_secret(reason: Reason, subject: &Subject<'_>, secret: &str, words: String) -> Diagnosis {
    let made = create(subject.namespace, secret, &subject.image.host);
    let (fix, note) = match reason {
        Reason::DeadReference => (made, None),
        Reason::WrongType => {
            let (namespace, secret) = (word(subject.namespace), word(secret));
            let note = "the type of a Secret cannot be changed, so it is made anew";
            (format!("kubectl -n {namespace} delete secret {secret} && {made}"), Some(note))
        }
        _ => {
            let note = "the command replaces all entries of the Secret";
            (format!("{made} --dry-run=client -o yaml | kubectl apply -f -"), Some(note))
        }
    };
    Diagnosis {
        reason: Some(reason),
        short: words.clone(),
        why: vec![words],
        fix: Some(fix),
        notes: note.map(str::to_owned).into_iter().collect(),
        ..Diagnosis::default()
    }
}

fn create(namespace: &str, secret: &str, host: &str) -> String {
    format!(
        "kubectl -n {} create secret docker-registry {} --docker-server={} --docker-username=USER --docker-password=TOKEN",
        word(namespace),
        word(secret),
        word(host)
    )
}

fn unknown(subject: &Subject<'_>) -> Diagnosis {
    let words = format!("namespace {} was not read", subject.namespace);
    Diagnosis { short: words.clone(), why: vec![words], ..Diagnosis::default() }
}
