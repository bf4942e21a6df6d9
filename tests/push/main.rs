//! `btar push` on real MariaDB and MySQL servers: what it stores is restored by hand, whenever it dies.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod support;

#[path = "../support/mysql.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod mysql_server;

mod server;
mod world;

mod death;
mod restore;
mod series;
