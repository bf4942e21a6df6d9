//! Tests of how copies are recorded, read again, repaired and adopted, over stores in memory.

mod world;

use crate::{
    engine::{
        manifest,
        replicate::tests::FULL,
        verify::{Depth, resume::Resume},
    },
    store::{BlobStore, key::Key},
};
use chrono::TimeDelta;
use std::collections::BTreeSet;
use world::{A, HISTORY, WEEK, World, ledger, region, seen};

#[tokio::test]
async fn rot_is_found_in_turn_closes_the_backup_and_is_repaired() {
    let world = World::new().await;
    let engine = world.engine(world.dir.path(), Some(WEEK), false);
    world.copied(&engine).await;
    assert_eq!(seen(&engine).0, Vec::<String>::new());
    // Same size, same tag: only reading tells.
    world.weather.lock().unwrap().rotten.insert(A.to_owned());
    world.prove(&engine).await;
    world.pass(&engine).await;
    assert_eq!(seen(&engine).0, Vec::<String>::new(), "it was proven when it was written");
    world.clock.advance(TimeDelta::days(8));
    // Found while the primary cannot be read.
    world.pair.source.fail_from(Some(0));
    world.prove(&engine).await;
    world.pass(&engine).await;
    let (missing, problems) = seen(&engine);
    assert_eq!(missing, [format!("{A} is damaged")]);
    assert!(problems.contains(&format!("{A} is damaged: ")), "{problems}");
    assert!(problems.contains("cannot be read"), "{problems}");
    drop(engine);
    // A restart does not forget.
    let engine = world.engine(world.dir.path(), Some(WEEK), false);
    world.pass(&engine).await;
    assert_eq!(seen(&engine).0, [format!("{A} is damaged")]);
    world.pair.source.fail_from(None);
    world.clock.advance(TimeDelta::hours(1));
    world.prove(&engine).await;
    world.pass(&engine).await;
    let (missing, problems) = seen(&engine);
    assert_eq!(missing, Vec::<String>::new());
    assert!(!problems.contains("is damaged: its CRC"), "{problems}");
    assert_eq!(world.bytes(A).await, "aaaa");
}

#[tokio::test]
async fn a_primary_that_is_no_better_replaces_nothing() {
    let world = World::new().await;
    let engine = world.engine(world.dir.path(), Some(WEEK), false);
    world.copied(&engine).await;
    world.weather.lock().unwrap().rotten.insert(A.to_owned());
    World::replace(&world.pair.source, &format!("repo/{A}"), "aaab").await;
    world.clock.advance(TimeDelta::days(8));
    for _ in 0..3 {
        world.prove(&engine).await;
        world.pass(&engine).await;
        world.clock.advance(TimeDelta::hours(1));
    }
    let (missing, problems) = seen(&engine);
    assert_eq!(missing, [format!("{A} is damaged")]);
    let text = "the primary region's object is not good either: its CRC-64 is";
    assert!(problems.contains(A) && problems.contains(text), "{problems}");
    assert_eq!(world.bytes(A).await, "aaaa", "nothing was written over it");
}

