//! The resource `aiven_service_backup_region` as Terraform sees it.

use crate::{
    api::service::Service,
    domain::{
        cloud::{CloudName, CloudProvider},
        ids::{ProjectName, ServiceId, ServiceName},
    },
    provider::{
        names,
        timeouts::{self, Timeouts},
        value::Tf,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tf_provider::Diagnostics;

/// A secondary backup region of a service: its backups are copied there as they are made, and it can
/// be forked from there when the primary region is lost.
///
/// The region must be of the same cloud provider as the service and its primary backups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-tf-version" = 1))]
pub struct BackupRegion {
    /// `PROJECT/SERVICE_NAME/REGION`.
    #[schemars(extend("x-tf" = "computed"))]
    pub id: Tf<String>,
    /// Project of the service.
    #[schemars(extend("x-tf" = "required force_new"))]
    pub project: Tf<String>,
    /// Name of the service, which must be of type `pg` or `mysql`.
    #[schemars(extend("x-tf" = "required force_new"))]
    pub service_name: Tf<String>,
    /// Cloud that holds the copies, such as `aws-eu-central-1`. It can be changed in place, which
    /// starts a new copy and gives the old one up.
    #[schemars(extend("x-tf" = "required"))]
    pub region: Tf<String>,
    /// Whether creation waits until a base backup can be restored in the region.
    #[schemars(extend("x-tf" = "optional", "default" = false))]
    pub wait_for_first_backup: Tf<bool>,
    /// Whether destruction and replacement are refused at plan time. It is read from the state: to
    /// destroy, set it to `false` and apply first.
    #[schemars(extend("x-tf" = "optional", "default" = true))]
    pub deletion_protection: Tf<bool>,
    /// What destruction does: `disable` switches the region off, `abandon` leaves it as it is.
    #[schemars(extend("x-tf" = "optional", "default" = "disable"))]
    pub on_destroy: Tf<String>,
    /// Type of the service.
    #[schemars(extend("x-tf" = "computed"))]
    pub service_type: Tf<String>,
    /// Cloud provider of the service.
    #[schemars(extend("x-tf" = "computed"))]
    pub cloud_provider: Tf<String>,
    /// Cloud that holds the primary backups. A migration of the service does not move them.
    #[schemars(extend("x-tf" = "computed"))]
    pub primary_backup_region: Tf<String>,
    /// When this resource last set or changed the region, RFC 3339. Null after an import.
    #[schemars(extend("x-tf" = "computed"))]
    pub region_changed_at: Tf<String>,
    /// Limits: create, update and delete `30m`, read `5m`.
    #[schemars(extend("x-tf" = "group"))]
    pub timeouts: Tf<Timeouts>,
}

/// `on_destroy`: leave the region as it is.
pub(super) const ABANDON: &str = "abandon";
const DISABLE: &str = "disable";

impl BackupRegion {
    /// The service, where its names are known.
    #[must_use]
    pub fn service(&self) -> Option<ServiceId> {
        names::service_id(&self.project, &self.service_name)
    }

    /// The region, where it is known.
    #[must_use]
    pub fn cloud(&self) -> Option<CloudName> {
        CloudName::parse(self.region.text()?).ok()
    }

    /// The id.
    #[must_use]
    pub fn id_of(service: &ServiceId, region: &CloudName) -> String {
        format!("{service}/{region}")
    }

    /// The configuration with the defaults filled in.
    #[must_use]
    pub fn with_defaults(mut self) -> Self {
        self.wait_for_first_backup = self.wait_for_first_backup.or(false);
        self.deletion_protection = self.deletion_protection.or(true);
        self.on_destroy = self.on_destroy.or(DISABLE.to_owned());
        self
    }

    /// The state of an existing region of which nothing else is known yet.
    #[must_use]
    pub fn imported(service: &ServiceId, region: &CloudName) -> Self {
        Self {
            id: Tf::Known(Self::id_of(service, region)),
            project: service.project.as_str().into(),
            service_name: service.service.as_str().into(),
            region: region.as_str().into(),
            // A group block is never null.
            timeouts: Tf::Known(Timeouts::default()),
            ..Self::default()
        }
        .with_defaults()
    }

    /// What creation is going to do. The computed values stay unknown, the id too: whoever refers to
    /// it is then planned after the region stands.
    #[must_use]
    pub fn planned_create(config: Self) -> Self {
        Self {
            id: Tf::Unknown,
            service_type: Tf::Unknown,
            cloud_provider: Tf::Unknown,
            primary_backup_region: Tf::Unknown,
            region_changed_at: Tf::Unknown,
            ..config.with_defaults()
        }
    }

    /// What a change is going to do.
    #[must_use]
    pub fn planned_update(prior: &Self, config: Self) -> Self {
        let moves = prior.region != config.region;
        let kept = |value: &Tf<String>| if moves { Tf::Unknown } else { value.clone() };
        Self {
            id: kept(&prior.id),
            region_changed_at: kept(&prior.region_changed_at),
            service_type: prior.service_type.clone(),
            cloud_provider: prior.cloud_provider.clone(),
            primary_backup_region: prior.primary_backup_region.clone(),
            ..config.with_defaults()
        }
    }

    /// The state of schema version 0 in the present form: it called `region` `secondary_region`.
    #[must_use]
    pub fn upgraded(mut state: serde_json::Value) -> serde_json::Value {
        if let Some(attributes) = state.as_object_mut()
            && let Some(region) = attributes.remove("secondary_region")
        {
            attributes.insert("region".to_owned(), region);
        }
        state
    }

    /// Fills in what the service says.
    pub fn observe(&mut self, service: &Service, provider: Option<CloudProvider>) {
        self.service_type = service.service_type.as_str().into();
        self.cloud_provider = provider.map(|provider| provider.as_str().to_owned()).into();
        let newest = service.backups.iter().flatten().max_by(|a, b| {
            // RFC 3339 in UTC sorts as text.
            a.backup_time.cmp(&b.backup_time)
        });
        let location = newest.and_then(|backup| backup.storage_location.as_deref());
        self.primary_backup_region = location.unwrap_or(&service.cloud_name).into();
    }

    /// Refuses what the configuration alone shows to be wrong.
    pub fn validate(&self, diagnostics: &mut Diagnostics) {
        names::validate(diagnostics, "project", &self.project, ProjectName::parse);
        names::validate(diagnostics, "service_name", &self.service_name, ServiceName::parse);
        names::validate(diagnostics, "region", &self.region, CloudName::parse);
        names::validate_word(diagnostics, "on_destroy", &self.on_destroy, &[DISABLE, ABANDON]);
        timeouts::validate(diagnostics, &self.timeouts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::schema;

    fn config() -> BackupRegion {
        BackupRegion {
            project: "demo".into(),
            service_name: "orders".into(),
            region: "aws-eu-central-1".into(),
            timeouts: Tf::Known(Timeouts::default()),
            ..BackupRegion::default()
        }
    }

    #[test]
    fn the_schema_can_be_derived() {
        let facts = schema::facts::<BackupRegion>().unwrap();
        assert_eq!(facts.force_new, ["project", "service_name"]);
        assert_eq!(facts.schema.block.attributes.len(), 11);
        assert_eq!(facts.schema.block.blocks.len(), 1);
    }

    #[test]
    fn a_change_of_the_region_changes_id_and_time_and_nothing_else() {
        let prior = BackupRegion {
            id: "demo/orders/aws-eu-central-1".into(),
            service_type: "pg".into(),
            region_changed_at: "2026-11-23T07:00:00Z".into(),
            ..config().with_defaults()
        };
        assert_eq!(BackupRegion::planned_update(&prior, config()), prior);
        let moved = BackupRegion { region: "aws-eu-west-2".into(), ..config() };
        let planned = BackupRegion::planned_update(&prior, moved);
        assert!(planned.id.is_unknown() && planned.region_changed_at.is_unknown());
        assert_eq!(planned.service_type, prior.service_type);
    }

    #[test]
    fn a_default_comes_back_when_the_line_is_removed() {
        let prior =
            BackupRegion { deletion_protection: Tf::Known(false), ..config().with_defaults() };
        let planned = BackupRegion::planned_update(&prior, config());
        assert_eq!(planned.deletion_protection, Tf::Known(true));
    }

    #[test]
    fn what_is_wrong_is_found_without_the_api() {
        let mut diagnostics = Diagnostics::default();
        BackupRegion {
            project: "Demo".into(),
            region: "Frankfurt!".into(),
            on_destroy: "keep".into(),
            timeouts: Tf::Known(Timeouts { create: "soon".into(), ..Timeouts::default() }),
            ..config()
        }
        .validate(&mut diagnostics);
        let places: Vec<_> = diagnostics.errors.iter().map(|e| e.attribute.to_string()).collect();
        assert_eq!(places, ["project", "region", "on_destroy", "timeouts.create"]);
    }
}
