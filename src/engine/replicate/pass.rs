//! One pass over a service: look, plan, copy, look again, publish.
//!
//! 1. The targets are listed *before* the source: what the source deletes meanwhile is then missing
//!    in the newer listing, and never taken for missing in the older one.
//! 2. The log is copied at once. Base backups are copied beside it by a task of their own, one for
//!    each region, which a later pass finds finished.
//! 3. A target that was written to is looked at again: what is published was seen in the copy.

use crate::{
    domain::{cloud::CloudName, ids::ServiceId, window::RestoreRange},
    engine::{
        catalog::{
            listing::Extent,
            observe::{Look, Observed, Reader},
        },
        config::{ScrubSettings, ServiceSettings},
        error::chain,
        replicate::{
            execute::{
                CopyError, FILES_AT_ONCE, Progress, SEGMENTS_AT_ONCE, Sides, Told, execute_and_tell,
            },
            plan::{self, Stage},
            record::{Ledger, Ledgers, Primary},
        },
        state::State,
        views::{PrimaryView, RegionView, Views},
    },
    layout::BackupFormat,
    store::StoreError,
    sys::clock::Clock,
};
use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Problems that are kept for people of one pass.
const PROBLEMS_MAX: usize = 20;

/// Asks whether a fork is being made from the copy of a service in a region.
pub type IsForking = dyn Fn(&ServiceId, &CloudName) -> bool + Send + Sync;

/// What all passes share.
#[derive(Clone)]
pub struct Shared {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Measurements.
    pub state: Arc<State>,
    /// Where results are shown.
    pub views: Arc<Views>,
    /// The engine is being stopped.
    pub stop: CancellationToken,
    /// How often everything is listed.
    pub full_scan_interval: Duration,
    /// Whether the copy must stay as it is for now.
    pub is_forking: Arc<IsForking>,
    /// How the copies are read again; `None` means not at all.
    pub scrub: Option<ScrubSettings>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Replicates one service.
#[derive(Debug)]
pub struct Replicator {
    pub(super) service: ServiceSettings,
    /// None for a service that is known from its copy alone.
    source: Option<Mutex<Reader>>,
    targets: BTreeMap<CloudName, Target>,
    /// What is known of the objects of each copy.
    pub(super) ledgers: Arc<Ledgers>,
    /// Where damaged objects are repaired from.
    pub(super) primary: Option<Primary>,
    pub(super) shared: Shared,
    /// On the monotonic clock.
    pub(super) last_full_scan: Mutex<Option<Duration>>,
    /// Woken when there is something to do.
    pub wake: Arc<Notify>,
    /// Woken when there is something to read again.
    pub read: Arc<Notify>,
}

/// One region that could hold a copy.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) reader: Mutex<Reader>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) data: Mutex<DataLane>,
    progress: Arc<Progress>,
}

/// The copying of base backups into one region.
#[derive(Debug, Default)]
pub(super) struct DataLane {
    task: Option<tokio::task::JoinHandle<Vec<CopyError>>>,
    stop: CancellationToken,
    problems: Vec<String>,
    /// Keys in the copy whose contents are known to be wrong.
    damaged: BTreeSet<String>,
    /// Whether files of base backups were written since they were listed.
    pub(super) relist: bool,
    /// When the copy's store was described last, and with which ranges.
    pub(super) described: Option<(DateTime<Utc>, Vec<RestoreRange>)>,
}

/// What came of copying.
struct Copied {
    /// Whether another pass should follow at once.
    again: bool,
    /// The look that was planned with, when no log was written since.
    still_true: Option<Look>,
}

impl Target {
    /// Whether files of base backups are being copied.
    pub(super) async fn is_copying(&self) -> bool {
        self.data.lock().await.task.is_some()
    }

    /// How much is to be listed of the copy.
    async fn extent(&self, full: bool) -> Extent {
        let mut lane = self.data.lock().await;
        let relist = std::mem::take(&mut lane.relist);
        match (full, relist) {
            (true, _) => Extent::Everything,
            (false, true) => Extent::LogAndBackups,
            (false, false) => Extent::Log,
        }
    }
}

impl Replicator {
    /// A replicator of `service` from `source` to any of `targets`.
    #[must_use]
    pub fn new(
        service: ServiceSettings,
        source: Option<Reader>,
        targets: BTreeMap<CloudName, Reader>,
        shared: Shared,
    ) -> Self {
        let (last_full_scan, wake, read) = <(_, Arc<Notify>, Arc<Notify>)>::default();
        let ledgers = Ledgers::of(&service.id, &targets, &shared, (&wake, &read));
        let target = |(cloud, reader): (CloudName, Reader)| {
            let (ledger, reader) = (ledgers.0[&cloud].clone(), Mutex::new(reader));
            let (data, progress) = (Mutex::default(), Arc::default());
            (cloud, Target { reader, ledger, data, progress })
        };
        let targets = targets.into_iter().map(target).collect();
        let primary = source.as_ref().map(Primary::of);
        let source = source.map(Mutex::new);
        let ledgers = Arc::new(ledgers);
        Self { service, source, targets, ledgers, primary, shared, last_full_scan, wake, read }
    }

