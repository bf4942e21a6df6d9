//! Shares reads: equal reads at the same time are one request, and its answer stays fresh a while.

use super::error::ClientError;
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::OnceCell;

/// How long an answer is fresh: long enough for one plan, too short to be noticed by people.
const FRESH: Duration = Duration::from_secs(2);
/// How many answers are kept before the stale ones are thrown away.
const ANSWERS_MAX: usize = 64;

/// The shared reads of one kind.
#[derive(Debug)]
pub(super) struct Reads<T> {
    slots: Mutex<HashMap<String, Arc<Slot<T>>>>,
}

/// One read: under way while the cell is empty, then its answer.
#[derive(Debug)]
pub(super) struct Slot<T> {
    /// When the read began, on the monotonic clock: it knows nothing later than this.
    pub(super) started: Duration,
    cell: OnceCell<Result<Arc<T>, ClientError>>,
}

impl<T> Reads<T> {
    pub(super) fn new() -> Self {
        Self { slots: Mutex::new(HashMap::new()) }
    }

    /// The answer for `key`, which is read by `fetch` unless an answer is fresh or under way that
    /// began at `not_before` or later. `now` and `not_before` are of the monotonic clock.
    pub(super) async fn get<F>(
        &self,
        key: &str,
        now: Duration,
        not_before: Duration,
        fetch: F,
    ) -> Result<(Arc<T>, Duration), ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let slot = self.slot(key, now, not_before);
        let answer = slot.cell.get_or_init(|| async { fetch.await.map(Arc::new) }).await.clone();
        if answer.is_err() {
            // A failure is shared with those who waited for it, and not remembered.
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.get(key).is_some_and(|kept| Arc::ptr_eq(kept, &slot)) {
                slots.remove(key);
            }
        }
        answer.map(|value| (value, slot.started))
    }

    fn slot(&self, key: &str, now: Duration, not_before: Duration) -> Arc<Slot<T>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |slot: &Slot<T>| {
            let under_way = slot.cell.get().is_none();
            slot.started >= not_before && (under_way || now.saturating_sub(slot.started) < FRESH)
        };
        if let Some(slot) = slots.get(key).filter(|slot| fresh(slot)) {
            return Arc::clone(slot);
        }
        if slots.len() >= ANSWERS_MAX {
            slots.retain(|_, slot| fresh(slot));
        }
        let slot = Arc::new(Slot { started: now, cell: OnceCell::new() });
        slots.insert(key.to_owned(), Arc::clone(&slot));
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    async fn ask(reads: &Reads<u32>, calls: &AtomicU32, now: u64, not_before: u64) -> u32 {
        let fetch = async {
            tokio::task::yield_now().await;
            Ok(calls.fetch_add(1, Ordering::SeqCst))
        };
        let ms = Duration::from_millis;
        *reads.get("key", ms(now), ms(not_before), fetch).await.unwrap().0
    }

    #[tokio::test]
    async fn equal_reads_share_one_request_and_its_answer_for_a_while() {
        let (reads, calls) = (Reads::new(), AtomicU32::new(0));
        let both = tokio::join!(ask(&reads, &calls, 0, 0), ask(&reads, &calls, 0, 0));
        assert_eq!(both, (0, 0));
        assert_eq!(ask(&reads, &calls, 1999, 0).await, 0);
        assert_eq!(ask(&reads, &calls, 2000, 0).await, 1);
    }

    #[tokio::test]
    async fn what_was_read_before_a_write_is_not_used_after_it() {
        let (reads, calls) = (Reads::new(), AtomicU32::new(0));
        assert_eq!(ask(&reads, &calls, 10, 0).await, 0);
        assert_eq!(ask(&reads, &calls, 20, 15).await, 1);
        assert_eq!(ask(&reads, &calls, 30, 15).await, 1);
    }

    #[tokio::test]
    async fn failures_are_not_remembered() {
        let reads = Reads::<u32>::new();
        let error = ClientError::Refused { status: 400, code: None, message: "no".to_owned() };
        let zero = Duration::ZERO;
        assert!(reads.get("key", zero, zero, async { Err(error) }).await.is_err());
        assert_eq!(*reads.get("key", zero, zero, async { Ok(7) }).await.unwrap().0, 7);
    }
}
