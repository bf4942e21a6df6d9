//! The document that `terraform providers schema -json` prints, as far as the pages need it.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Everything that one provider offers.
#[derive(Debug, Deserialize)]
pub struct Document {
    /// The provider block.
    pub provider: Schema,
    /// Managed resources.
    #[serde(default)]
    pub resource_schemas: BTreeMap<String, Schema>,
    /// Data sources.
    #[serde(default)]
    pub data_source_schemas: BTreeMap<String, Schema>,
    /// Ephemeral resources.
    #[serde(default)]
    pub ephemeral_resource_schemas: BTreeMap<String, Schema>,
    /// Functions.
    #[serde(default)]
    pub functions: BTreeMap<String, Function>,
}

/// The schema of the provider block or of one type.
#[derive(Debug, Deserialize)]
pub struct Schema {
    /// Its attributes and blocks.
    pub block: Block,
}

/// Attributes and nested blocks.
#[derive(Debug, Default, Deserialize)]
pub struct Block {
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Attributes.
    #[serde(default)]
    pub attributes: BTreeMap<String, Attribute>,
    /// Nested blocks.
    #[serde(default)]
    pub block_types: BTreeMap<String, NestedBlock>,
}

/// One attribute.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Attribute {
    /// Its type, unless it is nested: a word, or a pair of a word and what is inside.
    #[serde(rename = "type")]
    pub value_type: Value,
    /// Attributes within it, each with a description.
    pub nested_type: Option<NestedType>,
    /// What it is for.
    pub description: String,
    /// It must be set.
    pub required: bool,
    /// It may be set.
    pub optional: bool,
    /// The provider may fill it in.
    pub computed: bool,
    /// Its value is hidden.
    pub sensitive: bool,
    /// Its value is kept in no state.
    pub write_only: bool,
    /// It goes away.
    pub deprecated: bool,
}

/// The inside of a nested attribute.
#[derive(Debug, Deserialize)]
pub struct NestedType {
    /// `single`, `list`, `set` or `map`.
    pub nesting_mode: String,
    /// The attributes.
    pub attributes: BTreeMap<String, Attribute>,
}

/// A nested block.
#[derive(Debug, Deserialize)]
pub struct NestedBlock {
    /// `single`, `group`, `list`, `set` or `map`.
    pub nesting_mode: String,
    /// Its inside.
    pub block: Block,
    /// How many there must be.
    #[serde(default)]
    pub min_items: u64,
}

/// One function.
#[derive(Debug, Deserialize)]
pub struct Function {
    /// One sentence.
    #[serde(default)]
    pub summary: String,
    /// All of it.
    #[serde(default)]
    pub description: String,
    /// Type of the result.
    pub return_type: Value,
    /// Arguments in their order.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// The argument that may be repeated.
    pub variadic_parameter: Option<Parameter>,
}

/// One argument of a function.
#[derive(Debug, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// It may be null.
    #[serde(default)]
    pub is_nullable: bool,
    /// Its type.
    #[serde(rename = "type")]
    pub value_type: Value,
}

/// A document that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not what Terraform prints.
    #[error("reading the schemas")]
    Unreadable(#[source] serde_json::Error),
    /// It has none, or more than one.
    #[error("looking for one provider among the schemas: there are {found}")]
    ProviderCount {
        /// How many there are.
        found: usize,
    },
}

impl Document {
    /// Reads the document of a module that uses one provider.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn parse(json: &str) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Outer {
            #[serde(default)]
            provider_schemas: BTreeMap<String, Document>,
        }
        let outer: Outer = serde_json::from_str(json).map_err(DocumentError::Unreadable)?;
        let found = outer.provider_schemas.len();
        let mut providers = outer.provider_schemas.into_values();
        providers.next().filter(|_| found == 1).ok_or(DocumentError::ProviderCount { found })
    }
}
