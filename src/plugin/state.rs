//! Pure: makes a state from the state file have exactly the attributes of the present schema.

use serde_json::{Map, Value};
use std::collections::HashMap;
use tf_provider::schema::{Attribute, AttributeType, Block, NestedBlock};

/// Drops what the schema does not have any more and adds what is new as null.
///
/// Terraform refuses a state with an attribute that the schema does not know, and an additive change
/// must not need a new schema version.
pub(super) fn fit(block: &Block, state: Value) -> Value {
    object(state, |old| {
        let mut fitted = fit_attributes(&block.attributes, old);
        for (name, nested) in &block.blocks {
            let value = old.remove(name).unwrap_or(Value::Null);
            fitted.insert(name.clone(), fit_block(nested, value));
        }
        fitted
    })
}

/// Blocks are never null in Terraform, save a single one.
fn fit_block(nested: &NestedBlock, value: Value) -> Value {
    match nested {
        NestedBlock::Single(inner) => fit(inner, value),
        NestedBlock::Group(inner) if value.is_null() => fit(inner, Value::Object(Map::new())),
        NestedBlock::Group(inner) => fit(inner, value),
        NestedBlock::List(_) | NestedBlock::Set(_) | NestedBlock::Optional(_)
            if value.is_null() =>
        {
            Value::Array(Vec::new())
        }
        NestedBlock::List(inner) | NestedBlock::Set(inner) | NestedBlock::Optional(inner) => {
            elements(value, |element| fit(inner, element))
        }
        NestedBlock::Map(_) if value.is_null() => Value::Object(Map::new()),
        NestedBlock::Map(inner) => elements(value, |element| fit(inner, element)),
    }
}

fn fit_attributes(
    attributes: &HashMap<String, Attribute>,
    old: &mut Map<String, Value>,
) -> Map<String, Value> {
    let fit_one = |(name, attribute): (&String, &Attribute)| {
        let value = old.remove(name).unwrap_or(Value::Null);
        (name.clone(), fit_type(&attribute.attr_type, value))
    };
    attributes.iter().map(fit_one).collect()
}

fn fit_type(attr_type: &AttributeType, value: Value) -> Value {
    match attr_type {
        AttributeType::String
        | AttributeType::Number
        | AttributeType::Bool
        | AttributeType::Any
        | AttributeType::Tuple(_) => value,
        AttributeType::List(inner) | AttributeType::Set(inner) | AttributeType::Map(inner) => {
            elements(value, |element| fit_type(inner, element))
        }
        AttributeType::Object(members) => object(value, |old| {
            let fit_one = |(name, inner): (&String, &AttributeType)| {
                (name.clone(), fit_type(inner, old.remove(name).unwrap_or(Value::Null)))
            };
            members.iter().map(fit_one).collect()
        }),
        AttributeType::AttributeSingle(inner) => object(value, |old| fit_attributes(inner, old)),
        AttributeType::AttributeList(inner)
        | AttributeType::AttributeSet(inner)
        | AttributeType::AttributeMap(inner) => {
            elements(value, |element| object(element, |old| fit_attributes(inner, old)))
        }
    }
}

/// A value of another kind stays as it is: Terraform then says what is wrong with it.
fn object(value: Value, fit: impl FnOnce(&mut Map<String, Value>) -> Map<String, Value>) -> Value {
    if let Value::Object(mut old) = value { Value::Object(fit(&mut old)) } else { value }
}

fn elements(value: Value, fit: impl Fn(Value) -> Value) -> Value {
    if let Value::Array(values) = value {
        Value::Array(values.into_iter().map(fit).collect())
    } else if let Value::Object(values) = value {
        Value::Object(values.into_iter().map(|(key, value)| (key, fit(value))).collect())
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tf_provider::map;

    fn of(attr_type: AttributeType) -> Attribute {
        Attribute { attr_type, ..Attribute::default() }
    }

    fn inner() -> HashMap<String, Attribute> {
        map! {"a" => of(AttributeType::String), "b" => of(AttributeType::Number)}
    }

    fn check(block: &Block, state: Value, expect: &Value) {
        assert_eq!(fit(block, state), *expect);
    }

    #[test]
    fn attributes_gone_are_dropped_and_new_ones_are_null() {
        let block = Block { attributes: inner(), ..Block::default() };
        check(&block, json!({"a": "x", "gone": 1}), &json!({"a": "x", "b": null}));
        check(&block, json!({"a": "x", "b": 2}), &json!({"a": "x", "b": 2}));
        check(&block, Value::Null, &Value::Null);
    }

    #[test]
    fn nested_values_are_fitted_too() {
        let members: HashMap<String, AttributeType> = map! {"m" => AttributeType::Bool};
        let block = Block {
            attributes: map! {
                "one" => of(AttributeType::AttributeSingle(inner())),
                "many" => of(AttributeType::AttributeList(inner())),
                "by_key" => of(AttributeType::AttributeMap(inner())),
                "objects" => of(AttributeType::Set(Box::new(AttributeType::Object(members)))),
                "any" => of(AttributeType::Any),
            },
            ..Block::default()
        };
        let state = json!({
            "one": null,
            "many": [{"a": "x", "gone": 1}],
            "by_key": {"k": {"gone": 1}},
            "objects": [{"gone": 1}],
            "any": {"type": "string", "value": "kept"},
        });
        let expect = json!({
            "one": null,
            "many": [{"a": "x", "b": null}],
            "by_key": {"k": {"a": null, "b": null}},
            "objects": [{"m": null}],
            "any": {"type": "string", "value": "kept"},
        });
        check(&block, state, &expect);
    }

    #[test]
    fn blocks_that_are_new_are_empty() {
        let inner = || Block { attributes: inner(), ..Block::default() };
        let block = Block {
            blocks: map! {
                "list" => NestedBlock::List(inner()),
                "group" => NestedBlock::Group(inner()),
                "map" => NestedBlock::Map(inner()),
                "optional" => NestedBlock::Optional(inner()),
                "single" => NestedBlock::Single(inner()),
            },
            ..Block::default()
        };
        let expect = json!({
            "list": [{"a": "x", "b": null}],
            "group": {"a": null, "b": null},
            "map": {},
            "optional": [],
            "single": null,
        });
        check(&block, json!({"list": [{"a": "x", "gone": 1}]}), &expect);
    }
}
