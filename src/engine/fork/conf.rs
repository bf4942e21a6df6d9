//! The configuration of a fork's server, as text: what came with the backup, then what must differ.

use crate::engine::fork::ForkOrder;
use std::path::Path;

/// The source's `postgresql.conf` as the fork includes it, in the data directory.
pub(super) const ADOPTED: &str = "postgresql.adopted.conf";
/// The source's `postgresql.auto.conf` as the fork includes it, in the data directory.
pub(super) const ADOPTED_AUTO: &str = "postgresql.adopted.auto.conf";

/// Settings that a hot standby must not have lower than the source had, in the order of
/// [`crate::domain::recovery::RecoveryPlan::parameter_floor`], with `pg_controldata`'s words.
const FLOORS: [(&str, &str); 5] = [
    ("max_connections", "max_connections setting:"),
    ("max_worker_processes", "max_worker_processes setting:"),
    ("max_wal_senders", "max_wal_senders setting:"),
    ("max_prepared_transactions", "max_prepared_xacts setting:"),
    ("max_locks_per_transaction", "max_locks_per_xact setting:"),
];

/// What the server is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Replay behind the private socket, as a standby.
    Recovery,
    /// Service on the public port.
    Open,
}

/// What `pg_controldata` says of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    /// The database cluster.
    pub(super) system_identifier: u64,
    /// See [`FLOORS`].
    floors: [u32; 5],
}

impl Control {
    /// Reads the program's output in English; `None` when it lacks something.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let value = |word: &str| text.lines().find_map(|line| line.strip_prefix(word));
        let mut floors = [0; 5];
        for (floor, (_, word)) in floors.iter_mut().zip(FLOORS) {
            *floor = value(word)?.trim().parse().ok()?;
        }
        let system_identifier = value("Database system identifier:")?.trim().parse().ok()?;
        Some(Self { system_identifier, floors })
    }
}

/// The text of `postgresql.conf`. The last of several values counts, so the parts come in the
/// order of their authority: the source's, what cannot work here, the operator's, the guards.
pub(super) fn postgresql_conf(order: &ForkOrder, control: &Control, stage: Stage) -> String {
    let mut lines = vec![
        "# Written by btar. The source's own settings are in postgresql.source*.conf.".to_owned(),
        format!("include_if_exists '{ADOPTED}'"),
        format!("include_if_exists '{ADOPTED_AUTO}'"),
    ];
    let mut set = |name: &str, value: &str| lines.push(format!("{name} = {}", quoted(value)));
    for (name, value) in adapted(order) {
        set(name, value);
    }
    let floors = floors(order, control);
    for (name, value) in floors {
        set(name, &value.to_string());
    }
    for (name, value) in &order.settings {
        if is_name(name) && !is_guarded(order, name) {
            set(name, value);
        }
    }
    if stage == Stage::Recovery {
        // Hot standby refuses to begin below the floors, whatever the operator wants later.
        for (name, floor) in floors {
            let wanted = order.settings.get(name).and_then(|value| value.parse::<u32>().ok());
            set(name, &wanted.map_or(floor, |wanted| wanted.max(floor)).to_string());
        }
    }
    for (name, value) in guards(order, stage) {
        set(name, &value);
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The text of `pg_hba.conf`.
pub(super) fn pg_hba(stage: Stage) -> &'static str {
    match stage {
        Stage::Recovery => {
            "# Written by btar. Only the owner of the socket's directory gets this far.\n\
             local all all trust\n"
        }
        // `md5` takes SCRAM verifiers as well as older MD5 ones, so that every user of the source
        // keeps its password (`pg_hba.conf` in PostgreSQL's manual, "md5").
        Stage::Open => {
            "# Written by btar. Only the owner of the socket's directory uses the socket.\n\
             local all all trust\n\
             host all all all md5\n"
        }
    }
}

/// The text of `pg_ident.conf`.
pub(super) const PG_IDENT: &str = "# Written by btar. No user is mapped.\n";
/// The text of `postgresql.auto.conf`, which PostgreSQL reads last.
pub(super) const AUTO_CONF: &str = "# ALTER SYSTEM writes here.\n";

/// Names of the operator's settings that are ignored, as they guard the fork or are none.
pub(super) fn ignored_settings(order: &ForkOrder) -> Vec<&str> {
    let names = order.settings.keys().map(String::as_str);
    names.filter(|name| !is_name(name) || is_guarded(order, name)).collect()
}

/// A configuration of the source as the fork includes it.
///
/// Includes of files outside of the data directory are left out: they are not part of the backup,
/// and on this machine another cluster's files may lie there. `exists` tells whether a path in the
/// data directory exists, as PostgreSQL refuses to start without an included directory.
pub(super) fn adopted(text: &str, exists: &dyn Fn(&Path) -> bool) -> String {
    let adopt = |line: &str| {
        let Some((directive, value)) = include(line) else { return line.to_owned() };
        let path = Path::new(&value);
        let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside || (directive == "include_dir" && !exists(path)) {
            return format!("# left out by btar: {line}");
        }
        let directive = if directive == "include" { "include_if_exists" } else { directive };
        format!("{directive} {}", quoted(&value))
    };
    text.lines().map(adopt).collect::<Vec<_>>().join("\n") + "\n"
}

/// An include directive and its value.
fn include(line: &str) -> Option<(&'static str, String)> {
    let line = line.trim_start();
    let length = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(line.len());
    let (name, rest) = line.split_at(length);
    let directive = ["include", "include_if_exists", "include_dir"]
        .into_iter()
        .find(|directive| name.eq_ignore_ascii_case(directive))?;
    let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '=');
    let value = match rest.strip_prefix('\'') {
        Some(rest) => rest.split('\'').next(),
        None => rest.split(|c: char| c.is_whitespace() || c == '#').next(),
    };
    Some((directive, value.unwrap_or("").to_owned()))
}

