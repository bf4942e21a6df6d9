//! One event of a binary log: its header, its kind, and the parts of its body that matter.

use crate::{binlog::fault::Damage, domain::binlog::Flavour};
use chrono::{DateTime, Utc};

/// Bytes of an event's header.
pub const HEADER: usize = 19;
/// Bytes of an event's checksum, where there is one.
pub const CHECKSUM: usize = 4;

/// The header of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// When the statement began that caused it, in seconds; of an event that a replica has got, by
    /// its source's clock.
    pub seconds: u32,
    /// Number of its type.
    pub number: u8,
    /// Server where it was first written.
    pub server_id: u32,
    /// Length with header and checksum, in bytes.
    pub length: u32,
    /// End of the event in the file modulo 4 GiB, or 0.
    pub ends_at: u32,
    /// `LOG_EVENT_*_F`.
    pub flags: u16,
}

/// The file is being written: taken off when it is closed (`LOG_EVENT_BINLOG_IN_USE_F`).
pub const IN_USE: u16 = 0x1;
/// Whoever does not know the event may pass over it (`LOG_EVENT_IGNORABLE_F`).
const IGNORABLE: u16 = 0x80;

impl Header {
    /// Reads it.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER]) -> Self {
        let [t0, t1, t2, t3, number, s0, s1, s2, s3, l0, l1, l2, l3, p0, p1, p2, p3, f0, f1] =
            *bytes;
        Self {
            seconds: u32::from_le_bytes([t0, t1, t2, t3]),
            number,
            server_id: u32::from_le_bytes([s0, s1, s2, s3]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            ends_at: u32::from_le_bytes([p0, p1, p2, p3]),
            flags: u16::from_le_bytes([f0, f1]),
        }
    }

    /// Its time.
    #[must_use]
    pub fn time(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(i64::from(self.seconds), 0).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self, flavour: Flavour) -> Kind {
        let mysql = flavour == Flavour::MySql;
        match self.number {
            2 => Kind::Part(Part::Query),
            3 => Kind::Stop,
            4 => Kind::Rotate,
            5 | 13 | 14 | 19 => Kind::Part(Part::Prelude),
            9 | 11 | 17 | 18 => Kind::Part(Part::Statement),
            15 => Kind::FormatDescription,
            16 => Kind::Part(Part::Xid),
            20..=25 | 30..=32 => Kind::Part(Part::Rows),
            26 => Kind::Part(Part::Incident),
            27 | 41 => Kind::PassOver,
            29 | 36 | 37 | 39 => Kind::Part(Part::Inside),
            33 if mysql => Kind::Gtid(GtidEvent::MySql),
            34 if mysql => Kind::Gtid(GtidEvent::Anonymous),
            35 if mysql => Kind::PreviousGtids,
            38 => Kind::Part(Part::XaPrepare),
            40 if mysql => Kind::Part(Part::Payload),
            42 if mysql => Kind::Gtid(GtidEvent::Tagged),
            160 if !mysql => Kind::Part(Part::Prelude),
            161 if !mysql => Kind::PassOver,
            162 if !mysql => Kind::Gtid(GtidEvent::MariaDb),
            163 if !mysql => Kind::GtidList,
            164 if !mysql => Kind::StartEncryption,
            // The same as 2 and 23 to 25 with compressed bodies. No compressed query is as short as
            // COMMIT.
            165 if !mysql => Kind::Part(Part::Statement),
            166..=171 if !mysql => Kind::Part(Part::Rows),
            number if self.flags & IGNORABLE != 0 || number == 28 => Kind::PassOver,
            _ => Kind::Unknown,
        }
    }
}

/// Kinds of events, as far as groups are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Begins every file.
    FormatDescription,
    /// MySQL: transactions before this file.
    PreviousGtids,
    /// MariaDB: the last transactions before this file.
    GtidList,
    /// MariaDB: from here on nothing can be read.
    StartEncryption,
    /// Begins a group.
    Gtid(GtidEvent),
    /// Any other event of a group.
    Part(Part),
    /// The server goes on in another file.
    Rotate,
    /// The server was stopped.
    Stop,
    /// Of no importance here.
    PassOver,
    /// Not known to this program.
    Unknown,
}

/// Events with which groups begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GtidEvent {
    /// MySQL.
    MySql,
    /// MySQL: the group has no id.
    Anonymous,
    /// MySQL since 8.3: the id has a tag.
    Tagged,
    /// MariaDB.
    MariaDb,
}

