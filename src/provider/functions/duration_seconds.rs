//! The function `duration_seconds`: the seconds of a period.

use crate::provider::{duration, functions::signature, report};
use async_trait::async_trait;
use tf_provider::{
    Diagnostics, Function,
    schema::{FunctionSchema, Type},
};

/// The function.
#[derive(Debug)]
pub struct DurationSeconds;

#[async_trait]
impl Function for DurationSeconds {
    type Input<'a> = (String,);
    type Output<'a> = f64;

    fn schema(&self, _: &mut Diagnostics) -> Option<FunctionSchema> {
        Some(signature(
            "The seconds of a period.",
            "Reads a period as `max_rpo` and `timeouts` take it, such as `90s`, `30m` or `1h30m`.",
            &[("d", "The period.")],
            Type::Number,
        ))
    }

    async fn call<'a>(&self, diags: &mut Diagnostics, (d,): (String,)) -> Option<f64> {
        let period = duration::parse(&d);
        let period = period.map_err(|error| report::argument::period(diags, 0, &error)).ok()?;
        Some(period.as_secs_f64())
    }
}
