//! Reads the segments of a run that were not read before, proves them, and sums each of them up.
//!
//! A segment is proven when its contents have the SHA-1 of its name and its records follow those of
//! the segment before. What was proven once is not read again until the store says that the object
//! has changed. Indexes are kept by contents, so that a copy in another store needs none of its own.

use crate::{
    domain::recovery::Codec,
    engine::catalog::{
        repository::{Found, StoredSegment},
        runs::Run,
    },
    store::{BlobStore, StoreError, key::Key, read_all},
    wal::{
        decode,
        record::Record,
        scan::{Carry, Scanner, SegmentIndex},
    },
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Largest object of a segment that is read, in bytes: the largest segment and a little.
pub const SEGMENT_OBJECT_BYTES_MAX: u64 = (1 << 30) + (16 << 20);

/// The scanner's memory is kept at every so many segments, and at the newest one.
const CARRY_EVERY: u64 = 64;

/// What is known of one segment's contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedSegment {
    /// SHA-1 of the contents.
    pub sha1: String,
    /// SHA-1 of the segment that was read before it; `None` when reading began here.
    pub previous: Option<String>,
    /// The summary.
    pub index: SegmentIndex,
    /// What a scanner needs to go on behind it.
    pub carry: Option<Carry>,
}

/// The indexes of one log in one store, in memory.
#[derive(Debug, Default)]
pub struct LogIndex {
    by_sha1: HashMap<String, IndexedSegment>,
    /// Version of each object whose contents were proven, by key.
    proven: HashMap<String, String>,
}

/// Something new that is worth keeping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Key of the object below the repository's prefix.
    pub key: String,
    /// Its version.
    pub version: String,
    /// What it holds.
    pub segment: IndexedSegment,
    /// A segment whose scanner memory is not needed any more.
    pub forget_carry_of: Option<String>,
}

/// A run with the summaries of its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedRun {
    /// The run by names.
    pub run: Run,
    /// Summaries from the first segment on, to the end or the first damage.
    pub indexes: Vec<SegmentIndex>,
    /// What ended it early.
    pub damage: Option<Damage>,
}

impl IndexedRun {
    /// Number of its usable segments, and the size of their objects together, in bytes.
    #[must_use]
    pub fn extent(&self) -> (u64, u64) {
        let usable = &self.run.segments[..self.indexes.len()];
        (usable.len() as u64, usable.iter().map(|(_, stored)| stored.found.size_bytes).sum())
    }
}

/// A segment that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Key of the object below the repository's prefix.
    pub key: String,
    /// What is wrong, with the segment's name, for people.
    pub what: String,
}

/// The version of an object: its tag, or what comes nearest.
#[must_use]
pub fn version(found: &Found) -> String {
    let fallback = || format!("{}-{}", found.size_bytes, found.modified_at.timestamp_micros());
    found.etag.clone().unwrap_or_else(fallback)
}

impl LogIndex {
    /// An index with what an earlier process learned.
    #[must_use]
    pub fn with(learned: impl IntoIterator<Item = Learned>) -> Self {
        let mut index = Self::default();
        for item in learned {
            index.learn(item);
        }
        index
    }

    /// Any segment's summary: they all agree on the cluster and the segment size.
    #[must_use]
    pub fn any(&self) -> Option<&SegmentIndex> {
        self.by_sha1.values().next().map(|known| &known.index)
    }

    /// The object with this key is to be read and proven anew.
    pub fn distrust(&mut self, key: &str) {
        self.proven.remove(key);
    }

    fn learn(&mut self, learned: Learned) {
        if let Some(known) = learned.forget_carry_of.and_then(|sha1| self.by_sha1.get_mut(&sha1)) {
            known.carry = None;
        }
        self.proven.insert(learned.key, learned.version);
        self.by_sha1.insert(learned.segment.sha1.clone(), learned.segment);
    }

    fn known(&self, stored: &StoredSegment, previous: Option<&str>) -> Option<&IndexedSegment> {
        let proven = self.proven.get(&stored.key) == Some(&version(&stored.found));
        let known = self.by_sha1.get(&stored.sha1).filter(|_| proven)?;
        (previous.is_none() || known.previous.as_deref() == previous).then_some(known)
    }

    /// Indexes `run`, reading what is not known. What is learned is also given to `keep`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read. Damaged objects are no error: they end the run.
    pub async fn index(
        &mut self,
        store: &dyn BlobStore,
        prefix: &Key,
        run: Run,
        keep: &mut (dyn FnMut(&Learned) + Send),
    ) -> Result<IndexedRun, StoreError> {
        let mut indexes: Vec<SegmentIndex> = Vec::with_capacity(run.segments.len());
        let mut scanner: Option<Scanner> = None;
        let mut damage = None;
        for at in 0..run.segments.len() {
            let previous = at.checked_sub(1).map(|before| run.segments[before].1.sha1.as_str());
            if let Some(known) = self.known(&run.segments[at].1, previous) {
                indexes.push(known.index.clone());
                scanner = None;
            } else {
                let ready = match scanner.take() {
                    Some(scanner) => Ok(scanner),
                    None => self.scanner_before(store, prefix, &run, at).await?,
                };
                let step = match ready {
                    Ok(scanner) => read(store, prefix, &run, at, scanner).await?,
                    Err(damage) => Err(damage),
                };
                match step {
                    Ok((index, after)) => {
                        let learned = self.learned(&run, at, index.clone(), after.carry());
                        keep(&learned);
                        self.learn(learned);
                        indexes.push(index);
                        scanner = Some(after);
                    }
                    Err(found) => {
                        damage = Some(found);
                        break;
                    }
                }
            }
            if indexes.last().is_some_and(|index| index.ends_early) {
                break; // The valid log ends within this segment: nothing can follow it.
            }
        }
        Ok(IndexedRun { run, indexes, damage })
    }

