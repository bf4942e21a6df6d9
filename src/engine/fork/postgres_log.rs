//! Finds in a server's log why it stopped.

use crate::engine::fork::fetch::MESSAGE;

/// How many lines of the log are told.
const LINES_MAX: usize = 4;
/// How long a told line may be, in bytes.
const LINE_BYTES_MAX: usize = 500;

/// Why a server stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Our own program could not hand over the log; its message.
    Fetch(String),
    /// What PostgreSQL said.
    Server(String),
}

/// The reason in `log`, of which only the last start of the server counts.
pub(super) fn reason(log: &str) -> Reason {
    let lines: Vec<&str> = log.lines().collect();
    // `StartupMessage` of `postmaster.c`; messages are in English by our configuration.
    let start = lines.iter().rposition(|line| line.contains("LOG:  starting PostgreSQL"));
    let lines = &lines[start.unwrap_or(0)..];
    if let Some(message) = lines.iter().rev().find_map(|line| line.strip_prefix(MESSAGE)) {
        return Reason::Fetch(cut(message));
    }
    let grave = |line: &&&str| line.contains("FATAL:  ") || line.contains("PANIC:  ");
    // Clients that come too early, and those that are sent away when the server stops, are no cause.
    let noise = |line: &&&str| {
        ["the database system is", "terminating connection", "terminating walreceiver"]
            .iter()
            .any(|part| line.contains(part))
    };
    let mut told: Vec<String> =
        lines.iter().filter(|line| grave(line) && !noise(line)).map(|line| message(line)).collect();
    if told.is_empty() {
        told = lines.iter().filter(|line| !line.trim().is_empty()).map(|line| cut(line)).collect();
    }
    let from = told.len().saturating_sub(LINES_MAX);
    let text = told[from..].join(" / ");
    Reason::Server(if text.is_empty() { "its log is empty".to_owned() } else { text })
}

/// A line from its severity on, without time and process.
fn message(line: &str) -> String {
    let from = ["FATAL:  ", "PANIC:  "].iter().filter_map(|word| line.find(word)).min();
    cut(&line[from.unwrap_or(0)..])
}

fn cut(line: &str) -> String {
    let mut end = line.len().min(LINE_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].trim().to_owned()
}

/// The error lines of pgBackRest's output, with the lines that go on from them.
pub(super) fn pgbackrest_errors(output: &str) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut within = false;
    for line in output.lines() {
        if let Some(at) = line.find("ERROR: ") {
            within = true;
            told.push(cut(&line[at + "ERROR: ".len()..]));
        } else if within && line.starts_with("   ") {
            told.push(cut(line));
        } else {
            within = false;
        }
    }
    if told.is_empty() {
        told = output.lines().rev().take(LINES_MAX).map(cut).collect();
        told.reverse();
    }
    let text = told.into_iter().take(2 * LINES_MAX).collect::<Vec<_>>().join(" / ");
    if text.is_empty() { "it said nothing".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str =
        "2026-11-23 08:00:00.000 UTC [7] LOG:  starting PostgreSQL 15.18 on x86_64\n";

    fn check(log: &str, expect: Reason) {
        assert_eq!(reason(log), expect);
    }

    #[test]
    fn the_fetchers_own_words_come_first() {
        let log = format!(
            "{START}btar wal-fetch: WAL segment 0A: it has 3 bytes\n2026-11-23 08:00:01.000 UTC \
             [9] FATAL:  could not restore file \"0A\" from archive: child process exited with \
             exit code 200\n"
        );
        check(&log, Reason::Fetch("WAL segment 0A: it has 3 bytes".to_owned()));
    }

    #[test]
    fn only_the_last_start_counts() {
        let log = format!(
            "{START}2026-11-23 08:00:01.000 UTC [9] FATAL:  old\n{START}2026-11-23 08:00:02.000 \
             UTC [9] FATAL:  the database system is starting up\n2026-11-23 08:00:02.000 UTC [7] \
             FATAL:  could not create any TCP/IP sockets\n"
        );
        check(&log, Reason::Server("FATAL:  could not create any TCP/IP sockets".to_owned()));
        check("", Reason::Server("its log is empty".to_owned()));
        check("sh: not found\n", Reason::Server("sh: not found".to_owned()));
    }

    #[test]
    fn pgbackrest_says_what_it_missed() {
        let output = "2026-11-23 07:00:00.000 P00   WARN: hm\n2026-11-23 07:00:00.000 P00  ERROR: \
                      [055]: unable to open missing file 'x'\n                       HINT: look\n\
                      2026-11-23 07:00:00.000 P00   INFO: end\n";
        let text = pgbackrest_errors(output);
        assert_eq!(text, "[055]: unable to open missing file 'x' / HINT: look");
        assert_eq!(pgbackrest_errors(""), "it said nothing");
    }
}
