//! Stores around stores.

use crate::{
    suite::{Traits, keeps_its_promises},
    support::{QuickClock, get, key, large_contents, names, write},
};
use btar::{
    store::{
        BlobStore, Condition, StoreError,
        memory::MemoryStore,
        read_all,
        wrap::{
            bandwidth::{Bandwidth, SlowedStore},
            faulty::{Call, Fault, FaultyStore},
            limit::Memory,
            metrics::{Meter, MeteredStore, Operation},
            retry::{RetryPolicy, RetryingStore},
        },
    },
    sys::clock::Clock,
};
use futures_util::{StreamExt, TryStreamExt};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

const REPLAY: Option<u64> = Some(32 << 20);

/// A store in memory behind faults, and what tries again around it.
fn faulty(
    decide: impl Fn(&Call) -> Fault + Send + Sync + 'static,
) -> (FaultyStore, RetryingStore, Arc<QuickClock>) {
    let clock = Arc::new(QuickClock::default());
    let faulty = FaultyStore::new(Arc::new(MemoryStore::new()), clock.clone(), decide);
    let policy = RetryPolicy::default();
    let store = RetryingStore::new(Arc::new(faulty.clone()), clock.clone(), policy, REPLAY);
    (faulty, store, clock)
}

#[tokio::test]
async fn all_around_one_store_keep_its_promises() {
    let clock: Arc<dyn Clock> = Arc::new(QuickClock::default());
    let line = Bandwidth::new(1 << 20, clock.clone());
    let slowed = Arc::new(SlowedStore::new(Arc::new(MemoryStore::new()), line));
    let metered = Arc::new(MeteredStore::new(slowed, Arc::new(Counts::default()), clock.clone()));
    let store = RetryingStore::new(metered, clock, RetryPolicy::default(), REPLAY);
    keeps_its_promises(&store, Traits::ALL).await;
}

#[tokio::test]
async fn with_faults_at_every_other_call_promises_are_kept() {
    for shift in 0..2 {
        let (faulty, store, _) = faulty(move |call| match (call.number + shift) % 8 {
            0 => Fault::Before,
            2 => Fault::After,
            4 => Fault::BreakOff(2),
            6 if call.operation == Operation::Get => Fault::EndEarly(1),
            _ => Fault::None,
        });
        keeps_its_promises(&store, Traits::ALL).await;
        assert!(faulty.calls() > 100);
    }
}

#[tokio::test]
async fn tries_have_a_limit_and_pauses_that_grow() {
    let (faulty, store, clock) = faulty(|_| Fault::Before);
    let failed = store.head(&key("a")).await;
    assert!(matches!(failed, Err(StoreError::Unavailable { .. })), "{failed:?}");
    let policy = RetryPolicy::default();
    assert_eq!(faulty.calls(), u64::from(policy.tries_max));
    let most = policy.pause * (1 + 2 + 4 + 8);
    assert!(clock.slept() > Duration::ZERO && clock.slept() <= most, "{:?}", clock.slept());

    let slow = RetryPolicy { deadline: Duration::from_secs(1), tries_max: 1000, ..policy };
    let (inner, clock) = (Arc::new(faulty.clone()), Arc::new(QuickClock::default()));
    let store = RetryingStore::new(inner, clock.clone(), slow, None);
    assert!(store.head(&key("a")).await.is_err());
    assert!(clock.slept() < Duration::from_secs(1) + policy.pause_max, "{:?}", clock.slept());
}

#[tokio::test]
async fn what_lasts_is_not_tried_again() {
    let (faulty, store, clock) = faulty(|_| Fault::None);
    assert!(matches!(store.head(&key("a")).await, Err(StoreError::NotFound(_))));
    write(&store, "a", "x", &Condition::IfAbsent).await.unwrap();
    let taken = write(&store, "a", "x", &Condition::IfAbsent).await;
    assert!(matches!(taken, Err(StoreError::AlreadyExists(_))), "{taken:?}");
    assert_eq!((faulty.calls(), clock.slept()), (3, Duration::ZERO));
}

#[tokio::test]
async fn a_write_with_an_unknown_outcome_is_read_back() {
    let (_, store, _) = faulty(|call| match (call.operation, call.number) {
        (Operation::Write, 0) => Fault::After,
        _ => Fault::None,
    });
    let stored = write(&store, "a", "mine", &Condition::IfAbsent).await.unwrap();
    assert_eq!(stored.etag, store.head(&key("a")).await.unwrap().etag);
    // What failed before it was done meets an object of somebody else.
    let (faulty, store, _) = faulty(|call| match (call.operation, call.number) {
        (Operation::Write, 1) => Fault::Before,
        _ => Fault::None,
    });
    write(&faulty, "a", "theirs", &Condition::IfAbsent).await.unwrap();
    let taken = write(&store, "a", "mine", &Condition::IfAbsent).await;
    assert!(matches!(taken, Err(StoreError::AlreadyExists(_))), "{taken:?}");
    assert_eq!(get(&store, "a").await.unwrap(), "theirs");
}

