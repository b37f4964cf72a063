//! What a failure asks for: one set for writes and for sources.

/// What a failure asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// A user must act first, so retries are far apart.
    UserMustAct,
    /// Nothing is wrong: a watch event will say when to go on.
    Wait,
    /// The next try may succeed.
    Retry,
}