#[tokio::test]
async fn what_looks_different_is_read_at_the_next_full_scan() {
    let world = World::new().await;
    let engine = world.engine(world.dir.path(), None, false);
    world.copied(&engine).await;
    World::replace(&world.pair.target, &format!("p/s/{A}"), "aaba").await;
    World::replace(&world.pair.target, &format!("p/s/{HISTORY}"), "1\t0/8000000\tx\n").await;
    world.pair.source.fail_from(Some(0));
    world.pass(&engine).await;
    world.prove(&engine).await;
    world.pass(&engine).await;
    let (missing, problems) = seen(&engine);
    assert_eq!(missing, [format!("{A} is damaged")]);
    assert!(problems.contains(HISTORY), "{problems}");
    world.pair.source.fail_from(None);
    world.clock.advance(TimeDelta::hours(1));
    world.prove(&engine).await;
    world.pass(&engine).await;
    assert_eq!(seen(&engine).0, Vec::<String>::new());
    assert_eq!((world.bytes(A).await, world.bytes(HISTORY).await.len()), ("aaaa".into(), 14));
    // Replaced by the same: it is read, found good, and its new tag recorded.
    World::replace(&world.pair.target, &format!("p/s/{A}"), "aaaa").await;
    world.pass(&engine).await;
    world.prove(&engine).await;
    let key = Key::parse(&format!("p/s/{A}")).unwrap();
    let now = world.pair.target.head(&key).await.unwrap().etag;
    assert_eq!(ledger(&engine).recorded(A).unwrap().unwrap().etag, now);
    assert!(ledger(&engine).damaged().is_empty());
}

#[tokio::test]
async fn a_segment_that_rots_is_found_and_repaired() {
    let world = World::new().await;
    let engine = world.engine(world.dir.path(), Some(WEEK), false);
    world.copied(&engine).await;
    let segment = world.pair.target.keys().into_iter().find(|k| k.as_str().contains("000004-"));
    let segment = segment.unwrap().as_str().strip_prefix("p/s/").unwrap().to_owned();
    world.weather.lock().unwrap().rotten.insert(segment.clone());
    world.clock.advance(TimeDelta::days(8));
    world.prove(&engine).await;
    assert!(!world.weather.lock().unwrap().rotten.contains(&segment), "it was written anew");
    assert!(ledger(&engine).damaged().is_empty());
}

#[tokio::test]
async fn an_object_that_cannot_be_read_to_its_end_is_damaged_and_a_store_that_is_away_is_not() {
    let world = World::new().await;
    let engine = world.engine(world.dir.path(), Some(WEEK), false);
    world.copied(&engine).await;
    world.clock.advance(TimeDelta::days(8));
    world.pair.target.fail_from(Some(0));
    world.prove(&engine).await;
    world.pair.target.fail_from(None);
    assert!(ledger(&engine).damaged().is_empty());
    world.weather.lock().unwrap().broken = Some(A.to_owned());
    world.pair.source.fail_from(Some(0));
    world.prove(&engine).await;
    let damage = &ledger(&engine).damaged()[A];
    assert!(damage.what.contains("it cannot be read"), "{damage:?}");
    world.pair.source.fail_from(None);
    world.clock.advance(TimeDelta::hours(1));
    world.prove(&engine).await;
    assert!(ledger(&engine).damaged().is_empty());
    assert_eq!(world.weather.lock().unwrap().broken, None, "it was written anew");
}

#[tokio::test]
async fn killed_before_the_manifests_nothing_is_lost_but_a_reading() {
    let world = World::new().await;
    let engine = world.engine(world.dir.path(), Some(WEEK), false);
    for _ in 0..12 {
        world.pass(&engine).await;
    }
    let prefix = Key::parse("p/s").unwrap();
    let parts = async || {
        let (found, faults) = manifest::find(&world.pair.target, &prefix).await.unwrap();
        assert_eq!(faults, Vec::<String>::new());
        found.into_iter().map(|manifest| manifest.part).collect::<BTreeSet<_>>()
    };
    assert_eq!(parts().await, ["rest".to_owned()].into(), "what is small is written at once");
    drop(engine);
    // With its state, the next engine goes on where this one was.
    let engine = world.engine(world.dir.path(), Some(WEEK), false);
    world.clock.advance(TimeDelta::seconds(120));
    world.pass(&engine).await;
    let backup = format!("backup/{FULL}");
    let log = "log/15-1/0000000100000000".to_owned();
    assert_eq!(parts().await, [backup.clone(), log, "rest".to_owned()].into());
    drop(engine);
    // Without state and without one manifest: the others are read back, and what no record tells of
    // is read once and proven by the primary.
    manifest::remove(&world.pair.target, &prefix, &backup).await.unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let engine = world.engine(fresh.path(), Some(WEEK), false);
    world.pass(&engine).await;
    assert!(ledger(&engine).recorded(HISTORY).unwrap().is_some(), "read back");
    assert_eq!(ledger(&engine).recorded(A).unwrap(), None);
    world.prove(&engine).await;
    let record = ledger(&engine).recorded(A).unwrap().unwrap();
    assert_eq!(record.size_bytes, 4);
    engine.close(&[region()]).await;
    assert!(parts().await.contains(&backup), "an engine that ends writes what is behind");
}

