//! Memory that transfers share.

use crate::{store::wrap::pace::Pace, sys::clock::Clock};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory that several transfers share. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    kibibytes: Arc<Semaphore>,
    kibibytes_max: u32,
    /// What this is a part of.
    whole: Option<Box<Memory>>,
    /// How much of it is in use while the processors are busy.
    pace: Option<Arc<Pace>>,
}

/// Memory that is taken until this is dropped.
#[derive(Debug)]
pub struct Held {
    permits: Vec<(OwnedSemaphorePermit, Option<Arc<Pace>>)>,
}

impl Drop for Held {
    fn drop(&mut self) {
        for (permits, pace) in &mut self.permits {
            if let Some(pace) = pace {
                pace.give_back(permits);
            }
        }
    }
}

impl Memory {
    /// `bytes_max` in all, rounded up to KiB.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let kibibytes_max = u32::try_from(bytes_max.div_ceil(1024).max(1)).unwrap_or(u32::MAX);
        let permits = usize::try_from(kibibytes_max).unwrap_or(Semaphore::MAX_PERMITS);
        let kibibytes = Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self { kibibytes, kibibytes_max, whole: None, pace: None }
    }

    /// Of this memory, at most one part of `parts`: who takes from it leaves the rest to others.
    #[must_use]
    pub fn part(&self, parts: u32) -> Self {
        let kibibytes = u64::from(self.kibibytes_max / parts.max(1));
        Self { whole: Some(Box::new(self.clone())), ..Self::new(kibibytes * 1024) }
    }

    /// The same memory, of which less is lent while the processors are busy anyway.
    #[must_use]
    pub fn paced(self, clock: Arc<dyn Clock>) -> Self {
        let pace = Some(Arc::new(Pace::new(self.kibibytes_max, clock)));
        Self { pace, ..self }
    }

    /// Waits for `bytes` of it, or for all of it when that is less, and holds them.
    pub async fn take(&self, bytes: u64) -> Held {
        let mut wanted = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let mut permits = Vec::with_capacity(2);
        let mut next = Some(self);
        // The part before the whole: who waits for his part takes nothing from the others.
        while let Some(memory) = next {
            wanted = wanted.min(memory.kibibytes_max);
            if let Some(pace) = &memory.pace {
                pace.adjust(&memory.kibibytes, wanted);
            }
            let taken = memory.kibibytes.clone().acquire_many_owned(wanted).await;
            let taken = taken.expect("the semaphore is never closed");
            permits.push((taken, memory.pace.clone()));
            next = memory.whole.as_deref();
        }
        Held { permits }
    }

    /// What is free just now, in bytes.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let free = self.kibibytes.available_permits() as u64 * 1024;
        self.whole.as_ref().map_or(free, |whole| free.min(whole.free_bytes()))
    }
}

/// Bounds how many do something at the same time. Clones share the bound.
#[derive(Clone, Debug, Default)]
pub struct Turns(Option<Arc<Semaphore>>);

impl Turns {
    /// So many at the same time; the default is any number.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self(Some(Arc::new(Semaphore::new(at_once.max(1)))))
    }

    /// Waits for a turn, which ends when what is given is dropped.
    pub async fn take(&self) -> Option<OwnedSemaphorePermit> {
        let turns = self.0.clone()?;
        Some(turns.acquire_owned().await.expect("the semaphore is never closed"))
    }
}
