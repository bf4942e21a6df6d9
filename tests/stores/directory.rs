//! A directory as a store.

use crate::{
    suite::{Traits, keeps_its_promises},
    support::{get, key, names, put, write},
};
use btar::store::{
    BlobStore, Condition, Contents, PutMode, StoreError, UserMetadata,
    local::{LocalStore, Sidecars},
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::{fs, os::unix::fs::symlink};

const PLAIN: Traits = Traits { user_metadata: false, ..Traits::ALL };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_promises() {
    let dir = tempfile::tempdir().unwrap();
    keeps_its_promises(&LocalStore::new(dir.path().to_owned()), PLAIN).await;
    let staged: Vec<_> = fs::read_dir(dir.path().join(".btar-staging")).unwrap().collect();
    assert_eq!(staged.len(), 1, "nothing but the lock is left: {staged:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_promises_with_sidecars() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::with_sidecars(dir.path().to_owned(), Sidecars::Json);
    keeps_its_promises(&store, Traits::ALL).await;
}

#[tokio::test]
async fn one_that_is_gone_is_an_error_and_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path().join("gone"));
    let listed: Result<Vec<_>, _> = store.list(&key(""), None).try_collect().await;
    let error = listed.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    let put = put(&store, "a", "b", PutMode::IfAbsent).await;
    assert!(matches!(put, Err(StoreError::Unavailable { .. })), "{put:?}");
    assert!(!dir.path().join("gone").exists(), "a store that is gone is not made anew");
}

#[tokio::test]
async fn one_that_is_emptied_while_it_is_open_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path().join("store"));
    for _ in 0..2 {
        fs::create_dir(dir.path().join("store")).unwrap();
        put(&store, "a/b", "x", PutMode::IfAbsent).await.unwrap();
        fs::remove_dir_all(dir.path().join("store")).unwrap();
    }
}

#[tokio::test]
async fn links_are_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path().to_owned());
    put(&store, "backup/one/manifest", "x", PutMode::IfAbsent).await.unwrap();
    symlink("one", dir.path().join("backup/latest")).unwrap();
    assert_eq!(names(&store, "", None).await, ["backup/one/manifest"]);
}

#[tokio::test]
async fn a_key_below_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path().to_owned());
    put(&store, "a", "x", PutMode::IfAbsent).await.unwrap();
    let below = put(&store, "a/b", "x", PutMode::IfAbsent).await;
    assert!(matches!(below, Err(StoreError::Refused { .. })), "{below:?}");
    assert_eq!(get(&store, "a").await.unwrap(), "x");
}

#[tokio::test]
async fn sidecars_are_what_pghoard_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::with_sidecars(dir.path().to_owned(), Sidecars::Json);
    let segment = dir.path().join("xlog/000000010000000000000013");
    fs::create_dir(dir.path().join("xlog")).unwrap();
    fs::write(&segment, "wal").unwrap();
    let text = r#"{"pg-version": "150018", "Content-Length": 3, "_hash": "55e7"}"#;
    fs::write(segment.with_extension("metadata"), text).unwrap();
    fs::write(segment.with_extension("metadata_tmp"), "{").unwrap();
    let name = "xlog/000000010000000000000013";
    assert_eq!(names(&store, "", None).await, [name]);
    let metadata = store.user_metadata(&key(name)).await.unwrap();
    let expect = [("Content-Length", "3"), ("_hash", "55e7"), ("pg-version", "150018")];
    assert_eq!(metadata, expect.map(|(n, v)| (n.to_owned(), v.to_owned())).into());

    // Copied, they are the same to a reader, and hidden only from who asked for it.
    let copy = tempfile::tempdir().unwrap();
    let target = LocalStore::with_sidecars(copy.path().to_owned(), Sidecars::Json);
    let object = store.get(&key(name)).await.unwrap();
    let (size, mode) = (object.meta.size_bytes, PutMode::IfAbsent);
    target.put(&key(name), size, &object.user_metadata, object.body, mode).await.unwrap();
    assert_eq!(target.user_metadata(&key(name)).await.unwrap(), metadata);
    let plain = LocalStore::new(copy.path().to_owned());
    assert_eq!(names(&plain, "", None).await, [name.to_owned(), format!("{name}.metadata")]);
    assert!(plain.user_metadata(&key(name)).await.unwrap().is_empty());

    let refused = put(&target, "xlog/x.metadata", "x", PutMode::IfAbsent).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    fs::write(copy.path().join(format!("{name}.metadata")), "{").unwrap();
    let damaged = target.user_metadata(&key(name)).await;
    assert!(matches!(damaged, Err(StoreError::Unavailable { .. })), "{damaged:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_compares_and_replaces_never_loses_an_update() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path().to_owned());
    write(&store, "n", "0", &Condition::IfAbsent).await.unwrap();
    let mut adding = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        adding.spawn(async move {
            let mut done = 0;
            while done < 10 {
                let etag = store.head(&key("n")).await.unwrap().etag.unwrap();
                let next = get(&store, "n").await.unwrap().parse::<u32>().unwrap() + 1;
                let condition = Condition::IfMatch(etag);
                match write(&store, "n", &next.to_string(), &condition).await {
                    Ok(_) => done += 1,
                    Err(StoreError::Changed(_)) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
    }
    adding.join_all().await;
    assert_eq!(get(&store, "n").await.unwrap(), "80");
}

#[tokio::test]
async fn what_a_dead_process_left_is_cleared_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let staging = dir.path().join(".btar-staging");
    fs::create_dir(&staging).unwrap();
    for (name, hours) in [("old", 25), ("new", 23)] {
        let file = fs::File::create(staging.join(name)).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified - std::time::Duration::from_secs(hours * 3600)).unwrap();
    }
    let contents = Contents { user_metadata: UserMetadata::new(), ..Contents::of(Bytes::new()) };
    let store = LocalStore::new(dir.path().to_owned());
    store.write(&key("a"), contents, &Condition::None).await.unwrap();
    assert!(!staging.join("old").exists() && staging.join("new").exists());
}