/// Settings of the source that cannot work here. The operator may set them otherwise.
fn adapted(order: &ForkOrder) -> Vec<(&'static str, &'static str)> {
    let mut set = vec![
        ("ssl", "off"),
        ("bonjour", "off"),
        ("huge_pages", "try"),
        ("log_timezone", "UTC"),
        ("krb_server_keyfile", ""),
    ];
    if order.plan.postgres_major < 15 {
        // Debian's packages have it outside of the data directory.
        set.push(("stats_temp_directory", "pg_stat_tmp"));
    }
    if order.plan.postgres_major >= 18 {
        // The source's kernel and package may offer io_uring, and those of this machine not.
        set.push(("io_method", "worker"));
        // Nor need the file system here do what the source's does, and a replay that copies a database
        // would end with that.
        set.push(("file_copy_method", "copy"));
    }
    set
}

/// Settings that keep the fork apart from its source, and recovery exact.
fn guards(order: &ForkOrder, stage: Stage) -> Vec<(&'static str, String)> {
    let data = order.site.data();
    let path = |name: &str| data.join(name).display().to_string();
    let mut set: Vec<(&str, String)> = vec![
        ("data_directory", data.display().to_string()),
        ("hba_file", path("pg_hba.conf")),
        ("ident_file", path("pg_ident.conf")),
        ("external_pid_file", String::new()),
        ("cluster_name", order.service.service.to_string()),
        ("port", order.site.port.to_string()),
        ("unix_socket_directories", order.site.socket_dir.display().to_string()),
        ("unix_socket_permissions", "0700".to_owned()),
        ("unix_socket_group", String::new()),
        // The reasons of failures are read from this log, in English.
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("log_line_prefix", "%m [%p] ".to_owned()),
        ("log_min_messages", "warning".to_owned()),
        ("lc_messages", "C".to_owned()),
        // A fork never archives: it would write into its source's repository.
        ("archive_mode", "off".to_owned()),
        ("archive_command", String::new()),
        ("archive_cleanup_command", String::new()),
        ("recovery_end_command", String::new()),
        ("primary_conninfo", String::new()),
        ("primary_slot_name", String::new()),
        ("recovery_min_apply_delay", "0".to_owned()),
        // A commit would wait for the source's standbys for ever.
        ("synchronous_standby_names", String::new()),
        ("hot_standby", "on".to_owned()),
        ("hot_standby_feedback", "off".to_owned()),
    ];
    let major = order.plan.postgres_major;
    if major >= 15 {
        set.push(("archive_library", String::new()));
    }
    if major < 16 {
        set.push(("promote_trigger_file", String::new()));
    }
    if major >= 17 {
        set.push(("sync_replication_slots", "off".to_owned()));
        // Who follows the fork's changes would wait for the source's standbys.
        set.push(("synchronized_standby_slots", String::new()));
    }
    // PostgreSQL takes an empty target for "no target at all" and complains about a second one, so
    // the others come before the one that counts (`assign_recovery_target_time`).
    for other in ["", "_name", "_time", "_xid"] {
        set.push((target(other), String::new()));
    }
    match stage {
        Stage::Recovery => set.extend(recovery(order)),
        Stage::Open => set.extend([
            ("listen_addresses", order.site.host.clone()),
            ("restore_command", String::new()),
            ("recovery_target_lsn", String::new()),
        ]),
    }
    set
}

