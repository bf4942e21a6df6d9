//! The binary logs that follow a base backup, gapless, through all series.
//!
//! 1. The chain begins with the file that the backup stands in, and goes on by sequence numbers.
//! 2. Where another series follows at or behind the backup's end, the chain goes on there: what the
//!    former series holds beyond that point was written by a server that was not the primary any more.
//! 3. It ends before the first number that is missing.

use crate::{
    domain::{binlog::Flavour, recovery::Codec},
    layout::stream::{
        keys::{self, BinlogKey, Role},
        manifest::Manifest,
        series::{Joint, Series},
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// A binary log in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBinlog {
    /// Its key below the prefix of the place.
    pub key: String,
    /// The series that it belongs to.
    pub series: String,
    /// Its place in the series.
    pub sequence: u64,
    /// The server's name of the file.
    pub name: String,
    /// Size of the object, in bytes.
    pub size_bytes: u64,
    /// SHA-1 of the object in lower-case hexadecimal digits.
    pub sha1: String,
    /// Compression of the object.
    pub codec: Codec,
}

/// The binary logs that follow a base backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// They, in order.
    pub objects: Vec<ListedBinlog>,
    /// Whether they reach the end of the backup, without which it cannot be restored.
    pub reaches_backup_end: bool,
    /// What is missing behind them, for people, when there is more.
    pub gap: Option<String>,
    /// How many binary logs lie behind the gap, out of reach.
    pub behind_gap: u64,
}

/// All binary logs by series and place.
type BySeries = BTreeMap<String, BTreeMap<u64, Vec<ListedBinlog>>>;

/// The gapless run of binary logs from the one that `manifest` begins in. `listing` has the sizes in
/// bytes of objects by their keys below the prefix; whatever else is in it is ignored.
#[must_use]
pub fn chain<'a>(
    listing: impl IntoIterator<Item = (&'a str, u64)>,
    series: &[Series],
    manifest: &Manifest,
) -> Chain {
    let binlogs = by_series(listing);
    let mut walk = Walk { binlogs: &binlogs, series, manifest, seen: BTreeSet::new() };
    let mut chain = Chain::default();
    let (mut current, mut next) = (manifest.log.series.clone(), manifest.log.sequence);
    let mut least = manifest.log_end.sequence;
    // Each series at most once, whatever they say of each other.
    while walk.seen.insert(current.clone()) {
        let follower = walk.follower(&current, least);
        let until = follower.map(|(_, sequence)| sequence);
        if let Err(gap) = walk.along(&current, next, until, &mut chain) {
            let missing = gap.sequence;
            chain.behind_gap = walk.behind(&current, missing, until, follower);
            let is_needed = current == manifest.log.series && missing <= least;
            if chain.behind_gap > 0 || is_needed {
                chain.gap = Some(gap.what);
            }
            break;
        }
        let Some((follower, _)) = follower else { break };
        (current, next, least) = (follower.series.clone(), 1, 1);
    }
    let end = &manifest.log_end;
    chain.reaches_backup_end = chain.objects.iter().any(|found| {
        (&found.series, found.sequence, &found.name)
            == (&manifest.log.series, end.sequence, &end.name)
    });
    chain
}

/// All binary logs of a listing by series and place.
#[must_use]
pub fn by_series<'a>(listing: impl IntoIterator<Item = (&'a str, u64)>) -> BySeries {
    let mut found = BySeries::new();
    for (key, size_bytes) in listing {
        let Role::Binlog(BinlogKey { series, sequence, name, sha1, codec }) = keys::role(key)
        else {
            continue;
        };
        let of_series = found.entry(series.clone()).or_default();
        let key = key.to_owned();
        let binlog = ListedBinlog { key, series, sequence, name, size_bytes, sha1, codec };
        of_series.entry(sequence).or_default().push(binlog);
    }
    found
}

struct Walk<'a> {
    binlogs: &'a BySeries,
    series: &'a [Series],
    manifest: &'a Manifest,
    seen: BTreeSet<String>,
}

/// What is missing.
struct Gap {
    sequence: u64,
    what: String,
}

