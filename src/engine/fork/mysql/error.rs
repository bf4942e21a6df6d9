//! Why a fork of MySQL or MariaDB could not be made, in words for the person who waits for it.

use crate::{sealed::SealedError, store::StoreError};
use std::{io, path::PathBuf};

/// A fork of a MySQL or MariaDB server could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MySqlError {
    /// The servers refuse to run as root, and ours are not made to.
    #[error(
        "forks of MySQL and MariaDB are not made as root; start the engine as an unprivileged user \
         such as mysql"
    )]
    RunningAsRoot,
    /// A program is not there.
    #[error(
        "{program} is not installed: neither the configured directory nor the program search path \
         has it; install the Debian package {package} on the machine of the engine"
    )]
    ProgramMissing {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// The server is of another kind or too old.
    #[error(
        "the backup is of {wanted}, and the server program on the machine of the engine is {found}; \
         install {remedy}"
    )]
    WrongVersion {
        /// Product and version of the plan.
        wanted: String,
        /// What the program says.
        found: String,
        /// What would do.
        remedy: String,
    },
    /// A private key is not there, or does not fit.
    #[error("{key} cannot be decrypted")]
    Key {
        /// The object.
        key: String,
        /// What is missing.
        #[source]
        source: Box<SealedError>,
    },
    /// The copy cannot be read.
    #[error("reading {key} from the copy failed")]
    Store {
        /// The object.
        key: String,
        /// What the store said.
        #[source]
        source: Box<StoreError>,
    },
    /// An object is not the one that the plan names.
    #[error("the copy has changed since the fork was asked for: {key} {what}; fork again")]
    Changed {
        /// The object.
        key: String,
        /// What is different.
        what: String,
    },
    /// A binary log is damaged.
    #[error(
        "the binary log {name} ({key}) cannot be replayed: {what}; nothing was opened. Have it \
         copied again from the primary region, or fork to a moment before it is needed"
    )]
    Binlog {
        /// The server's name of the file.
        name: String,
        /// The object.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// The base backup cannot be unpacked.
    #[error(
        "the base backup {backup} cannot be unpacked: {what}; have it copied again from the primary \
         region, or fork from another one"
    )]
    Base {
        /// Its name.
        backup: String,
        /// What is wrong.
        what: String,
    },
    /// The base backup is not the one that the plan expects.
    #[error(
        "the base backup {backup} ends at {found}, and the plan replays the log from {expected}; \
         nothing was opened. The copy's catalogue is wrong about it: fork from another base backup"
    )]
    OtherBackup {
        /// Its name.
        backup: String,
        /// Where it says that it ends.
        found: String,
        /// Where the plan begins.
        expected: String,
    },
    /// The server stopped or did not start.
    #[error("{product} stopped while {doing}: {reason}{}", remedy(reason))]
    Server {
        /// The product.
        product: &'static str,
        /// What was going on.
        doing: &'static str,
        /// The last errors of its log.
        reason: String,
    },
    /// A statement of the log failed.
    #[error(
        "replaying the log failed{}: {said}; nothing was opened", .at.as_deref().map_or_else(String::new, |at| format!(" near {at}"))
    )]
    Replay {
        /// File and offset, where they can be told.
        at: Option<String>,
        /// What the client or the reader of the log said.
        said: String,
    },
    /// The client did not read the log to its end.
    #[error("replaying the log ended before the end of the log; nothing was opened")]
    ReplayUnfinished,
    /// What was executed is not what the plan says.
    #[error(
        "the replay gave other transactions than the plan names: {what}; the fork was not opened. \
         Keep its directory and report this, or fork again to another moment"
    )]
    Mismatch {
        /// What is missing and what is too much.
        what: String,
    },
    /// The fork's own log cannot be read.
    #[error("the fork's own binary log cannot be compared with the plan: {what}")]
    OwnLog {
        /// What is wrong with it.
        what: String,
    },
    /// A question was not answered.
    #[error("{doing} on the fork's server failed: {said}")]
    Sql {
        /// Such as `making the administrator`.
        doing: &'static str,
        /// What the client said.
        said: String,
    },
    /// A pipe between two programs cannot be made.
    #[error("{doing} failed")]
    Pipe {
        /// What was going on.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A path cannot be written into the server's configuration.
    #[error(
        "{} cannot be written into the server's configuration; choose a directory without quotes, \
         backslashes and line ends in its name",
        path.display()
    )]
    Unwritable {
        /// The path.
        path: PathBuf,
    },
}

/// What a person can do about a well-known error of the server, as the rest of a sentence.
fn remedy(reason: &str) -> &'static str {
    const KNOWN: &[(&str, &str)] = &[
        ("No space left on device", "; free disk space and fork again"),
        ("Disk is full", "; free disk space and fork again"),
        (
            "lower_case_table_names",
            "; set lower_case_table_names as the source had it in the engine's settings for forks",
        ),
        (
            "innodb_page_size",
            "; set innodb_page_size as the source had it in the engine's settings for forks",
        ),
        (
            "Cannot allocate memory",
            "; set a smaller innodb_buffer_pool_size in the engine's settings for forks",
        ),
        (
            "unknown variable",
            "; correct the engine's settings for forks, of which this server does not know one",
        ),
    ];
    KNOWN.iter().find(|(part, _)| reason.contains(part)).map_or("", |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_say_what_to_do() {
        let server = MySqlError::Server {
            product: "MySQL",
            doing: "starting",
            reason: "[ERROR] Different lower_case_table_names settings".to_owned(),
        };
        assert!(server.to_string().ends_with("in the engine's settings for forks"), "{server}");
        let replay = |at: Option<&str>| MySqlError::Replay {
            at: at.map(str::to_owned),
            said: "ERROR 1146".to_owned(),
        };
        assert!(replay(None).to_string().starts_with("replaying the log failed: ERROR 1146"));
        assert!(replay(Some("bin.000001:4")).to_string().contains("failed near bin.000001:4: "));
    }
}
