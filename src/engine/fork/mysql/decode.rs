//! Takes compression and encryption off a stream of any length, which is never held as a whole.

use crate::{
    domain::recovery::Codec,
    sealed::{self, SealedError, binlog::Whole, keys::Keys, open::Opened},
};
use std::io::{self, BufRead, BufReader, Read};

/// How much is read at once, in bytes.
const PIECE: usize = 128 << 10;
/// What no sound LZ4 frame goes on with: its last block has said that it is the last.
const GUARD: &[u8] = &[0xFF; 4];

/// The plain contents of a stream.
pub(super) struct Decoded<R: Read>(Kind<R>);

type Stored<R> = Opened<Whole<R>>;

enum Kind<R: Read> {
    /// Everything that `sealed` can open.
    Sealed(Box<Stored<R>>),
    Gz(Box<flate2::bufread::MultiGzDecoder<BufReader<Stored<R>>>>),
    Bz2(Box<bzip2::bufread::MultiBzDecoder<BufReader<Stored<R>>>>),
    Lz4(Box<Lz4<BufReader<Stored<R>>>>),
}

impl<R: Read> Decoded<R> {
    /// Begins to decode.
    ///
    /// # Errors
    /// [`SealedError`], above all for keys that are missing or wrong.
    pub(super) fn begin(
        object: R,
        codec: Codec,
        key_id: Option<&str>,
        keys: &Keys,
    ) -> Result<Self, SealedError> {
        let opened = sealed::binlog::open(object, codec, key_id, keys)?;
        let buffered = |opened| BufReader::with_capacity(PIECE, opened);
        Ok(Self(match codec {
            Codec::None | Codec::Zst | Codec::Snappy | Codec::Xz => Kind::Sealed(Box::new(opened)),
            Codec::Gz => Kind::Gz(Box::new(flate2::bufread::MultiGzDecoder::new(buffered(opened)))),
            Codec::Bz2 => {
                Kind::Bz2(Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(opened))))
            }
            Codec::Lz4 => Kind::Lz4(Box::new(Lz4::new(buffered(opened)))),
        }))
    }

    /// Reads what is left and checks what can be checked at the end.
    ///
    /// # Errors
    /// [`SealedError`] when what was read may not be relied on.
    pub(super) fn finish(mut self) -> Result<(), SealedError> {
        let mut rest = vec![0; PIECE];
        while self.read(&mut rest).map_err(SealedError::inside).map_err(flat)? > 0 {}
        match self.0 {
            Kind::Sealed(opened) => opened.finish(),
            Kind::Gz(decoder) => decoder.into_inner().into_inner().finish(),
            Kind::Bz2(decoder) => decoder.into_inner().into_inner().finish(),
            Kind::Lz4(decoder) => decoder.into_inner().into_inner().finish(),
        }
        .map(drop)
    }
}

fn flat(inside: Result<SealedError, io::Error>) -> SealedError {
    inside.unwrap_or_else(SealedError::Read)
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Sealed(opened) => opened.read(buffer),
            Kind::Gz(decoder) => decoder.read(buffer),
            Kind::Bz2(decoder) => decoder.read(buffer),
            Kind::Lz4(decoder) => decoder.read(buffer),
        }
    }
}

/// LZ4 frames, one after the other. The library takes an input that ends between two blocks for a
/// whole frame, so that a truncated stream would come out shorter without an error: hence the guard.
struct Lz4<R: BufRead> {
    frames: lz4_flex::frame::FrameDecoder<Guarded<R>>,
    within_frame: bool,
}

struct Guarded<R> {
    input: R,
    guard: &'static [u8],
}

impl<R: BufRead> Lz4<R> {
    fn new(input: R) -> Self {
        let guarded = Guarded { input, guard: GUARD };
        Self { frames: lz4_flex::frame::FrameDecoder::new(guarded), within_frame: false }
    }

    fn into_inner(self) -> R {
        self.frames.into_inner().input
    }
}

impl<R: BufRead> Read for Lz4<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.within_frame && self.frames.get_mut().input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.within_frame = true;
            let count = self.frames.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if self.frames.get_ref().guard.len() < GUARD.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.within_frame = false;
        }
    }
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer)? {
            0 => self.guard.read(buffer),
            count => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn packed(codec: Codec, plain: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        match codec {
            Codec::None => packed.extend_from_slice(plain),
            Codec::Gz => {
                let level = flate2::Compression::fast();
                flate2::write::GzEncoder::new(&mut packed, level).write_all(plain).unwrap();
            }
            Codec::Bz2 => {
                let level = bzip2::Compression::fast();
                bzip2::write::BzEncoder::new(&mut packed, level).write_all(plain).unwrap();
            }
            Codec::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut packed);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
            }
            Codec::Zst => packed = zstd::encode_all(plain, 1).unwrap(),
            Codec::Snappy | Codec::Xz => unreachable!("they are tried where they are made"),
        }
        packed
    }

    fn unpacked(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let begun = Decoded::begin(bytes, codec, None, &Keys::none());
        let mut decoded = begun.map_err(|error| error.to_string())?;
        let mut plain = Vec::new();
        decoded.read_to_end(&mut plain).map_err(|error| error.to_string())?;
        decoded.finish().map_err(|error| error.to_string())?;
        Ok(plain)
    }

    #[test]
    fn every_codec_gives_back_what_went_in_and_notices_a_missing_end() {
        let plain: Vec<u8> = (0..700_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for codec in [Codec::None, Codec::Gz, Codec::Bz2, Codec::Lz4, Codec::Zst] {
            let whole = packed(codec, &plain);
            assert!(unpacked(codec, &whole).unwrap() == plain, "{codec:?}");
            let twice = [whole.clone(), whole.clone()].concat();
            assert_eq!(unpacked(codec, &twice).unwrap().len(), 2 * plain.len(), "{codec:?}");
            if codec != Codec::None {
                for cut in [1, 5, whole.len() / 2] {
                    let cut = &whole[..whole.len() - cut];
                    assert!(
                        unpacked(codec, cut).is_err(),
                        "{codec:?} less {cut:?}",
                        cut = cut.len()
                    );
                }
            }
        }
    }
}
