//! The resource `fork_from_secondary_backup` as Terraform sees it.

use crate::{
    domain::{
        cloud::CloudName,
        ids::{ProjectName, ServiceId, ServiceName},
        target_time,
    },
    provider::{
        names,
        timeouts::Timeouts,
        value::{Secret, Tf},
    },
};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A new service that is restored from the copy of a service's backups in a secondary region. It is
/// made once: when the source is deleted later, or its backup region is switched off, the fork stays
/// as it is, and a refresh never asks for the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-tf-version" = 1))]
pub struct Fork {
    /// `PROJECT/SERVICE_NAME`.
    #[schemars(extend("x-tf" = "computed"))]
    pub id: Tf<String>,
    /// Project of the fork.
    #[schemars(extend("x-tf" = "required force_new"))]
    pub project: Tf<String>,
    /// Name of the fork. It must be free, or be a fork of the same origin, which is then adopted.
    #[schemars(extend("x-tf" = "required force_new"))]
    pub service_name: Tf<String>,
    /// Project of the source. Without it that of the fork.
    #[schemars(extend("x-tf" = "optional create_only"))]
    pub source_project: Tf<String>,
    /// Name of the source service.
    #[schemars(extend("x-tf" = "required create_only"))]
    pub source_service_name: Tf<String>,
    /// Cloud of the fork: one that holds a copy of the source's backups. Without it the only one.
    #[schemars(extend("x-tf" = "optional computed force_new"))]
    pub region: Tf<String>,
    /// Plan. Without it that of the source.
    #[schemars(extend("x-tf" = "optional computed"))]
    pub plan: Tf<String>,
    /// What to restore: `latest_transaction`, `latest_base_backup`, or `point_in_time`.
    #[schemars(extend("x-tf" = "optional create_only", "default" = "latest_transaction"))]
    pub recovery_target: Tf<String>,
    /// The moment to restore, such as `2026-11-23T07:41:12Z`, for `point_in_time` alone. It is checked
    /// at plan time against the restore window of the secondary region.
    #[schemars(extend("x-tf" = "optional create_only"))]
    pub recovery_target_time: Tf<String>,
    /// The most that may be lost, such as `15m`: the plan fails when the fork's contents would be
    /// older than this, counted from now.
    #[schemars(extend("x-tf" = "optional"))]
    pub max_rpo: Tf<String>,
    /// Any values; when they change, the service is forked again.
    #[schemars(extend("x-tf" = "optional force_new"))]
    pub triggers: Tf<BTreeMap<String, Tf<String>>>,
    /// Whether a change of the source or of the moment forks again, instead of keeping the fork.
    #[schemars(extend("x-tf" = "optional", "default" = false))]
    pub replace_on_source_change: Tf<bool>,
    /// When creation is over: `running`, or `accepted` as soon as the API has taken the order.
    #[schemars(extend("x-tf" = "optional", "default" = "running"))]
    pub wait_until: Tf<String>,
    /// What a restore that outlasts `timeouts.create` means: `continue` keeps the fork with a warning,
    /// and the next apply waits on; `fail` marks it as tainted.
    #[schemars(extend("x-tf" = "optional", "default" = "continue"))]
    pub on_create_timeout: Tf<String>,
    /// Whether destruction and replacement are refused at plan time. It is read from the state: to
    /// destroy, set it to `false` and apply first.
    #[schemars(extend("x-tf" = "optional", "default" = true))]
    pub deletion_protection: Tf<bool>,
    /// Whether the API refuses to delete the service and to switch it off.
    #[schemars(extend("x-tf" = "optional computed"))]
    pub termination_protection: Tf<bool>,
    /// VPC of the fork. It can be changed in place; a line that is removed leaves the fork where it is.
    #[schemars(extend("x-tf" = "optional"))]
    pub project_vpc_id: Tf<String>,
    /// Tags of the fork. Tags with other keys are left alone.
    #[schemars(extend("x-tf" = "optional"))]
    pub tags: Tf<BTreeMap<String, Tf<String>>>,
    /// Whether the source's tags are copied.
    #[schemars(extend("x-tf" = "optional create_only"))]
    pub copy_tags: Tf<bool>,
    /// Whether `service_uri` and `service_password` are kept in the state.
    #[schemars(extend("x-tf" = "optional", "default" = true))]
    pub expose_credentials: Tf<bool>,
    /// Type of the service.
    #[schemars(extend("x-tf" = "computed"))]
    pub service_type: Tf<String>,
    /// Host name or address.
    #[schemars(extend("x-tf" = "computed"))]
    pub service_host: Tf<String>,
    /// Port.
    #[schemars(extend("x-tf" = "computed"))]
    pub service_port: Tf<String>,
    /// User name.
    #[schemars(extend("x-tf" = "computed"))]
    pub service_username: Tf<String>,
    /// Connection URI with the password.
    #[schemars(extend("x-tf" = "computed sensitive"))]
    pub service_uri: Tf<Secret>,
    /// Password.
    #[schemars(extend("x-tf" = "computed sensitive"))]
    pub service_password: Tf<Secret>,
    /// Base backup that was restored, where the API tells.
    #[schemars(extend("x-tf" = "computed"))]
    pub base_backup_name: Tf<String>,
    /// End of that base backup, RFC 3339.
    #[schemars(extend("x-tf" = "computed"))]
    pub base_backup_time: Tf<String>,
    /// The moment whose contents the fork has, RFC 3339, where the API tells.
    #[schemars(extend("x-tf" = "computed"))]
    pub recovered_to: Tf<String>,
    /// When the fork was made, RFC 3339.
    #[schemars(extend("x-tf" = "computed"))]
    pub forked_at: Tf<String>,
    /// `restoring`, then `complete` or `failed`.
    #[schemars(extend("x-tf" = "computed"))]
    pub restore_status: Tf<String>,
    /// Limits: create `4h`, update `60m`, delete `30m`, read `5m`.
    #[schemars(extend("x-tf" = "group"))]
    pub timeouts: Tf<Timeouts>,
}

