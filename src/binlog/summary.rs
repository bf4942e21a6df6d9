//! What one binary log holds, and whether another one follows it without a hole.
//!
//! 1. `reader.rs` proves and shows event after event; `groups.rs` tells where groups begin and end.
//! 2. Each whole group is taken into the sums; what follows the last whole one counts for nothing.
//! 3. Where something is wrong, the sums up to the last whole group go with the [`Fault`].

use crate::{
    binlog::{
        event::{Format, Header, IN_USE, Kind, rotated_to},
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
    /// clock.
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
        (Some(after), Some(before)) => {
            ids_follow(after, before, one_server)
                .map_err(|what| format!("between {this_name} and {next_name} {what}"))?;
            // Equal sets prove nothing about transactions without an id.
            if !one_server && (this.anonymous > 0 || next.anonymous > 0 || after.is_empty()) {
                return Err(format!(
                    "{this_name} and {next_name} are of different servers and hold transactions \
                     without an id, so nothing shows that they follow each other"
                ));
            }
            Ok(())
        }
        (None, None) if one_server => Ok(()),
        (None, None) => Err(format!(
            "{this_name} and {next_name} are of different servers without transaction ids, so \
             nothing shows that they follow each other"
        )),
        (Some(_), None) | (None, Some(_)) => {
            Err(format!("only one of {this_name} and {next_name} says what ran before it"))
        }
    }
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
            Kind::Incident => {
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
            Kind::Unknown => {
                let number = event.header.number;
                return Err(Damage::Unsupported(format!("it has events of kind {number}")));
            }
            Kind::PassOver => self.preamble(event),
            Kind::Gtid
            | Kind::AnonymousGtid
            | Kind::TaggedGtid
            | Kind::MariaDbGtid
            | Kind::Query
            | Kind::Statement
            | Kind::Prelude
            | Kind::Rows
            | Kind::Inside
            | Kind::Payload
            | Kind::Xid
            | Kind::XaPrepare => {}
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
