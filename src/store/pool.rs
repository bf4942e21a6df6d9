//! Buffers for contents on their way, used again and again.
//!
//! A large buffer that is fresh from the system costs a page fault for every 4 KiB, which is more
//! than copying into it. And contents that are copied out of a connection's own buffer at once let
//! that one be used again, too.

use crate::store::proof::Crc64;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Smaller ones are the allocator's business, in bytes.
const POOLED_BYTES_MIN: usize = 64 << 10;
/// Larger ones are too rare to be kept, in bytes.
const POOLED_BYTES_MAX: usize = 16 << 20;
/// What is kept for later, in bytes.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Smaller pieces of a body are copied together, in bytes.
const KEPT_PIECE_BYTES_MIN: usize = 64 << 10;
/// How many bytes of them at once, where larger pieces are kept.
const JOINED_BYTES_MAX: usize = 1 << 20;

/// Largest body of which pieces are kept as they came, in bytes.
const UNCOPIED_BYTES_MAX: u64 = 4 << 20;

static KEPT: Mutex<Kept> = Mutex::new(Kept { buffers: Vec::new(), bytes: 0 });

struct Kept {
    /// The one that was given back last comes last: it may still be in a processor's cache.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// A buffer. It is kept for later when it, and what was made of it, is dropped.
#[derive(Debug)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer with room for `bytes`.
    pub(crate) fn with_room(bytes: usize) -> Self {
        if !(POOLED_BYTES_MIN..=POOLED_BYTES_MAX).contains(&bytes) {
            return Self(Vec::with_capacity(bytes));
        }
        let class = class(bytes);
        Self(kept().take(class).unwrap_or_else(|| Vec::with_capacity(class)))
    }

