//! Tests with real parts: PostgreSQL, pgBackRest, the engine, the terraform binary.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod acceptance;
mod api;
mod buckets;
mod drills;
mod faults;
mod guide;
mod myhoard;
mod mysql;
mod pairs;
mod pghoard;
mod support;
mod tool;

#[path = "../support/mysql.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod mysql_server;

#[path = "../stores/server/mod.rs"]
#[allow(dead_code, reason = "the tests of the stores use the rest")]
mod server;
