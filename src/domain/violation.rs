//! Broken rules: one stable code each, a text that says what is wrong, and the remedy.
//!
//! The engine turns them into HTTP errors, the provider into diagnostics; both print the same
//! words, so that advice at plan time and the refusal at apply time read alike.

use crate::domain::{
    cloud::{CloudName, CloudProvider},
    target_time,
    window::RestoreWindow,
};
use chrono::{DateTime, Utc};
use std::fmt;

/// A broken rule of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A project or service name does not follow the pattern.
    InvalidName {
        /// `project` or `service`.
        what: &'static str,
        /// The name as given.
        name: String,
        /// Longest allowed name, in bytes.
        length_max: usize,
    },
    /// A cloud name does not follow the pattern.
    InvalidCloudName {
        /// The name as given.
        name: String,
    },
    /// The cloud is not offered.
    UnknownCloud {
        /// The name as given.
        name: CloudName,
        /// The clouds that could be meant.
        known: Vec<CloudName>,
    },
    /// The region already holds the primary backups.
    RegionIsPrimary {
        /// The region.
        region: CloudName,
    },
    /// The region is of another provider than the service or its primary backups.
    OtherProvider {
        /// The region.
        region: CloudName,
        /// Its provider, where known.
        region_provider: Option<CloudProvider>,
        /// The cloud of the service or of its primary backups.
        other: CloudName,
        /// The provider of that, where known.
        other_provider: Option<CloudProvider>,
    },
    /// The service type has no backup to another region.
    TypeWithoutSecondaryBackups {
        /// The service type.
        service_type: String,
    },
    /// The text is no time.
    NotATime {
        /// The text as given.
        text: String,
    },
    /// The target is later than now.
    TimeInFuture {
        /// The target.
        target: DateTime<Utc>,
        /// The present.
        now: DateTime<Utc>,
        /// What can be restored.
        window: RestoreWindow,
    },
    /// The target is not covered.
    TimeOutsideWindow {
        /// The target.
        target: DateTime<Utc>,
        /// The nearest moment that is covered.
        nearest: DateTime<Utc>,
        /// What can be restored.
        window: RestoreWindow,
    },
    /// No base backup in the region is restorable.
    NothingRestorable {
        /// The target, when one was given.
        target: Option<DateTime<Utc>>,
    },
    /// The fork's region holds no secondary backups of the source.
    RegionWithoutCopy {
        /// The region.
        region: CloudName,
        /// The regions that do.
        valid: Vec<CloudName>,
    },
}

impl Violation {
    /// The stable code, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "invalid_name",
            Self::InvalidCloudName { .. } => "invalid_cloud_name",
            Self::UnknownCloud { .. } => "unknown_cloud",
            Self::RegionIsPrimary { .. } => "region_is_primary",
            Self::OtherProvider { .. } => "other_provider",
            Self::TypeWithoutSecondaryBackups { .. } => "type_without_secondary_backups",
            Self::NotATime { .. } => "not_a_time",
            Self::TimeInFuture { .. } => "time_in_future",
            Self::TimeOutsideWindow { .. } => "time_outside_window",
            Self::NothingRestorable { .. } => "nothing_restorable",
            Self::RegionWithoutCopy { .. } => "region_without_copy",
        }
    }

    /// How to put it right, as a sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::InvalidName { length_max, .. } => format!(
                "Use a name of at most {length_max} lower-case letters, digits and dashes that \
                 begins with a letter."
            ),
            Self::InvalidCloudName { .. } => "Use a cloud name of lower-case letters, digits and \
                dashes, such as aws-eu-central-1."
                .to_owned(),
            Self::UnknownCloud { known, .. } => format!("Choose one of: {}.", list(known)),
            Self::RegionIsPrimary { .. } => {
                "Choose another region of the same provider.".to_owned()
            }
            Self::OtherProvider { other, other_provider, .. } => match other_provider {
                Some(provider) => {
                    format!("Choose a region of {provider}, the provider of {other}.")
                }
                None => format!("Choose a region of the same provider as {other}."),
            },
            Self::TypeWithoutSecondaryBackups { .. } => {
                "Backup to another region exists for services of type pg and mysql.".to_owned()
            }
            Self::NotATime { .. } => {
                "Write it like 2026-11-23T07:41:12Z, in at most 32 characters.".to_owned()
            }
            Self::TimeInFuture { window, .. } => match window.latest() {
                Some(latest) => {
                    format!("The nearest valid time is {}.", target_time::format(latest))
                }
                None => NO_BACKUP_YET.to_owned(),
            },
            Self::TimeOutsideWindow { nearest, .. } => {
                format!("The nearest valid time is {}.", target_time::format(*nearest))
            }
            Self::NothingRestorable { .. } => NO_BACKUP_YET.to_owned(),
            Self::RegionWithoutCopy { valid, .. } if valid.is_empty() => {
                "Enable a backup region for the source service first.".to_owned()
            }
            Self::RegionWithoutCopy { valid, .. } => {
                format!("Fork in a region that holds a copy: {}.", list(valid))
            }
        }
    }

    /// What is wrong and how to put it right, in one text.
    #[must_use]
    pub fn explain(&self) -> String {
        format!("{self}. {}", self.remedy())
    }
}

const NO_BACKUP_YET: &str = "Wait until a base backup and its log have been copied; the backup \
    region's status shows how far the copy is.";

fn list(clouds: &[CloudName]) -> String {
    clouds.iter().map(CloudName::as_str).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName { what, name, .. } => write!(f, "`{name}` is not a {what} name"),
            Self::InvalidCloudName { name } => write!(f, "`{name}` is not a cloud name"),
            Self::UnknownCloud { name, .. } => write!(f, "cloud {name} is not offered here"),
            Self::RegionIsPrimary { region } => {
                write!(f, "{region} already holds the primary backups of this service")
            }
            Self::OtherProvider { region, region_provider, other, other_provider } => write!(
                f,
                "{region} ({}) is not of the same cloud provider as {other} ({})",
                named(region_provider.as_ref()),
                named(other_provider.as_ref())
            ),
            Self::TypeWithoutSecondaryBackups { service_type } => {
                write!(f, "services of type {service_type} have no backup to another region")
            }
            Self::NotATime { text } => write!(f, "`{text}` is not a time"),
            Self::TimeInFuture { target, now, .. } => write!(
                f,
                "restore time {} is in the future (it is {} now)",
                target_time::format(*target),
                target_time::format(*now)
            ),
            Self::TimeOutsideWindow { target, window, .. } => write!(
                f,
                "restore time {} is outside the restore window {window}",
                target_time::format(*target)
            ),
            Self::NothingRestorable { target: Some(target) } => write!(
                f,
                "nothing can be restored in this region yet, so neither can {}",
                target_time::format(*target)
            ),
            Self::NothingRestorable { target: None } => {
                f.write_str("nothing can be restored in this region yet")
            }
            Self::RegionWithoutCopy { region, .. } => {
                write!(f, "{region} holds no secondary backups of the source service")
            }
        }
    }
}

impl std::error::Error for Violation {}

fn named(provider: Option<&CloudProvider>) -> &str {
    provider.map_or("unknown provider", CloudProvider::as_str)
}
