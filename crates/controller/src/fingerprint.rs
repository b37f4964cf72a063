//! The keyed digest by which a copy is recognised without reading it, and the key of this install.
//! Never a plain hash: that would let anybody who may read metadata test guesses of a password.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::api::{Patch, PatchParams};
use regcred_api::names;
use regcred_dockerconfig::{Login, SecretBytes};
use regcred_planner::{Proof, StepError, Uid};
use ring::hmac;
use serde::Deserialize;
use serde_json::json;

use crate::calls::{Objects, answer};
use crate::entropy::Entropy;
use crate::error::Error;
use crate::news::News;
use crate::pause::Pause;

pub(crate) const NO_NAMESPACE: &str =
    "the source namespace does not exist; create it, or give another with --source-namespace";
pub(crate) const FORBIDDEN: &str = "the operator may not read or make it; install regcred's Role in the source namespace, or give \
                         the namespace of that Role with --source-namespace";
pub(crate) const UNUSABLE: &str = "it holds no key of 32 bytes or more, and as it is immutable or no Opaque Secret none can be put in; \
                         delete it, and a new one is made";
const SECRET_TYPE: &str = "Opaque";
/// Bytes of the key: the output length of SHA-256 (RFC 2104, section 3).
const KEY_LEN: usize = 32;
/// Bytes of a fingerprint on a copy: 128 bits.
const FINGERPRINT_LEN: usize = 16;
/// Hexadecimal digits of a fingerprint in status: 32 bits.
const SHORT_LEN: usize = 8;

/// The key of this install.
pub(crate) struct FingerprintKey(hmac::Key);

impl std::fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FingerprintKey")
    }
}

impl FingerprintKey {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// HMAC-SHA256, cut to 128 bits, as 32 hexadecimal digits. The UID of the credential is part of what is signed: equal
    /// contents would otherwise show as equal, and whoever may write one source could guess at another.
    pub(crate) fn fingerprint(&self, uid: &Uid, content: &SecretBytes) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        // No UID contains this byte, so that no other pair gives the same bytes.
        for part in [uid.as_bytes(), &[0], content.expose()] {
            context.update(part);
        }
        let tag = context.sign();
        let first: [u8; FINGERPRINT_LEN] = std::array::from_fn(|at| tag.as_ref()[at]);
        format!("{:032x}", u128::from_be_bytes(first))
    }

    /// What stands for a credential and for what it should be good for, for whichever RegistryCredential. It is shown to
    /// nobody.
    pub(crate) fn question(&self, content: &SecretBytes, proof: &Proof) -> Arc<str> {
        let asked = match proof {
            Proof::Login => String::new(),
            Proof::Pull { repository, reference } => format!("{repository} {reference}"),
        };
        // Neither JSON nor a name has this byte outside a text.
        let whole = SecretBytes::from([content.expose(), &[0], asked.as_bytes()].concat());
        Arc::from(self.fingerprint(&Arc::from(""), &whole))
    }

    /// What stands for a login at a host, whatever it should be good for. It is shown to nobody.
    pub(crate) fn account(&self, host: &str, login: &Login) -> Arc<str> {
        let parts = [host.as_bytes(), &[0], login.username().expose(), &[0], login.password().expose()];
        // Neither a host nor a user name has this byte.
        Arc::from(self.fingerprint(&Arc::from("account"), &SecretBytes::from(parts.concat())))
    }

    /// The first 32 bits, for status.
    pub(crate) fn short(&self, uid: &Uid, content: &SecretBytes) -> String {
        let mut fingerprint = self.fingerprint(uid, content);
        fingerprint.truncate(SHORT_LEN);
        fingerprint
    }
}

/// The Secret, as far as it is read. It is printed by nobody.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    metadata: Version,
    #[serde(rename = "type")]
    kind: Option<String>,
    immutable: Option<bool>,
    data: Option<Entries>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    uid: String,
    resource_version: String,
}

#[derive(Deserialize)]
struct Entries {
    key: Option<String>,
}

