//! Where in a store the server's log is gone on with, and what shows that nothing is missing between.
//!
//! 1. A series of this server whose last file the server still has, with the same contents, goes on.
//! 2. So does one whose last file was purged when the next one is there and begins where it ended.
//! 3. Otherwise a new series begins. Where its first file can be shown to begin where another series
//!    ends, by transaction ids, it follows that one; else it needs a base backup of its own.
//!
//! A series of this server that another server's has followed comes last: when this server is the
//! primary again, what it writes goes on behind the other's.

use crate::{
    binlog::summary::{Ending, Summary, follows},
    domain::{
        binlog::{Flavour, GtidSet},
        hex,
    },
    layout::stream::{
        keys::{self, BinlogKey},
        series::{Follows, Joint, Series},
    },
    push::{
        error::PushError,
        files::{self, Inspected},
        server::Server,
        stored::{Place, StoredSeries},
    },
};
use chrono::TimeDelta;
use std::path::{Path, PathBuf};

/// Series that are looked at for one that the server's log follows, the newest first.
const TIPS_MAX: usize = 8;
/// Files that are looked at for one that follows another series, the newest first.
const HEADS_MAX: usize = 2000;
/// Between the end of a file and the beginning of the next one, where only times tell.
const ROTATION_SECONDS_MAX: i64 = 2;

/// The closed files of the server's log.
#[derive(Debug)]
pub(super) struct Closed {
    /// Their directory.
    pub(super) dir: PathBuf,
    /// Their names, the oldest first.
    pub(super) names: Vec<String>,
}

impl Closed {
    /// Path of a file.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| other == name)
    }
}

/// Where the log is gone on with.
#[derive(Debug)]
pub(super) struct Start {
    /// The series.
    pub(super) series: Series,
    /// Whether it is new, and why.
    pub(super) why: Why,
    /// The next number in it.
    pub(super) sequence: u64,
    /// The first file that is stored, as a place among the closed ones.
    pub(super) from: usize,
    /// What is before it in the series, and its name.
    pub(super) before: Option<(Summary, String)>,
}

/// Why a series is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It goes on.
    GoesOn,
    /// There is no other.
    First,
    /// It follows another one.
    Follows,
    /// Nothing shows that nothing is missing before it; what was found.
    Hole(String),
}

/// Everything that is asked about.
#[derive(Debug)]
pub(super) struct Search<'a> {
    /// The store.
    pub(super) place: &'a Place,
    /// The server.
    pub(super) server: &'a Server,
    /// Its log.
    pub(super) closed: &'a Closed,
    /// The first file that a new series must have, when it matters.
    pub(super) since: Option<usize>,
}