    fn learned(&self, run: &Run, at: usize, index: SegmentIndex, carry: Option<Carry>) -> Learned {
        let (_, stored) = &run.segments[at];
        let before = at.checked_sub(1).map(|before| &run.segments[before]);
        let forget_carry_of = before
            .filter(|(segment, _)| segment.number % CARRY_EVERY != 0)
            .map(|(_, stored)| stored.sha1.clone())
            .filter(|sha1| self.by_sha1.get(sha1).is_some_and(|known| known.carry.is_some()));
        Learned {
            key: stored.key.clone(),
            version: version(&stored.found),
            segment: IndexedSegment {
                sha1: stored.sha1.clone(),
                previous: before.map(|(_, stored)| stored.sha1.clone()),
                index,
                carry,
            },
            forget_carry_of,
        }
    }

    /// A scanner that has read everything before the segment `at`.
    pub(crate) async fn scanner_before(
        &self,
        store: &dyn BlobStore,
        prefix: &Key,
        run: &Run,
        at: usize,
    ) -> Result<Result<Scanner, Damage>, StoreError> {
        let kept = (0..at).rev().find_map(|place| {
            let carry = self.by_sha1.get(&run.segments[place].1.sha1)?.carry.clone()?;
            Some((place + 1, Scanner::resume(carry)))
        });
        let (mut place, mut scanner) = kept.unwrap_or((0, Scanner::new()));
        while place < at {
            match read(store, prefix, run, place, scanner).await? {
                Ok((_, after)) => scanner = after,
                Err(damage) => return Ok(Err(damage)),
            }
            place += 1;
        }
        Ok(Ok(scanner))
    }
}

/// Reads and proves one segment.
async fn read(
    store: &dyn BlobStore,
    prefix: &Key,
    run: &Run,
    at: usize,
    scanner: Scanner,
) -> Result<Result<(SegmentIndex, Scanner), Damage>, StoreError> {
    scan_with(store, prefix, run, at, scanner, |_| ()).await
}

/// Reads and proves one segment and shows its records to `sink`.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub async fn scan_with(
    store: &dyn BlobStore,
    prefix: &Key,
    run: &Run,
    at: usize,
    mut scanner: Scanner,
    mut sink: impl FnMut(&Record) + Send + 'static,
) -> Result<Result<(SegmentIndex, Scanner), Damage>, StoreError> {
    let (segment, stored) = run.segments[at].clone();
    let damaged = |what: String| Damage { key: stored.key.clone(), what };
    let plain = match read_segment(store, prefix, &stored).await? {
        Ok(plain) => plain,
        Err(what) => return Ok(Err(damaged(what))),
    };
    let scanned = tokio::task::spawn_blocking(move || {
        let index = scanner.segment(segment, &plain, &mut sink);
        (index, scanner)
    });
    let (index, scanner) = scanned.await.expect("the reader of the log does not panic");
    Ok(match index {
        Ok(index) => Ok((index, scanner)),
        Err(error) => Err(damaged(error.to_string())),
    })
}

/// The contents of a segment, checked against the SHA-1 in its name; or what is wrong with them.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub async fn read_segment(
    store: &dyn BlobStore,
    prefix: &Key,
    stored: &StoredSegment,
) -> Result<Result<Vec<u8>, String>, StoreError> {
    let name = stored.key.rsplit('/').next().unwrap_or_default().chars().take(24);
    let name = name.collect::<String>();
    let Ok(key) = prefix.join(&stored.key) else {
        return Ok(Err(format!("WAL segment {name} has an impossible key")));
    };
    let object = match read_all(store, &key, SEGMENT_OBJECT_BYTES_MAX).await {
        Ok((_, object)) => object,
        Err(StoreError::NotFound(_)) => {
            return Ok(Err(format!("WAL segment {name} has disappeared")));
        }
        Err(error) => return Err(error),
    };
    let (codec, sha1) = (stored.codec, stored.sha1.clone());
    let proven = tokio::task::spawn_blocking(move || prove(codec, &object, &sha1)).await;
    let proven = proven.expect("the decoder does not panic");
    Ok(proven.map_err(|what| format!("WAL segment {name} is damaged: {what}")))
}

/// Decompresses an object and checks its SHA-1.
pub(crate) fn prove(codec: Codec, object: &[u8], sha1: &str) -> Result<Vec<u8>, String> {
    let plain = decode::decode(codec, object).map_err(|error| error.to_string())?;
    decode::check_sha1(&plain, sha1).map_err(|error| error.to_string())?;
    Ok(plain)
}
