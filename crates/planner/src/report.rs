//! Sums become status, and the difference to the last status becomes events.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use regcred_api::{
    ConditionStatus, ConditionType, Failure, MAX_FAILURES, NamespaceCounts, Reason, RegistryCredentialStatus,
    ServiceAccountCounts, Summary, names,
};

use crate::copy::Payload;
use crate::ledger::Tally;
use crate::outcome::Fault;
use crate::registries::{registries, whole_second};
use crate::source_state::SourceState;
use crate::step::Object;
use crate::verified::{Judgement, Verified, condition};
use crate::words::{again, because, counted, listed, naming_source, part_of, stem, told};
use crate::world::Credential;

/// What a condition begins with whose words are those of an earlier pass.
const SUSPENDED: &str = "spec.suspend is set, and this is from before: ";
/// The same for a spec that cannot be carried out.
const INVALID: &str = "the spec is invalid, and this is from before: ";

/// What Ready, and events, begin with while the object is being deleted.
const DELETING: &str = "being deleted; ";
/// The kind of a failure.
const ACCOUNT: &str = "ServiceAccount";

/// Everything a status is made of.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The object.
    pub credential: &'a Credential,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// The annotation `regcred.dev/requestedAt`, acted on.
    pub request: Option<String>,
    /// Its sources; `None` before they were first read.
    pub source: Option<&'a SourceState>,
    /// What registries said, by server; `None` while nobody looks.
    pub verified: Option<&'a [Verified]>,
    /// The sums over all namespaces.
    pub tally: &'a Tally,
    /// Whether namespaces still wait for their first pass with this spec.
    pub in_progress: bool,
}

/// An event for the RegistryCredential: a Warning if its reason is one, else Normal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Why it is published.
    pub reason: Reason,
    /// One sentence.
    pub note: String,
}

/// The new status, and the events of the way there.
pub fn report(
    old: Option<&RegistryCredentialStatus>,
    observed: &Observed<'_>,
    now: Timestamp,
) -> (RegistryCredentialStatus, Vec<Event>) {
    let empty = RegistryCredentialStatus::default();
    let old = old.unwrap_or(&empty);
    let verdicts = Verdicts::new(old, observed);
    let counts = Counts::new(old, observed);
    let status = RegistryCredentialStatus {
        observed_generation: observed.generation,
        last_handled_request: observed.request.clone(),
        conditions: conditions(old, &verdicts, observed.generation, now),
        namespaces: counts.namespaces,
        service_accounts: counts.service_accounts,
        summary: counts.summary,
        fingerprint: payload(observed)
            .map_or(old.fingerprint.clone(), |payload| Some(payload.fingerprint.clone())),
        registries: registries(old, observed.source, observed.verified, now),
        failures: failures(old, observed.tally),
        failures_omitted: observed.tally.failures.len().saturating_sub(MAX_FAILURES),
    };
    let events = events(old, &status, observed, &verdicts);
    (status, events)
}

/// A desired condition.
#[derive(Clone, Debug)]
struct Verdict {
    kind: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
}

struct Verdicts(Vec<Verdict>);

/// The conditions that `Ready` depends on; `None` for one that is absent.
struct Parts {
    stalled: Option<Verdict>,
    source: Option<Verdict>,
    verified: Option<Verdict>,
    secrets: Option<Verdict>,
    accounts: Option<Verdict>,
}

/// What is counted; where the spec is invalid nothing is, and the last counts stay.
struct Counts {
    namespaces: NamespaceCounts,
    service_accounts: ServiceAccountCounts,
    summary: Summary,
}

impl Counts {
    fn new(old: &RegistryCredentialStatus, observed: &Observed<'_>) -> Self {
        if is_invalid(observed) {
            let (namespaces, service_accounts) = (old.namespaces, old.service_accounts);
            return Self { namespaces, service_accounts, summary: old.summary.clone() };
        }
        let Tally { namespaces, service_accounts, .. } = *observed.tally;
        Self { namespaces, service_accounts, summary: summary(old, observed) }
    }
}

/// Whether nothing is looked at because the spec is invalid.
fn is_invalid(observed: &Observed<'_>) -> bool {
    observed.credential.spec.is_err() && !observed.credential.deleting
}

fn is_suspended(observed: &Observed<'_>) -> bool {
    observed.credential.active_spec().is_some_and(|spec| spec.suspend)
}

