//! What people are told: where, what is wrong, and how to put it right. No other place in the provider
//! makes a diagnostic, so that `golden.rs` can show them all.

pub mod argument;
pub mod fork;
pub mod reading;
pub mod refresh;
pub mod region;
pub mod settings;

#[cfg(test)]
mod golden;

use crate::{
    client::error::ClientError,
    domain::{ids::ServiceId, violation::Violation},
    provider::duration::NotADuration,
};
use tf_provider::{AttributePath, Diagnostic, Diagnostics};

/// Where a message belongs: an attribute, or the whole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// An attribute of the block.
    Attribute(&'static str),
    /// An attribute of a nested block.
    Nested(&'static str, &'static str),
    /// The whole block.
    Block,
}

/// The diagnostic itself.
fn diagnostic(at: At, summary: &str, detail: String) -> Diagnostic {
    let attribute = match at {
        At::Attribute(name) => AttributePath::new(name),
        At::Nested(block, name) => AttributePath::new(block).attribute(name),
        At::Block => AttributePath::root(),
    };
    diagnostic_at(attribute, summary.to_owned(), detail)
}

/// Built literally, because `Diagnostic::new` adds a stack trace to the text wherever
/// `RUST_BACKTRACE` is set.
fn diagnostic_at(attribute: AttributePath, summary: String, detail: String) -> Diagnostic {
    Diagnostic { summary: summary.into(), detail: detail.into(), attribute }
}

/// Adds an error.
fn error(diagnostics: &mut Diagnostics, at: At, summary: &str, detail: impl Into<String>) {
    diagnostics.errors.push(diagnostic(at, summary, detail.into()));
}

/// Adds a warning.
fn warning(diagnostics: &mut Diagnostics, at: At, summary: &str, detail: impl Into<String>) {
    diagnostics.warnings.push(diagnostic(at, summary, detail.into()));
}

/// Adds a broken rule: the one place where a [`Violation`] becomes a diagnostic.
pub fn violation(diagnostics: &mut Diagnostics, at: At, violation: &Violation) {
    let summary = match violation {
        Violation::InvalidName { .. } => "Invalid name",
        Violation::InvalidCloudName { .. } => "Invalid cloud name",
        Violation::UnknownCloud { .. } => "Unknown cloud",
        Violation::RegionIsPrimary { .. } => "Not another region",
        Violation::OtherProvider { .. } => "Region of another cloud provider",
        Violation::TypeWithoutSecondaryBackups { .. } => "No backup to another region",
        Violation::NotATime { .. } => "Not a time",
        Violation::TimeInFuture { .. } => "Restore time in the future",
        Violation::TimeOutsideWindow { .. } => "Restore time outside the restore window",
        Violation::NothingRestorable { .. } => "Nothing to restore yet",
        Violation::RegionWithoutCopy { .. } => "Region without secondary backups",
    };
    error(diagnostics, at, summary, violation.explain());
}

/// Adds a failed call of the API: the one place where a [`ClientError`] becomes a diagnostic.
pub fn client_error(diagnostics: &mut Diagnostics, at: At, failure: &ClientError) {
    error(diagnostics, at, failure.headline(), failure.explain());
}

/// A text that is none of the words that an attribute takes.
pub fn word(diagnostics: &mut Diagnostics, attribute: &'static str, text: &str, words: &[&str]) {
    let detail = format!("`{text}` is none of: {}.", words.join(", "));
    error(diagnostics, At::Attribute(attribute), "Invalid value", detail);
}

/// A text that is no period.
pub fn period(diagnostics: &mut Diagnostics, at: At, failure: &NotADuration) {
    error(diagnostics, at, "Not a period", format!("{failure}."));
}

/// An import id that cannot be read. `reason` is a sentence with the expected form.
pub fn import_id(diagnostics: &mut Diagnostics, reason: &str) {
    error(diagnostics, At::Block, "Invalid import id", reason);
}

/// A service that could not be read, at the attribute that names it.
pub fn service_unread(
    diagnostics: &mut Diagnostics,
    attribute: &'static str,
    id: &ServiceId,
    failure: &ClientError,
) {
    let ClientError::NotFound { .. } = failure else {
        return client_error(diagnostics, At::Block, failure);
    };
    let detail = format!(
        "Service \"{}\" does not exist in project \"{}\". Check both names, or create the service \
         first. If this very apply creates it, take the name from a value that is known only \
         afterwards, such as split(\"/\", aiven_pg.example.id)[1]: then it is checked after that.",
        id.service, id.project
    );
    error(diagnostics, At::Attribute(attribute), "Service does not exist", detail);
}

/// A protected object that a plan would remove. `verb` is `destroy` or `replace`.
pub fn protected(diagnostics: &mut Diagnostics, what: &str, verb: &str) {
    let detail = format!(
        "deletion_protection is true in the state, so this plan may not {verb} the {what}. Set \
         deletion_protection = false and apply that first; then {verb} it."
    );
    error(diagnostics, At::Attribute("deletion_protection"), "Protected", detail);
}
