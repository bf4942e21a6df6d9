//! Ids of transactions as binary logs hold them, and gathering them into sets.

use crate::{
    binlog::{event::Header, fault::Damage, tagged::Bytes},
    domain::{
        binlog::{Flavour, Gtid, GtidSet},
        hex,
    },
};
use chrono::{DateTime, Utc};
use std::{collections::BTreeMap, mem};

/// MySQL's `tag_max_length`.
const TAG_BYTES_MAX: usize = 32;

/// The id of one transaction, before it is made a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Anonymous,
    MySql { uuid: [u8; 16], tag: Box<str>, number: u64 },
    MariaDb { domain: u32, server: u32, number: u64 },
}

impl Id {
    pub(super) fn gtid(&self) -> Option<Gtid> {
        match self {
            Self::Anonymous => None,
            Self::MySql { uuid, tag, number } => {
                Some(Gtid::MySql { source: source(uuid, tag), number: *number })
            }
            Self::MariaDb { domain, server, number } => {
                Some(Gtid::MariaDb { domain: *domain, server: *server, number: *number })
            }
        }
    }
}

/// Reads the body of MySQL's GTID event: the id, and the commit time of this server, where it says.
pub(super) fn mysql(body: &[u8]) -> Result<(Id, Option<DateTime<Utc>>), Damage> {
    let broken = Damage::Content("a transaction id does not fit into its event");
    let mut rest = Bytes(body);
    let mut fixed = || Some((rest.take(1)?, array(rest.take(16)?)?, u64_of(rest.take(8)?)?));
    let Some((_, uuid, number)) = fixed() else { return Err(broken) };
    // The logical clock, since 5.7, and then this server's time since 8.0.1. The highest of its 56
    // bits says only that the source's time, which is another one, follows.
    let time = match body.get(25) {
        Some(2) => body.get(42..49).map(|time| {
            let mut wide = [0; 8];
            wide[..7].copy_from_slice(time);
            u64::from_le_bytes(wide) & !(1 << 55)
        }),
        Some(_) | None => None,
    };
    let time = time.map(commit_time).transpose()?;
    Ok((Id::MySql { uuid, tag: "".into(), number }, time))
}

/// Microseconds since 1970.
pub(super) fn commit_time(microseconds: u64) -> Result<DateTime<Utc>, Damage> {
    let time = i64::try_from(microseconds).ok().and_then(DateTime::from_timestamp_micros);
    time.ok_or(Damage::Content("the commit time of a transaction makes no sense"))
}

/// `FL_STANDALONE` of MariaDB: the group has one statement and no end of its own.
const STANDALONE: u8 = 1;

/// Reads the body of MariaDB's GTID event: the id, and whether its group is a single statement.
pub(super) fn mariadb(header: &Header, body: &[u8]) -> Result<(Id, bool), Damage> {
    let mut rest = Bytes(body);
    let mut fixed =
        || Some((u64_of(rest.take(8)?)?, u32_of(rest.take(4)?)?, rest.take(1)?.first()?));
    let Some((number, domain, flags)) = fixed() else {
        return Err(Damage::Content("a transaction id does not fit into its event"));
    };
    Ok((Id::MariaDb { domain, server: header.server_id, number }, flags & STANDALONE != 0))
}

/// Reads the body of MySQL's event with the transactions before this file.
///
/// Source: `Gtid_set::add_gtid_encoding` in `rpl_gtid_set.cc`.
pub(super) fn previous(body: &[u8]) -> Result<GtidSet, Damage> {
    let read = || {
        let mut rest = Bytes(body);
        let head = u64_of(rest.take(8)?)?;
        // The highest byte is the format; with tags the lowest one repeats it.
        let (count, tagged) = match head >> 56 {
            0 => (head, false),
            1 if head & 0xFF == 1 => (head << 8 >> 16, true),
            _ => return None,
        };
        let mut sources = BTreeMap::<String, Vec<(u64, u64)>>::new();
        for _ in 0..count {
            let uuid = array(rest.take(16)?)?;
            let tag = if tagged {
                let length = usize::try_from(rest.unsigned()?).ok()?;
                tag(rest.take(length)?)?
            } else {
                "".into()
            };
            let stretches = sources.entry(source(&uuid, &tag)).or_default();
            for _ in 0..u64_of(rest.take(8)?)? {
                let (first, end) = (u64_of(rest.take(8)?)?, u64_of(rest.take(8)?)?);
                // The end is not included.
                (first > 0 && first < end).then(|| stretches.push((first, end - 1)))?;
            }
        }
        rest.0.is_empty().then_some(sources)
    };
    let mut sources =
        read().ok_or(Damage::Content("the list of earlier transactions is broken"))?;
    sources.values_mut().for_each(coalesce);
    Ok(GtidSet::MySql(sources))
}

