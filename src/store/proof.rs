//! How it is known that a store holds the bytes that it was given.

use crate::store::{BlobStore, ObjectMeta, StoreError, key::Key, transfer::PART_BYTES_MIN};
use crc_fast::CrcAlgorithm::Crc64Nvme;
use futures_util::TryStreamExt;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// How it is known that a store holds the bytes it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The system took every byte and synced it: a directory, memory.
    Synced,
    /// The store computed this checksum of what it holds, and it is ours.
    Checksum(Checksum),
    /// It was read back and compared.
    ReadBack,
    /// It is not known: the settings say not to prove writes to this store.
    Unproven,
}

/// A checksum that a store computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// CRC-64/NVME, of S3.
    Crc64Nvme,
    /// SHA-256, of S3.
    Sha256,
    /// CRC-32C, of Google Cloud Storage.
    Crc32c,
    /// MD5, of Azure Blob.
    Md5,
}

/// Whether the object at `key` has this size and CRC-64/NVME, found out by reading it.
///
/// # Errors
/// Those of [`BlobStore::get`].
pub async fn holds(
    store: &dyn BlobStore,
    key: &Key,
    size_bytes: u64,
    crc64: u64,
) -> Result<Option<ObjectMeta>, StoreError> {
    let object = store.get(key).await?;
    if object.meta.size_bytes != size_bytes {
        return Ok(None);
    }
    let (mut body, mut sum, mut read) = (object.body, Crc64::new(), 0);
    while let Some(piece) = body.try_next().await? {
        sum.update(&piece);
        read += piece.len() as u64;
    }
    Ok((read == size_bytes && sum.finish() == crc64).then_some(object.meta))
}

/// Removes what was written and is wrong, unless somebody else has replaced it meanwhile. Gives the
/// error to report: left there, it would be taken for the object by whoever lists it next.
pub(crate) async fn remove_wrong(
    store: &dyn BlobStore,
    key: &Key,
    etag: Option<&str>,
) -> StoreError {
    let removed = match store.head(key).await {
        Ok(now) if now.etag.as_deref() == etag => store.delete(key).await,
        Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    };
    let what = match removed {
        Ok(()) => "what was written is not what was read; it was removed".to_owned(),
        Err(error) => {
            format!("what was written is not what was read, and it is still there: {error}")
        }
    };
    StoreError::unavailable(store.name(), "proving", key, what)
}

/// For parts of the usual size, which are joined all the time: finding it out takes 0.1 ms.
static OF_BITS: OnceLock<[u64; 64]> = OnceLock::new();

/// CRC-64/NVME while contents pass by.
#[derive(Debug)]
pub struct Crc64(crc_fast::Digest);

impl Crc64 {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(Crc64Nvme))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum so far.
    #[must_use]
    pub fn finish(&self) -> u64 {
        self.0.finalize()
    }

    /// That of something that is followed by `next_bytes` bytes whose checksum is `next`.
    #[must_use]
    pub fn joined(first: u64, next: u64, next_bytes: u64) -> u64 {
        if next_bytes != PART_BYTES_MIN {
            return crc_fast::checksum_combine(Crc64Nvme, first, next, next_bytes);
        }
        // What so many bytes make of each bit of what is before them: the sum of that for its bits.
        let of_bits = OF_BITS.get_or_init(|| {
            std::array::from_fn(|bit| {
                crc_fast::checksum_combine(Crc64Nvme, 1 << bit, 0, PART_BYTES_MIN)
            })
        });
        let bits = of_bits.iter().enumerate().filter(|(bit, _)| first >> bit & 1 == 1);
        bits.fold(next, |sum, (_, of_bit)| sum ^ of_bit)
    }
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

/// CRC-64/NVME of parts of contents that whoever reads them has computed already, so that whoever
/// writes them need not. Clones share it, and it is filled while the contents pass.
#[derive(Clone, Debug, Default)]
pub struct KnownCrc64 {
    /// By where the part begins: its size and its checksum.
    parts: Arc<Mutex<BTreeMap<u64, (u64, u64)>>>,
}

impl KnownCrc64 {
    /// Takes in the checksum of a part. To be called before its bytes are given.
    pub fn note(&self, part: Range<u64>, crc64: u64) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part.start, (part.end, crc64));
    }

    /// The checksum of exactly this part, when it is known.
    #[must_use]
    pub fn of(&self, part: Range<u64>) -> Option<u64> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.get(&part.start).filter(|(end, _)| *end == part.end).map(|(_, crc64)| *crc64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exactly_the_part_that_was_noted_is_known() {
        let known = KnownCrc64::default();
        known.note(0..8, 1);
        known.note(8..12, 2);
        assert_eq!((known.of(0..8), known.of(8..12)), (Some(1), Some(2)));
        assert_eq!((known.of(0..12), known.of(0..4), known.of(4..8)), (None, None, None));
    }

    #[test]
    fn parts_of_every_size_are_joined_to_the_sum_of_the_whole() {
        let usual = usize::try_from(PART_BYTES_MIN).unwrap();
        let whole: Vec<_> = (0..2 * usual).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for (first, next) in [(usual, usual), (5, usual), (0, usual), (usual, usual - 1)] {
            let (first, next) = whole[..first + next].split_at(first);
            let sum = |bytes: &[u8]| {
                let mut sum = Crc64::new();
                sum.update(bytes);
                sum.finish()
            };
            let joined = Crc64::joined(sum(first), sum(next), next.len() as u64);
            assert_eq!(joined, sum(&whole[..first.len() + next.len()]));
        }
    }
}
