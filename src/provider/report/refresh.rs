//! Messages of a refresh, when the API does not simply answer.

use crate::{
    client::error::ClientError,
    domain::ids::ServiceId,
    provider::report::{At, error, warning},
};
use tf_provider::Diagnostics;

/// The service is not there any more.
pub fn gone(diagnostics: &mut Diagnostics, id: &ServiceId, message: &str) {
    let message = message.trim_end_matches('.');
    let detail = format!(
        "Service {id} does not exist any more ({message}). The resource is dropped from the state; \
         to manage it no longer, remove it from the configuration, too."
    );
    warning(diagnostics, At::Block, "Service is gone", detail);
}

/// The API cannot tell, and the plan fails.
pub fn failed(diagnostics: &mut Diagnostics, failure: &ClientError) {
    let advice = "To plan through an outage, set on_read_error = \"keep_state\" in the provider \
                  block.";
    let detail = format!("{} {advice}", failure.explain());
    error(diagnostics, At::Block, failure.headline(), detail);
}

/// The API cannot tell, and the state is kept.
pub fn state_kept(diagnostics: &mut Diagnostics, failure: &ClientError) {
    let detail = format!("{} The state is kept as it was.", failure.explain());
    warning(diagnostics, At::Block, failure.headline(), detail);
}
