//! Opens an object in memory, and gives nothing of it before all of it has been checked.

use crate::{
    layout::pghoard::metadata::Coding,
    sealed::{SealedError, keys::Keys, open::Opened},
};
use std::io::Read;

/// The plain contents of `object`, of at most `limit` bytes.
///
/// What is encrypted is checked as a whole before it is decompressed: a decompressor never sees
/// what somebody changed.
///
/// # Errors
/// [`SealedError`].
pub fn open_bytes(
    object: &[u8],
    coding: &Coding,
    keys: &Keys,
    limit: u64,
) -> Result<Vec<u8>, SealedError> {
    if coding.key_id.is_none() {
        return read(object, coding, keys, limit);
    }
    let (mut outer, inner) = split(coding);
    // Nothing was encrypted, and there is nothing to check (see [`Opened::begin`]).
    outer.plain_bytes = coding.plain_bytes.filter(|bytes| *bytes == 0 && object.is_empty());
    // Compression may make more of little, but what goes in was no larger than the object.
    let compressed = read(object, &outer, keys, object.len() as u64)?;
    read(&compressed, &inner, keys, limit)
}

/// The coding of an encrypted object, as two: encrypted only, then compressed only.
fn split(coding: &Coding) -> (Coding, Coding) {
    let outer = Coding {
        compression: crate::layout::pghoard::metadata::Compression::None,
        plain_bytes: None,
        ..coding.clone()
    };
    let inner = Coding { key_id: None, stored_bytes: None, stored_sha256: None, ..coding.clone() };
    (outer, inner)
}

fn read(bytes: &[u8], coding: &Coding, keys: &Keys, limit: u64) -> Result<Vec<u8>, SealedError> {
    if coding.plain_bytes.is_some_and(|expected| expected > limit) {
        return Err(SealedError::TooLarge(limit));
    }
    let mut opened = Opened::begin(bytes, coding, keys)?;
    let mut plain = Vec::with_capacity(expected_size(coding));
    if let Err(error) = (&mut opened).take(limit + 1).read_to_end(&mut plain) {
        return Err(opened.fault(error));
    }
    if plain.len() as u64 > limit {
        return Err(SealedError::TooLarge(limit));
    }
    opened.finish()?;
    Ok(plain)
}

/// What to set memory aside for: the metadata may say anything.
fn expected_size(coding: &Coding) -> usize {
    usize::try_from(coding.plain_bytes.unwrap_or(0).min(64 << 20)).unwrap_or(0)
}