#[tokio::test]
async fn an_engine_that_knows_the_copy_alone_reads_its_records_back() {
    let world = World::new().await;
    let engine = world.engine(world.dir.path(), None, false);
    world.copied(&engine).await;
    let record = ledger(&engine).recorded(A).unwrap().unwrap();
    assert!(record.source_version.is_some(), "what it was copied from is recorded");
    let adopting = tempfile::tempdir().unwrap();
    let engine = world.engine(adopting.path(), Some(WEEK), true);
    // A store that cannot be read at first is asked again, and nothing is written before.
    world.pair.target.fail_from(Some(0));
    world.pass(&engine).await;
    world.pair.target.fail_from(None);
    world.clock.advance(TimeDelta::minutes(1));
    world.pass(&engine).await;
    let found = ledger(&engine).recorded(A).unwrap().unwrap();
    assert_eq!((found.crc64, &found.etag), (record.crc64, &record.etag));
    // It finds damage, and says that it knows no primary.
    world.weather.lock().unwrap().rotten.insert(A.to_owned());
    world.clock.advance(TimeDelta::days(8));
    world.prove(&engine).await;
    world.pass(&engine).await;
    let (missing, problems) = seen(&engine);
    assert_eq!(missing, [format!("{A} is damaged")]);
    assert!(problems.contains("the primary region is not known"), "{problems}");
}

#[tokio::test]
async fn reading_goes_on_where_an_earlier_engine_stopped() {
    let world = World::new().await;
    for number in 0..150 {
        let key = format!("p/s/archive/m/15-1/other-{number:03}");
        World::replace(&world.pair.target, &key, "x").await;
    }
    let engine = world.engine(world.dir.path(), Some(WEEK), true);
    world.pass(&engine).await;
    world.weather.lock().unwrap().reads.clear();
    assert!(engine.prove(&[region()]).await, "there is more");
    drop(engine);
    let read = world.weather.lock().unwrap().reads.len();
    assert!(read < 100, "{read}");
    let engine = world.engine(world.dir.path(), Some(WEEK), true);
    world.pass(&engine).await;
    world.prove(&engine).await;
    let reads = world.weather.lock().unwrap().reads.clone();
    let others: Vec<u32> =
        reads.iter().filter(|(key, _)| key.contains("other-")).map(|(_, count)| *count).collect();
    // Twice: what nothing proves is read once more before that is said.
    assert_eq!(others, [2; 150]);
}

#[tokio::test]
async fn what_is_removed_leaves_its_manifest_first() {
    let world = World::new().await;
    let engine = world.engine(world.dir.path(), None, false);
    world.copied(&engine).await;
    let prefix = Key::parse("p/s").unwrap();
    let keys: Vec<String> = world.pair.target.keys().iter().map(ToString::to_string).collect();
    let below = |part: &str| -> Vec<String> {
        let keys = keys.iter().filter_map(|key| key.strip_prefix("p/s/"));
        keys.filter(|key| key.contains(part)).map(str::to_owned).collect()
    };
    let all = below(FULL);
    ledger(&engine).forget(all.iter().take(1)).await.unwrap();
    let (found, _) = manifest::find(&world.pair.target, &prefix).await.unwrap();
    let backup = found.iter().find(|manifest| manifest.part.contains(FULL)).unwrap();
    assert_eq!(backup.entries.len(), all.len() - 1);
    ledger(&engine).forget(all.iter()).await.unwrap();
    let (found, _) = manifest::find(&world.pair.target, &prefix).await.unwrap();
    assert!(found.iter().all(|manifest| !manifest.part.contains(FULL)));
}