    /// What it holds, without copying.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

/// The sizes that there are: few, so that one fits the next who asks.
fn class(bytes: usize) -> usize {
    match bytes {
        0..=0x10_0000 => bytes.next_power_of_two(),
        _ => bytes.next_multiple_of(1 << 20),
    }
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn take(&mut self, class: usize) -> Option<Vec<u8>> {
        let at = self.buffers.iter().rposition(|buffer| buffer.capacity() == class)?;
        self.bytes -= class;
        Some(self.buffers.remove(at))
    }

    /// Keeps a buffer, and gives those that are too many.
    fn keep(&mut self, buffer: Vec<u8>) -> Vec<Vec<u8>> {
        self.bytes += buffer.capacity();
        self.buffers.push(buffer);
        let mut count = 0;
        while self.bytes > KEPT_BYTES_MAX {
            self.bytes -= self.buffers[count].capacity();
            count += 1;
        }
        self.buffers.drain(..count).collect()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        let size = buffer.capacity();
        if (POOLED_BYTES_MIN..=POOLED_BYTES_MAX).contains(&size) && class(size) == size {
            buffer.clear();
            // Freed only after the pool is free again.
            let surplus = kept().keep(buffer);
            drop(surplus);
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Contents in memory, in the pieces in which they came.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    pieces: Vec<Bytes>,
    size_bytes: u64,
    crc64: u64,
}

impl Pieces {
    /// The pieces.
    pub fn iter(&self) -> std::slice::Iter<'_, Bytes> {
        self.pieces.iter()
    }

    /// The pieces themselves.
    #[must_use]
    pub fn into_vec(self) -> Vec<Bytes> {
        self.pieces
    }

    /// The same contents, each piece made another.
    #[must_use]
    pub fn map(self, of: impl FnMut(Bytes) -> Bytes) -> Self {
        Self { pieces: self.pieces.into_iter().map(of).collect(), ..self }
    }

    /// Size, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// CRC-64/NVME.
    #[must_use]
    pub fn crc64(&self) -> u64 {
        self.crc64
    }

    /// All in one piece, which is a copy where there are several.
    #[must_use]
    pub fn join(&self) -> Bytes {
        if let [piece] = &self.pieces[..] {
            return piece.clone();
        }
        let mut buffer = Buffer::with_room(self.pieces.iter().map(Bytes::len).sum());
        self.pieces.iter().for_each(|piece| buffer.extend_from_slice(piece));
        buffer.into_bytes()
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        let mut sum = Crc64::new();
        sum.update(&bytes);
        let size_bytes = bytes.len() as u64;
        Self { pieces: vec![bytes], size_bytes, crc64: sum.finish() }
    }
}

/// Gathers a body of `size` bytes; of one that is longer, not more than a piece too much.
///
/// Of a body that is not large, large pieces are kept as they came, which saves copying them. Small
/// ones are copied: each would hold a connection's whole buffer. A large body is copied, since so many
/// fresh buffers of connections as it would hold cost more than the copy.
pub(crate) async fn gather_pieces<E>(
    body: impl Stream<Item = Result<Bytes, E>>,
    size: u64,
) -> Result<Pieces, E> {
    let mut body = std::pin::pin!(body);
    let (mut pieces, mut sum, mut read) = (Vec::new(), Crc64::new(), 0);
    let (mut small, is_large) = (Buffer(Vec::new()), size > UNCOPIED_BYTES_MAX);
    while let Some(piece) = body.try_next().await? {
        // While a cache still holds it.
        sum.update(&piece);
        let left = size.saturating_sub(read);
        read += piece.len() as u64;
        let is_whole = piece.len() as u64 == size;
        let is_copied = !is_whole && (is_large || piece.len() < KEPT_PIECE_BYTES_MIN);
        let is_full = small.len() + piece.len() > small.capacity();
        if !small.is_empty() && (!is_copied || is_full) {
            pieces.push(std::mem::replace(&mut small, Buffer(Vec::new())).into_bytes());
        }
        if is_copied {
            if small.capacity() == 0 {
                let most = if is_large { usize::MAX } else { JOINED_BYTES_MAX };
                let room = usize::try_from(left).unwrap_or(usize::MAX).min(most);
                small = Buffer::with_room(room.max(piece.len()));
            }
            small.extend_from_slice(&piece);
        } else {
            pieces.push(piece);
        }
        if read > size {
            break;
        }
    }
    if !small.is_empty() {
        pieces.push(small.into_bytes());
    }
    Ok(Pieces { pieces, size_bytes: read, crc64: sum.finish() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, stream};

    #[test]
    fn buffers_are_used_again_and_not_too_many_are_kept() {
        // A size that nobody else in this process asks for.
        let size = (13 << 20) - 5;
        let mut buffer = Buffer::with_room(size);
        buffer.extend_from_slice(b"abc");
        let bytes = buffer.into_bytes();
        let (address, part) = (bytes.as_ptr(), bytes.slice(1..));
        drop(bytes);
        assert_ne!(Buffer::with_room(size).as_ptr(), address, "a part of it is still in use");
        drop(part);
        let again = Buffer::with_room(size);
        assert!(again.is_empty() && again.capacity() == 13 << 20);
        drop((0..20).map(|_| Buffer::with_room(size)).collect::<Vec<_>>());
        let kept = kept();
        assert!(kept.bytes <= KEPT_BYTES_MAX);
        assert_eq!(kept.bytes, kept.buffers.iter().map(Vec::capacity).sum::<usize>());
    }

    /// The sizes of the pieces that become of a body of `size` bytes in pieces of `sizes`.
    fn gathered(sizes: &[usize], size: u64) -> Vec<usize> {
        let all: Vec<_> =
            (0..sizes.iter().sum::<usize>()).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let all = Bytes::from(all);
        let mut left = all.clone();
        let pieces: Vec<_> = sizes.iter().map(|size| Ok::<_, ()>(left.split_to(*size))).collect();
        let gathered = gather_pieces(stream::iter(pieces), size).now_or_never().unwrap().unwrap();
        let whole = Pieces::from(gathered.join());
        assert_eq!(gathered.size_bytes(), whole.size_bytes());
        assert_eq!(gathered.crc64(), whole.crc64());
        assert_eq!(gathered.join(), all.slice(..gathered.join().len()));
        gathered.iter().map(Bytes::len).collect()
    }

    #[test]
    fn small_pieces_are_copied_together_and_large_ones_are_kept() {
        let (large, small) = (KEPT_PIECE_BYTES_MIN, 1000);
        assert_eq!(gathered(&[], 0), [0; 0]);
        assert_eq!(gathered(&[3], 3), [3], "it is all in one piece");
        assert_eq!(gathered(&[1, 0, 2], 3), [3]);
        assert_eq!(gathered(&[2], 3), [2], "too little is seen");
        assert_eq!(gathered(&[2, 2, 2], 3), [2, 2], "too much is seen, and no more is read");
        let sizes = [small, small, large, large, small, large, small, small];
        let size = sizes.iter().sum::<usize>() as u64;
        assert_eq!(gathered(&sizes, size), [2000, large, large, small, large, 2000]);
        let many = vec![large - 1; 40];
        let in_one = gathered(&[large; 100], 100 * large as u64);
        assert_eq!(in_one, [100 * large], "a large body is copied");
        let gathered = gathered(&many, 40 * (large as u64 - 1));
        assert!(gathered.iter().all(|piece| *piece <= JOINED_BYTES_MAX), "{gathered:?}");
        assert_eq!(gathered.iter().sum::<usize>(), 40 * (large - 1));
        assert!(gathered.len() <= 3, "{gathered:?}");
    }
}
