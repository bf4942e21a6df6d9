//! PostgreSQL's write-ahead log: records, their times, and where a recovery stops.
//!
//! Everything here works on bytes in memory. Sources of the formats: `xlog_internal.h`,
//! `xlogrecord.h`, `xact.h` and `pg_control.h` of PostgreSQL 13 to 18, little-endian machines.

pub mod decode;
#[cfg(test)]
pub(crate) mod fake;
pub mod page;
pub mod record;
pub mod scan;
pub mod stop;
pub mod timeline;
mod walk;
