//! The layout of `btar push`: base backups of MySQL and MariaDB as one stream each, and their binary logs.
//!
//! It is written down for people in `docs/formats/stream.md`.

pub mod keys;

mod document;
pub mod manifest;
pub mod series;

pub mod chain;
pub mod noted;
