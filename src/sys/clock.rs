//! Time through a seam, so that tests decide what time it is.

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use std::{fmt, time::Duration};

/// Wall clock, monotonic clock and sleep.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time. It may jump.
    fn now(&self) -> DateTime<Utc>;

    /// Time since some fixed moment of this process. It never goes backwards.
    fn monotonic(&self) -> Duration;

    /// Ends after `period`.
    fn sleep(&self, period: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
}

impl SystemClock {
    /// The machine's clocks; `monotonic` counts from here.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn new() -> Self {
        Self { started: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the seam")]
    fn sleep(&self, period: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(period))
    }
}
