//! Takes compression off what it reads, for every algorithm that PGHoard offers.

use crate::layout::pghoard::metadata::Compression;
use std::{
    fmt,
    io::{self, BufRead, Read},
};

/// Memory that an `.xz` stream may ask for, in bytes. The strongest preset asks for 65 MiB.
const XZ_MEMORY_MAX: u64 = 256 << 20;

/// Decompresses what it reads.
pub enum Decompressing<R: BufRead> {
    /// Nothing to do.
    None(R),
    /// Zstandard frames, one after the other.
    Zstd(zstd::Decoder<'static, R>),
    /// Snappy's framing format, which checks each piece with a CRC.
    Snappy(Box<snap::read::FrameDecoder<R>>),
    /// `.xz` streams, one after the other.
    Lzma(liblzma::bufread::XzDecoder<R>),
}

impl<R: BufRead> fmt::Debug for Decompressing<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressing")
    }
}

impl<R: BufRead> Decompressing<R> {
    /// Begins to decompress.
    ///
    /// # Errors
    /// Of the library, when it cannot begin.
    pub fn begin(object: R, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(object),
            Compression::Zstd => Self::Zstd(zstd::Decoder::with_buffer(object)?),
            Compression::Snappy => Self::Snappy(Box::new(snap::read::FrameDecoder::new(object))),
            Compression::Lzma => {
                let flags = liblzma::stream::CONCATENATED;
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_MAX, flags)?;
                Self::Lzma(liblzma::bufread::XzDecoder::new_stream(object, stream))
            }
        })
    }

    /// What was read from.
    pub fn into_inner(self) -> R {
        match self {
            Self::None(object) => object,
            Self::Zstd(decoder) => decoder.finish(),
            Self::Snappy(decoder) => decoder.into_inner(),
            Self::Lzma(decoder) => decoder.into_inner(),
        }
    }
}

impl<R: BufRead> Read for Decompressing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(object) => object.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Snappy(decoder) => decoder.read(buffer),
            Self::Lzma(decoder) => decoder.read(buffer),
        }
    }
}

/// The name of an algorithm in messages.
#[must_use]
pub fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "plain contents",
        Compression::Zstd => "zstd",
        Compression::Snappy => "snappy",
        Compression::Lzma => "lzma",
    }
}