impl Kept {
    /// The key, if it is one.
    fn key(&self) -> Option<FingerprintKey> {
        let text = self.data.as_ref()?.key.as_ref()?;
        let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() >= KEY_LEN)?;
        Some(FingerprintKey::new(&bytes))
    }

    /// Whether a key can be put in.
    fn is_writable(&self) -> bool {
        self.kind.as_deref() == Some(SECRET_TYPE) && self.immutable != Some(true)
    }
}

/// What came of one look at the Secret.
enum Look {
    Key(FingerprintKey),
    /// Another replica was first, and reading again will find its key.
    TooLate,
    /// Somebody else made the Secret, and of a kind that cannot be mended.
    Unusable,
}

/// Reads the key, or makes it at the first start. Tries until the API server answers; each cause of a delay is logged
/// once in five minutes.
pub(crate) async fn load(
    secrets: &Objects,
    namespace: &str,
    entropy: &Entropy,
) -> Result<FingerprintKey, Error> {
    let mut fresh = [0; KEY_LEN];
    entropy.fill(&mut fresh)?;
    let (mut pause, news) = (Pause::default(), News::default());
    loop {
        let obstacle = match answer(look(secrets, &fresh)).await {
            Ok(Look::Key(key)) => return Ok(key),
            Ok(Look::TooLate) => None,
            Ok(Look::Unusable) => Some(UNUSABLE.to_owned()),
            Err(error) => Some(obstacle(error.meaning())),
        };
        if let Some(cause) = obstacle
            && news.note((), cause.clone()).is_some()
        {
            tracing::warn!(
                secret = names::FINGERPRINT_KEY_SECRET,
                namespace,
                cause,
                "waiting for the fingerprint key"
            );
        }
        tokio::time::sleep(pause.next()).await;
    }
}

/// Why there is no key yet, and what to do.
fn obstacle(cause: StepError) -> String {
    match cause {
        StepError::Gone => NO_NAMESPACE.to_owned(),
        StepError::Forbidden => FORBIDDEN.to_owned(),
        other => other.to_string(),
    }
}

async fn look(secrets: &Objects, fresh: &[u8]) -> kube::Result<Look> {
    let kept: Option<Kept> = secrets.get(names::FINGERPRINT_KEY_SECRET).await?;
    if let Some(key) = kept.as_ref().and_then(Kept::key) {
        return Ok(Look::Key(key));
    }
    if kept.as_ref().is_some_and(|kept| !kept.is_writable()) {
        return Ok(Look::Unusable);
    }
    // One that is too short is replaced, as long as nobody else replaces it.
    let over = kept.map(|kept| kept.metadata);
    let params = PatchParams { force: over.is_some(), ..unshared_apply() };
    match secrets
        .patch(names::FINGERPRINT_KEY_SECRET, &params, &Patch::Apply(manifest(fresh, over.as_ref())))
        .await
    {
        Ok(()) => Ok(Look::Key(FingerprintKey::new(fresh))),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Look::TooLate),
        Err(error) => Err(error),
    }
}

/// Server-side apply, because RBAC can limit it by name also for creation. Under a field manager of
/// this process alone and without force, so that of two replicas that start together one conflicts.
fn unshared_apply() -> PatchParams {
    PatchParams::apply(&format!("regcred-{:016x}", fastrand::u64(..)))
}

fn manifest(key: &[u8], over: Option<&Version>) -> serde_json::Value {
    let mut metadata = json!({"name": names::FINGERPRINT_KEY_SECRET});
    if let Some(over) = over {
        metadata["uid"] = json!(over.uid);
        metadata["resourceVersion"] = json!(over.resource_version);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": SECRET_TYPE,
        "data": {"key": STANDARD.encode(key)},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_keyed_and_short_in_status() {
        let content = SecretBytes::from(b"content".to_vec());
        let (one, other) = (FingerprintKey::new(&[1; KEY_LEN]), FingerprintKey::new(&[2; KEY_LEN]));
        let (uid, another) = (Uid::from("c1"), Uid::from("c2"));
        assert_eq!(one.fingerprint(&uid, &content).len(), 32);
        assert_ne!(one.fingerprint(&uid, &content), other.fingerprint(&uid, &content));
        assert_ne!(one.fingerprint(&uid, &content), one.fingerprint(&another, &content));
        assert_eq!(one.short(&uid, &content), one.fingerprint(&uid, &content)[..8]);
    }
}
