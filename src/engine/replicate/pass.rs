//! One pass over a service: look, plan, copy, look again, publish.
//!
//! 1. The targets are listed *before* the source: what the source deletes meanwhile is then missing
//!    in the newer listing, and never taken for missing in the older one.
//! 2. The log is copied at once, to all targets. Base backups are copied beside it by a task of
//!    their own, which a later pass finds finished.
//! 3. A target that was written to is looked at again: what is published was seen in the copy.
//! 4. Looks are at the end of the log, and at base backups when there are new ones. Everything is listed
//!    beside the passes, in `scan.rs`.

use crate::{
    domain::{cloud::CloudName, ids::ServiceId, window::RestoreRange},
    engine::{
        catalog::{
            listing::{Extent, Whole},
            observe::{Look, Observed, Reader},
        },
        config::{ScrubSettings, ServiceSettings},
        error::chain,
        replicate::{
            copying::{Budget, Running, ended},
            execute::Progress,
            lag::Lag,
            record::{Ledger, Ledgers, Primary},
            scan::FullScan,
        },
        state::State,
        views::{PrimaryView, RegionView, Views},
    },
    store::{StoreError, transfer::all_but_late},
    sys::clock::Clock,
};
use chrono::{DateTime, Utc};
use futures_util::stream::FuturesUnordered;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Mutex, Notify},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

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
    /// How far a copy may be behind before that is a problem.
    pub lag_warning: Duration,
    /// Whether the copy must stay as it is for now.
    pub is_forking: Arc<IsForking>,
    /// What copying may use.
    pub budget: Budget,
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
    pub(super) source: Option<Source>,
    pub(super) targets: BTreeMap<CloudName, Arc<Target>>,
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

/// The primary.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) reader: Arc<Mutex<Reader>>,
    pub(super) scan: Mutex<FullScan>,
}

/// One region that could hold a copy.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) reader: Arc<Mutex<Reader>>,
    pub(super) scan: Mutex<FullScan>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) data: Mutex<DataLane>,
    pub(super) progress: Arc<Progress>,
    /// What an earlier pass did not wait for.
    pub(super) late: Mutex<Late>,
}

/// What is still under way in a target that is slower than the others.
#[derive(Debug, Default)]
pub(super) struct Late {
    looking: Option<JoinHandle<Result<Shown, StoreError>>>,
    /// The copying of the log.
    pub(super) copying: Option<Running>,
}

/// A look, and how everything has been listed for it, where it was.
type Shown = (Look, Option<Whole>);

/// One target in one pass.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) cloud: &'a CloudName,
    pub(super) target: &'a Target,
    /// How everything has been listed, where it was.
    whole: Option<Whole>,
    /// The look, when nothing was written since.
    pub(super) seen: Result<Option<Look>, StoreError>,
    pub(super) problems: Vec<String>,
}

/// The copying of base backups into one region.
#[derive(Debug, Default)]
pub(super) struct DataLane {
    pub(super) task: Option<Running>,
    pub(super) stop: CancellationToken,
    pub(super) problems: Vec<String>,
    /// Keys in the copy whose contents are known to be wrong.
    pub(super) damaged: BTreeSet<String>,
    /// Whether files of base backups were written since they were listed.
    pub(super) relist: bool,
    /// When the copy's store was described last, and with which ranges.
    pub(super) described: Option<(DateTime<Utc>, Vec<RestoreRange>)>,
}

impl Target {
    /// Whether files of base backups are being copied.
    pub(super) async fn is_copying(&self) -> bool {
        self.data.lock().await.task.is_some()
    }

