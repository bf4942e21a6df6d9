//! The resource `aiven_service_backup_region`: a secondary backup region of a service.

pub mod check;
pub mod model;
pub mod resource;
pub(super) mod switch;
mod wait;
