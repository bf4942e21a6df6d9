//! The provider through the real `terraform` binary, against a fake of the API that refuses what the
//! real one refuses.
#![allow(clippy::unwrap_used, reason = "a test helper may panic")]
#![allow(clippy::disallowed_methods, reason = "other processes run by the real clock")]

mod acceptance;
mod answers;
mod api;
mod data;
mod efficiency;
mod functions;
mod journeys;
mod outages;
mod rows;
mod secrets;
mod terraform;
mod traps;
mod upgrades;
