//! What goes wrong with a request.

use http::StatusCode;
use std::time::Duration;

/// A request, for deciding what goes wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Counted from 0 since the faults were set.
    pub(crate) number: u64,
    /// Method, path and query, and of a copy what it is made of.
    pub(crate) line: String,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It is refused with this status and code, and nothing is done.
    Status(StatusCode, &'static str),
    /// It takes so long.
    Late(Duration),
    /// It is done, and the connection breaks before the answer.
    Lost,
    /// It is done, and the connection breaks after so many bytes of the answer.
    Break(usize),
    /// It is refused with this code in an answer with the status 200, as copies are.
    Hidden(&'static str),
    /// It is done, and what is kept differs in one bit from what was sent.
    Damage,
}
