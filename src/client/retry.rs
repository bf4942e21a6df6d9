//! Decides whether a failed exchange may be repeated, and when.

use super::transport::Method;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// How often and how long to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Repetitions after the first attempt.
    pub retries_max: u32,
    /// Wait before the first repetition; it doubles each time.
    pub wait_first: Duration,
    /// Longest wait, `Retry-After` included.
    pub wait_max: Duration,
    /// No repetition begins later than this after the first attempt.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries_max: 4,
            wait_first: Duration::from_millis(200),
            wait_max: Duration::from_secs(30),
            deadline: Duration::from_secs(120),
        }
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer; `before_sending` when nothing can have happened at the other end.
    Broken { before_sending: bool },
    /// An answer with this status.
    Status(u16),
}

/// Whether a repetition can do no harm. A `POST` creates: it is repeated only where the first
/// attempt certainly created nothing.
pub(super) fn may_repeat(method: Method, failure: Failure) -> bool {
    match (method, failure) {
        (Method::Post, Failure::Broken { before_sending }) => before_sending,
        (Method::Post, Failure::Status(status)) => status == 429,
        (Method::Get | Method::Put | Method::Delete, Failure::Broken { .. }) => true,
        (Method::Get, Failure::Status(status)) => {
            matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
        }
        (Method::Put | Method::Delete, Failure::Status(status)) => {
            matches!(status, 429 | 502 | 503 | 504)
        }
    }
}

/// How long to wait before repetition number `repetition` (from 0); `None` when it is time to
/// give up. `chance` between 0 and 1 spreads the waits of many callers.
pub(super) fn wait(
    policy: &RetryPolicy,
    repetition: u32,
    elapsed: Duration,
    retry_after: Option<Duration>,
    chance: f64,
) -> Option<Duration> {
    if repetition >= policy.retries_max {
        return None;
    }
    let doubled = policy.wait_first.saturating_mul(1_u32 << repetition.min(16));
    let spread = doubled.min(policy.wait_max).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
    let wait = spread.max(retry_after.unwrap_or_default()).min(policy.wait_max);
    (elapsed + wait <= policy.deadline).then_some(wait)
}

/// Reads `Retry-After`: seconds, or a date as HTTP writes it (RFC 9110, 10.2.3).
pub(super) fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    (date.with_timezone(&Utc) - now).to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, failure: Failure, expect: bool) {
        assert_eq!(may_repeat(method, failure), expect, "{method:?} {failure:?}");
    }

    #[test]
    fn only_what_is_safe_is_repeated() {
        use Failure::{Broken, Status};
        use Method::{Delete, Get, Post, Put};
        for before_sending in [true, false] {
            for method in [Get, Put, Delete] {
                check(method, Broken { before_sending }, true);
            }
            check(Post, Broken { before_sending }, before_sending);
        }
        for status in [429, 502, 503, 504] {
            for method in [Get, Put, Delete] {
                check(method, Status(status), true);
            }
            check(Post, Status(status), status == 429);
        }
        check(Get, Status(500), true);
        check(Put, Status(500), false);
        for status in [400, 401, 403, 404, 409] {
            for method in [Get, Post, Put, Delete] {
                check(method, Status(status), false);
            }
        }
    }

    #[test]
    fn waits_double_spread_and_end() {
        let policy = RetryPolicy::default();
        let ms = Duration::from_millis;
        let none = Duration::ZERO;
        assert_eq!(wait(&policy, 0, none, None, 1.0), Some(ms(200)));
        assert_eq!(wait(&policy, 0, none, None, 0.0), Some(ms(100)));
        assert_eq!(wait(&policy, 3, none, None, 1.0), Some(ms(1600)));
        assert_eq!(wait(&policy, 4, none, None, 1.0), None);
        assert_eq!(wait(&policy, 0, none, Some(ms(9000)), 0.5), Some(ms(9000)));
        assert_eq!(wait(&policy, 0, none, Some(ms(900_000)), 0.5), Some(policy.wait_max));
        assert_eq!(wait(&policy, 0, ms(119_950), None, 1.0), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2026-11-23T07:41:00Z".parse().unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        let date = "Mon, 23 Nov 2026 07:41:12 GMT";
        assert_eq!(retry_after(date, now), Some(Duration::from_secs(12)));
        assert_eq!(retry_after("soon", now), None);
    }
}
