//! A data source: validation and reading.

use crate::plugin::{
    adapt::required,
    codec::{decode, decode_meta, encode},
    wire::DynamicValue,
};
use async_trait::async_trait;
use tf_provider::{DataSource, Diagnostics, schema::Schema};

/// A data source with its types hidden.
#[async_trait]
pub(in crate::plugin) trait DataSourceHandler: Send + Sync {
    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema>;
    async fn validate(&self, diagnostics: &mut Diagnostics, config: &DynamicValue) -> Option<()>;
    async fn read(&self, diagnostics: &mut Diagnostics, config: &DynamicValue) -> Option<Vec<u8>>;
}

pub(in crate::plugin) struct Typed<D>(pub(in crate::plugin) D);

#[async_trait]
impl<D: DataSource> DataSourceHandler for Typed<D> {
    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema> {
        let schema = self.0.schema(diagnostics);
        required(diagnostics, schema, "describing a data source")
    }

    async fn validate(&self, diagnostics: &mut Diagnostics, config: &DynamicValue) -> Option<()> {
        let config = decode(diagnostics, config)?;
        let valid = self.0.validate(diagnostics, config).await;
        required(diagnostics, valid, "checking the configuration of a data source")
    }

    async fn read(&self, diagnostics: &mut Diagnostics, config: &DynamicValue) -> Option<Vec<u8>> {
        let config = decode(diagnostics, config)?;
        let meta = decode_meta(diagnostics)?;
        let state = self.0.read(diagnostics, config, meta).await;
        let state = required(diagnostics, state, "reading a data source")?;
        encode(diagnostics, &state)
    }
}
