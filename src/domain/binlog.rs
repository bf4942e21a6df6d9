//! Positions and transaction ids of binary logs, of MySQL and of MariaDB.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Whose server wrote a binary log. The two have drifted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// Oracle's MySQL, and Percona's.
    MySql,
    /// MariaDB.
    MariaDb,
}

impl Flavour {
    /// The product's name, for people.
    #[must_use]
    pub fn product(self) -> &'static str {
        match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        }
    }
}

/// A place in a binary log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinlogPosition {
    /// The server's name of the file, such as `bin.000003`.
    pub file: String,
    /// Bytes from its beginning, where an event begins or the file ends.
    pub offset: u64,
}

impl fmt::Display for BinlogPosition {
    /// `bin.000003:197`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

/// The id of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Gtid {
    /// `3e11fa47-71ca-11e1-9e33-c80aa9429562:23`, with a tag between the two since MySQL 8.3.
    MySql {
        /// UUID of the server where it was committed, with `:tag` where there is one.
        source: String,
        /// Its number there, from 1.
        number: u64,
    },
    /// `0-11-16`.
    MariaDb {
        /// Replication domain.
        domain: u32,
        /// Id of the server where it was committed.
        server: u32,
        /// Its number in the domain.
        number: u64,
    },
}

/// A text that is no set of transaction ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no set of global transaction ids")]
pub struct NotGtids(pub String);

/// The transactions that a server has executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Printed", into = "Printed")]
pub enum GtidSet {
    /// Per source (UUID, with `:tag` where there is one) the first and the last number, both
    /// included, of each gapless stretch, in order.
    MySql(BTreeMap<String, Vec<(u64, u64)>>),
    /// Per replication domain the server and the number of its last transaction.
    MariaDb(BTreeMap<u32, (u32, u64)>),
}

/// A set as it is stored: as the server prints it.
#[derive(Serialize, Deserialize)]
struct Printed {
    flavour: Flavour,
    gtids: String,
}

impl From<GtidSet> for Printed {
    fn from(set: GtidSet) -> Self {
        Self { flavour: set.flavour(), gtids: set.to_string() }
    }
}

impl TryFrom<Printed> for GtidSet {
    type Error = NotGtids;

    fn try_from(printed: Printed) -> Result<Self, NotGtids> {
        Self::parse(printed.flavour, &printed.gtids)
    }
}

impl GtidSet {
    /// Whose server it is of.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        match self {
            Self::MySql(_) => Flavour::MySql,
            Self::MariaDb(_) => Flavour::MariaDb,
        }
    }

    /// None yet.
    #[must_use]
    pub fn new(flavour: Flavour) -> Self {
        match flavour {
            Flavour::MySql => Self::MySql(BTreeMap::new()),
            Flavour::MariaDb => Self::MariaDb(BTreeMap::new()),
        }
    }

    /// Reads what the server prints: `gtid_executed` of MySQL, a position such as
    /// `0-11-16,1-12-5` of MariaDB. White space and line ends are ignored.
    ///
    /// # Errors
    /// [`NotGtids`].
    pub fn parse(flavour: Flavour, text: &str) -> Result<Self, NotGtids> {
        let fault = || NotGtids(text.to_owned());
        let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let mut set = Self::new(flavour);
        for part in plain.split(',').filter(|part| !part.is_empty()) {
            match &mut set {
                Self::MySql(sources) => read_source(part, sources).ok_or_else(fault)?,
                Self::MariaDb(domains) => {
                    let numbers: Vec<&str> = part.split('-').collect();
                    let [domain, server, number] = numbers[..] else { return Err(fault()) };
                    let small = |text: &str| text.parse::<u32>().map_err(|_| fault());
                    let number = number.parse::<u64>().map_err(|_| fault())?;
                    domains.insert(small(domain)?, (small(server)?, number));
                }
            }
        }
        Ok(set)
    }

    /// Adds a transaction. One of the other flavour is ignored.
    pub fn add(&mut self, gtid: &Gtid) {
        match (self, gtid) {
            (Self::MySql(sources), Gtid::MySql { source, number }) => {
                join(sources.entry(source.clone()).or_default(), (*number, *number));
            }
            (Self::MariaDb(domains), Gtid::MariaDb { domain, server, number }) => {
                domains.insert(*domain, (*server, *number));
            }
            (Self::MySql(_) | Self::MariaDb(_), _) => {}
        }
    }

    /// Adds all of `other`, which follows: where both name a domain of MariaDB, `other` is right.
    pub fn extend(&mut self, other: &Self) {
        match (self, other) {
            (Self::MySql(sources), Self::MySql(more)) => {
                for (source, stretches) in more {
                    let known = sources.entry(source.clone()).or_default();
                    stretches.iter().for_each(|stretch| join(known, *stretch));
                }
            }
            (Self::MariaDb(domains), Self::MariaDb(more)) => domains.extend(more),
            (Self::MySql(_) | Self::MariaDb(_), _) => {}
        }
    }

    /// Whether every transaction of `other` is here.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(sources), Self::MySql(others)) => others.iter().all(|(source, wanted)| {
                let known = sources.get(source).map(Vec::as_slice).unwrap_or_default();
                wanted
                    .iter()
                    .all(|(first, last)| known.iter().any(|(from, to)| from <= first && last <= to))
            }),
            (Self::MariaDb(domains), Self::MariaDb(others)) => {
                others.iter().all(|(domain, (_, wanted))| {
                    domains.get(domain).is_some_and(|(_, last)| last >= wanted)
                })
            }
            (Self::MySql(_) | Self::MariaDb(_), _) => false,
        }
    }

    /// Whether there is no transaction in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::MySql(sources) => sources.values().all(Vec::is_empty),
            Self::MariaDb(domains) => domains.is_empty(),
        }
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = match self {
            Self::MySql(sources) => {
                let stretch = |(first, last): &(u64, u64)| match first == last {
                    true => format!(":{first}"),
                    false => format!(":{first}-{last}"),
                };
                let source = |(source, stretches): (&String, &Vec<(u64, u64)>)| {
                    let stretches: String = stretches.iter().map(stretch).collect();
                    format!("{source}{stretches}")
                };
                sources.iter().filter(|(_, stretches)| !stretches.is_empty()).map(source).collect()
            }
            Self::MariaDb(domains) => {
                let domain = |(domain, (server, number)): (&u32, &(u32, u64))| {
                    format!("{domain}-{server}-{number}")
                };
                domains.iter().map(domain).collect()
            }
        };
        f.write_str(&parts.join(","))
    }
}

