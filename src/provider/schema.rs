//! Derives Terraform's schema from a model struct: its fields, doc comments, and the words in `x-tf`.
//!
//! Words: `required`, `optional`, `computed`, `sensitive`, `force_new` (a change makes a new
//! object), `create_only` (a later change keeps what is there), `group` (a nested block). An
//! optional attribute with a default or of `create_only` is computed too: Terraform lets a provider
//! fill in only those.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;
use tf_provider::schema::{
    Attribute, AttributeConstraint, AttributeType, Block, Description, NestedBlock, Schema,
};

/// What a model struct says about its attributes.
#[derive(Clone, Debug)]
pub struct Facts {
    /// For Terraform.
    pub schema: Schema,
    /// Attributes whose change makes a new object.
    pub force_new: Vec<String>,
    /// Attributes whose change keeps what is there.
    pub create_only: Vec<String>,
}

/// A model struct that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A word in `x-tf` that means nothing.
    #[error("attribute `{attribute}`: the word `{word}` in x-tf is unknown")]
    UnknownWord {
        /// The attribute.
        attribute: String,
        /// The word.
        word: String,
    },
    /// A type that has no counterpart in Terraform, or that this provider avoids.
    #[error("attribute `{attribute}`: its type cannot be used")]
    Type {
        /// The attribute.
        attribute: String,
    },
    /// Neither required, optional nor computed, or required and another of them.
    #[error("attribute `{attribute}`: say required, optional or computed")]
    Constraint {
        /// The attribute.
        attribute: String,
    },
}

/// What a schema is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A managed resource: no numbers. One makes `plan -refresh-only` report a change for ever, as
    /// tf-provider sends integers as floats.
    Managed,
    /// What is only read: data sources, ephemeral resources, the provider block.
    Read,
}

const WORDS: &[&str] =
    &["required", "optional", "computed", "sensitive", "force_new", "create_only", "group"];

/// Reads the facts of `T`.
///
/// # Errors
/// [`SchemaError`], which is a mistake in the struct, and so is found by any test that asks.
pub fn facts<T: JsonSchema>() -> Result<Facts, SchemaError> {
    facts_of::<T>(Kind::Managed)
}

/// Reads the facts of `T`, which is a data source or an ephemeral resource: it may have numbers, and
/// lists of objects.
///
/// # Errors
/// As [`facts`].
pub fn read_facts<T: JsonSchema>() -> Result<Facts, SchemaError> {
    facts_of::<T>(Kind::Read)
}

fn facts_of<T: JsonSchema>(kind: Kind) -> Result<Facts, SchemaError> {
    let mut settings = SchemaSettings::default();
    settings.inline_subschemas = true;
    let root = settings.into_generator().into_root_schema_for::<T>().to_value();
    let block = block("", &root, kind)?;
    let with = |word: &str| {
        let has = |(name, json): (&String, &Value)| has(json, word).then(|| name.clone());
        properties(&root).filter_map(has).collect::<Vec<_>>()
    };
    Ok(Facts {
        schema: Schema { version: root["x-tf-version"].as_i64().unwrap_or(0), block },
        force_new: with("force_new"),
        create_only: with("create_only"),
    })
}

fn properties(json: &Value) -> impl Iterator<Item = (&String, &Value)> {
    json["properties"].as_object().into_iter().flatten()
}

fn words(json: &Value) -> impl Iterator<Item = &str> {
    json["x-tf"].as_str().unwrap_or_default().split_whitespace()
}

fn has(json: &Value, word: &str) -> bool {
    words(json).any(|w| w == word)
}

fn block(name: &str, json: &Value, kind: Kind) -> Result<Block, SchemaError> {
    let mut block = Block {
        version: 0,
        description: Description::markdown(json["description"].as_str().unwrap_or(name)),
        ..Block::default()
    };
    for (name, json) in properties(json) {
        if let Some(word) = words(json).find(|word| !WORDS.contains(word)) {
            let (attribute, word) = (name.clone(), word.to_owned());
            return Err(SchemaError::UnknownWord { attribute, word });
        }
        if has(json, "group") {
            let nested = NestedBlock::Group(self::block(name, json, kind)?);
            block.blocks.insert(name.clone(), nested);
        } else {
            block.attributes.insert(name.clone(), attribute(name, json, kind)?);
        }
    }
    Ok(block)
}

fn attribute(name: &str, json: &Value, kind: Kind) -> Result<Attribute, SchemaError> {
    let filled_in = json.get("default").is_some() || has(json, "create_only");
    let constraint = match (has(json, "required"), has(json, "optional"), has(json, "computed")) {
        (true, false, false) => AttributeConstraint::Required,
        (false, true, false) if !filled_in => AttributeConstraint::Optional,
        (false, true, _) => AttributeConstraint::OptionalComputed,
        (false, false, true) => AttributeConstraint::Computed,
        (true, ..) | (false, false, false) => {
            return Err(SchemaError::Constraint { attribute: name.to_owned() });
        }
    };
    Ok(Attribute {
        attr_type: attribute_type(name, json, kind)?,
        description: Description::markdown(description(json)),
        constraint,
        sensitive: has(json, "sensitive"),
        deprecated: false,
    })
}

