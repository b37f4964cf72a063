//! Random bytes for keys. They are drawn in one place, and a simulation injects its own, so that a seed always gives the same run.

use std::fmt;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};

use crate::error::Error;

/// Fills all of a buffer.
type Fill = dyn Fn(&mut [u8]) -> Result<(), Error> + Send + Sync;

/// Gives random bytes.
#[derive(Clone)]
pub struct Entropy(Arc<Fill>);

impl Entropy {
    /// What `fill` fills is taken as random.
    pub fn new(fill: impl Fn(&mut [u8]) -> Result<(), Error> + Send + Sync + 'static) -> Self {
        Self(Arc::new(fill))
    }

    /// Fills all of `bytes`.
    pub(crate) fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        (self.0)(bytes)
    }
}

/// The random bytes of the system.
impl Default for Entropy {
    fn default() -> Self {
        Self::new(|bytes| SystemRandom::new().fill(bytes).map_err(|_| Error::NoRandomness))
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}
