//! The configuration of a fork's server and of its clients, as text.

use crate::{
    domain::binlog::Flavour,
    engine::fork::{ForkSite, mysql::paths::Paths},
};
use std::{collections::BTreeMap, fmt::Write as _, path::Path};

/// What the server is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Replay behind the private socket. Nothing survives a crash of it, nor has to.
    Replay,
    /// Making the administrator, still behind the private socket.
    Private,
    /// Service on the public port.
    Open,
}

/// What the configuration depends on.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub(super) flavour: Flavour,
    pub(super) site: &'a ForkSite,
    /// Number of the server in its own log.
    pub(super) server_id: u32,
    /// Whether the source's log has transaction ids.
    pub(super) has_gtids: bool,
    /// Whether transactions without an id are replayed, too.
    pub(super) has_anonymous: bool,
    /// The operator's settings, by name.
    pub(super) settings: &'a BTreeMap<String, String>,
    /// What the backup says of its files, by name.
    pub(super) adopted: &'a BTreeMap<String, String>,
}

/// Settings of a base backup that its files cannot be opened without. Nothing else is taken from it.
const ADOPTED: &[&str] = &[
    "innodb_checksum_algorithm",
    "innodb_data_file_path",
    "innodb_log_file_size",
    "innodb_log_files_in_group",
    "innodb_page_size",
    "innodb_undo_tablespaces",
];

/// Settings that are ours alone, as they guard the fork.
const GUARDED: &[&str] = &[
    "admin_address",
    "bind_address",
    "datadir",
    "enforce_gtid_consistency",
    "gtid_mode",
    "init_file",
    "log_bin",
    "log_bin_index",
    "log_error",
    "loose_mysqlx",
    "mysqlx",
    "pid_file",
    "port",
    "relay_log",
    "server_id",
    "skip_grant_tables",
    "skip_log_bin",
    "skip_networking",
    "skip_slave_start",
    "skip_replica_start",
    "socket",
    "tmpdir",
    "user",
];

/// The server's configuration. The last of several values counts, so the parts come in the order of
/// their authority: the backup's, the operator's, the guards.
pub(super) fn server(choice: &Choice<'_>, stage: Stage) -> String {
    let mut text = "# Written by btar. No other file is read.\n[mysqld]\n".to_owned();
    let mut set = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} = {}", quoted(value));
    };
    for (name, value) in choice.adopted {
        set(name, value);
    }
    if choice.flavour == Flavour::MySql {
        // A second protocol on a second port that nobody asked for.
        set("loose-mysqlx", "OFF");
    }
    for (name, value) in choice.settings {
        if is_setting(name, value) && !is_guarded(name) {
            set(name, value);
        }
    }
    for (name, value) in guards(choice, stage) {
        set(name, &value);
    }
    text
}

fn guards(choice: &Choice<'_>, stage: Stage) -> Vec<(&'static str, String)> {
    let paths = Paths(choice.site);
    let path = |path: &Path| path.display().to_string();
    let mut set = vec![
        ("datadir", path(&choice.site.data())),
        ("socket", path(&paths.socket())),
        ("pid-file", path(&paths.pid_file())),
        ("tmpdir", path(&paths.tmp())),
        ("log-bin", path(&paths.own_log())),
        ("relay-log", path(&paths.relay_log())),
        ("server-id", choice.server_id.to_string()),
        // A fork replicates from nobody, whatever its base backup remembers.
        ("loose-skip-slave-start", "ON".to_owned()),
        ("loose-skip-replica-start", "ON".to_owned()),
    ];
    if choice.flavour == Flavour::MySql {
        // Where the log has both, the server must take both while it replays.
        let (mode, enforce) = match (choice.has_gtids, choice.has_anonymous, stage) {
            (false, _, _) => ("OFF", "OFF"),
            (true, true, Stage::Replay) => ("OFF_PERMISSIVE", "OFF"),
            (true, _, _) => ("ON", "ON"),
        };
        set.push(("gtid-mode", mode.to_owned()));
        set.push(("enforce-gtid-consistency", enforce.to_owned()));
    }
    match stage {
        Stage::Replay => {
            set.extend(private(&paths));
            set.extend(replaying());
        }
        Stage::Private => set.extend(private(&paths)),
        Stage::Open => set.extend([
            ("bind-address", choice.site.host.clone()),
            ("port", choice.site.port.to_string()),
            ("skip-name-resolve", "ON".to_owned()),
        ]),
    }
    set
}

/// Behind the private socket nothing happens but what we ask for, and nothing is written down of it.
fn private(paths: &Paths<'_>) -> Vec<(&'static str, String)> {
    let set = [
        ("skip-networking", "ON"),
        ("event-scheduler", "OFF"),
        ("general-log", "OFF"),
        ("slow-query-log", "OFF"),
        // A policy of the source's for passwords does not know ours.
        ("loose-strict-password-validation", "OFF"),
        ("loose-validate-password", "OFF"),
    ];
    let mut set: Vec<_> = set.map(|(name, value)| (name, value.to_owned())).into();
    set.push(("init-file", paths.init_file().display().to_string()));
    set
}

