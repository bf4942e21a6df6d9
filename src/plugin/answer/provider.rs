//! Calls about the provider as a whole: what it offers, its block, stopping.

use crate::plugin::{
    answer::{Answer, Call},
    calls::{
        ConfigureProviderRequest, ConfigureProviderResponse, GetMetadataRequest,
        GetMetadataResponse, GetProviderSchemaRequest, GetProviderSchemaResponse,
        StopProviderRequest, StopProviderResponse, TypeName, ValidateProviderConfigRequest,
        ValidateProviderConfigResponse,
    },
    convert,
    extra::Overlay,
    registry::Registry,
    wire,
};
use std::collections::{BTreeMap, HashMap};
use tf_provider::Diagnostics;

fn capabilities() -> wire::ServerCapabilities {
    wire::ServerCapabilities {
        plan_destroy: true,
        get_provider_schema_optional: true,
        move_resource_state: true,
    }
}

impl Call for GetMetadataRequest {
    type Answer = GetMetadataResponse;

    fn subject(&self) -> String {
        "the list of its types".to_owned()
    }

    async fn answer(self, registry: &Registry, _: &mut Diagnostics) -> Self::Answer {
        fn names<H>(offered: &BTreeMap<&'static str, H>) -> Vec<TypeName> {
            offered.keys().map(|name| TypeName { name: (*name).to_owned() }).collect()
        }
        GetMetadataResponse {
            server_capabilities: Some(capabilities()),
            diagnostics: Vec::new(),
            data_sources: names(&registry.offers.data_sources),
            resources: names(&registry.offers.resources),
            functions: names(&registry.offers.functions),
            ephemeral_resources: names(&registry.offers.ephemerals),
        }
    }
}

impl Call for GetProviderSchemaRequest {
    type Answer = GetProviderSchemaResponse;

    fn subject(&self) -> String {
        "its schema".to_owned()
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let plain = Overlay::default();
        let provider =
            registry.provider.schema(diagnostics).map(|schema| convert::schema(&schema, &plain));
        let mut resource_schemas = HashMap::new();
        for (name, handler) in &registry.offers.resources {
            if let Some(schema) = handler.schema(diagnostics) {
                let schema = convert::schema(&schema, &handler.extra().overlay());
                resource_schemas.insert((*name).to_owned(), schema);
            }
        }
        let mut data_source_schemas = HashMap::new();
        for (name, handler) in &registry.offers.data_sources {
            if let Some(schema) = handler.schema(diagnostics) {
                data_source_schemas.insert((*name).to_owned(), convert::schema(&schema, &plain));
            }
        }
        let mut ephemeral_resource_schemas = HashMap::new();
        for (name, handler) in &registry.offers.ephemerals {
            if let Some(schema) = handler.schema(diagnostics) {
                let schema = convert::schema(&schema, &plain);
                ephemeral_resource_schemas.insert((*name).to_owned(), schema);
            }
        }
        GetProviderSchemaResponse {
            provider,
            ephemeral_resource_schemas,
            resource_schemas,
            data_source_schemas,
            functions: functions(registry, diagnostics),
            diagnostics: Vec::new(),
            server_capabilities: Some(capabilities()),
        }
    }
}

/// The signatures of all functions.
pub(super) fn functions(
    registry: &Registry,
    diagnostics: &mut Diagnostics,
) -> HashMap<String, wire::Function> {
    let mut functions = HashMap::new();
    for (name, handler) in &registry.offers.functions {
        if let Some(schema) = handler.schema(diagnostics) {
            functions.insert((*name).to_owned(), convert::function(&schema));
        }
    }
    functions
}

impl Call for ValidateProviderConfigRequest {
    type Answer = ValidateProviderConfigResponse;

    fn subject(&self) -> String {
        "the check of the provider block".to_owned()
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let config = self.config.unwrap_or_default();
        registry.provider.validate(diagnostics, &config).await;
        ValidateProviderConfigResponse::default()
    }
}

impl Call for ConfigureProviderRequest {
    type Answer = ConfigureProviderResponse;

    fn subject(&self) -> String {
        "the configuration of the provider".to_owned()
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let config = self.config.unwrap_or_default();
        registry.provider.configure(diagnostics, self.terraform_version, &config).await;
        ConfigureProviderResponse::default()
    }
}

impl Call for StopProviderRequest {
    type Answer = StopProviderResponse;

    fn subject(&self) -> String {
        "the stop of running calls".to_owned()
    }

    /// Returns at once: the running calls answer for themselves.
    async fn answer(self, registry: &Registry, _: &mut Diagnostics) -> Self::Answer {
        registry.stop.cancel();
        StopProviderResponse::default()
    }
}

impl Answer for StopProviderResponse {
    fn with(mut self, diagnostics: Diagnostics) -> Self {
        let first = diagnostics.errors.into_iter().next();
        self.error = first.map(|error| error.summary.into_owned()).unwrap_or_default();
        self
    }
}
