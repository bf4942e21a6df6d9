//! Messages about the provider block, and about a provider that is not ready.

use crate::provider::report::{At, error, warning};
use tf_provider::Diagnostics;

/// Something wrong in the provider block or in the environment. `reason` says how to put it right.
pub fn problem(diagnostics: &mut Diagnostics, attribute: &'static str, reason: &str) {
    error(diagnostics, At::Attribute(attribute), "Invalid provider configuration", reason);
}

/// The token can be overheard.
pub fn token_exposed(diagnostics: &mut Diagnostics) {
    let detail = "api_url is http and leads to another machine: whoever listens on the way can take \
                  the API token. Use https.";
    warning(diagnostics, At::Attribute("api_url"), "Token sent unencrypted", detail);
}

/// The settings are known only after apply.
pub fn checks_skipped(diagnostics: &mut Diagnostics) {
    let detail = "The provider's settings are known only after apply. What only the API can tell is \
                  checked during the apply, before anything is created.";
    warning(diagnostics, At::Block, "API checks are skipped in this plan", detail);
}

/// The API is needed, and its settings are not known.
pub fn not_configured(diagnostics: &mut Diagnostics) {
    let detail = "Its settings are not known yet. Apply what they depend on first.";
    error(diagnostics, At::Block, "Provider is not configured", detail);
}

/// A model struct that makes no sense.
pub fn schema_bug(diagnostics: &mut Diagnostics, reason: &str) {
    let detail = format!("{reason}. Report this; no configuration can put it right.");
    error(diagnostics, At::Block, "Provider bug: schema", detail);
}
