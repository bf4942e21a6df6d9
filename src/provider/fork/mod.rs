//! The resource `fork_from_secondary_backup`: a new service, restored from a secondary copy.
