//! What servers and backup tools say, read.

use crate::{
    domain::binlog::{BinlogPosition, Flavour, GtidSet},
    push::error::PushError,
};
use chrono::{DateTime, NaiveDateTime, SubsecRound, TimeDelta, Utc};

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerFacts {
    /// Whose it is.
    pub(super) flavour: Flavour,
    /// `SELECT VERSION()`.
    pub(super) version: String,
    /// Its id.
    pub(super) server_id: u32,
    /// Its UUID. MariaDB has none.
    pub(super) server_uuid: Option<String>,
    /// Path and first part of the name of its binary logs; `None` when it writes none.
    pub(super) binlog_base: Option<String>,
    /// Whether it is read-only.
    pub(super) read_only: bool,
    /// What its clock says.
    pub(super) now: DateTime<Utc>,
}

impl ServerFacts {
    /// What names the server in the names of series.
    pub(super) fn name(&self) -> String {
        self.server_uuid.clone().unwrap_or_else(|| self.server_id.to_string())
    }
}

/// Where a backup stands in the log, as its tool says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Coordinates {
    /// The place.
    pub(super) position: BinlogPosition,
    /// The transactions up to there; `None` when the log has no ids.
    pub(super) executed: Option<GtidSet>,
}

/// Whose server has this version.
pub(super) fn flavour(version: &str) -> Flavour {
    if version.contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql }
}

/// Whether this MySQL says `SHOW BINARY LOG STATUS`, as since 8.2. MariaDB never does.
pub(super) fn has_binary_log_status(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
    let mut next = || numbers.next().flatten().unwrap_or(0_u32);
    flavour(version) == Flavour::MySql && (next(), next()) >= (8, 2)
}

/// Reads `VERSION()`, id, whether it has a log, the log's base name, whether it is read-only, UTC, and
/// the UUID where there is one, in one row.
pub(super) fn facts(row: &str) -> Result<ServerFacts, PushError> {
    let fault = || PushError::said("the server", "itself", row);
    let fields: Vec<&str> = row.trim_end_matches('\n').split('\t').collect();
    let [version, id, has_log, base, read_only, now, rest @ ..] = fields.as_slice() else {
        return Err(fault());
    };
    let flavour = flavour(version);
    let server_uuid = match (flavour, rest) {
        (Flavour::MariaDb, []) => None,
        (Flavour::MySql, [uuid]) if uuid.len() == 36 => Some(uuid.to_ascii_lowercase()),
        _ => return Err(fault()),
    };
    Ok(ServerFacts {
        flavour,
        version: (*version).to_owned(),
        server_id: id.parse().map_err(|_| fault())?,
        server_uuid,
        binlog_base: (*has_log == "1" && !base.is_empty()).then(|| (*base).to_owned()),
        // Newer versions of MariaDB have more kinds of it than ON.
        read_only: !matches!(*read_only, "0" | "OFF"),
        now: time(now).ok_or_else(fault)?,
    })
}

/// `2026-11-26 04:50:45.502284` in UTC.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    let format = "%Y-%m-%d %H:%M:%S%.f";
    NaiveDateTime::parse_from_str(text.trim(), format).ok().map(|time| time.and_utc())
}

/// The next full second: binary logs of MariaDB know no fractions.
pub(super) fn rounded_up(time: DateTime<Utc>) -> DateTime<Utc> {
    let whole = time.trunc_subsecs(0);
    if whole == time { whole } else { whole + TimeDelta::seconds(1) }
}

/// Reads the row of `SHOW BINARY LOG STATUS`.
pub(super) fn status(row: &str) -> Result<BinlogPosition, PushError> {
    let fault = || PushError::said("the server", "its binary log", row);
    let mut fields = row.lines().next().unwrap_or_default().split('\t');
    let file = fields.next().filter(|file| !file.is_empty()).ok_or_else(fault)?.to_owned();
    let offset = fields.next().and_then(|offset| offset.parse().ok()).ok_or_else(fault)?;
    Ok(BinlogPosition { file, offset })
}

/// The names in the rows of `SHOW BINARY LOGS`, the oldest first. The last one is being written.
pub(super) fn logs(rows: &str) -> Vec<String> {
    let name = |row: &str| row.split('\t').next().map(str::to_owned);
    rows.lines().filter_map(name).filter(|name| !name.is_empty()).collect()
}

