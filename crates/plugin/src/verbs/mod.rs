//! One file for each verb: its report, made of a scene by a pure function, and how the report reads.

pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod impact;
pub(crate) mod refresh;
pub(crate) mod status;
