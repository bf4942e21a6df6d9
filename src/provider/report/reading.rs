//! Messages of data sources and ephemeral resources.

use crate::{
    client::error::ClientError,
    domain::{cloud::CloudName, ids::ServiceId},
    provider::report::{At, error, warning},
};
use tf_provider::Diagnostics;

/// The API cannot tell, and the configuration takes that.
pub fn unreachable(diagnostics: &mut Diagnostics, failure: &ClientError) {
    let detail = format!(
        "{} As fail_on_unreachable is false, the values that it would tell are null.",
        failure.explain()
    );
    warning(diagnostics, At::Block, failure.headline(), detail);
}

/// Several regions hold copies, and none was named.
pub fn which_region(diagnostics: &mut Diagnostics, id: &ServiceId, regions: &[CloudName]) {
    let names: Vec<_> = regions.iter().map(CloudName::as_str).collect();
    let names = names.join(", ");
    let detail = format!("Service {id} has copies in {names}. Set region to one.");
    error(diagnostics, At::Attribute("region"), "Which region?", detail);
}

/// The service has no secondary backups.
pub fn no_copies(diagnostics: &mut Diagnostics, id: &ServiceId) {
    let detail = format!(
        "Service {id} has no secondary backup region. Enable one with aiven_service_backup_region."
    );
    error(diagnostics, At::Attribute("service_name"), "No secondary backups", detail);
}

/// A service without credentials yet.
pub fn no_credentials(diagnostics: &mut Diagnostics, id: &ServiceId) {
    let detail = format!(
        "Service {id} gives no credentials: it is still being restored, or it is switched off. Wait \
         until it is running, then try again."
    );
    error(diagnostics, At::Attribute("service_name"), "No credentials", detail);
}
