//! Why an image finds, or does not find, an entry of a RegistryCredential: one of ten reasons, each with one command that
//! mends it.

use regcred_api::{ConditionType, Reason as Verdict};
use regcred_dockerconfig::WrittenConfig;
use regcred_index::CredentialEntry;
use regcred_planner::{Goal, Pair};
use serde::Serialize;

use crate::copies::{self, Held, Spread, Told};
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
    /// The list has the name of a RegistryCredential, and it is not known whether the entry is in place.
    pub(crate) unsure: bool,
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

/// Whether the entry that the list names is there.
enum Presence {
    There,
    Absent(Obstacle),
    /// It is not known, for this reason.
    Unsure(String),
}

/// Why something is not there.
struct Obstacle {
    /// All that is known of it.
    words: String,
    /// What of it the operator says.
    told: Option<Told>,
    /// The spec says that nothing is to be written.
    suspended: bool,
}

impl Obstacle {
    /// Why a Secret or an entry is not there yet.
    fn waiting(entry: &CredentialEntry) -> Self {
        if is_suspended(entry) {
            let words = "Suspended: spec.suspend is set, and nothing is written".to_owned();
            return Self { words, told: None, suspended: true };
        }
        match copies::told(entry) {
            Some(told) => Self::told(told),
            None if entry.object.status.is_none() => Self::silent("the operator has not looked at it yet"),
            None => Self::silent("the operator says nothing against it"),
        }
    }

    fn told(told: Told) -> Self {
        Self { words: told.text.clone(), told: Some(told), suspended: false }
    }

    fn silent(words: &str) -> Self {
        Self { words: words.to_owned(), told: None, suspended: false }
    }

    /// What is to be done before the command, or where it is said what the operator waits for.
    fn note(&self, credential: &str) -> Option<String> {
        match &self.told {
            _ if self.suspended => None,
            Some(told) if told.asks => Some(format!("first mend what the operator says: {}", told.text)),
            _ => Some(format!(
                "the operator names nothing to mend; kubectl regcred status {} says how far it is, and kubectl regcred check \
                 whether it runs",
                word(credential)
            )),
        }
    }
}

fn is_suspended(entry: &CredentialEntry) -> bool {
    entry.planned.spec.as_ref().is_ok_and(|spec| spec.suspend)
}

