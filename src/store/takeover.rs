//! Objects that a store takes over from another one of the same provider: the provider copies them, and
//! their bytes do not pass here a second time.

use crate::store::{UserMetadata, key::Key};

/// An object as its provider calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// The provider: where it is reached, or that it is AWS.
    pub service: String,
    /// Bucket.
    pub bucket: String,
    /// The whole key in the bucket.
    pub key: Key,
}

/// An object that was read and found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// Where it is.
    pub name: ObjectName,
    /// The etag that it had when it was read.
    pub etag: String,
    /// Size of what was read, in bytes.
    pub size_bytes: u64,
    /// CRC-64/NVME of what was read.
    pub crc64: u64,
    /// User metadata that were read with it.
    pub user_metadata: UserMetadata,
}
