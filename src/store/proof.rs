//! How it is known that a store holds the bytes that it was given.

use crate::store::{BlobStore, ObjectMeta, StoreError, key::Key};
use futures_util::TryStreamExt;

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

/// CRC-64/NVME while contents pass by.
#[derive(Debug)]
pub struct Crc64(crc_fast::Digest);

impl Crc64 {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme))
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
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}
