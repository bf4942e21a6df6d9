//! Brings the body of an object from asynchronous code to a thread that may block.

use crate::store::{Body, StoreError};
use bytes::{Buf, Bytes};
use futures_util::TryStreamExt;
use std::io::{self, BufRead, Read};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Pieces that may wait for the thread. A piece of the stores has about a megabyte.
const PIECES_AHEAD: usize = 4;

#[derive(Debug)]
enum Item {
    Piece(Bytes),
    End,
}

/// The end that sends.
#[derive(Debug)]
pub struct Pump {
    sender: mpsc::Sender<Item>,
}

/// The end that reads, on a thread of its own.
#[derive(Debug)]
pub struct Feed {
    receiver: mpsc::Receiver<Item>,
    piece: Bytes,
    ended: bool,
}

/// How pumping ended.
#[derive(Debug)]
pub enum Pumped {
    /// With the whole body, or because nobody reads any more and knows why.
    Whole,
    /// It was asked for.
    Stopped,
    /// The store failed.
    Failed(StoreError),
}

/// Both ends.
#[must_use]
pub fn pair() -> (Pump, Feed) {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    (Pump { sender }, Feed { receiver, piece: Bytes::new(), ended: false })
}

impl Pump {
    /// Sends the body. The other end sees an error unless all of it was sent.
    pub async fn run(
        self,
        mut body: Body,
        stop: &CancellationToken,
        count: impl Fn(usize),
    ) -> Pumped {
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return Pumped::Stopped,
                next = body.try_next() => next,
            };
            match next {
                Err(error) => return Pumped::Failed(error),
                Ok(Some(piece)) => {
                    count(piece.len());
                    if !self.give(piece).await {
                        return Pumped::Whole;
                    }
                }
                Ok(None) => {
                    self.end().await;
                    return Pumped::Whole;
                }
            }
        }
    }

    /// Sends the next piece; `false` when nobody reads any more.
    pub async fn give(&self, piece: Bytes) -> bool {
        self.sender.send(Item::Piece(piece)).await.is_ok()
    }

    /// Says that nothing more comes. Dropped without that, the other end sees an error.
    pub async fn end(self) {
        // Nobody may be reading any more.
        let _ = self.sender.send(Item::End).await;
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Shows the pieces as they came, so that nobody has to copy them.
impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Item::Piece(piece)) => self.piece = piece,
                Some(Item::End) => self.ended = true,
                None => return Err(io::Error::other("reading the store was broken off")),
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, count: usize) {
        self.piece.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(pieces: &[&'static str], is_whole: bool) -> Feed {
        let (pump, feed) = pair();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for piece in pieces {
                assert!(pump.give(Bytes::from_static(piece.as_bytes())).await);
            }
            if is_whole {
                pump.end().await;
            }
        });
        feed
    }

    #[test]
    fn pieces_are_shown_as_they_came_and_read_as_one() {
        let mut feed = fed(&["abc", "", "defg"], true);
        assert_eq!(feed.fill_buf().unwrap(), b"abc");
        feed.consume(1);
        assert_eq!(feed.fill_buf().unwrap(), b"bc");
        let mut text = String::new();
        feed.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bcdefg");
        assert!(feed.fill_buf().unwrap().is_empty(), "the end stays the end");
    }

    #[test]
    fn a_body_that_is_broken_off_is_an_error() {
        let mut feed = fed(&["abc"], false);
        let mut bytes = Vec::new();
        assert!(feed.read_to_end(&mut bytes).is_err());
        assert_eq!(bytes, b"abc");
        assert!(feed.fill_buf().is_err());
    }
}
