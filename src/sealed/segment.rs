//! WAL segments and history files: from an object and its metadata to the plain file.

use crate::{
    domain::{hex, lsn::SegmentSize},
    layout::pghoard::metadata::{PlainHash, SegmentCoding},
    sealed::{SealedError, keys::Keys, small::open_bytes},
};
use aws_lc_rs::digest;

/// Largest segment, in bytes.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Largest history file, in bytes. One line per timeline.
const HISTORY_BYTES_MAX: u64 = 1 << 20;

/// The plain segment of an object, with everything checked that is known of it: the object's own
/// size and SHA-256, the HMAC, the size of the segment and its checksum.
///
/// # Errors
/// [`SealedError`]. Then nothing of it may be used.
pub fn open_segment(
    object: &[u8],
    coding: &SegmentCoding,
    keys: &Keys,
) -> Result<Vec<u8>, SealedError> {
    let plain = open_bytes(object, &coding.coding, keys, SEGMENT_BYTES_MAX)?;
    let bytes = plain.len() as u64;
    SegmentSize::new(bytes).ok_or(SealedError::NoSegment(bytes))?;
    check(&plain, coding.plain_hash.as_ref())?;
    Ok(plain)
}

/// The plain history file of an object.
///
/// # Errors
/// [`SealedError`]. Then nothing of it may be used.
pub fn open_history(
    object: &[u8],
    coding: &SegmentCoding,
    keys: &Keys,
) -> Result<Vec<u8>, SealedError> {
    let plain = open_bytes(object, &coding.coding, keys, HISTORY_BYTES_MAX)?;
    check(&plain, coding.plain_hash.as_ref())?;
    Ok(plain)
}

fn check(plain: &[u8], hash: Option<&PlainHash>) -> Result<(), SealedError> {
    let Some(hash) = hash else { return Ok(()) };
    let (what, algorithm) = match hash.algorithm.as_str() {
        "sha1" => ("SHA-1", &digest::SHA1_FOR_LEGACY_USE_ONLY),
        "sha256" => ("SHA-256", &digest::SHA256),
        "sha512" => ("SHA-512", &digest::SHA512),
        // PGHoard may be told any algorithm of Python's. The records of the log have checksums of
        // their own, which a recovery checks, so a segment is not refused for this.
        _ => return Ok(()),
    };
    let found = hex::lower(digest::digest(algorithm, plain).as_ref());
    if found == hash.digest {
        Ok(())
    } else {
        Err(SealedError::Digest { what, expected: hash.digest.clone(), found })
    }
}
