//! A tiny provider: boxes that behave, and a ledger that misbehaves as its mode says.

use async_trait::async_trait;
use btar::plugin::extra::{Extra, Overlay};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fs, time::Duration};
use tf_provider::{
    AttributePath, DataSource, Diagnostics, Function, Provider, Resource, map,
    schema::{
        Attribute, AttributeConstraint, AttributeType, Block, Description, FunctionSchema,
        Parameter, Schema, Type,
    },
    value::{Value, ValueEmpty},
};
use tokio_util::sync::CancellationToken;

fn attribute(attr_type: AttributeType, constraint: AttributeConstraint) -> Attribute {
    Attribute {
        attr_type,
        constraint,
        description: Description::plain("For a test."),
        ..Attribute::default()
    }
}

fn schema(version: i64, attributes: HashMap<String, Attribute>) -> Schema {
    let description = Description::plain("For a test.");
    Schema { version, block: Block { attributes, description, ..Block::default() } }
}

pub(crate) struct Shelf;

#[derive(Serialize, Deserialize)]
pub(crate) struct ShelfConfig {
    endpoint: Value<String>,
}

#[async_trait]
impl Provider for Shelf {
    type Config<'a> = ShelfConfig;
    type MetaState<'a> = ValueEmpty;

    fn schema(&self, _: &mut Diagnostics) -> Option<Schema> {
        let endpoint = attribute(AttributeType::String, AttributeConstraint::Optional);
        Some(schema(0, map! {"endpoint" => endpoint}))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Thing {
    colour: Value<String>,
    weight: Value<i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BoxState {
    id: Value<String>,
    name: Value<String>,
    lid: Value<Thing>,
    things: Value<Vec<Thing>>,
}

impl BoxState {
    /// Gives every thing without a weight this one.
    fn weigh(&mut self, weight: &Value<i64>) {
        let lid = self.lid.as_mut_option().into_iter();
        let things = self.things.as_mut_option().into_iter().flatten();
        for thing in lid.chain(things).filter(|thing| !thing.weight.is_value()) {
            thing.weight = *weight;
        }
    }
}

pub(crate) struct ShelfBox;

impl Extra for ShelfBox {
    fn overlay(&self) -> Overlay {
        Overlay { write_only: Vec::new(), deprecated: vec![("lid", "Use things instead.")] }
    }

    fn upgrade_state(
        &self,
        _: &mut Diagnostics,
        _: i64,
        mut state: serde_json::Value,
    ) -> Option<serde_json::Value> {
        let attributes = state.as_object_mut()?;
        if let Some(title) = attributes.remove("title") {
            attributes.insert("name".to_owned(), title);
        }
        Some(state)
    }
}

#[async_trait]
impl Resource for ShelfBox {
    type State<'a> = BoxState;
    type PrivateState<'a> = ValueEmpty;
    type ProviderMetaState<'a> = ValueEmpty;

    fn schema(&self, _: &mut Diagnostics) -> Option<Schema> {
        use AttributeConstraint::{Computed, Optional, OptionalComputed, Required};
        let thing = || -> HashMap<String, Attribute> {
            map! {
                "colour" => attribute(AttributeType::String, Optional),
                "weight" => attribute(AttributeType::Number, OptionalComputed),
            }
        };
        Some(schema(
            1,
            map! {
                "id" => attribute(AttributeType::String, Computed),
                "name" => attribute(AttributeType::String, Required),
                "lid" => attribute(AttributeType::AttributeSingle(thing()), Optional),
                "things" => attribute(AttributeType::AttributeList(thing()), Optional),
            },
        ))
    }

    async fn validate<'a>(&self, diagnostics: &mut Diagnostics, config: BoxState) -> Option<()> {
        if config.name == Value::Value(String::new()) {
            let at = AttributePath::new("name");
            diagnostics.error("A box needs a name", "The name is empty.", at);
        }
        for (index, thing) in config.things.as_ref_option().into_iter().flatten().enumerate() {
            if thing.colour == Value::Value("invisible".to_owned()) {
                let at = AttributePath::new("things").index(i64::try_from(index).unwrap());
                diagnostics.error_short("Nobody sees this colour", at);
            }
        }
        Some(())
    }

    async fn read<'a>(
        &self,
        _: &mut Diagnostics,
        state: BoxState,
        private: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<(BoxState, ValueEmpty)> {
        (state.name != Value::Value("gone".to_owned())).then_some((state, private))
    }

    async fn plan_create<'a>(
        &self,
        _: &mut Diagnostics,
        mut proposed: BoxState,
        _: BoxState,
        _: ValueEmpty,
    ) -> Option<(BoxState, ValueEmpty)> {
        proposed.id = Value::Unknown;
        proposed.weigh(&Value::Unknown);
        Some((proposed, Value::Null))
    }

    async fn plan_update<'a>(
        &self,
        _: &mut Diagnostics,
        _: BoxState,
        proposed: BoxState,
        _: BoxState,
        private: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<(BoxState, ValueEmpty, Vec<AttributePath>)> {
        Some((proposed, private, Vec::new()))
    }

    async fn plan_destroy<'a>(
        &self,
        _: &mut Diagnostics,
        _: BoxState,
        private: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<ValueEmpty> {
        Some(private)
    }

    async fn create<'a>(
        &self,
        _: &mut Diagnostics,
        mut planned: BoxState,
        _: BoxState,
        private: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<(BoxState, ValueEmpty)> {
        let name = planned.name.as_ref_option().cloned().unwrap_or_default();
        tracing::debug!("too much for INFO");
        if name.len() < 100 {
            tracing::info!(name, "a box is made");
        }
        planned.id = Value::Value(format!("box-{}", &name[..name.len().min(9)]));
        planned.weigh(&Value::Value(7));
        Some((planned, private))
    }

    async fn update<'a>(
        &self,
        _: &mut Diagnostics,
        _: BoxState,
        planned: BoxState,
        _: BoxState,
        private: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<(BoxState, ValueEmpty)> {
        Some((planned, private))
    }

    async fn destroy<'a>(
        &self,
        _: &mut Diagnostics,
        _: BoxState,
        _: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<()> {
        Some(())
    }

    async fn import<'a>(&self, _: &mut Diagnostics, id: String) -> Option<(BoxState, ValueEmpty)> {
        let state = BoxState {
            id: Value::Value(format!("box-{id}")),
            name: Value::Value(id),
            lid: Value::Null,
            things: Value::Null,
        };
        Some((state, Value::Null))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LedgerState {
    id: Value<String>,
    mode: Value<String>,
}

impl LedgerState {
    fn mode(&self) -> &str {
        self.mode.as_ref_option().map_or("", String::as_str)
    }
}

pub(crate) struct Ledger {
    pub(crate) stop: CancellationToken,
}

impl Extra for Ledger {
    fn move_state(
        &self,
        diagnostics: &mut Diagnostics,
        from_type: &str,
        state: serde_json::Value,
    ) -> Option<serde_json::Value> {
        if from_type != "shelf_box" {
            diagnostics.root_error_short("Only a box becomes a ledger");
            return None;
        }
        Some(serde_json::json!({"id": state["id"], "mode": state["name"]}))
    }
}

#[async_trait]
impl Resource for Ledger {
    type State<'a> = LedgerState;
    type PrivateState<'a> = ValueEmpty;
    type ProviderMetaState<'a> = ValueEmpty;

    fn schema(&self, _: &mut Diagnostics) -> Option<Schema> {
        Some(schema(
            0,
            map! {
                "id" => attribute(AttributeType::String, AttributeConstraint::Computed),
                "mode" => attribute(AttributeType::String, AttributeConstraint::Required),
            },
        ))
    }

    async fn validate<'a>(&self, _: &mut Diagnostics, config: LedgerState) -> Option<()> {
        assert!(config.mode() != "panic_in_validate", "boom in validate");
        Some(())
    }

    async fn read<'a>(
        &self,
        _: &mut Diagnostics,
        state: LedgerState,
        private: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<(LedgerState, ValueEmpty)> {
        Some((state, private))
    }

    async fn plan_create<'a>(
        &self,
        _: &mut Diagnostics,
        mut proposed: LedgerState,
        _: LedgerState,
        _: ValueEmpty,
    ) -> Option<(LedgerState, ValueEmpty)> {
        proposed.id = Value::Unknown;
        Some((proposed, Value::Null))
    }

