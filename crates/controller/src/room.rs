//! Room in memory for what is large and many may need at once: bodies of writes, and pages of lists. Whoever decides how
//! large an object is would else decide how much memory the operator takes.

use tokio::sync::{Semaphore, SemaphorePermit};

/// What large writes in flight may hold together, in KiB of the copies that they send and of the objects that answer them;
/// each takes about three times as much meanwhile. It is more than one write can have.
const WRITES: u32 = 4 * 1024;
/// A write of up to this many KiB needs no room: as many as there are workers take less than one large one.
const SMALL: u32 = 32;

/// The room that there is.
#[derive(Debug)]
pub(crate) struct Room {
    writes: Semaphore,
    pages: Semaphore,
}

impl Default for Room {
    fn default() -> Self {
        // A `u32` fits a `usize` wherever this runs.
        Self { writes: Semaphore::new(WRITES as usize), pages: Semaphore::new(1) }
    }
}

impl Room {
    /// Waits until a write may be made that holds so many bytes, sent and received; it gives its room back when this is
    /// dropped.
    pub(crate) async fn to_write(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let kibibytes = u32::try_from(bytes / 1024).unwrap_or(WRITES).min(WRITES);
        if kibibytes <= SMALL {
            return None;
        }
        // It is never closed, so this gives a permit.
        self.writes.acquire_many(kibibytes).await.ok()
    }

    /// Waits until no other list is read in pages.
    pub(crate) async fn to_list(&self) -> Option<SemaphorePermit<'_>> {
        self.pages.acquire().await.ok()
    }
}
