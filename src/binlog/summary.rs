//! What one binary log holds, and whether another one follows it without a hole.
//!
//! 1. `reader.rs` proves and shows event after event; `groups.rs` tells where groups begin and end.
//! 2. Each whole group is taken into the sums; what follows the last whole one counts for nothing.
//! 3. Where something is wrong, the sums up to the last whole group go with the [`Fault`].

use crate::{
    binlog::{
        event::{Format, Header, IN_USE, Kind, Part, rotated_to},
        fault::{Damage, Fault},
        groups::{Found, Grammar, Group, Step},
        gtids::{self, Gathered},
        reader::{Event, Events},
    },
    domain::binlog::{Flavour, GtidSet},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{io::Read, ops::ControlFlow};

/// What one file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Whose server wrote it.
    pub flavour: Flavour,
    /// Its version, as the server names it in the file.
    pub server_version: String,
    /// Its id.
    pub server_id: u32,
    /// When the file was begun, in seconds.
    pub created_at: DateTime<Utc>,
    /// Transactions before this file; `None` where it does not say.
    ///
    /// MariaDB's is the last one in each replication domain.
    pub before: Option<GtidSet>,
    /// Those and all groups of this file.
    pub after: Option<GtidSet>,
    /// Number of complete groups.
    pub groups: u64,
    /// Of those, without an id.
    pub anonymous: u64,
    /// How often the server says that it has lost events (`INCIDENT_EVENT`). A log with any has a
    /// hole there.
    pub incidents: u64,
    /// Commit time of the first group in log order.
    pub first_commit: Option<DateTime<Utc>>,
    /// Commit time of the last group in log order.
    pub last_commit: Option<DateTime<Utc>>,
    /// Latest commit time: times in a log are not sorted.
    pub max_commit: Option<DateTime<Utc>>,
    /// Offset where the first group begins, or would begin.
    pub first_group_start: u64,
    /// End of the last complete group; `first_group_start` when there is none.
    pub groups_end: u64,
    /// Bytes from the beginning that are sound events.
    pub bytes: u64,
    /// How it ends.
    pub ending: Ending,
    /// The latest moment up to which nothing that this server committed is missing here: the latest
    /// of its commits, and the time when it began, left or closed the file.
    ///
    /// Times in the headers of other events do not count: on a replica they are of the source's
    /// clock. Where a server knows only when the statement began that committed (see the module),
    /// one that ran for long turns up behind this moment with an earlier time.
    pub covered_until: DateTime<Utc>,
    /// Whether the server has not closed the file (`LOG_EVENT_BINLOG_IN_USE_F`). No checksum covers
    /// it.
    pub in_use: bool,
}

/// How a binary log ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// The server went on in another file.
    Rotate {
        /// Name of that file.
        next: String,
    },
    /// The server was stopped.
    Stop,
    /// Neither: the server crashed, or is still writing.
    Open,
}

/// Reads a whole file.
///
/// # Errors
/// [`Fault`], which has the summary of what is sound before it.
pub fn summarize(file: impl Read) -> Result<Summary, Fault> {
    walk(file, &mut |_| ControlFlow::Continue(()))
}

/// Reads a whole file and shows every complete group to `sink`.
///
/// # Errors
/// [`Fault`]. The groups before it have been shown.
pub fn each_group(file: impl Read, sink: &mut dyn FnMut(Group)) -> Result<Summary, Fault> {
    walk(file, &mut |seen| {
        if let Seen::Group(found) = seen {
            sink(found.group());
        }
        ControlFlow::Continue(())
    })
}

