//! What was learned of logs, so that a restart reads no segment again.
//!
//! A row for each segment, in few bytes: a log may have a million. Numbers are little-endian.

use crate::{
    domain::lsn::{Lsn, SegmentSize, Timeline},
    engine::{
        catalog::{
            learned::{KnownCarry, Learned, LogMemory},
            segment::Place,
        },
        state::{State, to_json},
    },
    wal::scan::{SegmentIndex, Xacts},
};
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use tracing::warn;

/// The tables. `log` gives scopes, which are long, a short number.
pub(super) const SCHEMA: &str = "
    CREATE TABLE log (id INTEGER PRIMARY KEY, scope TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE log_segment (
        log INTEGER NOT NULL, timeline INTEGER NOT NULL, position INTEGER NOT NULL,
        summary BLOB NOT NULL,
        PRIMARY KEY (log, timeline, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE log_carry (
        log INTEGER NOT NULL, timeline INTEGER NOT NULL, position INTEGER NOT NULL,
        proof INTEGER NOT NULL, carry TEXT NOT NULL,
        PRIMARY KEY (log, timeline, position)
    ) STRICT, WITHOUT ROWID;
";

impl LogMemory for State {
    fn recall(&self, scope: &str, give: &mut dyn FnMut(Learned)) {
        if let Err(error) = recall(&self.connection(), scope, give) {
            warn!(scope, %error, "what was learned of a log cannot be read; it is read anew");
        }
    }

    fn carry(&self, scope: &str, first: Place, last: Place) -> Option<(Place, KnownCarry)> {
        carry(&self.connection(), scope, first, last).unwrap_or_else(|error| {
            warn!(scope, %error, "what was learned of a log cannot be read; it is read anew");
            None
        })
    }

    fn keep(&self, scope: &str, learned: &Learned) {
        if let Err(error) = keep(&mut self.connection(), scope, learned) {
            warn!(scope, %error, "what was learned of a log cannot be kept");
        }
    }

    fn forget_before(&self, scope: &str, place: Place) {
        if let Err(error) = forget_before(&self.connection(), scope, place) {
            warn!(scope, %error, "what was learned of an expired log cannot be forgotten");
        }
    }
}

fn recall(
    connection: &Connection,
    scope: &str,
    give: &mut dyn FnMut(Learned),
) -> rusqlite::Result<()> {
    let sql = "SELECT timeline, position, summary FROM log_segment
        WHERE log = (SELECT id FROM log WHERE scope = ?1) ORDER BY timeline, position";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([scope])?;
    while let Some(row) = rows.next()? {
        let place = place(row.get(0)?, row.get(1)?);
        // A summary of another version is a segment that is read anew.
        if let Some(learned) = read_summary(place, row.get_ref(2)?.as_blob()?) {
            give(learned);
        }
    }
    Ok(())
}

fn carry(
    connection: &Connection,
    scope: &str,
    first: Place,
    last: Place,
) -> rusqlite::Result<Option<(Place, KnownCarry)>> {
    let sql = "SELECT timeline, position, proof, carry FROM log_carry
        WHERE log = (SELECT id FROM log WHERE scope = ?1)
        AND (timeline, position) BETWEEN (?2, ?3) AND (?4, ?5)
        ORDER BY timeline DESC, position DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let ((t1, p1), (t2, p2)) = (numbers(first), numbers(last));
    let found = statement.query_row(params![scope, t1, p1, t2, p2], |row| {
        let text: String = row.get(3)?;
        let proof = row.get::<_, i64>(2)?.cast_unsigned();
        let carry = serde_json::from_str(&text).ok();
        Ok((place(row.get(0)?, row.get(1)?), carry.map(|carry| KnownCarry { proof, carry })))
    });
    Ok(found.optional()?.and_then(|(place, carry)| carry.map(|carry| (place, carry))))
}

fn keep(connection: &mut Connection, scope: &str, learned: &Learned) -> rusqlite::Result<()> {
    let all = connection.transaction()?;
    let log = log_of(&all, scope)?;
    let gone = [learned.forget_carry_of, Some(learned.place)];
    for (timeline, position) in gone.into_iter().flatten().map(numbers) {
        let sql = "DELETE FROM log_carry WHERE log = ?1 AND timeline = ?2 AND position = ?3";
        all.prepare_cached(sql)?.execute(params![log, timeline, position])?;
    }
    let (timeline, position) = numbers(learned.place);
    let sql = "INSERT OR REPLACE INTO log_segment VALUES (?1, ?2, ?3, ?4)";
    all.prepare_cached(sql)?.execute(params![log, timeline, position, summary(learned)])?;
    if let Some(carry) = &learned.carry {
        let sql = "INSERT INTO log_carry VALUES (?1, ?2, ?3, ?4, ?5)";
        let proof = learned.proof.cast_signed();
        let values = params![log, timeline, position, proof, to_json(carry)];
        all.prepare_cached(sql)?.execute(values)?;
    }
    all.commit()
}

fn log_of(connection: &Connection, scope: &str) -> rusqlite::Result<i64> {
    let known = "SELECT id FROM log WHERE scope = ?1";
    let id = connection.prepare_cached(known)?.query_row([scope], |row| row.get(0)).optional()?;
    if let Some(id) = id {
        return Ok(id);
    }
    connection.prepare_cached("INSERT INTO log (scope) VALUES (?1)")?.execute([scope])?;
    Ok(connection.last_insert_rowid())
}

fn forget_before(connection: &Connection, scope: &str, place: Place) -> rusqlite::Result<()> {
    let (timeline, position) = numbers(place);
    for table in ["log_segment", "log_carry"] {
        let sql = format!(
            "DELETE FROM {table} WHERE log = (SELECT id FROM log WHERE scope = ?1)
            AND (timeline, position) < (?2, ?3)"
        );
        connection.prepare_cached(&sql)?.execute(params![scope, timeline, position])?;
    }
    Ok(())
}

/// Positions are far below the largest number of SQLite's.
fn numbers(place: Place) -> (u32, i64) {
    (place.timeline.0, i64::try_from(place.position).unwrap_or(i64::MAX))
}

fn place(timeline: u32, position: i64) -> Place {
    Place { timeline: Timeline(timeline), position: position.cast_unsigned() }
}

/// Version of the summaries.
const VERSION: u8 = 1;

const HAS_RECORD: u8 = 1;
const HAS_XACTS: u8 = 1 << 1;
const HAS_TIME: u8 = 1 << 2;
const ENDS_EARLY: u8 = 1 << 3;
const HAS_FLOOR: u8 = 1 << 4;

fn summary(learned: &Learned) -> Vec<u8> {
    let index = &learned.index;
    let micros = |time: DateTime<Utc>| time.timestamp_micros().to_le_bytes();
    let mut flags = 0;
    let mut rest = Vec::new();
    if let Some((start, end)) = index.last_record.zip(index.last_end) {
        flags |= HAS_RECORD;
        rest.extend([start.0.to_le_bytes(), end.0.to_le_bytes()]);
    }
    if let Some(xacts) = index.xacts {
        flags |= HAS_XACTS;
        let count = xacts.count.to_le_bytes();
        rest.extend([count, micros(xacts.max_time), micros(xacts.last_time)]);
    }
    if let Some(time) = index.latest_time {
        flags |= HAS_TIME;
        rest.push(micros(time));
    }
    if let Some(floor) = index.parameter_floor {
        flags |= HAS_FLOOR;
        rest.extend(floor.map(|value| u64::from(value).to_le_bytes()));
    }
    if index.ends_early {
        flags |= ENDS_EARLY;
    }
    rest.extend(index.backup_ends.iter().map(|end| end.0.to_le_bytes()));
    let mut bytes = vec![VERSION, flags];
    bytes.extend(learned.proof.to_le_bytes());
    bytes.extend(learned.previous.to_le_bytes());
    bytes.extend(index.system_identifier.to_le_bytes());
    bytes.extend(index.postgres_major.to_le_bytes());
    bytes.extend(index.segment_size.bytes().to_le_bytes());
    bytes.extend(index.records.to_le_bytes());
    bytes.extend(rest.into_iter().flatten());
    bytes
}

fn read_summary(place: Place, bytes: &[u8]) -> Option<Learned> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    let [VERSION, flags] = *head else { return None };
    let mut rest = rest;
    let (proof, previous) = (number(&mut rest)?, small(&mut rest)?);
    let (system_identifier, postgres_major) = (number(&mut rest)?, small(&mut rest)?);
    let segment_size = SegmentSize::new(number(&mut rest)?)?;
    let mut index = SegmentIndex {
        segment: place.segment(segment_size)?,
        system_identifier,
        segment_size,
        postgres_major,
        records: number(&mut rest)?,
        last_record: None,
        last_end: None,
        xacts: None,
        latest_time: None,
        backup_ends: Vec::new(),
        parameter_floor: None,
        ends_early: flags & ENDS_EARLY != 0,
    };
    if flags & HAS_RECORD != 0 {
        index.last_record = Some(Lsn(number(&mut rest)?));
        index.last_end = Some(Lsn(number(&mut rest)?));
    }
    if flags & HAS_XACTS != 0 {
        let (count, max, last) = (number(&mut rest)?, time(&mut rest)?, time(&mut rest)?);
        index.xacts = Some(Xacts { count, max_time: max, last_time: last });
    }
    if flags & HAS_TIME != 0 {
        index.latest_time = Some(time(&mut rest)?);
    }
    if flags & HAS_FLOOR != 0 {
        let mut floor = [0; 5];
        for value in &mut floor {
            *value = u32::try_from(number(&mut rest)?).ok()?;
        }
        index.parameter_floor = Some(floor);
    }
    while !rest.is_empty() {
        index.backup_ends.push(Lsn(number(&mut rest)?));
    }
    Some(Learned { place, proof, previous, index, carry: None, forget_carry_of: None })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_le_bytes(*bytes))
}

fn small(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*bytes))
}

