//! Cloud names, their providers, and the rule that a backup region stays with its provider.

use crate::domain::violation::Violation;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest cloud name, in bytes.
pub const CLOUD_NAME_LENGTH_MAX: usize = 256;

/// The name of a cloud as Aiven spells it: provider and region, such as `aws-eu-west-1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CloudName(String);

impl CloudName {
    /// Checks `text` against `^[a-z0-9-]+$` and the length limit.
    ///
    /// # Errors
    /// [`Violation::InvalidCloudName`].
    pub fn parse(text: &str) -> Result<Self, Violation> {
        let good = !text.is_empty()
            && text.len() <= CLOUD_NAME_LENGTH_MAX
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(Violation::InvalidCloudName { name: text.to_owned() })
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The provider that the name itself tells. The clouds API's `provider` field goes before it.
    #[must_use]
    pub fn provider(&self) -> Option<CloudProvider> {
        CloudProvider::from_cloud_name(&self.0)
    }

    /// The provider's own name of the region: `eu-west-1` of `aws-eu-west-1`.
    #[must_use]
    pub fn region(&self) -> &str {
        let strip = |name| PREFIXES.iter().find_map(|(prefix, _)| str::strip_prefix(name, *prefix));
        let by_tenant = || self.0.split_once('-').and_then(|(_, rest)| strip(rest));
        strip(&self.0).or_else(by_tenant).unwrap_or(&self.0)
    }
}

impl fmt::Display for CloudName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CloudName {
    type Error = Violation;
    fn try_from(text: String) -> Result<Self, Violation> {
        Self::parse(&text)
    }
}

impl From<CloudName> for String {
    fn from(name: CloudName) -> Self {
        name.0
    }
}

/// A cloud provider, by the word that the clouds API uses: `aws`, `google`, `azure`, ….
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CloudProvider(String);

/// Published prefixes of cloud names. Oracle's clouds have none.
const PREFIXES: &[(&str, &str)] = &[
    ("aws-", "aws"),
    ("azure-", "azure"),
    ("google-", "google"),
    ("upcloud-", "upcloud"),
    ("do-", "do"),
    ("avn-ovh-", "ovh"),
];

/// First parts of Oracle's bare region names, such as `eu-frankfurt-1`.
const ORACLE_AREAS: &[&str] = &["af", "ap", "ca", "eu", "il", "me", "mx", "sa", "uk", "us"];

impl CloudProvider {
    /// A provider by its word in the clouds API.
    #[must_use]
    pub fn new(word: &str) -> Self {
        Self(word.to_owned())
    }

    /// The provider as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells the provider from the published prefixes, Oracle's bare region names
    /// (`eu-frankfurt-1`) and tenant prefixes such as `timescale-aws-us-east-2`.
    #[must_use]
    pub fn from_cloud_name(name: &str) -> Option<Self> {
        let by_prefix = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
        if let Some((_, word)) = by_prefix {
            return Some(Self::new(word));
        }
        let by_tenant = PREFIXES.iter().find(|(prefix, _)| {
            name.split_once('-').is_some_and(|(_, rest)| rest.starts_with(prefix))
        });
        if let Some((_, word)) = by_tenant {
            return Some(Self::new(word));
        }
        let parts: Vec<&str> = name.split('-').collect();
        let oracle = matches!(parts.as_slice(), [area, city, number]
            if ORACLE_AREAS.contains(area)
                && city.bytes().all(|b| b.is_ascii_lowercase())
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit()));
        // `eu-west-1` is AWS's own spelling of a region, not an Oracle city.
        let compass = [
            "north",
            "south",
            "east",
            "west",
            "central",
            "northeast",
            "southeast",
            "northwest",
            "southwest",
        ];
        (oracle && !compass.contains(&parts[1])).then(|| Self::new("oci"))
    }
}

impl fmt::Display for CloudProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A cloud with its provider, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// The name.
    pub name: CloudName,
    /// The provider: from the clouds API, or else from the name.
    pub provider: Option<CloudProvider>,
}

impl Cloud {
    /// A cloud of which only the name is known.
    #[must_use]
    pub fn from_name(name: CloudName) -> Self {
        Self { provider: name.provider(), name }
    }
}

