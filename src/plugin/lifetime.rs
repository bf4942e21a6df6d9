//! When the plugin ends: when Terraform says so or is gone, and not at a signal meant for Terraform.

use std::{io, os::unix::process::parent_id, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How often to look whether Terraform still lives.
const PARENT_CHECK: Duration = Duration::from_secs(2);

/// Keeps the process alive through SIGINT and the first SIGTERM.
///
/// Ctrl-C reaches every process of the terminal, and systemd and containers send SIGTERM to every
/// process of the group. Terraform takes both as a wish to end in order: it calls `StopProvider`, then
/// waits for the running calls. If the plugin died instead, an object being created would be in no
/// state. A second SIGTERM ends the plugin for whoever wants only that.
pub(super) fn survive_signals(
    stop: CancellationToken,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {
                    if stop.is_cancelled() {
                        shutdown.cancel();
                    }
                    stop.cancel();
                }
                () = shutdown.cancelled() => return,
            }
        }
    });
    Ok(())
}

/// Ends the plugin when Terraform was killed and could not say so. Nobody would ever call it again.
pub(super) fn end_with_parent(stop: CancellationToken, shutdown: CancellationToken) {
    let parent = parent_id();
    tokio::spawn(async move {
        while tokio::time::timeout(PARENT_CHECK, shutdown.cancelled()).await.is_err() {
            if parent_id() != parent {
                tracing::warn!("Terraform is gone");
                stop.cancel();
                shutdown.cancel();
            }
        }
    });
}