/// Reads `binlog_pos = filename 'bin.000002', position '534', GTID of the last change '0-16-4'` in
/// the file `xtrabackup_info`, in which ids may go on over several lines.
pub(super) fn coordinates(flavour: Flavour, info: &str) -> Result<Coordinates, PushError> {
    let line = info.split_once("binlog_pos = ").map(|(_, rest)| rest).unwrap_or_default();
    let fault = || PushError::said("the backup tool", "its position in the binary log", line);
    let quoted = |before: &str| {
        let (_, rest) = line.split_once(before)?;
        rest.split_once('\'').map(|(value, _)| value)
    };
    let file = quoted("filename '").ok_or_else(fault)?.to_owned();
    let offset = quoted("position '").and_then(|text| text.parse().ok()).ok_or_else(fault)?;
    let executed = quoted("GTID of the last change '").filter(|text| !text.is_empty());
    let executed = executed.map(|text| GtidSet::parse(flavour, text)).transpose();
    Ok(Coordinates {
        position: BinlogPosition { file, offset },
        executed: executed.map_err(|_| fault())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say() {
        let mariadb = facts(
            "10.11.19-MariaDB-log\t16\t1\t/var/lib/mysql/bin\t0\t2026-11-26 04:50:45.502284\n",
        )
        .unwrap();
        assert_eq!((mariadb.flavour, mariadb.name().as_str()), (Flavour::MariaDb, "16"));
        assert_eq!(rounded_up(mariadb.now).to_rfc3339(), "2026-11-26T04:50:46+00:00");
        assert_eq!(rounded_up(rounded_up(mariadb.now)), rounded_up(mariadb.now));
        let uuid = "f1b14cd0-e954-11f1-be29-02fc00000001";
        let row = format!("9.7.4-2\t17\t0\t\t1\t2026-11-26 04:50:45\t{uuid}");
        let mysql = facts(&row).unwrap();
        assert_eq!((mysql.name().as_str(), mysql.read_only), (uuid, true));
        assert_eq!(mysql.binlog_base, None);
        assert!(facts("9.7.4\t17").is_err() && facts(&row.replace("17", "x")).is_err());
        let words = ["10.11.19-MariaDB", "5.7.44-log", "8.0.36", "8.2.0", "8.4.2", "9.7.4-2"];
        let known: Vec<bool> = words.map(has_binary_log_status).to_vec();
        assert_eq!(known, [false, false, false, true, true, true]);
    }

    #[test]
    fn what_they_say_of_their_log() {
        let position = BinlogPosition { file: "bin.000002".into(), offset: 534 };
        assert_eq!(status("bin.000002\t534\t\t\t\n").unwrap(), position);
        assert!(status("").is_err() && status("bin.000002\tx").is_err());
        assert_eq!(
            logs("bin.000001\t814\tNo\nbin.000002\t534\tNo\n"),
            ["bin.000001", "bin.000002"]
        );
    }

    #[test]
    fn what_tools_say_of_their_position() {
        let info = "lock_time = 0\nbinlog_pos = filename 'bin.000002', position '534', GTID of the \
                    last change '0-16-4,1-16-2'\ninnodb_from_lsn = 0\n";
        let found = coordinates(Flavour::MariaDb, info).unwrap();
        assert_eq!(found.position, BinlogPosition { file: "bin.000002".into(), offset: 534 });
        assert_eq!(found.executed.unwrap().to_string(), "0-16-4,1-16-2");
        let (one, other) =
            ("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", "4e11fa47-71ca-11e1-9e33-c80aa9429562:1");
        let info = format!(
            "binlog_pos = filename 'b.1', position '4', GTID of the last change '{one},\n{other}'\n"
        );
        let executed = coordinates(Flavour::MySql, &info).unwrap().executed.unwrap();
        assert_eq!(executed.to_string(), format!("{one},{other}"));
        let without = "binlog_pos = filename 'b.1', position '4'\n";
        assert_eq!(coordinates(Flavour::MySql, without).unwrap().executed, None);
        assert!(coordinates(Flavour::MySql, "binlog_pos = \n").is_err());
    }
}