#[tokio::test]
async fn a_verification_compares_with_the_manifests() {
    let world = World::new().await;
    let engine = world.engine(world.dir.path(), None, false);
    world.copied(&engine).await;
    engine.close(&[region()]).await;
    let fast = async || world.verify(Depth::Fast, None).await.unwrap();
    let good = fast().await;
    assert_eq!((good.faults, good.notes), (Vec::<String>::new(), Vec::new()));
    assert!(good.recorded > 5 && good.recorded == good.objects && good.unrecorded == 0);
    // Of the same size: the tag tells that it is another object, and reading tells the rest.
    World::replace(&world.pair.target, &format!("p/s/{HISTORY}"), "1\t0/8000000\tx\n").await;
    let noted = fast().await;
    assert_eq!(noted.faults, Vec::<String>::new());
    assert!(noted.notes[0].contains(HISTORY) && noted.notes[0].contains("has been replaced"));
    let deep = world.verify(Depth::Deep { rate_bytes: None }, None).await.unwrap();
    let damaged = format!("{HISTORY} is damaged: its CRC-64 is");
    assert!(deep.faults.iter().any(|fault| fault.starts_with(&damaged)), "{:?}", deep.faults);
    assert!(!deep.faults.iter().any(|fault| fault.contains("pg_data/a")), "{:?}", deep.faults);
    let history = Key::parse(&format!("p/s/{HISTORY}")).unwrap();
    world.pair.target.delete(&history).await.unwrap();
    let missing = fast().await.faults;
    assert_eq!(missing, [format!("{HISTORY} is missing, and was recorded")]);
    // A manifest that is damaged is itself a fault.
    let manifest = Key::parse(".btar/manifests/p/s/rest.json").unwrap();
    World::replace(&world.pair.target, manifest.as_str(), "{}").await;
    let fault = fast().await.faults.remove(0);
    assert!(fault.contains("rest.json") && fault.contains("cannot be read"), "{fault}");
}

#[tokio::test]
async fn an_interrupted_verification_goes_on() {
    let world = World::new().await;
    let engine = world.engine(world.dir.path(), None, false);
    world.copied(&engine).await;
    engine.close(&[region()]).await;
    let dir = tempfile::tempdir().unwrap();
    let deep = Depth::Deep { rate_bytes: None };
    // The last of the recorded objects cannot be read.
    world.weather.lock().unwrap().broken = Some("backup/m/backup.info.copy".to_owned());
    world.weather.lock().unwrap().reads.clear();
    {
        let resume = Resume::open(dir.path()).unwrap();
        world.verify(deep, Some(&resume)).await.unwrap_err();
    }
    assert_eq!(world.weather.lock().unwrap().reads[A], 1);
    world.weather.lock().unwrap().broken = None;
    let resume = Resume::open(dir.path()).unwrap();
    let report = world.verify(deep, Some(&resume)).await.unwrap();
    assert_eq!(world.weather.lock().unwrap().reads[A], 1, "it was proven before");
    assert!(report.proven_bytes > 0);
    // What has changed since is read again.
    World::replace(&world.pair.target, &format!("p/s/{A}"), "aaaa").await;
    world.verify(deep, Some(&resume)).await.unwrap();
    assert_eq!(world.weather.lock().unwrap().reads[A], 2);
    resume.end().unwrap();
    let resume = Resume::open(dir.path()).unwrap();
    world.verify(deep, Some(&resume)).await.unwrap();
    assert_eq!(world.weather.lock().unwrap().reads[A], 3, "the next one begins anew");
}
