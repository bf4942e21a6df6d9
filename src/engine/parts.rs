//! Checksums of stretches of an object, taken while it goes by.

use crate::domain::hex;
use sha1::{Digest, Sha1};

/// Hashes stretches of an object while it goes by.
#[derive(Debug)]
pub struct PartHasher {
    parts: Vec<(u64, u64, Sha1)>,
    at: u64,
}

impl PartHasher {
    /// Of stretches, given as offset and size in bytes, sorted by offset and disjoint.
    #[must_use]
    pub fn new(parts: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let part = |(offset, size)| (offset, size, Sha1::new());
        Self { parts: parts.into_iter().map(part).collect(), at: 0 }
    }

    /// Takes the next bytes of the object.
    pub fn take(&mut self, piece: &[u8]) {
        let (begin, end) = (self.at, self.at + piece.len() as u64);
        // Those before `begin` are over.
        let first = self.parts.partition_point(|(offset, size, _)| offset + size <= begin);
        for (offset, size, hash) in &mut self.parts[first..] {
            if *offset >= end {
                break;
            }
            let from = offset.saturating_sub(begin);
            let to = (*offset + *size).min(end) - begin;
            let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
            hash.update(piece.get(range).unwrap_or_default());
        }
        self.at = end;
    }

    /// The sums in lower-case hexadecimal digits; `None` for what lies beyond the object's end.
    #[must_use]
    pub fn finish(self) -> Vec<Option<String>> {
        let end = self.at;
        let sums = self.parts.into_iter().map(|(offset, size, hash)| {
            (offset + size <= end).then(|| hex::lower(&hash.finalize()))
        });
        sums.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::decode::sha1_hex;

    #[test]
    fn stretches_are_hashed_however_the_pieces_fall() {
        let object = b"0123456789abcdef";
        let parts = [(0, 3), (5, 6), (11, 5), (15, 9)];
        let expect =
            [Some(sha1_hex(b"012")), Some(sha1_hex(b"56789a")), Some(sha1_hex(b"bcdef")), None];
        for size in 1..=object.len() {
            let mut hasher = PartHasher::new(parts);
            for piece in object.chunks(size) {
                hasher.take(piece);
            }
            assert_eq!(hasher.finish(), expect, "pieces of {size}");
        }
    }
}
