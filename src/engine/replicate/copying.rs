//! The copying part of a pass: one source to all targets of the pass at the same time.
//!
//! 1. The log is copied at once. A target that is not done when the others have been for a while is
//!    left to itself: later passes go on without it until it has ended.
//! 2. Base backups are copied beside the passes. Targets that begin in the same pass share what is
//!    read of the source.

use crate::{
    domain::cloud::CloudName,
    engine::{
        catalog::observe::{Look, Reader},
        error::chain,
        replicate::{
            execute::{
                Copier, CopyError, FILES_AT_ONCE, Lane, Progress, Recorder, SEGMENTS_AT_ONCE, Side,
                cores,
            },
            pass::{Replicator, Turn},
            plan::{self, Stage},
        },
    },
    store::{transfer::all_but_late, wrap::limit::Memory},
    sys::clock::Clock,
};
use futures_util::stream::FuturesUnordered;
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};
use tokio::sync::{Mutex, Notify, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Memory for copying unless the settings say otherwise, in MiB.
pub const MEMORY_MIB: u64 = 256;

/// What all copying shares, of all services and regions. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    /// For contents that were read and are not written yet.
    memory: Memory,
    /// Of that, what one region may have is one of so many parts: one that hangs leaves the rest to
    /// the others.
    parts: u32,
    of_regions: Arc<std::sync::Mutex<BTreeMap<CloudName, Memory>>>,
    proofs: Arc<Semaphore>,
    /// For a region's memory, of which less is used while the processors are busy anyway.
    pace: Option<Arc<dyn Clock>>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(MEMORY_MIB, 1)
    }
}

impl Budget {
    /// Copying to so many regions with `memory_mib` in all.
    #[must_use]
    pub fn new(memory_mib: u64, regions: usize) -> Self {
        // The rest is for connections, for what is decoded, and for the allocator's own needs.
        let memory = Memory::new((memory_mib << 20) / 8 * 3);
        let proofs = Arc::new(Semaphore::new(cores()));
        let parts = if regions > 1 { 2 } else { 1 };
        Self { memory, parts, of_regions: Arc::default(), proofs, pace: None }
    }

    /// The same, but while the processors are busy anyway less of the memory is used.
    #[must_use]
    pub fn paced(self, clock: Arc<dyn Clock>) -> Self {
        Self { pace: Some(clock), ..self }
    }

    /// A copier from one source. `recorder` is told of every object that was written.
    #[must_use]
    pub fn copier(
        &self,
        source: Side,
        at_once: usize,
        clock: Arc<dyn Clock>,
        recorder: Arc<dyn Recorder>,
    ) -> Copier {
        let proofs = self.proofs.clone();
        Copier { source, at_once, proofs, clock, recorder }
    }

    /// What lanes to a region take their memory from.
    #[must_use]
    pub fn of(&self, region: &CloudName) -> Memory {
        let mut of_regions = self.of_regions.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || match (self.memory.part(self.parts), &self.pace) {
            (memory, Some(clock)) => memory.paced(clock.clone()),
            (memory, None) => memory,
        };
        of_regions.entry(region.clone()).or_insert_with(new).clone()
    }
}

/// Copying that a pass has begun; gives what failed.
pub(super) type Running = oneshot::Receiver<Vec<CopyError>>;

/// What failed, when it has ended.
pub(super) fn ended(running: &mut Running) -> Option<Vec<CopyError>> {
    match running.try_recv() {
        Ok(errors) => Some(errors),
        Err(oneshot::error::TryRecvError::Empty) => None,
        Err(oneshot::error::TryRecvError::Closed) => Some(Vec::new()),
    }
}

/// What is copied to one target.
struct Part {
    name: String,
    target: Side,
    stages: Vec<Stage>,
    memory: Memory,
    progress: Arc<Progress>,
    stop: CancellationToken,
}

