//! The log's reader and the client, with a pipe between them: both must succeed.

use crate::{
    domain::{binlog::Flavour, fork::ForkPhase},
    engine::fork::{
        Progress,
        error::ForkError,
        inspect,
        mysql::{
            binlogs::LocalLog,
            door::{Door, told},
            error::MySqlError,
            programs::call,
            runner::Job,
        },
        patience::Patience,
        process::{Output, Program, Running},
    },
};
use std::{
    io::{self, PipeWriter, Write as _},
    process::Stdio,
    time::Duration,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const DOING: &str = "replaying the log";
/// How often progress is told.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long it may take to find out where a statement came from.
const LOCATE_LIMIT: Duration = Duration::from_secs(120);
/// What the client says when it has read everything.
const END: &str = "btar-end-of-log";

/// What is replayed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The files, in order.
    pub(super) files: Vec<LocalLog>,
    /// Where in the first file the replay begins.
    pub(super) start_offset: u64,
    /// Where in the last file it ends.
    pub(super) stop_offset: u64,
}

impl Span {
    /// Whether nothing is to be replayed.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() || (self.files.len() == 1 && self.stop_offset <= self.start_offset)
    }

    /// Bytes of the files that are passed when the replay is at `offset` of file `at`.
    fn passed(&self, at: usize, offset: u64) -> u64 {
        let before: u64 = self.files[..at].iter().map(|file| file.file_bytes).sum();
        (before + offset).saturating_sub(self.start_offset)
    }

    fn total(&self) -> u64 {
        self.passed(self.files.len().saturating_sub(1), self.stop_offset)
    }
}

/// Replays. What the server holds after an error is neither this nor that.
///
/// # Errors
/// [`MySqlError::Replay`], [`MySqlError::ReplayUnfinished`], [`MySqlError::Server`],
/// [`ForkError::Cancelled`], [`ForkError::NoProgress`].
pub(super) async fn run(job: &Job<'_>, span: &Span) -> Result<(), ForkError> {
    let pipe = |source| MySqlError::Pipe { doing: "making a pipe", source };
    let (input, output) = io::pipe().map_err(pipe)?;
    let reader = log_reader(job, span);
    let client = Door { job }.client([
        "--batch",
        "--skip-column-names",
        // Rows may hold any byte.
        "--binary-mode",
        "--max-allowed-packet=1G",
        "--local-infile=1",
    ]);
    let fault =
        |program: &Program, source| ForkError::Program { program: program.path.clone(), source };
    let stdout = output.try_clone().map_err(pipe)?;
    let mut reading = Running::start(&reader, Stdio::null(), stdout.into())
        .map_err(|source| fault(&reader, source))?;
    let mut replaying = Running::start(&client, input.into(), Stdio::piped())
        .map_err(|source| fault(&client, source))?;
    let pid = reading.pid();
    let why = tokio::select! {
        ended = both(&mut reading, &mut replaying, output) => {
            let (read, replayed) = ended.map_err(|source| fault(&client, source))?;
            return judge(job, span, &read, &replayed).await;
        }
        why = attend(job, span, pid) => why,
    };
    // The client first: what it was sent is not to be executed half way after the reader's death.
    replaying.end(job.clock).await;
    reading.end(job.clock).await;
    Err(why)
}

/// Waits for both. When the reader has given everything, the client is told that this was all.
async fn both(
    reading: &mut Running,
    replaying: &mut Running,
    mut output: PipeWriter,
) -> io::Result<(Output, Output)> {
    let read = async {
        let read = reading.finish().await?;
        if read.success {
            // The pipe may be full until the client has caught up.
            let last = tokio::task::spawn_blocking(move || output.write_all(end().as_bytes()));
            // A client that has ended says why.
            let _ = last.await;
        }
        Ok::<Output, io::Error>(read)
    };
    let (read, replayed) = tokio::join!(read, replaying.finish());
    Ok((read?, replayed?))
}

/// The last statements. Without the first, the server would log that it drops the temporary tables
/// of this session: transactions that the source does not have.
fn end() -> String {
    format!("\nSET SESSION sql_log_bin = 0;\nSELECT '{END}';\n")
}

fn log_reader(job: &Job<'_>, span: &Span) -> Program {
    let mut args = vec![
        "--no-defaults".to_owned(),
        "--verify-binlog-checksum".to_owned(),
        format!("--local-load={}", job.paths().tmp().display()),
        format!("--start-position={}", span.start_offset),
        format!("--stop-position={}", span.stop_offset),
    ];
    if job.order.plan.flavour == Flavour::MariaDb {
        // The numbers need not grow: the source decided that when it wrote them.
        args.push("--loose-skip-gtid-strict-mode".to_owned());
    }
    let name = |file: &LocalLog| file.path.file_name().map(|name| name.display().to_string());
    args.extend(span.files.iter().filter_map(name));
    // Names alone, in their directory: a command line has an end.
    call(&job.programs.log_reader, &job.paths().binlogs(), args)
}

