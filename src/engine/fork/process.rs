//! Child processes: run to the end, interrupt, find and end what an earlier engine left behind.

use crate::{
    engine::fork::{
        error::ForkError,
        inspect::{is_gone, working_in},
    },
    sys::clock::Clock,
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStdout, Command},
};

/// What is kept of a program's output, in bytes: its end, as errors come last.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// How long a program may take to obey a request to end.
const GRACE: Duration = Duration::from_secs(5);
/// Programs that work in a fork's directory. Others, such as a person's shell, are let be.
const OURS: &[&str] = &[
    "pgbackrest",
    "postgres",
    "btar",
    "pg_ctl",
    "pg_controldata",
    "mariadbd",
    "mariadb",
    "mariadb-binlog",
    "mariadb-backup",
    "mbstream",
    "mysqld",
    "mysql",
    "mysqlbinlog",
    "xtrabackup",
    "xbstream",
];

/// A program and how to call it.
#[derive(Debug)]
pub(crate) struct Program {
    /// The program: a path, or a name that is sought in the search path.
    pub(crate) path: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Its working directory, by which [`working_in`] finds it again.
    pub(crate) dir: PathBuf,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) enum Ended<T> {
    /// By itself.
    Exited(Output),
    /// It was interrupted, for this reason.
    Interrupted(T),
}

/// What an ended program left.
#[derive(Debug)]
pub(crate) struct Output {
    /// Whether it succeeded.
    pub(crate) success: bool,
    /// The end of its standard output.
    pub(crate) stdout: String,
    /// The end of its standard error.
    pub(crate) stderr: String,
}

impl Output {
    /// What it said, for an error.
    pub(super) fn said(&self) -> String {
        let text = format!("{}\n{}", self.stderr.trim(), self.stdout.trim());
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(8)..].join(" / ")
    }
}

/// A program that runs. It gets this process's search path, English messages, and nothing else.
/// Dropping this kills it with all its children.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    group: Group,
}

impl Running {
    /// Starts a program. Where `stdout` is a pipe, the end of what comes out is kept.
    ///
    /// # Errors
    /// What the system says when the program cannot be started.
    pub(super) fn start(program: &Program, stdin: Stdio, stdout: Stdio) -> io::Result<Self> {
        let child = prepared(program)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        Ok(Self { child, group })
    }

    /// Its number, until it has ended.
    pub(super) fn pid(&self) -> Option<i32> {
        self.group.0.map(|pid| pid.as_raw_nonzero().get())
    }

    /// Its standard output, for whoever reads more than the end of it.
    pub(super) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// What the system says when it cannot be waited for.
    pub(super) async fn finish(&mut self) -> io::Result<Output> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let (stdout, stderr, status) =
            tokio::join!(end_of(stdout), end_of(stderr), self.child.wait());
        let success = status?.success();
        self.group.0 = None;
        Ok(Output { success, stdout, stderr })
    }

    /// Ends it and its children.
    pub(super) async fn end(&mut self, clock: &dyn Clock) {
        end_group(&mut self.child, &mut self.group, clock).await;
    }
}

/// A program as every one is started: in a process group of its own.
fn prepared(program: &Program) -> Command {
    let mut command = Command::new(&program.path);
    command
        .args(&program.args)
        .current_dir(&program.dir)
        .env_clear()
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        .process_group(0);
    command
}

fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into())
}

/// Where a program is: in the directory `first`, in the search path, or where Debian keeps servers.
pub(super) fn find(name: &str, first: Option<&Path>) -> Option<PathBuf> {
    let path = search_path();
    let dirs = first.map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    dirs.chain(["/usr/sbin".into()]).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Runs a program until it ends or `interrupt` does; in the latter case it and its children are
/// ended first.
///
/// # Errors
/// What the system says when the program cannot be started.
pub(crate) async fn run<T>(
    program: &Program,
    clock: &dyn Clock,
    interrupt: impl Future<Output = T>,
) -> Result<Ended<T>, io::Error> {
    run_with(program, Stdio::null(), clock, interrupt).await
}

/// [`run`] with something to read.
///
/// # Errors
/// Those of [`run`].
pub(super) async fn run_with<T>(
    program: &Program,
    stdin: Stdio,
    clock: &dyn Clock,
    interrupt: impl Future<Output = T>,
) -> Result<Ended<T>, io::Error> {
    let mut running = Running::start(program, stdin, Stdio::piped())?;
    let reason = tokio::select! {
        output = running.finish() => return output.map(Ended::Exited),
        reason = interrupt => reason,
    };
    running.end(clock).await;
    Ok(Ended::Interrupted(reason))
}

/// A server that was started here and outlives this process.
#[derive(Debug)]
pub(super) struct Born(Child);

impl Born {
    /// Whether it has died.
    pub(super) fn is_dead(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)) | Err(_))
    }
}

/// Starts a server that goes on when this process ends. What it says goes to `log`.
///
/// # Errors
/// What the system says when the server cannot be started.
pub(super) fn bear(program: &Program, log: fs::File) -> io::Result<Born> {
    let stdout = log.try_clone()?;
    prepared(program).stdin(Stdio::null()).stdout(stdout).stderr(log).spawn().map(Born)
}

