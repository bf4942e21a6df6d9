//! The engine's verbs: what the API can ask for. Each file is one topic.

pub mod services;

pub mod backups;
pub mod forks;

pub mod catalog;
mod describe;
pub mod metrics;
pub mod status;

use crate::{
    api::service::ADDITIONAL_BACKUP_REGIONS,
    domain::{
        cloud::CloudName,
        ids::{ProjectName, ServiceId, ServiceName},
    },
    engine::{
        catalog::observe::Reader,
        config::{ServiceSettings, Settings},
        description::{self, Adopted},
        error::{AppError, chain},
        fork_jobs::ForkJobs,
        replicate::{
            copying::Budget,
            pass::{Replicator, Shared},
        },
        state::{State, StateError},
        views::Views,
    },
    sealed::keys::Keys,
    store::{
        BlobStore,
        config::process_environment,
        open::{OpenError, open},
    },
    sys::clock::Clock,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

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
    /// A store cannot be opened.
    #[error("opening a store failed")]
    Store(#[from] OpenError),
    /// The state cannot be read.
    #[error("reading the state failed")]
    State(#[from] StateError),
}

impl App {
    /// Builds the engine from its settings and from what the stores describe. Nothing runs yet.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(
        mut settings: Settings,
        state: State,
        clock: Arc<dyn Clock>,
        program: PathBuf,
    ) -> Result<Arc<Self>, BuildError> {
        let (state, stop, views) = (Arc::new(state), CancellationToken::new(), Arc::default());
        let mut stores = BTreeMap::new();
        for region in &settings.regions {
            let (address, options) = (&region.store, &region.store_options);
            let store = open(address, options, clock.clone(), &process_environment)?;
            stores.insert(region.cloud.name.clone(), store);
        }
        let configured = settings.services.len();
        for adopted in adopt(&settings, &stores).await {
            intend(&state, &adopted)?;
            settings.services.push(adopted.service);
        }
        let (forks, clock_of_forks) = (settings.forks.clone(), clock.clone());
        let (keys, ending) = (settings.keys.clone(), stop.clone());
        let forks =
            ForkJobs::load(state.clone(), clock_of_forks, forks, program, keys.clone(), ending)?;
        let jobs = forks.clone();
        let shared = Shared {
            clock: clock.clone(),
            state: state.clone(),
            views: Arc::clone(&views),
            stop: stop.clone(),
            full_scan_interval: settings.full_scan_interval,
            lag_warning: settings.lag_warning,
            is_forking: Arc::new(move |id, region| jobs.is_forking(id, region)),
            scrub: settings.scrub.clone(),
            budget: Budget::new(settings.memory_mib, settings.regions.len().saturating_sub(1))
                .paced(clock.clone()),
        };
        let mut replicators = BTreeMap::new();
        for (at, service) in settings.services.iter().enumerate() {
            // What is only adopted is not replicated: another engine may be doing so.
            let replicates = at < configured;
            if let Some(replicator) = replicator(service, replicates, &stores, &keys, &shared) {
                replicators.insert(service.id.clone(), Arc::new(replicator));
            }
        }
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

/// The services that only their copies know. A store that cannot be read has none for now.
async fn adopt(
    settings: &Settings,
    stores: &BTreeMap<CloudName, Arc<dyn BlobStore>>,
) -> Vec<Adopted> {
    let mut found = Vec::new();
    for (region, store) in stores {
        match description::find(&**store).await {
            Ok(descriptions) => found.extend(descriptions.into_iter().map(|d| (region.clone(), d))),
            Err(fault) => {
                warn!(%region, error = %chain(&fault), "services cannot be sought in a store");
            }
        }
    }
    description::adopt(&settings.services, found)
}

/// What a copy describes was enabled once; unless something else has been asked for since, it is.
fn intend(state: &State, adopted: &Adopted) -> Result<(), StateError> {
    let id = &adopted.service.id;
    let mut stored = state.service(id)?;
    if stored.updated_at.is_none() && stored.user_config.is_empty() {
        let regions: Vec<String> = adopted.regions.iter().map(ToString::to_string).collect();
        stored.user_config.insert(ADDITIONAL_BACKUP_REGIONS.to_owned(), regions.into());
        state.put_service(id, &stored)?;
        info!(service = %id, "the service was adopted from its copy");
    }
    Ok(())
}

fn replicator(
    service: &ServiceSettings,
    replicates: bool,
    stores: &BTreeMap<CloudName, Arc<dyn BlobStore>>,
    keys: &Arc<Keys>,
    shared: &Shared,
) -> Option<Replicator> {
    let backup = service.backup.as_ref()?;
    let reader = |cloud: &CloudName, place: &crate::layout::BackupPlace| {
        let scope = format!("{cloud} {}", place.prefix);
        let store = stores.get(cloud)?.clone();
        let reader = Reader::new(store, place.clone(), scope, shared.state.clone());
        Some(reader.with_keys(keys.clone()))
    };
    let source = reader(&service.cloud, &backup.primary).filter(|_| replicates);
    let others = stores.keys().filter(|cloud| **cloud != service.cloud);
    let targets = others.filter_map(|cloud| Some((cloud.clone(), reader(cloud, &backup.copy)?)));
    Some(Replicator::new(service.clone(), source, targets.collect(), shared.clone()))
}
