//! What a refresh does when the API does not simply answer.

use crate::{
    client::error::ClientError,
    domain::ids::ServiceId,
    provider::{config::OnReadError, report, timeouts::Operation},
};
use std::time::Duration;
use tf_provider::Diagnostics;

/// Without a setting, a refresh may take this long.
pub const READ_LIMIT: Duration = Duration::from_secs(5 * 60);

/// What becomes of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The object is gone: Terraform may forget it.
    Gone,
    /// The state stays as it is. Where there is an error too, the plan fails.
    Keep,
}

/// Judges a failed read of the service `id`, and says so.
pub fn judge(
    diagnostics: &mut Diagnostics,
    id: &ServiceId,
    failure: &ClientError,
    on_read_error: OnReadError,
) -> Verdict {
    if let ClientError::NotFound { message, .. } = failure {
        report::refresh::gone(diagnostics, id, message);
        return Verdict::Gone;
    }
    match on_read_error {
        OnReadError::Fail => report::refresh::failed(diagnostics, failure),
        OnReadError::KeepState => report::refresh::state_kept(diagnostics, failure),
    }
    Verdict::Keep
}

/// The failure that an operation without an end stands for.
#[must_use]
pub fn overdue(operation: Operation, id: &ServiceId) -> ClientError {
    let (doing, attribute) = match operation {
        Operation::Read => ("reading", "timeouts.read"),
        Operation::Create => ("enabling a backup region of", "timeouts.create"),
        Operation::Update => ("changing the backup region of", "timeouts.update"),
        Operation::Delete => ("disabling a backup region of", "timeouts.delete"),
    };
    ClientError::Server {
        doing: format!("{doing} service {id}"),
        status: 504,
        message: format!("no answer within the time of {attribute}"),
    }
}