    async fn plan_update<'a>(
        &self,
        _: &mut Diagnostics,
        _: LedgerState,
        proposed: LedgerState,
        _: LedgerState,
        private: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<(LedgerState, ValueEmpty, Vec<AttributePath>)> {
        Some((proposed, private, Vec::new()))
    }

    async fn plan_destroy<'a>(
        &self,
        _: &mut Diagnostics,
        _: LedgerState,
        private: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<ValueEmpty> {
        Some(private)
    }

    async fn create<'a>(
        &self,
        diagnostics: &mut Diagnostics,
        mut planned: LedgerState,
        _: LedgerState,
        private: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<(LedgerState, ValueEmpty)> {
        if planned.mode() == "no_create" {
            return None;
        }
        if let Some(marker) = planned.mode().strip_prefix("slow:") {
            fs::write(marker, "").unwrap();
            let minute = Duration::from_secs(60);
            if tokio::time::timeout(minute, self.stop.cancelled()).await.is_ok() {
                diagnostics.root_warning(
                    "Interrupted while the ledger was being filled",
                    "It exists and is in the state.",
                );
            }
        }
        planned.id = Value::Value("ledger-1".to_owned());
        Some((planned, private))
    }

    async fn update<'a>(
        &self,
        _: &mut Diagnostics,
        _: LedgerState,
        planned: LedgerState,
        _: LedgerState,
        private: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<(LedgerState, ValueEmpty)> {
        assert!(planned.mode() != "panic_in_update", "boom in update");
        Some((planned, private))
    }

