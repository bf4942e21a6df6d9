//! `series.json`: what there is to know of a series of binary logs, and which one it follows.

use crate::{
    domain::binlog::{Flavour, GtidSet},
    layout::stream::keys,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The version that is written.
const VERSION: u32 = 1;

/// What is said of a series cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// It is not JSON, or lacks something.
    #[error("reading series.json failed")]
    Json(#[source] serde_json::Error),
    /// It was written by a newer program.
    #[error("series.json has version {0}; this program reads version {VERSION}: use a newer one")]
    Version(u32),
    /// A value makes no sense.
    #[error("series.json says `{field}` = `{value}`, which cannot be")]
    Value {
        /// Its name.
        field: &'static str,
        /// The value.
        value: String,
    },
}

/// One unbroken numbering of the binary logs of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    version: u32,
    /// Its name: the server, and when its first file was begun.
    pub series: String,
    /// Whose server it is.
    pub flavour: Flavour,
    /// The server's UUID, or its id where it has none.
    pub server: String,
    /// When the server began the first file.
    pub began_at: DateTime<Utc>,
    /// The server's name of the first file.
    pub first_file: String,
    /// Transactions before the first file, as the server prints them; `None` when the log has no ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gtids_before: Option<String>,
    /// What it follows; `None` when nobody can say that nothing is missing before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
}

/// Which binary log a series goes on after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    /// The series of that binary log.
    pub series: String,
    /// Its place there: the last one that is replayed before this series.
    pub sequence: u64,
    /// What was compared.
    pub how: Joint,
}

/// How it is known that a series follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joint {
    /// The transactions before the first file are exactly those up to the end of the other.
    SameTransactions,
    /// All transactions before the first file are in the other, which has some of the first file,
    /// too. MySQL does not execute them again.
    OverlappingTransactions,
}

impl Series {
    /// A series that begins now.
    #[must_use]
    pub fn new(
        series: String,
        (flavour, server): (Flavour, String),
        (first_file, began_at): (String, DateTime<Utc>),
        gtids_before: Option<&GtidSet>,
        follows: Option<Follows>,
    ) -> Self {
        let gtids_before = gtids_before.map(ToString::to_string);
        let version = VERSION;
        Self { version, series, flavour, server, began_at, first_file, gtids_before, follows }
    }

    /// Reads what is said of the series `name`.
    ///
    /// # Errors
    /// [`SeriesError`].
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, SeriesError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        // The version first: another one may have other fields.
        let Versioned { version } = serde_json::from_slice(bytes).map_err(SeriesError::Json)?;
        if version != VERSION {
            return Err(SeriesError::Version(version));
        }
        let read: Self = serde_json::from_slice(bytes).map_err(SeriesError::Json)?;
        let fault = |field, value: &str| SeriesError::Value { field, value: value.to_owned() };
        if read.series != name || !keys::is_series(name) {
            return Err(fault("series", &read.series));
        }
        if !keys::is_binlog_name(&read.first_file) {
            return Err(fault("first_file", &read.first_file));
        }
        if let Some(text) = &read.gtids_before {
            GtidSet::parse(read.flavour, text).map_err(|_| fault("gtids_before", text))?;
        }
        match &read.follows {
            Some(follows) if !keys::is_series(&follows.series) || follows.series == name => {
                Err(fault("follows.series", &follows.series))
            }
            Some(_) | None => Ok(read),
        }
    }

    /// It as it is stored.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a series has string keys only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let server = (Flavour::MariaDb, "17".to_owned());
        let began_at = keys::label_time("20261126-043000").unwrap();
        let before = GtidSet::parse(Flavour::MariaDb, "0-16-15").unwrap();
        let follows = Follows {
            series: "16-20261126T041500".to_owned(),
            sequence: 12,
            how: Joint::SameTransactions,
        };
        let first = ("bin.000001".to_owned(), began_at);
        let series = Series::new(
            "17-20261126T043000".to_owned(),
            server,
            first,
            Some(&before),
            Some(follows),
        );
        let text = String::from_utf8(series.to_json()).unwrap();
        insta::assert_snapshot!(text);
        assert_eq!(Series::read(&series.series, text.as_bytes()).unwrap(), series);
        for (from, to, expect) in [
            ("\"version\": 1", "\"version\": 9", "version 9"),
            ("bin.000001", "../x", "`first_file` = `../x`"),
            ("16-20261126T041500", "17-20261126T043000", "`follows.series`"),
            ("0-16-15", "15", "`gtids_before` = `15`"),
        ] {
            let changed = text.replace(from, to);
            let error = Series::read(&series.series, changed.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expect), "{from}: {error}");
        }
        assert!(Series::read("17-20261126T043001", text.as_bytes()).is_err());
    }
}
