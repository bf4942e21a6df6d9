//! An ephemeral resource: validation, opening, renewal, closing.

use crate::plugin::{
    adapt::required,
    codec::{decode, decode_private, encode},
    ephemeral::{EphemeralResource, Opened, Renewed},
    wire::DynamicValue,
};
use async_trait::async_trait;
use tf_provider::{Diagnostics, schema::Schema};

/// An ephemeral resource with its types hidden.
#[async_trait]
pub(in crate::plugin) trait EphemeralHandler: Send + Sync {
    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema>;
    async fn validate(&self, diagnostics: &mut Diagnostics, config: &DynamicValue) -> Option<()>;
    async fn open(
        &self,
        diagnostics: &mut Diagnostics,
        config: &DynamicValue,
    ) -> Option<Opened<Vec<u8>, Vec<u8>>>;
    async fn renew(
        &self,
        diagnostics: &mut Diagnostics,
        private: &[u8],
    ) -> Option<Renewed<Vec<u8>>>;
    async fn close(&self, diagnostics: &mut Diagnostics, private: &[u8]) -> Option<()>;
}

pub(in crate::plugin) struct Typed<E>(pub(in crate::plugin) E);

#[async_trait]
impl<E: EphemeralResource> EphemeralHandler for Typed<E> {
    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema> {
        let schema = self.0.schema(diagnostics);
        required(diagnostics, schema, "describing an ephemeral resource")
    }

    async fn validate(&self, diagnostics: &mut Diagnostics, config: &DynamicValue) -> Option<()> {
        let config = decode(diagnostics, config)?;
        let valid = self.0.validate(diagnostics, config).await;
        required(diagnostics, valid, "checking the configuration of an ephemeral resource")
    }

    async fn open(
        &self,
        diagnostics: &mut Diagnostics,
        config: &DynamicValue,
    ) -> Option<Opened<Vec<u8>, Vec<u8>>> {
        let config = decode(diagnostics, config)?;
        let opened = self.0.open(diagnostics, config).await;
        let opened = required(diagnostics, opened, "opening an ephemeral resource")?;
        let state = encode(diagnostics, &opened.state)?;
        let private = encode(diagnostics, &opened.private)?;
        Some(Opened { state, private, renew_at: opened.renew_at })
    }

    async fn renew(
        &self,
        diagnostics: &mut Diagnostics,
        private: &[u8],
    ) -> Option<Renewed<Vec<u8>>> {
        let private = decode_private(diagnostics, private)?;
        let renewed = self.0.renew(diagnostics, private).await;
        let renewed = required(diagnostics, renewed, "renewing an ephemeral resource")?;
        let private = encode(diagnostics, &renewed.private)?;
        Some(Renewed { private, renew_at: renewed.renew_at })
    }

    async fn close(&self, diagnostics: &mut Diagnostics, private: &[u8]) -> Option<()> {
        let private = decode_private(diagnostics, private)?;
        let closed = self.0.close(diagnostics, private).await;
        required(diagnostics, closed, "closing an ephemeral resource")
    }
}
