//! The function `rpo_seconds`: what a restore would lose.

use crate::provider::functions::{signature, time};
use async_trait::async_trait;
use tf_provider::{
    Diagnostics, Function,
    schema::{FunctionSchema, Type},
};

/// The function.
#[derive(Debug)]
pub struct RpoSeconds;

#[async_trait]
impl Function for RpoSeconds {
    type Input<'a> = (String, String);
    type Output<'a> = f64;

    fn schema(&self, _: &mut Diagnostics) -> Option<FunctionSchema> {
        Some(signature(
            "What a restore would lose, in seconds.",
            "The time between the latest restorable moment and the moment of a loss; 0 where the latter is not later.",
            &[("latest", "The latest restorable moment."), ("at", "The moment of the loss.")],
            Type::Number,
        ))
    }

    async fn call<'a>(
        &self,
        diags: &mut Diagnostics,
        (latest, at): (String, String),
    ) -> Option<f64> {
        let (latest, at) = (time(diags, 0, &latest), time(diags, 1, &at));
        let lost = (at? - latest?).to_std().unwrap_or_default();
        Some(lost.as_secs_f64())
    }
}
