//! Tests with real parts: PostgreSQL, pgBackRest, the engine, the terraform binary.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod acceptance;
mod api;
mod drills;
mod faults;
mod guide;
mod support;
