//! Why a fork could not be made, in words for the person who waits for it: what, why, what to do.

use crate::{
    domain::lsn::Lsn, engine::fork::mysql::error::MySqlError, restore::error::RestoreError,
};
use std::{io, path::PathBuf};

/// A fork could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// PostgreSQL refuses to run as root.
    #[error(
        "PostgreSQL does not run as root; start the engine as an unprivileged user such as postgres"
    )]
    RunningAsRoot,
    /// Too little disk space.
    #[error(
        "not enough disk space for the fork in {}: {needed_bytes} bytes are needed ({base_bytes} \
         for the base backup, {log_bytes} for its log, {reserve_bytes} kept in reserve) and \
         {free_bytes} are free; free disk space or give the forks another directory",
        dir.display()
    )]
    DiskSpace {
        /// The directory looked at.
        dir: PathBuf,
        /// Sum of the next three.
        needed_bytes: u64,
        /// Size of the restored base backup.
        base_bytes: u64,
        /// Size of the log that is replayed.
        log_bytes: u64,
        /// What must stay free.
        reserve_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// Somebody else listens there.
    #[error(
        "port {port} of {host} is taken by another program; stop that program or choose another \
         port for the fork"
    )]
    PortTaken {
        /// The address.
        host: String,
        /// The port.
        port: u16,
    },
    /// Nobody can listen there.
    #[error(
        "cannot listen on port {port} of {host}; choose an address of this machine and a port \
         above 1023"
    )]
    PortUnusable {
        /// The address.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A path cannot be used.
    #[error("cannot use {} for the fork: {why}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// No PostgreSQL of the right version.
    #[error(
        "PostgreSQL {major} is not installed: neither {} nor the program search path has it; \
         install the Debian package postgresql-{major} on the machine of the engine",
        looked_at.display()
    )]
    PostgresMissing {
        /// The major version that the backup needs.
        major: u32,
        /// Where Debian's packages put it.
        looked_at: PathBuf,
    },
    /// No pgBackRest.
    #[error(
        "pgBackRest is not installed: the program search path has no pgbackrest; install the \
         Debian package pgbackrest on the machine of the engine"
    )]
    PgBackRestMissing,
    /// pgBackRest could not restore the base backup.
    #[error("pgBackRest could not restore backup {backup}: {said}")]
    PgBackRest {
        /// Name of the backup.
        backup: String,
        /// Its error lines.
        said: String,
    },
    /// A base backup could not be unpacked.
    #[error("restoring the base backup {backup} failed")]
    Restore {
        /// Name of the backup.
        backup: String,
        /// What is wrong with it.
        #[source]
        source: Box<RestoreError>,
    },
    /// The base backup is a part of one (`pg_basebackup --incremental`, from PostgreSQL 17 on).
    #[error(
        "the base backup {backup} is an incremental one: it holds only what changed after {from} and \
         the base backups before it are needed with it, which is not supported; keep a full base \
         backup in the repository (pg_combinebackup makes one of the parts), or fork to a moment \
         before this one ended"
    )]
    Incremental {
        /// Name of the backup.
        backup: String,
        /// Position of the backup that it goes on from, as its label has it.
        from: String,
    },
    /// The order names no store for the base backup.
    #[error("nothing says where the base backup is to be read")]
    NoStore,
    /// The server stopped or did not start.
    #[error("PostgreSQL stopped while {doing}: {reason}{}", remedy(reason))]
    Server {
        /// What was going on.
        doing: &'static str,
        /// The last errors of its log.
        reason: String,
    },
    /// The log cannot be replayed.
    #[error("the log cannot be replayed: {0}; nothing was opened{remedy}", remedy = log_remedy(.0))]
    Wal(String),
    /// Replay stopped elsewhere than planned.
    #[error(
        "replay stopped at {found}, but the plan's position is {expected}; the fork was not \
         opened. Keep its directory and report this, or fork again to another moment"
    )]
    PositionMismatch {
        /// The position of the plan.
        expected: Lsn,
        /// The position that the server reports.
        found: Lsn,
    },
    /// The whole log was replayed and the stop was not in it.
    #[error(
        "the whole log of the plan was replayed, up to {found}, and the stop at {expected} was \
         not reached; the fork was not opened. Fork again to an earlier moment"
    )]
    StopNotReached {
        /// The position of the plan.
        expected: Lsn,
        /// The position that the server reports, or zero.
        found: Lsn,
    },
    /// The backup is of another cluster.
    #[error(
        "the base backup is of database cluster {found}, but its log is of cluster {expected}; \
         check which repository the service's prefix leads to"
    )]
    WrongCluster {
        /// The cluster of the plan.
        expected: u64,
        /// The cluster of the restored files.
        found: u64,
    },
    /// The server left recovery by itself.
    #[error(
        "PostgreSQL left recovery before its position was compared with the plan; the fork was \
         not opened. The stop may lie right behind the end of the base backup: fork to a slightly \
         later moment"
    )]
    PromotedUnasked,
    /// The server did not leave recovery.
    #[error("PostgreSQL did not leave recovery when asked to: {reason}")]
    NotPromoted {
        /// The last errors of its log.
        reason: String,
    },
    /// Nobody can log in behind the private socket.
    #[error(
        "no superuser of the restored database could be found: tried {tried}; name one of the \
         source's superusers as the administrator"
    )]
    NoSuperuser {
        /// The roles that were tried.
        tried: String,
    },
    /// Nothing moves.
    #[error(
        "no progress for {minutes} minutes while {doing}; look at the disk and at the server's log"
    )]
    NoProgress {
        /// What was going on.
        doing: &'static str,
        /// How long.
        minutes: u64,
    },
    /// A fork of MySQL or MariaDB.
    #[error(transparent)]
    MySql(#[from] MySqlError),
    /// It was called off.
    #[error("cancelled while {0}")]
    Cancelled(&'static str),
    /// The fork's record says that it is over.
    #[error("a fork that is {0} is not run again")]
    Over(&'static str),
    /// A file operation failed.
    #[error("{doing} {} failed", path.display())]
    File {
        /// Such as `writing`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program could not be run.
    #[error("running {} failed", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{} failed: {said}", program.display())]
    ProgramFailed {
        /// The program.
        program: PathBuf,
        /// What it said.
        said: String,
    },
    /// A query failed.
    #[error("{doing} on the fork's server failed")]
    Sql {
        /// Such as `promoting`.
        doing: &'static str,
        /// What the server said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a person can do about an error of the log, as the rest of a sentence.
fn log_remedy(message: &str) -> &'static str {
    match remedy(message) {
        "" => {
            "; have it copied again from the primary region, or fork to a moment before it is needed"
        }
        known => known,
    }
}

/// What a person can do about a well-known error of the server, as the rest of a sentence.
fn remedy(reason: &str) -> &'static str {
    const KNOWN: &[(&str, &str)] = &[
        (
            "could not access file",
            "; install the package with that library, or leave the library out of \
             shared_preload_libraries in the engine's settings for forks",
        ),
        (
            "could not map anonymous shared memory",
            "; set a smaller shared_buffers in the engine's settings for forks",
        ),
        ("No space left on device", "; free disk space and fork again"),
        (
            "incompatible with operating system",
            "; install the locales of the source on the machine of the engine",
        ),
        (
            "is not valid for encoding",
            "; install the locales of the source on the machine of the engine",
        ),
        ("before consistent recovery point", "; fork to a moment after the end of the base backup"),
    ];
    KNOWN.iter().find(|(part, _)| reason.contains(part)).map_or("", |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_say_what_to_do() {
        let missing = ForkError::PostgresMissing {
            major: 15,
            looked_at: PathBuf::from("/usr/lib/postgresql/15/bin"),
        };
        let text = missing.to_string();
        assert!(text.contains("package postgresql-15") && text.contains("/15/bin"), "{text}");
        let server = ForkError::Server {
            doing: "replaying",
            reason: "FATAL: could not access file \"timescaledb\": No such file".to_owned(),
        };
        assert!(server.to_string().contains("shared_preload_libraries"), "{server}");
        let hole = ForkError::Wal("WAL segment 0A: object x does not exist".to_owned());
        assert!(hole.to_string().contains("copied again"), "{hole}");
        let full = ForkError::Wal("writing x failed: No space left on device".to_owned());
        assert!(full.to_string().ends_with("free disk space and fork again"), "{full}");
        let port = ForkError::PortTaken { host: "127.0.0.1".to_owned(), port: 5433 };
        assert!(port.to_string().contains("another port"), "{port}");
    }
}
