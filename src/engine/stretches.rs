//! Compares the sums of an object's stretches with what a layout says of them.

use crate::layout::pgbackrest::manifest::StoredFile;

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

    fn file(offset: u64, size_bytes: u64) -> StoredFile {
        let sha1 = Some("x".to_owned());
        StoredFile { key: String::new(), bundled: true, offset, size_bytes, sha1 }
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
