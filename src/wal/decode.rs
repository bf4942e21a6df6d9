//! Takes the compression off a segment, with a hard limit on what comes out.

use crate::domain::{hex, lsn::SegmentSize, recovery::Codec};
use sha1::{Digest, Sha1};
use std::io::{self, Read, Write};

/// Largest segment, in bytes.
const BYTES_MAX: u64 = 1 << 30;
/// How much is handed on at once, in bytes: little enough for a processor's cache.
const PIECE: usize = 128 << 10;
/// Memory that an `.xz` stream may ask for, in bytes. The strongest preset asks for 65 MiB.
const XZ_MEMORY_MAX: u64 = 256 << 20;

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
    let mut plain = Vec::new();
    decode_into(codec, bytes, &mut plain)?;
    Ok(plain)
}

/// Decompresses `bytes` in place of what `plain` holds, whose memory is used again.
///
/// # Errors
/// [`DecodeError`] when the data are damaged or too large.
pub fn decode_into(codec: Codec, bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), DecodeError> {
    // A little more, so that the end is found without making room for twice as much.
    let expected = usize::try_from(SegmentSize::DEFAULT.bytes()).unwrap_or(0) + (64 << 10);
    plain.clear();
    plain.reserve(expected);
    pour(codec, bytes, |reader| io::copy(reader, plain))
}

/// Decompresses `bytes` into `out`, piece by piece, and compares the SHA-1 where it is known. What `out`
/// has taken counts only when this has succeeded.
///
/// # Errors
/// [`DecodeError`] when the data are damaged or too large, or have another sum, or `out` fails.
pub fn decode_to(
    codec: Codec,
    bytes: &[u8],
    sha1: Option<&str>,
    out: &mut impl Write,
) -> Result<(), DecodeError> {
    let mut hash = sha1.map(|_| Sha1::new());
    pour(codec, bytes, |reader| {
        in_pieces(reader, |piece| {
            if let Some(hash) = &mut hash {
                hash.update(piece);
            }
            out.write_all(piece)
        })
    })?;
    match (hash, sha1) {
        (Some(hash), Some(expected)) => compare(hex::lower(&hash.finalize()), expected),
        (_, _) => Ok(()),
    }
}

/// Checks the SHA-1 of what `bytes` decompress to, which is never held as a whole.
///
/// # Errors
/// [`DecodeError`] when the data are damaged or too large, or have another sum.
pub fn check(codec: Codec, bytes: &[u8], expected: &str) -> Result<(), DecodeError> {
    decode_to(codec, bytes, Some(expected), &mut io::sink())
}

/// Shows everything that `reader` gives to `take`, and says how many bytes that was.
fn in_pieces(
    reader: &mut dyn Read,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let (mut piece, mut count) = (vec![0; PIECE], 0);
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(count),
            Ok(read) => {
                take(&piece[..read])?;
                count += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Decompresses `bytes`, which `copy` must read to the end, and say how many came out.
fn pour(
    codec: Codec,
    bytes: &[u8],
    mut copy: impl FnMut(&mut dyn Read) -> io::Result<u64>,
) -> Result<(), DecodeError> {
    let damaged = |source| DecodeError::Damaged { codec, source };
    if bytes.is_empty() && codec != Codec::None {
        // To some of the libraries nothing at all is a sound object that holds nothing.
        return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
    }
    let reader: Box<dyn Read + '_> = match codec {
        Codec::None => Box::new(bytes),
        Codec::Gz => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        Codec::Lz4 => return lz4(bytes, copy).map_err(damaged).and_then(is_small),
        Codec::Zst => Box::new(zstd::Decoder::with_buffer(bytes).map_err(damaged)?),
        Codec::Bz2 => Box::new(bzip2::read::MultiBzDecoder::new(bytes)),
        Codec::Snappy => Box::new(snap::read::FrameDecoder::new(bytes)),
        Codec::Xz => Box::new(xz(bytes).map_err(damaged)?),
    };
    copy(&mut reader.take(BYTES_MAX + 1)).map_err(damaged).and_then(is_small)
}

fn xz(bytes: &[u8]) -> io::Result<liblzma::bufread::XzDecoder<&[u8]>> {
    let flags = liblzma::stream::CONCATENATED;
    let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_MAX, flags)?;
    Ok(liblzma::bufread::XzDecoder::new_stream(bytes, stream))
}

