//! The replication engine: observes stores, copies backups, serves the API, forks databases.

pub mod config;

pub mod app;
pub mod catalog;
pub mod description;
pub mod driver;
pub mod error;
pub mod fork;
pub mod fork_jobs;
pub mod http;
pub mod manifest;
pub mod parts;
pub mod privilege;
pub mod replicate;
pub mod serve;
pub mod stage;
pub mod state;
pub mod status_text;
pub mod stretches;
pub mod verify;
pub mod views;
