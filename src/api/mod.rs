//! The wire: the part of Aiven's REST API v1 that backup to another region needs, and our
//! additions, which are extra optional fields.

pub mod backups;
pub mod catalog;
pub mod error;
pub mod path;
pub mod service;
pub mod status;