impl Verdicts {
    fn new(old: &RegistryCredentialStatus, observed: &Observed<'_>) -> Self {
        let last = |kind| is_invalid(observed).then(|| last_verdict(old, kind, INVALID)).flatten();
        let parts = Parts {
            stalled: stalled_verdict(observed),
            source: source_verdict(observed.source).or_else(|| last_source(old, observed)),
            verified: verified_verdict(old, observed),
            secrets: secrets_verdict(observed).or_else(|| last(ConditionType::SecretsSynced)),
            accounts: accounts_verdict(observed).or_else(|| last(ConditionType::ServiceAccountsAttached)),
        };
        let (ready, reconciling) = if is_suspended(observed) {
            (last_ready(old), Some(suspended_verdict()))
        } else {
            let ready = ready_verdict(observed, &parts);
            let reconciling = reconciling_verdict(observed, &ready);
            (ready, reconciling)
        };
        let Parts { stalled, source, verified, secrets, accounts } = parts;
        let others = [reconciling, stalled, source, verified, secrets, accounts];
        Self(std::iter::once(ready).chain(others.into_iter().flatten()).collect())
    }
}

fn suspended_verdict() -> Verdict {
    let message = "spec.suspend is set: nothing is written until it is taken away";
    Verdict::new(ConditionType::Reconciling, ConditionStatus::False, Reason::Suspended, message)
}

impl Verdict {
    fn new(kind: ConditionType, status: ConditionStatus, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, status, reason, message: message.into() }
    }
}

/// A suspended object keeps its last `Ready`, as nothing is written that would change it.
fn last_ready(old: &RegistryCredentialStatus) -> Verdict {
    last_verdict(old, ConditionType::Ready, SUSPENDED).unwrap_or_else(|| {
        let message = "spec.suspend was set before the first pass, so nothing was written yet";
        Verdict::new(ConditionType::Ready, ConditionStatus::Unknown, Reason::Progressing, message)
    })
}

/// The sources are not looked at while the object is suspended or its spec is invalid.
fn last_source(old: &RegistryCredentialStatus, observed: &Observed<'_>) -> Option<Verdict> {
    let why = if is_invalid(observed) { INVALID } else { SUSPENDED };
    let unseen = is_invalid(observed) || is_suspended(observed);
    unseen.then(|| last_verdict(old, ConditionType::SourceReady, why)).flatten()
}

/// What a condition said last, and why it is not looked at.
fn last_verdict(old: &RegistryCredentialStatus, kind: ConditionType, why: &str) -> Option<Verdict> {
    let condition = old.condition(kind)?;
    let status = ConditionStatus::from(condition.status.as_str());
    let reason = condition.reason.parse().unwrap_or(Reason::Progressing);
    Some(Verdict::new(kind, status, reason, format!("{why}{}", as_observed(&condition.message))))
}

/// What a condition said when it was last looked at.
fn as_observed(message: &str) -> &str {
    [SUSPENDED, INVALID].iter().find_map(|why| message.strip_prefix(why)).unwrap_or(message)
}

fn stalled_verdict(observed: &Observed<'_>) -> Option<Verdict> {
    if let Err(invalid) = &observed.credential.spec {
        return Some(Verdict::new(
            ConditionType::Stalled,
            ConditionStatus::True,
            invalid.reason(),
            format!("{invalid}; until then what is in place stays as it is"),
        ));
    }
    let claimed = told(observed.tally, |_, fault| fault.reason == Reason::TargetClaimed)?;
    let message = format!("{claimed}; choose another target.name or other namespaces");
    Some(Verdict::new(ConditionType::Stalled, ConditionStatus::True, Reason::TargetClaimed, message))
}

fn source_verdict(source: Option<&SourceState>) -> Option<Verdict> {
    let kind = ConditionType::SourceReady;
    Some(match source? {
        SourceState::Resolved { note: None, .. } => {
            Verdict::new(kind, ConditionStatus::True, Reason::Resolved, "every server has a credential")
        }
        SourceState::Resolved { note: Some(note), .. } => {
            let settled = matches!(note.reason, Reason::Resolved | Reason::ExpiringSoon);
            let status = if settled { ConditionStatus::True } else { ConditionStatus::False };
            Verdict::new(kind, status, note.reason, note.message.clone())
        }
        SourceState::Failed { reason, message, .. } => {
            Verdict::new(kind, ConditionStatus::False, *reason, message.clone())
        }
    })
}