/// What only the standby needs.
fn recovery(order: &ForkOrder) -> Vec<(&'static str, String)> {
    let stop = order.plan.stop;
    let mut set = vec![
        ("listen_addresses", String::new()),
        ("restore_command", restore_command(order)),
        ("wal_retrieve_retry_interval", "1s".to_owned()),
        ("recovery_target_lsn", stop.lsn.to_string()),
        ("recovery_target_inclusive", if stop.inclusive { "on" } else { "off" }.to_owned()),
        ("recovery_target_action", "pause".to_owned()),
        ("recovery_target_timeline", order.plan.timeline.to_string()),
    ];
    if order.plan.postgres_major >= 15 {
        // PostgreSQL then asks for a segment only when it replays it, so that a request behind the
        // plan's last segment proves that the stop was not in the log.
        set.push(("recovery_prefetch", "off".to_owned()));
    }
    set
}

fn target(suffix: &str) -> &'static str {
    match suffix {
        "_name" => "recovery_target_name",
        "_time" => "recovery_target_time",
        "_xid" => "recovery_target_xid",
        _ => "recovery_target",
    }
}

/// The command that hands over one file of the log, for `/bin/sh` with PostgreSQL's `%f` and `%p`.
fn restore_command(order: &ForkOrder) -> String {
    let word = |path: &Path| {
        let text = path.display().to_string().replace('\'', "'\\''").replace('%', "%%");
        format!("'{text}'")
    };
    let (program, plan) = (word(&order.wal_fetch), word(&order.site.fetch_plan()));
    // Whatever else goes wrong, such as a program that is missing or of another version, must not
    // look like the end of the log: PostgreSQL takes every status up to 125 for that.
    format!("{program} wal-fetch {plan} \"%f\" \"%p\" || case $? in 1) exit 1;; *) exit 200;; esac")
}

