//! The function `normalize_time`: writes a time the way that is sent.

use crate::{
    domain::target_time,
    provider::functions::{signature, time},
};
use async_trait::async_trait;
use tf_provider::{
    Diagnostics, Function,
    schema::{FunctionSchema, Type},
};

/// The function.
#[derive(Debug)]
pub struct NormalizeTime;

#[async_trait]
impl Function for NormalizeTime {
    type Input<'a> = (String,);
    type Output<'a> = String;

    fn schema(&self, _: &mut Diagnostics) -> Option<FunctionSchema> {
        Some(signature(
            "Writes a time in RFC 3339 and UTC.",
            "Reads every spelling that `recovery_target_time` takes, and writes the moment in UTC, such as `2026-11-23T07:41:12Z`.",
            &[(
                "t",
                "Time with a `T` or a space in the middle, and `Z`, an offset, or nothing for UTC.",
            )],
            Type::String,
        ))
    }

    async fn call<'a>(&self, diags: &mut Diagnostics, (t,): (String,)) -> Option<String> {
        time(diags, 0, &t).map(target_time::format)
    }
}