/// Tells progress until the replay is called off or stands still.
async fn attend(job: &Job<'_>, span: &Span, reader: Option<i32>) -> ForkError {
    let (dir, server) = (job.paths().binlogs(), job.server());
    let mut patience = Patience::new(DOING, job.clock);
    let mut passed = 0;
    loop {
        tokio::select! {
            () = job.cancel.cancelled() => return ForkError::Cancelled(DOING),
            () = job.clock.sleep(INTERVAL) => {}
        }
        if let Some((path, offset)) = reader.and_then(|pid| inspect::reads_below(pid, &dir))
            && let Some(at) = span.files.iter().position(|file| file.path == path)
        {
            passed = span.passed(at, offset).min(span.total());
        }
        job.watch.progress(Progress {
            phase: ForkPhase::Replaying,
            current: Some(passed),
            max: Some(span.total()),
            unit: "binlog_bytes",
        });
        // One statement may take hours: as long as the server works on it, it moves.
        let worked = server.and_then(inspect::ticks).map(|ticks| ticks + passed);
        if let Err(error) = patience.see(worked, job.clock) {
            return error;
        }
    }
}

async fn judge(
    job: &Job<'_>,
    span: &Span,
    read: &Output,
    replayed: &Output,
) -> Result<(), ForkError> {
    if read.success && replayed.success {
        let whole = replayed.stdout.lines().any(|line| line == END);
        return if whole { Ok(()) } else { Err(MySqlError::ReplayUnfinished.into()) };
    }
    if job.server().is_none() {
        return Err(job.died(DOING));
    }
    // A reader that lost its client was ended by a signal, and said nothing.
    let reader_said = errors(&read.stderr);
    if let Some(said) = reader_said.filter(|_| !read.success) {
        return Err(MySqlError::Replay { at: None, said }.into());
    }
    let said = told(&replayed.stderr, &[]);
    let at = match line_of(&said) {
        Some(line) => locate(job, span, line).await,
        None => None,
    };
    Err(MySqlError::Replay { at, said }.into())
}

/// What the log's reader complained about.
fn errors(stderr: &str) -> Option<String> {
    let lines: Vec<&str> =
        stderr.lines().map(str::trim).filter(|line| line.starts_with("ERROR")).collect();
    (!lines.is_empty()).then(|| lines[..lines.len().min(3)].join(" / "))
}

/// The line of the client's input out of `ERROR 1146 (42S02) at line 12: …`.
fn line_of(said: &str) -> Option<u64> {
    let (_, rest) = said.split_once(" at line ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The file and the offset that a line of the client's input came from: the reader notes an event's
/// offset before it, and begins each file with an event at offset 4.
async fn locate(job: &Job<'_>, span: &Span, line: u64) -> Option<String> {
    let program = log_reader(job, span);
    let mut running = Running::start(&program, Stdio::null(), Stdio::piped()).ok()?;
    let mut lines = BufReader::new(running.take_stdout()?).split(b'\n');
    let mut place = Place::default();
    let found = async {
        for _ in 0..line {
            place.see(&lines.next_segment().await.ok()??);
        }
        let file = span.files.get(place.files.checked_sub(1)?)?;
        Some(format!("{}:{}", file.name, place.offset))
    };
    let found = tokio::select! {
        found = found => found,
        () = job.clock.sleep(LOCATE_LIMIT) => None,
    };
    running.end(job.clock).await;
    found
}

#[derive(Default)]
struct Place {
    files: usize,
    offset: u64,
}

impl Place {
    fn see(&mut self, line: &[u8]) {
        let offset = line.strip_prefix(b"# at ").and_then(|digits| str::from_utf8(digits).ok());
        if let Some(offset) = offset.and_then(|digits| digits.trim_end().parse().ok()) {
            self.files += usize::from(offset == 4);
            self.offset = offset;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(sizes: &[u64], start_offset: u64, stop_offset: u64) -> Span {
        let file = |file_bytes: &u64| LocalLog {
            path: "x".into(),
            name: "bin.000001".to_owned(),
            file_bytes: *file_bytes,
        };
        Span { files: sizes.iter().map(file).collect(), start_offset, stop_offset }
    }

    #[test]
    fn a_span_knows_its_length() {
        assert!(span(&[1000], 500, 500).is_empty() && span(&[], 4, 4).is_empty());
        assert!(!span(&[1000], 500, 501).is_empty() && !span(&[1000, 300], 500, 256).is_empty());
        assert_eq!(span(&[1000, 300], 400, 256).total(), 856);
        assert_eq!(span(&[1000, 300], 400, 256).passed(0, 300), 0);
    }

    #[test]
    fn an_error_is_traced_to_its_event() {
        assert_eq!(line_of("ERROR 1146 (42S02) at line 12: Table"), Some(12));
        assert_eq!(line_of("ERROR 2013: Lost connection"), None);
        let mut place = Place::default();
        for line in ["# at 4", "# at 256", "BINLOG '", "# at 4", "# at 400", "# at x"] {
            place.see(line.as_bytes());
        }
        assert_eq!((place.files, place.offset), (2, 400));
    }
}