/// Whether `next` follows `this` without a hole.
///
/// Between files of one server the names must follow each other: a rotate event names the next file,
/// and a server that is started again counts on. Between servers, as after a failover, names say
/// nothing and transaction ids must tell. Ids must fit in either case: what ran before `next` is
/// exactly what ran up to the end of `this`.
///
/// # Errors
/// What tells against it, for people.
pub fn follows(
    this: &Summary,
    this_name: &str,
    next: &Summary,
    next_name: &str,
) -> Result<(), String> {
    if this.flavour != next.flavour {
        let (this, next) = (this.flavour.product(), next.flavour.product());
        return Err(format!("{next_name} was written by {next}, {this_name} by {this}"));
    }
    let one_server = this.server_id == next.server_id;
    if one_server {
        names_follow(&this.ending, this_name, next_name)?;
    }
    match (&this.after, &next.before) {
        (Some(after), Some(before)) => ids_follow(after, before, one_server)
            .map_err(|what| format!("between {this_name} and {next_name} {what}"))?,
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            return Err(format!("only one of {this_name} and {next_name} says what ran before it"));
        }
    }
    // Equal ids prove that nothing is missing, but nothing about transactions without an id.
    let proven = this.after.as_ref().is_some_and(|after| !after.is_empty())
        && this.anonymous == 0
        && (one_server || next.anonymous == 0);
    if proven {
        return Ok(());
    }
    if !one_server {
        return Err(format!(
            "{this_name} and {next_name} are of different servers and have transactions without \
             an id, so nothing shows that they follow each other"
        ));
    }
    // A server that recovers after a crash takes the flag off. Before, more may have followed.
    if this.ending == Ending::Open && this.in_use {
        return Err(format!(
            "{this_name} was copied while the server was writing it, and without transaction ids \
             nothing shows that it is whole"
        ));
    }
    Ok(())
}

fn names_follow(ending: &Ending, this_name: &str, next_name: &str) -> Result<(), String> {
    let expected = match ending {
        Ending::Rotate { next } => Some(next.clone()),
        // A server that starts always begins a new file.
        Ending::Stop | Ending::Open => successor(this_name),
    };
    match expected {
        Some(expected) if expected == next_name => Ok(()),
        Some(expected) => {
            Err(format!("{this_name} is followed by {expected}, and {next_name} is given"))
        }
        None => Err(format!("{this_name} is no name of a binary log")),
    }
}

/// `bin.000010` for `bin.000009`; six digits, or more when they are needed.
fn successor(name: &str) -> Option<String> {
    let (base, digits) = name.rsplit_once('.')?;
    let number: u64 = digits.parse().ok()?;
    Some(format!("{base}.{:06}", number.checked_add(1)?))
}

fn ids_follow(after: &GtidSet, before: &GtidSet, one_server: bool) -> Result<(), String> {
    if after == before {
        return Ok(());
    }
    // MariaDB may forget a domain that is not used any more (FLUSH BINARY LOGS DELETE_DOMAIN_ID).
    if let (GtidSet::MariaDb(after), GtidSet::MariaDb(before)) = (after, before)
        && one_server
        && before.iter().all(|(domain, last)| after.get(domain) == Some(last))
    {
        return Ok(());
    }
    let what = if before.contains(after) { "transactions are missing" } else { "ids do not fit" };
    Err(format!("{what}: the one ends with `{after}`, the other begins after `{before}`"))
}

/// What a walk through a file shows.
pub(super) enum Seen<'a> {
    /// A group begins; its time, where that is known by now.
    Begun { start: u64, committed_at: Option<DateTime<Utc>> },
    /// A group is complete.
    Group(&'a Found),
    /// The server has lost events here.
    Incident { start: u64 },
}

/// Reads a file until `sink` breaks off, and sums up what was read.
pub(super) fn walk(
    file: impl Read,
    sink: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
) -> Result<Summary, Fault> {
    let fault = |(offset, damage)| Fault { offset, damage, so_far: None };
    let (mut events, header, format) = Events::begin(file).map_err(fault)?;
    let mut sums = Sums::new(&header, format, events.offset());
    loop {
        let offset = events.offset();
        let step = match events.next() {
            Ok(Some(event)) => sums.take(&event, sink),
            Ok(None) if sums.grammar.is_open() => Err(Damage::Unfinished),
            Ok(None) => return Ok(sums.finish()),
            Err(damage) => Err(damage),
        };
        match step {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ok(sums.finish()),
            Err(damage) => {
                return Err(Fault { offset, damage, so_far: Some(Box::new(sums.finish())) });
            }
        }
    }
}

/// A summary in the making.
struct Sums {
    summary: Summary,
    gathered: Gathered,
    grammar: Grammar,
}

