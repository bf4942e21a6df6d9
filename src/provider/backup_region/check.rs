//! Plan-time checks: may this region hold the secondary backups of this service?

use crate::{
    api::{backups::Backup, catalog::CloudItem, service::Service},
    client::{endpoints::Api, error::ClientError},
    domain::{
        cloud::{self, Cloud, CloudName, CloudProvider},
        ids::{ProjectName, ServiceId},
        violation::Violation,
    },
    provider::report::{self, At},
};
use std::sync::Arc;
use tf_provider::Diagnostics;

/// Service types with backup to another region and point-in-time recovery.
pub const SERVICE_TYPES: &[&str] = &["pg", "mysql"];

/// Asks the API what the rules need, applies them, and reports at the right attributes.
pub(super) async fn check(
    diagnostics: &mut Diagnostics,
    api: &Api,
    id: &ServiceId,
    region: &CloudName,
) {
    let service = match api.service(id).await {
        Ok(service) => service,
        Err(error) => return report::service_unread(diagnostics, "service_name", id, &error),
    };
    if let Err(violation) = check_type(&service.service_type) {
        return report::violation(diagnostics, At::Attribute("service_name"), &violation);
    }
    let clouds = match clouds(api, &id.project).await {
        Ok(clouds) => clouds,
        Err(error) => return report::client_error(diagnostics, At::Block, &error),
    };
    let locations = match &service.backups {
        Some(backups) => locations(backups),
        // Not every answer of a service lists its backups. Who may not ask for them is judged by
        // the cloud of the service.
        None => match api.backups(id).await {
            Ok(list) => locations(&list.backups),
            Err(ClientError::Forbidden { .. } | ClientError::NotFound { .. }) => Vec::new(),
            Err(error) => return report::client_error(diagnostics, At::Block, &error),
        },
    };
    if let Err(violation) = judge(region, &service, &locations, &clouds) {
        report::violation(diagnostics, At::Attribute("region"), &violation);
    }
}

/// Checks that services of this type have backup to another region.
///
/// # Errors
/// [`Violation::TypeWithoutSecondaryBackups`].
pub fn check_type(service_type: &str) -> Result<(), Violation> {
    if SERVICE_TYPES.contains(&service_type) {
        Ok(())
    } else {
        Err(Violation::TypeWithoutSecondaryBackups { service_type: service_type.to_owned() })
    }
}

/// The clouds on offer; empty where the API does not tell, as then the names must do.
pub(super) async fn clouds(
    api: &Api,
    project: &ProjectName,
) -> Result<Arc<crate::api::catalog::CloudList>, ClientError> {
    match api.clouds(project).await {
        Err(ClientError::Forbidden { .. } | ClientError::NotFound { .. }) => Ok(Arc::default()),
        answer => answer,
    }
}

/// The provider of a cloud: what the API says goes before what the name tells.
pub(super) fn provider_of(name: &CloudName, clouds: &[CloudItem]) -> Option<CloudProvider> {
    let item = clouds.iter().find(|item| item.cloud_name == name.as_str());
    let listed = item.and_then(|item| item.provider.as_deref()).map(CloudProvider::new);
    listed.or_else(|| name.provider())
}