    /// Looks at the copy in `region` now, and nothing else.
    ///
    /// # Errors
    /// [`StoreError`] when the copy cannot be read.
    pub async fn observe<T>(
        &self,
        region: &CloudName,
        then: impl AsyncFnOnce(&Reader, &Observed) -> T,
    ) -> Result<Option<T>, StoreError> {
        let Some(target) = self.targets.get(region) else { return Ok(None) };
        let mut reader = target.reader.lock().await;
        let observed = reader.observe(Extent::Everything).await?;
        Ok(Some(then(&reader, &observed).await))
    }

    /// Makes one pass over the `enabled` regions. Says whether something was copied, so that
    /// another pass should follow at once.
    pub async fn pass(&self, enabled: &[CloudName]) -> bool {
        self.forget_disabled(enabled).await;
        let full = self.is_full_scan_due().await;
        let mut looks = BTreeMap::new();
        for cloud in enabled {
            let Some(target) = self.targets.get(cloud) else { continue };
            let extent = target.extent(full).await;
            looks.insert(cloud, target.reader.lock().await.look(extent).await);
        }
        let extent = if full { Extent::Everything } else { Extent::Log };
        let source = self.look_at_source(extent).await;
        let mut worked = false;
        for (cloud, look) in looks {
            let target = &self.targets[cloud];
            let mut problems = Vec::new();
            let seen = match (&source, look) {
                (Some((reader, source)), Ok(look)) => {
                    let sides = sides(reader, target).await;
                    let copied = self.copy(cloud, sides, source, look, &mut problems).await;
                    worked |= copied.again;
                    Ok(copied.still_true)
                }
                (None, Ok(look)) => Ok(Some(look)),
                (_, Err(error)) => Err(error),
            };
            let source = source.as_ref().map(|(_, look)| look);
            let observed = self.publish(cloud, target, source, seen, problems).await;
            if let Some(observed) = &observed {
                let seen = &*observed.look.repository;
                target.ledger.settle(full.then_some(seen)).await;
            }
            if let (true, Some(source), Some(observed)) = (full, source, observed) {
                self.prune(cloud, target, source, &observed).await;
            }
        }
        worked
    }

    /// Whether everything is to be listed in this pass.
    async fn is_full_scan_due(&self) -> bool {
        let now = self.shared.clock.monotonic();
        let mut last = self.last_full_scan.lock().await;
        let due =
            last.is_none_or(|last| now.saturating_sub(last) >= self.shared.full_scan_interval);
        if due {
            *last = Some(now);
        }
        due
    }

    async fn forget_disabled(&self, enabled: &[CloudName]) {
        for (cloud, target) in self.targets.iter().filter(|(cloud, _)| !enabled.contains(cloud)) {
            let mut lane = target.data.lock().await;
            lane.stop.cancel();
            *lane = DataLane::default();
            self.shared.views.update(&self.service.id, |view| drop(view.regions.remove(cloud)));
        }
    }

    /// `None` when the primary cannot be read; the view says why.
    async fn look_at_source(&self, extent: Extent) -> Option<(&Mutex<Reader>, Look)> {
        let Some(source) = &self.source else {
            let what = "the service is known from its copy alone; add it as a [[service]] to the \
                        configuration to replicate it"
                .to_owned();
            self.shared.views.update(&self.service.id, |view| view.primary.error = Some(what));
            return None;
        };
        let look = source.lock().await.look(extent).await;
        let now = self.shared.clock.now();
        self.shared.views.update(&self.service.id, |view| match &look {
            Ok(look) => view.primary = PrimaryView::of(look, now),
            Err(error) => view.primary.error = Some(chain(error)),
        });
        Some((source, look.ok()?))
    }

