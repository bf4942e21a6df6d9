//! Why a push failed.

use crate::{
    layout::stream::{manifest::ManifestError, series::SeriesError},
    store::{StoreError, key::NotAKey},
};
use std::{io, path::PathBuf};

/// A push failed. What was stored before stays, and is gone on from the next time.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The store could not do something.
    #[error("storing a backup failed")]
    Store(#[from] StoreError),
    /// The path of the settings makes no keys.
    #[error("making a key failed")]
    Key(#[from] NotAKey),
    /// A program cannot be started.
    #[error("running {program} failed; is it installed, and is its path in the settings right?")]
    Program {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{program} failed: {said}")]
    ProgramFailed {
        /// The program.
        program: PathBuf,
        /// The end of what it said.
        said: String,
    },
    /// A program did not end in time.
    #[error("{program} was ended: it had run for {seconds} seconds")]
    TooLong {
        /// The program.
        program: PathBuf,
        /// The limit.
        seconds: u64,
    },
    /// The server or the tool said something else than it should.
    #[error("reading what {who} says about {what} failed: `{text}`")]
    Said {
        /// Who said it.
        who: &'static str,
        /// What it is about.
        what: &'static str,
        /// What was said.
        text: String,
    },
    /// A file or directory on this machine.
    #[error("{doing} {path} failed")]
    File {
        /// Such as `reading`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server has no binary log.
    #[error("the server writes no binary log: set log_bin and start it again")]
    NoBinlog,
    /// A file of the log has a name that no key may have.
    #[error(
        "the binary log `{0}` cannot be stored under its name: set log_bin to a name of letters, \
         digits, `.`, `_` and `-`"
    )]
    Name(String),
    /// A file of the log cannot be restored from by anybody.
    #[error("the binary log {name} cannot be used")]
    Unusable {
        /// The server's name of it.
        name: String,
        /// Why.
        #[source]
        source: crate::binlog::fault::Damage,
    },
    /// A file of the log went away while it was to be stored.
    #[error(
        "the binary log {0} was purged before it could be stored; push more often, or let the \
         server keep its log longer (binlog_expire_logs_seconds)"
    )]
    Purged(String),
    /// A closed file of the log changed.
    #[error("the binary log {0} changed while it was stored")]
    Changed(String),
    /// The log of a base backup is not in one series.
    #[error(
        "the binary log {0}, in which the base backup stands, is not in the series that is being \
         written: the server's log was reset or purged while the backup was made; make it again"
    )]
    LogLost(String),
    /// Something of a base backup has disappeared again.
    #[error("the part {0} of the base backup has disappeared from the store; make it again")]
    PartLost(String),
    /// Another push is making a base backup on this machine.
    #[error("another push is making a base backup on this machine; wait for it")]
    Running,
    /// The tool does not fit the server.
    #[error("{tool} makes no backups of {product}; correct `tool` in [base] of the settings")]
    WrongTool {
        /// The tool.
        tool: &'static str,
        /// The server.
        product: &'static str,
    },
    /// A setting is missing.
    #[error("{0}")]
    Setting(&'static str),
    /// What is said of a series in the store cannot be relied on.
    #[error("reading {key} failed")]
    Series {
        /// Key of the object.
        key: String,
        /// What is wrong with it.
        #[source]
        source: SeriesError,
    },
    /// A manifest that was made cannot be read.
    #[error("making a manifest failed")]
    Manifest(#[from] ManifestError),
}

impl PushError {
    /// Something with a file went wrong.
    pub(super) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }

    /// What was said cannot be read.
    pub(super) fn said(who: &'static str, what: &'static str, text: &str) -> Self {
        Self::Said { who, what, text: text.chars().take(200).collect() }
    }
}