/// Words of `recovery_target`.
pub(in crate::provider) const LATEST_TRANSACTION: &str = "latest_transaction";
pub(in crate::provider) const LATEST_BASE_BACKUP: &str = "latest_base_backup";
pub(in crate::provider) const POINT_IN_TIME: &str = "point_in_time";
/// Words of `wait_until`.
pub(in crate::provider) const RUNNING: &str = "running";
pub(in crate::provider) const ACCEPTED: &str = "accepted";
/// Words of `on_create_timeout`.
pub(in crate::provider) const CONTINUE: &str = "continue";
pub(in crate::provider) const FAIL: &str = "fail";
/// Words of `restore_status`.
pub(in crate::provider) const RESTORING: &str = "restoring";
pub(in crate::provider) const COMPLETE: &str = "complete";
pub(in crate::provider) const FAILED: &str = "failed";

/// What to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Target {
    /// Everything that the copy has.
    LatestTransaction,
    /// The newest base backup and no more.
    LatestBaseBackup,
    /// A moment.
    PointInTime(DateTime<Utc>),
}

impl Fork {
    /// The fork as a service, where its names are known.
    #[must_use]
    pub fn service(&self) -> Option<ServiceId> {
        names::service_id(&self.project, &self.service_name)
    }

    /// The source, where its names are known.
    #[must_use]
    pub fn source(&self) -> Option<ServiceId> {
        let project =
            if self.source_project.is_null() { &self.project } else { &self.source_project };
        Some(ServiceId {
            project: ProjectName::parse(project.text()?).ok()?,
            service: ServiceName::parse(self.source_service_name.text()?).ok()?,
        })
    }

    /// The region, where it is known.
    #[must_use]
    pub fn cloud(&self) -> Option<CloudName> {
        CloudName::parse(self.region.text()?).ok()
    }

    /// What to restore, where it is known.
    pub(in crate::provider) fn target(&self) -> Option<Target> {
        match &self.recovery_target {
            Tf::Unknown => None,
            Tf::Null => Some(Target::LatestTransaction),
            Tf::Known(word) if word == LATEST_BASE_BACKUP => Some(Target::LatestBaseBackup),
            Tf::Known(word) if word == POINT_IN_TIME => {
                let time = target_time::parse(self.recovery_target_time.text()?).ok()?;
                Some(Target::PointInTime(time))
            }
            Tf::Known(_) => Some(Target::LatestTransaction),
        }
    }

    /// The configuration with the defaults filled in.
    #[must_use]
    pub fn with_defaults(mut self) -> Self {
        self.recovery_target = self.recovery_target.or(LATEST_TRANSACTION.to_owned());
        self.replace_on_source_change = self.replace_on_source_change.or(false);
        self.wait_until = self.wait_until.or(RUNNING.to_owned());
        self.on_create_timeout = self.on_create_timeout.or(CONTINUE.to_owned());
        self.deletion_protection = self.deletion_protection.or(true);
        self.expose_credentials = self.expose_credentials.or(true);
        self
    }

    /// Whether the restore may still be under way.
    pub(in crate::provider) fn is_restoring(&self) -> bool {
        self.restore_status.text() == Some(RESTORING)
    }

    /// Whether creation and change wait for the restore.
    pub(in crate::provider) fn waits(&self) -> bool {
        self.wait_until.text() != Some(ACCEPTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::schema;

    #[test]
    fn the_schema_can_be_derived() {
        let facts = schema::facts::<Fork>().unwrap();
        assert_eq!(facts.force_new, ["project", "region", "service_name", "triggers"]);
        assert_eq!(
            facts.create_only,
            [
                "copy_tags",
                "recovery_target",
                "recovery_target_time",
                "source_project",
                "source_service_name"
            ]
        );
        assert!(facts.schema.block.attributes["service_uri"].sensitive);
        assert!(facts.schema.block.attributes["service_password"].sensitive);
    }

    #[test]
    fn an_unknown_state_goes_there_and_back() {
        let fork = Fork {
            id: Tf::Unknown,
            tags: Tf::Known(BTreeMap::from([("team".to_owned(), Tf::from("db"))])),
            timeouts: Tf::Known(Timeouts::default()),
            ..Fork::default()
        };
        let bytes = rmp_serde::to_vec_named(&fork).unwrap();
        assert_eq!(rmp_serde::from_slice::<Fork>(&bytes).unwrap(), fork);
    }
}
