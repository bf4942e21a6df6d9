//! A stream on its way into the store: compressed, cut into parts, each summed before it is written.
//!
//! A thread reads, compresses and cuts; this task writes. Between them waits one part, so that three
//! are in memory at most, and a store that is slow slows the tool down.

use crate::{
    layout::stream::{keys, manifest::Part},
    push::{
        error::PushError,
        files::{blocking, encoder},
        stored::Place,
    },
    store::{Contents, StoreError},
};
use bytes::Bytes;
use sha1::{Digest, Sha1};
use std::io::{self, Write};
use tokio::sync::mpsc;
use tracing::debug;

/// What was stored of a stream.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its parts in their order.
    pub(super) parts: Vec<Part>,
    /// Its size before it was compressed, in bytes.
    pub(super) plain_bytes: u64,
}

/// Stores what `source` writes as the base backup `label`.
///
/// # Errors
/// [`PushError`] of the source or of the store. What was stored by then stays there.
pub(super) async fn store(
    place: &Place,
    label: &str,
    part_bytes: usize,
    source: impl FnOnce(&mut dyn Write) -> Result<(), PushError> + Send + 'static,
) -> Result<Stored, PushError> {
    let (give, mut take) = mpsc::channel::<Cut>(1);
    let thread = blocking(move || {
        let cutter = Cutter { part: Vec::new(), part_bytes, give };
        let fault = || PushError::file("compressing", "the base backup");
        let mut sink = Counted { bytes: 0, encoder: encoder(cutter).map_err(fault())? };
        source(&mut sink)?;
        let mut cutter = sink.encoder.finish().map_err(fault())?;
        cutter.give_part().map_err(fault())?;
        Ok(sink.bytes)
    });
    let writing = async move {
        let mut parts = Vec::new();
        while let Some(cut) = take.recv().await {
            let number = u32::try_from(parts.len() + 1).unwrap_or(u32::MAX);
            let (key, size_bytes) = (keys::part(label, number), cut.bytes.len() as u64);
            if !place.write_once(&key, Contents::of(cut.bytes)).await? {
                return Err(StoreError::AlreadyExists(place.key(&key)?).into());
            }
            debug!(key, size_bytes, "a part of the base backup is stored");
            parts.push(Part { size_bytes, sha1: cut.sha1 });
        }
        Ok::<_, PushError>(parts)
    };
    let (written, read) = tokio::join!(writing, thread);
    // When the store fails, the source fails because of that.
    let parts = written?;
    Ok(Stored { parts, plain_bytes: read? })
}

/// A part with its sum.
struct Cut {
    bytes: Bytes,
    sha1: [u8; 20],
}

struct Cutter {
    part: Vec<u8>,
    part_bytes: usize,
    give: mpsc::Sender<Cut>,
}

impl Cutter {
    fn give_part(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(self.part_bytes));
        let cut = Cut { sha1: Sha1::digest(&part).into(), bytes: Bytes::from(part) };
        self.give.blocking_send(cut).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Cutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.part_bytes - self.part.len());
        self.part.extend_from_slice(&bytes[..length]);
        if self.part.len() == self.part_bytes {
            self.give_part()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Counted {
    bytes: u64,
    encoder: zstd::Encoder<'static, Cutter>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.encoder.write(bytes)?;
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{key::Key, memory::MemoryStore, read_all};
    use std::sync::Arc;

    fn place() -> Place {
        Place { store: Arc::new(MemoryStore::new()), prefix: Key::parse("orders").unwrap() }
    }

    /// Bytes that do not compress.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    #[tokio::test]
    async fn the_parts_joined_are_the_stream() {
        for length in [0, 1, 4000, 4096, 50_000] {
            let (place, plain) = (place(), noise(length));
            let source = plain.clone();
            let stored = store(&place, "20261126-043000", 4096, move |sink| {
                source.chunks(777).try_for_each(|piece| sink.write_all(piece)).unwrap();
                Ok(())
            });
            let stored = stored.await.unwrap();
            assert_eq!(stored.plain_bytes, length as u64);
            let mut joined = Vec::new();
            for (number, part) in (1..).zip(&stored.parts) {
                let key = place.key(&keys::part("20261126-043000", number)).unwrap();
                let (_, bytes) = read_all(&*place.store, &key, 1 << 20).await.unwrap();
                assert_eq!(bytes.len() as u64, part.size_bytes);
                assert_eq!(<[u8; 20]>::from(Sha1::digest(&bytes)), part.sha1);
                joined.extend_from_slice(&bytes);
            }
            let (last, full) = stored.parts.split_last().unwrap();
            assert!(full.iter().all(|part| part.size_bytes == 4096) && last.size_bytes <= 4096);
            assert_eq!(zstd::decode_all(&joined[..]).unwrap(), plain);
        }
    }

    #[tokio::test]
    async fn a_key_that_is_taken_ends_the_source_and_fails() {
        let place = place();
        let taken = keys::part("20261126-043000", 2);
        place.write_once(&taken, Contents::of(Bytes::from_static(b"x"))).await.unwrap();
        let stored = store(&place, "20261126-043000", 4096, |sink| {
            let plain = noise(64 << 10);
            let write = (0..1000).try_for_each(|_| sink.write_all(&plain));
            write.map_err(PushError::file("writing", "x"))
        });
        let error = stored.await.unwrap_err();
        assert!(matches!(error, PushError::Store(StoreError::AlreadyExists(_))), "{error}");
    }
}
