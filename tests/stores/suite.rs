//! The promises of a store.

use crate::support::{get, key, large_contents, names, put, write};
use btar::store::{
    BlobStore, Condition, Contents, PutMode, StoreError, UserMetadata, body_of,
    proof::{Crc64, Proof},
    read_all,
};
use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};

/// What differs between stores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    /// Whether objects have user metadata.
    pub(crate) user_metadata: bool,
    /// Whether a condition holds among writers at the same time.
    pub(crate) conditions: bool,
}

impl Traits {
    pub(crate) const ALL: Self = Self { user_metadata: true, conditions: true };
}

/// Asks everything of an empty store, and leaves it empty.
pub(crate) async fn keeps_its_promises(store: &dyn BlobStore, traits: Traits) {
    reads_what_was_written(store).await;
    lists_in_order(store).await;
    keeps_conditions(store, traits).await;
    leaves_nothing_of_failed_writes(store).await;
    keeps_user_metadata(store, traits).await;
    takes_large_objects(store, traits).await;
    empty(store).await;
}

async fn empty(store: &dyn BlobStore) {
    for name in names(store, "", None).await {
        store.delete(&key(&name)).await.unwrap();
    }
    assert!(names(store, "", None).await.is_empty());
}

async fn reads_what_was_written(store: &dyn BlobStore) {
    put(store, "a/b/c", "two", PutMode::IfAbsent).await.unwrap();
    let taken = put(store, "a/b/c", "other", PutMode::IfAbsent).await;
    assert!(matches!(taken, Err(StoreError::AlreadyExists(_))), "{taken:?}");
    assert_eq!(get(store, "a/b/c").await.unwrap(), "two");
    put(store, "a/b/c", "other", PutMode::Replace).await.unwrap();
    assert_eq!(get(store, "a/b/c").await.unwrap(), "other");

    let before = store.head(&key("a/b/c")).await.unwrap();
    assert_eq!((before.size_bytes, before.key.as_str()), (5, "a/b/c"));
    let stored = write(store, "a/b/c", "again", &Condition::None).await.unwrap();
    let after = store.head(&key("a/b/c")).await.unwrap();
    assert_ne!(after.etag, before.etag);
    assert_eq!(stored.etag, after.etag);
    let mut sum = Crc64::new();
    sum.update(b"again");
    assert_eq!((stored.size_bytes, stored.crc64), (5, sum.finish()));
    assert_ne!(stored.proof, Proof::Unproven);

    let ranges = [(0..5, "again"), (1..3, "ga"), (4..5, "n"), (2..2, ""), (5..5, "")];
    for (range, expect) in ranges {
        let (meta, bytes) = store.get_range(&key("a/b/c"), range.clone()).await.unwrap();
        assert_eq!((&bytes[..], &meta), (expect.as_bytes(), &after), "{range:?}");
    }
    for range in [0..6, 4..6, 5..6, 9..12, 9..9] {
        let outside = store.get_range(&key("a/b/c"), range.clone()).await;
        assert!(matches!(outside, Err(StoreError::Refused { .. })), "{range:?} {outside:?}");
    }

    for missing in ["a/none", "none", "a/b", "a/b/c/d"] {
        let missing = key(missing);
        let found = store.get(&missing).await.map(|object| object.meta);
        assert!(matches!(found, Err(StoreError::NotFound(_))), "{missing} {found:?}");
        let found = store.get_range(&missing, 0..1).await;
        assert!(matches!(found, Err(StoreError::NotFound(_))), "{missing} {found:?}");
        let found = store.head(&missing).await;
        assert!(matches!(found, Err(StoreError::NotFound(_))), "{missing} {found:?}");
    }

    put(store, "a/empty", "", PutMode::IfAbsent).await.unwrap();
    assert_eq!(get(store, "a/empty").await.unwrap(), "");
    for name in ["a/b/c", "a/b/c", "a/empty", "a/none"] {
        store.delete(&key(name)).await.unwrap();
        let gone = store.head(&key(name)).await;
        assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
    }
}

