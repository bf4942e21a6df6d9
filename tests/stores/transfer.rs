//! One object to several stores, and what goes wrong with one of them or with the source.

use crate::support::{QuickClock, key, large_contents};
use btar::{
    store::{
        BlobStore, Condition, Contents, StoreError, UserMetadata,
        memory::MemoryStore,
        read_all,
        transfer::{Check, Destination, Landed, Means, Origin, WHOLE_BYTES_MAX, transfer},
        wrap::{
            faulty::{Call, Fault, FaultyStore},
            limit::{Memory, Turns},
            metrics::Operation,
        },
    },
    sys::clock::{Clock, SystemClock},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const SMALL: usize = 300_000;
const LARGE: usize = (20 << 20) + 12_345;
const SIZES: [usize; 3] = [0, SMALL, LARGE];

/// A clock whose sleeps never end.
#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        futures_util::future::pending().boxed()
    }
}

/// A source with one object, and targets.
struct World {
    source: MemoryStore,
    bytes: Bytes,
    targets: Vec<MemoryStore>,
    memory: Memory,
}

impl World {
    async fn new(size: usize, targets: usize) -> Self {
        let (source, (bytes, contents)) = (MemoryStore::new(), large_contents(size));
        source.write(&key("s/object"), contents, &Condition::None).await.unwrap();
        let targets = (0..targets).map(|_| MemoryStore::new()).collect();
        // Just what one object takes: what is not given back is missed.
        Self { source, bytes, targets, memory: Memory::new(WHOLE_BYTES_MAX) }
    }

    /// Copies with `faults` in the target of the same place, and `in_source`.
    async fn copy(
        &self,
        in_source: impl Fn(&Call) -> Fault + Send + Sync + 'static,
        faults: &[Fault],
        clock: Arc<dyn Clock>,
    ) -> Vec<Landed> {
        let stopped = Arc::new(StoppedClock);
        let source = FaultyStore::new(Arc::new(self.source.clone()), stopped.clone(), in_source);
        let size_bytes = self.bytes.len() as u64;
        let origin = Origin { store: Arc::new(source), key: key("s/object"), size_bytes };
        let to: Vec<_> = self
            .targets
            .iter()
            .zip(faults)
            .map(|(target, fault)| {
                let fault = *fault;
                let decide = move |call: &Call| match call.operation == Operation::Write {
                    true => fault,
                    false => Fault::None,
                };
                Destination {
                    store: Arc::new(FaultyStore::new(
                        Arc::new(target.clone()),
                        stopped.clone(),
                        decide,
                    )),
                    key: key("t/object"),
                    condition: Condition::IfAbsent,
                    quit: CancellationToken::new(),
                    turns: Turns::default(),
                }
            })
            .collect();
        let means = Means { memory: self.memory.clone(), clock, turns: Turns::default() };
        let mut landed: Vec<_> = to.iter().map(|_| None).collect();
        let mut tell = |at: usize, what| assert!(landed[at].replace(what).is_none(), "told twice");
        transfer(&origin, None, &to, &means, &mut tell).await;
        assert_eq!(self.memory.free_bytes(), WHOLE_BYTES_MAX, "memory is given back");
        landed.into_iter().map(|landed| landed.expect("everyone is told of")).collect()
    }

