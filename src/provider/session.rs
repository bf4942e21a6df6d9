//! What all resources share: the API once it is configured, the clock, and Terraform's wish to stop.

use crate::{
    client::endpoints::Api,
    provider::{
        config::{OnReadError, Settings},
        report,
    },
    sys::clock::Clock,
};
use std::{
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tf_provider::Diagnostics;
use tokio_util::sync::CancellationToken;

/// Shared by the provider and its resources.
#[derive(Debug)]
pub struct Session {
    connection: RwLock<Option<Arc<Connection>>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Cancelled when Terraform wants to stop (Ctrl-C).
    pub stop: CancellationToken,
}

/// A configured provider.
#[derive(Debug)]
pub struct Connection {
    /// The API.
    pub api: Api,
    /// What a refresh does when the API cannot tell.
    pub on_read_error: OnReadError,
}

/// How a pause ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The time is over.
    Elapsed,
    /// Terraform wants to stop.
    Stopped,
}

impl Session {
    /// A session that is not configured yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, stop: CancellationToken) -> Self {
        Self { connection: RwLock::new(None), clock, stop }
    }

    /// Configures the session; `None` when the settings are known only after apply.
    ///
    /// # Errors
    /// [`crate::client::error::ClientError::Setup`].
    pub fn configure(
        &self,
        settings: Option<Settings>,
    ) -> Result<(), crate::client::error::ClientError> {
        let connect = |settings: Settings| {
            let clock = Arc::clone(&self.clock);
            let api = Api::new(&settings.endpoint, settings.policy, clock)?;
            Ok(Arc::new(Connection { api, on_read_error: settings.on_read_error }))
        };
        let connection = settings.map(connect).transpose()?;
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = connection;
        Ok(())
    }

    /// The API, unless its settings are known only after apply.
    #[must_use]
    pub fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The API, or an error.
    pub fn connected(&self, diagnostics: &mut Diagnostics) -> Option<Arc<Connection>> {
        let connection = self.connection();
        if connection.is_none() {
            report::settings::not_configured(diagnostics);
        }
        connection
    }

    /// Waits for `period`, or until Terraform wants to stop.
    pub async fn pause(&self, period: Duration) -> Pause {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Pause::Stopped,
            () = self.clock.sleep(period) => Pause::Elapsed,
        }
    }

    /// The result of `work`, or `None` when it takes longer than `limit`.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.clock.sleep(limit) => None,
        }
    }
}

/// Polls less and less often: soon at first, for small databases, and later rarely, for large ones.
#[derive(Debug)]
pub struct Pace(Duration);

impl Pace {
    const FIRST: Duration = Duration::from_millis(500);
    const LAST: Duration = Duration::from_secs(10);

    /// The beginning.
    #[must_use]
    pub fn new() -> Self {
        Self(Self::FIRST)
    }

    /// How long to wait now.
    pub fn step(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 5 / 4).min(Self::LAST);
        now
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}
