//! The Terraform provider: the provider block, resources, data sources, ephemeral resources, functions.

pub mod backup_region;
pub mod config;
pub mod data;
pub mod docs;
pub mod duration;
pub mod ephemeral;
pub mod fork;
pub mod functions;
pub mod names;
pub mod refresh;
pub mod report;
pub mod schema;
pub mod session;
pub mod start;
pub mod timeouts;
pub mod value;
