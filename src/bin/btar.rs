//! The engine's command line.

use btar::engine::fork::fetch;
use clap::Parser;
use std::{path::PathBuf, process::ExitCode};

/// Backup to another region: the engine.
#[derive(Debug, Parser)]
#[command(name = "btar", version)]
enum Call {
    /// Hands PostgreSQL one file of its log, as the `restore_command` of a fork.
    WalFetch {
        /// The file that says what the recovery needs.
        plan: PathBuf,
        /// PostgreSQL's name of the file.
        name: String,
        /// Where to put it.
        destination: PathBuf,
    },
}

fn main() -> ExitCode {
    match Call::parse() {
        Call::WalFetch { plan, name, destination } => fetch::run(&plan, &name, &destination),
    }
}
