//! Whether a plan to remove is plausible. An implausible one is held back until somebody says that it is
//! meant, or until it has stayed the same for a while.

use chrono::{DateTime, TimeDelta, Utc};

/// A primary whose newest backup ends so far in the future has a clock that is wrong.
const AHEAD_MAX: TimeDelta = TimeDelta::hours(1);

/// What a plan would do, and what its ground is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Backups that would be removed.
    pub removed_backups: usize,
    /// Backups in the copy: restorable ones, and expired ones that are still there.
    pub backups: usize,
    /// Bytes that would be removed.
    pub removed_bytes: u64,
    /// Bytes of the copy.
    pub bytes: u64,
    /// What the primary's catalogue lists now.
    pub listed: Option<Listed>,
    /// What it listed when it was last trusted.
    pub before: Option<Listed>,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What a catalogue lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Number of backups.
    pub backups: usize,
    /// When the newest of them ended.
    pub newest: DateTime<Utc>,
}

/// Why a plan is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The primary lists nothing any more.
    PrimaryEmpty,
    /// The primary lists less than half of what it did.
    PrimaryShrunk,
    /// The primary's newest backup is older than before: its catalogue was restored from an old one.
    PrimaryOlder,
    /// The primary's newest backup ends in the future.
    InTheFuture,
    /// Too many of the backups would be removed.
    Backups,
    /// Too many of the bytes would be removed.
    Bytes,
}

impl Guard {
    /// What speaks against the primary's listing.
    #[must_use]
    pub fn of_listing(facts: &Facts) -> Option<Self> {
        let Some(listed) = facts.listed else { return Some(Self::PrimaryEmpty) };
        if listed.newest > facts.now + AHEAD_MAX {
            return Some(Self::InTheFuture);
        }
        let before = facts.before?;
        if listed.newest < before.newest {
            return Some(Self::PrimaryOlder);
        }
        (listed.backups * 2 < before.backups).then_some(Self::PrimaryShrunk)
    }

    /// What speaks against a plan, the gravest first. Shares above `percent_max` are too much.
    #[must_use]
    pub fn of(facts: &Facts, percent_max: u8) -> Option<Self> {
        let limit = u128::from(percent_max);
        let above = |part: u128, whole: u128| part * 100 > whole * limit;
        if let Some(guard) = Self::of_listing(facts) {
            return Some(guard);
        }
        if above(facts.removed_backups as u128, facts.backups as u128) {
            return Some(Self::Backups);
        }
        above(facts.removed_bytes.into(), facts.bytes.into()).then_some(Self::Bytes)
    }

    /// Its name, by which the state knows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PrimaryEmpty => "primary_empty",
            Self::PrimaryShrunk => "primary_shrunk",
            Self::PrimaryOlder => "primary_older",
            Self::InTheFuture => "in_the_future",
            Self::Backups => "share_of_backups",
            Self::Bytes => "share_of_bytes",
        }
    }

    /// What is held back, why, and how it goes on.
    #[must_use]
    pub fn explain(self, facts: &Facts, percent_max: u8, until: DateTime<Utc>) -> String {
        let Facts { removed_backups, backups, removed_bytes, bytes, .. } = facts;
        let until = until.format("%Y-%m-%dT%H:%M:%SZ");
        let why = match self {
            Self::PrimaryEmpty => "the primary region lists no backup any more".to_owned(),
            Self::PrimaryShrunk => {
                "the primary region lists less than half of the backups that it did".to_owned()
            }
            Self::PrimaryOlder => "the newest backup that the primary region lists is older than \
                                   before: its catalogue is an old one"
                .to_owned(),
            Self::InTheFuture => {
                "the newest backup of the primary region ends in the future".to_owned()
            }
            Self::Backups => format!(
                "{removed_backups} of {backups} backups would be removed, more than {percent_max} %"
            ),
            Self::Bytes => format!(
                "{removed_bytes} of {bytes} bytes would be removed, more than {percent_max} %"
            ),
        };
        let release = match self {
            Self::Backups | Self::Bytes => {
                "; to remove them now, set copy_retention.remove_percent_max to 100"
            }
            Self::PrimaryEmpty | Self::PrimaryShrunk | Self::PrimaryOlder | Self::InTheFuture => {
                "; to go on earlier, shorten copy_retention.confirm_after"
            }
        };
        format!("expired backups are kept: {why}. If that stays so, they go after {until}{release}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    fn plausible() -> Facts {
        let listed = Listed { backups: 4, newest: day(9) };
        Facts {
            removed_backups: 2,
            backups: 4,
            removed_bytes: 50,
            bytes: 100,
            listed: Some(listed),
            before: Some(Listed { backups: 8, newest: day(8) }),
            now: day(10),
        }
    }

    #[test]
    fn each_guard_has_its_edge_and_says_how_to_go_on() {
        let check = |facts: Facts, expect: Option<Guard>, words: &str| {
            let found = Guard::of(&facts, 50);
            assert_eq!(found, expect, "{facts:?}");
            if let Some(guard) = found {
                let text = guard.explain(&facts, 50, day(11));
                assert!(text.contains(words) && text.contains("copy_retention."), "{text}");
                assert!(text.contains("1970-01-12T00:00:00Z"), "{text}");
            }
        };
        let listed = |backups, newest| Some(Listed { backups, newest });
        check(plausible(), None, "");
        check(Facts { before: None, ..plausible() }, None, "");
        let three = Facts { removed_backups: 3, ..plausible() };
        check(three, Some(Guard::Backups), "3 of 4 backups");
        check(Facts { removed_bytes: 51, ..plausible() }, Some(Guard::Bytes), "51 of 100 bytes");
        check(Facts { listed: None, ..plausible() }, Some(Guard::PrimaryEmpty), "no backup");
        let shrunk = Facts { listed: listed(3, day(9)), ..plausible() };
        check(shrunk, Some(Guard::PrimaryShrunk), "less than half");
        let older = Facts { listed: listed(4, day(7)), ..plausible() };
        check(older, Some(Guard::PrimaryOlder), "an old one");
        let ahead = Facts { listed: listed(9, day(11)), ..plausible() };
        check(ahead, Some(Guard::InTheFuture), "in the future");
        assert_eq!(Guard::of(&Facts { removed_backups: 4, ..plausible() }, 100), None);
    }
}