/// Reads the body of MariaDB's event with the last transactions before this file.
pub(super) fn list(body: &[u8]) -> Result<GtidSet, Damage> {
    let read = || {
        let mut rest = Bytes(body);
        // The four highest bits are flags.
        let count = u32_of(rest.take(4)?)? & 0x0FFF_FFFF;
        let mut domains = BTreeMap::new();
        for _ in 0..count {
            let (domain, server) = (u32_of(rest.take(4)?)?, u32_of(rest.take(4)?)?);
            // There is one for each server that has written to a domain. The last one counts: it is
            // the newest.
            domains.insert(domain, (server, u64_of(rest.take(8)?)?));
        }
        Some(GtidSet::MariaDb(domains))
    };
    read().ok_or(Damage::Content("the list of earlier transactions is broken"))
}

/// A tag as MySQL allows it.
pub(super) fn tag(bytes: &[u8]) -> Option<Box<str>> {
    let plain = |byte: &u8| *byte == b'_' || byte.is_ascii_alphanumeric();
    let sound = bytes.len() <= TAG_BYTES_MAX
        && bytes.iter().all(plain)
        && !bytes.first().is_some_and(u8::is_ascii_digit);
    sound.then(|| String::from_utf8_lossy(bytes).to_ascii_lowercase().into())
}

/// UUID, with `:tag` where there is one.
fn source(uuid: &[u8; 16], tag: &str) -> String {
    let digits = hex::lower(uuid);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    let uuid = parts.join("-");
    if tag.is_empty() { uuid } else { format!("{uuid}:{tag}") }
}

/// Gathers the ids of groups in log order. Numbers that follow each other cost next to nothing.
#[derive(Debug)]
pub(super) struct Gathered {
    mysql: BTreeMap<String, Vec<(u64, u64)>>,
    mariadb: BTreeMap<u32, (u32, u64)>,
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    uuid: [u8; 16],
    tag: Box<str>,
    first: u64,
    last: u64,
}

impl Gathered {
    pub(super) fn new() -> Self {
        Self { mysql: BTreeMap::new(), mariadb: BTreeMap::new(), run: None }
    }

    pub(super) fn add(&mut self, id: &Id) {
        match id {
            Id::Anonymous => {}
            Id::MySql { uuid, tag, number } => {
                if let Some(run) = &mut self.run
                    && run.last.checked_add(1) == Some(*number)
                    && run.uuid == *uuid
                    && run.tag == *tag
                {
                    run.last = *number;
                    return;
                }
                self.close_run();
                let (uuid, tag, first, last) = (*uuid, tag.clone(), *number, *number);
                self.run = Some(Run { uuid, tag, first, last });
            }
            Id::MariaDb { domain, server, number } => {
                self.mariadb.insert(*domain, (*server, *number));
            }
        }
    }

    fn close_run(&mut self) {
        if let Some(run) = self.run.take() {
            let stretches = self.mysql.entry(source(&run.uuid, &run.tag)).or_default();
            stretches.push((run.first, run.last));
        }
    }

    /// All of them, and those of `before`.
    pub(super) fn finish(mut self, flavour: Flavour, before: Option<&GtidSet>) -> GtidSet {
        self.close_run();
        match flavour {
            Flavour::MySql => {
                if let Some(GtidSet::MySql(earlier)) = before {
                    for (source, stretches) in earlier {
                        self.mysql.entry(source.clone()).or_default().extend(stretches);
                    }
                }
                self.mysql.values_mut().for_each(coalesce);
                GtidSet::MySql(self.mysql)
            }
            Flavour::MariaDb => {
                let mut domains = match before {
                    Some(GtidSet::MariaDb(earlier)) => earlier.clone(),
                    Some(GtidSet::MySql(_)) | None => BTreeMap::new(),
                };
                domains.extend(mem::take(&mut self.mariadb));
                GtidSet::MariaDb(domains)
            }
        }
    }
}

/// Puts stretches in order and joins those that touch.
fn coalesce(stretches: &mut Vec<(u64, u64)>) {
    stretches.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(stretches.len());
    for (first, last) in stretches.drain(..) {
        match joined.last_mut() {
            Some(end) if first <= end.1.saturating_add(1) => end.1 = end.1.max(last),
            Some(_) | None => joined.push((first, last)),
        }
    }
    *stretches = joined;
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn u32_of(bytes: &[u8]) -> Option<u32> {
    array(bytes).map(u32::from_le_bytes)
}

fn u64_of(bytes: &[u8]) -> Option<u64> {
    array(bytes).map(u64::from_le_bytes)
}
