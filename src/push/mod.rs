//! `btar push`: writes the primary region's backups of a MySQL or MariaDB server, on its own host.
//!
//! `base`: 1. a stream of the server's files is cut into parts and stored; 2. the server's log is
//! closed and stored up to the end of the backup; 3. the manifest is stored, which makes it a backup.
//! `binlogs`: the server's closed binary logs are stored in order. Both may die at any point and be
//! run again, and may run twice at once: every object is written once, to a free name.

pub mod settings;

pub mod base;
pub mod binlogs;
pub mod report;

mod parse;
mod process;
mod server;

mod files;
mod joint;
mod leftovers;
mod parts;
mod stored;

pub mod error;
