//! The whole operator against an API server in memory.
pub mod cluster;
pub mod faults;
pub mod guard;
pub mod names;
pub mod oracle;
pub mod people;
pub mod replica;
pub mod run;
pub mod server;
pub mod trace;