    /// How much is to be listed of the copy.
    async fn extent(&self) -> Extent {
        let relist = std::mem::take(&mut self.data.lock().await.relist);
        if relist { Extent::LogAndBackups } else { Extent::Log }
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
            let (ledger, reader) = (ledgers.0[&cloud].clone(), Arc::new(Mutex::new(reader)));
            let (data, progress, late, scan) = Default::default();
            (cloud, Arc::new(Target { reader, scan, ledger, data, progress, late }))
        };
        let targets = targets.into_iter().map(target).collect();
        let primary = source.as_ref().map(Primary::of);
        let source = source.map(|reader| {
            let (reader, scan) = (Arc::new(Mutex::new(reader)), Mutex::default());
            Source { reader, scan }
        });
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
        self.scan(enabled).await;
        let mut turns = self.look_at_targets(enabled).await;
        let source = self.look_at_source().await;
        let worked = match &source {
            Some((reader, source)) => self.copy(&mut turns, reader, source).await,
            None => false,
        };
        let source = source.as_ref().map(|(_, look)| look);
        for Turn { cloud, target, whole, seen, problems } in turns {
            let observed = self.publish(cloud, target, source, seen, problems).await;
            if let Some(observed) = &observed {
                // A scan has compared what it found itself.
                let seen = (whole == Some(Whole::AtOnce)).then_some(&*observed.look.repository);
                target.ledger.settle(seen).await;
            }
            if let (Some(source), Some(observed)) = (source, observed)
                && self.is_prune_due(target, whole).await
            {
                self.prune(cloud, target, source, &observed).await;
            }
        }
        worked
    }

    /// Looks at all targets at the same time. One that is late has no turn in this pass; its look
    /// goes on and is used by a later one.
    async fn look_at_targets<'a>(&'a self, enabled: &'a [CloudName]) -> Vec<Turn<'a>> {
        let (mut turns, mut looks) = (Vec::new(), Vec::new());
        for cloud in enabled {
            let Some(target) = self.targets.get(cloud) else { continue };
            let mut late = target.late.lock().await;
            let mut problems = self.scan_failures(target).await;
            if let Some(copying) = &mut late.copying {
                let Some(errors) = ended(copying) else { continue };
                self.report(&errors, &mut problems);
                late.copying = None;
            }
            let look = match late.looking.take() {
                Some(looking) => looking,
                None => tokio::spawn(look(target.clone(), target.extent().await)),
            };
            turns.push((cloud, target, problems));
            looks.push(look);
        }
        let (count, mut seen) = (looks.len(), BTreeMap::new());
        let waiting: FuturesUnordered<_> = looks
            .iter_mut()
            .enumerate()
            .map(|(at, look)| async move { (at, look.await) })
            .collect();
        let late = all_but_late(waiting, count, &*self.shared.clock, |(at, look)| {
            seen.insert(at, look.expect("a look does not panic"));
            (at, true)
        });
        drop(late.await);
        let mut now = Vec::new();
        for (at, ((cloud, target, problems), look)) in turns.into_iter().zip(looks).enumerate() {
            match seen.remove(&at) {
                Some(seen) => {
                    let whole = seen.as_ref().ok().and_then(|(_, whole)| *whole);
                    let seen = seen.map(|(look, _)| Some(look));
                    now.push(Turn { cloud, target, whole, seen, problems });
                }
                None => target.late.lock().await.looking = Some(look),
            }
        }
        now
    }

    async fn forget_disabled(&self, enabled: &[CloudName]) {
        for (cloud, target) in self.targets.iter().filter(|(cloud, _)| !enabled.contains(cloud)) {
            let mut lane = target.data.lock().await;
            lane.stop.cancel();
            *lane = DataLane::default();
            *target.late.lock().await = Late::default();
            target.scan.lock().await.forget();
            self.shared.views.update(&self.service.id, |view| drop(view.regions.remove(cloud)));
        }
    }

    /// `None` when the primary cannot be read; the view says why.
    async fn look_at_source(&self) -> Option<(&Mutex<Reader>, Look)> {
        let Some(source) = &self.source else {
            let what = "the service is known from its copy alone; add it as a [[service]] to the \
                        configuration to replicate it"
                .to_owned();
            self.shared.views.update(&self.service.id, |view| view.primary.error = Some(what));
            return None;
        };
        let look = source.reader.lock().await.look(Extent::Log).await;
        let now = self.shared.clock.now();
        self.shared.views.update(&self.service.id, |view| match &look {
            Ok(look) => view.primary = PrimaryView::of(look, now),
            Err(error) => view.primary.error = Some(chain(error)),
        });
        Some((&source.reader, look.ok()?))
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
                let extent = target.extent().await;
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
        // What a wrong key does not open is none the worse for that.
        let damage = damage.filter(|damage| damage.wrong_key.is_none());
        let damaged = damage.map(|damage| damage.key.clone());
        let damaged = damaged.chain(target.ledger.damaged().into_keys()).collect();
        target.data.lock().await.damaged = damaged;
        let lag = self.lag(cloud, source, &observed.look);
        let before = self.shared.views.service(&self.service.id);
        let before = before.regions.get(cloud);
        problems.extend(self.late(cloud, lag, before.map_or(Lag::default(), |seen| seen.lag)));
        if before.map(|region| &region.catalog.window) != Some(&observed.catalog.window) {
            info!(service = %self.service.id, region = %cloud, window = %observed.catalog.window,
                "the restore window has changed");
        }
        let view = RegionView {
            catalog: Arc::new(observed.catalog.clone()),
            seen_at: Some(now),
            error: None,
            problems,
            lag,
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

async fn look(target: Arc<Target>, extent: Extent) -> Result<Shown, StoreError> {
    let mut reader = target.reader.lock().await;
    let look = reader.look(extent).await?;
    Ok((look, reader.take_whole()))
}