async fn lists_in_order(store: &dyn BlobStore) {
    // A directory is walked in another order than its keys have: `-` and `.` come before `/`.
    let keys = [
        "a-b/x",
        "a.txt",
        "a/2026-11-23T08:06:11.1+00:00_x",
        "a/b/c",
        "a/b/d e&<f>\"'%41",
        "a/bc",
        "a/ü/€",
        "a0",
        "b",
    ];
    for name in keys.iter().rev() {
        put(store, name, name, PutMode::IfAbsent).await.unwrap();
    }
    assert_eq!(names(store, "", None).await, keys);
    for at in 0..keys.len() {
        assert_eq!(names(store, "", Some(keys[at])).await, keys[at + 1..], "after {}", keys[at]);
        assert_eq!(get(store, keys[at]).await.unwrap(), keys[at]);
    }
    // Whole parts of the key: a/bc does not lie below a/b, nor a0 below a.
    assert_eq!(names(store, "a", None).await, keys[2..7]);
    assert_eq!(names(store, "a/b", None).await, keys[3..5]);
    assert_eq!(names(store, "a/b", Some("a/b/c")).await, keys[4..5]);
    assert_eq!(names(store, "a", Some("a/b")).await, keys[3..7]);
    assert_eq!(names(store, "a/b", Some("a")).await, keys[3..5]);
    for nothing in ["nowhere", "b", "a/b/c"] {
        assert!(names(store, nothing, None).await.is_empty());
    }
    assert!(names(store, "", Some("zz")).await.is_empty());
    // A listing that nobody reads to its end ends.
    assert_eq!(store.list(&key(""), None).take(2).count().await, 2);
    empty(store).await;
}

async fn keeps_conditions(store: &dyn BlobStore, traits: Traits) {
    let first = write(store, "epoch", "1", &Condition::IfAbsent).await.unwrap();
    let first = Condition::IfMatch(first.etag.unwrap());
    let second = write(store, "epoch", "2", &first).await.unwrap();
    let late = write(store, "epoch", "3", &first).await;
    assert!(matches!(late, Err(StoreError::Changed(_))), "{late:?}");
    assert_eq!(get(store, "epoch").await.unwrap(), "2");
    let second = Condition::IfMatch(second.etag.unwrap());
    let missing = write(store, "no-epoch", "3", &second).await;
    assert!(matches!(missing, Err(StoreError::Changed(_))), "{missing:?}");
    assert!(store.head(&key("no-epoch")).await.is_err());

    if traits.conditions {
        let texts: Vec<_> = (0..12).map(|writer| format!("writer {writer}")).collect();
        for condition in [Condition::IfAbsent, second] {
            let name = if condition == Condition::IfAbsent { "race" } else { "epoch" };
            let racing = texts.iter().map(|text| write(store, name, text, &condition));
            let ended = join_all(racing).await;
            let won: Vec<_> = (0..texts.len()).filter(|at| ended[*at].is_ok()).collect();
            assert_eq!(won.len(), 1, "{condition:?} {ended:?}");
            assert_eq!(get(store, name).await.unwrap(), texts[won[0]]);
            for error in ended.iter().filter_map(|ended| ended.as_ref().err()) {
                let lost = matches!(error, StoreError::AlreadyExists(_) | StoreError::Changed(_));
                assert!(lost, "{error:?}");
            }
        }
    }
    empty(store).await;
}

async fn leaves_nothing_of_failed_writes(store: &dyn BlobStore) {
    let failing = || StoreError::NotFound(key("source"));
    let part = || Ok(Bytes::from_static(b"par"));
    for (pieces, size_bytes) in [
        (vec![part(), Err(failing())], 7),
        (vec![part()], 7),
        (vec![part(), part()], 5),
        (vec![], 1),
        (vec![part()], 0),
    ] {
        let name = key("a/part");
        let (body, user_metadata) = (stream::iter(pieces).boxed(), UserMetadata::new());
        let contents = Contents::new(size_bytes, user_metadata, body);
        let written = store.write(&name, contents, &Condition::IfAbsent).await;
        assert!(written.is_err(), "{written:?}");
        assert!(matches!(store.head(&name).await, Err(StoreError::NotFound(_))));
        assert!(names(store, "", None).await.is_empty());
    }
}

