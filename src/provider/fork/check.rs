//! Checks a fork against what the API says of the source: at plan as advice, and just before creation.

use crate::{
    api::{backups::BackupList, service::Service},
    client::{endpoints::Api, error::ClientError},
    domain::{cloud::CloudName, ids::ServiceId},
    provider::{
        backup_region::{check as source_check, switch},
        duration,
        fork::{
            create,
            model::{Fork, Target},
            outlook::{self, NoRegion, Outlook, RegionCopy},
        },
        report::{self, At},
    },
};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use tf_provider::Diagnostics;

/// When a check is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Stage {
    /// At plan: an answer may be two seconds old.
    Plan,
    /// Just before creation: nothing but the present counts.
    Apply,
}

/// What a good fork would be.
#[derive(Debug)]
pub(in crate::provider) struct Checked {
    pub(in crate::provider) source: Arc<Service>,
    pub(in crate::provider) copy: RegionCopy,
    /// `None` while the target is unknown.
    pub(in crate::provider) outlook: Option<Outlook>,
}

/// Checks `planned`. `None` with errors when it cannot be made, and without them while the source is
/// not known yet.
pub(in crate::provider) async fn check(
    diagnostics: &mut Diagnostics,
    api: &Api,
    planned: &Fork,
    now: DateTime<Utc>,
    stage: Stage,
) -> Option<Checked> {
    let id = planned.source()?;
    let source = match api.service(&id).await {
        Ok(source) => source,
        Err(error) => {
            report::service_unread(diagnostics, "source_service_name", &id, &error);
            return None;
        }
    };
    if let Err(violation) = source_check::check_type(&source.service_type) {
        report::violation(diagnostics, At::Attribute("source_service_name"), &violation);
        return None;
    }
    let list = read_backups(api, &id, stage).await;
    let list = list.map_err(|error| report::client_error(diagnostics, At::Block, &error)).ok()?;
    judge(diagnostics, planned, source, &list, now)
}

async fn read_backups(
    api: &Api,
    id: &ServiceId,
    stage: Stage,
) -> Result<Arc<BackupList>, ClientError> {
    match stage {
        Stage::Plan => api.backups(id).await,
        Stage::Apply => api.backups_now(id).await,
    }
}

/// The rules, over what was read.
fn judge(
    diagnostics: &mut Diagnostics,
    planned: &Fork,
    source: Arc<Service>,
    list: &BackupList,
    now: DateTime<Utc>,
) -> Option<Checked> {
    let enabled = switch::regions(&source);
    let enabled: Vec<CloudName> =
        enabled.iter().filter_map(|name| CloudName::parse(name).ok()).collect();
    let wanted = planned.cloud();
    let copy = match outlook::choose(&outlook::copies(list), &enabled, wanted.as_ref()) {
        Ok(copy) => copy,
        Err(none) => {
            say(diagnostics, &none, &source.service_name);
            return None;
        }
    };
    let Some(target) = planned.target() else {
        return Some(Checked { source, copy, outlook: None });
    };
    let outlook = match outlook::outlook(&copy, target, now) {
        Ok(outlook) => outlook,
        Err(violation) => {
            let at = match target {
                Target::PointInTime(_) => "recovery_target_time",
                Target::LatestTransaction | Target::LatestBaseBackup => "source_service_name",
            };
            report::violation(diagnostics, At::Attribute(at), &violation);
            return None;
        }
    };
    let rpo_max = planned.max_rpo.text().and_then(|text| duration::parse(text).ok());
    if let Some(limit) = rpo_max.filter(|limit| outlook.rpo > *limit) {
        report::fork::too_much_lost(diagnostics, outlook.rpo, limit);
        return None;
    }
    Some(Checked { source, copy, outlook: Some(outlook) })
}

fn say(diagnostics: &mut Diagnostics, none: &NoRegion, source: &str) {
    match none {
        NoRegion::Rule(violation) => {
            report::violation(diagnostics, At::Attribute("region"), violation);
        }
        NoRegion::Several(regions) => report::fork::which_region(diagnostics, source, regions),
        NoRegion::None => report::fork::no_copies(diagnostics, source),
    }
}

/// One short line about what a plan would do, as a warning: Terraform shows nothing else of it.
pub(in crate::provider) async fn announce(
    diagnostics: &mut Diagnostics,
    api: &Api,
    planned: &Fork,
    checked: &Checked,
) {
    let (Some(id), Some(outlook)) = (planned.service(), &checked.outlook) else { return };
    let line = outlook.line(&checked.copy.window);
    report::fork::outlook(diagnostics, &id, &checked.copy.cloud, &line);
    // Whether this plan replaces the service that is there cannot be seen here. So what is there is
    // no error: the API decides when the fork is made.
    if let Ok(existing) = api.service(&id).await
        && let Err(difference) = create::same_origin(planned, &existing, None)
    {
        report::fork::name_in_use(diagnostics, &id, &difference);
    }
}
