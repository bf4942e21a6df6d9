//! The plugin server: what a provider offers, served to Terraform until it says goodbye.

use crate::plugin::{
    adapt::{self, data_source, function, provider, resource},
    connection,
    dispatch::{ControllerService, ProviderService},
    environment::Environment,
    ephemeral::EphemeralResource,
    extra::Extra,
    handshake::{self, SocketDirectory},
    lifetime,
    registry::{Offers, Registry},
    tls::{Tls, TlsError},
};
use std::{fmt, io, sync::Arc, time::Duration};
use tf_provider::{DataSource, Function, Provider, Resource};
use tokio_util::sync::CancellationToken;

/// How long running calls may go on after Terraform has said goodbye or is gone.
const SHUTDOWN_MAX: Duration = Duration::from_secs(60);

/// A provider and what it offers, under names of its choice.
///
/// The provider's own maps of resources and the `provider_meta` block are not used.
pub struct Server<P: Provider> {
    provider: P,
    offers: Offers,
    stop: CancellationToken,
}

impl<P: Provider> fmt::Debug for Server<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("resources", &self.offers.resources.keys())
            .field("data_sources", &self.offers.data_sources.keys())
            .field("ephemerals", &self.offers.ephemerals.keys())
            .field("functions", &self.offers.functions.keys())
            .finish_non_exhaustive()
    }
}

impl<P: Provider> Server<P> {
    /// A provider that offers nothing yet. `stop` is cancelled when Terraform wants the running calls to
    /// come to an end: whatever waits must watch it and return the state of what exists.
    pub fn new(provider: P, stop: CancellationToken) -> Self {
        Self { provider, offers: Offers::default(), stop }
    }

    #[must_use]
    pub fn resource<R>(mut self, type_name: &'static str, resource: R) -> Self
    where
        R: Resource + Extra + 'static,
    {
        self.offers.resources.insert(type_name, Box::new(resource::Typed(resource)));
        self
    }

    #[must_use]
    pub fn data_source<D>(mut self, type_name: &'static str, data_source: D) -> Self
    where
        D: DataSource + 'static,
    {
        self.offers.data_sources.insert(type_name, Box::new(data_source::Typed(data_source)));
        self
    }

    #[must_use]
    pub fn ephemeral<E>(mut self, type_name: &'static str, resource: E) -> Self
    where
        E: EphemeralResource + 'static,
    {
        self.offers.ephemerals.insert(type_name, Box::new(adapt::ephemeral::Typed(resource)));
        self
    }

    /// A function `provider::NAME::name`. Its input is a tuple, a sequence or a struct of the arguments.
    #[must_use]
    pub fn function<F>(mut self, name: &'static str, function: F) -> Self
    where
        F: Function + 'static,
    {
        self.offers.functions.insert(name, Box::new(function::Typed(function)));
        self
    }

    /// Serves Terraform until it calls `Shutdown` or is gone.
    ///
    /// # Errors
    ///
    /// When Terraform did not start this process, or the handshake fails.
    pub async fn serve(self) -> Result<(), ServeError> {
        let environment = Environment::read();
        check(&environment)?;
        let shutdown = CancellationToken::new();
        // Before the handshake, otherwise a Ctrl-C just after it kills the plugin.
        lifetime::survive_signals(self.stop.clone(), shutdown.clone())
            .map_err(ServeError::Signals)?;
        lifetime::end_with_parent(self.stop.clone(), shutdown.clone());

        let tls = environment.client_certificate.as_deref().map(Tls::new).transpose()?;
        let directory =
            SocketDirectory::create(&environment.socket_parent).map_err(ServeError::Socket)?;
        let listener = directory.listen().map_err(ServeError::Socket)?;
        // After binding, otherwise Terraform finds nobody there.
        handshake::announce(&directory.socket(), tls.as_ref().map(|tls| tls.certificate.as_str()))
            .map_err(ServeError::Announce)?;

        let registry = Registry {
            provider: Box::new(provider::Typed(self.provider)),
            offers: self.offers,
            stop: self.stop,
        };
        let serving = tonic::transport::Server::builder()
            .add_service(ProviderService(Arc::new(registry)))
            .add_service(ControllerService(shutdown.clone()))
            .serve_with_incoming_shutdown(
                connection::accept(listener, tls),
                shutdown.clone().cancelled_owned(),
            );
        tokio::select! {
            served = serving => served.map_err(ServeError::Serve),
            () = overdue(&shutdown) => Err(ServeError::Overdue),
        }
    }
}

fn check(environment: &Environment) -> Result<(), ServeError> {
    if !environment.by_terraform {
        return Err(ServeError::NotTerraform);
    }
    let spoken = &environment.protocol_versions;
    if spoken.is_empty() || spoken.contains(&handshake::PROTOCOL.to_string()) {
        Ok(())
    } else {
        Err(ServeError::Protocol(spoken.join(", ")))
    }
}

async fn overdue(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    let _ = tokio::time::timeout(SHUTDOWN_MAX, std::future::pending::<()>()).await;
}

/// Why the plugin could not serve Terraform.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("this program is a Terraform provider: Terraform starts it")]
    NotTerraform,
    #[error("agreeing on plugin protocol 6 with a Terraform that speaks {0}")]
    Protocol(String),
    #[error("listening for signals")]
    Signals(#[source] io::Error),
    #[error("preparing the connection with Terraform")]
    Tls(#[from] TlsError),
    #[error("opening the private socket")]
    Socket(#[source] io::Error),
    #[error("telling Terraform about the socket")]
    Announce(#[source] io::Error),
    #[error("serving Terraform")]
    Serve(#[source] tonic::transport::Error),
    #[error("waiting for the running calls to end")]
    Overdue,
}