/// While a registry is about to be asked, what was known before stays: with each new token the condition would change
/// twice.
fn verified_verdict(old: &RegistryCredentialStatus, observed: &Observed<'_>) -> Option<Verdict> {
    let kind = ConditionType::CredentialsVerified;
    let last = |why| last_verdict(old, kind, why);
    if observed.credential.deleting {
        return None;
    }
    let Some(verified) = observed.verified else {
        return last(if is_invalid(observed) {
            INVALID
        } else if is_suspended(observed) {
            SUSPENDED
        } else {
            ""
        });
    };
    let verified: Vec<_> = verified.iter().map(|own| with_secret(own, observed)).collect();
    let (last, now) = match condition(&verified)? {
        Judgement::Known(now) => (None, now),
        Judgement::Pending(now) => (last(""), now),
    };
    Some(last.unwrap_or_else(|| Verdict::new(kind, now.status, now.reason, now.message)))
}

/// What a registry said, with the name of the Secret that it is about.
fn with_secret(verified: &Verified, observed: &Observed<'_>) -> Verified {
    let mut verified = verified.clone();
    let spec = observed.credential.active_spec();
    if let (Some(answer), Some(spec)) = (&mut verified.answer, spec) {
        let secret = spec.secret_of(&verified.server);
        answer.verdict.message = naming_source(&answer.verdict.message, secret);
    }
    verified
}

fn secrets_verdict(observed: &Observed<'_>) -> Option<Verdict> {
    observed.credential.active_spec()?;
    let kind = ConditionType::SecretsSynced;
    let counts = observed.tally.namespaces;
    let of = in_sync(observed.tally) + &kept(observed) + &why(observed, Object::is_secret);
    if counts.synced == counts.matched && !observed.in_progress {
        return Some(Verdict::new(kind, ConditionStatus::True, Reason::AllSynced, of));
    }
    let reason = match only_reason(observed.tally, Object::is_secret) {
        Some(
            one @ (Reason::NameConflict
            | Reason::TypeMismatch
            | Reason::Forbidden
            | Reason::Rejected
            | Reason::QuotaExceeded
            | Reason::Contested),
        ) => one,
        _ => Reason::PartiallySynced,
    };
    Some(Verdict::new(kind, ConditionStatus::False, reason, of))
}

/// Which former target names still have a Secret somewhere, and until when, as in `, former Secrets stay for now: old in 3 …`.
fn kept(observed: &Observed<'_>) -> String {
    let former: Vec<_> =
        observed.tally.kept.iter().map(|(name, count)| format!("{name} in {count}")).collect();
    let Some(spec) = observed.credential.active_spec().filter(|_| !former.is_empty()) else {
        return String::new();
    };
    let grace = SignedDuration::try_from(spec.rename_grace).unwrap_or(SignedDuration::MAX);
    format!(
        ", former Secrets stay for now: {} (for Pods that run, until the present one is in place for \
         target.renameGracePeriod, {grace:#})",
        listed(former.iter())
    )
}

fn accounts_verdict(observed: &Observed<'_>) -> Option<Verdict> {
    let spec = observed.credential.active_spec()?;
    let kind = ConditionType::ServiceAccountsAttached;
    if spec.service_accounts.is_none() {
        let message = "serviceAccounts.from is None: Pods name the Secret themselves";
        return Some(Verdict::new(kind, ConditionStatus::True, Reason::NotRequested, message));
    }
    let counts = observed.tally.service_accounts;
    let is_account = |object: &Object| !object.is_secret();
    let of = attached(observed.tally) + &why(observed, is_account);
    if counts.attached == counts.matched && !observed.in_progress {
        return Some(Verdict::new(kind, ConditionStatus::True, Reason::AllAttached, of));
    }
    let reason = match only_reason(observed.tally, is_account) {
        _ if counts.contested > 0 => Reason::Contested,
        Some(one @ (Reason::Forbidden | Reason::Rejected)) => one,
        _ => Reason::PartiallyAttached,
    };
    Some(Verdict::new(kind, ConditionStatus::False, reason, of))
}

