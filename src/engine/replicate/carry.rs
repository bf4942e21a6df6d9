//! One step on its way: an object, to the targets of one or several lanes.

use crate::{
    engine::{
        catalog::reading::SEGMENT_OBJECT_BYTES_MAX,
        replicate::{
            execute::{CopyError, Event, Side},
            plan::{Proof, Step},
            prove::check_of,
        },
    },
    store::{
        Contents, StoreError, Stored,
        transfer::{Destination, Landed, Means, Origin, fail_all, read_whole, spread, transfer},
    },
    wal::decode,
};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// One step under way, for one or several lanes.
pub(super) struct Job {
    pub(super) step: Step,
    pub(super) source: Side,
    pub(super) means: Means,
    pub(super) proofs: Arc<Semaphore>,
    pub(super) to: Vec<Destination>,
    pub(super) events: Vec<Event>,
    pub(super) tell: mpsc::UnboundedSender<Event>,
}

impl Job {
    pub(super) async fn run(mut self) {
        let mut events: Vec<_> = std::mem::take(&mut self.events).into_iter().map(Some).collect();
        let (tell, key) = (self.tell.clone(), self.step.key().to_owned());
        let mut land = |at: usize, done| {
            if let Some(mut event) = events.get_mut(at).and_then(Option::take) {
                event.done = done;
                // Nobody listens any more when the run was given up.
                let _ = tell.send(event);
            }
        };
        match self.carry(&mut |at, landed| land(at, done(&key, landed))).await {
            Ok(()) => {}
            Err(what) => {
                let damaged = || CopyError::Damaged { key: key.clone(), what: what.clone() };
                (0..self.to.len()).for_each(|at| land(at, Some(Err(damaged()))));
            }
        }
    }

    /// Writes the object to all destinations, unless it is damaged.
    async fn carry(&self, tell: &mut (dyn FnMut(usize, Landed) + Send)) -> Result<(), String> {
        let (proof, size_bytes) = match &self.step {
            Step::Write { bytes, .. } => {
                for (at, Destination { store, key, condition, .. }) in self.to.iter().enumerate() {
                    let written = store.write(key, Contents::of(bytes.clone()), condition).await;
                    tell(at, written.map_or_else(Landed::Failed, Landed::Stored));
                }
                return Ok(());
            }
            Step::Copy { proof, size_bytes, .. } => (proof, *size_bytes),
        };
        let key = self.source.prefix.join(self.step.key()).map_err(|error| error.to_string())?;
        let origin = Origin { store: self.source.store.clone(), key, size_bytes };
        match proof {
            Proof::Size | Proof::Parts(_) | Proof::InfoFile | Proof::Declared => {
                let check = check_of(proof);
                transfer(&origin, check, &self.to, &self.means, tell).await;
            }
            Proof::Sha1 { sha1, codec } => {
                if size_bytes > SEGMENT_OBJECT_BYTES_MAX {
                    return Err(format!("it has {size_bytes} bytes, too many for a segment"));
                }
                let whole = match read_whole(&origin, &self.means).await {
                    Ok(whole) => whole,
                    Err(error) => {
                        fail_all(&error, self.to.len(), tell);
                        return Ok(());
                    }
                };
                // Proven before it is written: a damaged segment never replaces a good one.
                let (codec, sha1, object) = (*codec, sha1.clone(), whole.pieces.clone());
                let turn = self.proofs.acquire().await.expect("the semaphore is never closed");
                let proven = tokio::task::spawn_blocking(move || {
                    decode::check(codec, &object.join(), &sha1).map_err(|error| error.to_string())
                });
                proven.await.expect("the decoder does not panic")?;
                drop(turn);
                spread(&whole, &self.to, &self.means, tell).await;
            }
        }
        Ok(())
    }
}

/// What came of a step; `None` when it is to be taken once more.
fn done(key: &str, landed: Landed) -> Option<Result<Option<Stored>, CopyError>> {
    Some(match landed {
        Landed::LeftBehind => return None,
        Landed::Stored(stored) => Ok(Some(stored)),
        // Somebody else was faster. The next pass looks at what is there now.
        Landed::Failed(StoreError::AlreadyExists(_)) => Ok(None),
        Landed::Failed(StoreError::Changed(_)) => Err(CopyError::Changed { key: key.to_owned() }),
        Landed::Failed(source) => Err(CopyError::Store { key: key.to_owned(), source }),
        Landed::Damaged(what) => Err(CopyError::Damaged { key: key.to_owned(), what }),
    })
}
