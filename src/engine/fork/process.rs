//! Child processes: run to the end, interrupt, find and end what an earlier engine left behind.

use crate::{engine::fork::error::ForkError, sys::clock::Clock};
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
    process::{Child, Command},
};

/// What is kept of a program's output, in bytes: its end, as errors come last.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// How long a program may take to obey a request to end.
const GRACE: Duration = Duration::from_secs(5);
/// Programs that work in a fork's directory. Others, such as a person's shell, are let be.
const OURS: &[&str] = &["pgbackrest", "postgres", "btar", "pg_ctl", "pg_controldata"];

/// A program and how to call it.
#[derive(Debug)]
pub(super) struct Program {
    /// The program: a path, or a name that is sought in the search path.
    pub(super) path: PathBuf,
    /// Its arguments.
    pub(super) args: Vec<OsString>,
    /// Its working directory, by which [`working_in`] finds it again.
    pub(super) dir: PathBuf,
}

/// How a program ended.
#[derive(Debug)]
pub(super) enum Ended<T> {
    /// By itself.
    Exited(Output),
    /// It was interrupted, for this reason.
    Interrupted(T),
}

/// What an ended program left.
#[derive(Debug)]
pub(super) struct Output {
    /// Whether it succeeded.
    pub(super) success: bool,
    /// The end of its standard output.
    pub(super) stdout: String,
    /// The end of its standard error.
    pub(super) stderr: String,
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

/// Runs a program until it ends or `interrupt` does; in the latter case it and its children are
/// ended first. It gets this process's search path, English messages, and nothing else.
///
/// # Errors
/// What the system says when the program cannot be started.
pub(super) async fn run<T>(
    program: &Program,
    clock: &dyn Clock,
    interrupt: impl Future<Output = T>,
) -> Result<Ended<T>, io::Error> {
    let mut child = Command::new(&program.path)
        .args(&program.args)
        .current_dir(&program.dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let finished = async {
        let (stdout, stderr, status) = tokio::join!(end_of(stdout), end_of(stderr), child.wait());
        Ok(Output { success: status?.success(), stdout, stderr })
    };
    let reason = tokio::select! {
        output = finished => {
            group.0 = None;
            return output.map(Ended::Exited);
        }
        reason = interrupt => reason,
    };
    end_group(&mut child, &mut group, clock).await;
    Ok(Ended::Interrupted(reason))
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

/// Whether process `pid` is a PostgreSQL that works in `data`. A number alone proves nothing: after
/// a reboot it may be anybody's.
pub(super) fn is_server(pid: i32, data: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    comm(&process).as_deref() == Some("postgres")
        && fs::read_link(process.join("cwd")).is_ok_and(|cwd| same_dir(&cwd, data))
}

/// Our programs whose working directory lies in `dir`.
fn working_in(dir: &Path) -> Vec<Pid> {
    let Ok(dir) = fs::canonicalize(dir) else { return Vec::new() };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let works_here = |process: &Path| {
        fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&dir))
            && comm(process).is_some_and(|name| OURS.contains(&name.as_str()))
    };
    let own = std::process::id().to_string();
    processes
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| *name != *own) && works_here(path))
        .filter_map(|path| Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?))
        .collect()
}

/// Ends all programs of ours that still work in `dir`, which an engine that was killed may have
/// left behind. They must not write into what is deleted or made anew.
///
/// # Errors
/// [`ForkError::NoProgress`] when one does not go.
pub(super) async fn end_all_in(dir: &Path, clock: &dyn Clock) -> Result<(), ForkError> {
    for round in 0..100 {
        let left = working_in(dir);
        if left.is_empty() {
            return Ok(());
        }
        let signal = if round < 20 { Signal::TERM } else { Signal::KILL };
        for pid in left {
            let _ = kill_process(pid, signal);
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
    Err(ForkError::NoProgress { doing: "ending programs of an earlier run", minutes: 1 })
}

fn comm(process: &Path) -> Option<String> {
    Some(fs::read_to_string(process.join("comm")).ok()?.trim_end().to_owned())
}

fn same_dir(one: &Path, other: &Path) -> bool {
    fs::canonicalize(other).is_ok_and(|other| one == other)
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
