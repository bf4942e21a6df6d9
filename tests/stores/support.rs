//! Short ways to do with a store what the tests do all the time.

use btar::{
    store::{
        BlobStore, Body, Condition, Contents, PutMode, StoreError, Stored, UserMetadata, body_of,
        config::StoreOptions, key::Key, open::open, read_all,
    },
    sys::clock::{Clock, SystemClock},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

pub(crate) async fn put(
    store: &dyn BlobStore,
    name: &str,
    text: &str,
    mode: PutMode,
) -> Result<(), StoreError> {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let size = bytes.len() as u64;
    store.put(&key(name), size, &UserMetadata::new(), body_of(bytes), mode).await
}

pub(crate) async fn write(
    store: &dyn BlobStore,
    name: &str,
    text: &str,
    condition: &Condition,
) -> Result<Stored, StoreError> {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    store.write(&key(name), Contents::of(bytes), condition).await
}

pub(crate) async fn get(store: &dyn BlobStore, name: &str) -> Result<String, StoreError> {
    let (_, bytes) = read_all(store, &key(name), 1 << 30).await?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

pub(crate) async fn names(store: &dyn BlobStore, prefix: &str, after: Option<&str>) -> Vec<String> {
    let after = after.map(key);
    let listed = store.list(&key(prefix), after.as_ref());
    listed.map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
}

/// Contents of which every 64 KiB differ, in pieces that fit no part.
pub(crate) fn large(size_bytes: usize) -> (Bytes, Body) {
    let mut bytes = Vec::with_capacity(size_bytes + (1 << 16));
    for block in 0u32.. {
        if bytes.len() >= size_bytes {
            break;
        }
        bytes.extend_from_slice(&block.to_le_bytes());
        bytes.resize(bytes.len() + (1 << 16) - 4, u8::try_from(block % 251).unwrap());
    }
    bytes.truncate(size_bytes);
    let bytes = Bytes::from(bytes);
    let pieces: Vec<_> = bytes.chunks(300_007).map(Bytes::copy_from_slice).map(Ok).collect();
    (bytes, stream::iter(pieces).boxed())
}

pub(crate) fn large_contents(size_bytes: usize) -> (Bytes, Contents) {
    let (bytes, body) = large(size_bytes);
    let user_metadata = UserMetadata::from([("kind".to_owned(), "large".to_owned())]);
    (bytes, Contents::new(size_bytes as u64, user_metadata, body))
}

pub(crate) fn options(toml: &str) -> StoreOptions {
    toml::from_str(toml).unwrap()
}

/// Opens a store as the engine does; `environment` are pairs of names and values.
pub(crate) fn open_with(
    address: &str,
    toml: &str,
    environment: &[(&str, &str)],
) -> Arc<dyn BlobStore> {
    let find = |name: &str| {
        environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    };
    open(address, &options(toml), Arc::new(QuickClock::default()), &find).unwrap()
}

/// A clock whose sleeps take no time but move it forward.
#[derive(Debug, Default)]
pub(crate) struct QuickClock {
    slept: Mutex<Duration>,
}

impl QuickClock {
    pub(crate) fn slept(&self) -> Duration {
        *self.slept.lock().unwrap()
    }
}

impl Clock for QuickClock {
    fn now(&self) -> DateTime<Utc> {
        SystemClock::new().now()
    }

    fn monotonic(&self) -> Duration {
        self.slept()
    }

    fn sleep(&self, period: Duration) -> BoxFuture<'static, ()> {
        *self.slept.lock().unwrap() += period;
        tokio::task::yield_now().boxed()
    }
}