/// The clouds that hold primary backups, each once.
fn locations(backups: &[Backup]) -> Vec<CloudName> {
    let mut found: Vec<CloudName> = backups
        .iter()
        .filter_map(|backup| CloudName::parse(backup.storage_location.as_deref()?).ok())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The rules, pure.
fn judge(
    region: &CloudName,
    service: &Service,
    locations: &[CloudName],
    clouds: &crate::api::catalog::CloudList,
) -> Result<(), Violation> {
    let clouds = &clouds.clouds;
    let cloud =
        |name: &CloudName| Cloud { name: name.clone(), provider: provider_of(name, clouds) };
    let home = CloudName::parse(&service.cloud_name)?;
    let is_offered = |name: &CloudName| clouds.iter().any(|item| item.cloud_name == name.as_str());
    if !clouds.is_empty() && !is_offered(region) {
        let provider = provider_of(&home, clouds);
        let mut known: Vec<CloudName> = clouds
            .iter()
            .filter_map(|item| CloudName::parse(&item.cloud_name).ok())
            .filter(|name| provider_of(name, clouds) == provider)
            .filter(|name| *name != home && !locations.contains(name))
            .collect();
        known.sort();
        return Err(Violation::UnknownCloud { name: region.clone(), known });
    }
    let primaries: Vec<Cloud> = locations.iter().map(cloud).collect();
    cloud::check_backup_region(&cloud(region), &cloud(&home), &primaries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::catalog::CloudList;

    fn name(text: &str) -> CloudName {
        CloudName::parse(text).unwrap()
    }

    fn clouds(names: &[(&str, Option<&str>)]) -> CloudList {
        let item = |&(name, provider): &(&str, Option<&str>)| CloudItem {
            cloud_name: name.to_owned(),
            provider: provider.map(str::to_owned),
            ..CloudItem::default()
        };
        CloudList { clouds: names.iter().map(item).collect() }
    }

    fn service(cloud: &str) -> Service {
        serde_json::from_value(serde_json::json!({
            "service_name": "orders", "service_type": "pg", "cloud_name": cloud,
            "plan": "startup-4", "state": "RUNNING",
            "create_time": "2026-11-23T07:00:00Z", "update_time": "2026-11-23T07:00:00Z",
        }))
        .unwrap()
    }

    fn check(region: &str, locations: &[&str], expect: Result<(), &str>) {
        let clouds = clouds(&[
            ("aws-eu-west-1", Some("aws")),
            ("aws-eu-central-1", None),
            ("aws-eu-north-1", Some("aws")),
            ("google-europe-west3", Some("google")),
            ("private-1", Some("aws")),
        ]);
        let locations: Vec<_> = locations.iter().map(|text| name(text)).collect();
        let found = judge(&name(region), &service("aws-eu-west-1"), &locations, &clouds);
        assert_eq!(found.as_ref().map_err(Violation::code).copied(), expect, "{region}");
    }

    #[test]
    fn regions_are_judged_by_provider_and_place() {
        check("aws-eu-central-1", &[], Ok(()));
        check("private-1", &[], Ok(()));
        check("google-europe-west3", &[], Err("other_provider"));
        check("aws-eu-west-1", &[], Err("region_is_primary"));
        check("aws-mars-1", &[], Err("unknown_cloud"));
        // The service has moved; its backups have not.
        check("aws-eu-west-1", &["aws-eu-north-1"], Ok(()));
        check("aws-eu-north-1", &["aws-eu-north-1"], Err("region_is_primary"));
    }

    #[test]
    fn an_unknown_cloud_is_answered_with_those_that_would_do() {
        let clouds = clouds(&[
            ("google-europe-west3", None),
            ("aws-eu-west-1", None),
            ("aws-eu-central-1", None),
        ]);
        let home = service("aws-eu-west-1");
        let error = judge(&name("aws-mars-1"), &home, &[], &clouds).unwrap_err();
        assert_eq!(
            error.explain(),
            "cloud aws-mars-1 is not offered here. Choose one of: aws-eu-central-1."
        );
    }

    #[test]
    fn without_a_list_of_clouds_the_names_must_do() {
        let none = CloudList::default();
        let home = service("aws-eu-west-1");
        assert!(judge(&name("aws-mars-1"), &home, &[], &none).is_ok());
        assert!(judge(&name("google-mars-1"), &home, &[], &none).is_err());
    }

    #[test]
    fn other_types_have_no_secondary_backups() {
        assert!(check_type("pg").is_ok());
        assert_eq!(check_type("kafka").unwrap_err().code(), "type_without_secondary_backups");
    }
}
