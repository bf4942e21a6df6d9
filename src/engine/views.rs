//! What the passes have seen last, for whoever asks.

use crate::{
    domain::{cloud::CloudName, ids::ServiceId},
    engine::{
        catalog::{
            CatalogBackup, RegionCatalog,
            build::{self, Evidence},
            observe::Look,
        },
        replicate::{execute::Progress, lag::Lag},
    },
};
use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

/// The last look at every service's primary and secondary backups.
#[derive(Debug, Default)]
pub struct Views {
    services: RwLock<HashMap<ServiceId, ServiceView>>,
}

/// One service.
#[derive(Clone, Debug, Default)]
pub struct ServiceView {
    /// The primary region.
    pub primary: PrimaryView,
    /// The secondary regions that are enabled.
    pub regions: BTreeMap<CloudName, RegionView>,
}

/// A service's primary backups.
#[derive(Clone, Debug, Default)]
pub struct PrimaryView {
    /// Backups that the tool's catalogue lists, judged by their objects alone.
    pub backups: Vec<CatalogBackup>,
    /// Why the store could not be read.
    pub error: Option<String>,
    /// When it was read last.
    pub seen_at: Option<DateTime<Utc>>,
}

/// A service's copy in one region.
#[derive(Clone, Debug, Default)]
pub struct RegionView {
    /// What the copy holds.
    pub catalog: Arc<RegionCatalog>,
    /// When the copy was read last.
    pub seen_at: Option<DateTime<Utc>>,
    /// Why the copy could not be read.
    pub error: Option<String>,
    /// What keeps objects from being copied.
    pub problems: Vec<String>,
    /// How far it is behind the primary.
    pub lag: Lag,
    /// How far the copying of base backups is.
    pub copying: Option<Arc<Progress>>,
}

impl PrimaryView {
    /// The primary's backups, judged by their objects; its log is not read.
    #[must_use]
    pub fn of(look: &Look, now: DateTime<Utc>) -> Self {
        let catalog = build::build(Evidence {
            repository: &look.repository,
            backups: &look.backups,
            needs: &look.needs,
            runs: &BTreeMap::new(),
            paths: &look.paths,
            chains: &BTreeMap::new(),
            damaged: &BTreeSet::new(),
            problems: Vec::new(),
        });
        Self { backups: catalog.backups, error: None, seen_at: Some(now) }
    }
}

impl Views {
    /// What was seen of a service.
    #[must_use]
    pub fn service(&self, id: &ServiceId) -> ServiceView {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        services.get(id).cloned().unwrap_or_default()
    }

    /// Changes what was seen of a service.
    pub fn update(&self, id: &ServiceId, change: impl FnOnce(&mut ServiceView)) {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        change(services.entry(id.clone()).or_default());
    }
}
