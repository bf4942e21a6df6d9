//! What a refresh does when the API does not simply answer.

use crate::{
    client::error::ClientError,
    domain::ids::ServiceId,
    provider::{
        config::OnReadError,
        report,
    },
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

/// The failure that a read without an end stands for.
#[must_use]
pub fn overdue(id: &ServiceId) -> ClientError {
    ClientError::Server {
        doing: format!("reading service {id}"),
        status: 504,
        message: "no answer within the time of timeouts.read".to_owned(),
    }
}
