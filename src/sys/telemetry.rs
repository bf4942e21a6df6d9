//! The engine's log: one line for each event on standard error.

use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt};

/// Name of the variable that sets what is logged, such as `info` or `btar=debug`.
const LEVEL_VARIABLE: &str = "BTAR_LOG";

/// Begins logging; `info` unless `BTAR_LOG` says otherwise. A wrong value is told and ignored.
pub fn init() {
    let filter = EnvFilter::builder()
        .with_env_var(LEVEL_VARIABLE)
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
