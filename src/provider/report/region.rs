//! Messages of `aiven_service_backup_region`.

use crate::{
    domain::{cloud::CloudName, ids::ServiceId},
    provider::report::{At, error, warning},
};
use tf_provider::Diagnostics;

/// The wait for the first backup ended without one. The region is on all the same.
pub fn no_backup_yet(diagnostics: &mut Diagnostics, region: &CloudName, reason: &str) {
    let detail = format!(
        "{region} is enabled, and copying goes on without Terraform; the wait for the first backup \
         ended because: {reason}. To wait longer, raise timeouts.create."
    );
    warning(diagnostics, At::Attribute("wait_for_first_backup"), "No backup yet", detail);
}

/// The region is not in the service's list any more.
pub fn switched_off(diagnostics: &mut Diagnostics, id: &ServiceId, region: &CloudName) {
    let detail = format!(
        "{region} is not among the secondary backup regions of service {id} any more. The next \
         apply enables it again; to leave it off, remove the resource."
    );
    warning(diagnostics, At::Block, "Backup region was switched off", detail);
}

/// Backups are not copied at present.
pub fn paused(diagnostics: &mut Diagnostics, region: &CloudName, reason: Option<&str>) {
    let reason = reason.unwrap_or("no reason was given");
    let detail = format!(
        "Backups are not being copied to {region} at present: {reason}. What was copied before can \
         still be restored; put the reason right to go on."
    );
    warning(diagnostics, At::Attribute("region"), "Copying is paused", detail);
}

/// The service has not exactly one region, and the import id names none.
pub fn which_region(diagnostics: &mut Diagnostics, id: &ServiceId, regions: &[String]) {
    let detail = format!(
        "Service {id} has {} secondary backup regions ({}). Import PROJECT/SERVICE_NAME/REGION.",
        regions.len(),
        regions.join(", ")
    );
    error(diagnostics, At::Block, "Which region?", detail);
}

/// The API allows one region, and there is another.
pub fn occupied(diagnostics: &mut Diagnostics, reason: &str) {
    let detail = format!("{reason}. Import that region, or switch it off first.");
    error(diagnostics, At::Attribute("region"), "Another region is enabled", detail);
}

/// The API accepted a change and did not carry it out.
pub fn not_taken(diagnostics: &mut Diagnostics, reason: &str) {
    let detail = format!("{reason}. Does something else change the same list? Apply again.");
    error(diagnostics, At::Attribute("region"), "The change was not taken", detail);
}