/// Runs a program that must succeed within `limit`, and gives its standard output.
///
/// # Errors
/// [`ForkError::Program`], [`ForkError::ProgramFailed`], [`ForkError::NoProgress`].
pub(super) async fn succeed(
    program: &Program,
    clock: &dyn Clock,
    limit: Duration,
) -> Result<String, ForkError> {
    let fault = |source| ForkError::Program { program: program.path.clone(), source };
    match run(program, clock, clock.sleep(limit)).await.map_err(fault)? {
        Ended::Exited(output) if output.success => Ok(output.stdout),
        Ended::Exited(output) => {
            Err(ForkError::ProgramFailed { program: program.path.clone(), said: output.said() })
        }
        Ended::Interrupted(()) => Err(ForkError::NoProgress {
            doing: "waiting for a program of PostgreSQL",
            minutes: limit.as_secs().div_ceil(60),
        }),
    }
}

/// A program with all its children, which are killed when this is dropped.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It may have ended meanwhile.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

async fn end_group(child: &mut Child, group: &mut Group, clock: &dyn Clock) {
    if let Some(pid) = group.0 {
        let _ = kill_process_group(pid, Signal::TERM);
    }
    tokio::select! {
        _ = child.wait() => {}
        () = clock.sleep(GRACE) => {}
    }
    // Children that outlive their parent, too.
    if let Some(pid) = group.0.take() {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.wait().await;
}

/// Reads all of a pipe and keeps the end. A pipe that breaks ends there: the exit status decides.
async fn end_of(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let (mut kept, mut piece) = (Vec::new(), vec![0; 8 << 10]);
    while let Ok(length @ 1..) = pipe.read(&mut piece).await {
        kept.extend_from_slice(&piece[..length]);
        if kept.len() > 2 * OUTPUT_BYTES_MAX {
            kept.drain(..kept.len() - OUTPUT_BYTES_MAX);
        }
    }
    let from = kept.len().saturating_sub(OUTPUT_BYTES_MAX);
    String::from_utf8_lossy(&kept[from..]).into_owned()
}

/// How a server is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// With everything written to the disk.
    Politely,
    /// At once.
    AtOnce,
}

/// Asks a process to end. It may have ended meanwhile.
pub(super) fn ask_to_end(pid: i32, how: Ask) {
    let signal = match how {
        Ask::Politely => Signal::TERM,
        Ask::AtOnce => Signal::KILL,
    };
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Ends all programs of ours that still work in `dir`, which an engine that was killed may have
/// left behind. They must not write into what is deleted or made anew.
///
/// # Errors
/// [`ForkError::NoProgress`] when one does not go.
pub(super) async fn end_all_in(dir: &Path, clock: &dyn Clock) -> Result<(), ForkError> {
    let mut ending = Vec::new();
    for round in 0..100 {
        let left = working_in(dir, OURS);
        ending.retain(|pid: &Pid| !is_gone(pid.as_raw_nonzero().get()));
        if left.is_empty() && ending.is_empty() {
            return Ok(());
        }
        let signal = if round < 20 { Signal::TERM } else { Signal::KILL };
        for pid in left {
            let _ = kill_process(pid, signal);
            if !ending.contains(&pid) {
                ending.push(pid);
            }
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
    Err(ForkError::NoProgress { doing: "ending programs of an earlier run", minutes: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::SystemClock;

    fn shell(script: &str) -> Program {
        Program {
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            dir: std::env::temp_dir(),
        }
    }

    #[tokio::test]
    async fn output_and_failure_are_told() {
        let clock = SystemClock::new();
        let limit = Duration::from_secs(20);
        assert_eq!(succeed(&shell("echo good"), &clock, limit).await.unwrap(), "good\n");
        let failed = succeed(&shell("echo why >&2; exit 3"), &clock, limit).await.unwrap_err();
        assert!(failed.to_string().contains("why"), "{failed}");
        let env = succeed(&shell("env | sort"), &clock, limit).await.unwrap();
        assert!(!env.contains("HOME=") && env.contains("LC_ALL=C"), "{env}");
    }

    #[tokio::test]
    async fn an_interrupted_program_takes_its_children_along() {
        let clock = SystemClock::new();
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("alive");
        let script = format!("(sleep 1; touch {}) & sleep 60", mark.display());
        let soon = clock.sleep(Duration::from_millis(200));
        let ended = run(&shell(&script), &clock, soon).await.unwrap();
        assert!(matches!(ended, Ended::Interrupted(())));
        clock.sleep(Duration::from_millis(1300)).await;
        assert!(!mark.exists());
    }

    #[tokio::test]
    async fn what_a_killed_engine_left_behind_is_ended() {
        let clock = SystemClock::new();
        let dir = tempfile::tempdir().unwrap();
        let orphan = dir.path().join("pgbackrest");
        fs::copy("/bin/sleep", &orphan).unwrap();
        let start = |path: &Path| {
            Command::new(path).arg("60").current_dir(dir.path()).kill_on_drop(true).spawn().unwrap()
        };
        let (mut ours, mut others) = (start(&orphan), start(Path::new("/bin/sleep")));
        end_all_in(dir.path(), &clock).await.unwrap();
        assert!(!ours.wait().await.unwrap().success());
        assert!(others.try_wait().unwrap().is_none(), "a person's program is let be");
    }

    #[tokio::test]
    async fn much_output_is_cut_to_its_end() {
        let clock = SystemClock::new();
        let script = "seq 1 200000; echo last";
        let text = succeed(&shell(script), &clock, Duration::from_secs(20)).await.unwrap();
        assert!(text.len() <= OUTPUT_BYTES_MAX && text.ends_with("last\n"));
    }
}
