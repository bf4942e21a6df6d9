//! What a resource can say beyond tf-provider's traits.

use tf_provider::Diagnostics;

/// Schema facts that `tf_provider::schema::Attribute` has no field for, by attribute name.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// Attributes whose values never reach the state.
    pub write_only: Vec<&'static str>,
    /// Attributes that are going away, with what to use instead.
    pub deprecated: Vec<(&'static str, &'static str)>,
}

/// Beyond [`tf_provider::Resource`]: schema overlay, state upgrade, `moved` from another type.
pub trait Extra: Send + Sync {
    /// Schema facts that tf-provider cannot express.
    fn overlay(&self) -> Overlay {
        Overlay::default()
    }

    /// Brings a state of schema version `from` to the present one. `None` with an error otherwise.
    fn upgrade_state(
        &self,
        diagnostics: &mut Diagnostics,
        from: i64,
        state: serde_json::Value,
    ) -> Option<serde_json::Value> {
        let _ = state;
        diagnostics.root_error(
            "State is of an unknown version",
            format!("This provider cannot upgrade a state of schema version {from}."),
        );
        None
    }

    /// Takes over the state of a resource of another type, for `moved` blocks.
    fn move_state(
        &self,
        diagnostics: &mut Diagnostics,
        from_type: &str,
        state: serde_json::Value,
    ) -> Option<serde_json::Value> {
        let _ = state;
        diagnostics.root_error(
            "This resource cannot be moved here",
            format!("A state of type `{from_type}` cannot become one of this type."),
        );
        None
    }

    /// The private state beside a state that was moved here: a value of the resource's private type.
    fn private_after_move(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
