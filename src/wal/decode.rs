//! Takes the compression off a segment, with a hard limit on what comes out.

use crate::domain::{lsn::SegmentSize, recovery::Codec};
use sha1::{Digest, Sha1};
use std::{
    fmt::Write as _,
    io::{self, Read},
};

/// Largest segment, in bytes.
const BYTES_MAX: u64 = 1 << 30;

/// An object is not a compressed segment.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The compressed data end too early or are damaged.
    #[error("decompressing it as {codec:?} failed: it is truncated or damaged")]
    Damaged {
        /// How it should be compressed.
        codec: Codec,
        /// What the library said.
        #[source]
        source: io::Error,
    },
    /// More came out than a segment can hold.
    #[error("it decompresses to more than {BYTES_MAX} bytes")]
    TooLarge,
    /// The contents are not those that the name or the metadata promise.
    #[error("its contents have the SHA-1 {found}, not {expected}")]
    Checksum {
        /// What was promised.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// Decompresses `bytes`.
///
/// # Errors
/// [`DecodeError`] when the data are damaged or too large.
pub fn decode(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let damaged = |source| DecodeError::Damaged { codec, source };
    let reader: Box<dyn Read + '_> = match codec {
        Codec::None => Box::new(bytes),
        Codec::Gz => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        Codec::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(bytes)),
        Codec::Zst => Box::new(zstd::Decoder::with_buffer(bytes).map_err(damaged)?),
        Codec::Bz2 => Box::new(bzip2::read::MultiBzDecoder::new(bytes)),
    };
    let expected = usize::try_from(SegmentSize::DEFAULT.bytes()).unwrap_or(0);
    let mut plain = Vec::with_capacity(expected);
    reader.take(BYTES_MAX + 1).read_to_end(&mut plain).map_err(damaged)?;
    if plain.len() as u64 > BYTES_MAX {
        return Err(DecodeError::TooLarge);
    }
    Ok(plain)
}

/// Checks contents against a SHA-1 in lower-case hexadecimal digits.
///
/// # Errors
/// [`DecodeError::Checksum`] with both.
pub fn check_sha1(plain: &[u8], expected: &str) -> Result<(), DecodeError> {
    let found = sha1_hex(plain);
    if found == expected {
        Ok(())
    } else {
        Err(DecodeError::Checksum { expected: expected.to_owned(), found })
    }
}

/// SHA-1 in lower-case hexadecimal digits.
#[must_use]
pub fn sha1_hex(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().fold(String::with_capacity(40), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn packed(codec: Codec, plain: &[u8]) -> Vec<u8> {
        match codec {
            Codec::None => plain.to_vec(),
            Codec::Gz => {
                let mut out = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
            Codec::Lz4 => {
                let mut out = lz4_flex::frame::FrameEncoder::new(vec![]);
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
            Codec::Zst => zstd::encode_all(plain, 1).unwrap(),
            Codec::Bz2 => {
                let mut out = bzip2::write::BzEncoder::new(vec![], bzip2::Compression::fast());
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
        }
    }

    #[test]
    fn every_codec_round_trips_and_refuses_half_an_object() {
        let plain: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for codec in [Codec::None, Codec::Gz, Codec::Lz4, Codec::Zst, Codec::Bz2] {
            let object = packed(codec, &plain);
            assert_eq!(decode(codec, &object).unwrap(), plain, "{codec:?}");
            if codec != Codec::None {
                let half = decode(codec, &object[..object.len() / 2]);
                assert!(matches!(half, Err(DecodeError::Damaged { .. })), "{codec:?}");
            }
        }
    }

    #[test]
    fn the_checksum_names_both_sides() {
        let sum = sha1_hex(b"abc");
        assert_eq!(sum, "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert!(check_sha1(b"abc", &sum).is_ok());
        assert!(check_sha1(b"abd", &sum).unwrap_err().to_string().contains(&sum));
    }
}
