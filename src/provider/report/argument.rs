//! Messages of functions: which argument is wrong, and why. Terraform puts the argument's name before
//! the text.

use crate::{
    domain::violation::Violation,
    provider::{duration::NotADuration, report::diagnostic_at},
};
use tf_provider::{AttributePath, Diagnostics};

fn wrong(diagnostics: &mut Diagnostics, argument: i64, text: String) {
    let at = AttributePath::function_argument(argument);
    diagnostics.errors.push(diagnostic_at(at, text, String::new()));
}

/// An argument that breaks a rule.
pub fn rule(diagnostics: &mut Diagnostics, argument: i64, violation: &Violation) {
    wrong(diagnostics, argument, violation.explain());
}

/// An argument that is no period.
pub fn period(diagnostics: &mut Diagnostics, argument: i64, failure: &NotADuration) {
    wrong(diagnostics, argument, format!("{failure}."));
}

/// A range that ends before it begins.
pub fn range_reversed(diagnostics: &mut Diagnostics, argument: i64) {
    let text = "the range ends before it begins. Give the earlier time as start.";
    wrong(diagnostics, argument, text.to_owned());
}