/// Whether both clouds are of one provider. A provider that is not known is no other's.
#[must_use]
pub fn is_same_provider(left: &Cloud, right: &Cloud) -> bool {
    left.name == right.name || (left.provider.is_some() && left.provider == right.provider)
}

/// Checks that `region` may hold secondary backups of a service in `service_cloud` whose primary
/// backups are stored in `primary_backup_clouds`.
///
/// A migration of the service moves neither backup, so both clouds are looked at.
///
/// # Errors
/// The first rule that is broken: the region is where the primary backups are, its provider is
/// unknown, or it is of another provider.
pub fn check_backup_region(
    region: &Cloud,
    service_cloud: &Cloud,
    primary_backup_clouds: &[Cloud],
) -> Result<(), Violation> {
    let primaries: Vec<&Cloud> = if primary_backup_clouds.is_empty() {
        vec![service_cloud]
    } else {
        primary_backup_clouds.iter().collect()
    };
    if primaries.iter().any(|primary| primary.name == region.name) {
        return Err(Violation::RegionIsPrimary { region: region.name.clone() });
    }
    for other in std::iter::once(service_cloud).chain(primaries) {
        if region.provider.is_none() || region.provider != other.provider {
            return Err(Violation::OtherProvider {
                region: region.name.clone(),
                region_provider: region.provider.clone(),
                other: other.name.clone(),
                other_provider: other.provider.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, provider: Option<&str>) {
        let found = CloudName::parse(name).unwrap().provider();
        assert_eq!(found.as_ref().map(CloudProvider::as_str), provider, "{name}");
    }

    #[test]
    fn providers_by_name() {
        check("aws-eu-west-1", Some("aws"));
        check("google-europe-west3", Some("google"));
        check("azure-westeurope", Some("azure"));
        check("upcloud-de-fra", Some("upcloud"));
        check("do-fra", Some("do"));
        check("avn-ovh-eu-west-1", Some("ovh"));
        check("eu-frankfurt-1", Some("oci"));
        check("us-ashburn-1", Some("oci"));
        check("timescale-aws-us-east-2", Some("aws"));
        check("eu-west-1", None);
        check("nowhere", None);
    }

    #[test]
    fn regions_are_named_as_the_provider_names_them() {
        for (name, region) in [
            ("aws-eu-west-1", "eu-west-1"),
            ("avn-ovh-eu-west-1", "eu-west-1"),
            ("timescale-aws-us-east-2", "us-east-2"),
            ("eu-frankfurt-1", "eu-frankfurt-1"),
        ] {
            assert_eq!(CloudName::parse(name).unwrap().region(), region);
        }
    }

    #[test]
    fn two_clouds_are_of_one_provider_only_when_that_is_known() {
        let same = |a: &str, b: &str| is_same_provider(&cloud(a), &cloud(b));
        assert!(same("aws-eu-west-1", "timescale-aws-us-east-2"));
        assert!(same("private-1", "private-1"));
        assert!(!same("private-1", "private-2"));
        assert!(!same("aws-eu-west-1", "google-europe-west3"));
    }

    fn cloud(name: &str) -> Cloud {
        Cloud::from_name(CloudName::parse(name).unwrap())
    }

    #[test]
    fn region_must_be_another_one_of_the_same_provider() {
        let (west, central) = (cloud("aws-eu-west-1"), cloud("aws-eu-central-1"));
        assert_eq!(check_backup_region(&central, &west, std::slice::from_ref(&west)), Ok(()));
        let same = check_backup_region(&west, &west, &[]).unwrap_err();
        assert_eq!(same.code(), "region_is_primary");
        let other = check_backup_region(&cloud("google-europe-west3"), &west, &[]).unwrap_err();
        assert_eq!(other.code(), "other_provider");
        let unknown = check_backup_region(&cloud("nowhere"), &cloud("nowhere-2"), &[]).unwrap_err();
        assert_eq!(unknown.code(), "other_provider");
    }

    #[test]
    fn a_migrated_service_is_judged_by_where_its_backups_are() {
        // The service moved to eu-central-1, its primary backups stayed in eu-west-1.
        let service = cloud("aws-eu-central-1");
        let primary = [cloud("aws-eu-west-1")];
        assert_eq!(check_backup_region(&service, &service, &primary), Ok(()));
        assert!(check_backup_region(&primary[0], &service, &primary).is_err());
    }
}