fn ready_verdict(observed: &Observed<'_>, parts: &Parts) -> Verdict {
    let Parts { stalled, source, verified, secrets, accounts } = parts;
    let ready = |status, reason, message: &str| Verdict::new(ConditionType::Ready, status, reason, message);
    let failed =
        |verdict: &Option<Verdict>| verdict.as_ref().is_some_and(|v| v.status == ConditionStatus::False);
    let message = |verdict: &Option<Verdict>| verdict.as_ref().map_or(String::new(), |v| v.message.clone());
    let gave_nothing = matches!(observed.source, Some(SourceState::Failed { .. }));
    let tally = observed.tally;
    if observed.credential.deleting {
        ready(ConditionStatus::False, Reason::Progressing, &deletion(tally))
    } else if stalled.is_some() {
        ready(ConditionStatus::False, Reason::Stalled, &message(stalled))
    } else if gave_nothing {
        ready(ConditionStatus::False, Reason::SourceNotReady, &message(source))
    } else if let Some(refused) = verified.as_ref().filter(|own| own.status == ConditionStatus::False) {
        ready(ConditionStatus::False, refused.reason, &refused.message)
    } else if tally.namespaces.failed > 0 {
        ready(ConditionStatus::False, Reason::PartiallySynced, &message(secrets))
    } else if tally.service_accounts.failed > 0 {
        ready(ConditionStatus::False, Reason::PartiallyAttached, &message(accounts))
    } else if source.is_none() || observed.in_progress || failed(secrets) || failed(accounts) {
        ready(ConditionStatus::False, Reason::Progressing, &progress(observed))
    } else if let Some(first) = verified.as_ref().filter(|own| own.reason == Reason::NotChecked) {
        ready(ConditionStatus::False, Reason::Progressing, &first.message)
    } else if tally.namespaces.matched == 0 {
        ready(ConditionStatus::True, Reason::NoNamespaceSelected, none_selected(observed.credential))
    } else {
        ready(ConditionStatus::True, Reason::Succeeded, &message(secrets))
    }
}

fn none_selected(credential: &Credential) -> &'static str {
    if credential.active_spec().is_some_and(|spec| spec.namespaces.asks_for_nothing()) {
        "0 namespaces are selected, because spec.namespaces asks for none: an empty selector selects nothing; write \
         from: All, matchNames or matchLabels"
    } else {
        "0 namespaces are selected; widen spec.namespaces, or label the namespaces that it asks for"
    }
}

/// Whether work is in progress, and why. The message is that of `Ready`.
fn reconciling_verdict(observed: &Observed<'_>, ready: &Verdict) -> Option<Verdict> {
    let retrying = observed.tally.failures.values().any(|fault| fault.retrying);
    let reason = match ready.reason {
        Reason::Progressing => Reason::Progressing,
        Reason::SourceNotReady | Reason::Rejected | Reason::Expired | Reason::PullDenied => {
            Reason::WaitingForSource
        }
        _ if retrying => Reason::Retrying,
        _ => return None,
    };
    Some(Verdict::new(ConditionType::Reconciling, ConditionStatus::True, reason, ready.message.clone()))
}

fn in_sync(tally: &Tally) -> String {
    part_of(tally.namespaces.synced, tally.namespaces.matched, "namespace") + " in sync"
}

fn attached(tally: &Tally) -> String {
    part_of(tally.service_accounts.attached, tally.service_accounts.matched, "ServiceAccount") + " attached"
}

/// Why not all is in place, and how to ask for a try where regcred holds back because others undo what it writes.
fn why(observed: &Observed<'_>, of: impl Fn(&Object) -> bool) -> String {
    because(observed.tally, &of) + &how_to_ask(observed, |object, _| of(object))
}

/// While the object is being deleted nobody acts on the annotation.
fn how_to_ask(observed: &Observed<'_>, of: impl Fn(&Object, &Fault) -> bool) -> String {
    let mut failures = observed.tally.failures.iter();
    let is_paused = failures.any(|((_, object), fault)| fault.retry_at.is_some() && of(object, fault));
    if !is_paused || observed.credential.deleting {
        return String::new();
    }
    let (name, annotation) = (&observed.credential.name, names::REQUESTED_AT_ANNOTATION);
    format!("; to try now: kubectl annotate regcred {name} {annotation}=$(date -Is) --overwrite")
}

