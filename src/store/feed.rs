//! Brings the body of an object from asynchronous code to a thread that may block.

use crate::store::{Body, StoreError};
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::io::{self, Read};
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
        while self.piece.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Item::Piece(piece)) => self.piece = piece,
                Some(Item::End) => self.ended = true,
                None => return Err(io::Error::other("reading the store was broken off")),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
