//! What a store holds of this layout: series with their last binary logs.

use crate::{
    domain::recovery::Codec,
    layout::stream::{
        keys::{self, BinlogKey, Role},
        series::Series,
    },
    push::error::PushError,
    store::{BlobStore, Condition, Contents, StoreError, key::Key, read_all},
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::sync::Arc;

/// Largest `series.json`, in bytes. It may hold many transaction ids.
const SERIES_BYTES_MAX: u64 = 16 << 20;
/// More series than this in one place are a mistake.
const SERIES_MAX: usize = 10_000;

/// The place in a store that is pushed to.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The store.
    pub(super) store: Arc<dyn BlobStore>,
    /// The prefix of all keys.
    pub(super) prefix: Key,
}

/// A series and the last binary log in it.
#[derive(Clone, Debug)]
pub(super) struct StoredSeries {
    /// What is said of it.
    pub(super) series: Series,
    /// The last binary log; `None` when there is none yet.
    pub(super) tip: Option<BinlogKey>,
}

impl Place {
    /// A key below the prefix.
    ///
    /// # Errors
    /// [`PushError::Key`].
    pub(super) fn key(&self, key: &str) -> Result<Key, PushError> {
        Ok(self.prefix.join(key)?)
    }

    /// Writes an object to a key that must be free; says whether it was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn write_once(
        &self,
        key: &str,
        contents: Contents,
    ) -> Result<bool, PushError> {
        let key = self.key(key)?;
        match self.store.write(&key, contents, &Condition::IfAbsent).await {
            Ok(_) => Ok(true),
            Err(StoreError::AlreadyExists(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn read(&self, key: &str, bytes_max: u64) -> Result<Bytes, PushError> {
        Ok(read_all(&*self.store, &self.key(key)?, bytes_max).await?.1)
    }

    /// All series with their last binary logs. A log may have very many files, so it is not listed:
    /// the last one is found by asking what comes after a number.
    ///
    /// # Errors
    /// [`PushError`] when the store fails or what it says of a series cannot be read.
    pub(super) async fn series(&self) -> Result<Vec<StoredSeries>, PushError> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        while found.len() < SERIES_MAX {
            let Some(key) = self.first(keys::BINLOGS, after.as_deref()).await? else { break };
            let Some(name) = key.split('/').nth(1).filter(|name| keys::is_series(name)) else {
                after = Some(key);
                continue;
            };
            let about = keys::series(name);
            match self.read(&about, SERIES_BYTES_MAX).await {
                Ok(bytes) => {
                    let series = Series::read(name, &bytes);
                    let fault = |source| PushError::Series { key: about.clone(), source };
                    let tip = self.tip(name).await?;
                    found.push(StoredSeries { series: series.map_err(fault)?, tip });
                }
                // Nothing that this program has written.
                Err(PushError::Store(StoreError::NotFound(_))) => {}
                Err(error) => return Err(error),
            }
            // Behind everything whose key begins with the name.
            after = Some(format!("{}/{name}/~", keys::BINLOGS));
        }
        Ok(found)
    }

    /// Whether anything of a base backup is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn has_base_backups(&self) -> Result<bool, PushError> {
        Ok(self.first(keys::BACKUPS, None).await?.is_some())
    }

    /// The last binary log of a series.
    async fn tip(&self, series: &str) -> Result<Option<BinlogKey>, PushError> {
        let (mut tip, mut step) = (None, 1_u64);
        // First in longer and longer steps, as long as something comes after; then shorter again.
        let mut known: u64 = 0;
        while let Some(found) = self.binlog_after(series, known.saturating_add(step - 1)).await? {
            (known, step) = (found.sequence, step.saturating_mul(2));
            tip = Some(found);
        }
        while step > 1 {
            step /= 2;
            if let Some(found) = self.binlog_after(series, known.saturating_add(step - 1)).await? {
                known = found.sequence;
                tip = Some(found);
                step = step.saturating_mul(2);
            }
        }
        Ok(tip)
    }

    async fn binlog_after(
        &self,
        series: &str,
        sequence: u64,
    ) -> Result<Option<BinlogKey>, PushError> {
        let part = format!("{}/{series}", keys::BINLOGS);
        let mut after = format!("{part}/{sequence:010}~");
        while let Some(key) = self.first(&part, Some(&after)).await? {
            if let Role::Binlog(binlog) = keys::role(&key) {
                return Ok(Some(binlog));
            }
            after = key;
        }
        Ok(None)
    }

    /// All binary logs of a series by their places.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn binlogs(&self, series: &str) -> Result<Vec<BinlogKey>, PushError> {
        let prefix = self.key(&format!("{}/{series}", keys::BINLOGS))?;
        let mut listed = self.store.list(&prefix, None);
        let mut found = Vec::new();
        while let Some(meta) = listed.try_next().await? {
            match meta.key.below(&self.prefix).map(keys::role) {
                Some(Role::Binlog(binlog)) => found.push(binlog),
                Some(
                    Role::Part { .. } | Role::Manifest { .. } | Role::Series { .. } | Role::Other,
                )
                | None => {}
            }
        }
        Ok(found)
    }

    /// The contents of a binary log, and whether they are compressed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn open(
        &self,
        binlog: &BinlogKey,
    ) -> Result<(crate::store::Body, bool), PushError> {
        let object = self.store.get(&self.key(&binlog.key())?).await?;
        Ok((object.body, binlog.codec != Codec::None))
    }

    /// The first key of a part, after a key.
    async fn first(&self, part: &str, after: Option<&str>) -> Result<Option<String>, PushError> {
        let after = after.map(|after| self.key(after)).transpose()?;
        let mut listed = self.store.list(&self.key(part)?, after.as_ref());
        let first = listed.try_next().await?;
        Ok(first.and_then(|meta| meta.key.below(&self.prefix).map(str::to_owned)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::binlog::Flavour, store::memory::MemoryStore};

    async fn put(place: &Place, series: &str, sequence: u64) {
        let (series, sha1) = (series.to_owned(), "0".repeat(40));
        let name = format!("bin.{sequence:06}");
        let key = BinlogKey { series, sequence, name, sha1, codec: Codec::None }.key();
        assert!(place.write_once(&key, Contents::of(Bytes::from_static(b"x"))).await.unwrap());
    }

    #[tokio::test]
    async fn the_last_binary_log_of_each_series_is_found() {
        let prefix = Key::parse("orders").unwrap();
        let place = Place { store: Arc::new(MemoryStore::new()), prefix };
        assert!(place.series().await.unwrap().is_empty());
        // Retention may have taken the first ones.
        let stretches = [(1, 0), (1, 1), (1, 2), (1, 5), (1, 64), (1, 100), (57, 131), (200, 200)];
        for (number, (first, last)) in (10..).zip(stretches) {
            let name = format!("{number}-20261126T043000");
            let began_at = keys::label_time("20261126-043000").unwrap();
            let first_file = ("bin.000001".to_owned(), began_at);
            let server = (Flavour::MariaDb, number.to_string());
            let series = Series::new(name.clone(), server, first_file, None, None);
            let contents = Contents::of(series.to_json().into());
            place.write_once(&keys::series(&name), contents).await.unwrap();
            for sequence in first..=last {
                put(&place, &name, sequence).await;
            }
            let found = place.series().await.unwrap().pop().unwrap();
            assert_eq!(found.series, series);
            let tip = found.tip.map_or(0, |tip| tip.sequence);
            assert_eq!(tip, last, "of {first} to {last}");
        }
        put(&place, "99-nobody", 1).await;
        assert_eq!(place.series().await.unwrap().len(), stretches.len());
        assert_eq!(place.binlogs("15-20261126T043000").await.unwrap().len(), 100);
    }
}