    async fn destroy<'a>(
        &self,
        diagnostics: &mut Diagnostics,
        prior: LedgerState,
        _: ValueEmpty,
        _: ValueEmpty,
    ) -> Option<()> {
        if prior.mode() == "destroy_error" {
            diagnostics.root_error_short("The ledger is chained");
        }
        (prior.mode() != "no_destroy").then_some(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CountState {
    name: Value<String>,
    letters: Value<i64>,
}

pub(crate) struct Count;

#[async_trait]
impl DataSource for Count {
    type State<'a> = CountState;
    type ProviderMetaState<'a> = ValueEmpty;

    fn schema(&self, _: &mut Diagnostics) -> Option<Schema> {
        Some(schema(
            0,
            map! {
                "name" => attribute(AttributeType::String, AttributeConstraint::Required),
                "letters" => attribute(AttributeType::Number, AttributeConstraint::Computed),
            },
        ))
    }

    async fn read<'a>(
        &self,
        _: &mut Diagnostics,
        mut config: CountState,
        _: ValueEmpty,
    ) -> Option<CountState> {
        let letters = config.name.as_ref_option().map_or(0, String::len);
        config.letters = Value::Value(i64::try_from(letters).unwrap());
        Some(config)
    }
}

pub(crate) struct Shout;

#[async_trait]
impl Function for Shout {
    type Input<'a> = (String, i64);
    type Output<'a> = String;

    fn schema(&self, _: &mut Diagnostics) -> Option<FunctionSchema> {
        let parameter = |name: &str, param_type| Parameter {
            name: name.to_owned(),
            param_type,
            ..Parameter::default()
        };
        Some(FunctionSchema {
            parameters: vec![parameter("text", Type::String), parameter("marks", Type::Number)],
            return_type: Type::String,
            summary: "Shouts.".to_owned(),
            ..FunctionSchema::default()
        })
    }

    async fn call<'a>(
        &self,
        diagnostics: &mut Diagnostics,
        (text, marks): (String, i64),
    ) -> Option<String> {
        let Ok(marks) = usize::try_from(marks) else {
            diagnostics.function_error(1, "not below zero");
            return None;
        };
        Some(text.to_uppercase() + &"!".repeat(marks))
    }
}