fn is_small(bytes: u64) -> Result<(), DecodeError> {
    if bytes > BYTES_MAX { Err(DecodeError::TooLarge) } else { Ok(()) }
}

/// Decompresses LZ4 frames, one after the other, and says how many bytes came out.
///
/// `lz4_flex` takes an input that ends between two blocks for a whole frame, so a truncated object
/// would come out shorter without an error. A guard behind the input, which no sound frame reaches,
/// and which is no sound block either, tells the two apart.
fn lz4(bytes: &[u8], mut copy: impl FnMut(&mut dyn Read) -> io::Result<u64>) -> io::Result<u64> {
    const GUARD: &[u8] = &[0xFF; 4];
    let mut input = bytes.chain(GUARD);
    let mut count = 0;
    while !input.get_ref().0.is_empty() && count <= BYTES_MAX {
        let room = BYTES_MAX + 1 - count;
        let frame = lz4_flex::frame::FrameDecoder::new(&mut input);
        count += copy(&mut frame.take(room))?;
        if input.get_ref().1.len() < GUARD.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(count)
}

/// Checks contents against a SHA-1 in lower-case hexadecimal digits.
///
/// # Errors
/// [`DecodeError::Checksum`] with both.
pub fn check_sha1(plain: &[u8], expected: &str) -> Result<(), DecodeError> {
    compare(sha1_hex(plain), expected)
}

fn compare(found: String, expected: &str) -> Result<(), DecodeError> {
    if found == expected {
        Ok(())
    } else {
        Err(DecodeError::Checksum { expected: expected.to_owned(), found })
    }
}

/// SHA-1 in lower-case hexadecimal digits.
#[must_use]
pub fn sha1_hex(bytes: &[u8]) -> String {
    hex::lower(&Sha1::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            Codec::Snappy => {
                let mut out = snap::write::FrameEncoder::new(vec![]);
                out.write_all(plain).unwrap();
                out.into_inner().unwrap()
            }
            Codec::Xz => {
                let mut out = liblzma::write::XzEncoder::new(vec![], 0);
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
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
        for codec in
            [Codec::None, Codec::Gz, Codec::Lz4, Codec::Zst, Codec::Bz2, Codec::Snappy, Codec::Xz]
        {
            let object = packed(codec, &plain);
            assert_eq!(decode(codec, &object).unwrap(), plain, "{codec:?}");
            let mut pieces = Vec::new();
            decode_to(codec, &object, Some(&sha1_hex(&plain)), &mut pieces).unwrap();
            assert!(pieces == plain, "{codec:?}");
            assert!(check(codec, &object, &sha1_hex(&plain)).is_ok(), "{codec:?}");
            let other = check(codec, &object, &sha1_hex(b"")).unwrap_err();
            assert!(matches!(other, DecodeError::Checksum { .. }), "{codec:?}");
            if codec != Codec::None {
                let half = decode(codec, &object[..object.len() / 2]);
                assert!(matches!(half, Err(DecodeError::Damaged { .. })), "{codec:?}");
            }
        }
    }

    #[test]
    fn no_part_of_an_object_passes_for_the_whole() {
        let plain: Vec<u8> = (0..400_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        // Snappy's frames have no end: what is cut between two passes, and its size and SHA-1 tell.
        for codec in [Codec::Gz, Codec::Lz4, Codec::Zst, Codec::Bz2, Codec::Xz] {
            let object = packed(codec, &plain);
            let whole: Vec<usize> =
                (0..object.len()).filter(|n| decode(codec, &object[..*n]).is_ok()).collect();
            assert!(whole.is_empty(), "{codec:?}: {whole:?} of {} bytes pass", object.len());
            let more = [object.as_slice(), b"garbage"].concat();
            assert!(decode(codec, &more).is_err(), "{codec:?} with garbage behind it");
            let twice = decode(codec, &[object.clone(), object].concat()).unwrap();
            assert_eq!(twice, [plain.as_slice(), &plain].concat(), "{codec:?}");
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
