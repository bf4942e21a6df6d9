//! Carries out the stages of plans, for all targets of a source at the same time. Has no choices
//! left: `schedule.rs` says what is next.

use crate::{
    engine::{
        catalog::index::{SEGMENT_OBJECT_BYTES_MAX, prove},
        replicate::{
            plan::{Proof, Stage, Step},
            schedule::{Outcome, Schedule, Work},
        },
    },
    store::{
        BlobStore, Condition, Contents, StoreError, Stored,
        key::Key,
        transfer::{Destination, Landed, Means, Origin, fail_all, read_whole, spread, transfer},
        wrap::limit::Memory,
    },
    sys::clock::SystemClock,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Segments that are copied at the same time: each is held in memory to be proven.
pub const SEGMENTS_AT_ONCE: usize = 16;
/// Files that are copied at the same time: most are small, and the store's answer is waited for.
pub const FILES_AT_ONCE: usize = 32;
/// Memory for contents of one lane that runs by itself, in bytes.
const MEMORY_BYTES: u64 = 128 << 20;

/// The two sides of a copy.
#[derive(Clone, Debug)]
pub struct Sides {
    /// Read from.
    pub source: Arc<dyn BlobStore>,
    /// The repository's prefix there.
    pub source_prefix: Key,
    /// Written to.
    pub target: Arc<dyn BlobStore>,
    /// The repository's prefix there.
    pub target_prefix: Key,
}

/// How far a lane is, for status.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the steps of this run.
    pub total_bytes: AtomicU64,
    /// Bytes of those that are done.
    pub done_bytes: AtomicU64,
}

/// A step failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the stores failed.
    #[error("copying {key} failed")]
    Store {
        /// Key below the repository's prefix.
        key: String,
        /// What the store said.
        #[source]
        source: StoreError,
    },
    /// The source's object is not what its name promises.
    #[error("{key} in the primary region is damaged: {what}")]
    Damaged {
        /// Key below the repository's prefix.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// The source's object changed between the listing and the copy.
    #[error("{key} in the primary region changed while it was copied")]
    Changed {
        /// Key below the repository's prefix.
        key: String,
    },
    /// The engine is being stopped.
    #[error("the engine is being stopped")]
    Stopped,
}

impl CopyError {
    /// Whether further steps of the lane are pointless for now.
    fn ends_lane(&self) -> bool {
        match self {
            Self::Stopped => true,
            Self::Store { source, .. } => match source {
                StoreError::NoSpace { .. }
                | StoreError::Denied { .. }
                | StoreError::Unavailable { .. } => true,
                StoreError::NotFound(_)
                | StoreError::AlreadyExists(_)
                | StoreError::Changed(_)
                | StoreError::Refused { .. } => false,
            },
            Self::Damaged { .. } | Self::Changed { .. } => false,
        }
    }

    /// What the schedule is to know of it.
    fn outcome(&self) -> Outcome {
        match self {
            _ if self.ends_lane() => Outcome::Hopeless,
            Self::Damaged { .. } | Self::Changed { .. } => Outcome::FaultySource,
            Self::Store { .. } | Self::Stopped => Outcome::Failed,
        }
    }
}

/// What is told of every object that was written.
pub trait Recorder: Send + Sync + fmt::Debug {
    /// `key`, below the repository's prefix, was written to the target of the lane `lane`, and this
    /// is known of it. Called by the task that copies: it must not take long.
    fn wrote(&self, lane: &str, key: &str, stored: &Stored);
}

/// Nobody wants to know.
#[derive(Debug)]
pub struct NoRecorder;

impl Recorder for NoRecorder {
    fn wrote(&self, _: &str, _: &str, _: &Stored) {}
}

/// One side of copies.
#[derive(Clone, Debug)]
pub struct Side {
    /// The store.
    pub store: Arc<dyn BlobStore>,
    /// The repository's prefix there.
    pub prefix: Key,
}

/// What is to be copied to one target.
#[derive(Debug)]
pub struct Lane<'a> {
    /// Its name, for the recorder: the region.
    pub name: String,
    /// Where to.
    pub target: Side,
    /// What, one stage after the other.
    pub stages: &'a [Stage],
    /// Memory for what this lane reads.
    pub memory: Memory,
    /// How far it is.
    pub progress: &'a Progress,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Copies from one source to several targets.
#[derive(Clone, Debug)]
pub struct Copier {
    /// Read from.
    pub source: Side,
    /// Steps of one lane that are under way at the same time.
    pub at_once: usize,
    /// Segments that are proven at the same time: each is held decoded.
    pub proofs: Arc<Semaphore>,
    /// Time.
    pub clock: Arc<dyn crate::sys::clock::Clock>,
    /// Who is told.
    pub recorder: Arc<dyn Recorder>,
}

