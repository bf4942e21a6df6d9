//! A store that tries again what failed for a moment.
//!
//! An error of a write says that its outcome is *unknown*, not that nothing was written. So when a
//! later try finds the key taken or the object changed, the object is read and compared: if it is
//! ours, the write has succeeded.

use crate::{
    store::{
        BlobStore, Body, Condition, Contents, Object, ObjectMeta, StoreError, Stored, UserMetadata,
        key::Key,
        pool::Pieces,
        proof::{Crc64, Proof, holds},
    },
    sys::clock::Clock,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use std::{future::Future, ops::Range, path::PathBuf, sync::Arc, time::Duration};

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first one included.
    pub tries_max: u32,
    /// Longest pause before the second try. It doubles with each try.
    pub pause: Duration,
    /// Longest pause ever.
    pub pause_max: Duration,
    /// No try begins later than this after the first.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries_max: 5,
            pause: Duration::from_millis(200),
            pause_max: Duration::from_secs(10),
            deadline: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// Calls `call` until it succeeds, fails for good, or the limits are reached. `call` gets the
    /// number of failures before it.
    ///
    /// # Errors
    /// The last error of `call`.
    pub async fn run<T, F>(
        &self,
        clock: &dyn Clock,
        mut call: impl FnMut(u32) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut waited = self.begin(clock);
        loop {
            match call(waited.failures).await {
                Ok(done) => return Ok(done),
                Err(error) if waited.again(clock, &error).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins to count failures.
    #[must_use]
    pub fn begin(&self, clock: &dyn Clock) -> Retries {
        Retries { policy: *self, failures: 0, begun: clock.monotonic() }
    }

    /// Whether one more try may follow so many failures after so long.
    pub(crate) fn allows(&self, failures: u32, elapsed: Duration) -> bool {
        failures < self.tries_max && elapsed < self.deadline
    }

    /// A pause between nothing and the longest, so that many who failed together do not come back
    /// together.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let doubled = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.pause_max).mul_f64(rand::random::<f64>())
    }
}

/// Failures of one piece of work.
#[derive(Debug)]
pub struct Retries {
    policy: RetryPolicy,
    failures: u32,
    begun: Duration,
}

impl Retries {
    /// Whether to try again; if so, the pause has passed.
    pub async fn again(&mut self, clock: &dyn Clock, error: &StoreError) -> bool {
        if !error.is_transient() {
            return false;
        }
        self.failures += 1;
        let elapsed = clock.monotonic().saturating_sub(self.begun);
        if !self.policy.allows(self.failures, elapsed) {
            return false;
        }
        tracing::debug!(failures = self.failures, error = chain(error), "a store call is repeated");
        clock.sleep(self.policy.pause(self.failures)).await;
        true
    }

    /// Begins anew after progress.
    fn progress(&mut self, clock: &dyn Clock) {
        (self.failures, self.begun) = (0, clock.monotonic());
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// A store that tries again. Clones share it.
#[derive(Clone, Debug)]
pub struct RetryingStore {
    inner: Arc<dyn BlobStore>,
    clock: Arc<dyn Clock>,
    policy: RetryPolicy,
    replay_bytes_max: Option<u64>,
}

/// What is read at once when a body is resumed, in bytes.
const RESUMED_BYTES: u64 = 8 << 20;

impl RetryingStore {
    /// Tries again as `policy` says. Bodies of at most `replay_bytes_max` bytes are kept in memory
    /// while they are written, so that their writes can be tried again; larger ones get one try,
    /// and with `None` all do.
    #[must_use]
    pub fn new(
        inner: Arc<dyn BlobStore>,
        clock: Arc<dyn Clock>,
        policy: RetryPolicy,
        replay_bytes_max: Option<u64>,
    ) -> Self {
        Self { inner, clock, policy, replay_bytes_max }
    }

    /// One piece of a body that broke off, of the same object.
    async fn resume(&self, meta: &ObjectMeta, from: u64) -> Result<Bytes, StoreError> {
        let to = meta.size_bytes.min(from + RESUMED_BYTES);
        let read = |_| self.inner.get_range(&meta.key, from..to);
        let (now, bytes) = self.policy.run(&*self.clock, read).await?;
        if now.etag != meta.etag || now.size_bytes != meta.size_bytes {
            return Err(StoreError::Changed(meta.key.clone()));
        }
        Ok(bytes)
    }

    /// A body that goes on where it broke off.
    fn resumed(self, meta: ObjectMeta, body: Body) -> Body {
        let state = (self, meta, Some(body), 0u64);
        stream::try_unfold(state, |(store, meta, mut body, read)| async move {
            if let Some(open) = &mut body {
                match open.try_next().await {
                    Ok(Some(piece)) => {
                        let read = read + piece.len() as u64;
                        return Ok(Some((piece, (store, meta, body, read))));
                    }
                    Err(error) if !error.is_transient() => return Err(error),
                    Ok(None) | Err(_) => body = None,
                }
            }
            if read >= meta.size_bytes {
                return Ok(None);
            }
            let piece = store.resume(&meta, read).await?;
            let read = read + piece.len() as u64;
            Ok(Some((piece, (store, meta, body, read))))
        })
        .boxed()
    }

    async fn replay(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        let Contents { size_bytes, user_metadata, body, .. } = contents;
        let pieces: Vec<Bytes> = body.try_collect().await?;
        let mut sum = Crc64::new();
        pieces.iter().for_each(|piece| sum.update(piece));
        let pieces_bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        let write = |failures| {
            let pieces: Vec<_> = pieces.iter().cloned().map(Ok).collect();
            let (user_metadata, crc64) = (user_metadata.clone(), sum.finish());
            let contents = Contents::new(size_bytes, user_metadata, stream::iter(pieces).boxed());
            contents.known.note(0..pieces_bytes, crc64);
            async move {
                let written = self.inner.write(key, contents, condition).await;
                let look = || holds(self, key, size_bytes, crc64);
                settle(written, failures > 0, size_bytes, crc64, look).await
            }
        };
        self.policy.run(&*self.clock, write).await
    }
}

/// Finds out whether a write whose earlier tries had an unknown outcome has succeeded: `look` says
/// whether the store holds the contents.
///
/// # Errors
/// That of `written`, unless the object is there and ours.
pub(crate) async fn settle<F>(
    written: Result<Stored, StoreError>,
    unclear: bool,
    size_bytes: u64,
    crc64: u64,
    look: impl FnOnce() -> F,
) -> Result<Stored, StoreError>
where
    F: Future<Output = Result<Option<ObjectMeta>, StoreError>>,
{
    match written {
        Err(error @ (StoreError::AlreadyExists(_) | StoreError::Changed(_))) if unclear => {
            match look().await {
                Ok(Some(meta)) => {
                    Ok(Stored { size_bytes, etag: meta.etag, crc64, proof: Proof::ReadBack })
                }
                Ok(None) | Err(_) => Err(error),
            }
        }
        written => written,
    }
}

#[async_trait]
impl BlobStore for RetryingStore {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        let retries = self.policy.begin(&*self.clock);
        let listing = self.inner.list(prefix, after);
        let state = (self.clone(), prefix.clone(), after.cloned(), listing, retries);
        stream::try_unfold(
            state,
            |(store, prefix, mut after, mut listing, mut retries)| async move {
                loop {
                    match listing.try_next().await {
                        Ok(None) => return Ok(None),
                        Ok(Some(meta)) => {
                            retries.progress(&*store.clock);
                            after = Some(meta.key.clone());
                            return Ok(Some((meta, (store, prefix, after, listing, retries))));
                        }
                        Err(error) if retries.again(&*store.clock, &error).await => {
                            listing = store.inner.list(&prefix, after.as_ref());
                        }
                        Err(error) => return Err(error),
                    }
                }
            },
        )
        .boxed()
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        self.policy.run(&*self.clock, |_| self.inner.head(key)).await
    }

    async fn describe(&self, key: &Key) -> Result<(ObjectMeta, UserMetadata), StoreError> {
        self.policy.run(&*self.clock, |_| self.inner.describe(key)).await
    }

    async fn get(&self, key: &Key) -> Result<Object, StoreError> {
        let object = self.policy.run(&*self.clock, |_| self.inner.get(key)).await?;
        let body = self.clone().resumed(object.meta.clone(), object.body);
        Ok(Object { body, ..object })
    }

    async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Bytes), StoreError> {
        self.policy.run(&*self.clock, |_| self.inner.get_range(key, range.clone())).await
    }

    async fn get_pieces(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Pieces), StoreError> {
        self.policy.run(&*self.clock, |_| self.inner.get_pieces(key, range.clone())).await
    }

    async fn write(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        if self.replay_bytes_max.is_none_or(|most| contents.size_bytes > most) {
            return self.inner.write(key, contents, condition).await;
        }
        self.replay(key, contents, condition).await
    }

    // A take-over has no body to keep: whoever can take over tries again by itself, and looks what is there.
    fn inner(&self) -> Option<&dyn BlobStore> {
        Some(&*self.inner)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.policy.run(&*self.clock, |_| self.inner.delete(key)).await
    }

    fn local_root(&self) -> Option<PathBuf> {
        self.inner.local_root()
    }
}
