//! Hashes stretches of an object while it goes by, and compares them with what a layout says of them.

use crate::{domain::hex, layout::pgbackrest::manifest::StoredFile};
use bytes::Bytes;
use sha1::{Digest, Sha1};

/// Hashes the stretches of an object that are files of their own.
#[derive(Debug)]
pub struct PartHasher {
    parts: Vec<(u64, u64, Sha1)>,
    at: u64,
}

impl PartHasher {
    /// Of `files`, which are sorted by offset and disjoint.
    #[must_use]
    pub fn new(files: &[StoredFile]) -> Self {
        let part = |file: &StoredFile| (file.offset, file.size_bytes, Sha1::new());
        Self { parts: files.iter().map(part).collect(), at: 0 }
    }

    /// Takes the next bytes of the object.
    pub fn take(&mut self, piece: &Bytes) {
        let (begin, end) = (self.at, self.at + piece.len() as u64);
        // Sorted by offset and disjoint: those before `begin` are over.
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

    /// The sums; `None` for what lies beyond the object's end.
    #[must_use]
    pub fn finish(self) -> Vec<Option<String>> {
        let end = self.at;
        let sums = self.parts.into_iter().map(|(offset, size, hash)| {
            (offset + size <= end).then(|| hex::lower(&hash.finalize()))
        });
        sums.collect()
    }
}

/// What a file whose stretch has another sum than it should is told to be.
#[must_use]
pub fn difference(file: &StoredFile, found: Option<&String>) -> Option<String> {
    let expected = file.sha1.as_ref()?;
    if found == Some(expected) {
        return None;
    }
    let found = found.map_or("an early end", String::as_str);
    Some(format!(
        "the {} bytes at {} have the SHA-1 {found}, not {expected}",
        file.size_bytes, file.offset
    ))
}

/// Whether `files`, sorted by offset, cover an object of `size_bytes` without a gap and each has a sum.
#[must_use]
pub fn cover(files: &[StoredFile], size_bytes: u64) -> bool {
    let mut end = 0;
    for file in files {
        if file.offset > end || file.sha1.is_none() {
            return false;
        }
        end = end.max(file.offset + file.size_bytes);
    }
    end == size_bytes && !files.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::decode::sha1_hex;

    fn file(offset: u64, size_bytes: u64) -> StoredFile {
        let sha1 = Some("x".to_owned());
        StoredFile { key: String::new(), bundled: true, offset, size_bytes, sha1 }
    }

    #[test]
    fn stretches_are_hashed_however_the_pieces_fall() {
        let object = b"0123456789abcdef";
        let files = [file(0, 3), file(5, 6), file(11, 5), file(15, 9)];
        let expect =
            [Some(sha1_hex(b"012")), Some(sha1_hex(b"56789a")), Some(sha1_hex(b"bcdef")), None];
        for size in 1..=object.len() {
            let mut hasher = PartHasher::new(&files);
            for piece in object.chunks(size) {
                hasher.take(&Bytes::copy_from_slice(piece));
            }
            assert_eq!(hasher.finish(), expect, "pieces of {size}");
        }
    }

    #[test]
    fn an_object_is_covered_without_gaps_and_to_its_end() {
        assert!(cover(&[file(0, 3), file(3, 4)], 7));
        assert!(!cover(&[file(0, 3), file(4, 3)], 7), "a gap");
        assert!(!cover(&[file(0, 3), file(3, 3)], 7), "an end that nothing proves");
        assert!(!cover(&[], 0) && !cover(&[StoredFile { sha1: None, ..file(0, 7) }], 7));
        assert_eq!(difference(&file(0, 3), Some(&"x".to_owned())), None);
        assert!(difference(&file(0, 3), None).unwrap().contains("early end"));
    }
}
