//! The values, schemas and diagnostics of protocol 6 as messages, so that no .proto file and no protoc is needed.
//!
//! Field numbers: Terraform's `docs/plugin-protocol/tfplugin6.proto`.

use prost::{Enumeration, Message, Oneof};

/// A value of Terraform's type system in one of two encodings; Terraform sends `MessagePack`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DynamicValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) msgpack: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) json: Vec<u8>,
}

/// A resource's state as it stands in the state file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RawState {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) json: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum Severity {
    Invalid = 0,
    Error = 1,
    Warning = 2,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Diagnostic {
    #[prost(enumeration = "Severity", tag = "1")]
    pub(super) severity: i32,
    #[prost(string, tag = "2")]
    pub(super) summary: String,
    #[prost(string, tag = "3")]
    pub(super) detail: String,
    #[prost(message, optional, tag = "4")]
    pub(super) attribute: Option<AttributePath>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FunctionError {
    #[prost(string, tag = "1")]
    pub(super) text: String,
    #[prost(int64, optional, tag = "2")]
    pub(super) function_argument: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributePath {
    #[prost(message, repeated, tag = "1")]
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Step {
    #[prost(oneof = "Selector", tags = "1, 2, 3")]
    pub(super) selector: Option<Selector>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Selector {
    #[prost(string, tag = "1")]
    AttributeName(String),
    #[prost(string, tag = "2")]
    ElementKeyString(String),
    #[prost(int64, tag = "3")]
    ElementKeyInt(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum StringKind {
    Plain = 0,
    Markdown = 1,
}

/// How often a nested block or attribute stands there. Nested attributes know no `Group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum Nesting {
    Invalid = 0,
    Single = 1,
    List = 2,
    Set = 3,
    Map = 4,
    Group = 5,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Schema {
    #[prost(int64, tag = "1")]
    pub(super) version: i64,
    #[prost(message, optional, tag = "2")]
    pub(super) block: Option<Block>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Block {
    #[prost(int64, tag = "1")]
    pub(super) version: i64,
    #[prost(message, repeated, tag = "2")]
    pub(super) attributes: Vec<Attribute>,
    #[prost(message, repeated, tag = "3")]
    pub(super) block_types: Vec<NestedBlock>,
    #[prost(string, tag = "4")]
    pub(super) description: String,
    #[prost(enumeration = "StringKind", tag = "5")]
    pub(super) description_kind: i32,
    #[prost(bool, tag = "6")]
    pub(super) deprecated: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// A JSON type expression. Empty when `nested_type` is there: Terraform refuses both.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) r#type: Vec<u8>,
    #[prost(message, optional, tag = "10")]
    pub(super) nested_type: Option<Object>,
    #[prost(string, tag = "3")]
    pub(super) description: String,
    #[prost(bool, tag = "4")]
    pub(super) required: bool,
    #[prost(bool, tag = "5")]
    pub(super) optional: bool,
    #[prost(bool, tag = "6")]
    pub(super) computed: bool,
    #[prost(bool, tag = "7")]
    pub(super) sensitive: bool,
    #[prost(enumeration = "StringKind", tag = "8")]
    pub(super) description_kind: i32,
    #[prost(bool, tag = "9")]
    pub(super) deprecated: bool,
    #[prost(bool, tag = "11")]
    pub(super) write_only: bool,
    #[prost(string, tag = "12")]
    pub(super) deprecation_message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NestedBlock {
    #[prost(string, tag = "1")]
    pub(super) type_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) block: Option<Block>,
    #[prost(enumeration = "Nesting", tag = "3")]
    pub(super) nesting: i32,
    #[prost(int64, tag = "4")]
    pub(super) min_items: i64,
    #[prost(int64, tag = "5")]
    pub(super) max_items: i64,
}

/// The attributes of a nested attribute.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Object {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<Attribute>,
    #[prost(enumeration = "Nesting", tag = "3")]
    pub(super) nesting: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Function {
    #[prost(message, repeated, tag = "1")]
    pub(super) parameters: Vec<Parameter>,
    #[prost(message, optional, tag = "2")]
    pub(super) variadic_parameter: Option<Parameter>,
    #[prost(message, optional, tag = "3")]
    pub(super) r#return: Option<Return>,
    #[prost(string, tag = "4")]
    pub(super) summary: String,
    #[prost(string, tag = "5")]
    pub(super) description: String,
    #[prost(enumeration = "StringKind", tag = "6")]
    pub(super) description_kind: i32,
    #[prost(string, tag = "7")]
    pub(super) deprecation_message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Parameter {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) r#type: Vec<u8>,
    #[prost(bool, tag = "3")]
    pub(super) allow_null_value: bool,
    #[prost(bool, tag = "4")]
    pub(super) allow_unknown_values: bool,
    #[prost(string, tag = "5")]
    pub(super) description: String,
    #[prost(enumeration = "StringKind", tag = "6")]
    pub(super) description_kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Return {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) r#type: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ServerCapabilities {
    /// Ask for a plan before a destruction, too.
    #[prost(bool, tag = "1")]
    pub(super) plan_destroy: bool,
    /// The schema may come from Terraform's cache.
    #[prost(bool, tag = "2")]
    pub(super) get_provider_schema_optional: bool,
    /// `MoveResourceState` is answered.
    #[prost(bool, tag = "3")]
    pub(super) move_resource_state: bool,
}
