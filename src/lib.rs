//! Backup to another region: the rules, the wire, the Terraform provider and the replication engine.

pub mod domain;

pub mod api;

pub mod sys;

#[cfg(any(feature = "provider", feature = "engine"))]
pub mod client;
#[cfg(feature = "provider")]
pub mod plugin;
#[cfg(feature = "provider")]
pub mod provider;

#[cfg(feature = "engine")]
pub mod binlog;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod layout;
#[cfg(feature = "engine")]
pub mod push;
#[cfg(feature = "engine")]
pub mod restore;
#[cfg(feature = "engine")]
pub mod sealed;
#[cfg(feature = "engine")]
pub mod store;
#[cfg(feature = "engine")]
pub mod wal;
