//! Binary logs of real servers for the tests, and what the servers' own tools say about them.

use crate::domain::binlog::{Flavour, GtidSet};
use chrono::{DateTime, Utc};
use serde::Deserialize;

/// A file, as `tests/fixtures/binlog/make.sh` has made it.
pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) bytes: &'static [u8],
    facts: &'static str,
}

/// What `mysqlbinlog` or `mariadb-binlog` says of a file.
#[derive(Deserialize)]
pub(crate) struct Facts {
    pub(crate) before: Option<String>,
    pub(crate) ending: String,
    pub(crate) groups: Vec<FactGroup>,
}

#[derive(Deserialize)]
pub(crate) struct FactGroup {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) gtid: Option<String>,
    /// In microseconds.
    time: i64,
}

impl FactGroup {
    pub(crate) fn committed_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.time).unwrap()
    }
}

impl Fixture {
    pub(crate) fn facts(&self) -> Facts {
        serde_json::from_str(self.facts).unwrap()
    }

    pub(crate) fn flavour(&self) -> Flavour {
        if self.name.starts_with("mysql") { Flavour::MySql } else { Flavour::MariaDb }
    }

    /// Whether its events have checksums.
    pub(crate) fn checksums(&self) -> bool {
        !self.name.starts_with("mysql-plain") && !self.name.starts_with("mariadb-bare")
    }

    /// Whether the server was killed and has not recovered the file.
    pub(crate) fn is_in_use(&self) -> bool {
        ["mysql-gtid/bin.000004", "mariadb-plain/bin.000003"].contains(&self.name)
    }

    /// The name that the server gave it.
    pub(crate) fn file(&self) -> &'static str {
        self.name.split_once('/').unwrap().1
    }
}

impl Facts {
    /// What ran before the file, and the first groups of it.
    pub(crate) fn gtids(&self, flavour: Flavour, groups: usize) -> GtidSet {
        let mut set = GtidSet::parse(flavour, self.before.as_deref().unwrap()).unwrap();
        set.extend(&of(flavour, &self.groups[..groups]));
        set
    }
}

/// The ids of groups.
pub(crate) fn of(flavour: Flavour, groups: &[FactGroup]) -> GtidSet {
    let mut set = GtidSet::new(flavour);
    for gtid in groups.iter().filter_map(|group| group.gtid.as_deref()) {
        set.extend(&GtidSet::parse(flavour, gtid).unwrap());
    }
    set
}

/// A file and the facts beside it.
macro_rules! fixture {
    ($name:literal) => {
        Fixture {
            name: $name,
            bytes: include_bytes!(concat!("../../tests/fixtures/binlog/", $name)),
            facts: include_str!(concat!("../../tests/fixtures/binlog/", $name, ".json")),
        }
    };
}

pub(crate) const ALL: &[Fixture] = &[
    fixture!("mysql-gtid/bin.000001"),
    fixture!("mysql-gtid/bin.000002"),
    fixture!("mysql-gtid/bin.000003"),
    fixture!("mysql-gtid/bin.000004"),
    fixture!("mysql-anonymous/bin.000001"),
    fixture!("mysql-anonymous/bin.000002"),
    fixture!("mysql-anonymous/bin.000003"),
    fixture!("mysql-anonymous/bin.000004"),
    fixture!("mysql-compressed/bin.000001"),
    fixture!("mysql-plain/bin.000001"),
    fixture!("mysql-8.0/bin.000006"),
    fixture!("mysql-8.0/bin.000007"),
    fixture!("mysql-8.0/bin.000008"),
    fixture!("mariadb-plain/bin.000001"),
    fixture!("mariadb-plain/bin.000002"),
    fixture!("mariadb-plain/bin.000003"),
    fixture!("mariadb-compressed/bin.000001"),
    fixture!("mariadb-bare/bin.000001"),
];

/// The one of this name.
pub(crate) fn named(name: &str) -> &'static Fixture {
    ALL.iter().find(|fixture| fixture.name == name).unwrap()
}

pub(crate) const ENCRYPTED: [&[u8]; 2] = [
    include_bytes!("../../tests/fixtures/binlog/mysql-encrypted/bin.000001"),
    include_bytes!("../../tests/fixtures/binlog/mariadb-encrypted/bin.000001"),
];
