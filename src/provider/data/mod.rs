//! The data sources, and what they share. They are read at every plan, with `-refresh=false`, too.

pub mod backups;
pub mod clouds;
pub mod fork_preview;
mod lag_report;
pub mod replication_status;
pub mod restore_window;

use crate::{
    client::{endpoints::Api, error::ClientError},
    domain::{
        cloud::CloudName,
        ids::{ProjectName, ServiceId, ServiceName},
    },
    provider::{
        backup_region::switch,
        fork::outlook::{self, NoRegion, RegionCopy},
        names,
        report::{self, At},
        value::Tf,
    },
};
use tf_provider::Diagnostics;

/// Reports names that break their patterns.
fn validate_service(diagnostics: &mut Diagnostics, project: &Tf<String>, service: &Tf<String>) {
    names::validate(diagnostics, "project", project, ProjectName::parse);
    names::validate(diagnostics, "service_name", service, ServiceName::parse);
}

/// The answer of the API, or `Ok(None)` with a warning where the configuration takes it that the API
/// cannot tell. Any other failure is an error.
fn reached<T>(
    diagnostics: &mut Diagnostics,
    id: &ServiceId,
    answer: Result<T, ClientError>,
    fail_on_unreachable: &Tf<bool>,
) -> Option<Option<T>> {
    let failure = match answer {
        Ok(value) => return Some(Some(value)),
        Err(failure) => failure,
    };
    let away = match &failure {
        ClientError::Unreachable { .. }
        | ClientError::Server { .. }
        | ClientError::Undecodable { .. } => true,
        ClientError::Setup { .. }
        | ClientError::Unauthorized { .. }
        | ClientError::Forbidden { .. }
        | ClientError::NotFound { .. }
        | ClientError::Conflict { .. }
        | ClientError::Refused { .. } => false,
    };
    if away && fail_on_unreachable.known() == Some(&false) {
        report::reading::unreachable(diagnostics, &failure);
        return Some(None);
    }
    report::service_unread(diagnostics, "service_name", id, &failure);
    None
}

/// The copy in the region that is meant. Only where no copy has arrived yet is the service asked which
/// regions are enabled.
async fn copy(
    api: &Api,
    id: &ServiceId,
    wanted: Option<&CloudName>,
) -> Result<Result<RegionCopy, NoRegion>, ClientError> {
    let list = api.backups(id).await?;
    let copies = outlook::copies(&list);
    if let Ok(copy) = outlook::choose(&copies, &[], wanted) {
        return Ok(Ok(copy));
    }
    let service = api.service(id).await?;
    let enabled: Vec<CloudName> =
        switch::regions(&service).iter().filter_map(|name| CloudName::parse(name).ok()).collect();
    Ok(outlook::choose(&copies, &enabled, wanted))
}

/// Reports why there is no region to read.
fn say(diagnostics: &mut Diagnostics, id: &ServiceId, none: &NoRegion) {
    match none {
        NoRegion::Rule(violation) => {
            report::violation(diagnostics, At::Attribute("region"), violation);
        }
        NoRegion::Several(regions) => report::reading::which_region(diagnostics, id, regions),
        NoRegion::None => report::reading::no_copies(diagnostics, id),
    }
}
