//! PGHoard's objects (versions 1 and 2): keys, metadata, index objects, what a backup needs.
//!
//! Sources: `pghoard/basebackup`, `pghoard/restore.py` and `pghoard/common.py` of PGHoard 2.7, and
//! the objects that it writes. All keys here are relative to the prefix of the site.

pub mod keys;
pub mod metadata;
pub mod time;

pub mod index;
pub mod manifest;

pub mod needs;
pub mod removal;
