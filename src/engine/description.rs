//! What a secondary store says about itself: which services its copies belong to.
//!
//! One small object for each service below a reserved prefix. With it an engine that knows nothing
//! but the secondary's store finds every copy and forks from it: losing the primary region and the
//! engine's machine at once is survived. What can be restored is computed from the copy itself.

use crate::{
    domain::{cloud::CloudName, ids::ServiceId, window::RestoreRange},
    engine::{
        catalog::files::read_small,
        config::{BackupSettings, ServiceSettings},
    },
    layout::{BackupFormat, BackupPlace},
    store::{BlobStore, PutMode, StoreError, body_of, key::Key},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tracing::warn;

/// Everything of ours in a store lies below this prefix.
const PREFIX: &str = ".btar/services";
/// Version of [`Description`].
const VERSION: u32 = 1;

/// A service as its copy describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Version of this document.
    pub version: u32,
    /// The service.
    pub id: ServiceId,
    /// `pg`, ….
    pub service_type: String,
    /// Plan.
    pub plan: String,
    /// The cloud of the primary backups.
    pub primary_cloud: CloudName,
    /// Where the primary backups lie in that cloud's store.
    pub primary: BackupPlace,
    /// Where the copy lies in this store.
    pub copy: BackupPlace,
    /// What could be restored when this was written, for people.
    pub ranges: Vec<RestoreRange>,
    /// When this was written.
    pub written_at: DateTime<Utc>,
}

impl Description {
    /// Describes a service of the configuration.
    #[must_use]
    pub fn of(
        service: &ServiceSettings,
        ranges: &[RestoreRange],
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let backup = service.backup.as_ref()?;
        Some(Self {
            version: VERSION,
            id: service.id.clone(),
            service_type: service.service_type.clone(),
            plan: service.plan.clone(),
            primary_cloud: service.cloud.clone(),
            primary: backup.primary.clone(),
            copy: backup.copy.clone(),
            ranges: ranges.to_vec(),
            written_at: now,
        })
    }

    fn key(id: &ServiceId) -> Option<Key> {
        Key::parse(&format!("{PREFIX}/{id}.json")).ok()
    }

    /// Writes it into the store of the copy.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn write(&self, store: &dyn BlobStore) -> Result<(), StoreError> {
        let Some(key) = Self::key(&self.id) else { return Ok(()) };
        let text = serde_json::to_vec_pretty(self).expect("a description has string keys only");
        let size = text.len() as u64;
        let body = body_of(Bytes::from(text));
        store.put(&key, size, &BTreeMap::new(), body, PutMode::Replace).await
    }

    fn is_sound(&self) -> bool {
        let sound = match &self.copy.format {
            BackupFormat::PgBackRest { stanza } => {
                !stanza.contains('/') && Key::parse(stanza).is_ok()
            }
            BackupFormat::PgHoard | BackupFormat::MyHoard { .. } | BackupFormat::Stream => true,
        };
        self.version == VERSION && sound
    }
}

/// Finds the services that a store's copies describe. What cannot be read is told and left out.
///
/// # Errors
/// [`StoreError`] when the store itself cannot be read.
pub async fn find(store: &dyn BlobStore) -> Result<Vec<Description>, StoreError> {
    let prefix = Key::parse(PREFIX).expect("the reserved prefix is a key");
    let listed: Vec<_> = store.list(&prefix, None).try_collect().await?;
    let mut found = Vec::new();
    for meta in listed {
        let Some(bytes) = read_small(store, &meta.key).await? else { continue };
        match serde_json::from_slice::<Description>(&bytes) {
            Ok(description) if description.is_sound() => found.push(description),
            Ok(_) => {
                warn!(key = %meta.key, store = store.name(), "a description is of no use here");
            }
            Err(error) => {
                warn!(key = %meta.key, store = store.name(), %error, "a description cannot be read");
            }
        }
    }
    Ok(found)
}

/// A service that is known from its copies alone, and the regions that hold them.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The service.
    pub service: ServiceSettings,
    /// The regions.
    pub regions: Vec<CloudName>,
}

/// Takes what the stores describe and the configuration does not name.
#[must_use]
pub fn adopt(
    configured: &[ServiceSettings],
    found: impl IntoIterator<Item = (CloudName, Description)>,
) -> Vec<Adopted> {
    let mut adopted: BTreeMap<ServiceId, Adopted> = BTreeMap::new();
    for (region, description) in found {
        if configured.iter().any(|service| service.id == description.id) {
            continue;
        }
        let id = description.id.clone();
        let entry = adopted.entry(id).or_insert_with(|| Adopted {
            service: ServiceSettings {
                id: description.id,
                service_type: description.service_type,
                cloud: description.primary_cloud,
                plan: description.plan,
                backup: Some(BackupSettings {
                    primary: description.primary,
                    copy: description.copy,
                }),
                copy_retention: None,
            },
            regions: Vec::new(),
        });
        if region != entry.service.cloud {
            entry.regions.push(region);
        }
    }
    adopted.into_values().filter(|adopted| !adopted.regions.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::ids::{ProjectName, ServiceName},
        store::memory::MemoryStore,
    };

    fn service(name: &str) -> ServiceSettings {
        let place = |prefix: &str| BackupPlace {
            format: BackupFormat::PgBackRest { stanza: "m".to_owned() },
            prefix: Key::parse(prefix).unwrap(),
        };
        ServiceSettings {
            id: ServiceId {
                project: ProjectName::parse("p").unwrap(),
                service: ServiceName::parse(name).unwrap(),
            },
            service_type: "pg".to_owned(),
            cloud: CloudName::parse("aws-eu-west-1").unwrap(),
            plan: "startup-4".to_owned(),
            backup: Some(BackupSettings { primary: place("a"), copy: place("b") }),
            copy_retention: None,
        }
    }

    #[tokio::test]
    async fn a_store_describes_its_copies_and_only_unknown_ones_are_adopted() {
        let store = MemoryStore::new();
        for name in ["one", "two"] {
            let described = Description::of(&service(name), &[], DateTime::UNIX_EPOCH).unwrap();
            described.write(&store).await.unwrap();
        }
        let junk = Key::parse(".btar/services/p/junk.json").unwrap();
        let body = body_of(Bytes::from_static(b"{"));
        store.put(&junk, 1, &BTreeMap::new(), body, PutMode::Replace).await.unwrap();
        let found = find(&store).await.unwrap();
        assert_eq!(found.len(), 2);
        let region = CloudName::parse("aws-eu-central-1").unwrap();
        let seen = found.into_iter().map(|description| (region.clone(), description));
        let adopted = adopt(&[service("one")], seen);
        assert_eq!(adopted.len(), 1);
        assert_eq!(adopted[0].service.id, service("two").id);
        assert_eq!(adopted[0].regions, [region]);
    }
}
