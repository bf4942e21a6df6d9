//! The requests and responses of protocol 6 as messages, without the fields that nothing here uses.

use crate::plugin::wire::{
    AttributePath, Diagnostic, DynamicValue, Function, FunctionError, RawState, Schema,
    ServerCapabilities,
};
use prost::Message;
use std::collections::HashMap;

// What the provider offers.

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetMetadataRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetMetadataResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) server_capabilities: Option<ServerCapabilities>,
    #[prost(message, repeated, tag = "2")]
    pub(super) diagnostics: Vec<Diagnostic>,
    #[prost(message, repeated, tag = "3")]
    pub(super) data_sources: Vec<TypeName>,
    #[prost(message, repeated, tag = "4")]
    pub(super) resources: Vec<TypeName>,
    #[prost(message, repeated, tag = "5")]
    pub(super) functions: Vec<TypeName>,
    #[prost(message, repeated, tag = "6")]
    pub(super) ephemeral_resources: Vec<TypeName>,
}

/// The name of a resource type, a data source, an ephemeral resource or a function.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeName {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetProviderSchemaRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetProviderSchemaResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) provider: Option<Schema>,
    #[prost(map = "string, message", tag = "2")]
    pub(super) resource_schemas: HashMap<String, Schema>,
    #[prost(map = "string, message", tag = "3")]
    pub(super) data_source_schemas: HashMap<String, Schema>,
    #[prost(map = "string, message", tag = "7")]
    pub(super) functions: HashMap<String, Function>,
    #[prost(map = "string, message", tag = "8")]
    pub(super) ephemeral_resource_schemas: HashMap<String, Schema>,
    #[prost(message, repeated, tag = "4")]
    pub(super) diagnostics: Vec<Diagnostic>,
    #[prost(message, optional, tag = "6")]
    pub(super) server_capabilities: Option<ServerCapabilities>,
}

// The provider block.

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValidateProviderConfigRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) config: Option<DynamicValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValidateProviderConfigResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ConfigureProviderRequest {
    #[prost(string, tag = "1")]
    pub(super) terraform_version: String,
    #[prost(message, optional, tag = "2")]
    pub(super) config: Option<DynamicValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ConfigureProviderResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StopProviderRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StopProviderResponse {
    #[prost(string, tag = "1")]
    pub(super) error: String,
}

// Resources.

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValidateResourceConfigRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) config: Option<DynamicValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValidateResourceConfigResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UpgradeResourceStateRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
    #[prost(message, optional, tag = "3")]
    pub(super) raw_state: Option<RawState>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UpgradeResourceStateResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) upgraded_state: Option<DynamicValue>,
    #[prost(message, repeated, tag = "2")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadResourceRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) current_state: Option<DynamicValue>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) private: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadResourceResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) new_state: Option<DynamicValue>,
    #[prost(message, repeated, tag = "2")]
    pub(super) diagnostics: Vec<Diagnostic>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) private: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PlanResourceChangeRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) prior_state: Option<DynamicValue>,
    #[prost(message, optional, tag = "3")]
    pub(super) proposed_new_state: Option<DynamicValue>,
    #[prost(message, optional, tag = "4")]
    pub(super) config: Option<DynamicValue>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) prior_private: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PlanResourceChangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) planned_state: Option<DynamicValue>,
    #[prost(message, repeated, tag = "2")]
    pub(super) requires_replace: Vec<AttributePath>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) planned_private: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ApplyResourceChangeRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) prior_state: Option<DynamicValue>,
    #[prost(message, optional, tag = "3")]
    pub(super) planned_state: Option<DynamicValue>,
    #[prost(message, optional, tag = "4")]
    pub(super) config: Option<DynamicValue>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) planned_private: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ApplyResourceChangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) new_state: Option<DynamicValue>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) private: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ImportResourceStateRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(string, tag = "2")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ImportResourceStateResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) imported_resources: Vec<ImportedResource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ImportedResource {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) state: Option<DynamicValue>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) private: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MoveResourceStateRequest {
    #[prost(string, tag = "1")]
    pub(super) source_provider_address: String,
    #[prost(string, tag = "2")]
    pub(super) source_type_name: String,
    #[prost(int64, tag = "3")]
    pub(super) source_schema_version: i64,
    #[prost(message, optional, tag = "4")]
    pub(super) source_state: Option<RawState>,
    #[prost(string, tag = "5")]
    pub(super) target_type_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MoveResourceStateResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) target_state: Option<DynamicValue>,
    #[prost(message, repeated, tag = "2")]
    pub(super) diagnostics: Vec<Diagnostic>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) target_private: Vec<u8>,
}

// Data sources and functions.

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValidateDataResourceConfigRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) config: Option<DynamicValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValidateDataResourceConfigResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadDataSourceRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) config: Option<DynamicValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadDataSourceResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) state: Option<DynamicValue>,
    #[prost(message, repeated, tag = "2")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetFunctionsRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetFunctionsResponse {
    #[prost(map = "string, message", tag = "1")]
    pub(super) functions: HashMap<String, Function>,
    #[prost(message, repeated, tag = "2")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CallFunctionRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) arguments: Vec<DynamicValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CallFunctionResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) result: Option<DynamicValue>,
    #[prost(message, optional, tag = "2")]
    pub(super) error: Option<FunctionError>,
}

// Ephemeral resources.

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValidateEphemeralResourceConfigRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) config: Option<DynamicValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValidateEphemeralResourceConfigResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OpenEphemeralResourceRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) config: Option<DynamicValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OpenEphemeralResourceResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) diagnostics: Vec<Diagnostic>,
    #[prost(message, optional, tag = "2")]
    pub(super) renew_at: Option<Timestamp>,
    #[prost(message, optional, tag = "3")]
    pub(super) result: Option<DynamicValue>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) private: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RenewEphemeralResourceRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) private: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RenewEphemeralResourceResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) diagnostics: Vec<Diagnostic>,
    #[prost(message, optional, tag = "2")]
    pub(super) renew_at: Option<Timestamp>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) private: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CloseEphemeralResourceRequest {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) private: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CloseEphemeralResourceResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) diagnostics: Vec<Diagnostic>,
}

// The plugin process (go-plugin's `plugin.GRPCController`).

#[derive(Clone, PartialEq, Message)]
pub(super) struct ShutdownRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ShutdownResponse {}
