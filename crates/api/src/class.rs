//! What a failure asks for: one set for writes and for sources.

/// What a failure asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// A user must act; trying again may help only after that, so tries are far apart.
    UserMustAct,
    /// Nothing is wrong: what is missing will announce itself.
    Wait,
    /// The next try may succeed.
    Retry,
}