impl<'a> Walk<'a> {
    /// The series that goes on after `current`, not before its place `least`, and where. The one that
    /// began last, when there are several: the server that was made primary last.
    fn follower(&self, current: &str, least: u64) -> Option<(&'a Series, u64)> {
        let goes_on = |series: &'a Series| {
            let follows = series.follows.as_ref().filter(|follows| follows.series == current)?;
            // MariaDB would execute again what both have.
            let usable = match follows.how {
                Joint::SameTransactions => true,
                Joint::OverlappingTransactions => self.manifest.flavour == Flavour::MySql,
            };
            let is_new = !self.seen.contains(&series.series);
            let fits = usable && is_new && follows.sequence >= least;
            fits.then_some((series, follows.sequence))
        };
        self.series
            .iter()
            .filter_map(goes_on)
            .max_by_key(|(series, _)| (series.began_at, &series.series))
    }

    /// Takes the binary logs of a series from `next` on, until the place `until` where that is known.
    fn along(
        &self,
        series: &str,
        next: u64,
        until: Option<u64>,
        chain: &mut Chain,
    ) -> Result<(), Gap> {
        let none = BTreeMap::new();
        let binlogs = self.binlogs.get(series).unwrap_or(&none);
        for sequence in next.. {
            if until.is_some_and(|until| sequence > until) {
                return Ok(());
            }
            let gap = |what: String| {
                Err(Gap { sequence, what: format!("binary log {sequence} of {series} {what}") })
            };
            let found = match binlogs.get(&sequence).map(Vec::as_slice) {
                None | Some([]) => return gap("is missing".to_owned()),
                Some([found]) => found,
                // The same file, compressed by different versions of a library.
                Some([found, others @ ..]) if others.iter().all(|o| o.name == found.name) => found,
                Some([found, ..]) => {
                    let name = &found.name;
                    return gap(format!("is there as {name} and as another file"));
                }
            };
            if let Some(name) = self.expected(series, sequence)
                && *name != found.name
            {
                return gap(format!("is {}, while the backup needs {name}", found.name));
            }
            chain.objects.push(found.clone());
        }
        Ok(())
    }

    /// The name that a file must have, where the backup tells.
    fn expected(&self, series: &str, sequence: u64) -> Option<&'a String> {
        let Manifest { log, log_end, .. } = self.manifest;
        if log.series != series {
            return None;
        }
        let first = (log.sequence == sequence).then_some(&log.name);
        first.or_else(|| (log_end.sequence == sequence).then_some(&log_end.name))
    }

    /// How many binary logs would follow if `missing` were there.
    fn behind(
        &self,
        series: &str,
        missing: u64,
        until: Option<u64>,
        follower: Option<(&Series, u64)>,
    ) -> u64 {
        let count = |series: &str, places: std::ops::RangeInclusive<u64>| {
            self.binlogs.get(series).map_or(0, |binlogs| binlogs.range(places).count() as u64)
        };
        let here = missing.saturating_add(1)..=until.unwrap_or(u64::MAX);
        let mut behind = if here.is_empty() { 0 } else { count(series, here) };
        let mut seen = self.seen.clone();
        let mut next = follower.map(|(series, _)| series.series.clone());
        while let Some(series) = next.filter(|series| seen.insert(series.clone())) {
            behind += count(&series, 1..=u64::MAX);
            next = self.follower(&series, 1).map(|(series, _)| series.series.clone());
        }
        behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::stream::{
        manifest::{LogEnd, LogStart, tests::sample},
        series::Follows,
    };

    const SHA1: &str = "f45daa509ea610a5f4749214e5a5a44c169c49a9";

    /// `a 1-3 5, b 1`: binary logs of series.
    fn listing(text: &str) -> Vec<String> {
        let mut keys = Vec::new();
        for part in text.split(", ").filter(|part| !part.is_empty()) {
            let mut words = part.split(' ');
            let series = words.next().unwrap().to_owned();
            for word in words {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                for sequence in first.parse::<u64>().unwrap()..=last.parse().unwrap() {
                    let name = format!("bin.{sequence:06}");
                    let (series, sha1) = (series.clone(), SHA1.to_owned());
                    let codec = Codec::Zst;
                    keys.push(BinlogKey { series, sequence, name, sha1, codec }.key());
                }
            }
        }
        keys
    }

    /// `b>a:3` follows exactly, `b~a:3` overlaps, `b` follows nothing. Later ones began later.
    fn series(text: &str) -> Vec<Series> {
        let read = |(second, word): (u32, &str)| {
            let joint = match word.contains('~') {
                true => Joint::OverlappingTransactions,
                false => Joint::SameTransactions,
            };
            let (name, follows) = word.split_once(['>', '~']).unwrap_or((word, ""));
            let follows = follows.split_once(':').map(|(series, sequence)| Follows {
                series: series.to_owned(),
                sequence: sequence.parse().unwrap(),
                how: joint,
            });
            let began_at = keys::label_time(&format!("20261126-0430{second:02}")).unwrap();
            let first = ("bin.000001".to_owned(), began_at);
            Series::new(name.to_owned(), (Flavour::MySql, name.to_owned()), first, None, follows)
        };
        (0..).zip(text.split(' ')).map(read).collect()
    }

    fn backup(flavour: Flavour, first: u64, last: u64) -> Manifest {
        let name = |sequence| format!("bin.{sequence:06}");
        let series = "a".to_owned();
        let log = LogStart { series, sequence: first, name: name(first), start_offset: None };
        let log_end = LogEnd { sequence: last, name: name(last), offset: 4 };
        Manifest { flavour, log, log_end, ..sample() }
    }

    /// A backup of MySQL in the second and third file of series `a`.
    fn check(stored: &str, of: &str, expect: &str) {
        check_with(&backup(Flavour::MySql, 2, 3), stored, of, expect);
    }

    fn check_with(manifest: &Manifest, stored: &str, of: &str, expect: &str) {
        let keys = listing(stored);
        let listed = keys.iter().map(|key| (key.as_str(), 7));
        let chain = chain(listed, &series(of), manifest);
        let place = |found: &ListedBinlog| format!("{}{}", found.series, found.sequence);
        let mut text: Vec<String> = chain.objects.iter().map(place).collect();
        if !chain.reaches_backup_end {
            text.push("unusable".to_owned());
        }
        if let Some(gap) = chain.gap {
            text.push(format!("({gap}; {} behind)", chain.behind_gap));
        }
        assert_eq!(text.join(" "), expect, "{stored} of {of}");
    }

    #[test]
    fn a_run_ends_where_a_number_is_missing() {
        check("a 1-5", "a", "a2 a3 a4 a5");
        check("a 2-4 6-8", "a", "a2 a3 a4 (binary log 5 of a is missing; 3 behind)");
        check("a 1 3-8", "a", "unusable (binary log 2 of a is missing; 6 behind)");
        check("a 2", "a", "a2 unusable (binary log 3 of a is missing; 0 behind)");
        check("", "a", "unusable (binary log 2 of a is missing; 0 behind)");
        check("a 2-3, b 1-9", "a b", "a2 a3");
    }

    #[test]
    fn a_series_goes_on_in_the_one_that_follows() {
        check("a 1-4, b 1-2", "a b>a:4", "a2 a3 a4 b1 b2");
        check("a 1-4, b 1-2, c 1", "a b>a:4 c>b:2", "a2 a3 a4 b1 b2 c1");
        check(
            "a 1-4, b 1, c 1",
            "a b>a:4 c>b:2",
            "a2 a3 a4 b1 (binary log 2 of b is missing; 1 behind)",
        );
        check(
            "a 1-3, b 1-2, c 1",
            "a b>a:4 c>b:2",
            "a2 a3 (binary log 4 of a is missing; 3 behind)",
        );
        check("a 1-4", "a b>a:4", "a2 a3 a4");
        check("a 1-4, b 2-3", "a b>a:4", "a2 a3 a4 (binary log 1 of b is missing; 2 behind)");
    }

    #[test]
    fn what_the_former_primary_wrote_afterwards_is_left_out() {
        check("a 1-9, b 1-2", "a b>a:4", "a2 a3 a4 b1 b2");
        check("a 1-9, b 1-2, c 1", "a b>a:4 c>a:5", "a2 a3 a4 a5 c1");
        // The backup was made after that, or had not ended: it knows more than the other series.
        check("a 1-4, b 1-2", "a b>a:1", "a2 a3 a4");
        check("a 1-4, b 1-2", "a b>a:2", "a2 a3 a4");
    }

    #[test]
    fn overlaps_are_for_mysql_and_circles_end() {
        check("a 1-4, b 1-2", "a b~a:4", "a2 a3 a4 b1 b2");
        let mariadb = backup(Flavour::MariaDb, 2, 3);
        check_with(&mariadb, "a 1-4, b 1-2", "a b~a:4", "a2 a3 a4");
        check("a 1-4, b 1-2", "a>b:2 b>a:4", "a2 a3 a4 b1 b2");
    }

    #[test]
    fn a_place_has_one_file_and_the_right_one() {
        let mut manifest = backup(Flavour::MySql, 2, 3);
        let twice = "a 1-4, a 3";
        check(twice, "a", "a2 a3 a4");
        let mut keys = listing("a 1-5");
        keys.push(keys[3].replace("bin.000004", "bin.000104"));
        let listed = || keys.iter().map(|key| (key.as_str(), 7));
        let found = chain(listed(), &[], &manifest);
        assert_eq!(found.objects.len(), 2);
        let gap = found.gap.unwrap();
        assert_eq!(gap, "binary log 4 of a is there as bin.000004 and as another file");
        manifest.log_end.name = "bin.000103".to_owned();
        let found = chain(listed(), &[], &manifest);
        assert!(!found.reaches_backup_end && found.objects.len() == 1);
        let gap = found.gap.unwrap();
        assert_eq!(gap, "binary log 3 of a is bin.000003, while the backup needs bin.000103");
    }
}