impl Replicator {
    /// Copies the log, and sees to it that base backups are being copied. Says whether another pass
    /// should follow at once. Turns of targets that are late are taken out.
    pub(super) async fn copy(
        &self,
        turns: &mut Vec<Turn<'_>>,
        source: &Mutex<Reader>,
        seen: &Look,
    ) -> bool {
        let (side, format) = {
            let reader = source.lock().await;
            (side(&reader), reader.place().format.clone())
        };
        let (mut log, mut data) = (Vec::new(), Vec::new());
        for turn in turns.iter_mut() {
            let Ok(Some(look)) = &turn.seen else {
                log.push(None);
                data.push(None);
                continue;
            };
            let damaged = turn.target.data.lock().await.damaged.clone();
            let plan = plan::plan(&format, seen, look, &damaged);
            turn.problems.extend(plan.problems);
            self.withdraw(turn, &plan.withdrawn).await;
            let part = |stages, progress| (!Vec::is_empty(&stages)).then_some((stages, progress));
            log.push(part(plan.log, Arc::default()));
            data.push(part(plan.data, turn.target.progress.clone()));
            if let Some(Some((stages, _))) = log.last() {
                let steps = stages.iter().flat_map(|stage: &Stage| &stage.steps);
                turn.target.reader.lock().await.wrote(steps.map(plan::Step::key));
                // A look is given up before the next one, which then changes the kept listing in
                // place.
                turn.seen = Ok(None);
            }
        }
        let mut again = self.copy_log(turns, &mut data, log, &side).await;
        again |= self.copy_data(turns, data, side).await;
        again
    }

    /// Removes marks from a copy. The next pass tries again what fails.
    async fn withdraw(&self, turn: &mut Turn<'_>, marks: &[String]) {
        if marks.is_empty() {
            return;
        }
        let side = side(&*turn.target.reader.lock().await);
        let result = match turn.target.ledger.forget(marks.iter()).await {
            Err(error) => Err(chain(&error)),
            Ok(()) => {
                let keys = marks.iter().filter_map(|mark| side.prefix.join(mark).ok());
                let mut result = Ok(());
                for key in keys {
                    if let Err(error) = side.store.delete(&key).await {
                        result = Err(chain(&error));
                    }
                }
                result
            }
        };
        if let Err(what) = result {
            turn.problems.push(format!("a mark that was withdrawn cannot be removed: {what}"));
        }
        turn.seen = Ok(None);
    }

    /// Copies the log; takes out who is late.
    async fn copy_log(
        &self,
        turns: &mut Vec<Turn<'_>>,
        data: &mut Vec<Option<Planned>>,
        planned: Vec<Option<Planned>>,
        source: &Side,
    ) -> bool {
        let (mut parts, mut at) = (Vec::new(), Vec::new());
        for (place, planned) in planned.into_iter().enumerate() {
            let Some(planned) = planned else { continue };
            parts.push(self.part(&turns[place], planned, self.shared.stop.clone()).await);
            at.push(place);
        }
        let mut running = self.start(source.clone(), SEGMENTS_AT_ONCE, parts, None);
        let mut again = false;
        let (count, mut ends) = (running.len(), Vec::new());
        let waiting: FuturesUnordered<_> = running
            .iter_mut()
            .enumerate()
            .map(|(lane, running)| async move { (lane, running.await.unwrap_or_default()) })
            .collect();
        let late = all_but_late(waiting, count, &*self.shared.clock, |(lane, errors)| {
            ends.push((lane, errors));
            (lane, true)
        });
        let late = late.await;
        for (lane, errors) in ends {
            self.report(&errors, &mut turns[at[lane]].problems);
            again |= errors.is_empty();
        }
        // From the end, so that the places before stay what they are.
        for (lane, running) in running.into_iter().enumerate().rev() {
            if late.contains(&lane) {
                let turn = turns.remove(at[lane]);
                data.remove(at[lane]);
                warn!(service = %self.service.id, region = %turn.cloud,
                    "the log is still being copied; the other regions go on without this one");
                turn.target.late.lock().await.copying = Some(running);
            }
        }
        again
    }