/// The other events of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A statement, `BEGIN` and `COMMIT` among them.
    Query,
    /// A statement that is none of these two.
    Statement,
    /// What belongs to the statement or to the rows behind it.
    Prelude,
    /// Rows.
    Rows,
    /// Anything else inside of a group.
    Inside,
    /// MySQL: a whole compressed transaction.
    Payload,
    /// Commits.
    Xid,
    /// Prepares a distributed transaction, or commits it in one phase. Ends a group.
    XaPrepare,
    /// The server has lost events: ends a group, or stands alone.
    Incident,
}

/// What the first event of a file says about all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Whose server wrote it.
    pub flavour: Flavour,
    /// Its version.
    pub server_version: String,
    /// Whether events end with a CRC-32.
    pub checksums: bool,
}

/// Number of event types from which on a server is MariaDB: it numbers its own types from 160, while
/// its version may be set to any text.
const MARIADB_TYPES: usize = 160;

impl Format {
    /// Reads the body of a format description event, its checksum included.
    ///
    /// # Errors
    /// [`Damage`] for versions of logs and servers that are not supported.
    pub fn read(body: &[u8]) -> Result<Self, Damage> {
        let broken = Damage::Content("the format description is too short");
        let Some((fixed, rest)) = body.split_at_checked(57) else { return Err(broken) };
        let Some(types) = rest.len().checked_sub(1 + CHECKSUM) else { return Err(broken) };
        let version = u16::from_le_bytes([fixed[0], fixed[1]]);
        if version != 4 || usize::from(fixed[56]) != HEADER {
            return Err(Damage::Unsupported(format!("it has version {version} of the format")));
        }
        let text: Vec<u8> = fixed[2..52].iter().copied().take_while(|byte| *byte != 0).collect();
        let server_version = String::from_utf8_lossy(&text).into_owned();
        let mariadb = types >= MARIADB_TYPES || server_version.contains("MariaDB");
        let flavour = if mariadb { Flavour::MariaDb } else { Flavour::MySql };
        // Older servers write other events, and their description has no byte about checksums.
        let oldest = if mariadb { (10, 0) } else { (5, 6) };
        if numbers(&server_version) < oldest {
            let (product, (major, minor)) = (flavour.product(), oldest);
            return Err(Damage::Unsupported(format!(
                "it was written by {product} {server_version}; {major}.{minor} is the oldest that is supported"
            )));
        }
        let (lengths, tail) = rest.split_at(types);
        // QUERY and ROTATE have numbers 2 and 4.
        if lengths.get(1) != Some(&13) || lengths.get(3) != Some(&8) {
            return Err(Damage::Unsupported("its events have other headers".into()));
        }
        let checksums = match tail[0] {
            0 => false,
            1 => true,
            other => {
                return Err(Damage::Unsupported(format!("it has checksums of kind {other}")));
            }
        };
        Ok(Self { flavour, server_version, checksums })
    }
}

/// The first two numbers of a version.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
    let mut next = || parts.next().flatten().unwrap_or(0);
    (next(), next())
}

/// What a query does to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `BEGIN`, `XA START …`.
    Begin,
    /// `COMMIT`, `ROLLBACK`, `XA ROLLBACK …`; not `ROLLBACK TO …`.
    End,
    /// Anything else.
    Other,
}

impl Verb {
    /// Reads the beginning of a query event's body. `length` is that of the whole body.
    ///
    /// # Errors
    /// [`Damage::Content`].
    pub fn read(body: &[u8], length: u64) -> Result<Self, Damage> {
        let broken = Damage::Content("a query does not fit into its event");
        let Some(fixed) = body.get(..13) else { return Err(broken) };
        let variables = usize::from(u16::from_le_bytes([fixed[11], fixed[12]]));
        let begin = 13 + variables + usize::from(fixed[8]) + 1;
        let Some(bytes) = length.checked_sub(begin as u64) else { return Err(broken) };
        let Some(query) = body.get(begin..) else { return Err(broken) };
        // As `Transaction_boundary_parser` in MySQL and `Query_log_event::is_begin`, `is_commit` and
        // `is_rollback` in MariaDB.
        let starts = |word: &str| {
            query.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()))
        };
        let is = |word: &str| bytes == word.len() as u64 && starts(word);
        Ok(if is("BEGIN") || starts("XA START") {
            Self::Begin
        } else if is("COMMIT")
            || starts("XA ROLLBACK")
            || starts("ROLLBACK") && !starts("ROLLBACK TO ")
        {
            Self::End
        } else {
            Self::Other
        })
    }
}

/// The name of the file that a rotate event's body gives.
///
/// # Errors
/// [`Damage::Content`].
pub fn rotated_to(body: &[u8]) -> Result<String, Damage> {
    let name = body.get(8..).filter(|name| (1..=1024).contains(&name.len()));
    let name = name.and_then(|name| std::str::from_utf8(name).ok());
    name.map(str::to_owned).ok_or(Damage::Content("the name of the next file makes no sense"))
}
