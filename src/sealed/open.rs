//! Opens an object while it is read: checks it as it is stored, decrypts, decompresses, checks again.

use crate::{
    domain::hex,
    layout::pghoard::metadata::Coding,
    sealed::{
        SealedError,
        codec::{self, Decompressing},
        envelope::{HEAD, Unsealing},
        keys::Keys,
    },
};
use aws_lc_rs::digest;
use std::{
    fmt,
    io::{self, BufRead, Read},
};

/// The plain contents of an object. They count only when [`Opened::finish`] has succeeded.
pub struct Opened<R: BufRead> {
    plain: Decompressing<Unsealed<R>>,
    coding: Coding,
    plain_bytes: u64,
    failed: bool,
}

impl<R: BufRead> fmt::Debug for Opened<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("coding", &self.coding).finish_non_exhaustive()
    }
}

/// Sizes of an object that is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// As it is stored, in bytes.
    pub stored_bytes: u64,
    /// Plain, in bytes.
    pub plain_bytes: u64,
}

impl<R: BufRead> Opened<R> {
    /// Begins to open `object`.
    ///
    /// # Errors
    /// [`SealedError`], above all for keys that are missing or wrong.
    pub fn begin(object: R, coding: &Coding, keys: &Keys) -> Result<Self, SealedError> {
        let hash = coding.stored_sha256.is_some().then(|| digest::Context::new(&digest::SHA256));
        let mut stored = Stored { object, bytes: 0, hash };
        let unsealed = match &coding.key_id {
            None => Unsealed::Plain(stored),
            Some(id) => {
                let mut head = Vec::with_capacity(HEAD);
                let read = (&mut stored).take(HEAD as u64).read_to_end(&mut head);
                read.map_err(SealedError::Read)?;
                if head.is_empty() && coding.plain_bytes == Some(0) {
                    // The encryptor writes nothing at all when nothing is to be encrypted.
                    Unsealed::Plain(stored)
                } else {
                    Unsealed::Sealed(Box::new(Unsealing::begin(&head, stored, id, keys)?))
                }
            }
        };
        let plain = Decompressing::begin(unsealed, coding.compression).map_err(|source| {
            SealedError::Damaged { compression: codec::name(coding.compression), source }
        })?;
        Ok(Self { plain, coding: coding.clone(), plain_bytes: 0, failed: false })
    }

    /// Whether reading it has failed. Else an error is of whoever read the plain contents.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// What an error of reading means.
    #[must_use]
    pub fn fault(&self, error: io::Error) -> SealedError {
        fault(&self.coding, error)
    }

    /// Reads what is left and checks everything that is known of the object.
    ///
    /// # Errors
    /// [`SealedError`] when what was read may not be relied on.
    pub fn finish(mut self) -> Result<Sizes, SealedError> {
        let mut rest = vec![0; 64 << 10];
        while self.read(&mut rest).map_err(|error| fault(&self.coding, error))? > 0 {}
        let expected = self.coding.plain_bytes.unwrap_or(self.plain_bytes);
        // Decompressors may stop before the end of what they read: the checksums are behind it.
        let mut unsealed = self.plain.into_inner();
        let more = unsealed.read(&mut rest).map_err(|error| fault(&self.coding, error))?;
        let stored = unsealed.into_stored();
        stored.check(&self.coding)?;
        if more > 0 {
            return Err(SealedError::Trailing);
        }
        let found = self.plain_bytes;
        if found != expected {
            return Err(SealedError::Size { what: "decompressed", expected, found });
        }
        Ok(Sizes { stored_bytes: stored.bytes, plain_bytes: found })
    }
}

fn fault(coding: &Coding, error: io::Error) -> SealedError {
    let compression = codec::name(coding.compression);
    SealedError::inside(error).unwrap_or_else(|source| SealedError::Damaged { compression, source })
}

impl<R: BufRead> Read for Opened<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.plain.read(buffer).and_then(|count| {
            self.plain_bytes += count as u64;
            match self.coding.plain_bytes {
                // More than there should be is never right, and may be without end.
                Some(expected) if self.plain_bytes > expected => {
                    let (what, found) = ("decompressed", self.plain_bytes);
                    Err(io::Error::other(SealedError::Size { what, expected, found }))
                }
                Some(_) | None => Ok(count),
            }
        });
        self.failed |= result.is_err();
        result
    }
}

/// An object's bytes, after the encryption was taken off.
enum Unsealed<R> {
    Plain(Stored<R>),
    Sealed(Box<Unsealing<Stored<R>>>),
}

impl<R: Read> Unsealed<R> {
    fn into_stored(self) -> Stored<R> {
        match self {
            Self::Plain(stored) => stored,
            Self::Sealed(unsealing) => unsealing.into_inner(),
        }
    }
}

impl<R: Read> Read for Unsealed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stored) => stored.read(buffer),
            Self::Sealed(unsealing) => unsealing.read(buffer),
        }
    }
}

impl<R: BufRead> BufRead for Unsealed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Plain(stored) => stored.fill_buf(),
            Self::Sealed(unsealing) => unsealing.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Self::Plain(stored) => stored.consume(count),
            Self::Sealed(unsealing) => unsealing.consume(count),
        }
    }
}

/// An object's bytes as they are stored, counted and hashed.
struct Stored<R> {
    object: R,
    bytes: u64,
    hash: Option<digest::Context>,
}

impl<R> Stored<R> {
    fn check(&self, coding: &Coding) -> Result<(), SealedError> {
        if let Some(expected) = coding.stored_bytes.filter(|expected| *expected != self.bytes) {
            return Err(SealedError::Size { what: "stored", expected, found: self.bytes });
        }
        if let (Some(hash), Some(expected)) = (&self.hash, &coding.stored_sha256) {
            let found = hex::lower(hash.clone().finish().as_ref());
            if !found.eq_ignore_ascii_case(expected) {
                let expected = expected.clone();
                return Err(SealedError::Digest { what: "SHA-256", expected, found });
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Stored<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.object.read(buffer)?;
        self.bytes += count as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Stored<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.object.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        if let Some(hash) = &mut self.hash {
            // What is shown once is shown again until it is consumed, so this neither waits nor fails.
            let shown = self.object.fill_buf().unwrap_or_default();
            hash.update(&shown[..count]);
        }
        self.bytes += count as u64;
        self.object.consume(count);
    }
}
