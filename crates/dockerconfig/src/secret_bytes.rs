//! Bytes that cannot be printed.

use zeroize::Zeroizing;

/// Bytes of a credential. They have no `Debug`, `Display` or `Serialize`, and are overwritten when
/// they are dropped.
#[derive(Clone, Eq, PartialEq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// The bytes. Whoever calls this answers for where they go.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}
