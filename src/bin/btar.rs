//! The engine's command line.

use anyhow::Context;
use btar::{
    engine::{config, fork::fetch, serve},
    sys::telemetry,
};
use clap::Parser;
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Backup to another region: the engine.
#[derive(Debug, Parser)]
#[command(name = "btar", version)]
enum Call {
    /// Replicates backups, forks databases, and serves the API.
    Serve {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Checks a configuration and says what it means.
    Check {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Hands PostgreSQL one file of its log, as the `restore_command` of a fork.
    #[command(hide = true)]
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
    let done = match Call::parse() {
        Call::WalFetch { plan, name, destination } => {
            return fetch::run(&plan, &name, &destination);
        }
        Call::Serve { config } => run(&config),
        Call::Check { config } => check(&config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody else could be told.
            let _ = writeln!(std::io::stderr(), "btar: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(file: &Path) -> anyhow::Result<()> {
    let settings = config::load(file)?;
    telemetry::init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime failed")?;
    runtime.block_on(serve::serve(settings))?;
    Ok(())
}

fn check(file: &Path) -> anyhow::Result<()> {
    let settings = config::load(file)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{}: {} regions, {} services, {} tokens; forks on {} ports {}-{}",
        file.display(),
        settings.regions.len(),
        settings.services.len(),
        settings.tokens.len(),
        settings.forks.host,
        settings.forks.ports.0,
        settings.forks.ports.1,
    )?;
    Ok(())
}