fn attribute_type(name: &str, json: &Value, kind: Kind) -> Result<AttributeType, SchemaError> {
    match (json["type"].as_str().unwrap_or_default(), kind) {
        ("string", _) => Ok(AttributeType::String),
        ("boolean", _) => Ok(AttributeType::Bool),
        ("number" | "integer", Kind::Read) => Ok(AttributeType::Number),
        ("object", _) if json.get("additionalProperties").is_some_and(Value::is_object) => {
            let values = attribute_type(name, &json["additionalProperties"], kind)?;
            Ok(AttributeType::Map(Box::new(values)))
        }
        ("array", Kind::Read) if json["items"].get("properties").is_some() => {
            let each = |(name, json): (&String, &Value)| {
                attribute(name, json, kind).map(|attribute| (name.clone(), attribute))
            };
            let items = properties(&json["items"]).map(each).collect::<Result<_, _>>()?;
            Ok(AttributeType::AttributeList(items))
        }
        ("array", Kind::Read) => {
            let items = attribute_type(name, &json["items"], kind)?;
            Ok(AttributeType::List(Box::new(items)))
        }
        _ => Err(SchemaError::Type { attribute: name.to_owned() }),
    }
}

fn description(json: &Value) -> String {
    let mut text = json["description"].as_str().unwrap_or_default().to_owned();
    if let Some(default) = json.get("default") {
        let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        text.push_str(&format!(" Default: `{default}`."));
    }
    if has(json, "force_new") {
        text.push_str(" Changing this forces a new resource.");
    }
    if has(json, "create_only") {
        text.push_str(" Used at creation only: a later change keeps what is there and warns.");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::value::Tf;
    use std::collections::BTreeMap;

    /// A thing.
    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Thing {
        /// Name.
        #[schemars(extend("x-tf" = "required force_new"))]
        name: Tf<String>,
        /// Mode.
        #[schemars(extend("x-tf" = "optional", "default" = "fast"))]
        mode: Tf<String>,
        /// Origin.
        #[schemars(extend("x-tf" = "optional create_only"))]
        origin: Tf<String>,
        /// Tags.
        #[schemars(extend("x-tf" = "optional"))]
        tags: Tf<BTreeMap<String, Tf<String>>>,
        /// Secret.
        #[schemars(extend("x-tf" = "computed sensitive"))]
        secret: Tf<String>,
    }

    #[test]
    fn a_struct_is_a_schema() {
        let facts = facts::<Thing>().unwrap();
        let attribute = |name: &str| &facts.schema.block.attributes[name];
        assert_eq!(attribute("name").constraint, AttributeConstraint::Required);
        assert_eq!(attribute("mode").constraint, AttributeConstraint::OptionalComputed);
        assert_eq!(attribute("mode").description.content, "Mode. Default: `fast`.");
        assert_eq!(attribute("origin").constraint, AttributeConstraint::OptionalComputed);
        assert_eq!(attribute("tags").constraint, AttributeConstraint::Optional);
        assert_eq!(attribute("tags").attr_type.to_string(), r#"["map","string"]"#);
        assert!(attribute("secret").sensitive);
        assert_eq!(facts.force_new, ["name"]);
        assert_eq!(facts.create_only, ["origin"]);
        assert_eq!(facts.schema.block.description.content, "A thing.");
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Misspelt {
        #[schemars(extend("x-tf" = "required forcenew"))]
        name: Tf<String>,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Number {
        #[schemars(extend("x-tf" = "computed"))]
        port: Tf<i64>,
    }

    /// A row.
    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Row {
        /// Size.
        #[schemars(extend("x-tf" = "computed"))]
        size: Tf<u64>,
    }

    /// A list.
    #[derive(JsonSchema)]
    #[schemars(extend("x-tf-version" = 3))]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct List {
        /// Rows.
        #[schemars(extend("x-tf" = "computed"))]
        rows: Tf<Vec<Row>>,
        /// Words.
        #[schemars(extend("x-tf" = "computed"))]
        words: Tf<Vec<String>>,
        /// Ratio.
        #[schemars(extend("x-tf" = "computed"))]
        ratio: Tf<f64>,
    }

    #[test]
    fn what_is_read_may_have_numbers_and_rows() {
        let facts = read_facts::<List>().unwrap();
        let attribute = |name: &str| &facts.schema.block.attributes[name].attr_type;
        let AttributeType::AttributeList(row) = attribute("rows") else { panic!("no rows") };
        assert_eq!(row["size"].attr_type, AttributeType::Number);
        assert_eq!(attribute("words").to_string(), r#"["list","string"]"#);
        assert_eq!(attribute("ratio").to_string(), r#""number""#);
        assert_eq!(facts.schema.version, 3);
        assert!(super::facts::<List>().is_err());
    }

    #[test]
    fn mistakes_are_named() {
        let error = facts::<Misspelt>().unwrap_err();
        assert_eq!(error.to_string(), "attribute `name`: the word `forcenew` in x-tf is unknown");
        let error = facts::<Number>().unwrap_err();
        assert_eq!(error, SchemaError::Type { attribute: "port".to_owned() });
    }
}
