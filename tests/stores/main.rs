//! What every store promises, asked of each of them, and what each does when things go wrong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod suite;

mod foreign;
mod server;
mod support;

mod azure;
mod copies;
mod directory;
mod google;
mod memory;
mod moto;
mod s3;
mod tls;
mod transfer;
mod wrappers;
