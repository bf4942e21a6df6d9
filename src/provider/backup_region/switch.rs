//! Switches a region on, over and off: reads the service's list, changes it, writes it, verifies it.
//!
//! All of that happens under the service's lock, since several resources may change the same list in
//! one apply, and the API only knows whole lists.

use crate::{
    api::service::{ADDITIONAL_BACKUP_REGIONS, Object, Service, ServiceUpdate},
    client::{endpoints::Api, error::ClientError},
    domain::{cloud::CloudName, ids::ServiceId},
};
use serde_json::Value;

/// A change of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Switch a region on.
    Add(CloudName),
    /// Switch one region off and another on.
    Replace {
        /// The old one.
        from: CloudName,
        /// The new one.
        to: CloudName,
    },
    /// Switch a region off.
    Remove(CloudName),
}

/// Why a switch failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SwitchError {
    /// The API failed or refused.
    #[error(transparent)]
    Api(#[from] ClientError),
    /// The API allows one region, and there is another.
    #[error(
        "service {service} already copies its backups to {other}, and the API allows one region"
    )]
    Occupied {
        /// The service.
        service: ServiceId,
        /// The region that is there.
        other: String,
    },
    /// The API said yes and did not do it.
    #[error("the API accepted the change of service {service}, but its regions are {found:?}")]
    NotTaken {
        /// The service.
        service: ServiceId,
        /// The regions.
        found: Vec<String>,
    },
}

/// The secondary backup regions of a service.
pub(in crate::provider) fn regions(service: &Service) -> Vec<String> {
    let list = service.user_config.get(ADDITIONAL_BACKUP_REGIONS).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Carries out `change` and returns the service as it is then.
pub(super) async fn switch(
    api: &Api,
    id: &ServiceId,
    change: &Change,
) -> Result<Service, SwitchError> {
    let _guard = api.lock(id).await;
    let service = api.service_now(id).await?;
    let before = regions(&service);
    let after = changed(&before, change);
    if after == before {
        return Ok(service);
    }
    if let (Change::Add(region), [other, ..]) = (change, before.as_slice())
        && regions_max(api, id, &service.service_type).await == Some(1)
        && other != region.as_str()
    {
        return Err(SwitchError::Occupied { service: id.clone(), other: other.clone() });
    }
    let mut user_config = Object::new();
    user_config.insert(ADDITIONAL_BACKUP_REGIONS.to_owned(), after.clone().into());
    let body = ServiceUpdate { user_config: Some(user_config), ..ServiceUpdate::default() };
    let mut service = api.update(id, &body).await?;
    if !same(&regions(&service), &after) {
        // Perhaps the answer was composed before the change was stored.
        service = api.service_now(id).await?;
    }
    if !same(&regions(&service), &after) {
        return Err(SwitchError::NotTaken { service: id.clone(), found: regions(&service) });
    }
    Ok(service)
}

/// How many regions the API allows, where its schema says so.
pub(super) async fn regions_max(api: &Api, id: &ServiceId, service_type: &str) -> Option<u64> {
    let answer = api.service_type(&id.project, service_type).await.ok()?;
    let schema = &answer.user_config_schema["properties"][ADDITIONAL_BACKUP_REGIONS];
    ["maxItems", "max_items"].iter().find_map(|key| schema[*key].as_u64())
}

/// The list after a change, in the order that was there.
fn changed(list: &[String], change: &Change) -> Vec<String> {
    let mut list = list.to_vec();
    let add = |list: &mut Vec<String>, region: &CloudName| {
        if !list.iter().any(|name| name == region.as_str()) {
            list.push(region.as_str().to_owned());
        }
    };
    match change {
        Change::Add(region) => add(&mut list, region),
        Change::Replace { from, to } => {
            list.retain(|name| name != from.as_str());
            add(&mut list, to);
        }
        Change::Remove(region) => list.retain(|name| name != region.as_str()),
    }
    list
}

fn same(left: &[String], right: &[String]) -> bool {
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    sorted(left) == sorted(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CloudName {
        CloudName::parse(text).unwrap()
    }

    fn check(before: &[&str], change: &Change, after: &[&str]) {
        let before: Vec<_> = before.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(changed(&before, change), after);
    }

    #[test]
    fn only_the_own_region_of_the_list_changes() {
        check(&[], &Change::Add(name("a")), &["a"]);
        check(&["b"], &Change::Add(name("a")), &["b", "a"]);
        check(&["a", "b"], &Change::Add(name("a")), &["a", "b"]);
        check(&["a", "b"], &Change::Remove(name("a")), &["b"]);
        check(&["b"], &Change::Remove(name("a")), &["b"]);
        let replace = Change::Replace { from: name("a"), to: name("c") };
        check(&["a", "b"], &replace, &["b", "c"]);
        check(&["c"], &replace, &["c"]);
    }
}
