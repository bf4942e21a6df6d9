//! What this provider offers, by the names that Terraform uses.

use crate::plugin::adapt::{
    data_source::DataSourceHandler, ephemeral::EphemeralHandler, function::FunctionHandler,
    provider::ProviderHandler, resource::ResourceHandler,
};
use std::collections::BTreeMap;
use tf_provider::Diagnostics;
use tokio_util::sync::CancellationToken;

/// Everything that a call may ask for.
pub(super) struct Registry {
    pub(super) provider: Box<dyn ProviderHandler>,
    pub(super) offers: Offers,
    /// Cancelled when Terraform wants the running calls to come to an end.
    pub(super) stop: CancellationToken,
}

/// The names are whole: no prefix is put before them.
#[derive(Default)]
pub(super) struct Offers {
    pub(super) resources: BTreeMap<&'static str, Box<dyn ResourceHandler>>,
    pub(super) data_sources: BTreeMap<&'static str, Box<dyn DataSourceHandler>>,
    pub(super) ephemerals: BTreeMap<&'static str, Box<dyn EphemeralHandler>>,
    pub(super) functions: BTreeMap<&'static str, Box<dyn FunctionHandler>>,
}

impl Offers {
    pub(super) fn resource(
        &self,
        diagnostics: &mut Diagnostics,
        name: &str,
    ) -> Option<&dyn ResourceHandler> {
        known(diagnostics, name, self.resources.get(name).map(Box::as_ref))
    }

    pub(super) fn data_source(
        &self,
        diagnostics: &mut Diagnostics,
        name: &str,
    ) -> Option<&dyn DataSourceHandler> {
        known(diagnostics, name, self.data_sources.get(name).map(Box::as_ref))
    }

    pub(super) fn ephemeral(
        &self,
        diagnostics: &mut Diagnostics,
        name: &str,
    ) -> Option<&dyn EphemeralHandler> {
        known(diagnostics, name, self.ephemerals.get(name).map(Box::as_ref))
    }

    pub(super) fn function(
        &self,
        diagnostics: &mut Diagnostics,
        name: &str,
    ) -> Option<&dyn FunctionHandler> {
        known(diagnostics, name, self.functions.get(name).map(Box::as_ref))
    }
}

fn known<'a, H: ?Sized>(
    diagnostics: &mut Diagnostics,
    name: &str,
    handler: Option<&'a H>,
) -> Option<&'a H> {
    if handler.is_none() {
        diagnostics.root_error(
            format!("The provider does not offer `{name}`"),
            "Terraform's idea of the provider's schema differs from the provider's. Run \
             `terraform init -upgrade`.",
        );
    }
    handler
}