/// `UUID:1-5:7`, or `UUID:tag:1-5:other:1`, into `sources`.
fn read_source(part: &str, sources: &mut BTreeMap<String, Vec<(u64, u64)>>) -> Option<()> {
    let mut pieces = part.split(':');
    let uuid = pieces.next()?.to_ascii_lowercase();
    let is_uuid = uuid.len() == 36 && uuid.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    let mut source = is_uuid.then(|| uuid.clone())?;
    for piece in pieces {
        if !piece.starts_with(|c: char| c.is_ascii_digit()) {
            let plain =
                !piece.is_empty() && piece.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
            source = plain.then(|| format!("{uuid}:{}", piece.to_ascii_lowercase()))?;
            continue;
        }
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        if first == 0 || last < first {
            return None;
        }
        join(sources.entry(source.clone()).or_default(), (first, last));
    }
    Some(())
}

/// Adds a stretch to others that are in order and do not touch.
fn join(stretches: &mut Vec<(u64, u64)>, (mut first, mut last): (u64, u64)) {
    // Nearly always the next number of the last stretch.
    if let Some(end) = stretches.last_mut()
        && end.1.checked_add(1) == Some(first)
    {
        end.1 = last;
        return;
    }
    stretches.retain(|(from, to)| {
        let touches = *from <= last.saturating_add(1) && first <= to.saturating_add(1);
        if touches {
            (first, last) = (first.min(*from), last.max(*to));
        }
        !touches
    });
    let at = stretches.partition_point(|(from, _)| *from < first);
    stretches.insert(at, (first, last));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn mysql(text: &str) -> GtidSet {
        GtidSet::parse(Flavour::MySql, &text.replace("ONE", ONE)).unwrap()
    }

    #[test]
    fn stretches_are_joined_and_printed_as_the_server_does() {
        let set = mysql("ONE:1-3:5,\nONE:4:9-12:tag_a:7");
        assert_eq!(set.to_string(), format!("{ONE}:1-5:9-12,{ONE}:tag_a:7"));
        let mut more = mysql("ONE:1-4");
        for number in [9, 6, 5, 7, 8] {
            more.add(&Gtid::MySql { source: ONE.to_owned(), number });
        }
        assert_eq!(more, mysql("ONE:1-9"));
        assert!(more.contains(&mysql("ONE:2-3:9")) && !more.contains(&mysql("ONE:9-10")));
        assert!(mysql("").is_empty() && more.contains(&mysql("")));
        more.extend(&mysql("ONE:20"));
        assert_eq!(more, mysql("ONE:1-9:20"));
    }

    #[test]
    fn domains_of_mariadb_keep_their_last_transaction() {
        let mut set = GtidSet::parse(Flavour::MariaDb, "0-11-16,1-12-5").unwrap();
        set.add(&Gtid::MariaDb { domain: 0, server: 12, number: 17 });
        assert_eq!(set.to_string(), "0-12-17,1-12-5");
        assert!(set.contains(&GtidSet::parse(Flavour::MariaDb, "0-11-16").unwrap()));
        assert!(!set.contains(&GtidSet::parse(Flavour::MariaDb, "2-1-1").unwrap()));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for bad in ["x", "3e11:1", &format!("{ONE}:0"), &format!("{ONE}:5-4"), &format!("{ONE}:-")]
        {
            assert!(GtidSet::parse(Flavour::MySql, bad).is_err(), "{bad}");
        }
        for bad in ["1", "1-2", "1-2-x", "1-2-3-4"] {
            assert!(GtidSet::parse(Flavour::MariaDb, bad).is_err(), "{bad}");
        }
    }
}