#[tokio::test]
async fn a_wrong_bit_is_read_as_it_is() {
    // No wrapper hides damage: proofs are the caller's, who knows what the object should be.
    let (_, store, _) = faulty(|call| match call.operation == Operation::Get {
        true => Fault::Flip(1),
        false => Fault::None,
    });
    write(&store, "a", "abc", &Condition::None).await.unwrap();
    assert_eq!(get(&store, "a").await.unwrap(), "acc");
}

#[tokio::test]
async fn a_listing_goes_on_behind_the_last_key() {
    let (_, store, _) = faulty(|call| match call.operation == Operation::List {
        true => Fault::BreakOff(3),
        false => Fault::None,
    });
    let expect: Vec<_> = (10..30).map(|at| format!("k/{at}")).collect();
    for name in &expect {
        write(&store, name, "x", &Condition::None).await.unwrap();
    }
    // The last look gives nothing and fails: only then do failures count.
    let listed = store.list(&key("k"), None);
    let listed: Vec<_> =
        listed.map_ok(|meta| meta.key.to_string()).take(20).try_collect().await.unwrap();
    assert_eq!(listed, expect);
    let whole: Result<Vec<_>, _> = store.list(&key("k"), None).try_collect().await;
    assert!(whole.is_err(), "the end was never seen");
}

#[tokio::test]
async fn memory_is_shared_and_given_back() {
    let memory = Memory::new(10 << 10);
    let first = memory.take(6 << 10).await;
    assert_eq!(memory.free_bytes(), 4 << 10);
    let waiting = tokio::spawn({
        let memory = memory.clone();
        async move { memory.take(6 << 10).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(first);
    drop(waiting.await.unwrap());
    // A part leaves the rest to others.
    let part = memory.part(2);
    let taken = part.take(1 << 40).await;
    assert_eq!((part.free_bytes(), memory.free_bytes()), (0, 5 << 10));
    drop(taken);
    // More than there is takes all of it, and does not wait for ever.
    drop(memory.take(1 << 40).await);
    assert_eq!(memory.free_bytes(), 10 << 10);
}

#[tokio::test]
async fn bytes_take_their_time() {
    let clock = Arc::new(QuickClock::default());
    let line = Bandwidth::new(1 << 20, clock.clone());
    let store = SlowedStore::new(Arc::new(MemoryStore::new()), line);
    let (_, contents) = large_contents(4 << 20);
    store.write(&key("a"), contents, &Condition::None).await.unwrap();
    read_all(&store, &key("a"), 1 << 30).await.unwrap();
    let slept = clock.slept();
    // All pieces but the last have been waited for: 4 MiB in pieces, then 4 MiB in one.
    assert!((3.5..4.1).contains(&slept.as_secs_f64()), "{slept:?}");
}

#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<(Operation, bool), (u64, u64)>>);

impl Meter for Counts {
    fn called(&self, _: &str, operation: Operation, _: Duration, error: Option<&StoreError>) {
        self.0.lock().unwrap().entry((operation, error.is_some())).or_default().0 += 1;
    }

    fn moved(&self, _: &str, operation: Operation, bytes: u64) {
        self.0.lock().unwrap().entry((operation, false)).or_default().1 += bytes;
    }
}

#[tokio::test]
async fn a_meter_sees_calls_bytes_and_errors() {
    let (clock, counts) = (Arc::new(QuickClock::default()), Arc::new(Counts::default()));
    let store = MeteredStore::new(Arc::new(MemoryStore::new()), counts.clone(), clock);
    write(&store, "a", "abc", &Condition::None).await.unwrap();
    get(&store, "a").await.unwrap();
    store.get_range(&key("a"), 0..2).await.unwrap();
    names(&store, "", None).await;
    assert!(store.head(&key("b")).await.is_err());
    store.delete(&key("a")).await.unwrap();
    let seen = counts.0.lock().unwrap().clone();
    let expect = [
        ((Operation::List, false), (1, 0)),
        ((Operation::Head, true), (1, 0)),
        ((Operation::Get, false), (1, 3)),
        ((Operation::GetRange, false), (1, 2)),
        ((Operation::Write, false), (1, 3)),
        ((Operation::Delete, false), (1, 0)),
    ];
    assert_eq!(seen, BTreeMap::from(expect));
}
