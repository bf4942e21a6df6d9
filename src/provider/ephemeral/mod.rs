//! The ephemeral resources.

pub mod fork_credentials;
