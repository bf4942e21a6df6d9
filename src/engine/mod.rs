//! The replication engine: observes stores, copies backups, serves the API, forks databases.

pub mod config;

pub mod app;
pub mod catalog;
pub mod error;
pub mod fork;
pub mod fork_jobs;
pub mod replicate;
pub mod state;
pub mod views;
