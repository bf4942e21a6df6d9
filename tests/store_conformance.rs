//! What every store promises, asked of each of them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use btar::store::{
    BlobStore, PutMode, StoreError, body_of, key::Key, local::LocalStore, memory::MemoryStore,
    read_all,
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;

async fn put(
    store: &dyn BlobStore,
    key: &str,
    text: &str,
    mode: PutMode,
) -> Result<(), StoreError> {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let size = bytes.len() as u64;
    store.put(&Key::parse(key).unwrap(), size, &BTreeMap::new(), body_of(bytes), mode).await
}

async fn get(store: &dyn BlobStore, key: &str) -> Result<String, StoreError> {
    let (_, bytes) = read_all(store, &Key::parse(key).unwrap(), 1 << 20).await?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

async fn names(store: &dyn BlobStore, prefix: &str, after: Option<&str>) -> Vec<String> {
    let after = after.map(|key| Key::parse(key).unwrap());
    let listed = store.list(&Key::parse(prefix).unwrap(), after.as_ref());
    listed.map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
}

async fn keeps_its_promises(store: &dyn BlobStore) {
    put(store, "a/b/2026-11-23T08:06:11.1+00:00_x", "one", PutMode::IfAbsent).await.unwrap();
    put(store, "a/b/c", "two", PutMode::IfAbsent).await.unwrap();
    put(store, "a/bc", "three", PutMode::IfAbsent).await.unwrap();

    let taken = put(store, "a/b/c", "other", PutMode::IfAbsent).await;
    assert!(matches!(taken, Err(StoreError::AlreadyExists(_))), "{taken:?}");
    assert_eq!(get(store, "a/b/c").await.unwrap(), "two");
    put(store, "a/b/c", "other", PutMode::Replace).await.unwrap();
    assert_eq!(get(store, "a/b/c").await.unwrap(), "other");

    // Whole parts of the key: a/bc does not lie below a/b.
    let below = ["a/b/2026-11-23T08:06:11.1+00:00_x", "a/b/c"];
    assert_eq!(names(store, "a/b", None).await, below);
    assert_eq!(names(store, "a/b", Some(below[0])).await, below[1..]);
    assert_eq!(names(store, "", None).await.len(), 3);
    assert!(names(store, "nowhere", None).await.is_empty());

    let before = store.head(&Key::parse("a/b/c").unwrap()).await.unwrap();
    assert_eq!(before.size_bytes, 5);
    put(store, "a/b/c", "again", PutMode::Replace).await.unwrap();
    assert_ne!(store.head(&Key::parse("a/b/c").unwrap()).await.unwrap().etag, before.etag);

    let missing = get(store, "a/none").await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))), "{missing:?}");
    let missing = store.head(&Key::parse("a/b").unwrap()).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))), "{missing:?}");

    // What fails or ends early leaves nothing behind.
    for pieces in [
        vec![Ok(Bytes::from_static(b"par")), Err(StoreError::NotFound(Key::default()))],
        vec![Ok(Bytes::from_static(b"par"))],
    ] {
        let key = Key::parse("a/part").unwrap();
        let body = stream::iter(pieces).boxed();
        assert!(store.put(&key, 7, &BTreeMap::new(), body, PutMode::IfAbsent).await.is_err());
        assert!(matches!(store.head(&key).await, Err(StoreError::NotFound(_))));
        assert_eq!(names(store, "", None).await.len(), 3);
    }

    let key = Key::parse("a/b/c").unwrap();
    store.delete(&key).await.unwrap();
    store.delete(&key).await.unwrap();
    assert!(matches!(store.head(&key).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn a_directory_does() {
    let dir = tempfile::tempdir().unwrap();
    keeps_its_promises(&LocalStore::new(dir.path().to_owned())).await;
}

#[tokio::test]
async fn memory_does() {
    keeps_its_promises(&MemoryStore::new()).await;
}

#[tokio::test]
async fn a_directory_that_is_gone_is_an_error_and_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path().join("gone"));
    let listed: Result<Vec<_>, _> = store.list(&Key::default(), None).try_collect().await;
    let error = listed.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    let put = put(&store, "a", "b", PutMode::IfAbsent).await;
    assert!(matches!(put, Err(StoreError::Unavailable { .. })), "{put:?}");
    assert!(!dir.path().join("gone").exists(), "a store that is gone is not made anew");
}

#[tokio::test]
async fn links_in_a_directory_are_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path().to_owned());
    put(&store, "backup/one/manifest", "x", PutMode::IfAbsent).await.unwrap();
    std::os::unix::fs::symlink("one", dir.path().join("backup/latest")).unwrap();
    assert_eq!(names(&store, "", None).await, ["backup/one/manifest"]);
}