/// What came of one step in one lane.
#[derive(Debug)]
struct Event {
    lane: usize,
    at: usize,
    key: String,
    size_bytes: u64,
    /// `None`: it is to be taken once more.
    done: Option<Result<Option<Stored>, CopyError>>,
}

/// Executes stages one after the other, `at_once` steps of a stage at the same time. A stage with a
/// failed step is finished as far as it can be; the stages after it are left to a later pass.
pub async fn execute(
    sides: &Sides,
    stages: &[Stage],
    at_once: usize,
    progress: &Progress,
    stop: &CancellationToken,
) -> Vec<CopyError> {
    let Sides { source, source_prefix, target, target_prefix } = sides.clone();
    let copier = Copier {
        source: Side { store: source, prefix: source_prefix },
        at_once,
        proofs: Arc::new(Semaphore::new(cores())),
        clock: Arc::new(SystemClock::new()),
        recorder: Arc::new(NoRecorder),
    };
    let lane = Lane {
        name: String::new(),
        target: Side { store: target, prefix: target_prefix },
        stages,
        memory: Memory::new(MEMORY_BYTES),
        progress,
        stop: stop.clone(),
    };
    let mut errors = Vec::new();
    copier.run(&[lane], &mut |_, ended| errors = ended).await;
    errors
}

/// Processors that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

impl Copier {
    /// Executes the stages of all lanes. `ended` is called for each lane as soon as it has ended,
    /// with the steps that failed.
    pub async fn run(
        &self,
        lanes: &[Lane<'_>],
        ended: &mut (dyn FnMut(usize, Vec<CopyError>) + Send),
    ) {
        let mut run = Run {
            copier: self,
            lanes,
            schedule: Schedule::new(lanes.iter().map(|lane| lane.stages), self.at_once),
            // Ended lanes do not wait for what is under way.
            quits: lanes.iter().map(|_| CancellationToken::new()).collect(),
            errors: lanes.iter().map(|_| Vec::new()).collect(),
            tasks: JoinSet::new(),
        };
        for (at, lane) in lanes.iter().enumerate() {
            let steps = lane.stages.iter().flat_map(|stage| &stage.steps);
            lane.progress.total_bytes.store(steps.map(Step::size_bytes).sum(), Ordering::Relaxed);
            lane.progress.done_bytes.store(0, Ordering::Relaxed);
            if run.schedule.is_over(at) {
                ended(at, Vec::new());
            }
        }
        let (tell, mut told) = mpsc::unbounded_channel();
        loop {
            while let Some(work) = run.schedule.next() {
                run.begin(&work, &tell);
            }
            if run.schedule.are_all_over() {
                return;
            }
            tokio::select! {
                biased;
                Some(event) = told.recv() => run.take_in(event, ended),
                Some(joined) = run.tasks.join_next() => joined.expect("a copy does not panic"),
            }
        }
    }
}

/// Lanes while they are executed.
struct Run<'a> {
    copier: &'a Copier,
    lanes: &'a [Lane<'a>],
    schedule: Schedule<'a>,
    quits: Vec<CancellationToken>,
    errors: Vec<Vec<CopyError>>,
    /// Dropped with what is under way when this is.
    tasks: JoinSet<()>,
}

impl Run<'_> {
    /// Begins a step for the lanes that are not being stopped.
    fn begin(&mut self, work: &Work<'_>, tell: &mpsc::UnboundedSender<Event>) {
        let mut shares = Vec::new();
        for share in &work.shares {
            let step = share.step;
            let mut event = Event {
                lane: share.lane,
                at: share.at,
                key: step.key().to_owned(),
                size_bytes: step.size_bytes(),
                done: None,
            };
            let lane = &self.lanes[share.lane];
            let to = lane.target.prefix.join(step.key());
            match to {
                _ if lane.stop.is_cancelled() => event.done = Some(Err(CopyError::Stopped)),
                Ok(key) => {
                    let store = lane.target.store.clone();
                    let quit = self.quits[share.lane].clone();
                    let condition = condition(step);
                    shares.push((event, Destination { store, key, condition, quit }));
                    continue;
                }
                Err(error) => {
                    let (key, what) = (step.key().to_owned(), error.to_string());
                    event.done = Some(Err(CopyError::Damaged { key, what }));
                }
            }
            // Never refused: the receiver lives as long as the run.
            let _ = tell.send(event);
        }
        let (events, to): (Vec<_>, Vec<_>) = shares.into_iter().unzip();
        if let (Some(lead), false) = (work.shares.first(), to.is_empty()) {
            let memory = self.lanes[lead.lane].memory.clone();
            let job = Job {
                step: lead.step.clone(),
                source: self.copier.source.clone(),
                means: Means { memory, clock: self.copier.clock.clone() },
                proofs: self.copier.proofs.clone(),
                to,
                events,
                tell: tell.clone(),
            };
            self.tasks.spawn(job.run());
        }
    }

    fn take_in(&mut self, event: Event, ended: &mut (dyn FnMut(usize, Vec<CopyError>) + Send)) {
        let Event { lane, at, key, size_bytes, done } = event;
        if self.schedule.is_over(lane) {
            return;
        }
        let outcome = match done {
            None => Outcome::LeftBehind,
            Some(Ok(stored)) => {
                self.lanes[lane].progress.done_bytes.fetch_add(size_bytes, Ordering::Relaxed);
                if let Some(stored) = &stored {
                    self.copier.recorder.wrote(&self.lanes[lane].name, &key, stored);
                }
                Outcome::Done
            }
            Some(Err(error)) => {
                let outcome = error.outcome();
                self.errors[lane].push(error);
                outcome
            }
        };
        if self.schedule.ended(lane, at, outcome) {
            self.quits[lane].cancel();
            ended(lane, std::mem::take(&mut self.errors[lane]));
        }
    }
}