/// What hot standby needs at least, by name.
fn floors(order: &ForkOrder, control: &Control) -> [(&'static str, u32); 5] {
    let log = order.plan.parameter_floor.unwrap_or([0; 5]);
    std::array::from_fn(|at| (FLOORS[at].0, control.floors[at].max(log[at])))
}

fn is_guarded(order: &ForkOrder, name: &str) -> bool {
    let guards = [guards(order, Stage::Recovery), guards(order, Stage::Open)].concat();
    guards.iter().any(|(guard, _)| name.eq_ignore_ascii_case(guard))
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(plain)
        && !name.to_ascii_lowercase().starts_with("include")
}

/// A value between quotes (`GUC_scanstr` in `guc-file.l`). Line ends cannot be part of one.
fn quoted(value: &str) -> String {
    let plain: String = value.chars().filter(|c| !c.is_control()).collect();
    format!("'{}'", plain.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::ids::{ProjectName, ServiceId, ServiceName},
        engine::fork::{ForkSite, Secret, site::tests::plan},
        layout::{BackupFormat, BackupPlace},
        store::key::Key,
    };

    fn order(settings: &[(&str, &str)]) -> ForkOrder {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        ForkOrder {
            service: ServiceId {
                project: ProjectName::parse("demo").unwrap(),
                service: ServiceName::parse("orders-dr").unwrap(),
            },
            plan: plan(),
            place: BackupPlace {
                format: BackupFormat::PgBackRest { stanza: "orders".to_owned() },
                prefix: Key::parse("demo/orders").unwrap(),
            },
            site_store: None,
            store_root: "/srv/store".into(),
            site: ForkSite {
                dir: "/srv/btar/it's".into(),
                socket_dir: "/run/btar/x".into(),
                host: "127.0.0.1".to_owned(),
                port: 5433,
            },
            admin_user: "avnadmin".to_owned(),
            admin_password: Secret::new("hunter2".to_owned()),
            settings: settings.iter().map(owned).collect(),
            wal_fetch: "/usr/bin/btar".into(),
        }
    }

    const CONTROL: &str = "Database system identifier:           7711271521840637771\n\
        max_connections setting:              100\nmax_worker_processes setting:         8\n\
        max_wal_senders setting:              10\nmax_prepared_xacts setting:           0\n\
        max_locks_per_xact setting:           64\n";

    /// The value that counts, as PostgreSQL sees it: the last.
    fn value<'a>(conf: &'a str, name: &str) -> Option<&'a str> {
        let of = |line: &'a str| line.strip_prefix(name)?.strip_prefix(" = ");
        conf.lines().rev().find_map(of)
    }

    fn conf(order: &ForkOrder, stage: Stage) -> String {
        postgresql_conf(order, &Control::parse(CONTROL).unwrap(), stage)
    }

    #[test]
    fn pg_controldata_is_read() {
        let control = Control::parse(CONTROL).unwrap();
        assert_eq!(control.system_identifier, 7_711_271_521_840_637_771);
        assert_eq!(control.floors, [100, 8, 10, 0, 64]);
        assert_eq!(Control::parse("nothing"), None);
    }

    #[test]
    fn the_whole_text_of_a_recovery() {
        insta::assert_snapshot!(conf(&order(&[("work_mem", "64MB")]), Stage::Recovery));
    }

    #[test]
    fn the_operator_may_set_what_does_not_guard() {
        let order = order(&[
            ("Archive_Command", "cp %p /tmp"),
            ("include_dir", "/etc"),
            ("max_connections", "20"),
            ("max_wal_senders", "50"),
            ("ssl", "on"),
            ("x.y", "it's \\ a\nb"),
        ]);
        assert_eq!(ignored_settings(&order), ["Archive_Command", "include_dir"]);
        let text = conf(&order, Stage::Recovery);
        assert_eq!(value(&text, "max_connections"), Some("'100'"));
        assert_eq!(value(&text, "max_wal_senders"), Some("'50'"));
        assert_eq!(value(&text, "x.y"), Some("'it''s \\\\ ab'"));
        assert_eq!(value(&text, "ssl"), Some("'on'"));
        assert!(!text.contains("cp %p") && !text.contains("'/etc'"), "{text}");
        assert_eq!(value(&conf(&order, Stage::Open), "max_connections"), Some("'20'"));
    }

    #[test]
    fn an_open_fork_listens_and_has_nothing_of_a_recovery_left() {
        let text = conf(&order(&[]), Stage::Open);
        assert_eq!(value(&text, "listen_addresses"), Some("'127.0.0.1'"));
        assert_eq!(value(&text, "restore_command"), Some("''"));
        assert_eq!(value(&text, "archive_mode"), Some("'off'"));
        assert_eq!(value(&text, "recovery_target_lsn"), Some("''"));
    }

    #[test]
    fn settings_of_other_versions_are_left_out() {
        let mut order = order(&[]);
        order.plan.postgres_major = 13;
        let text = conf(&order, Stage::Recovery);
        assert_eq!(value(&text, "archive_library"), None);
        assert_eq!(value(&text, "recovery_prefetch"), None);
        assert_eq!(value(&text, "stats_temp_directory"), Some("'pg_stat_tmp'"));
        order.plan.postgres_major = 17;
        let text = conf(&order, Stage::Recovery);
        assert_eq!(value(&text, "promote_trigger_file"), None);
        assert_eq!(value(&text, "sync_replication_slots"), Some("'off'"));
        assert_eq!(value(&text, "synchronized_standby_slots"), Some("''"));
        assert_eq!(value(&text, "io_method"), None);
        order.plan.postgres_major = 18;
        let text = conf(&order, Stage::Recovery);
        assert_eq!(value(&text, "io_method"), Some("'worker'"));
        assert_eq!(value(&text, "file_copy_method"), Some("'copy'"));
    }

    #[test]
    fn includes_stay_inside_of_the_data_directory() {
        let text = "port = 5432\ninclude 'more.conf'\n INCLUDE_DIR = 'conf.d' # x\ninclude_dir gone\n\
                    include_if_exists '/etc/postgresql/x.conf'\ninclude '../y'\n#include 'z'\n";
        let found = adopted(text, &|path| path == Path::new("conf.d"));
        assert_eq!(
            found,
            "port = 5432\ninclude_if_exists 'more.conf'\ninclude_dir 'conf.d'\n\
             # left out by btar: include_dir gone\n\
             # left out by btar: include_if_exists '/etc/postgresql/x.conf'\n\
             # left out by btar: include '../y'\n#include 'z'\n"
        );
    }
}
