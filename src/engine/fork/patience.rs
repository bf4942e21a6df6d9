//! How long nothing may move before a phase is given up.

use crate::{engine::fork::error::ForkError, sys::clock::Clock};
use std::time::Duration;

/// How long nothing may move.
const LIMIT: Duration = Duration::from_secs(600);

/// Watches a number that should grow.
#[derive(Debug)]
pub(super) struct Patience {
    doing: &'static str,
    seen: Option<u64>,
    since: Duration,
}

impl Patience {
    /// Begins to wait.
    pub(super) fn new(doing: &'static str, clock: &dyn Clock) -> Self {
        Self { doing, seen: None, since: clock.monotonic() }
    }

    /// Shows the number. What is not known does not move.
    ///
    /// # Errors
    /// [`ForkError::NoProgress`] when it has not grown for too long.
    pub(super) fn see(&mut self, number: Option<u64>, clock: &dyn Clock) -> Result<(), ForkError> {
        let now = clock.monotonic();
        if number > self.seen {
            (self.seen, self.since) = (number, now);
        } else if now.saturating_sub(self.since) > LIMIT {
            return Err(ForkError::NoProgress { doing: self.doing, minutes: LIMIT.as_secs() / 60 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use futures_util::future::BoxFuture;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, Default)]
    struct Seconds(AtomicU64);

    impl Clock for Seconds {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[test]
    fn only_standing_still_wears_it_out() {
        let clock = Seconds::default();
        let mut patience = Patience::new("waiting", &clock);
        for (second, number) in [(500, None), (590, Some(1)), (1100, Some(2)), (1600, Some(2))] {
            clock.0.store(second, Ordering::Relaxed);
            patience.see(number, &clock).unwrap();
        }
        clock.0.store(1701, Ordering::Relaxed);
        let worn = patience.see(Some(1), &clock).unwrap_err().to_string();
        assert!(worn.contains("no progress for 10 minutes while waiting"), "{worn}");
    }
}
