//! What the status of a RegistryCredential says of its copies, and no more than that: whether a namespace has one, and whether copies
//! have an entry for a server whose registry rejects the credential.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use regcred_api::{ConditionType, NamespaceCounts, Reason, RegistryStatus, VerificationStatus};
use regcred_dockerconfig::Server;
use regcred_index::CredentialEntry;

use crate::text::sentence;

/// Which of the selected namespaces have a copy, of those for which status lists no failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Spread {
    /// Each of them.
    All,
    /// None.
    None,
    /// Status does not say.
    Unknown,
}

/// What copies hold of a server while the credential of its source is rejected and held back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Held<'a> {
    /// The credential with this fingerprint, which was accepted.
    Kept(&'a str),
    /// No entry.
    Lacking,
    /// The rejected credential, from before it was rejected, or no entry: status does not say.
    Unknown,
}

/// What the operator says against something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Told {
    /// Its reason and its sentence.
    pub(crate) text: String,
    /// Somebody has to act; else it is still at work.
    pub(crate) asks: bool,
}

impl Told {
    pub(crate) fn new(reason: &str, message: &str) -> Self {
        let asks = reason != Reason::Progressing.as_str();
        Self { text: sentence(&format!("{reason}: {message}")), asks }
    }
}

/// Which namespaces have a copy. `selected` is how many the spec selects now, where that is known.
pub(crate) fn spread(entry: &CredentialEntry, selected: Option<usize>) -> Spread {
    let Some(status) = &entry.object.status else { return Spread::None };
    let NamespaceCounts { matched, synced, failed } = status.namespaces;
    let is_whole = failed == 0 || status.failures_omitted == 0;
    if !is_seen(entry) || selected.is_some_and(|selected| selected > matched) {
        Spread::Unknown
    } else if synced == 0 {
        Spread::None
    } else if is_whole && synced.saturating_add(failed) == matched {
        Spread::All
    } else {
        Spread::Unknown
    }
}

/// Why status does not say which namespaces have a copy.
pub(crate) fn doubt(entry: &CredentialEntry, selected: Option<usize>) -> String {
    let counts = entry.object.status.as_ref().map(|status| status.namespaces).unwrap_or_default();
    let NamespaceCounts { matched, synced, .. } = counts;
    if !is_seen(entry) {
        let generation = entry.object.generation.unwrap_or_default();
        return format!("the operator has not seen its generation {generation} yet");
    }
    match selected.filter(|selected| *selected > matched) {
        Some(selected) => {
            format!("status counts {matched} of the {selected} namespaces that are selected now")
        }
        None => format!("{synced} of {matched} namespaces have its Secret, and status does not say which"),
    }
}

/// What the operator says of why a namespace has no copy yet, for which it lists no failure. `Ready` is then about other namespaces,
/// unless it is at work or lists not all.
pub(crate) fn told(entry: &CredentialEntry) -> Option<Told> {
    let is_cut = entry.object.status.as_ref().is_some_and(|status| status.failures_omitted > 0);
    let ready = unmet(entry, ConditionType::Ready).map(told_by).filter(|told| is_cut || !told.asks);
    told_of_source(entry).or(ready)
}

/// What the operator says against the sources.
pub(crate) fn told_of_source(entry: &CredentialEntry) -> Option<Told> {
    unmet(entry, ConditionType::SourceReady).map(told_by)
}

/// What copies hold of a server whose credential is rejected, where the spec has it held back, and what the registry said.
pub(crate) fn held<'a>(
    entry: &CredentialEntry,
    registry: &'a RegistryStatus,
) -> Option<(Held<'a>, &'a VerificationStatus)> {
    let verdict = rejection(registry)?;
    let server = Server::parse(&registry.server).ok()?;
    let verification = entry.planned.spec.as_ref().ok()?.verifications.of(&server)?;
    // A source counts as ready where copies have what it gives.
    unmet(entry, ConditionType::SourceReady).filter(|_| verification.hold)?;
    let has_copies = entry.object.status.as_ref().is_some_and(|status| status.fingerprint.is_some());
    let is_same = registry.fingerprint == verdict.fingerprint;
    // Of a server that copies have no entry for, status knows no other time than that of the question.
    let held = if !has_copies || (is_same && registry.refreshed_at == verdict.checked_at) {
        Held::Lacking
    } else if is_same {
        Held::Unknown
    } else {
        Held::Kept(&registry.fingerprint)
    };
    Some((held, verdict))
}

/// What a registry said, where it does not take the credential.
pub(crate) fn rejection(registry: &RegistryStatus) -> Option<&VerificationStatus> {
    let bad = [Reason::Rejected, Reason::Expired, Reason::PullDenied];
    let is_bad = |verdict: &&VerificationStatus| bad.iter().any(|bad| bad.as_str() == verdict.reason);
    registry.verification.as_ref().filter(is_bad)
}

/// What copies hold meanwhile, as a sentence.
pub(crate) fn meanwhile(held: Held<'_>, verdict: &VerificationStatus, server: &str) -> String {
    let rejected = &verdict.fingerprint;
    sentence(&match held {
        Held::Kept(kept) => format!("new credential {rejected} is rejected; copies keep {kept}"),
        Held::Lacking => format!("{rejected} is rejected; copies have no entry for {server}"),
        Held::Unknown => {
            format!(
                "{rejected} is rejected; status does not say whether copies have it or no entry for {server}"
            )
        }
    })
}

/// Whether status speaks of the present spec.
fn is_seen(entry: &CredentialEntry) -> bool {
    entry.object.status.as_ref().is_some_and(|status| status.observed_generation == entry.object.generation)
}

fn unmet(entry: &CredentialEntry, kind: ConditionType) -> Option<&Condition> {
    entry.object.status.as_ref()?.condition(kind).filter(|condition| condition.status != "True")
}

fn told_by(condition: &Condition) -> Told {
    Told::new(&condition.reason, &condition.message)
}