/// `read-only` is not among these: MariaDB logs no temporary table then, and its transactions would
/// be missing from the log that the replay is compared with.
fn replaying() -> Vec<(&'static str, String)> {
    let set = [
        // After a crash of the machine the base backup is restored anew.
        ("sync-binlog", "0"),
        ("innodb-flush-log-at-trx-commit", "0"),
        // Statements stay statements, so that those which change no row are logged all the same.
        ("binlog-format", "MIXED"),
        ("max-allowed-packet", "1G"),
        ("local-infile", "ON"),
        // Whoever waits for a lock waits for a transaction that nobody will end.
        ("lock-wait-timeout", "600"),
        // The source's own order of numbers counts.
        ("loose-gtid-strict-mode", "OFF"),
        // What the source once let pass is let pass again.
        ("loose-sql-require-primary-key", "OFF"),
        ("loose-innodb-strict-mode", "OFF"),
        ("wait-timeout", "86400"),
        ("net-read-timeout", "86400"),
        ("net-write-timeout", "86400"),
    ];
    set.map(|(name, value)| (name, value.to_owned())).into()
}

/// The statements that the private server runs before anybody can log in: the account for us alone,
/// which leaves no trace in the log.
pub(super) fn init_file(user: &str, password: &str) -> String {
    format!(
        "SET SESSION sql_log_bin = 0;\n\
         DROP USER IF EXISTS '{user}'@'localhost';\n\
         CREATE USER '{user}'@'localhost' IDENTIFIED BY '{password}';\n\
         GRANT ALL PRIVILEGES ON *.* TO '{user}'@'localhost' WITH GRANT OPTION;\n"
    )
}

/// How our clients log in. A password on a command line could be seen by everybody.
pub(super) fn client(site: &ForkSite, user: &str, password: &str) -> String {
    format!(
        "# Written by btar.\n[client]\nuser = {}\npassword = {}\nsocket = {}\n",
        quoted(user),
        quoted(password),
        quoted(&Paths(site).socket().display().to_string())
    )
}

/// How the administrator logs in from here, once.
pub(super) fn admin(host: &str, port: u16, user: &str, password: &str) -> String {
    let password = password.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "# Written by btar.\n[client]\nhost = {}\nport = {port}\nuser = {}\npassword = {}\n",
        quoted(host),
        quoted(user),
        quoted(&password)
    )
}

/// Names of the operator's settings that are ignored, as they guard the fork or are none.
pub(super) fn ignored_settings(settings: &BTreeMap<String, String>) -> Vec<&str> {
    let ignored = |(name, value): &(&String, &String)| !is_setting(name, value) || is_guarded(name);
    settings.iter().filter(ignored).map(|(name, _)| name.as_str()).collect()
}

/// What of a base backup's own configuration (`backup-my.cnf`) is taken over.
pub(super) fn adopted(text: &str) -> BTreeMap<String, String> {
    let setting = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let (name, value) = (plain_name(name.trim()), value.trim());
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "_:;.".contains(c));
        let taken = ADOPTED.contains(&name.as_str()) && plain && !value.contains("..");
        taken.then(|| (name, value.to_owned()))
    };
    text.lines().filter_map(setting).collect()
}

/// Whether a text can be written into a configuration as it is.
pub(super) fn is_writable(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || c == '"' || c == '\\')
}

fn is_setting(name: &str, value: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    plain && !name.is_empty() && is_writable(value)
}

fn is_guarded(name: &str) -> bool {
    let name = plain_name(name);
    let bare = ["loose_", "skip_", "disable_", "enable_"]
        .iter()
        .fold(name.as_str(), |name, prefix| name.strip_prefix(prefix).unwrap_or(name));
    // A server takes any beginning of a name that is unique.
    let begins = |known: &&str| known.starts_with(bare) && bare.len() >= 4;
    GUARDED.contains(&name.as_str()) || GUARDED.iter().any(begins)
}

fn plain_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> ForkSite {
        ForkSite {
            dir: "/srv/btar/forks/demo's".into(),
            socket_dir: "/run/btar/f1".into(),
            host: "127.0.0.1".to_owned(),
            port: 33061,
        }
    }

    fn text(flavour: Flavour, stage: Stage, settings: &[(&str, &str)]) -> String {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let settings = settings.iter().map(own).collect();
        let adopted = adopted(
            "[mysqld]\ninnodb_page_size=8192\ninnodb_data_file_path=ibdata1:12M:autoextend\n\
             innodb_undo_directory=/etc\nplugin_load=evil.so\ninnodb_log_file_size=../x\n",
        );
        let choice = Choice {
            flavour,
            site: &site(),
            server_id: 77,
            has_gtids: true,
            has_anonymous: false,
            settings: &settings,
            adopted: &adopted,
        };
        server(&choice, stage)
    }

    #[test]
    fn the_whole_text_of_a_replay() {
        insta::assert_snapshot!(text(
            Flavour::MariaDb,
            Stage::Replay,
            &[("innodb_buffer_pool_size", "64M"), ("port", "1"), ("skip-grant-tables", "1")]
        ));
    }

    #[test]
    fn an_open_server_is_public_and_durable() {
        let text = text(Flavour::MySql, Stage::Open, &[]);
        assert!(text.contains("bind-address = \"127.0.0.1\"\nport = \"33061\""), "{text}");
        assert!(text.contains("gtid-mode = \"ON\"") && !text.contains("sync-binlog"), "{text}");
        assert!(!text.contains("skip-networking") && !text.contains("init-file"), "{text}");
    }

    #[test]
    fn what_guards_the_fork_cannot_be_set() {
        let names = |names: &[&str]| {
            names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect()
        };
        for bad in ["datadir", "DataDir", "skip-networking", "loose-port", "log-bin", "init-fi"] {
            assert_eq!(ignored_settings(&names(&[bad])), [bad]);
        }
        assert_eq!(ignored_settings(&names(&["max_connections", "sql_mode"])), [""; 0]);
        let broken = BTreeMap::from([("a".to_owned(), "b\n[client]".to_owned())]);
        assert_eq!(ignored_settings(&broken), ["a"]);
    }
}
