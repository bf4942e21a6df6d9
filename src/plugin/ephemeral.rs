//! Ephemeral resources: values that live while Terraform runs and reach neither plan nor state.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use tf_provider::{Diagnostics, schema::Schema};

/// A type of ephemeral resources, which tf-provider has no trait for.
///
/// 1. Terraform opens it in each phase (plan, apply) that needs its values.
/// 2. It renews it at the time that the last answer named, as long as the phase lasts.
/// 3. It closes it at the end of the phase.
#[async_trait]
pub trait EphemeralResource: Send + Sync {
    /// Configuration and result in one.
    type State: Serialize + DeserializeOwned + Send;
    /// What the provider needs to renew and to close.
    type Private: Serialize + DeserializeOwned + Send;

    /// The schema.
    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema>;

    /// Checks the configuration, without a configured provider.
    async fn validate(&self, diagnostics: &mut Diagnostics, config: Self::State) -> Option<()>;

    /// Gets the values. `None` with an error otherwise.
    async fn open(
        &self,
        diagnostics: &mut Diagnostics,
        config: Self::State,
    ) -> Option<Opened<Self::State, Self::Private>>;

    /// Keeps the values valid. `None` with an error otherwise.
    async fn renew(
        &self,
        diagnostics: &mut Diagnostics,
        private: Self::Private,
    ) -> Option<Renewed<Self::Private>>;

    /// Gives the values back. `None` with an error otherwise.
    async fn close(&self, diagnostics: &mut Diagnostics, private: Self::Private) -> Option<()>;
}

/// An opened ephemeral resource.
#[derive(Debug)]
pub struct Opened<S, P> {
    /// The result: the configuration with the computed values.
    pub state: S,
    /// What is kept until it is closed.
    pub private: P,
    /// When it wants to be renewed; `None` for never.
    pub renew_at: Option<DateTime<Utc>>,
}

/// A renewed ephemeral resource.
#[derive(Debug)]
pub struct Renewed<P> {
    /// What is kept until it is closed.
    pub private: P,
    /// When it wants to be renewed again; `None` for never.
    pub renew_at: Option<DateTime<Utc>>,
}
