//! Keeps the copies of a service's backups in step with the primary.
//!
//! A pass looks at the targets and then at the source, plans, and executes. A later stage is planned
//! only when the listing shows that the one before is complete in the target: a crash at any point
//! leaves nothing that the next pass does not see. The log has a lane of its own, so that a large
//! base backup does not hold it up.

pub mod plan;

pub mod execute;
pub mod pass;
