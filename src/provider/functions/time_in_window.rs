//! The function `time_in_window`: whether a moment lies in a restore window.

use crate::provider::{
    functions::{signature, time},
    report,
};
use async_trait::async_trait;
use tf_provider::{
    Diagnostics, Function,
    schema::{FunctionSchema, Type},
};

/// The function.
#[derive(Debug)]
pub struct TimeInWindow;

#[async_trait]
impl Function for TimeInWindow {
    type Input<'a> = (String, String, String);
    type Output<'a> = bool;

    fn schema(&self, _: &mut Diagnostics) -> Option<FunctionSchema> {
        Some(signature(
            "Whether a moment lies in a restore window.",
            "Both ends belong to the window.",
            &[
                ("t", "The moment."),
                ("start", "The first restorable moment."),
                ("end", "The last restorable moment."),
            ],
            Type::Bool,
        ))
    }

    async fn call<'a>(
        &self,
        diags: &mut Diagnostics,
        (t, start, end): (String, String, String),
    ) -> Option<bool> {
        let (t, start, end) = (time(diags, 0, &t), time(diags, 1, &start), time(diags, 2, &end));
        let (t, start, end) = (t?, start?, end?);
        if end < start {
            report::argument::range_reversed(diags, 2);
            return None;
        }
        Some((start..=end).contains(&t))
    }
}
