//! Brings objects from the store to a thread that may block, one after the other as one stream.

use crate::{
    engine::fork::{error::ForkError, mysql::error::MySqlError},
    store::{
        BlobStore, StoreError,
        feed::{Feed, Pump, pair},
        key::Key,
    },
};
use futures_util::TryStreamExt;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// Where objects come from, and who counts them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) store: &'a dyn BlobStore,
    pub(super) cancel: &'a CancellationToken,
    /// What was read, in bytes.
    pub(super) done_bytes: &'a AtomicU64,
    /// What is going on, for errors.
    pub(super) doing: &'static str,
}

impl Source<'_> {
    /// Reads `objects`, keys with their sizes in bytes, and gives them to `read` on a thread of its
    /// own. What the store says comes before what `read` makes of it.
    ///
    /// # Errors
    /// [`MySqlError::Store`], [`MySqlError::Changed`], [`ForkError::Cancelled`], and those of `read`.
    pub(super) async fn stream<T: Send + 'static>(
        &self,
        objects: &[(String, u64)],
        read: impl FnOnce(Feed) -> Result<T, ForkError> + Send + 'static,
    ) -> Result<T, ForkError> {
        let (pump, feed) = pair();
        let reading = tokio::task::spawn_blocking(move || read(feed));
        let (pumped, read) = tokio::join!(self.pump(objects, pump), reading);
        pumped?;
        read.expect("a reader does not panic")
    }

    async fn pump(&self, objects: &[(String, u64)], pump: Pump) -> Result<(), ForkError> {
        for (key, size_bytes) in objects {
            let fault = |source| MySqlError::Store { key: key.clone(), source: Box::new(source) };
            let changed = |what: String| MySqlError::Changed { key: key.clone(), what };
            let parsed = Key::parse(key).map_err(|error| changed(error.to_string()))?;
            let object = tokio::select! {
                () = self.cancel.cancelled() => return Err(ForkError::Cancelled(self.doing)),
                object = self.store.get(&parsed) => object,
            };
            let mut object = object.map_err(|error| {
                let missing = matches!(error, StoreError::NotFound(_));
                if missing { changed("is missing".to_owned()) } else { fault(error) }
            })?;
            if object.meta.size_bytes != *size_bytes {
                let found = object.meta.size_bytes;
                return Err(changed(format!("has {found} bytes, not {size_bytes}")).into());
            }
            let mut left = *size_bytes;
            loop {
                let piece = tokio::select! {
                    () = self.cancel.cancelled() => return Err(ForkError::Cancelled(self.doing)),
                    piece = object.body.try_next() => piece.map_err(fault)?,
                };
                let Some(piece) = piece else { break };
                left = left.saturating_sub(piece.len() as u64);
                self.done_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                if !pump.give(piece).await {
                    // Nobody reads any more, and knows why.
                    return Ok(());
                }
            }
            if left > 0 {
                return Err(changed(format!("ended {left} bytes early")).into());
            }
        }
        pump.end().await;
        Ok(())
    }
}
