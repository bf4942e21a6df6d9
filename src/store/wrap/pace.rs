//! How much is worth having under way.
//!
//! What was read is best written while a processor's cache still holds it: the less is under way, the
//! less work is each byte. But where a store makes one wait, only more under way makes a copy faster.
//! So the amount follows what the workers of the runtime do: as long as they always find something to
//! do it shrinks, while they wait it grows, up to all that is allowed.

use crate::sys::clock::Clock;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// How often the workers are looked at.
const PERIOD: Duration = Duration::from_millis(100);
/// Never less than this, in KiB.
const LEAST: u32 = 4 << 10;
/// In the beginning, in KiB: before anybody knows whether a store makes one wait.
const FIRST: u32 = 16 << 10;
/// Busier workers gain nothing from more that is under way.
const BUSY: f64 = 0.85;
/// Workers that are less busy would do more if they had it.
const IDLE: f64 = 0.70;

/// The present amount: as many permits of a semaphore as KiB may be under way.
#[derive(Debug)]
pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    level: Mutex<Level>,
}

/// Counts permits, each of which is a KiB.
#[derive(Debug)]
struct Level {
    max: u32,
    /// How many there should be.
    aim: u32,
    /// How many there are, in use or not; never less than there should be.
    now: u32,
    /// The most that anybody has asked for at once.
    largest: u32,
    /// When the workers were looked at, and how long they had been busy by then.
    seen: Option<(Duration, Duration)>,
    /// Which part of the time they have been busy lately.
    load: f64,
}

impl Pace {
    /// Of a semaphore with `max` permits.
    pub(super) fn new(max: u32, clock: Arc<dyn Clock>) -> Self {
        Self { clock, level: Mutex::new(Level::new(max)) }
    }

    /// Is called by everybody who is about to take so many permits.
    pub(super) fn adjust(&self, permits: &Semaphore, wanted: u32) {
        let mut level = self.lock();
        let at = self.clock.monotonic();
        if level.is_look_due(at)
            && let Some((busy, workers)) = workers()
        {
            level.look(at, busy, workers);
        }
        level.make_room(wanted);
        match level.aim.checked_sub(level.now) {
            Some(missing) => {
                permits.add_permits(missing as usize);
                level.now += missing;
            }
            None => {
                let forgotten = permits.forget_permits((level.now - level.aim) as usize);
                level.now -= u32::try_from(forgotten).unwrap_or_default();
            }
        }
    }

    /// Of permits that are given back, those are forgotten that are too many.
    pub(super) fn give_back(&self, permits: &mut OwnedSemaphorePermit) {
        let mut level = self.lock();
        let surplus = permits.num_permits().min((level.now - level.aim) as usize);
        if let Some(surplus) = permits.split(surplus) {
            level.now -= u32::try_from(surplus.num_permits()).unwrap_or_default();
            surplus.forget();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the workers of this runtime have been busy, all together, and how many they are.
fn workers() -> Option<(Duration, u32)> {
    let metrics = Handle::try_current().ok()?.metrics();
    let workers = metrics.num_workers();
    let busy = (0..workers).map(|worker| metrics.worker_total_busy_duration(worker)).sum();
    Some((busy, u32::try_from(workers).ok()?))
}

impl Level {
    fn new(max: u32) -> Self {
        let load = f64::midpoint(BUSY, IDLE);
        Self { max, aim: max.min(FIRST), now: max, largest: 0, seen: None, load }
    }

    fn is_look_due(&self, at: Duration) -> bool {
        self.seen.is_none_or(|(seen, _)| at.saturating_sub(seen) >= PERIOD)
    }

    fn look(&mut self, at: Duration, busy: Duration, workers: u32) {
        let Some((seen, busy_then)) = self.seen.replace((at, busy)) else { return };
        let whole = at.saturating_sub(seen).as_secs_f64() * f64::from(workers);
        if whole <= 0.0 {
            return;
        }
        let load = busy.saturating_sub(busy_then).as_secs_f64() / whole;
        self.load = f64::midpoint(self.load, load);
        self.aim = match self.load {
            load if load > BUSY => self.aim / 8 * 7,
            load if load < IDLE => self.aim.saturating_mul(3) / 2,
            _ => self.aim,
        };
        self.make_room(0);
    }

    /// Whoever waits for the most can get it, and beside that somebody else.
    fn make_room(&mut self, wanted: u32) {
        self.largest = self.largest.max(wanted);
        let least = LEAST.max(self.largest.saturating_mul(2)).min(self.max);
        self.aim = self.aim.clamp(least, self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::SystemClock;
    use futures_util::FutureExt;

    const MAX: u32 = 96 << 10;

    /// Where a level comes to when two workers are so busy for some seconds.
    fn after(level: &mut Level, load: f64) -> u32 {
        let (start, busy) = level.seen.unwrap_or_default();
        for count in 0..50 {
            let passed = PERIOD * (count + 1);
            level.look(start + passed, busy + passed.mul_f64(2.0 * load), 2);
        }
        level.aim
    }

    #[test]
    fn busy_workers_have_less_under_way_and_waiting_ones_more() {
        let mut level = Level::new(MAX);
        assert_eq!(level.aim, FIRST);
        assert_eq!(after(&mut level, 0.8), FIRST, "it stays where it is good");
        assert_eq!(after(&mut level, 1.0), LEAST);
        assert_eq!(after(&mut level, 0.3), MAX);
        level.make_room(20 << 10);
        assert_eq!(after(&mut level, 1.0), 40 << 10, "one of the largest, and another");
        level.make_room(MAX);
        assert_eq!(after(&mut level, 1.0), MAX);
        // No time has passed, as a clock that was set back would have it.
        level.look(Duration::ZERO, Duration::MAX, 2);
        assert_eq!((level.aim, level.load.is_finite()), (MAX, true));
        let mut small = Level::new(1 << 10);
        assert_eq!((after(&mut small, 1.0), after(&mut small, 0.1)), (1 << 10, 1 << 10));
    }

    #[test]
    fn a_moment_is_not_looked_at_twice() {
        let mut level = Level::new(MAX);
        assert!(level.is_look_due(Duration::ZERO));
        level.look(Duration::ZERO, Duration::ZERO, 2);
        assert!(!level.is_look_due(PERIOD / 2));
        assert!(level.is_look_due(PERIOD));
    }

    #[test]
    fn what_is_lent_comes_back_as_less_and_grows_again() {
        let pace = Pace::new(MAX, Arc::new(SystemClock::new()));
        let permits = Arc::new(Semaphore::new(MAX as usize));
        let take = |count: u32| {
            pace.adjust(&permits, count);
            permits.clone().acquire_many_owned(count).now_or_never()
        };
        let give = |permits: Option<Result<OwnedSemaphorePermit, _>>| {
            pace.give_back(&mut permits.unwrap().unwrap());
        };
        pace.lock().aim = MAX;
        let mut held: Vec<_> = (0..12).map(|_| take(MAX / 12)).collect();
        pace.lock().aim = MAX / 4;
        held.drain(3..).for_each(give);
        assert_eq!(permits.available_permits(), 0, "those were too many");
        assert!(take(1).is_none());
        held.into_iter().for_each(give);
        assert_eq!(permits.available_permits(), MAX as usize / 4);
        pace.lock().aim = MAX;
        let all = take(MAX);
        assert!(all.is_some(), "there are as many again");
        give(all);
        assert_eq!(pace.lock().now as usize, permits.available_permits());
    }
}
