//! MyHoard's layout: a directory per backup stream, with its base backup and its own binary logs.
//!
//! Only what MyHoard itself relies on is relied on: markers and notes are small JSON objects, what a
//! binary log holds stands in its user metadata. A stream without `completed.json` is no backup, and
//! one with `broken.json` is none either; both say nothing about what is really there.

pub mod keys;

pub mod notes;
pub mod streams;
