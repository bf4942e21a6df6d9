//! The data source `aiven_restore_window`: what can be restored in a secondary region.

use crate::{
    domain::{cloud::CloudName, target_time},
    provider::{
        data::{copy, reached, say, validate_service},
        fork::outlook::RegionCopy,
        names,
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
pub const TYPE: &str = "aiven_restore_window";

/// The moments that the copies in a secondary region can restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WindowModel {
    /// Project of the service.
    #[schemars(extend("x-tf" = "required"))]
    pub project: Tf<String>,
    /// Name of the service.
    #[schemars(extend("x-tf" = "required"))]
    pub service_name: Tf<String>,
    /// Cloud that holds the copies. Without it the only one.
    #[schemars(extend("x-tf" = "optional computed"))]
    pub region: Tf<String>,
    /// A moment to judge, such as `2026-11-23T07:41:12Z`. Without it `rpo_seconds` counts from now.
    #[schemars(extend("x-tf" = "optional"))]
    pub at: Tf<String>,
    /// Whether an API that cannot be reached is an error. With `false` it is a warning, `reachable` is
    /// false, and all other values are null: for plans in the middle of an outage.
    #[schemars(extend("x-tf" = "optional", "default" = true))]
    pub fail_on_unreachable: Tf<bool>,
    /// Whether the API answered.
    #[schemars(extend("x-tf" = "computed"))]
    pub reachable: Tf<bool>,
    /// The first restorable moment, RFC 3339; null when nothing can be restored yet.
    #[schemars(extend("x-tf" = "computed"))]
    pub earliest: Tf<String>,
    /// The last restorable moment, RFC 3339.
    #[schemars(extend("x-tf" = "computed"))]
    pub latest: Tf<String>,
    /// Whether `latest` was read from the log, and not estimated.
    #[schemars(extend("x-tf" = "computed"))]
    pub exact: Tf<bool>,
    /// Name of the oldest base backup in the region.
    #[schemars(extend("x-tf" = "computed"))]
    pub oldest_base_backup: Tf<String>,
    /// Name of the newest base backup in the region.
    #[schemars(extend("x-tf" = "computed"))]
    pub newest_base_backup: Tf<String>,
    /// The gapless stretches between `earliest` and `latest`.
    #[schemars(extend("x-tf" = "computed"))]
    pub ranges: Tf<Vec<RangeRow>>,
    /// Whether `at` can be restored; null without `at`.
    #[schemars(extend("x-tf" = "computed"))]
    pub in_window: Tf<bool>,
    /// What a restore of the latest moment would lose, counted from `at` or from now, in seconds.
    #[schemars(extend("x-tf" = "computed"))]
    pub rpo_seconds: Tf<u64>,
}

/// A gapless stretch of restorable moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RangeRow {
    /// First restorable moment, RFC 3339.
    #[schemars(extend("x-tf" = "computed"))]
    pub start: Tf<String>,
    /// Last restorable moment, RFC 3339.
    #[schemars(extend("x-tf" = "computed"))]
    pub end: Tf<String>,
    /// Whether the end was read from the log.
    #[schemars(extend("x-tf" = "computed"))]
    pub exact: Tf<bool>,
}

/// The data source.
#[derive(Debug)]
pub struct Windows(pub Arc<Session>);

#[async_trait]
impl DataSource for Windows {
    type State<'a> = WindowModel;
    type ProviderMetaState<'a> = ();

    fn schema(&self, diags: &mut Diagnostics) -> Option<Schema> {
        start::read_schema_of::<WindowModel>(diags)
    }

    async fn validate<'a>(&self, diags: &mut Diagnostics, config: WindowModel) -> Option<()> {
        validate_service(diags, &config.project, &config.service_name);
        names::validate(diags, "region", &config.region, CloudName::parse);
        names::validate(diags, "at", &config.at, target_time::parse);
        Some(())
    }

    async fn read<'a>(
        &self,
        diags: &mut Diagnostics,
        config: WindowModel,
        _meta: (),
    ) -> Option<WindowModel> {
        let connection = self.0.connected(diags)?;
        let id = names::service_id(&config.project, &config.service_name)?;
        let wanted = config.region.text().and_then(|name| CloudName::parse(name).ok());
        let model = WindowModel {
            fail_on_unreachable: config.fail_on_unreachable.clone().or(true),
            ..config
        };
        let answer = copy(&connection.api, &id, wanted.as_ref()).await;
        let Some(chosen) = reached(diags, &id, answer, &model.fail_on_unreachable)? else {
            return Some(WindowModel { reachable: Tf::Known(false), ..model });
        };
        let copy = chosen.map_err(|none| say(diags, &id, &none)).ok()?;
        Some(filled(model, &copy, self.0.clock.now()))
    }
}

fn filled(model: WindowModel, copy: &RegionCopy, now: DateTime<Utc>) -> WindowModel {
    let text = |time: Option<DateTime<Utc>>| Tf::from(time.map(target_time::format));
    let ranges = copy.window.ranges();
    let row = |range: &crate::domain::window::RestoreRange| RangeRow {
        start: Tf::Known(target_time::format(range.earliest)),
        end: Tf::Known(target_time::format(range.latest)),
        exact: Tf::Known(range.exact),
    };
    let at = model.at.text().and_then(|text| target_time::parse(text).ok());
    let rpo = copy.window.latest().map(|latest| at.unwrap_or(now) - latest);
    WindowModel {
        region: copy.cloud.as_str().into(),
        reachable: Tf::Known(true),
        earliest: text(copy.window.earliest()),
        latest: text(copy.window.latest()),
        exact: ranges.last().map(|range| range.exact).into(),
        oldest_base_backup: copy.bases.first().map(|base| base.name.clone()).into(),
        newest_base_backup: copy.bases.last().map(|base| base.name.clone()).into(),
        ranges: Tf::Known(ranges.iter().map(row).collect()),
        in_window: at.map(|at| copy.window.nearest(at) == Some(at)).into(),
        rpo_seconds: rpo.map(|rpo| u64::try_from(rpo.num_seconds()).unwrap_or(0)).into(),
        ..model
    }
}
