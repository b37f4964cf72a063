//! Bytes that cannot be printed.

use std::sync::Arc;

use zeroize::Zeroizing;

/// Bytes of a credential. They have no `Debug`, `Display` or `Serialize`, are shared by their clones, and are overwritten
/// when the last of these is dropped.
#[derive(Clone, Eq, PartialEq)]
pub struct SecretBytes(Arc<Zeroizing<Vec<u8>>>);

impl SecretBytes {
    /// The bytes. Whoever calls this answers for where they go.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }
}
