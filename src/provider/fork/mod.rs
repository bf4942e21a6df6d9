//! The resource `fork_from_secondary_backup`: a new service, restored from a secondary copy.

pub(super) mod check;
pub(super) mod create;
mod former;
mod import;
pub mod model;
mod observe;
pub(super) mod outlook;
mod plan;
pub mod resource;
pub(super) mod rules;
mod wait;