fn time(rest: &mut &[u8]) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(number(rest)?.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_is_recalled(
            (number, shift, proof, previous) in (1_u64..1 << 34, 20_u32..31, any::<u64>(), any::<u32>()),
            (record, latest, ends_early) in (any::<Option<(u32, u32)>>(), any::<Option<i32>>(), any::<bool>()),
            (xacts, floor) in (any::<Option<(u64, i32, i32)>>(), any::<Option<[u32; 5]>>()),
            backup_ends in prop::collection::vec(any::<u64>(), 0..3),
            cut in 0_usize..200,
        ) {
            let segment_size = SegmentSize::new(1 << shift).unwrap();
            let segment = crate::domain::lsn::Segment { timeline: Timeline(3), number };
            let at = |micros: i32| DateTime::from_timestamp_micros(micros.into()).unwrap();
            let learned = Learned {
                place: Place::of(segment, segment_size),
                proof,
                previous,
                index: SegmentIndex {
                    segment,
                    system_identifier: proof ^ 1,
                    segment_size,
                    postgres_major: 15,
                    records: 9,
                    last_record: record.map(|(start, _)| Lsn(start.into())),
                    last_end: record.map(|(_, end)| Lsn(end.into())),
                    xacts: xacts.map(|(count, max, last)| Xacts {
                        count,
                        max_time: at(max),
                        last_time: at(last),
                    }),
                    latest_time: latest.map(at),
                    backup_ends: backup_ends.into_iter().map(Lsn).collect(),
                    parameter_floor: floor,
                    ends_early,
                },
                carry: None,
                forget_carry_of: None,
            };
            let bytes = summary(&learned);
            prop_assert_eq!(read_summary(learned.place, &bytes), Some(learned.clone()));
            // What is cut short, or of another version, is learned anew: never a panic.
            let _ = read_summary(learned.place, &bytes[..cut.min(bytes.len())]);
            let mut newer = bytes;
            newer[0] += 1;
            prop_assert_eq!(read_summary(learned.place, &newer), None);
        }
    }
}
