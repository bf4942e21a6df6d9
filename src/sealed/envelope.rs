//! PGHoard's encryption: `pghoa1`, the length of a block, the block, data, a checksum.
//!
//! 1. six bytes `pghoa1`, and the block's length as 16 bits, the higher byte first;
//! 2. the block, encrypted with RSA-OAEP (SHA-1): an AES key and a first counter of 16 bytes each,
//!    and a key of 32 bytes for the checksum;
//! 3. the data, encrypted with AES-128 in counter mode;
//! 4. HMAC-SHA-256 of the *encrypted* data, 32 bytes.
//!
//! Source: `rohmu/encryptor.py`.

use crate::sealed::{SealedError, keys::Keys};
use aws_lc_rs::{
    cipher::{AES_128, DecryptionContext, StreamingDecryptingKey, UnboundCipherKey},
    constant_time, hmac,
    iv::FixedLength,
};
use std::{
    fmt,
    io::{self, BufRead, Read},
};

pub const MAGIC: &[u8] = b"pghoa1";
/// Size of the magic text and the length of the block, in bytes.
pub const HEAD: usize = 8;
const FOOTER: usize = 32;
const ENDS_EARLY: SealedError = SealedError::Truncated("it ends before its data");
/// Largest block: an RSA key of 16384 bits.
const BLOCK_BYTES_MAX: usize = 2048;
/// How much is decrypted at once, in bytes.
const PIECE: usize = 64 << 10;
/// What the cipher wants its output to be longer than its input.
const SLACK: usize = 16;

/// Decrypts what it reads. Ends without an error only when the checksum at the end is right, so
/// whoever reads to the end knows that all of it was.
pub struct Unsealing<R> {
    object: R,
    cipher: StreamingDecryptingKey,
    checksum: Option<hmac::Context>,
    /// Read and not yet decrypted: the last [`FOOTER`] bytes may be the checksum.
    sealed: Vec<u8>,
    plain: Vec<u8>,
    /// Where in `plain` the next byte is.
    at: usize,
    /// End of what is plain.
    end: usize,
}

impl<R> fmt::Debug for Unsealing<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsealing").finish_non_exhaustive()
    }
}

impl<R: Read> Unsealing<R> {
    /// Reads the block for the key `id`. `head` is what was read already of the first
    /// [`HEAD`] bytes.
    ///
    /// # Errors
    /// [`SealedError`] when the key is missing or does not fit, or the object is none like this;
    /// [`SealedError::Read`] when reading fails.
    pub fn begin(head: &[u8], mut object: R, id: &str, keys: &Keys) -> Result<Self, SealedError> {
        if !head.starts_with(MAGIC) && head.len() >= MAGIC.len() {
            return Err(SealedError::NotEncrypted);
        }
        let &[.., high, low] = head else { return Err(ENDS_EARLY) };
        if head.len() < HEAD {
            return Err(ENDS_EARLY);
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > BLOCK_BYTES_MAX {
            return Err(SealedError::NotEncrypted);
        }
        let mut block = vec![0; length];
        exactly(&mut object, &mut block)?;
        let secrets = keys
            .decrypt(id, &block)
            .ok_or_else(|| SealedError::NoKey(id.to_owned()))?
            .filter(|secrets| secrets.len() == 64)
            .ok_or_else(|| SealedError::WrongKey(id.to_owned()))?;
        let (key, counter) = (&secrets[..16], &secrets[16..32]);
        let counter: [u8; 16] = counter.try_into().expect("it has 16 bytes");
        let context = DecryptionContext::Iv128(FixedLength::from(counter));
        let cipher = UnboundCipherKey::new(&AES_128, key)
            .and_then(|key| StreamingDecryptingKey::ctr(key, context))
            .map_err(|_| SealedError::WrongKey(id.to_owned()))?;
        let checksum = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &secrets[32..]));
        Ok(Self {
            object,
            cipher,
            checksum: Some(checksum),
            sealed: Vec::with_capacity(PIECE + FOOTER),
            plain: vec![0; PIECE + SLACK],
            at: 0,
            end: 0,
        })
    }

    /// What was read from.
    pub fn into_inner(self) -> R {
        self.object
    }

    /// Decrypts the next piece, or checks the checksum when there is none.
    fn advance(&mut self) -> Result<(), io::Error> {
        while self.sealed.len() <= FOOTER {
            let want = (PIECE + FOOTER - self.sealed.len()) as u64;
            if (&mut self.object).take(want).read_to_end(&mut self.sealed)? == 0 {
                return self.check().map_err(io::Error::other);
            }
        }
        let Some(checksum) = &mut self.checksum else { return Ok(()) };
        let ready = self.sealed.len() - FOOTER;
        checksum.update(&self.sealed[..ready]);
        let written = self
            .cipher
            .update(&self.sealed[..ready], &mut self.plain)
            .map_err(|_| io::Error::other("the cipher failed"))?
            .written()
            .len();
        self.sealed.drain(..ready);
        (self.at, self.end) = (0, written);
        Ok(())
    }

    fn check(&mut self) -> Result<(), SealedError> {
        let Some(checksum) = self.checksum.take() else { return Ok(()) };
        if self.sealed.len() < FOOTER {
            return Err(SealedError::Truncated("it ends before its checksum"));
        }
        constant_time::verify_slices_are_equal(checksum.sign().as_ref(), &self.sealed)
            .map_err(|_| SealedError::Authentication)
    }
}

impl<R: Read> Read for Unsealing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let plain = self.fill_buf()?;
        let count = buffer.len().min(plain.len());
        buffer[..count].copy_from_slice(&plain[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Unsealing<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.end && self.checksum.is_some() {
            self.advance()?;
        }
        Ok(&self.plain[self.at..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

fn exactly(object: &mut impl Read, buffer: &mut [u8]) -> Result<(), SealedError> {
    object.read_exact(buffer).map_err(|source| {
        let early = source.kind() == io::ErrorKind::UnexpectedEof;
        if early { ENDS_EARLY } else { SealedError::Read(source) }
    })
}
