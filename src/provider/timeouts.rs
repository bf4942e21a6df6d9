//! The `timeouts` block.

use crate::provider::{
    duration,
    report::{self, At},
    value::Tf,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tf_provider::Diagnostics;

/// How long each operation may take, such as `30m` or `4h`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timeouts {
    /// Limit of the creation.
    #[schemars(extend("x-tf" = "optional"))]
    pub create: Tf<String>,
    /// Limit of a change.
    #[schemars(extend("x-tf" = "optional"))]
    pub update: Tf<String>,
    /// Limit of the deletion.
    #[schemars(extend("x-tf" = "optional"))]
    pub delete: Tf<String>,
    /// Limit of a refresh.
    #[schemars(extend("x-tf" = "optional"))]
    pub read: Tf<String>,
}

/// An operation with a limit.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Creation.
    Create,
    /// Change.
    Update,
    /// Deletion.
    Delete,
    /// Refresh.
    Read,
}

/// The limit of `operation`, or `default` where none is set.
#[must_use]
pub fn limit(timeouts: &Tf<Timeouts>, operation: Operation, default: Duration) -> Duration {
    let text = timeouts.known().and_then(|timeouts| match operation {
        Operation::Create => timeouts.create.text(),
        Operation::Update => timeouts.update.text(),
        Operation::Delete => timeouts.delete.text(),
        Operation::Read => timeouts.read.text(),
    });
    // A text that is no period was refused at validation.
    text.and_then(|text| duration::parse(text).ok()).unwrap_or(default)
}

/// Refuses what is no period.
pub fn validate(diagnostics: &mut Diagnostics, timeouts: &Tf<Timeouts>) {
    let Some(timeouts) = timeouts.known() else { return };
    let each = [
        ("create", &timeouts.create),
        ("update", &timeouts.update),
        ("delete", &timeouts.delete),
        ("read", &timeouts.read),
    ];
    for (name, value) in each {
        if let Some(Err(error)) = value.text().map(duration::parse) {
            let at = At::Nested("timeouts", name);
            report::period(diagnostics, at, &error);
        }
    }
}
