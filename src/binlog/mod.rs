//! MySQL's and MariaDB's binary logs: transactions, their ids and times, and where a replay stops.
//!
//! Everything here reads from a `std::io::Read` and keeps a fixed buffer in memory, and ids.
//! What is verified: the checksum of every event (where the server writes them), its length, that
//! it lies where it says, that every group has a beginning and an end, and that nothing follows the
//! end of the file. The bodies of events with rows, and of compressed transactions, are covered by
//! their checksum and not looked into: ids and times of a transaction stand outside of them.
//!
//! The time of a transaction is when *this server* committed it: MySQL's `immediate_commit_timestamp`
//! in microseconds since 8.0.1. On a replica `original_commit_timestamp` and the times in the headers
//! of events are the source's and are not used. Servers that know no such time (MariaDB, MySQL 5.6
//! and 5.7) name the second in which the committing statement began, and that is used.
//!
//! Sources of the formats: `libs/mysql/binlog/event` and `libs/mysql/serialization` of MySQL 9,
//! `sql/log_event.h` of MySQL 5.6 and of MariaDB 10 and 11.

pub mod event;
#[cfg(test)]
pub(crate) mod fake;
pub mod fault;
#[cfg(test)]
pub(crate) mod fixture;
pub mod groups;
mod gtids;
mod reader;
pub mod stop;
pub mod summary;
mod tagged;
