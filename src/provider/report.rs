//! What people are told: where, what is wrong, and how to put it right.

use crate::{client::error::ClientError, domain::violation::Violation};
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

/// The diagnostic itself. Built literally, because `Diagnostic::new` adds a stack trace to the text
/// wherever `RUST_BACKTRACE` is set.
fn diagnostic(at: At, summary: &str, detail: String) -> Diagnostic {
    let attribute = match at {
        At::Attribute(name) => AttributePath::new(name),
        At::Nested(block, name) => AttributePath::new(block).attribute(name),
        At::Block => AttributePath::root(),
    };
    Diagnostic { summary: summary.to_owned().into(), detail: detail.into(), attribute }
}

/// Adds an error.
pub fn error(diagnostics: &mut Diagnostics, at: At, summary: &str, detail: impl Into<String>) {
    diagnostics.errors.push(diagnostic(at, summary, detail.into()));
}

/// Adds a warning.
pub fn warning(diagnostics: &mut Diagnostics, at: At, summary: &str, detail: impl Into<String>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_place_and_its_remedy() {
        let mut diagnostics = Diagnostics::default();
        let rule = Violation::NotATime { text: "soon".to_owned() };
        violation(&mut diagnostics, At::Attribute("recovery_target_time"), &rule);
        let error = &diagnostics.errors[0];
        assert_eq!(error.attribute.to_string(), "recovery_target_time");
        assert_eq!(
            error.detail,
            "`soon` is not a time. Write it like 2026-11-23T07:41:12Z, in at most 32 characters."
        );
    }
}
