//! The rules of backup to another region, as pure values and functions. Glossary of the project.
//!
//! - **primary region**: the cloud in which a service's own backups are stored.
//! - **secondary region**: a cloud that holds a copy of those backups, made from the backups and
//!   never from the service.
//! - **source**, **target**: the store that is read, the store that is written.
//! - **base backup**: a copy of a whole database. **log**: WAL segments or binlogs that follow it.
//! - **complete**: every object that a backup needs is present with the right size.
//! - **restorable**: complete, and the log from its start to its end is there without a hole.
//! - **restore range**: the moments that one restorable base backup and its gapless log reach.
//! - **restore window**: all restore ranges of one region.
//! - **frontier**: where the gapless log of a base backup ends.
//! - **lag**: how far the secondary's frontier is behind the primary's.
//! - **RPO**: what a restore now would lose, in seconds.
//! - **fork**: a new service that is restored from a service's backups.
//! - **violation**: a broken rule, with a stable code and the remedy.

pub mod binlog;
pub mod cloud;
pub mod fork;
pub mod hex;
pub mod ids;
pub mod lsn;
pub mod recovery;
pub mod restore_time;
pub mod target_time;
pub mod violation;
pub mod window;