    /// Copies the log, and sees to it that base backups are being copied.
    async fn copy(
        &self,
        cloud: &CloudName,
        sides: (Sides, String),
        source: &Look,
        look: Look,
        problems: &mut Vec<String>,
    ) -> Copied {
        let target = &self.targets[cloud];
        let told = Told { recorder: &*self.ledgers, lane: cloud.as_str() };
        let mut lane = target.data.lock().await;
        let plan = plan::plan(&sides.1, source, &look, &lane.damaged);
        // A look is given up before the next one, which then changes the kept listing in place.
        let still_true = plan.log.is_empty().then_some(look);
        problems.extend(plan.problems);
        let mut again = !plan.log.is_empty();
        let (progress, stop) = (Progress::default(), &self.shared.stop);
        let errors =
            execute_and_tell(&sides.0, &plan.log, SEGMENTS_AT_ONCE, &progress, stop, told).await;
        self.report(&errors, problems);
        again &= errors.is_empty();
        if lane.task.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
            let finished = lane.task.take().expect("it was there a line ago").await;
            let errors = finished.unwrap_or_default();
            lane.problems.clear();
            self.report(&errors, &mut lane.problems);
            // What it wrote is not in this plan's listing yet: the next pass plans with it.
            lane.relist = true;
            again |= errors.is_empty();
        } else if lane.task.is_none() && !plan.data.is_empty() {
            lane.stop = self.shared.stop.child_token();
            lane.task = Some(self.start(sides.0, plan.data, cloud, lane.stop.clone()));
        }
        problems.extend(lane.problems.iter().cloned());
        Copied { again, still_true }
    }

    fn start(
        &self,
        sides: Sides,
        stages: Vec<Stage>,
        cloud: &CloudName,
        stop: CancellationToken,
    ) -> tokio::task::JoinHandle<Vec<CopyError>> {
        let (progress, wake) = (self.targets[cloud].progress.clone(), self.wake.clone());
        let (ledgers, lane) = (self.ledgers.clone(), cloud.to_string());
        tokio::spawn(async move {
            let told = Told { recorder: &*ledgers, lane: &lane };
            let at_once = FILES_AT_ONCE;
            let errors = execute_and_tell(&sides, &stages, at_once, &progress, &stop, told).await;
            if errors.is_empty() {
                wake.notify_one();
            }
            errors
        })
    }

    fn report(&self, errors: &[CopyError], problems: &mut Vec<String>) {
        for error in errors.iter().filter(|error| !matches!(error, CopyError::Stopped)) {
            let text = chain(error);
            warn!(service = %self.service.id, error = %text, "an object could not be copied");
            problems.push(text);
        }
    }

    /// Judges what was seen of the copy, or looks at it again, and shows the result.
    async fn publish(
        &self,
        cloud: &CloudName,
        target: &Target,
        source: Option<&Look>,
        seen: Result<Option<Look>, StoreError>,
        mut problems: Vec<String>,
    ) -> Option<Observed> {
        self.heed(target, source).await;
        let observed = match seen {
            Ok(Some(look)) => target.reader.lock().await.judge(look).await,
            Ok(None) => {
                let extent = target.extent(false).await;
                target.reader.lock().await.observe(extent).await
            }
            Err(error) => Err(error),
        };
        let now = self.shared.clock.now();
        problems.extend(target.ledger.problems());
        problems.truncate(PROBLEMS_MAX);
        let observed = match observed {
            Ok(observed) => observed,
            Err(error) => {
                let text = chain(&error);
                self.shared.views.update(&self.service.id, |view| {
                    let region = view.regions.entry(cloud.clone()).or_default();
                    (region.error, region.problems) = (Some(text), problems);
                });
                return None;
            }
        };
        let damage = observed.runs.values().filter_map(|run| run.damage.as_ref());
        let damaged = damage.map(|damage| damage.key.clone());
        let damaged = damaged.chain(target.ledger.damaged().into_keys()).collect();
        target.data.lock().await.damaged = damaged;
        let lag_seconds = self.lag(cloud, source, &observed.look);
        let before = self.shared.views.service(&self.service.id);
        let before = before.regions.get(cloud).map(|region| region.catalog.window.clone());
        if before.as_ref() != Some(&observed.catalog.window) {
            info!(service = %self.service.id, region = %cloud, window = %observed.catalog.window,
                "the restore window has changed");
        }
        let view = RegionView {
            catalog: Arc::new(observed.catalog.clone()),
            seen_at: Some(now),
            error: None,
            problems,
            lag_seconds,
            copying: Some(target.progress.clone()),
        };
        let ranges = view.catalog.window.ranges().to_vec();
        self.shared.views.update(&self.service.id, |service| {
            service.regions.insert(cloud.clone(), view);
        });
        self.describe(target, ranges).await;
        Some(observed)
    }
}

/// The two sides of a copy, and the name of the stanza.
async fn sides(source: &Mutex<Reader>, target: &Target) -> (Sides, String) {
    let source = source.lock().await;
    let reader = target.reader.lock().await;
    let BackupFormat::PgBackRest { stanza } = &source.place().format;
    let sides = Sides {
        source: source.store().clone(),
        source_prefix: source.place().prefix.clone(),
        target: reader.store().clone(),
        target_prefix: reader.place().prefix.clone(),
    };
    (sides, stanza.clone())
}
