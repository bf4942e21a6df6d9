//! Buffers for contents on their way, used again and again.
//!
//! A large buffer that is fresh from the system costs a page fault for every 4 KiB, which is more
//! than copying into it. And contents that are copied out of a connection's own buffer at once let
//! that one be used again, too.

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

/// Gathers a body of `size` bytes in one piece; of one that is longer, not more than a piece too
/// much. A body that is in one piece already is not copied.
pub(crate) async fn gather<E>(
    body: impl Stream<Item = Result<Bytes, E>>,
    size: usize,
) -> Result<Bytes, E> {
    let mut body = std::pin::pin!(body);
    let first = body.try_next().await?.unwrap_or_default();
    if first.len() == size {
        return match body.try_next().await? {
            None => Ok(first),
            Some(more) => Ok([first, more].concat().into()),
        };
    }
    let mut buffer = Buffer::with_room(size.max(first.len()));
    buffer.extend_from_slice(&first);
    drop(first);
    while let Some(piece) = body.try_next().await? {
        buffer.extend_from_slice(&piece);
        if buffer.len() > size {
            break;
        }
    }
    Ok(buffer.into_bytes())
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

    #[test]
    fn bodies_are_gathered_whatever_their_pieces() {
        let of = |pieces: &[&'static str], size| {
            let pieces =
                pieces.iter().map(|piece| Ok::<_, ()>(Bytes::from_static(piece.as_bytes())));
            gather(stream::iter(pieces), size).now_or_never().unwrap().unwrap()
        };
        assert_eq!(of(&["abc"], 3), "abc");
        assert_eq!(of(&["a", "", "bc"], 3), "abc");
        assert_eq!(of(&[], 3), "");
        assert_eq!(of(&["ab"], 3), "ab");
        assert_eq!(of(&["abc", "d"], 3), "abcd", "too much is seen");
        assert!(of(&["ab", "cd", "e"], 3).len() > 3);
    }
}