/// It is seen that something is missing, and the operator says why, or nothing.
fn absent(entry: &CredentialEntry, seen: &str) -> Presence {
    let Obstacle { told, suspended, words } = Obstacle::waiting(entry);
    Presence::Absent(Obstacle { words: format!("{seen}; {words}"), told, suspended })
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
        match self.presence(entry) {
            Presence::Absent(obstacle) => self.refused(name, obstacle),
            Presence::Unsure(words) => self.unsure(name, entry, &words),
            Presence::There => self.expired(entry).map_or_else(
                || self.opened(name, entry),
                |words| Diagnosis {
                    reason: Some(Reason::Expired),
                    short: format!("{name}: {words}"),
                    why: vec![format!(
                        "{name} is in place, and its credential for {} {words}",
                        self.subject.image.host
                    )],
                    fix: Some(mend::renew(self.scene, name, entry, self.subject.image)),
                    ..Diagnosis::default()
                },
            ),
        }
    }

    fn opened(&self, name: &str, entry: &CredentialEntry) -> Diagnosis {
        Diagnosis {
            opened_by: Some(name.to_owned()),
            short: format!("{name} is in place"),
            why: vec![format!(
                "{name} opens {} and is on the list; its Secret is in place",
                self.subject.image.host
            )],
            notes: self.rejection(entry).into_iter().collect(),
            ..Diagnosis::default()
        }
    }

    /// What the registry said against the credential, and whether it is that in copies.
    fn rejection(&self, entry: &CredentialEntry) -> Option<String> {
        let registry = registry_of(entry, self.subject.image)?;
        match copies::held(entry, registry) {
            Some((held @ Held::Kept(_), verdict)) => {
                let meanwhile = copies::meanwhile(held, verdict, &registry.server);
                Some(format!("{meanwhile}. Of the new one: {}", sentence(&verdict.message)))
            }
            _ => copies::rejection(registry).map(|verdict| sentence(&verdict.message)),
        }
    }

    /// It is not known whether the entry is in place: what status says, and how to look.
    fn unsure(&self, name: &str, entry: &CredentialEntry, words: &str) -> Diagnosis {
        let Subject { namespace, image, .. } = self.subject;
        let target = word(&entry.planned.scope.target_name);
        Diagnosis {
            unsure: true,
            short: format!("{name} opens it; {words}"),
            why: std::iter::once(format!("{name} opens {} and is on the list; {words}", image.host))
                .chain(copies::told(entry).map(|told| format!("  {}", told.text)))
                .collect(),
            notes: vec![format!("--deep looks at Secret {target} in {}", word(namespace))],
            ..Diagnosis::default()
        }
    }

    /// Whether the Secret is there with an entry for the image: by what was read of it, and by what status says.
    fn presence(&self, entry: &CredentialEntry) -> Presence {
        let target = &entry.planned.scope.target_name;
        if let Some(told) = self.refusal(entry, "Secret", target) {
            return Presence::Absent(Obstacle::told(told));
        }
        match self.scene.look(self.subject.namespace, target) {
            Some(Look::Missing) => return absent(entry, &format!("Secret {target} is not there")),
            Some(Look::Config(config)) if self.subject.image.finds(config) == Some(true) => {
                return Presence::There;
            }
            Some(Look::Config(_)) => {
                let words = format!("Secret {target} has no entry for {}", self.subject.image.host);
                return absent(entry, &words);
            }
            Some(Look::Refused | Look::OtherType) | None => {}
        }
        let selected = self.scene.selected(entry);
        let is_missed = self.subject.complaint == Some(Complaint::Missing);
        match copies::spread(entry, selected) {
            Spread::All => self.entry_presence(entry),
            Spread::None => Presence::Absent(Obstacle::waiting(entry)),
            Spread::Unknown if is_missed && *self.subject.list == [target.to_string()] => {
                absent(entry, &format!("the kubelet says that Secret {target} does not exist"))
            }
            Spread::Unknown => Presence::Unsure(copies::doubt(entry, selected)),
        }
    }

    /// The Secret is there: has it an entry for the image, as far as status says?
    fn entry_presence(&self, entry: &CredentialEntry) -> Presence {
        let Some(registry) = registry_of(entry, self.subject.image) else {
            let told = copies::told_of_source(entry).map(Obstacle::told);
            return told.map_or(Presence::There, Presence::Absent);
        };
        match copies::held(entry, registry) {
            Some((Held::Lacking, verdict)) => {
                Presence::Absent(Obstacle::told(Told::new(&verdict.reason, &verdict.message)))
            }
            Some((held @ Held::Unknown, verdict)) => {
                Presence::Unsure(copies::meanwhile(held, verdict, &registry.server))
            }
            Some((Held::Kept(_), _)) | None => Presence::There,
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
            Some(_) => self.refused(name, self.unattached(entry)),
        }
    }

    /// Why the ServiceAccount is selected and has no entry. Where the Secret cannot be made, the operator says it of that alone.
    fn unattached(&self, entry: &CredentialEntry) -> Obstacle {
        let account = self.subject.account;
        let told = self
            .refusal(entry, "ServiceAccount", account)
            .or_else(|| self.refusal(entry, "Secret", &entry.planned.scope.target_name));
        let has_none = || copies::spread(entry, self.scene.selected(entry)) == Spread::None;
        match told {
            Some(told) => Obstacle::told(told),
            None if is_suspended(entry) || has_none() => Obstacle::waiting(entry),
            None => {
                let words = format!("the operator has not put the entry on ServiceAccount {account} yet");
                Obstacle::silent(&words)
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
        let obstacle = Obstacle::silent(&words);
        Diagnosis { fix: Some(mend::edit(name)), notes: Vec::new(), ..self.refused(name, obstacle) }
    }

    fn refused(&self, name: &str, obstacle: Obstacle) -> Diagnosis {
        let fix = if obstacle.suspended {
            mend::resume(name)
        } else {
            format!("kubectl regcred refresh {} --wait", word(name))
        };
        let (notes, words) = (obstacle.note(name).into_iter().collect(), obstacle.words);
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
            fix: Some(fix),
            notes,
            ..Diagnosis::default()
        }
    }

    /// What the operator, or the planner, says against an object.
    fn refusal(&self, entry: &CredentialEntry, kind: &str, object: &str) -> Option<Told> {
        let mut failures = failures(entry, self.subject.namespace, kind);
        if let Some(failure) = failures.find(|failure| failure.name == object) {
            return Some(Told::new(&failure.reason, &failure.message));
        }
        match self.place.pair(entry).map(|pair| &pair.secret) {
            Some(Goal::Refused { reason, message, .. }) => Some(Told::new(reason.as_str(), message)),
            _ => None,
        }
    }

    fn expired(&self, entry: &CredentialEntry) -> Option<String> {
        let registry = registry_of(entry, self.subject.image);
        let end = registry.and_then(|registry| registry.expires_at.as_ref());
        if let Some(end) = end.map(|end| end.0).filter(|end| *end <= self.scene.now) {
            return Some(format!("expired at {}", end.strftime("%Y-%m-%d %H:%M UTC")));
        }
        // What has expired may be the new credential, which is held back.
        if registry.and_then(|registry| copies::held(entry, registry)).is_some() {
            return None;
        }
        let condition = entry.object.status.as_ref()?.condition(ConditionType::SourceReady)?;
        let is_said =
            end.is_none() && condition.status != "True" && condition.reason == Verdict::Expired.as_str();
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
