//! The function `fork_name`: a name for the fork of a moment.

use crate::{
    domain::ids::{SERVICE_NAME_LENGTH_MAX, ServiceName},
    provider::{
        functions::{signature, time},
        report,
    },
};
use async_trait::async_trait;
use tf_provider::{
    Diagnostics, Function,
    schema::{FunctionSchema, Type},
};

/// The function.
#[derive(Debug)]
pub struct ForkName;

#[async_trait]
impl Function for ForkName {
    type Input<'a> = (String, String);
    type Output<'a> = String;

    fn schema(&self, _: &mut Diagnostics) -> Option<FunctionSchema> {
        Some(signature(
            "A name for the fork of a moment.",
            "The name of the source with the moment behind it in UTC, such as `orders-20261123-074112`. A long name of the source is cut, so that the result is always a valid service name of at most 64 characters.",
            &[
                ("base", "Name of the source, or another beginning."),
                ("t", "The moment to restore."),
            ],
            Type::String,
        ))
    }

    async fn call<'a>(
        &self,
        diags: &mut Diagnostics,
        (base, t): (String, String),
    ) -> Option<String> {
        let name = ServiceName::parse(&base);
        let name = name.map_err(|error| report::argument::rule(diags, 0, &error)).ok();
        let stamp = time(diags, 1, &t)?.format("-%Y%m%d-%H%M%S").to_string();
        // Names are ASCII, so that any length is a place to cut.
        let name =
            name?.as_str()[..base.len().min(SERVICE_NAME_LENGTH_MAX - stamp.len())].to_owned();
        Some(name.trim_end_matches('-').to_owned() + &stamp)
    }
}
