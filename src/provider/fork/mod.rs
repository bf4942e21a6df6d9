//! The resource `fork_from_secondary_backup`: a new service, restored from a secondary copy.

mod check;
mod create;
mod import;
pub mod model;
mod observe;
mod outlook;
mod plan;
pub mod resource;
mod rules;
mod wait;
