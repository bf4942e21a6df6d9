//! The provider block: validation and configuration.

use crate::plugin::{adapt::required, codec::decode, wire::DynamicValue};
use async_trait::async_trait;
use tf_provider::{Diagnostics, Provider, schema::Schema};

/// A provider with its types hidden. Its maps of resources are not used: their names get a prefix.
#[async_trait]
pub(in crate::plugin) trait ProviderHandler: Send + Sync {
    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema>;
    async fn validate(&self, diagnostics: &mut Diagnostics, config: &DynamicValue) -> Option<()>;
    async fn configure(
        &self,
        diagnostics: &mut Diagnostics,
        terraform_version: String,
        config: &DynamicValue,
    ) -> Option<()>;
}

pub(in crate::plugin) struct Typed<P>(pub(in crate::plugin) P);

#[async_trait]
impl<P: Provider> ProviderHandler for Typed<P> {
    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema> {
        let schema = self.0.schema(diagnostics);
        required(diagnostics, schema, "describing the provider block")
    }

    async fn validate(&self, diagnostics: &mut Diagnostics, config: &DynamicValue) -> Option<()> {
        let config = decode(diagnostics, config)?;
        let valid = self.0.validate(diagnostics, config).await;
        required(diagnostics, valid, "checking the provider block")
    }

    async fn configure(
        &self,
        diagnostics: &mut Diagnostics,
        terraform_version: String,
        config: &DynamicValue,
    ) -> Option<()> {
        let config = decode(diagnostics, config)?;
        let configured = self.0.configure(diagnostics, terraform_version, config).await;
        required(diagnostics, configured, "configuring the provider")
    }
}
