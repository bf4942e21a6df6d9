//! How many requests a store gets at the same time: fewer when it says that it is too many, and more
//! again, one by one, when it does not.
//!
//! Halved at a refusal and raised by one after as many answers as there are at once, as TCP does with
//! its window (RFC 5681). Several refusals within a moment are one: they were sent before the first
//! of them came.

use crate::sys::clock::Clock;
use http::StatusCode;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Refusals within so long after one that has counted do not count.
const MOMENT: Duration = Duration::from_secs(1);

/// The gate before one store.
#[derive(Debug)]
pub(super) struct Gate {
    turns: Arc<Semaphore>,
    width: Mutex<Width>,
    width_max: usize,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Width {
    now: usize,
    /// Turns that are to be taken away when they are given back.
    surplus: usize,
    /// Answers since it was last changed.
    answers: usize,
    narrowed_at: Option<Duration>,
}

/// The right to have one request under way.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    gate: &'a Gate,
    permit: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// At most `width_max` requests at the same time.
    pub(super) fn new(width_max: usize, clock: Arc<dyn Clock>) -> Self {
        let width_max = width_max.clamp(1, Semaphore::MAX_PERMITS);
        let width = Width { now: width_max, surplus: 0, answers: 0, narrowed_at: None };
        Self { turns: Arc::new(Semaphore::new(width_max)), width: width.into(), width_max, clock }
    }

    /// Waits for a turn.
    pub(super) async fn enter(&self) -> Turn<'_> {
        let permit = self.turns.clone().acquire_owned().await;
        Turn { gate: self, permit: Some(permit.expect("the semaphore is never closed")) }
    }

    fn lock(&self) -> MutexGuard<'_, Width> {
        self.width.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in how a request was answered.
    pub(super) fn answered(&self, status: StatusCode) {
        let mut width = self.lock();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let now = self.clock.monotonic();
            if width.narrowed_at.is_some_and(|at| now.saturating_sub(at) < MOMENT) {
                return;
            }
            let half = (width.now / 2).max(1);
            let less = width.now - half;
            // Turns that nobody has go at once, the others when they are given back.
            width.surplus += less - self.turns.forget_permits(less);
            (width.now, width.answers, width.narrowed_at) = (half, 0, Some(now));
            tracing::info!(
                requests_max = half,
                "a store throttles: it gets fewer requests at once"
            );
        } else if !status.is_server_error() && width.now < self.width_max {
            width.answers += 1;
            if width.answers >= width.now {
                (width.now, width.answers) = (width.now + 1, 0);
                match width.surplus {
                    0 => self.turns.add_permits(1),
                    surplus => width.surplus = surplus - 1,
                }
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut width = self.gate.lock();
        if let (Some(permit), true) = (self.permit.take(), width.surplus > 0) {
            width.surplus -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use futures_util::{FutureExt, future::BoxFuture};

    #[derive(Debug, Default)]
    struct ManualClock(Mutex<Duration>);

    impl Clock for ManualClock {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }
        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }
        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            futures_util::future::ready(()).boxed()
        }
    }

    fn width(gate: &Gate) -> usize {
        let mut turns = Vec::new();
        while let Some(turn) = gate.enter().now_or_never() {
            turns.push(turn);
        }
        turns.len()
    }

    #[test]
    fn a_store_that_throttles_gets_fewer_requests_and_then_more_again() {
        let clock = Arc::new(ManualClock::default());
        let gate = Gate::new(8, clock.clone());
        assert_eq!(width(&gate), 8);
        let under_way: Vec<_> = (0..8).map(|_| gate.enter().now_or_never().unwrap()).collect();
        // All that were under way are refused: that is one refusal.
        (0..8).for_each(|_| gate.answered(StatusCode::SERVICE_UNAVAILABLE));
        assert!(gate.enter().now_or_never().is_none());
        drop(under_way);
        assert_eq!(width(&gate), 4, "surplus turns go when they are given back");
        *clock.0.lock().unwrap() += MOMENT;
        gate.answered(StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(width(&gate), 2);
        for _ in 0..10 {
            *clock.0.lock().unwrap() += MOMENT;
            gate.answered(StatusCode::SERVICE_UNAVAILABLE);
        }
        assert_eq!(width(&gate), 1, "one always goes on");
        gate.answered(StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(width(&gate), 1, "that says nothing");
        gate.answered(StatusCode::NOT_FOUND);
        assert_eq!(width(&gate), 2);
        (0..100).for_each(|_| gate.answered(StatusCode::OK));
        assert_eq!(width(&gate), 8, "never more than it may be");
    }
}
