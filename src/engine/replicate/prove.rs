//! Proves contents on their way: what does not fit is written nowhere.

use crate::{
    domain::hex,
    engine::{parts::PartHasher, replicate::plan::Proof},
    layout::{backup::PartSum, pgbackrest::info_file, pghoard::metadata::Coding},
    store::{UserMetadata, transfer::Check},
};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What looks at the contents of a step on their way; `None` where only their size is known, and for
/// segments, which are proven whole.
#[must_use]
pub fn check_of(proof: &Proof) -> Option<Box<dyn Check>> {
    match proof {
        Proof::Size | Proof::Sha1 { .. } => None,
        Proof::Parts(sums) => Some(Box::new(Parts::new(sums.clone()))),
        Proof::InfoFile => Some(Box::new(InfoFile(Vec::new()))),
        Proof::Declared => Some(Box::new(Declared::default())),
    }
}

/// Checksums of stretches.
struct Parts {
    sums: Arc<[PartSum]>,
    hasher: PartHasher,
}

impl Parts {
    fn new(sums: Arc<[PartSum]>) -> Self {
        let hasher = PartHasher::new(sums.iter().map(|sum| (sum.offset, sum.size_bytes)));
        Self { sums, hasher }
    }
}

impl Check for Parts {
    fn take(&mut self, bytes: &[u8]) {
        self.hasher.take(bytes);
    }

    fn verdict(&mut self) -> Result<(), String> {
        let found = std::mem::replace(&mut self.hasher, PartHasher::new([])).finish();
        for (sum, found) in self.sums.iter().zip(found) {
            let expected = hex::lower(&sum.sha1);
            let found = found.unwrap_or_else(|| "an early end".to_owned());
            if found != expected {
                return Err(format!(
                    "its {} bytes at {} have the SHA-1 {found}, not {expected}",
                    sum.size_bytes, sum.offset
                ));
            }
        }
        Ok(())
    }
}

/// A file with its own checksum. It is small enough to be kept.
struct InfoFile(Vec<u8>);

impl Check for InfoFile {
    fn take(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn verdict(&mut self) -> Result<(), String> {
        info_file::read("the file", &self.0, |_| Ok(())).map_err(|error| error.to_string())
    }
}

/// What the user metadata of an object of PGHoard say of it.
#[derive(Default)]
struct Declared {
    is_described: bool,
    sha256: Option<String>,
    size_bytes: Option<u64>,
    hasher: Sha256,
    read: u64,
}

impl Check for Declared {
    fn about(&mut self, user_metadata: &UserMetadata) {
        self.is_described = !user_metadata.is_empty();
        if let Ok(coding) = Coding::of(user_metadata) {
            (self.sha256, self.size_bytes) = (coding.stored_sha256, coding.stored_bytes);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.read += bytes.len() as u64;
        if self.sha256.is_some() {
            self.hasher.update(bytes);
        }
    }

    fn verdict(&mut self) -> Result<(), String> {
        if !self.is_described {
            // A directory shows an object before the file with its metadata. Copied now, it would
            // never be readable: its size would be right.
            return Err("it has no user metadata yet, without which nobody can read it".to_owned());
        }
        if let Some(size) = self.size_bytes.filter(|size| *size != self.read) {
            return Err(format!("it has {} bytes, its metadata say {size}", self.read));
        }
        let Some(expected) = &self.sha256 else { return Ok(()) };
        let found = hex::lower(&self.hasher.finalize_reset());
        if found == *expected {
            return Ok(());
        }
        Err(format!("its SHA-256 is {found}, its metadata say {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{layout::pgbackrest::info_file::tests::sealed, wal::decode::sha1_hex};

    #[track_caller]
    fn check(proof: &Proof, contents: &[u8], expected: Result<(), &str>) {
        let mut check = check_of(proof).unwrap();
        contents.chunks(3).for_each(|piece| check.take(piece));
        match (check.verdict(), expected) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
            (found, _) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn an_object_of_pghoard_is_what_its_metadata_say() {
        let verdict = |pairs: &[(&str, &str)]| {
            let mut check = check_of(&Proof::Declared).unwrap();
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            check.about(&pairs.collect());
            check.take(b"abc");
            check.verdict().err().unwrap_or_default()
        };
        let sum = hex::lower(&Sha256::digest(b"abc"));
        assert_eq!(verdict(&[("Content-Length", "3"), ("_hash", &sum)]), "");
        assert_eq!(verdict(&[("original-file-size", "9")]), "");
        assert!(verdict(&[("Content-Length", "4")]).contains("3 bytes, its metadata say 4"));
        assert!(verdict(&[("_hash", "00")]).contains("its metadata say 00"));
        assert!(verdict(&[]).contains("no user metadata yet"));
    }

    #[test]
    fn stretches_and_files_that_know_their_checksum() {
        let object = b"0123456789";
        let sum = |(offset, size): (usize, usize)| PartSum {
            offset: offset as u64,
            size_bytes: size as u64,
            sha1: hex::bytes(&sha1_hex(&object[offset..offset + size])).unwrap(),
        };
        let proof = Proof::Parts([(0, 4), (6, 4)].map(sum).into());
        check(&proof, object, Ok(()));
        check(&proof, b"0123xx6789", Ok(()));
        check(&proof, b"1123456789", Err("its 4 bytes at 0 have the SHA-1 "));
        check(&proof, b"012345678", Err("at 6 have the SHA-1 an early end, not "));
        let text = sealed("[backrest]\nbackrest-format=5\n\n[backup]\na=1\n");
        check(&Proof::InfoFile, text.as_bytes(), Ok(()));
        check(&Proof::InfoFile, text.replace("a=1", "a=2").as_bytes(), Err("checksum"));
        check(&Proof::InfoFile, &text.as_bytes()[..text.len() - 5], Err("cannot be read"));
    }
}
