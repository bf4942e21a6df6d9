//! The provider's functions: pure, and without an API. They work while Terraform validates.

pub mod duration_seconds;
pub mod fork_name;
pub mod is_valid_backup_pair;
pub mod normalize_time;
pub mod parse_cloud;
pub mod rpo_seconds;
pub mod same_cloud;
pub mod time_in_window;

use crate::{
    domain::{
        cloud::{Cloud, CloudName},
        target_time,
    },
    provider::report,
};
use chrono::{DateTime, Utc};
use tf_provider::{
    Diagnostics,
    schema::{Description, FunctionSchema, Parameter, Type},
};

/// A signature. Null and unknown arguments never come here: Terraform refuses the first, and answers
/// the second by itself.
fn signature(
    summary: &str,
    description: &str,
    parameters: &[(&str, &str)],
    return_type: Type,
) -> FunctionSchema {
    let parameter = |&(name, description): &(&str, &str)| Parameter {
        name: name.to_owned(),
        param_type: Type::String,
        description: Description::markdown(description),
        ..Parameter::default()
    };
    FunctionSchema {
        parameters: parameters.iter().map(parameter).collect(),
        return_type,
        summary: summary.to_owned(),
        description: Description::markdown(description),
        ..FunctionSchema::default()
    }
}

/// Reads a cloud name, or reports the argument.
fn cloud(diagnostics: &mut Diagnostics, argument: i64, text: &str) -> Option<Cloud> {
    let name = CloudName::parse(text);
    let name = name.map_err(|error| report::argument::rule(diagnostics, argument, &error)).ok()?;
    Some(Cloud::from_name(name))
}

/// Reads a time, or reports the argument.
fn time(diagnostics: &mut Diagnostics, argument: i64, text: &str) -> Option<DateTime<Utc>> {
    let time = target_time::parse(text);
    time.map_err(|error| report::argument::rule(diagnostics, argument, &error)).ok()
}

#[cfg(test)]
mod tests;
