//! The Terraform provider: the provider block, and the resources.

pub mod backup_region;
pub mod config;
pub mod docs;
pub mod duration;
pub mod fork;
pub mod names;
pub mod refresh;
pub mod report;
pub mod schema;
pub mod session;
pub mod start;
pub mod timeouts;
pub mod value;