impl Search<'_> {
    /// Finds where the log is gone on with. There is at least one closed file.
    ///
    /// # Errors
    /// [`PushError`] when the store, the server or a file cannot be read.
    pub(super) async fn start(&self) -> Result<Start, PushError> {
        let mut known = self.place.series().await?;
        known.sort_by(|a, b| {
            let order = |s: &StoredSeries| (s.series.began_at, s.series.series.clone());
            order(b).cmp(&order(a))
        });
        let server = self.server.facts.name();
        let is_followed = |name: &str| {
            let mut others = known.iter().filter(|other| other.series.server != server);
            others.any(|o| o.series.follows.as_ref().is_some_and(|f| f.series == name))
        };
        let own = |stored: &&StoredSeries| stored.series.server == server;
        let (followed, current): (Vec<_>, Vec<_>) =
            known.iter().filter(own).partition(|stored| is_followed(&stored.series.series));
        let mut why = None;
        for stored in current {
            match self.go_on(stored).await? {
                Ok(start) => return Ok(start),
                Err(what) => why = why.or(Some(what)),
            }
        }
        if let Some(start) = self.join(&known).await? {
            return Ok(start);
        }
        for stored in followed {
            match self.go_on(stored).await? {
                Ok(start) => return Ok(start),
                Err(what) => why = why.or(Some(what)),
            }
        }
        let why = match why {
            Some(what) => Why::Hole(what),
            None if known.iter().all(|stored| stored.tip.is_none()) => Why::First,
            None => Why::Hole("no series in the store ends where the server's log begins".into()),
        };
        self.begin(self.since.unwrap_or(0), None, why, &known).await
    }

    /// Goes on with a series; or says why not.
    async fn go_on(&self, stored: &StoredSeries) -> Result<Result<Start, String>, PushError> {
        let StoredSeries { series, tip } = stored;
        let closed = self.closed;
        let start = |sequence, from, before| {
            let series = series.clone();
            Ok(Ok(Start { series, why: Why::GoesOn, sequence, from, before }))
        };
        let Some(tip) = tip else {
            let first = &series.first_file;
            if let Some(from) = closed.place(first)
                && files::head(&closed.path(first), first).await?.created_at == series.began_at
            {
                return start(1, from, None);
            }
            return Ok(Err(format!("{first} of {}, which has none yet, is gone", series.series)));
        };
        let next = tip.sequence + 1;
        if let Some(at) = closed.place(&tip.name) {
            let path = closed.path(&tip.name);
            let here = files::inspect(&path, &tip.name).await?;
            if self.is_same(tip, &here, &path).await? {
                return start(next, at + 1, Some((here.summary, tip.name.clone())));
            }
            let (name, series) = (&tip.name, &series.series);
            return Ok(Err(format!(
                "{name} has other contents than in {series}: the server's log was reset"
            )));
        }
        let Some(first) = closed.names.first() else {
            return Ok(Err("the server has no closed binary log".to_owned()));
        };
        let last = self.summary(tip).await?;
        let head = files::head(&closed.path(first), first).await?;
        match goes_on(&last, &tip.name, &head, first) {
            Ok(()) => start(next, 0, Some((last, tip.name.clone()))),
            Err(what) => Ok(Err(what)),
        }
    }

    async fn is_same(
        &self,
        tip: &BinlogKey,
        here: &Inspected,
        path: &Path,
    ) -> Result<bool, PushError> {
        if hex::lower(&here.sha1) == tip.sha1 {
            return Ok(true);
        }
        // Another version of the library compresses differently.
        let (body, is_compressed) = self.place.open(tip).await?;
        files::is_same(body, is_compressed, path, &tip.name).await
    }

    async fn summary(&self, tip: &BinlogKey) -> Result<Summary, PushError> {
        let (body, is_compressed) = self.place.open(tip).await?;
        files::summary_of_object(body, &tip.name, is_compressed).await
    }

    /// A new series behind one that is there.
    async fn join(&self, known: &[StoredSeries]) -> Result<Option<Start>, PushError> {
        let tips: Vec<_> = known.iter().filter_map(|s| Some((s, s.tip.as_ref()?))).collect();
        if tips.is_empty() {
            return Ok(None);
        }
        let executed = self.server.executed().await?;
        let unlogged = self.server.unlogged().await?;
        let last = self.since.unwrap_or(self.closed.names.len().saturating_sub(1));
        let mut heads = Vec::new();
        for at in (0..=last).rev().take(HEADS_MAX) {
            let name = &self.closed.names[at];
            let mut head = files::head(&self.closed.path(name), name).await?;
            // What was restored into this server was before each of its files, and none says so.
            if let (Some(before), Some(unlogged)) = (&mut head.before, &unlogged) {
                before.extend(unlogged);
            }
            heads.push((at, name, head));
        }
        for (stored, tip) in tips.into_iter().take(TIPS_MAX) {
            let ended = self.summary(tip).await?;
            for (at, name, head) in &heads {
                let Some(how) = joint(&ended, &tip.name, head, name, &executed) else { continue };
                let series = stored.series.series.clone();
                let follows = Follows { series, sequence: tip.sequence, how };
                let before = head.before.clone();
                let mut begun = self.begin(*at, Some(follows), Why::Follows, known).await?;
                begun.series.gtids_before = before.map(|before| before.to_string());
                return Ok(Some(begun));
            }
        }
        Ok(None)
    }

    /// A new series that begins with a file.
    ///
    /// # Errors
    /// [`PushError`] when the file cannot be read.
    pub(super) async fn begin(
        &self,
        from: usize,
        follows: Option<Follows>,
        why: Why,
        known: &[StoredSeries],
    ) -> Result<Start, PushError> {
        let first = &self.closed.names[from];
        let head = files::head(&self.closed.path(first), first).await?;
        let facts = &self.server.facts;
        let begun = head.created_at.format("%Y%m%dT%H%M%S");
        let plain = format!("{}-{begun}", facts.name());
        let is_free = |name: &String| known.iter().all(|stored| stored.series.series != *name);
        let name = (1..)
            .map(|n| if n == 1 { plain.clone() } else { format!("{plain}-{n}") })
            .find(is_free)
            .unwrap_or_else(|| plain.clone());
        let series = Series::new(
            name,
            (facts.flavour, facts.name()),
            (first.clone(), head.created_at),
            head.before.as_ref(),
            follows,
        );
        debug_assert!(keys::is_series(&series.series));
        Ok(Start { series, why, sequence: 1, from, before: None })
    }
}

/// Whether `next` is what the same server wrote after `last`, of which it has nothing any more.
fn goes_on(last: &Summary, last_name: &str, next: &Summary, name: &str) -> Result<(), String> {
    follows(last, last_name, next, name)?;
    let has_ids = last.after.as_ref().is_some_and(|ids| !ids.is_empty()) && last.anonymous == 0;
    let pause = next.created_at - last.covered_until;
    // Names alone come again after a reset.
    let at_once = (0..=ROTATION_SECONDS_MAX).contains(&pause.num_seconds());
    match &last.ending {
        Ending::Rotate { .. } if !has_ids && !at_once => Err(format!(
            "{name} was begun {} seconds after the end of {last_name}, and nothing else shows \
             that it follows",
            TimeDelta::num_seconds(&pause)
        )),
        Ending::Rotate { .. } | Ending::Stop | Ending::Open => Ok(()),
    }
}

