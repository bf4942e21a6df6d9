//! Where transactions begin and end in a binary log.
//!
//! A "group" is what the server applies as a whole: mostly one transaction. It begins with its GTID
//! event, or in old logs with its first event. Then:
//!
//! * MySQL: `BEGIN` or `XA START` opens a transaction, which an XID event, `COMMIT`, `ROLLBACK` or an
//!   event of `XA PREPARE` ends. Any other statement, and a compressed transaction, is the whole group.
//! * MariaDB: the GTID event itself says whether one statement follows or a transaction, whose ends
//!   are the same.
//!
//! Sources: `Transaction_boundary_parser` in `trx_boundary_parser.cpp` of MySQL, `is_part_of_group`
//! and `queue_event` in `log_event.h` and `slave.cc` of MariaDB.

use crate::{
    binlog::{
        event::{GtidEvent, Kind, Part, Verb},
        fault::Damage,
        gtids::{self, Id},
        reader::Event,
        tagged,
    },
    domain::binlog::Gtid,
};
use chrono::{DateTime, Utc};

/// One transaction: from its GTID event (or its first event when there is none) to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Where its first event begins, in bytes.
    pub start: u64,
    /// Where its last event ends, in bytes.
    pub end: u64,
    /// Its id.
    pub gtid: Option<Gtid>,
    /// When this server committed it.
    pub committed_at: DateTime<Utc>,
}

/// A whole group as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) id: Id,
    pub(super) committed_at: DateTime<Utc>,
}

impl Found {
    pub(super) fn is_anonymous(&self) -> bool {
        self.id == Id::Anonymous
    }

    /// As callers see it.
    pub(super) fn group(&self) -> Group {
        let Self { start, end, id, committed_at } = self;
        Group { start: *start, end: *end, gtid: id.gtid(), committed_at: *committed_at }
    }
}

/// What an event of a group does.
#[derive(Debug)]
pub(super) enum Step {
    /// It begins one. The time is known by now where it has a GTID event.
    Begun { committed_at: Option<DateTime<Utc>> },
    /// It ends one.
    Ended(Found),
    /// Neither.
    Nothing,
}

/// Follows the events of groups.
#[derive(Debug, Default)]
pub(super) struct Grammar {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    start: u64,
    id: Id,
    committed_at: Option<DateTime<Utc>>,
    until: Until,
}

/// What a group that is open waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Its first statement, which tells.
    FirstStatement,
    /// Its only statement.
    Statement,
    /// The end of a transaction.
    Commit,
    /// Nothing: this event ended it.
    Ended,
}

impl Grammar {
    /// Whether a group has begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the next event.
    pub(super) fn take(&mut self, event: &Event<'_>) -> Result<Step, Damage> {
        let part = match event.kind {
            Kind::Gtid(kind) => return self.begin(event, kind),
            Kind::Part(Part::Incident) if self.open.is_none() => return Ok(Step::Nothing),
            Kind::Part(part) => part,
            Kind::FormatDescription
            | Kind::PreviousGtids
            | Kind::GtidList
            | Kind::StartEncryption
            | Kind::Rotate
            | Kind::Stop
            | Kind::PassOver
            | Kind::Unknown => return Ok(Step::Nothing),
        };
        // Without a GTID event, as MySQL 5.6 writes it, any other one begins a group.
        let begun = self.open.is_none();
        let mut open = self.open.take().unwrap_or(Open {
            start: event.start,
            id: Id::Anonymous,
            committed_at: None,
            until: Until::FirstStatement,
        });
        open.until = match open.until {
            Until::FirstStatement => first_statement(part, event)?,
            Until::Statement => only_statement(part, event),
            Until::Commit | Until::Ended => transaction(part, event)?,
        };
        if open.until == Until::Ended {
            let Open { start, id, committed_at, .. } = open;
            // Without a GTID event, the time is that of the statement that committed.
            let committed_at = committed_at.unwrap_or_else(|| event.header.time());
            return Ok(Step::Ended(Found { start, end: event.end, id, committed_at }));
        }
        self.open = Some(open);
        Ok(if begun { Step::Begun { committed_at: None } } else { Step::Nothing })
    }

    fn begin(&mut self, event: &Event<'_>, kind: GtidEvent) -> Result<Step, Damage> {
        if self.open.is_some() {
            return Err(Damage::Order("a transaction begins before the one before it has ended"));
        }
        let header_time = event.header.time();
        let (id, committed_at, until) = match kind {
            GtidEvent::MySql => {
                let (id, time) = gtids::mysql(event.body)?;
                (id, time.unwrap_or(header_time), Until::FirstStatement)
            }
            GtidEvent::Anonymous => {
                let (_, time) = gtids::mysql(event.body)?;
                (Id::Anonymous, time.unwrap_or(header_time), Until::FirstStatement)
            }
            GtidEvent::Tagged => {
                let (id, time) = tagged::read(event.body)?;
                (id, gtids::commit_time(time)?, Until::FirstStatement)
            }
            GtidEvent::MariaDb => {
                let (id, standalone) = gtids::mariadb(&event.header, event.body)?;
                (id, header_time, if standalone { Until::Statement } else { Until::Commit })
            }
        };
        let committed_at = Some(committed_at);
        self.open = Some(Open { start: event.start, id, committed_at, until });
        Ok(Step::Begun { committed_at })
    }
}

/// After MySQL's GTID event, or without any.
fn first_statement(part: Part, event: &Event<'_>) -> Result<Until, Damage> {
    Ok(match part {
        Part::Query => match Verb::read(event.body, event.body_bytes)? {
            Verb::Begin => Until::Commit,
            Verb::End | Verb::Other => Until::Ended,
        },
        Part::Payload | Part::Xid | Part::XaPrepare | Part::Incident => Until::Ended,
        Part::Statement | Part::Rows => Until::Commit,
        Part::Prelude | Part::Inside => Until::FirstStatement,
    })
}

/// After MariaDB's GTID event with `FL_STANDALONE`.
fn only_statement(part: Part, event: &Event<'_>) -> Until {
    /// `STMT_END_F`: no more rows of this statement follow.
    const LAST_ROWS: u8 = 1;
    match part {
        Part::Prelude | Part::Inside => Until::Statement,
        // Behind the number of the table.
        Part::Rows if event.body.get(6).is_some_and(|flags| flags & LAST_ROWS == 0) => {
            Until::Statement
        }
        Part::Rows
        | Part::Query
        | Part::Statement
        | Part::Payload
        | Part::Xid
        | Part::XaPrepare
        | Part::Incident => Until::Ended,
    }
}

/// In a transaction.
fn transaction(part: Part, event: &Event<'_>) -> Result<Until, Damage> {
    Ok(match part {
        Part::Query => match Verb::read(event.body, event.body_bytes)? {
            Verb::End => Until::Ended,
            Verb::Begin | Verb::Other => Until::Commit,
        },
        Part::Xid | Part::XaPrepare | Part::Incident => Until::Ended,
        Part::Payload => {
            return Err(Damage::Order("a compressed transaction stands inside of another one"));
        }
        Part::Statement | Part::Prelude | Part::Rows | Part::Inside => Until::Commit,
    })
}