fn progress(observed: &Observed<'_>) -> String {
    let waits = match observed.source {
        None => "; the sources are being read",
        Some(_) if observed.in_progress => "; the rest is queued",
        Some(_) => "",
    };
    let tally = observed.tally;
    format!("{}, {}{waits}{}", in_sync(tally), attached(tally), why(observed, |_| true))
}

fn deletion(tally: &Tally) -> String {
    let (left, names) = (tally.departing.len(), listed(tally.departing.iter().map(|name| &**name)));
    if left == 0 {
        return format!("{DELETING}nothing is left to be cleaned up");
    }
    let namespaces = counted(left, "namespace");
    format!("{DELETING}still to be cleaned up: {namespaces} ({names}){}", because(tally, |_| true))
}

/// The reason of every failure of these objects, if it is one.
fn only_reason(tally: &Tally, of: impl Fn(&Object) -> bool) -> Option<Reason> {
    let mut reasons =
        tally.failures.iter().filter(|((_, object), _)| of(object)).map(|(_, fault)| fault.reason);
    let first = reasons.next()?;
    reasons.all(|reason| reason == first).then_some(first)
}

fn conditions(
    old: &RegistryCredentialStatus,
    verdicts: &Verdicts,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |verdict: &Verdict| {
        let unchanged = old.condition(verdict.kind).filter(|before| before.status == verdict.status.as_str());
        Condition {
            type_: verdict.kind.as_str().to_owned(),
            status: verdict.status.as_str().to_owned(),
            reason: verdict.reason.to_string(),
            message: verdict.message.clone(),
            observed_generation: generation,
            last_transition_time: unchanged
                .map_or(whole_second(now), |before| before.last_transition_time.clone()),
        }
    };
    verdicts.0.iter().map(condition).collect()
}

fn summary(old: &RegistryCredentialStatus, observed: &Observed<'_>) -> Summary {
    let tally = observed.tally;
    let accounts_wanted = observed.credential.active_spec().is_some_and(|s| !s.service_accounts.is_none());
    Summary {
        namespaces: format!("{}/{}", tally.namespaces.synced, tally.namespaces.matched),
        service_accounts: if accounts_wanted {
            format!("{}/{}", tally.service_accounts.attached, tally.service_accounts.matched)
        } else {
            String::new()
        },
        next_expiry: payload(observed).map_or(old.summary.next_expiry.clone(), |payload| {
            payload.expires_at.map(|at| whole_second(at).0.to_string())
        }),
        secret: observed.credential.spec.as_ref().map_or(String::new(), |spec| spec.target_name.to_string()),
    }
}

fn payload<'a>(observed: &Observed<'a>) -> Option<&'a Payload> {
    observed.credential.copy.as_ref().map(|copy| &copy.payload)
}

/// A failure that the old status lists for the same reason keeps its time, also after a restart.
fn failures(old: &RegistryCredentialStatus, tally: &Tally) -> Vec<Failure> {
    let failure = |((namespace, object), fault): (&(Arc<str>, Object), &Fault)| {
        let (Object::Secret(name) | Object::ServiceAccount(name)) = object;
        let mut failure = Failure {
            namespace: namespace.to_string(),
            kind: kind_of(object).to_owned(),
            name: name.to_string(),
            reason: fault.reason.to_string(),
            message: fault.message.to_string() + &again(fault.retry_at),
            since: whole_second(fault.since),
        };
        if let Some(before) = old.failures.iter().find(|before| same_failure(before, &failure)) {
            failure.since = before.since.clone();
        }
        failure
    };
    tally.failures.iter().take(MAX_FAILURES).map(failure).collect()
}

fn kind_of(object: &Object) -> &'static str {
    if object.is_secret() { "Secret" } else { ACCOUNT }
}

fn same_failure(one: &Failure, other: &Failure) -> bool {
    (&one.namespace, &one.kind, &one.name, &one.reason)
        == (&other.namespace, &other.kind, &other.name, &other.reason)
}