/// How a series that begins with `next` follows one that ends with `last`, which another server has
/// written, or this one before. `executed` is what this server has executed.
fn joint(
    last: &Summary,
    last_name: &str,
    next: &Summary,
    next_name: &str,
    executed: &GtidSet,
) -> Option<Joint> {
    // Without ids nothing tells; and what follows nothing may be anything.
    let after = last.after.as_ref().filter(|ids| !ids.is_empty() && last.anonymous == 0)?;
    if follows(last, last_name, next, next_name).is_ok() {
        return Some(Joint::SameTransactions);
    }
    let before = next.before.as_ref()?;
    // A server whose log was reset has the same ids again, for other transactions. MariaDB does not
    // tell what it had when it wrote its first file.
    let is_other = last.server_id != next.server_id;
    let tells = last.flavour == Flavour::MySql && next.flavour == Flavour::MySql;
    let fits = is_other && tells && after.contains(before) && executed.contains(after);
    fits.then_some(Joint::OverlappingTransactions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::summary::Ending;
    use chrono::{DateTime, Utc};

    const ONE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn second(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_668_645 + second, 0).unwrap()
    }

    fn ids(flavour: Flavour, text: &str) -> GtidSet {
        GtidSet::parse(flavour, &text.replace("ONE", ONE)).unwrap()
    }

    /// A file of a server with what ran before it and up to its end.
    fn file(flavour: Flavour, server_id: u32, before: &str, after: &str) -> Summary {
        Summary {
            flavour,
            server_version: "9.7.4".to_owned(),
            server_id,
            created_at: second(0),
            before: Some(ids(flavour, before)),
            after: Some(ids(flavour, after)),
            groups: 3,
            anonymous: 0,
            incidents: 0,
            first_commit: None,
            last_commit: None,
            max_commit: None,
            first_group_start: 4,
            groups_end: 4,
            bytes: 4,
            ending: Ending::Rotate { next: "bin.000003".to_owned() },
            covered_until: second(60),
            in_use: false,
        }
    }

    fn check(last: &Summary, next: &Summary, executed: &str, expect: Option<Joint>) {
        let executed = ids(last.flavour, executed);
        assert_eq!(joint(last, "bin.000002", next, "bin.000003", &executed), expect, "{next:?}");
    }

    #[test]
    fn another_server_follows_when_its_ids_show_it() {
        let of = |server, before| file(Flavour::MySql, server, before, "ONE:1-30");
        let last = file(Flavour::MySql, 1, "ONE:1-5", "ONE:1-20");
        check(&last, &of(2, "ONE:1-20"), "ONE:1-30", Some(Joint::SameTransactions));
        check(&last, &of(2, "ONE:1-15"), "ONE:1-30", Some(Joint::OverlappingTransactions));
        // It begins behind what is stored, or it lacks some of that.
        check(&last, &of(2, "ONE:1-21"), "ONE:1-30", None);
        check(&last, &of(2, "ONE:1-15"), "ONE:1-19", None);
        // The same server, whose log was reset.
        check(&last, &of(1, ""), "ONE:1-30", None);
        check(&last, &of(1, "ONE:1-15"), "ONE:1-30", None);
        // Nothing tells.
        let silent = Summary { after: None, before: None, ..last.clone() };
        check(&silent, &of(2, "ONE:1-20"), "ONE:1-30", None);
        let anonymous = Summary { anonymous: 1, ..last };
        check(&anonymous, &of(2, "ONE:1-20"), "ONE:1-30", None);
        let empty = file(Flavour::MySql, 1, "", "");
        check(&empty, &of(2, ""), "ONE:1-30", None);
    }

    #[test]
    fn mariadb_follows_exactly_or_not_at_all() {
        let of = |before| file(Flavour::MariaDb, 2, before, "0-2-30");
        let last = file(Flavour::MariaDb, 1, "0-1-5", "0-1-20");
        check(&last, &of("0-1-20"), "0-2-30", Some(Joint::SameTransactions));
        check(&last, &of("0-1-15"), "0-2-30", None);
        check(&last, &of(""), "0-2-30", None);
    }

    #[test]
    fn a_purged_file_is_missed_unless_ids_or_times_show_what_followed() {
        let last = file(Flavour::MySql, 1, "ONE:1-5", "ONE:1-20");
        let next = |before: &str, begun| Summary {
            created_at: second(begun),
            ..file(Flavour::MySql, 1, before, "ONE:1-30")
        };
        let good = |last: &Summary, next: &Summary, name: &str| {
            goes_on(last, "bin.000002", next, name).is_ok()
        };
        assert!(good(&last, &next("ONE:1-20", 4000), "bin.000003"));
        assert!(!good(&last, &next("ONE:1-20", 60), "bin.000004"));
        assert!(!good(&last, &next("ONE:1-21", 60), "bin.000003"));
        // Without ids the name comes again after a reset, but not within the second.
        let last = Summary { anonymous: 3, ..file(Flavour::MySql, 1, "", "") };
        assert!(good(&last, &next("", 61), "bin.000003"));
        assert!(!good(&last, &next("", 90), "bin.000003"));
        assert!(!good(&last, &next("", 30), "bin.000003"));
    }
}
