//! The data source `aiven_backup_replication_status`: how far the copies are behind, and whether they
//! keep an objective.

use crate::{
    api::backups::BackupList,
    client::{endpoints::Api, error::ClientError},
    domain::{ids::ServiceId, target_time},
    provider::{
        data::{
            lag_report::{self, Lag},
            reached, validate_service,
        },
        duration, names,
        report::{self, At},
        session::Session,
        start,
        value::Tf,
    },
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tf_provider::{DataSource, Diagnostics, schema::Schema};

/// The data source's type name.
pub const TYPE: &str = "aiven_backup_replication_status";

const PERIODS: &[&str] = &["hour", "day", "week", "month", "year"];

/// How far the secondary copies of a service are behind its primary backups. With several secondary
/// regions the one that is furthest behind counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusModel {
    /// Project of the service.
    #[schemars(extend("x-tf" = "required"))]
    pub project: Tf<String>,
    /// Name of the service.
    #[schemars(extend("x-tf" = "required"))]
    pub service_name: Tf<String>,
    /// The largest lag that is acceptable, such as `15m`.
    #[schemars(extend("x-tf" = "optional"))]
    pub objective: Tf<String>,
    /// Period of the API's report in which the newest lag is looked for, where the API tells the lag
    /// in no other way: `hour`, `day`, `week`, `month` or `year`.
    #[schemars(extend("x-tf" = "optional", "default" = "hour"))]
    pub period: Tf<String>,
    /// Whether an API that cannot be reached is an error. With `false` it is a warning, and all
    /// values are null: for plans in the middle of an outage.
    #[schemars(extend("x-tf" = "optional", "default" = true))]
    pub fail_on_unreachable: Tf<bool>,
    /// The lag, in seconds; null where nothing has been measured.
    #[schemars(extend("x-tf" = "computed"))]
    pub lag_seconds: Tf<u64>,
    /// When the lag was measured, RFC 3339.
    #[schemars(extend("x-tf" = "computed"))]
    pub measured_at: Tf<String>,
    /// Whether copying is paused.
    #[schemars(extend("x-tf" = "computed"))]
    pub paused: Tf<bool>,
    /// Why it is paused.
    #[schemars(extend("x-tf" = "computed"))]
    pub pause_reason: Tf<String>,
    /// Whether the lag is at most the objective; null without an objective or a lag.
    #[schemars(extend("x-tf" = "computed"))]
    pub within_objective: Tf<bool>,
}

/// The data source.
#[derive(Debug)]
pub struct Statuses(pub Arc<Session>);

#[async_trait]
impl DataSource for Statuses {
    type State<'a> = StatusModel;
    type ProviderMetaState<'a> = ();

    fn schema(&self, diags: &mut Diagnostics) -> Option<Schema> {
        start::read_schema_of::<StatusModel>(diags)
    }

    async fn validate<'a>(&self, diags: &mut Diagnostics, config: StatusModel) -> Option<()> {
        validate_service(diags, &config.project, &config.service_name);
        names::validate_word(diags, "period", &config.period, PERIODS);
        if let Some(Err(error)) = config.objective.text().map(duration::parse) {
            report::period(diags, At::Attribute("objective"), &error);
        }
        Some(())
    }

    async fn read<'a>(
        &self,
        diags: &mut Diagnostics,
        config: StatusModel,
        _meta: (),
    ) -> Option<StatusModel> {
        let connection = self.0.connected(diags)?;
        let id = names::service_id(&config.project, &config.service_name)?;
        let model = StatusModel {
            period: config.period.clone().or("hour".to_owned()),
            fail_on_unreachable: config.fail_on_unreachable.clone().or(true),
            ..config
        };
        let now = self.0.clock.now();
        let answer = ask(&connection.api, &id, model.period.text(), now).await;
        let Some(seen) = reached(diags, &id, answer, &model.fail_on_unreachable)? else {
            return Some(model);
        };
        Some(filled(model, &seen))
    }
}

/// What the API tells.
struct Seen {
    lag: Option<Lag>,
    paused: bool,
    pause_reason: Option<String>,
}

async fn ask(
    api: &Api,
    id: &ServiceId,
    period: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Seen, ClientError> {
    let list = api.backups(id).await?;
    let (paused, pause_reason) = pause(&list);
    let lags = list.pitr.iter().flat_map(|pitr| &pitr.additional_regions);
    let most = lags.filter_map(|region| region.lag_seconds).max();
    let lag = match most {
        Some(seconds) => Some(Lag { seconds, measured_at: now }),
        None => match api.lag_report(id, period.unwrap_or("hour")).await {
            // Not every API has the report, nor every token the permission.
            Err(ClientError::NotFound { .. } | ClientError::Forbidden { .. }) => None,
            answer => lag_report::newest(&answer?),
        },
    };
    Ok(Seen { lag, paused, pause_reason })
}

/// Whether copying of the newest backup to some region is paused, and why.
fn pause(list: &BackupList) -> (bool, Option<String>) {
    // RFC 3339 in UTC sorts as text.
    let newest = list.backups.iter().max_by(|a, b| a.backup_time.cmp(&b.backup_time));
    let copies = newest.map(|backup| backup.additional_regions.as_slice()).unwrap_or_default();
    let paused = copies.iter().find(|copy| copy.paused == Some(true));
    (paused.is_some(), paused.and_then(|copy| copy.pause_reason.clone()))
}

fn filled(model: StatusModel, seen: &Seen) -> StatusModel {
    let objective = model.objective.text().and_then(|text| duration::parse(text).ok());
    let lag = seen.lag.as_ref();
    let within = lag.zip(objective).map(|(lag, most)| lag.seconds <= most.as_secs());
    StatusModel {
        lag_seconds: lag.map(|lag| lag.seconds).into(),
        measured_at: lag.map(|lag| target_time::format(lag.measured_at)).into(),
        paused: Tf::Known(seen.paused),
        pause_reason: seen.pause_reason.clone().into(),
        within_objective: within.into(),
        ..model
    }
}
