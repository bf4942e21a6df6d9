//! pgBackRest repositories, format 5: keys, catalogue files, what a backup needs.
//!
//! Sources: the files that pgBackRest 2.45 writes, and `src/info` and `src/command/backup` of its
//! source. The same format number holds from 2.45 to 2.60.

pub mod info_file;
pub mod keys;

pub mod backup_info;
pub mod manifest;
