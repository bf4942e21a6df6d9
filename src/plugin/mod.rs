//! Terraform's plugin protocol 6 over the traits of tf-provider. Knows nothing about backups.
//!
//! 1. `main` asks [`start::run_by_terraform`], turns on [`log`], and builds a [`server::Server`].
//! 2. `handshake` opens a private socket and tells Terraform about it on stdout.
//! 3. `tls` lets in Terraform and nobody else; `dispatch` reads each call and guards it.
//! 4. `answer` says what each call means; `adapt` calls the typed trait with decoded values.

pub mod server;
pub mod start;

pub mod ephemeral;

pub mod extra;
pub mod log;

mod environment;

mod handshake;

mod tls;

mod connection;

mod lifetime;

mod dispatch;

mod answer;

mod registry;

mod adapt;

mod codec;

mod convert;

mod state;

mod calls;

mod wire;