fn condition(step: &Step) -> Condition {
    match step {
        Step::Write { .. } | Step::Copy { replace: true, .. } => Condition::None,
        Step::Copy { replace: false, .. } => Condition::IfAbsent,
    }
}

/// One step under way, for one or several lanes.
struct Job {
    step: Step,
    source: Side,
    means: Means,
    proofs: Arc<Semaphore>,
    to: Vec<Destination>,
    events: Vec<Event>,
    tell: mpsc::UnboundedSender<Event>,
}

impl Job {
    async fn run(mut self) {
        let mut events: Vec<_> = std::mem::take(&mut self.events).into_iter().map(Some).collect();
        let (tell, key) = (self.tell.clone(), self.step.key().to_owned());
        let mut land = |at: usize, done| {
            if let Some(mut event) = events.get_mut(at).and_then(Option::take) {
                event.done = done;
                // Nobody listens any more when the run was given up.
                let _ = tell.send(event);
            }
        };
        match self.carry(&mut |at, landed| land(at, done(&key, landed))).await {
            Ok(()) => {}
            Err(what) => {
                let damaged = || CopyError::Damaged { key: key.clone(), what: what.clone() };
                (0..self.to.len()).for_each(|at| land(at, Some(Err(damaged()))));
            }
        }
    }

    /// Writes the object to all destinations, unless it is damaged.
    async fn carry(&self, tell: &mut (dyn FnMut(usize, Landed) + Send)) -> Result<(), String> {
        let (proof, size_bytes) = match &self.step {
            Step::Write { bytes, .. } => {
                for (at, Destination { store, key, condition, .. }) in self.to.iter().enumerate() {
                    let written = store.write(key, Contents::of(bytes.clone()), condition).await;
                    tell(at, written.map_or_else(Landed::Failed, Landed::Stored));
                }
                return Ok(());
            }
            Step::Copy { proof, size_bytes, .. } => (proof, *size_bytes),
        };
        let key = self.source.prefix.join(self.step.key()).map_err(|error| error.to_string())?;
        let origin = Origin { store: self.source.store.clone(), key, size_bytes };
        match proof {
            Proof::Size => transfer(&origin, &self.to, &self.means, tell).await,
            Proof::Sha1 { sha1, codec } => {
                if size_bytes > SEGMENT_OBJECT_BYTES_MAX {
                    return Err(format!("it has {size_bytes} bytes, too many for a segment"));
                }
                let whole = match read_whole(&origin, &self.means).await {
                    Ok(whole) => whole,
                    Err(error) => {
                        fail_all(&error, self.to.len(), tell);
                        return Ok(());
                    }
                };
                // Proven before it is written: a damaged segment never replaces a good one.
                let (codec, sha1, object) = (*codec, sha1.clone(), whole.bytes());
                let turn = self.proofs.acquire().await.expect("the semaphore is never closed");
                let proven =
                    tokio::task::spawn_blocking(move || prove(codec, &object, &sha1).map(drop));
                proven.await.expect("the decoder does not panic")?;
                drop(turn);
                spread(&whole, &self.to, &self.means, tell).await;
            }
        }
        Ok(())
    }
}

/// What came of a step; `None` when it is to be taken once more.
fn done(key: &str, landed: Landed) -> Option<Result<Option<Stored>, CopyError>> {
    Some(match landed {
        Landed::LeftBehind => return None,
        Landed::Stored(stored) => Ok(Some(stored)),
        // Somebody else was faster. The next pass looks at what is there now.
        Landed::Failed(StoreError::AlreadyExists(_)) => Ok(None),
        Landed::Failed(StoreError::Changed(_)) => Err(CopyError::Changed { key: key.to_owned() }),
        Landed::Failed(source) => Err(CopyError::Store { key: key.to_owned(), source }),
    })
}