impl Sums {
    fn new(header: &Header, format: Format, offset: u64) -> Self {
        let summary = Summary {
            flavour: format.flavour,
            server_version: format.server_version,
            server_id: header.server_id,
            created_at: header.time(),
            before: None,
            after: None,
            groups: 0,
            anonymous: 0,
            incidents: 0,
            first_commit: None,
            last_commit: None,
            max_commit: None,
            first_group_start: offset,
            groups_end: offset,
            bytes: offset,
            ending: Ending::Open,
            covered_until: header.time(),
            in_use: header.flags & IN_USE != 0,
        };
        Self { summary, gathered: Gathered::new(), grammar: Grammar::default() }
    }

    fn take(
        &mut self,
        event: &Event<'_>,
        sink: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Damage> {
        if self.summary.ending != Ending::Open {
            return Err(Damage::Order("an event follows the one that ends the file"));
        }
        let start = event.start;
        let mut flow = match self.grammar.take(event)? {
            Step::Begun { committed_at } => sink(Seen::Begun { start, committed_at }),
            Step::Ended(found) => {
                self.group(&found);
                sink(Seen::Group(&found))
            }
            Step::Nothing => ControlFlow::Continue(()),
        };
        match event.kind {
            Kind::Part(Part::Incident) => {
                self.summary.incidents += 1;
                flow = sink(Seen::Incident { start });
            }
            Kind::PreviousGtids => self.before(event, gtids::previous(event.body)?)?,
            Kind::GtidList => self.before(event, gtids::list(event.body)?)?,
            Kind::Rotate => self.end(event, Ending::Rotate { next: rotated_to(event.body)? })?,
            Kind::Stop => self.end(event, Ending::Stop)?,
            Kind::StartEncryption => return Err(Damage::Encrypted),
            Kind::FormatDescription => {
                return Err(Damage::Order("a second description of the format"));
            }
            // In a transaction it is one more of its parts: had it ended it, what follows would not
            // fit. Between two, nobody knows what it means.
            Kind::Unknown if self.grammar.is_open() => {}
            Kind::Unknown => {
                let number = event.header.number;
                return Err(Damage::Unsupported(format!("it has events of kind {number}")));
            }
            Kind::PassOver => self.preamble(event),
            Kind::Gtid(_) | Kind::Part(_) => {}
        }
        self.summary.bytes = event.end;
        Ok(flow)
    }

    fn group(&mut self, found: &Found) {
        self.gathered.add(&found.id);
        let time = found.committed_at;
        let sums = &mut self.summary;
        if sums.groups == 0 {
            sums.first_group_start = found.start;
        }
        sums.groups += 1;
        sums.anonymous += u64::from(found.is_anonymous());
        sums.first_commit.get_or_insert(time);
        sums.last_commit = Some(time);
        sums.max_commit = sums.max_commit.max(Some(time));
        sums.covered_until = sums.covered_until.max(time);
        sums.groups_end = found.end;
    }

    /// An event before the first group moves the place where that would begin.
    fn preamble(&mut self, event: &Event<'_>) {
        if self.summary.groups == 0 && !self.grammar.is_open() {
            (self.summary.first_group_start, self.summary.groups_end) = (event.end, event.end);
        }
    }

    fn before(&mut self, event: &Event<'_>, set: GtidSet) -> Result<(), Damage> {
        if self.summary.before.is_some() || self.summary.groups > 0 || self.grammar.is_open() {
            return Err(Damage::Order("the list of earlier transactions is not at the beginning"));
        }
        self.summary.before = Some(set);
        self.preamble(event);
        Ok(())
    }

    fn end(&mut self, event: &Event<'_>, ending: Ending) -> Result<(), Damage> {
        if self.grammar.is_open() {
            return Err(Damage::Order("the server closed the file in the middle of a transaction"));
        }
        self.summary.ending = ending;
        self.summary.covered_until = self.summary.covered_until.max(event.header.time());
        Ok(())
    }

    fn finish(mut self) -> Summary {
        if self.summary.before.is_some() {
            let before = self.summary.before.as_ref();
            self.summary.after = Some(self.gathered.finish(self.summary.flavour, before));
        }
        self.summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::{
        fake::Log,
        fixture::{self, ALL, ENCRYPTED, Fixture, named},
    };
    use proptest::prelude::*;

    fn summary(name: &str) -> Summary {
        summarize(named(name).bytes).unwrap()
    }

    /// A reader that gives a byte at a time.
    struct Dripping<'a>(&'a [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = self.0.len().min(buffer.len()).min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    fn check_against_the_tool(fixture: &Fixture) {
        let (facts, name, flavour) = (fixture.facts(), fixture.name, fixture.flavour());
        let mut groups = vec![];
        let summary = each_group(fixture.bytes, &mut |group| groups.push(group)).unwrap();
        assert_eq!(groups.len(), facts.groups.len(), "{name}");
        for (group, fact) in groups.iter().zip(&facts.groups) {
            assert_eq!((group.start, group.end), (fact.start, fact.end), "{name}");
            assert_eq!(group.committed_at, fact.committed_at(), "{name} {}", fact.start);
            let mut id = GtidSet::new(flavour);
            group.gtid.iter().for_each(|gtid| id.add(gtid));
            assert_eq!(id, fixture::of(flavour, std::slice::from_ref(fact)), "{name}");
        }
        assert_eq!(summary.flavour, flavour);
        assert_eq!(summary.before, Some(facts.gtids(flavour, 0)), "{name}");
        assert_eq!(summary.after, Some(facts.gtids(flavour, facts.groups.len())), "{name}");
        let ending = match facts.ending.as_str() {
            "open" => Ending::Open,
            "stop" => Ending::Stop,
            next => Ending::Rotate { next: next.to_owned() },
        };
        assert_eq!(summary.ending, ending, "{name}");
        assert_eq!(summary.in_use, fixture.is_in_use(), "{name}");
        assert_eq!(summary.bytes, fixture.bytes.len() as u64);
        assert_eq!(summary.groups, facts.groups.len() as u64);
        let anonymous = facts.groups.iter().filter(|group| group.gtid.is_none()).count();
        assert_eq!(summary.anonymous, anonymous as u64);
        let times = || facts.groups.iter().map(fixture::FactGroup::committed_at);
        assert_eq!(summary.first_commit, times().next());
        assert_eq!(summary.last_commit, times().next_back());
        assert_eq!(summary.max_commit, times().max());
        assert!(summary.covered_until >= times().max().unwrap_or(summary.created_at), "{name}");
        if let Some(first) = facts.groups.first() {
            assert_eq!(summary.first_group_start, first.start);
        }
        let end = facts.groups.last().map_or(summary.first_group_start, |last| last.end);
        assert_eq!((summary.groups_end, summary.incidents), (end, 0), "{name}");
        assert_eq!(summarize(Dripping(fixture.bytes)).unwrap(), summary);
        let text = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), summary);
    }

    #[test]
    fn real_files_hold_what_the_servers_own_tools_say() {
        ALL.iter().for_each(check_against_the_tool);
        // The fixture has a transaction that says to have been committed elsewhere in 2100.
        assert!(summary("mysql-gtid/bin.000001").covered_until.timestamp() < 4_102_444_800);
    }

    #[test]
    fn an_idle_file_covers_the_time_until_it_was_closed() {
        let idle = summary("mysql-8.0/bin.000007");
        assert_eq!((idle.groups, idle.first_group_start, idle.groups_end), (0, 197, 197));
        // It was begun and closed by forced rotations 20 seconds apart.
        assert_eq!((idle.covered_until - idle.created_at).num_seconds(), 20);
    }

    #[test]
    fn encrypted_files_are_named_as_such() {
        for bytes in ENCRYPTED {
            let damage = summarize(bytes).unwrap_err().damage;
            assert!(matches!(damage, Damage::Encrypted), "{damage:?}");
            assert!(damage.to_string().contains("binlog_encryption"));
        }
    }

    /// What a fault says is sound must be what the tool says of so many first groups.
    fn check_so_far(fixture: &Fixture, whole: &Summary, fault: &Fault, bytes: u64) {
        let facts = fixture.facts();
        let count = facts.groups.iter().filter(|group| group.end <= bytes).count();
        let Some(so_far) = &fault.so_far else {
            assert!(bytes < whole.first_group_start, "{}: {bytes}", fixture.name);
            return;
        };
        assert_eq!(so_far.groups, count as u64, "{}: {bytes}", fixture.name);
        assert!(so_far.bytes <= bytes && fault.offset <= bytes);
        let end = count.checked_sub(1).map_or(so_far.first_group_start, |n| facts.groups[n].end);
        assert_eq!(so_far.groups_end, end, "{}: {bytes}", fixture.name);
        if let Some(after) = &so_far.after {
            assert_eq!(*after, facts.gtids(fixture.flavour(), count), "{}", fixture.name);
        } else {
            assert_eq!(count, 0);
        }
        assert!(so_far.covered_until <= whole.covered_until);
        assert_eq!(so_far.ending, Ending::Open);
    }

    #[test]
    fn a_file_cut_anywhere_is_what_was_whole() {
        for fixture in ALL {
            let whole = summarize(fixture.bytes).unwrap();
            for length in 0..fixture.bytes.len() {
                match summarize(&fixture.bytes[..length]) {
                    Ok(cut) => {
                        // Between two groups: nothing tells it from a file that is being written.
                        assert_eq!((cut.bytes, &cut.ending), (length as u64, &Ending::Open));
                        let damage = Damage::Truncated;
                        let offset = length as u64;
                        let fault = Fault { offset, damage, so_far: Some(Box::new(cut)) };
                        check_so_far(fixture, &whole, &fault, offset);
                    }
                    Err(fault) => {
                        assert!(fault.damage.only_the_end_is_missing(), "{fault:?}");
                        check_so_far(fixture, &whole, &fault, length as u64);
                    }
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        for fixture in ALL {
            let whole = summarize(fixture.bytes).unwrap();
            let mut bytes = fixture.bytes.to_vec();
            for at in 0..bytes.len() {
                let bit = 1 << (at % 8);
                bytes[at] ^= bit;
                match summarize(&bytes[..]) {
                    // Only the flag of a file in use is outside of checksums.
                    Ok(read) => assert!(
                        !fixture.checksums() || Summary { in_use: whole.in_use, ..read } == whole,
                        "{} at {at}",
                        fixture.name
                    ),
                    Err(fault) if fixture.checksums() => {
                        assert!(fault.offset <= at as u64);
                        check_so_far(fixture, &whole, &fault, fault.offset);
                    }
                    Err(_) => {}
                }
                bytes[at] ^= bit;
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(
            which in 0..ALL.len(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = ALL[which].bytes.to_vec();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(summary) = summarize(&bytes[..]) {
                prop_assert!(summary.bytes == bytes.len() as u64);
            }
        }
    }

    fn check_follows(this: &str, next: &str) {
        let (this, next) = (named(this), named(next));
        let summaries = (summarize(this.bytes).unwrap(), summarize(next.bytes).unwrap());
        assert_eq!(follows(&summaries.0, this.file(), &summaries.1, next.file()), Ok(()));
    }

    fn check_hole(this: &str, next: &str, why: &str) {
        let (a, b) = (named(this), named(next));
        let summaries = (summarize(a.bytes).unwrap(), summarize(b.bytes).unwrap());
        let fault = follows(&summaries.0, a.file(), &summaries.1, b.file()).unwrap_err();
        assert!(fault.contains(why), "{this} {next}: {fault}");
    }

    #[test]
    fn files_of_one_server_follow_each_other() {
        // Rotated, stopped and started, rotated to a list with tags.
        check_follows("mysql-gtid/bin.000001", "mysql-gtid/bin.000002");
        check_follows("mysql-gtid/bin.000002", "mysql-gtid/bin.000003");
        check_follows("mysql-gtid/bin.000003", "mysql-gtid/bin.000004");
        check_follows("mysql-anonymous/bin.000001", "mysql-anonymous/bin.000002");
        check_follows("mysql-anonymous/bin.000002", "mysql-anonymous/bin.000003");
        check_follows("mysql-anonymous/bin.000003", "mysql-anonymous/bin.000004");
        check_follows("mysql-8.0/bin.000006", "mysql-8.0/bin.000007");
        check_follows("mysql-8.0/bin.000007", "mysql-8.0/bin.000008");
        check_follows("mariadb-plain/bin.000001", "mariadb-plain/bin.000002");
        check_follows("mariadb-plain/bin.000002", "mariadb-plain/bin.000003");
    }

    #[test]
    fn holes_between_files_are_seen() {
        check_hole("mysql-gtid/bin.000001", "mysql-gtid/bin.000003", "followed by bin.000002");
        check_hole("mysql-gtid/bin.000002", "mysql-gtid/bin.000004", "followed by bin.000003");
        check_hole("mysql-8.0/bin.000006", "mysql-8.0/bin.000008", "followed by bin.000007");
        check_hole("mysql-gtid/bin.000002", "mariadb-plain/bin.000003", "MariaDB");
        check_hole("mysql-gtid/bin.000001", "mysql-anonymous/bin.000002", "ids do not fit");
        let (first, third) = (summary("mysql-gtid/bin.000001"), summary("mysql-gtid/bin.000003"));
        let fault = follows(&first, "bin.000001", &third, "bin.000002").unwrap_err();
        assert!(fault.contains("transactions are missing"), "{fault}");
        let (first, third) =
            (summary("mariadb-plain/bin.000001"), summary("mariadb-plain/bin.000003"));
        let fault = follows(&first, "bin.000001", &third, "bin.000002").unwrap_err();
        assert!(fault.contains("transactions are missing"), "{fault}");
    }

    #[test]
    fn between_servers_only_ids_count() {
        let first = summary("mysql-gtid/bin.000001");
        let mut second = summary("mysql-gtid/bin.000002");
        second.server_id += 1;
        assert_eq!(follows(&first, "bin.000001", &second, "other.000009"), Ok(()));
        second.anonymous = 1;
        assert!(follows(&first, "bin.000001", &second, "other.000009").is_err());
        let (first, mut second) =
            (summary("mysql-anonymous/bin.000001"), summary("mysql-anonymous/bin.000002"));
        second.server_id += 1;
        assert!(follows(&first, "bin.000001", &second, "bin.000002").is_err());
        // And a server that crashed counts on by itself.
        assert_eq!(successor("bin.000009").unwrap(), "bin.000010");
        assert_eq!(successor("my.bin.999999").unwrap(), "my.bin.1000000");
        assert_eq!(successor("bin"), None);
    }

    #[test]
    fn a_copy_of_a_file_that_was_being_written_is_no_whole_one() {
        // The same file after a crash, before and after the server has recovered it.
        let recovered = summary("mysql-anonymous/bin.000003");
        let next = summary("mysql-anonymous/bin.000004");
        assert!(recovered.ending == Ending::Open && !recovered.in_use);
        let early = Summary { in_use: true, ..recovered };
        let fault = follows(&early, "bin.000003", &next, "bin.000004").unwrap_err();
        assert!(fault.contains("was copied while the server was writing it"), "{fault}");
        // With ids, they tell.
        let (this, next) = (summary("mysql-gtid/bin.000003"), summary("mysql-gtid/bin.000004"));
        let this = Summary { ending: Ending::Open, in_use: true, ..this };
        assert_eq!(follows(&this, "bin.000003", &next, "bin.000004"), Ok(()));
    }

    #[test]
    fn a_domain_that_was_deleted_is_no_hole() {
        let first = summary("mariadb-plain/bin.000001");
        let mut second = summary("mariadb-plain/bin.000002");
        second.before = Some(GtidSet::parse(Flavour::MariaDb, "0-9-20").unwrap());
        assert_eq!(follows(&first, "bin.000001", &second, "bin.000002"), Ok(()));
        second.before = Some(GtidSet::parse(Flavour::MariaDb, "0-9-21").unwrap());
        assert!(follows(&first, "bin.000001", &second, "bin.000002").is_err());
    }

    fn fault(log: &Log) -> Fault {
        summarize(&log.bytes[..]).unwrap_err()
    }

    #[test]
    fn servers_without_microseconds_have_the_header_s_second() {
        for bytes in [25, 42] {
            let mut log = Log::new("5.7.44-log", 38, true);
            let start = log.old_gtid(5, bytes);
            log.seconds += 1;
            log.query("BEGIN");
            log.xid();
            let mut groups = vec![];
            each_group(&log.bytes[..], &mut |group| groups.push(group)).unwrap();
            assert_eq!((groups.len(), groups[0].start), (1, start));
            assert_eq!(groups[0].committed_at.timestamp(), 1_000);
        }
    }

    #[test]
    fn groups_without_a_gtid_event_end_with_their_commit() {
        let mut log = Log::new("5.6.51", 35, true);
        let first = log.event(5, 0, &[0; 9]);
        log.query("insert into t values (null)");
        let begin = log.query("BEGIN");
        log.seconds += 5;
        log.query("insert into u values (1)");
        log.query("ROLLBACK TO `a`");
        log.query("COMMIT");
        log.query("drop table t");
        log.rotate("bin.000002");
        let mut groups = vec![];
        let summary = each_group(&log.bytes[..], &mut |group| groups.push(group)).unwrap();
        assert_eq!((summary.groups, summary.anonymous), (3, 3));
        assert_eq!((groups[0].start, groups[1].start), (first, begin));
        let times: Vec<_> = groups.iter().map(|group| group.committed_at.timestamp()).collect();
        assert_eq!(times, [1_000, 1_005, 1_005]);
        assert_eq!(summary.before, None);
    }

    #[test]
    fn lost_events_are_counted() {
        let mut log = Log::mysql();
        log.event(26, 0, &[1, 0, 0]);
        log.gtid(1, 5);
        log.event(26, 0, &[1, 0, 0]);
        log.gtid(2, 6);
        log.query("create table t (id int)");
        let summary = summarize(&log.bytes[..]).unwrap();
        assert_eq!((summary.incidents, summary.groups), (2, 2));
    }

    #[test]
    fn what_breaks_the_order_is_refused() {
        let damage = |build: &dyn Fn(&mut Log) -> u64| {
            let mut log = Log::mysql();
            log.gtid(1, 5);
            log.query("BEGIN");
            build(&mut log);
            let fault = fault(&log);
            assert!(fault.so_far.is_some());
            fault.damage.to_string()
        };
        assert!(damage(&|log| log.gtid(2, 6)).contains("before the one before it has ended"));
        assert!(damage(&|log| log.rotate("b")).contains("in the middle of a transaction"));
        assert!(damage(&|log| log.query("insert")).contains("ends in the middle of a transaction"));
        let after_the_end = |log: &mut Log| {
            log.xid();
            log.rotate("bin.000002");
            log.gtid(2, 6)
        };
        assert!(damage(&after_the_end).contains("follows the one that ends the file"));
        let unknown = |log: &mut Log| {
            log.event(99, 0x80, &[0; 5]);
            log.event(99, 0, &[0; 5]);
            log.xid();
            log.event(99, 0x80, &[0; 5]);
            log.event(99, 0, &[0; 5])
        };
        assert!(damage(&unknown).contains("events of kind 99"));
        let late = |log: &mut Log| {
            log.xid();
            log.event(35, 0, &[0; 8])
        };
        assert!(damage(&late).contains("not at the beginning"));
    }

    #[test]
    fn old_and_foreign_formats_are_refused() {
        for (version, types, why) in
            [("5.5.62", 27, "5.6 is the oldest"), ("5.5.68-MariaDB", 27, "10.0 is the oldest")]
        {
            let damage = fault(&Log::new(version, types, true)).damage.to_string();
            assert!(damage.contains(why), "{damage}");
        }
        // MariaDB may call itself anything.
        let log = Log::new("10.6.1-ours", 171, true);
        assert_eq!(summarize(&log.bytes[..]).unwrap().flavour, Flavour::MariaDb);
        let text = summarize(&b"no binary log"[..]).unwrap_err().damage.to_string();
        assert_eq!(text, "it is not a binary log");
    }
}
