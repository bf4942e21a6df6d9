//! Each major version of PostgreSQL for real: its log against its own `pg_waldump`, and forks of its
//! backups. CI runs some of them; `make versions` runs all and says what it saw.
#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests, which say what they saw")]

#[path = "../wal_oracle/cluster.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod cluster;
#[path = "../wal_oracle/dump.rs"]
mod dump;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod support;
#[path = "../wal_oracle/workload.rs"]
mod workload;

mod fork;
mod log;
mod site;

#[test]
#[ignore = "run with `make versions`"]
fn log_of_13() {
    log::check(13);
}

#[test]
#[ignore = "run with `make versions`"]
fn log_of_14() {
    log::check(14);
}

#[test]
#[ignore = "run with `make versions`; the tests of the log reader run it otherwise"]
fn log_of_15() {
    log::check(15);
}

#[test]
#[ignore = "run with `make versions`"]
fn log_of_16() {
    log::check(16);
}

#[test]
fn log_of_17() {
    log::check(17);
}

#[test]
fn log_of_18() {
    log::check(18);
}

#[test]
#[ignore = "run with `make versions`"]
fn fork_of_13() {
    fork::check("fork_of_13", 13);
}

#[test]
#[ignore = "run with `make versions`"]
fn fork_of_14() {
    fork::check("fork_of_14", 14);
}

#[test]
#[ignore = "run with `make versions`; the tests of forks run it otherwise"]
fn fork_of_15() {
    fork::check("fork_of_15", 15);
}

#[test]
#[ignore = "run with `make versions`"]
fn fork_of_16() {
    fork::check("fork_of_16", 16);
}

#[test]
fn fork_of_17() {
    fork::check("fork_of_17", 17);
}

#[test]
fn fork_of_18() {
    fork::check("fork_of_18", 18);
}
