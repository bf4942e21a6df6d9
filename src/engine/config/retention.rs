//! What a configuration says about reading copies again, and about removing from them.

use crate::engine::config::{
    Hold, RetentionSettings, ScrubSettings,
    check::Checker,
    file::{HoldTable, RetentionTable, ScrubTable},
};
use chrono::{DateTime, Utc};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const KEEP_EXPIRED_FOR: Duration = Duration::from_secs(7 * 86_400);
const KEEP_RESTORABLE: usize = 2;
const REMOVE_PERCENT_MAX: u8 = 50;
const SCRUB_EVERY: Duration = Duration::from_secs(7 * 86_400);
const SCRUB_RATE_MIB: u64 = 8;

impl Checker<'_> {
    /// Copies are read again unless that is switched off by `every = "0"`.
    pub(super) fn scrub(&mut self, written: Option<&ScrubTable>) -> Option<ScrubSettings> {
        let every = written.and_then(|table| table.every.as_ref());
        if every.is_some_and(|every| every.get_ref() == "0") {
            return None;
        }
        let rate = written.and_then(|table| table.rate_mib.as_ref());
        if let Some(rate) = rate.filter(|rate| *rate.get_ref() == 0) {
            let what = "a rate of 0 would read nothing; switch reading off with every = \"0\"";
            self.mistake(rate.span().start, what.to_owned());
        }
        let rate_mib = rate.map_or(SCRUB_RATE_MIB, |rate| *rate.get_ref());
        let every = self.period(every, SCRUB_EVERY);
        Some(ScrubSettings { every, rate_bytes: rate_mib.saturating_mul(1 << 20) })
    }

    pub(super) fn retention(&mut self, written: &RetentionTable) -> RetentionSettings {
        let older = written.expired_after.as_ref();
        if let (Some(_), Some(older)) = (&written.keep_expired_for, older) {
            let what = "expired_after is the older name of keep_expired_for; remove one of them";
            self.mistake(older.span().start, what.to_owned());
        }
        let expired = written.keep_expired_for.as_ref().or(older);
        let percent = written.remove_percent_max.as_ref();
        if let Some(percent) = percent.filter(|percent| *percent.get_ref() > 100) {
            let what = "this is no percentage; write a number from 0 to 100".to_owned();
            self.mistake(percent.span().start, what);
        }
        RetentionSettings {
            keep_expired_for: self.period(expired, KEEP_EXPIRED_FOR),
            keep_restorable: written.keep_restorable.unwrap_or(KEEP_RESTORABLE),
            hold: written
                .hold
                .iter()
                .filter_map(|hold| self.hold(hold.span().start, hold.get_ref()))
                .collect(),
            remove_percent_max: percent.map_or(REMOVE_PERCENT_MAX, |percent| *percent.get_ref()),
            confirm_after: self.period(written.confirm_after.as_ref(), DAY),
        }
    }

    fn hold(&mut self, at: usize, written: &HoldTable) -> Option<Hold> {
        let (label, until) = match written {
            HoldTable::Always(label) => (label, None),
            HoldTable::Until { backup, until } => (backup, Some(until)),
        };
        let until = match until.map(|text| DateTime::parse_from_rfc3339(text)) {
            None => None,
            Some(Ok(time)) => Some(time.with_timezone(&Utc)),
            Some(Err(_)) => {
                let what = "`until` is not a time; write it like 2027-01-01T00:00:00Z".to_owned();
                self.mistake(at, what);
                return None;
            }
        };
        Some(Hold { label: label.clone(), until })
    }
}