    async fn holds(&self, target: usize) -> bool {
        let store = &self.targets[target];
        match read_all(store, &key("t/object"), 1 << 30).await {
            Ok((_, bytes)) => {
                let metadata = store.user_metadata(&key("t/object")).await.unwrap();
                assert_eq!(metadata["kind"], "large");
                assert!(bytes == self.bytes, "what is there is right");
                true
            }
            Err(StoreError::NotFound(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

fn system_clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

#[tokio::test]
async fn every_target_gets_it_and_the_source_is_read_once() {
    for size in SIZES {
        let world = World::new(size, 3).await;
        let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = calls.clone();
        let note = move |call: &Call| {
            seen.lock().unwrap().push(call.operation);
            Fault::None
        };
        let landed = world.copy(note, &[Fault::None; 3], system_clock()).await;
        for (at, landed) in landed.iter().enumerate() {
            let Landed::Stored(stored) = landed else { panic!("{landed:?}") };
            let now = world.targets[at].head(&key("t/object")).await.unwrap();
            assert_eq!((stored.size_bytes, &stored.etag), (size as u64, &now.etag));
            assert!(world.holds(at).await);
        }
        let expect = match size {
            LARGE => {
                vec![Operation::Head, Operation::GetRange, Operation::GetRange, Operation::GetRange]
            }
            _ => vec![Operation::Get],
        };
        assert_eq!(*calls.lock().unwrap(), expect, "{size}");
    }
}

#[tokio::test]
async fn one_target_that_fails_is_told_of_and_the_others_have_it() {
    let faults = [
        Fault::Before,
        Fault::Denied,
        Fault::Full(0),
        Fault::Full(200_000),
        Fault::BreakOff(100_000),
        Fault::EndEarly(100_000),
        Fault::Flip(77_777),
    ];
    for size in [SMALL, LARGE] {
        for fault in faults {
            for broken in [0, 1] {
                let world = World::new(size, 2).await;
                let mut both = [Fault::None; 2];
                both[broken] = fault;
                let landed = world.copy(|_| Fault::None, &both, system_clock()).await;
                let whole = 1 - broken;
                assert!(matches!(landed[whole], Landed::Stored(_)), "{fault:?} {landed:?}");
                assert!(world.holds(whole).await);
                let Landed::Failed(error) = &landed[broken] else { panic!("{fault:?} {landed:?}") };
                assert!(!world.holds(broken).await, "{fault:?} leaves nothing: {error}");
                let is_full = matches!(error, StoreError::NoSpace { .. });
                assert_eq!(is_full, matches!(fault, Fault::Full(_)), "{error}");
                let is_denied = matches!(error, StoreError::Denied { .. });
                assert_eq!(is_denied, fault == Fault::Denied, "{error}");
                assert_eq!(error.is_transient(), !is_full && !is_denied, "{error}");
            }
        }
    }
}

#[tokio::test]
async fn one_target_that_hangs_is_left_behind() {
    for size in [SMALL, LARGE] {
        let world = World::new(size, 2).await;
        let faults = [Fault::Stall(Duration::from_secs(1)), Fault::None];
        // Its stores' clock stands still; ours does not wait.
        let landed = world.copy(|_| Fault::None, &faults, Arc::new(QuickClock::default())).await;
        assert!(matches!(landed[0], Landed::LeftBehind), "{landed:?}");
        assert!(matches!(landed[1], Landed::Stored(_)), "{landed:?}");
        assert!(world.holds(1).await && !world.holds(0).await);
    }
}

#[tokio::test]
async fn one_that_is_told_to_end_ends_at_once() {
    let world = World::new(SMALL, 1).await;
    let stalls = |_: &Call| Fault::Stall(Duration::from_secs(1));
    let target =
        FaultyStore::new(Arc::new(world.targets[0].clone()), Arc::new(StoppedClock), stalls);
    let quit = CancellationToken::new();
    quit.cancel();
    let to = Destination {
        store: Arc::new(target),
        key: key("t/object"),
        condition: Condition::IfAbsent,
        quit,
        turns: Turns::default(),
    };
    let store = Arc::new(world.source.clone());
    let origin = Origin { store, key: key("s/object"), size_bytes: SMALL as u64 };
    let means =
        Means { memory: world.memory.clone(), clock: system_clock(), turns: Turns::default() };
    let mut landed = Vec::new();
    transfer(&origin, None, &[to], &means, &mut |_, what| landed.push(what)).await;
    assert!(matches!(landed[..], [Landed::Failed(_)]), "{landed:?}");
}

/// Wants so many bytes, and nothing else.
struct Wanted(usize);

impl Check for Wanted {
    fn take(&mut self, bytes: &[u8]) {
        self.0 = self.0.wrapping_sub(bytes.len());
    }
    fn verdict(&mut self) -> Result<(), String> {
        if self.0 == 0 { Ok(()) } else { Err("not so many".to_owned()) }
    }
}

#[tokio::test]
async fn contents_that_fail_the_check_are_written_nowhere() {
    for size in SIZES {
        for fits in [true, false] {
            let world = World::new(size, 2).await;
            let to: Vec<_> = (0..2)
                .map(|at| Destination {
                    store: Arc::new(world.targets[at].clone()),
                    key: key("t/object"),
                    condition: Condition::IfAbsent,
                    quit: CancellationToken::new(),
                    turns: Turns::default(),
                })
                .collect();
            let store = Arc::new(world.source.clone());
            let origin = Origin { store, key: key("s/object"), size_bytes: size as u64 };
            let means = Means {
                memory: world.memory.clone(),
                clock: system_clock(),
                turns: Turns::default(),
            };
            let check = Box::new(Wanted(if fits { size } else { size + 1 }));
            let mut stored = 0;
            transfer(&origin, Some(check), &to, &means, &mut |_, landed| match landed {
                Landed::Stored(_) => stored += 1,
                Landed::Damaged(what) => assert_eq!(what, "not so many"),
                Landed::Failed(_) | Landed::LeftBehind => panic!("{landed:?}"),
            })
            .await;
            assert_eq!(stored, if fits { 2 } else { 0 }, "{size}");
            assert_eq!((world.holds(0).await, world.holds(1).await), (fits, fits), "{size}");
        }
    }
}

#[tokio::test]
async fn a_source_that_fails_is_told_to_all_and_nothing_is_written() {
    for size in [SMALL, LARGE] {
        for fault in [Fault::Before, Fault::Denied, Fault::After, Fault::BreakOff(1000)] {
            for number in [0, 1, 3] {
                if size == SMALL && number > 0 {
                    continue;
                }
                let world = World::new(size, 2).await;
                let decide = move |call: &Call| match call.number == number {
                    true => fault,
                    false => Fault::None,
                };
                let landed = world.copy(decide, &[Fault::None; 2], system_clock()).await;
                // What describes an object has no body to break off.
                if matches!((size, number, fault), (LARGE, 0, Fault::BreakOff(_))) {
                    assert!(landed.iter().all(|landed| matches!(landed, Landed::Stored(_))));
                    continue;
                }
                for (at, landed) in landed.iter().enumerate() {
                    assert!(matches!(landed, Landed::Failed(_)), "{fault:?} {number} {landed:?}");
                    assert!(!world.holds(at).await, "{fault:?} {number}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_source_that_changes_meanwhile_is_noticed() {
    let changed = |landed: &[Landed]| {
        landed.iter().all(|landed| matches!(landed, Landed::Failed(StoreError::Changed(_))))
    };
    // Truncated on its way, or since it was listed.
    let world = World::new(SMALL, 2).await;
    let landed = world.copy(|_| Fault::EndEarly(10), &[Fault::None; 2], system_clock()).await;
    assert!(changed(&landed), "{landed:?}");
    // Replaced by one of the same size, deleted, or truncated between its parts.
    for number in [1, 2, 3] {
        for what in ["replaced", "deleted", "truncated"] {
            let world = World::new(LARGE, 2).await;
            let source = world.source.clone();
            let meddle = move |call: &Call| {
                if call.number == number {
                    let size = if what == "truncated" { 5 << 20 } else { LARGE };
                    let contents = Contents {
                        size_bytes: size as u64,
                        user_metadata: UserMetadata::new(),
                        ..Contents::of(vec![9; size].into())
                    };
                    let key = key("s/object");
                    let write = async {
                        match what {
                            "deleted" => source.delete(&key).await.unwrap(),
                            _ => {
                                source.write(&key, contents, &Condition::None).await.unwrap();
                            }
                        }
                    };
                    write.now_or_never().expect("memory does not wait");
                }
                Fault::None
            };
            let landed = world.copy(meddle, &[Fault::None; 2], system_clock()).await;
            for (at, landed) in landed.iter().enumerate() {
                assert!(matches!(landed, Landed::Failed(_)), "{what} {number} {landed:?}");
                assert!(!world.holds(at).await);
            }
            if what == "replaced" {
                assert!(changed(&landed), "{landed:?}");
            }
        }
    }
    let mut world = World::new(LARGE, 1).await;
    world.bytes = world.bytes.slice(1..);
    let landed = world.copy(|_| Fault::None, &[Fault::None], system_clock()).await;
    assert!(changed(&landed), "its size is not the listed one: {landed:?}");
}

#[tokio::test]
async fn many_large_objects_share_little_memory() {
    let source = MemoryStore::new();
    let (bytes, _) = large_contents(LARGE);
    for at in 0..6 {
        let (_, contents) = large_contents(LARGE);
        source.write(&key(&format!("s/{at}")), contents, &Condition::None).await.unwrap();
    }
    // Two parts for six objects: nobody may wait for memory while holding what others wait for.
    let memory = Memory::new(16 << 20);
    let targets = [MemoryStore::new(), MemoryStore::new()];
    let copies = (0..6).map(|at| {
        let (source, memory, targets) = (source.clone(), memory.part(2), targets.clone());
        tokio::spawn(async move {
            let key = key(&format!("s/{at}"));
            let to = targets.map(|target| Destination {
                store: Arc::new(target),
                key: key.clone(),
                condition: Condition::IfAbsent,
                quit: CancellationToken::new(),
                turns: Turns::default(),
            });
            let origin = Origin { store: Arc::new(source), key, size_bytes: LARGE as u64 };
            let means =
                Means { memory, clock: Arc::new(SystemClock::new()), turns: Turns::default() };
            let mut stored = 0;
            let mut tell = |_, landed| stored += usize::from(matches!(landed, Landed::Stored(_)));
            transfer(&origin, None, &to, &means, &mut tell).await;
            stored
        })
    });
    for stored in futures_util::future::join_all(copies).await {
        assert_eq!(stored.unwrap(), 2);
    }
    for target in &targets {
        for at in 0..6 {
            let (_, read) = read_all(target, &key(&format!("s/{at}")), 1 << 30).await.unwrap();
            assert!(read == bytes);
        }
    }
}
