//! What retention removes from a copy of a site, and that it may die on the way.

use super::world::{
    BACKUPS, FIRST, LOG, engine, expired, objects, observe, of_the_first, passes, put, removed,
    retention, same,
};
use crate::{
    engine::config::{Hold, RetentionSettings},
    store::{
        BlobStore,
        memory::MemoryStore,
        wrap::{
            faulty::{Call, Fault, FaultyStore},
            metrics::Operation,
        },
    },
    sys::clock::SystemClock,
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

#[tokio::test]
async fn a_base_backup_goes_with_what_only_it_needs_when_its_index_is_gone_and_its_time_is_over() {
    let (source, target) = expired().await;
    let mut expect = of_the_first();
    expect.remove(&format!("orders/xlog/{}", LOG[0].0)); // Never copied.
    assert_eq!(removed(&source, &target, retention(), false).await, expect);

    let none = BTreeSet::new();
    assert_eq!(removed(&source, &target, retention(), true).await, none, "a fork is made");
    let later = RetentionSettings { keep_expired_for: Duration::from_secs(60), ..retention() };
    assert_eq!(removed(&source, &target, later, false).await, none);
    let more = RetentionSettings { keep_restorable: 3, ..retention() };
    assert_eq!(removed(&source, &target, more, false).await, none);
    let hold = vec![Hold { label: FIRST.to_owned(), until: None }];
    let held = RetentionSettings { hold, ..retention() };
    assert_eq!(removed(&source, &target, held, false).await, none);
    let share = RetentionSettings {
        remove_percent_max: 20,
        confirm_after: Duration::from_secs(60),
        ..retention()
    };
    assert_eq!(removed(&source, &target, share, false).await, none);

    // What the primary still has stays for as long as it has it, and is not copied to and fro.
    let chunk = format!("orders/basebackup_delta_chunk/{FIRST}/{FIRST}.00000001.pghoard");
    put(&source, &chunk, "chunk", json!({"original-file-size": "5"})).await;
    let but_it = expect.iter().filter(|key| **key != chunk).cloned().collect();
    assert_eq!(removed(&source, &target, retention(), false).await, but_it);
}

#[tokio::test]
async fn an_index_that_cannot_be_read_keeps_shared_files_and_log() {
    let (source, target) = expired().await;
    let index = format!("orders/basebackup/{}.00000000.pghoard", BACKUPS[2].0);
    for store in [&source, &target] {
        put(store, &index, "no tar file", json!({"format": "pghoard-delta-v2"})).await;
    }
    let one = RetentionSettings { keep_restorable: 1, ..retention() };
    let gone = removed(&source, &target, one, false).await;
    let kinds: BTreeSet<&str> = gone.iter().map(|key| key.split('/').nth(1).unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["basebackup", "basebackup_delta_chunk"]));
}

#[tokio::test]
async fn an_emptied_primary_removes_nothing() {
    let (source, target) = expired().await;
    for key in source.keys() {
        source.delete(&key).await.unwrap();
    }
    assert_eq!(removed(&source, &target, retention(), false).await, BTreeSet::new());
}

/// The engine dies at a call that changes the copy, which was done or not.
async fn killed_at(
    (source, target): (&MemoryStore, &MemoryStore),
    calls: i64,
    fault: Fault,
) -> bool {
    let copy = same(target).await;
    let (dead, left) = (Arc::new(AtomicBool::new(false)), AtomicI64::new(calls));
    let died = dead.clone();
    let decide = move |call: &Call| {
        if dead.load(Ordering::SeqCst) {
            return Fault::Before;
        }
        let changes = matches!(call.operation, Operation::Write | Operation::Delete);
        if changes && left.fetch_sub(1, Ordering::SeqCst) == 0 {
            dead.store(true, Ordering::SeqCst);
            return fault;
        }
        Fault::None
    };
    let faulty = FaultyStore::new(Arc::new(copy.clone()), Arc::new(SystemClock::new()), decide);
    let dir = tempfile::tempdir().unwrap();
    let dying = engine(source, Arc::new(faulty), dir.path(), Some(retention()), false);
    passes(&dying, 3).await;
    drop(dying);
    let when = format!("died at change {calls}, {fault:?}");
    let seen = observe(&copy).await;
    assert_eq!(seen.catalog.problems, Vec::<String>::new(), "{when}");
    assert!(seen.catalog.backups.len() >= 2, "{when}");
    for backup in &seen.catalog.backups {
        assert!(backup.missing.is_empty() && backup.range.is_some(), "{when}: {backup:?}");
    }
    let next = engine(source, Arc::new(copy.clone()), dir.path(), Some(retention()), false);
    passes(&next, 4).await;
    let mut expect = objects(source);
    expect.retain(|key| *key != format!("orders/xlog/{}", LOG[0].0));
    assert_eq!(objects(&copy), expect, "{when}");
    died.load(Ordering::SeqCst)
}

#[tokio::test]
async fn killed_at_every_removal_what_is_published_stays_restorable() {
    let (source, target) = expired().await;
    for fault in [Fault::Before, Fault::After] {
        let mut calls = 0;
        while killed_at((&source, &target), calls, fault).await {
            calls += 1;
        }
        assert!(calls >= 6, "{calls} changes were made");
    }
}