    /// Takes in base backups that have been copied, and begins with those that are to be.
    async fn copy_data(
        &self,
        turns: &mut [Turn<'_>],
        planned: Vec<Option<Planned>>,
        source: Side,
    ) -> bool {
        let (mut again, mut parts, mut lanes) = (false, Vec::new(), Vec::new());
        for (turn, planned) in turns.iter_mut().zip(planned) {
            if turn.seen.is_err() {
                continue;
            }
            let mut lane = turn.target.data.lock().await;
            if let Some(errors) = lane.task.as_mut().and_then(ended) {
                lane.task = None;
                lane.problems.clear();
                self.report(&errors, &mut lane.problems);
                // What it wrote is not in this plan's listing yet: the next pass plans with it.
                lane.relist = true;
                again |= errors.is_empty();
            } else if let (None, Some(planned)) = (&lane.task, planned) {
                lane.stop = self.shared.stop.child_token();
                let stop = lane.stop.clone();
                parts.push(self.part(turn, planned, stop).await);
                lanes.push(lane);
                continue;
            }
            turn.problems.extend(lane.problems.iter().cloned());
        }
        let running = self.start(source, FILES_AT_ONCE, parts, Some(self.wake.clone()));
        for (mut lane, running) in lanes.into_iter().zip(running) {
            lane.task = Some(running);
        }
        again
    }

    async fn part(&self, turn: &Turn<'_>, planned: Planned, stop: CancellationToken) -> Part {
        let (stages, progress) = planned;
        Part {
            name: turn.cloud.to_string(),
            target: side(&*turn.target.reader.lock().await),
            stages,
            memory: self.shared.budget.of(turn.cloud),
            progress,
            stop,
        }
    }

    /// Begins to copy. `wake` is woken whenever a part has ended well.
    fn start(
        &self,
        source: Side,
        at_once: usize,
        parts: Vec<Part>,
        wake: Option<Arc<Notify>>,
    ) -> Vec<Running> {
        if parts.is_empty() {
            return Vec::new();
        }
        let (mut tells, running): (Vec<_>, Vec<_>) =
            parts.iter().map(|_| oneshot::channel()).map(|(tell, told)| (Some(tell), told)).unzip();
        let (clock, ledgers) = (self.shared.clock.clone(), self.ledgers.clone());
        let copier = self.shared.budget.copier(source, at_once, clock, ledgers);
        tokio::spawn(async move {
            let lanes: Vec<_> = parts.iter().map(Part::lane).collect();
            let mut tell = |at: usize, errors: Vec<CopyError>| {
                let is_well = errors.is_empty();
                // Nobody waits any more when the region was disabled.
                drop(tells[at].take().map(|tell| tell.send(errors)));
                if let (true, Some(wake)) = (is_well, &wake) {
                    wake.notify_one();
                }
            };
            copier.run(&lanes, &mut tell).await;
        });
        running
    }

    pub(super) fn report(&self, errors: &[CopyError], problems: &mut Vec<String>) {
        for error in errors.iter().filter(|error| !matches!(error, CopyError::Stopped)) {
            let text = chain(error);
            warn!(service = %self.service.id, error = %text, "an object could not be copied");
            problems.push(text);
        }
    }
}

/// Stages, and where their progress is shown.
type Planned = (Vec<Stage>, Arc<Progress>);

impl Part {
    fn lane(&self) -> Lane<'_> {
        Lane {
            name: self.name.clone(),
            target: self.target.clone(),
            stages: &self.stages,
            memory: self.memory.clone(),
            progress: &self.progress,
            stop: self.stop.clone(),
        }
    }
}

fn side(reader: &Reader) -> Side {
    Side { store: reader.store().clone(), prefix: reader.place().prefix.clone() }
}
