//! What status says of each server: what its source gave, and what its registry said of that.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use regcred_api::{ConditionStatus, RegistryCredentialStatus, RegistryStatus, VerificationStatus};

use crate::source_state::{ResolvedRegistry, SourceState};
use crate::verified::Verified;
use crate::verify::Verdict;

/// A failed source keeps the last entries, because the copies still have that content.
pub(crate) fn registries(
    old: &RegistryCredentialStatus,
    source: Option<&SourceState>,
    verified: Option<&[Verified]>,
    now: Timestamp,
) -> Vec<RegistryStatus> {
    let mut registries = match source {
        Some(
            SourceState::Resolved { registries, .. }
            | SourceState::Failed { registries: Some(registries), .. },
        ) => registries.iter().map(|resolved| registry(old, resolved, now)).collect(),
        _ => old.registries.iter().map(|before| remembered(before, verified)).collect(),
    };
    let Some(verified) = verified else { return registries };
    for registry in &mut registries {
        let own = verified.iter().find(|own| own.server == registry.server);
        registry.verification = own.and_then(|own| verification(own).or(registry.verification.take()));
    }
    let is_missing = |own: &&Verified| !registries.iter().any(|registry| registry.server == own.server);
    let without_entry: Vec<_> = verified.iter().filter(is_missing).filter_map(without_entry).collect();
    registries.extend(without_entry);
    registries
}

/// What is known of a server from before. Where copies had no entry for it, the last credential that was rejected is the one to be
/// told of: beside another it would read as the one that copies keep.
fn remembered(before: &RegistryStatus, verified: Option<&[Verified]>) -> RegistryStatus {
    let own = verified.into_iter().flatten().find(|own| own.server == before.server && own.hold);
    let anew = own.filter(|_| had_no_entry(before)).and_then(without_entry);
    anew.unwrap_or_else(|| before.clone())
}

/// Whether this is what [`without_entry`] made of a rejection: of such a server no other time is known than that of the question.
fn had_no_entry(before: &RegistryStatus) -> bool {
    let is_rejection = |reason: &str| {
        let verdict = reason.parse().ok().and_then(|reason| Verdict::of(reason, String::new()));
        verdict.is_some_and(|verdict| verdict.status == ConditionStatus::False)
    };
    before.verification.as_ref().is_some_and(|verification| {
        is_rejection(&verification.reason)
            && verification.fingerprint == before.fingerprint
            && verification.checked_at == before.refreshed_at
    })
}

/// A server of which copies have no entry, as its credential, or that of another server, is rejected. What its registry said
/// is kept for whoever starts anew.
fn without_entry(verified: &Verified) -> Option<RegistryStatus> {
    let verification = verification(verified)?;
    Some(RegistryStatus {
        server: verified.server.clone(),
        source: verified.kind.to_owned(),
        fingerprint: verified.fingerprint.clone(),
        refreshed_at: verification.checked_at.clone(),
        expires_at: None,
        next_refresh_at: None,
        verification: Some(verification),
    })
}

fn registry(old: &RegistryCredentialStatus, resolved: &ResolvedRegistry, now: Timestamp) -> RegistryStatus {
    let before = old.registries.iter().find(|before| before.server == resolved.server);
    let same = before.filter(|before| before.fingerprint == resolved.fingerprint);
    RegistryStatus {
        server: resolved.server.clone(),
        source: resolved.kind.to_owned(),
        fingerprint: resolved.fingerprint.clone(),
        refreshed_at: same.map_or(whole_second(now), |before| before.refreshed_at.clone()),
        expires_at: resolved.expires_at.map(whole_second),
        next_refresh_at: resolved.renew_at.map(whole_second),
        verification: before.and_then(|before| before.verification.clone()),
    }
}

/// What a registry said; `None` before it was asked.
fn verification(verified: &Verified) -> Option<VerificationStatus> {
    let answer = verified.answer.as_ref()?;
    Some(VerificationStatus {
        reason: answer.verdict.reason.to_string(),
        message: answer.verdict.message.clone(),
        fingerprint: verified.fingerprint.clone(),
        checked_at: whole_second(answer.checked_at),
        next_check_at: whole_second(answer.next_at),
    })
}

/// `metav1.Time` holds whole seconds; finer ones would make a status differ from what was stored.
pub(crate) fn whole_second(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
