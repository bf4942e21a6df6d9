//! What each call of the protocol means.

mod provider;

mod resource;

mod data;

mod ephemeral;

use crate::plugin::{
    calls::{
        ApplyResourceChangeResponse, CloseEphemeralResourceResponse, ConfigureProviderResponse,
        GetFunctionsResponse, GetMetadataResponse, GetProviderSchemaResponse,
        ImportResourceStateResponse, MoveResourceStateResponse, OpenEphemeralResourceResponse,
        PlanResourceChangeResponse, ReadDataSourceResponse, ReadResourceResponse,
        RenewEphemeralResourceResponse, UpgradeResourceStateResponse,
        ValidateDataResourceConfigResponse, ValidateEphemeralResourceConfigResponse,
        ValidateProviderConfigResponse, ValidateResourceConfigResponse,
    },
    convert,
    registry::Registry,
};
use prost::Message;
use std::future::Future;
use tf_provider::Diagnostics;

/// A request of the protocol.
pub(super) trait Call: Message + Default + 'static {
    type Answer: Answer;

    /// What the call is about, in words for a diagnostic.
    fn subject(&self) -> String;

    /// The answer if the provider panics: never one that says "gone".
    fn on_panic(&self) -> Self::Answer {
        Self::Answer::default()
    }

    fn answer(
        self,
        registry: &Registry,
        diagnostics: &mut Diagnostics,
    ) -> impl Future<Output = Self::Answer> + Send;
}

/// A response of the protocol.
pub(super) trait Answer: Message + Default + 'static {
    /// The response with these diagnostics.
    fn with(self, diagnostics: Diagnostics) -> Self;
}

/// Responses with a list of diagnostics: all but two.
macro_rules! with_diagnostics {
    ($($response:ty),+ $(,)?) => {
        $(impl Answer for $response {
            fn with(mut self, diagnostics: Diagnostics) -> Self {
                self.diagnostics.extend(convert::diagnostics(diagnostics));
                self
            }
        })+
    };
}

with_diagnostics!(
    ApplyResourceChangeResponse,
    CloseEphemeralResourceResponse,
    ConfigureProviderResponse,
    GetFunctionsResponse,
    GetMetadataResponse,
    GetProviderSchemaResponse,
    ImportResourceStateResponse,
    MoveResourceStateResponse,
    OpenEphemeralResourceResponse,
    PlanResourceChangeResponse,
    ReadDataSourceResponse,
    ReadResourceResponse,
    RenewEphemeralResourceResponse,
    UpgradeResourceStateResponse,
    ValidateDataResourceConfigResponse,
    ValidateEphemeralResourceConfigResponse,
    ValidateProviderConfigResponse,
    ValidateResourceConfigResponse,
);