fn events(
    old: &RegistryCredentialStatus,
    new: &RegistryCredentialStatus,
    observed: &Observed<'_>,
    verdicts: &Verdicts,
) -> Vec<Event> {
    let verified = verdicts.0.iter().find(|own| own.kind == ConditionType::CredentialsVerified);
    // Ready, and a source whose credential is held back, say the same as the registry.
    let repeats = |own: &Verdict| matches!(own.kind, ConditionType::SourceReady | ConditionType::Ready);
    let is_told =
        |own: &&Verdict| !repeats(own) || verified.is_none_or(|verified| verified.reason != own.reason);
    let verdicts = verdicts.0.iter().filter(is_told);
    let mut events: Vec<Event> = verdicts.filter_map(|verdict| warning(verdict, old)).collect();
    events.extend(failure_events(old, new, observed));
    events.extend(rotation(old, new));
    let succeeded = |status: &RegistryCredentialStatus| {
        status.condition(ConditionType::Ready).is_some_and(|ready| ready.reason == Reason::Succeeded.as_str())
    };
    if succeeded(new) && !succeeded(old) {
        let note = counted(new.namespaces.synced, "namespace") + " in sync";
        events.push(Event { reason: Reason::Synced, note });
    }
    events
}

/// An event for a condition that asks a user to act, for a reason or a cause that it did not have before. What failed is
/// told for itself: a condition that sums it up has other words with every namespace.
fn warning(verdict: &Verdict, old: &RegistryCredentialStatus) -> Option<Event> {
    let sums_up =
        matches!(verdict.kind, ConditionType::SecretsSynced | ConditionType::ServiceAccountsAttached)
            || verdict.reason == Reason::TargetClaimed;
    let cause = |message: &str| stem(as_observed(message));
    let is_old = old.condition(verdict.kind).is_some_and(|before| {
        before.reason == verdict.reason.as_str() && cause(&before.message) == cause(&verdict.message)
    });
    let is_news = verdict.reason.is_warning() && !sums_up && !is_old;
    is_news.then(|| Event { reason: verdict.reason, note: verdict.message.clone() })
}

/// An event for each reason of failures of which some cause was not there before. Whatever keeps a deletion from its end is
/// told once more when that begins.
fn failure_events(
    old: &RegistryCredentialStatus,
    new: &RegistryCredentialStatus,
    observed: &Observed<'_>,
) -> Vec<Event> {
    let cause =
        |failure: &Failure| Some((event_reason(&failure.kind, &failure.reason)?, stem(&failure.message)));
    let old_ready = old.condition(ConditionType::Ready);
    let is_old_deletion = old_ready.is_some_and(|ready| ready.message.starts_with(DELETING));
    let is_known = |_: &&Failure| !observed.credential.deleting || is_old_deletion;
    let known: BTreeSet<_> = old.failures.iter().filter(is_known).filter_map(cause).collect();
    let news = new.failures.iter().filter_map(cause).filter(|cause| !known.contains(cause));
    let reasons: BTreeSet<_> = news.map(|(reason, _)| reason).collect();
    let told_of = |reason: Reason| {
        let of = |object: &Object, fault: &Fault| {
            event_reason(kind_of(object), fault.reason.as_str()) == Some(reason)
        };
        let deleting = if observed.credential.deleting { DELETING } else { "" };
        let note = told(observed.tally, of)?;
        Some(Event { reason, note: format!("{deleting}{note}{}", how_to_ask(observed, of)) })
    };
    reasons.into_iter().filter_map(told_of).collect()
}

/// The reason of the event about a failure.
fn event_reason(kind: &str, reason: &str) -> Option<Reason> {
    match reason.parse().ok()? {
        Reason::Contested if kind == ACCOUNT => Some(Reason::ServiceAccountContested),
        reason => Some(reason),
    }
}

fn rotation(old: &RegistryCredentialStatus, new: &RegistryCredentialStatus) -> Option<Event> {
    let is_other = !old.registries.is_empty() && fingerprints(old) != fingerprints(new);
    let note = || match refreshed(old, new).as_slice() {
        [] => "the servers are others than before".to_owned(),
        servers => format!("a new credential for {}", listed(servers.iter())),
    };
    is_other.then(|| Event { reason: Reason::CredentialRefreshed, note: note() })
}

/// Servers whose credential is new or another.
fn refreshed<'a>(old: &RegistryCredentialStatus, new: &'a RegistryCredentialStatus) -> Vec<&'a str> {
    let before = fingerprints(old);
    let other = fingerprints(new).into_iter().filter(|entry| !before.contains(entry));
    other.map(|(server, _)| server).collect()
}

fn fingerprints(status: &RegistryCredentialStatus) -> Vec<(&str, &str)> {
    status.registries.iter().map(|r| (r.server.as_str(), r.fingerprint.as_str())).collect()
}
