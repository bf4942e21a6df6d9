//! What can be wrong with a binary log, and what of it was sound.

use crate::binlog::summary::Summary;
use std::io;

/// A binary log cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
#[error("reading a binary log at byte {offset}")]
pub struct Fault {
    /// Where the event begins that is wrong, or where more was expected.
    pub offset: u64,
    /// What is wrong.
    #[source]
    pub damage: Damage,
    /// What the file holds before that, up to its last complete group. `None` when not even its
    /// beginning is sound.
    pub so_far: Option<Box<Summary>>,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It does not begin as binary logs do.
    #[error("it is not a binary log")]
    NotABinlog,
    /// `binlog_encryption` of MySQL, `encrypt_binlog` of MariaDB.
    #[error(
        "the server has encrypted it, so nothing but that server can read it: set \
         binlog_encryption (MySQL) or encrypt_binlog (MariaDB) to OFF and make a new base backup"
    )]
    Encrypted,
    /// It may be sound, but this program cannot read it.
    #[error("it cannot be read: {0}")]
    Unsupported(String),
    /// An event is shorter than its own header and checksum.
    #[error("an event of {0} bytes is impossible")]
    Length(u32),
    /// An event does not lie where it says.
    #[error("an event ends at {is} and says that it ends at {says} (modulo 4 GiB)")]
    Position {
        /// What the event says.
        says: u32,
        /// Where it would end by its length.
        is: u64,
    },
    /// An event has another checksum than it says.
    #[error("an event has a wrong checksum")]
    Checksum,
    /// The file ends in the middle of an event.
    #[error("the file ends in the middle of an event")]
    Truncated,
    /// The file ends in the middle of a transaction.
    #[error("the file ends in the middle of a transaction")]
    Unfinished,
    /// Something stands where it cannot stand.
    #[error("{0}")]
    Order(&'static str),
    /// The contents of an event make no sense.
    #[error("{0}")]
    Content(&'static str),
    /// The asked position is inside of a transaction.
    #[error("no transaction begins there")]
    NotABoundary,
    /// The asked position is behind the end of the file.
    #[error("the file ends before that")]
    Beyond,
    /// The bytes could not be fetched.
    #[error("the bytes could not be read")]
    Read(#[source] io::Error),
}

impl Damage {
    /// Whether only the end of the file is missing: what a server that is still writing has not
    /// written yet, what a crash has cut, what a copy has not got yet.
    #[must_use]
    pub fn only_the_end_is_missing(&self) -> bool {
        match self {
            Self::Truncated | Self::Unfinished => true,
            Self::NotABinlog
            | Self::Encrypted
            | Self::Unsupported(_)
            | Self::Length(_)
            | Self::Position { .. }
            | Self::Checksum
            | Self::Order(_)
            | Self::Content(_)
            | Self::NotABoundary
            | Self::Beyond
            | Self::Read(_) => false,
        }
    }
}
