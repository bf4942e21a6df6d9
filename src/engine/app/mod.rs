//! The engine's verbs: what the API can ask for. Each file is one topic.

pub mod services;

pub mod backups;
pub mod forks;

pub mod catalog;
mod describe;
pub mod metrics;
pub mod status;

use crate::{
    domain::{
        cloud::CloudName,
        ids::{ProjectName, ServiceId, ServiceName},
    },
    engine::{
        catalog::observe::Reader,
        config::{ServiceSettings, Settings},
        error::AppError,
        fork_jobs::ForkJobs,
        replicate::pass::{Replicator, Shared},
        state::{State, StateError},
        views::Views,
    },
    store::{self, AddressError, BlobStore},
    sys::clock::Clock,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// The engine.
#[derive(Debug)]
pub struct App {
    /// Configuration.
    pub settings: Settings,
    /// State.
    pub state: Arc<State>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What the passes have seen.
    pub views: Arc<Views>,
    /// A replicator for each service with backups.
    pub replicators: BTreeMap<ServiceId, Arc<Replicator>>,
    /// The forks.
    pub forks: Arc<ForkJobs>,
    /// Cancelled when the engine is being stopped.
    pub stop: CancellationToken,
    stores: BTreeMap<CloudName, Arc<dyn BlobStore>>,
    /// Changes of services are made one after the other: each reads, decides and writes.
    change: tokio::sync::Mutex<()>,
}

/// The engine cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A store's address cannot be used.
    #[error("opening a store failed")]
    Store(#[from] AddressError),
    /// The state cannot be read.
    #[error("reading the state failed")]
    State(#[from] StateError),
}

impl App {
    /// Builds the engine from its settings. Nothing runs yet.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(
        settings: Settings,
        state: State,
        clock: Arc<dyn Clock>,
        program: PathBuf,
    ) -> Result<Arc<Self>, BuildError> {
        let (state, stop, views) = (Arc::new(state), CancellationToken::new(), Arc::default());
        let mut stores = BTreeMap::new();
        for region in &settings.regions {
            stores.insert(region.cloud.name.clone(), store::open(&region.store)?);
        }
        let shared = Shared {
            clock: clock.clone(),
            state: state.clone(),
            views: Arc::clone(&views),
            stop: stop.clone(),
        };
        let mut replicators = BTreeMap::new();
        for service in &settings.services {
            if let Some(replicator) = replicator(service, &stores, &shared) {
                replicators.insert(service.id.clone(), Arc::new(replicator));
            }
        }
        let (forks, clock_of_forks) = (settings.forks.clone(), clock.clone());
        let forks = ForkJobs::load(state.clone(), clock_of_forks, forks, program, stop.clone())?;
        let change = tokio::sync::Mutex::default();
        Ok(Arc::new(Self {
            settings,
            state,
            clock,
            views,
            replicators,
            forks,
            stop,
            stores,
            change,
        }))
    }

    /// Goes on with the forks that an earlier engine left.
    pub fn resume_forks(&self) {
        self.forks.resume(|fork| self.stores.get(&fork.region).cloned());
    }

    /// The secondary regions that are enabled for a configured service.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn enabled_regions(&self, id: &ServiceId) -> Result<Vec<CloudName>, StateError> {
        Ok(services::regions_of(&self.state.service(id)?.user_config))
    }

    fn project(&self, project: &str) -> Result<ProjectName, AppError> {
        let known: BTreeSet<&ProjectName> =
            self.settings.services.iter().map(|service| &service.id.project).collect();
        let found = known.iter().find(|known| known.as_str() == project);
        found.map(|found| (**found).clone()).ok_or_else(|| {
            let known: Vec<&str> = known.iter().map(|known| known.as_str()).collect();
            let known = known.join(", ");
            AppError::NotFound(format!("Project {project} does not exist. Projects here: {known}."))
        })
    }

    fn id(&self, project: &str, service: &str) -> Result<ServiceId, AppError> {
        Ok(ServiceId { project: self.project(project)?, service: ServiceName::parse(service)? })
    }

    fn configured(&self, id: &ServiceId) -> Option<&ServiceSettings> {
        self.settings.services.iter().find(|service| service.id == *id)
    }
}

fn replicator(
    service: &ServiceSettings,
    stores: &BTreeMap<CloudName, Arc<dyn BlobStore>>,
    shared: &Shared,
) -> Option<Replicator> {
    let backup = service.backup.as_ref()?;
    let reader = |cloud: &CloudName, place: &crate::layout::BackupPlace| {
        let scope = format!("{cloud} {}", place.prefix);
        let store = stores.get(cloud)?.clone();
        Some(Reader::new(store, place.clone(), scope, shared.state.clone()))
    };
    let source = reader(&service.cloud, &backup.primary)?;
    let others = stores.keys().filter(|cloud| **cloud != service.cloud);
    let targets = others.filter_map(|cloud| Some((cloud.clone(), reader(cloud, &backup.copy)?)));
    Some(Replicator::new(service.id.clone(), source, targets.collect(), shared.clone()))
}
