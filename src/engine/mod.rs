//! The replication engine: observes stores, copies backups, serves the API, forks databases.

pub mod catalog;
pub mod fork;
pub mod replicate;
