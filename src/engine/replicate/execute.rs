//! Carries out the stages of plans, for all targets of a source at the same time. Has no choices
//! left: `schedule.rs` says what is next.

use crate::{
    engine::replicate::{
        carry::Job,
        plan::{Stage, Step},
        schedule::{Outcome, Schedule, Work},
    },
    store::{
        BlobStore, Condition, StoreError, Stored,
        key::Key,
        transfer::{Destination, Means},
        wrap::limit::{Memory, Turns},
    },
    sys::clock::{Clock, SystemClock},
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
    /// Objects that are read at the same time, and that are written to one target at the same time.
    pub at_once: usize,
    /// Segments that are proven at the same time: each is held decoded.
    pub proofs: Arc<Semaphore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who is told.
    pub recorder: Arc<dyn Recorder>,
}

/// What came of one step in one lane.
#[derive(Debug)]
pub(super) struct Event {
    lane: usize,
    at: usize,
    key: String,
    size_bytes: u64,
    /// `None`: it is to be taken once more.
    pub(super) done: Option<Result<Option<Stored>, CopyError>>,
}

/// Executes stages one after the other, of each at most `at_once` steps being read and as many being
/// written at the same time. A stage with a
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
            // Twice as many: while one half is read the other half is written.
            schedule: Schedule::new(lanes.iter().map(|lane| lane.stages), 2 * self.at_once),
            reads: Turns::new(self.at_once),
            writes: lanes.iter().map(|_| Turns::new(self.at_once)).collect(),
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
                Some(event) = told.recv() => {
                    run.take_in(event, ended);
                    // All that is known, before more is begun: lanes that are ready together share.
                    while let Ok(event) = told.try_recv() {
                        run.take_in(event, ended);
                    }
                }
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
    reads: Turns,
    /// Of each lane.
    writes: Vec<Turns>,
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
                    let turns = self.writes[share.lane].clone();
                    shares.push((event, Destination { store, key, condition, quit, turns }));
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
                means: Means {
                    memory,
                    clock: self.copier.clock.clone(),
                    turns: self.reads.clone(),
                },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::recovery::Codec,
        engine::replicate::plan::Proof,
        store::{
            PutMode, UserMetadata, body_of,
            memory::MemoryStore,
            read_all,
            wrap::faulty::{Call, Fault, FaultyStore},
        },
        wal::decode::sha1_hex,
    };
    use chrono::{DateTime, Utc};
    use futures_util::{FutureExt, future::BoxFuture};
    use std::{sync::Mutex, time::Duration};

    /// A clock whose sleeps end at once, or never.
    #[derive(Debug)]
    struct TestClock {
        is_stopped: bool,
    }

    impl Clock for TestClock {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            match self.is_stopped {
                true => futures_util::future::pending().boxed(),
                false => tokio::task::yield_now().boxed(),
            }
        }
    }

    #[derive(Debug, Default)]
    struct Written(Mutex<Vec<(String, String, Stored)>>);

    impl Recorder for Written {
        fn wrote(&self, lane: &str, key: &str, stored: &Stored) {
            self.0.lock().unwrap().push((lane.to_owned(), key.to_owned(), stored.clone()));
        }
    }

    const SEGMENTS: usize = 5;
    const FILES: usize = 7;
    const AT_ONCE: usize = 2;

    /// A source with segments and files in two stages, and the same for every target.
    struct World {
        source: MemoryStore,
        stages: Vec<Stage>,
        written: Arc<Written>,
    }

    type Decide = fn(&Call) -> Fault;

    impl World {
        async fn new() -> Self {
            let source = MemoryStore::new();
            let (mut segments, mut files) = (Vec::new(), Vec::new());
            for number in 0..SEGMENTS + FILES {
                let (key, contents) = (format!("{number:02}"), format!("contents of {number}"));
                let place = Key::parse(&format!("s/{key}")).unwrap();
                let (size_bytes, sha1) = (contents.len() as u64, sha1_hex(contents.as_bytes()));
                let (body, metadata) = (body_of(contents.into()), UserMetadata::new());
                source.put(&place, size_bytes, &metadata, body, PutMode::Replace).await.unwrap();
                let replace = false;
                if number < SEGMENTS {
                    let proof = Proof::Sha1 { sha1, codec: Codec::None };
                    segments.push(Step::Copy { key, size_bytes, proof, replace });
                } else {
                    files.push(Step::Copy { key, size_bytes, proof: Proof::Size, replace });
                }
            }
            let stages = vec![
                Stage { name: "segments", steps: segments },
                Stage { name: "files", steps: files },
            ];
            Self { source, stages, written: Arc::default() }
        }

        fn faulty(
            store: &MemoryStore,
            decide: impl Fn(&Call) -> Fault + Send + Sync + 'static,
        ) -> FaultyStore {
            let clock = Arc::new(TestClock { is_stopped: true });
            FaultyStore::new(Arc::new(store.clone()), clock, decide)
        }

        /// Runs a lane for each of the targets. `ended` is told of each.
        async fn run(
            &self,
            source: FaultyStore,
            targets: &[FaultyStore],
            patience: bool,
            ended: &mut (dyn FnMut(usize, Vec<CopyError>) + Send),
        ) {
            let copier = Copier {
                source: Side { store: Arc::new(source), prefix: Key::parse("s").unwrap() },
                at_once: AT_ONCE,
                proofs: Arc::new(Semaphore::new(1)),
                clock: Arc::new(TestClock { is_stopped: patience }),
                recorder: self.written.clone(),
            };
            let progress: Vec<_> = targets.iter().map(|_| Progress::default()).collect();
            let lane = |(at, target): (usize, &FaultyStore)| Lane {
                name: format!("lane {at}"),
                target: Side { store: Arc::new(target.clone()), prefix: Key::parse("t").unwrap() },
                stages: &self.stages,
                memory: Memory::new(1 << 20),
                progress: &progress[at],
                stop: CancellationToken::new(),
            };
            let lanes: Vec<_> = targets.iter().enumerate().map(lane).collect();
            copier.run(&lanes, ended).await;
        }

        async fn errors(
            &self,
            source: FaultyStore,
            targets: &[FaultyStore],
        ) -> Vec<Vec<CopyError>> {
            let mut all: Vec<_> = targets.iter().map(|_| None).collect();
            let mut ended = |at: usize, errors| {
                assert!(all[at].replace(errors).is_none(), "a lane ends once");
            };
            self.run(source, targets, true, &mut ended).await;
            all.into_iter().map(|errors| errors.expect("every lane ends")).collect()
        }

        /// How many objects a target has. What it has is right.
        async fn count(&self, target: &MemoryStore) -> usize {
            for key in target.keys() {
                let from = Key::parse(&key.as_str().replacen("t/", "s/", 1)).unwrap();
                let here = read_all(target, &key, 1 << 20).await.unwrap().1;
                assert_eq!(here, read_all(&self.source, &from, 1 << 20).await.unwrap().1, "{key}");
            }
            target.keys().len()
        }
    }

    fn none(_: &Call) -> Fault {
        Fault::None
    }

    #[tokio::test]
    async fn the_source_is_read_once_for_all_targets_and_writes_are_recorded() {
        let (world, targets) = (World::new().await, [MemoryStore::new(), MemoryStore::new()]);
        let source = World::faulty(&world.source, none);
        let stores = [&targets[0], &targets[1]].map(|target| World::faulty(target, none));
        let errors = world.errors(source.clone(), &stores).await;
        assert!(errors.iter().all(Vec::is_empty), "{errors:?}");
        let all = SEGMENTS + FILES;
        // Who is through a stage first begins the next one without the other.
        assert!(
            (all..=all + 2 * AT_ONCE).contains(&usize::try_from(source.calls()).unwrap()),
            "{}",
            source.calls()
        );
        for (target, store) in targets.iter().zip(&stores) {
            assert_eq!((world.count(target).await, store.calls()), (all, all as u64));
        }
        let written = world.written.0.lock().unwrap().clone();
        assert_eq!(written.len(), 2 * all);
        for (lane, key, stored) in written {
            let target = &targets[usize::from(lane == "lane 1")];
            let now = target.head(&Key::parse(&format!("t/{key}")).unwrap()).await.unwrap();
            assert_eq!((now.size_bytes, now.etag), (stored.size_bytes, stored.etag));
        }
    }

    #[tokio::test]
    async fn a_target_that_fails_in_whatever_way_does_not_touch_the_other() {
        let faults: [Decide; 6] = [
            |_| Fault::Before,
            |call| if call.number > 3 { Fault::Denied } else { Fault::None },
            |call| if call.number > 2 { Fault::Full(3) } else { Fault::None },
            |call| if call.number == 4 { Fault::After } else { Fault::None },
            |call| if call.number == 5 { Fault::Flip(1) } else { Fault::None },
            |call| if call.number.is_multiple_of(3) { Fault::EndEarly(2) } else { Fault::None },
        ];
        for (number, fault) in faults.into_iter().enumerate() {
            let (world, targets) = (World::new().await, [MemoryStore::new(), MemoryStore::new()]);
            let stores = [World::faulty(&targets[0], fault), World::faulty(&targets[1], none)];
            let errors = world.errors(World::faulty(&world.source, none), &stores).await;
            assert!(!errors[0].is_empty(), "fault {number}");
            assert!(errors[1].is_empty(), "fault {number}: {errors:?}");
            assert_eq!(world.count(&targets[1]).await, SEGMENTS + FILES);
            // What the broken one has is right, and the next pass brings the rest.
            world.count(&targets[0]).await;
            let again = [World::faulty(&targets[0], none)];
            let errors = world.errors(World::faulty(&world.source, none), &again).await;
            assert!(errors[0].is_empty(), "{errors:?}");
            assert_eq!(world.count(&targets[0]).await, SEGMENTS + FILES);
        }
    }

    #[tokio::test]
    async fn a_target_that_hangs_does_not_hold_up_the_other() {
        for from in [0, 1, 6] {
            let world = World::new().await;
            let targets = [MemoryStore::new(), MemoryStore::new()];
            let hangs = move |call: &Call| match call.number >= from {
                true => Fault::Stall(Duration::from_secs(1)),
                false => Fault::None,
            };
            let stores = [World::faulty(&targets[0], hangs), World::faulty(&targets[1], none)];
            let (tell, told) = tokio::sync::oneshot::channel();
            let mut tell = Some(tell);
            let mut ended = |lane: usize, errors: Vec<CopyError>| {
                let tell = tell.take().expect("the one that hangs never ends");
                tell.send((lane, errors.len())).unwrap();
            };
            let source = World::faulty(&world.source, none);
            let run = world.run(source, &stores, false, &mut ended);
            let (lane, errors) = tokio::select! {
                () = run => panic!("it cannot end"),
                told = told => told.unwrap(),
            };
            assert_eq!((lane, errors), (1, 0));
            assert_eq!(world.count(&targets[1]).await, SEGMENTS + FILES, "from {from}");
        }
    }

    #[tokio::test]
    async fn whatever_fails_at_any_call_nothing_wrong_is_written_and_a_later_pass_mends_it() {
        let faults = [Fault::Before, Fault::After, Fault::BreakOff(4), Fault::EndEarly(4)];
        let all = SEGMENTS + FILES;
        for fault in faults.into_iter().chain([Fault::Flip(3), Fault::Denied]) {
            for number in 0..all as u64 {
                let world = World::new().await;
                let targets = [MemoryStore::new(), MemoryStore::new()];
                let decide = move |call: &Call| match call.number == number {
                    true => fault,
                    false => Fault::None,
                };
                let stores = [&targets[0], &targets[1]].map(|t| World::faulty(t, none));
                let source = World::faulty(&world.source, decide);
                let errors = world.errors(source, &stores).await;
                let is_segment = number < SEGMENTS as u64;
                if fault == Fault::Flip(3) && !is_segment {
                    // Of a file nothing but its size is known before the manifest is compared.
                    continue;
                }
                // One of them, when it happened to read by itself.
                let failed: Vec<_> = errors.iter().map(|errors| !errors.is_empty()).collect();
                assert!(failed.contains(&true), "{fault:?} {errors:?}");
                for (target, failed) in targets.iter().zip(failed) {
                    assert_eq!(world.count(target).await < all, failed, "{fault:?} at {number}");
                }
                let errors = world.errors(World::faulty(&world.source, none), &stores).await;
                assert!(errors.iter().all(Vec::is_empty), "{errors:?}");
                for target in &targets {
                    assert_eq!(world.count(target).await, all);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_stopped_lane_ends_at_once() {
        let (world, target) = (World::new().await, MemoryStore::new());
        let (progress, stop) = (Progress::default(), CancellationToken::new());
        stop.cancel();
        let sides = Sides {
            source: Arc::new(world.source.clone()),
            source_prefix: Key::parse("s").unwrap(),
            target: Arc::new(target.clone()),
            target_prefix: Key::parse("t").unwrap(),
        };
        let errors = execute(&sides, &world.stages, 4, &progress, &stop).await;
        assert!(matches!(errors[..], [CopyError::Stopped]), "{errors:?}");
        assert_eq!(world.count(&target).await, 0);
        let stop = CancellationToken::new();
        assert!(execute(&sides, &world.stages, 4, &progress, &stop).await.is_empty());
        let bytes = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        assert_eq!(bytes(&progress.total_bytes), bytes(&progress.done_bytes));
        assert_eq!(world.count(&target).await, SEGMENTS + FILES);
    }
}
