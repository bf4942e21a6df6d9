//! Forks of real MariaDB and MySQL servers: exact contents, faults, interruptions, removal.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod support;

#[path = "../support/mysql.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod mysql_server;

mod exact;
mod faults;
mod history;
mod speed;
mod world;