async fn keeps_user_metadata(store: &dyn BlobStore, traits: Traits) {
    let metadata = |pairs: &[(&str, &str)]| -> UserMetadata {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let some = metadata(&[
        ("compression-algorithm", "zstd"),
        ("start-time", "2026-11-23T07:44:50+00:00"),
        ("json", "{\"files\": [1,  2], \"a\": \"b;c, d\"}"),
    ]);
    let name = key("m/object");
    let place = &name;
    let put = |metadata: UserMetadata| async move {
        let body = body_of(Bytes::from_static(b"x"));
        store.put(place, 1, &metadata, body, PutMode::Replace).await
    };
    if !traits.user_metadata {
        let refused = put(some).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
        assert!(store.head(&name).await.is_err());
        return;
    }
    put(some.clone()).await.unwrap();
    assert_eq!(store.get(&name).await.unwrap().user_metadata, some);
    assert_eq!(store.user_metadata(&name).await.unwrap(), some);
    assert_eq!(names(store, "", None).await, ["m/object"]);
    put(UserMetadata::new()).await.unwrap();
    assert!(store.user_metadata(&name).await.unwrap().is_empty());
    store.delete(&name).await.unwrap();
    let gone = store.user_metadata(&name).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
}

async fn takes_large_objects(store: &dyn BlobStore, traits: Traits) {
    let size = (16 << 20) + 4_000_001;
    let contents = || {
        let (bytes, mut contents) = large_contents(size);
        if !traits.user_metadata {
            contents.user_metadata.clear();
        }
        (bytes, contents)
    };
    let name = key("l/large");
    let (bytes, first) = contents();
    let user_metadata = first.user_metadata.clone();
    let stored = store.write(&name, first, &Condition::IfAbsent).await.unwrap();
    assert_ne!(stored.proof, Proof::Unproven);
    let (meta, read) = read_all(store, &name, 1 << 30).await.unwrap();
    assert!(read == bytes, "what was read is not what was written");
    assert_eq!((meta.size_bytes, meta.etag), (size as u64, stored.etag));
    assert_eq!(store.user_metadata(&name).await.unwrap(), user_metadata);
    let (_, middle) = store.get_range(&name, 9_000_000..9_000_100).await.unwrap();
    assert_eq!(middle, bytes[9_000_000..9_000_100]);

    let again = store.write(&name, contents().1, &Condition::IfAbsent).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists(_))), "{again:?}");
    store.write(&name, contents().1, &Condition::None).await.unwrap();

    if traits.conditions {
        loses_to_who_was_faster(store, contents().1).await;
    }

    // One that ends early or fails leaves nothing.
    for (said, cut) in [(size as u64 + 1, None), (size as u64 - 1, None), (size as u64, Some(40))] {
        let (_, mut contents) = contents();
        contents.size_bytes = said;
        if let Some(pieces) = cut {
            let failing = stream::iter([Err(StoreError::NotFound(key("source")))]);
            contents.body = contents.body.take(pieces).chain(failing).boxed();
        }
        let written = store.write(&key("l/broken"), contents, &Condition::IfAbsent).await;
        assert!(written.is_err(), "{written:?}");
        assert_eq!(names(store, "", None).await, ["l/large"]);
    }
    store.delete(&name).await.unwrap();
}

/// The key is free when the write begins, and taken before it ends.
async fn loses_to_who_was_faster(store: &dyn BlobStore, contents: Contents) {
    let name = key("l/race");
    let (begin, begun) = tokio::sync::oneshot::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let nothing = || Ok(Bytes::new());
    let first = stream::once(async move {
        begin.send(()).unwrap();
        nothing()
    });
    let last = stream::once(async move {
        ended.await.unwrap();
        nothing()
    });
    let body = first.chain(contents.body).chain(last).boxed();
    let contents = Contents { body, ..contents };
    let other = async {
        begun.await.unwrap();
        put(store, "l/race", "theirs", PutMode::IfAbsent).await.unwrap();
        end.send(()).unwrap();
    };
    let write = store.write(&name, contents, &Condition::IfAbsent);
    let (written, ()) = futures_util::future::join(write, other).await;
    assert!(matches!(written, Err(StoreError::AlreadyExists(_))), "{written:?}");
    assert_eq!(get(store, "l/race").await.unwrap(), "theirs");
    store.delete(&name).await.unwrap();
}
