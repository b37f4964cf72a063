//! What a watch, or the answer to our own write, says about the objects of one kind.

use crate::received::Received;
use crate::shelf::Origin;

/// One event of a list or a watch.
#[derive(Debug)]
pub enum Event<T> {
    /// A list begins. What it does not mention does not exist any more.
    ListBegins,
    /// The object is this now.
    Put(Received<T>, Origin),
    /// The object was deleted.
    Deleted(Received<T>),
    /// The list is complete.
    ListEnds,
}
