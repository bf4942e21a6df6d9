//! Runs the forks: one task for each that is not finished, started again after a restart.

mod make;

use crate::{
    domain::{cloud::CloudName, fork::ForkPhase, ids::ServiceId},
    engine::{
        config::ForkSettings,
        error::chain,
        fork::{ForkSite, Progress, Watch},
        fork_jobs::make::Unmade,
        state::{State, StateError, forks::StoredFork},
    },
    sealed::keys::Keys,
    store::BlobStore,
    sys::clock::Clock,
};
use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// The administrator that every fork gets, as Aiven's services have it.
pub const ADMIN_USER: &str = "avnadmin";

/// All forks of this engine.
#[derive(Debug)]
pub struct ForkJobs {
    state: Arc<State>,
    clock: Arc<dyn Clock>,
    settings: ForkSettings,
    /// The `btar` program, which PostgreSQL calls for each segment.
    program: PathBuf,
    /// For what is encrypted.
    keys: Arc<Keys>,
    stop: CancellationToken,
    forks: Mutex<BTreeMap<ServiceId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    fork: StoredFork,
    progress: Option<Progress>,
    cancel: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl ForkJobs {
    /// The forks that the state knows. None runs yet.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn load(
        state: Arc<State>,
        clock: Arc<dyn Clock>,
        settings: ForkSettings,
        program: PathBuf,
        keys: Arc<Keys>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StateError> {
        let entry = |fork: StoredFork| {
            let cancel = stop.child_token();
            (fork.id.clone(), Entry { fork, progress: None, cancel, task: None })
        };
        let forks = state.forks()?.into_iter().map(entry).collect();
        let forks = Mutex::new(forks);
        Ok(Arc::new(Self { state, clock, settings, program, keys, stop, forks }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceId, Entry>> {
        self.forks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fork, unless it is being deleted.
    #[must_use]
    pub fn get(&self, id: &ServiceId) -> Option<(StoredFork, Option<Progress>)> {
        let forks = self.lock();
        let entry = forks.get(id).filter(|entry| !entry.fork.deleting)?;
        Some((entry.fork.clone(), entry.progress))
    }

    /// All forks that are not being deleted.
    #[must_use]
    pub fn all(&self) -> Vec<(StoredFork, Option<Progress>)> {
        let forks = self.lock();
        let kept = forks.values().filter(|entry| !entry.fork.deleting);
        kept.map(|entry| (entry.fork.clone(), entry.progress)).collect()
    }

    /// Whether a name is in use, also by a fork that is being deleted.
    #[must_use]
    pub fn is_taken(&self, id: &ServiceId) -> bool {
        self.lock().contains_key(id)
    }

    /// Whether a fork is being made from the copy of `source` in `region`.
    #[must_use]
    pub fn is_forking(&self, source: &ServiceId, region: &CloudName) -> bool {
        self.lock().values().any(|entry| {
            let fork = &entry.fork;
            fork.source == *source && fork.region == *region && !fork.phase.is_final()
        })
    }

    /// A port that no fork has and that is free now.
    #[must_use]
    pub fn free_port(&self) -> Option<u16> {
        let taken: Vec<u16> = self.lock().values().map(|entry| entry.fork.port).collect();
        let (first, last) = self.settings.ports;
        let host = self.settings.host.as_str();
        (first..=last)
            .filter(|port| !taken.contains(port))
            .find(|port| TcpListener::bind((host, *port)).is_ok())
    }

    /// Keeps a new fork of a copy in `store` and starts it.
    ///
    /// # Errors
    /// [`StateError`]; nothing was started then.
    pub fn add(
        self: &Arc<Self>,
        fork: StoredFork,
        store: Arc<dyn BlobStore>,
    ) -> Result<(), StateError> {
        self.state.add_fork(&fork)?;
        let (id, cancel) = (fork.id.clone(), self.stop.child_token());
        self.lock().insert(id.clone(), Entry { fork, progress: None, cancel, task: None });
        self.start(&id, store);
        Ok(())
    }

    /// Changes a fork's record.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn change(
        &self,
        id: &ServiceId,
        change: impl FnOnce(&mut StoredFork),
    ) -> Result<(), StateError> {
        let mut forks = self.lock();
        let Some(entry) = forks.get_mut(id) else { return Ok(()) };
        let mut fork = entry.fork.clone();
        change(&mut fork);
        fork.updated_at = self.clock.now();
        self.state.put_fork(&fork)?;
        entry.fork = fork;
        Ok(())
    }

    /// Goes on with every fork after a restart. `store` gives the store that a fork was made from.
    pub fn resume(self: &Arc<Self>, store: impl Fn(&StoredFork) -> Option<Arc<dyn BlobStore>>) {
        let known: Vec<StoredFork> = self.lock().values().map(|e| e.fork.clone()).collect();
        for fork in known {
            let id = fork.id.clone();
            if fork.deleting {
                let jobs = self.clone();
                tokio::spawn(async move { jobs.finish_delete(&id).await });
            } else if fork.phase != ForkPhase::Failed && fork.phase != ForkPhase::Cancelled {
                let Some(store) = store(&fork) else {
                    let text = format!(
                        "region {} of this fork is not in the configuration any more; add it and \
                         restart the engine",
                        fork.region
                    );
                    self.fail(&id, &text);
                    continue;
                };
                self.start(&id, store);
            }
        }
    }

    fn start(self: &Arc<Self>, id: &ServiceId, store: Arc<dyn BlobStore>) {
        let (jobs, id) = (self.clone(), id.clone());
        let mut forks = self.lock();
        let Some(entry) = forks.get_mut(&id) else { return };
        let (fork, cancel) = (entry.fork.clone(), entry.cancel.clone());
        entry.task = Some(tokio::spawn(async move { jobs.run(&id, fork, store, cancel).await }));
    }

    async fn run(
        self: Arc<Self>,
        id: &ServiceId,
        fork: StoredFork,
        store: Arc<dyn BlobStore>,
        cancel: CancellationToken,
    ) {
        let watch = Recorder { jobs: &self, id };
        match self.make(&watch, &fork, store, &cancel).await {
            Ok(()) => info!(fork = %id, port = fork.port, "the fork is running"),
            // The phase stays: the next engine goes on, or the deletion does.
            Err(Unmade::Interrupted) => info!(fork = %id, "the fork was interrupted"),
            Err(Unmade::Failed(what)) => self.fail(id, &what),
        }
    }

    fn fail(&self, id: &ServiceId, text: &str) {
        error!(fork = %id, error = text, "the fork failed");
        let changed = self.change(id, |fork| {
            fork.phase = ForkPhase::Failed;
            fork.error = Some(text.to_owned());
        });
        if let Err(fault) = changed {
            error!(fork = %id, error = %chain(&fault), "the fork's failure cannot be kept");
        }
    }

    /// Deletes a fork: it is gone for whoever asks at once, its server and files when this ends.
    ///
    /// # Errors
    /// [`StateError`]; then nothing has happened.
    pub async fn delete(self: &Arc<Self>, id: &ServiceId) -> Result<(), StateError> {
        self.change(id, |fork| fork.deleting = true)?;
        self.finish_delete(id).await;
        Ok(())
    }

    /// Repeatable: a crash in between leaves the record, and the next engine comes here again.
    async fn finish_delete(self: &Arc<Self>, id: &ServiceId) {
        let (task, fork) = {
            let mut forks = self.lock();
            let Some(entry) = forks.get_mut(id) else { return };
            entry.cancel.cancel();
            (entry.task.take(), entry.fork.clone())
        };
        if let Some(task) = task {
            // A panic in it was reported by the runtime; what it left is removed all the same.
            let _ = task.await;
        }
        let removed = make::remove(&fork, &*self.clock).await;
        if let Err(fault) = removed {
            error!(fork = %id, error = %chain(&fault),
                "the fork's server or files cannot be removed; the next start tries again");
            return;
        }
        if let Err(fault) = self.state.remove_fork(id) {
            error!(fork = %id, error = %chain(&fault), "the fork's record cannot be removed");
            return;
        }
        self.lock().remove(id);
        info!(fork = %id, "the fork was deleted");
    }

    /// Waits until no fork is being worked on. The stop token must have been cancelled.
    pub async fn join(&self) {
        let tasks: Vec<_> = self.lock().values_mut().filter_map(|e| e.task.take()).collect();
        for task in tasks {
            let _ = task.await;
        }
    }
}

/// Where a fork lives.
pub(super) fn site(fork: &StoredFork) -> ForkSite {
    ForkSite {
        dir: fork.dir.clone(),
        socket_dir: fork.socket_dir.clone(),
        host: fork.host.clone(),
        port: fork.port,
    }
}

/// Records phases before they begin, and progress for whoever asks.
struct Recorder<'a> {
    jobs: &'a Arc<ForkJobs>,
    id: &'a ServiceId,
}

impl Watch for Recorder<'_> {
    fn phase(&self, phase: ForkPhase) {
        info!(fork = %self.id, %phase, "the fork goes on");
        if let Err(fault) = self.jobs.change(self.id, |fork| fork.phase = phase) {
            // The markers in the fork's directory say the same: the next engine finds them.
            error!(fork = %self.id, error = %chain(&fault), "the fork's phase cannot be kept");
        }
    }

    fn progress(&self, progress: Progress) {
        if let Some(entry) = self.jobs.lock().get_mut(self.id) {
            entry.progress = Some(progress);
        }
    }
}
