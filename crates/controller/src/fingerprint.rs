//! The keyed digest by which a copy is recognised without reading it, and the key of this install.
//! Never a plain hash: that would let anybody who may read metadata test guesses of a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use regcred_dockerconfig::SecretBytes;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::calls::answer;
use crate::error::Error;
use crate::pause::Pause;

/// The Secret, in the operator's own namespace, that holds the key.
const KEY_SECRET: &str = "regcred-fingerprint-key";
/// Its one entry.
const KEY_ENTRY: &str = "key";
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

    /// HMAC-SHA256, cut to 128 bits, as 32 hexadecimal digits.
    pub(crate) fn fingerprint(&self, content: &SecretBytes) -> String {
        let tag = hmac::sign(&self.0, content.expose());
        let first: [u8; FINGERPRINT_LEN] = std::array::from_fn(|at| tag.as_ref()[at]);
        format!("{:032x}", u128::from_be_bytes(first))
    }

    /// The first 32 bits, for status.
    pub(crate) fn short(&self, content: &SecretBytes) -> String {
        let mut fingerprint = self.fingerprint(content);
        fingerprint.truncate(SHORT_LEN);
        fingerprint
    }
}

/// Reads the key, or makes it at the first start. Tries until the API server answers.
pub(crate) async fn load(secrets: &Api<Secret>, namespace: &str) -> Result<FingerprintKey, Error> {
    let mut fresh = [0; KEY_LEN];
    SystemRandom::new().fill(&mut fresh).map_err(|_| Error::NoRandomness)?;
    let mut pause = Pause::default();
    loop {
        match answer(read_or_make(secrets, &fresh)).await {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => tracing::debug!("another replica made the fingerprint key"),
            Err(error) => {
                tracing::warn!(
                    secret = KEY_SECRET,
                    namespace,
                    code = error.code(),
                    "waiting for the fingerprint key"
                );
            }
        }
        tokio::time::sleep(pause.next()).await;
    }
}

/// `None`: another replica was first, and reading again will find its key.
async fn read_or_make(secrets: &Api<Secret>, fresh: &[u8]) -> kube::Result<Option<FingerprintKey>> {
    if let Some(secret) = secrets.get_opt(KEY_SECRET).await? {
        let bytes = secret.data.and_then(|mut data| data.remove(KEY_ENTRY)).unwrap_or_default().0;
        if bytes.len() >= KEY_LEN {
            return Ok(Some(FingerprintKey::new(&bytes)));
        }
        tracing::warn!(secret = KEY_SECRET, "the fingerprint key is too short; making a new one");
    }
    match secrets.patch(KEY_SECRET, &unshared_apply(), &Patch::Apply(&manifest(fresh))).await {
        Ok(_) => Ok(Some(FingerprintKey::new(fresh))),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Server-side apply, because RBAC can limit it by name also for creation. Under a field manager of
/// this process alone and without force, so that of two replicas that start together one conflicts.
fn unshared_apply() -> PatchParams {
    PatchParams::apply(&format!("regcred-{:016x}", fastrand::u64(..)))
}

fn manifest(key: &[u8]) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": KEY_SECRET},
        "type": "Opaque",
        "data": {KEY_ENTRY: STANDARD.encode(key)},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_keyed_and_short_in_status() {
        let content = SecretBytes::from(b"content".to_vec());
        let (one, other) = (FingerprintKey::new(&[1; KEY_LEN]), FingerprintKey::new(&[2; KEY_LEN]));
        assert_eq!(one.fingerprint(&content).len(), 32);
        assert_ne!(one.fingerprint(&content), other.fingerprint(&content));
        assert_eq!(one.short(&content), one.fingerprint(&content)[..8]);
    }
}
