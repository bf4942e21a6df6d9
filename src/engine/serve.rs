//! From a configuration to a running engine, and its orderly end.

use crate::{
    engine::{
        app::{App, BuildError},
        config::Settings,
        driver, http,
        privilege::{self, PrivilegeError},
        state::{State, StateError},
    },
    sys::clock::SystemClock,
};
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::{net::TcpListener, signal::unix};
use tracing::info;

/// The engine cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It cannot give up root.
    #[error("giving up root failed")]
    Privilege(#[from] PrivilegeError),
    /// The address of the API cannot be used.
    #[error(
        "listening on {address} failed; is another engine running there? Otherwise change [engine] listen"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The state cannot be opened.
    #[error("opening the engine's state failed")]
    State(#[from] StateError),
    /// The parts cannot be built.
    #[error("building the engine failed")]
    Build(#[from] BuildError),
    /// The system refused something.
    #[error("{doing} failed")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Runs the engine until it is told to end by SIGTERM or SIGINT.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(settings: Settings) -> Result<(), ServeError> {
    privilege::drop_root(&settings.user, &settings.data_dir)?;
    let fault = |doing| move |source| ServeError::System { doing, source };
    let program: PathBuf = std::env::current_exe().map_err(fault("finding this program"))?;
    // The state first: its lock tells a second engine apart from a foreign program on the port.
    let state = State::open(&settings.data_dir)?;
    let address = settings.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })?;
    let services = settings.services.len();
    let app = App::build(settings, state, Arc::new(SystemClock::new()), program).await?;
    let mut terminate =
        unix::signal(unix::SignalKind::terminate()).map_err(fault("waiting for signals"))?;
    let mut interrupt =
        unix::signal(unix::SignalKind::interrupt()).map_err(fault("waiting for signals"))?;
    let stop = app.stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("the engine is being stopped; forks that are ready go on running");
        stop.cancel();
    });
    info!(%address, services, "the engine is running");
    app.resume_forks();
    let (served, ()) = tokio::join!(http::serve(app.clone(), listener), driver::run(app.clone()));
    app.stop.cancel();
    app.forks.join().await;
    served.map_err(fault("serving the API"))
}
