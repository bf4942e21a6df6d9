//! The data source `aiven_fork_preview`: what a fork would be, without making it.

use crate::{
    domain::{restore_time, target_time},
    provider::{
        fork::{
            check::{self, Checked, Stage},
            create,
            model::{Fork, LATEST_TRANSACTION},
            rules,
        },
        session::{Connection, Session},
        start,
        value::Tf,
    },
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tf_provider::{DataSource, Diagnostics, schema::Schema};

/// The data source's type name.
pub const TYPE: &str = "aiven_fork_preview";

/// What `fork_from_secondary_backup` would restore with the same arguments, and what speaks against it.
/// Nothing is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewModel {
    /// Project of the fork.
    #[schemars(extend("x-tf" = "required"))]
    pub project: Tf<String>,
    /// Name of the fork.
    #[schemars(extend("x-tf" = "required"))]
    pub service_name: Tf<String>,
    /// Project of the source. Without it that of the fork.
    #[schemars(extend("x-tf" = "optional"))]
    pub source_project: Tf<String>,
    /// Name of the source service.
    #[schemars(extend("x-tf" = "required"))]
    pub source_service_name: Tf<String>,
    /// Cloud of the fork. Without it the only one that holds a copy.
    #[schemars(extend("x-tf" = "optional computed"))]
    pub region: Tf<String>,
    /// What to restore: `latest_transaction`, `latest_base_backup`, or `point_in_time`.
    #[schemars(extend("x-tf" = "optional", "default" = "latest_transaction"))]
    pub recovery_target: Tf<String>,
    /// The moment to restore, for `point_in_time` alone.
    #[schemars(extend("x-tf" = "optional"))]
    pub recovery_target_time: Tf<String>,
    /// The most that may be lost, such as `15m`.
    #[schemars(extend("x-tf" = "optional"))]
    pub max_rpo: Tf<String>,
    /// The moment whose contents the fork would have, RFC 3339.
    #[schemars(extend("x-tf" = "computed"))]
    pub resolved_target_time: Tf<String>,
    /// Name of the base backup that would be restored.
    #[schemars(extend("x-tf" = "computed"))]
    pub base_backup: Tf<String>,
    /// Files of the log after that backup, where the API tells: as many as would be replayed at most.
    #[schemars(extend("x-tf" = "computed"))]
    pub log_segments: Tf<u64>,
    /// Size of those files, in bytes.
    #[schemars(extend("x-tf" = "computed"))]
    pub log_bytes: Tf<u64>,
    /// What would be lost, in seconds before now.
    #[schemars(extend("x-tf" = "computed"))]
    pub rpo_seconds: Tf<u64>,
    /// The restore will hardly take less than this. A guide from usual speeds of disks and networks
    /// (200 MB/s for the base backup, 100 MB/s for the log).
    #[schemars(extend("x-tf" = "computed"))]
    pub estimated_restore_seconds_low: Tf<u64>,
    /// The restore will hardly take more than this (20 MB/s for the base backup, 5 MB/s for the log).
    #[schemars(extend("x-tf" = "computed"))]
    pub estimated_restore_seconds_high: Tf<u64>,
    /// Whether nothing speaks against the fork.
    #[schemars(extend("x-tf" = "computed"))]
    pub ok: Tf<bool>,
    /// What speaks against the fork, each with the remedy.
    #[schemars(extend("x-tf" = "computed"))]
    pub problems: Tf<Vec<String>>,
}

/// The data source.
#[derive(Debug)]
pub struct Previews(pub Arc<Session>);

#[async_trait]
impl DataSource for Previews {
    type State<'a> = PreviewModel;
    type ProviderMetaState<'a> = ();

    fn schema(&self, diags: &mut Diagnostics) -> Option<Schema> {
        start::read_schema_of::<PreviewModel>(diags)
    }

    async fn validate<'a>(&self, diags: &mut Diagnostics, config: PreviewModel) -> Option<()> {
        rules::validate(diags, &fork(&config));
        Some(())
    }

    async fn read<'a>(
        &self,
        diags: &mut Diagnostics,
        config: PreviewModel,
        _meta: (),
    ) -> Option<PreviewModel> {
        let connection = self.0.connected(diags)?;
        let fork = fork(&config);
        let now = self.0.clock.now();
        // What would stop a fork is not an error here, it is the answer.
        let mut found = Diagnostics::default();
        let checked = check::check(&mut found, &connection.api, &fork, now, Stage::Plan).await;
        let mut problems: Vec<String> = found
            .errors
            .iter()
            .map(|error| format!("{}: {}", error.summary, error.detail))
            .collect();
        problems.extend(name_taken(&connection, &fork).await);
        let model = PreviewModel {
            recovery_target: config.recovery_target.clone().or(LATEST_TRANSACTION.into()),
            ..config
        };
        Some(filled(model, checked.as_ref(), problems))
    }
}

/// The preview's arguments as those of a fork.
fn fork(config: &PreviewModel) -> Fork {
    Fork {
        project: config.project.clone(),
        service_name: config.service_name.clone(),
        source_project: config.source_project.clone(),
        source_service_name: config.source_service_name.clone(),
        region: config.region.clone(),
        recovery_target: config.recovery_target.clone(),
        recovery_target_time: config.recovery_target_time.clone(),
        max_rpo: config.max_rpo.clone(),
        ..Fork::default()
    }
}

async fn name_taken(connection: &Connection, fork: &Fork) -> Option<String> {
    let id = fork.service()?;
    let existing = connection.api.service(&id).await.ok()?;
    let difference = create::same_origin(fork, &existing, None).err()?;
    Some(format!("Name is taken: service {id} exists, and {difference}. Choose another name."))
}

fn filled(model: PreviewModel, checked: Option<&Checked>, problems: Vec<String>) -> PreviewModel {
    let ok = Tf::Known(problems.is_empty());
    let problems = Tf::Known(problems);
    let Some(checked) = checked else { return PreviewModel { ok, problems, ..model } };
    let outlook = checked.outlook.as_ref();
    let base = outlook.and_then(|outlook| outlook.base.as_ref());
    let log = base.and_then(|base| base.log);
    let log_bytes = log.map_or(0, |log| log.size_bytes);
    let (low, high) = base.map(|base| restore_time::estimate(base.size_bytes, log_bytes)).unzip();
    PreviewModel {
        region: checked.copy.cloud.as_str().into(),
        resolved_target_time: outlook.map(|outlook| target_time::format(outlook.moment)).into(),
        base_backup: base.map(|base| base.name.clone()).into(),
        log_segments: log.map(|log| log.segments).into(),
        log_bytes: log.map(|log| log.size_bytes).into(),
        rpo_seconds: outlook.map(|outlook| outlook.rpo.as_secs()).into(),
        estimated_restore_seconds_low: low.into(),
        estimated_restore_seconds_high: high.into(),
        ok,
        problems,
        ..model
    }
}
