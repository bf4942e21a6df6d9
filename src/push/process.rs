//! Child processes of a push: the server's client and the backup tools.

use crate::{push::error::PushError, sys::clock::Clock};
use std::{ffi::OsString, fs::File, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    task::JoinHandle,
};

/// What is kept of a program's messages, in bytes: their end, as errors come last.
const MESSAGES_BYTES_MAX: usize = 64 << 10;
/// What a client may answer, in bytes. A server may have some 10,000 binary logs.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Lines of its messages that an error shows.
const LINES_SHOWN: usize = 6;

/// A program and how to call it. No argument is a secret: everybody on the machine can read them.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The program: a path, or a name that is sought in the search path.
    pub(super) path: PathBuf,
    /// Its arguments.
    pub(super) args: Vec<OsString>,
}

/// A program that is writing a stream.
#[derive(Debug)]
pub(super) struct Streaming {
    program: PathBuf,
    child: Child,
    messages: JoinHandle<Vec<u8>>,
}

impl Program {
    /// With more arguments.
    pub(super) fn with<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    fn fault(&self) -> impl Fn(std::io::Error) -> PushError {
        let program = self.path.clone();
        move |source| PushError::Program { program: program.clone(), source }
    }

    /// Starts it with this process's search path and home directory, English messages, and nothing
    /// else. It is killed when what is given is dropped.
    fn start(&self) -> Result<Child, PushError> {
        let mut command = Command::new(&self.path);
        command.args(&self.args).env_clear().env("LC_ALL", "C");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        if let Some(home) = std::env::var_os("HOME") {
            // Where clients look for their option file.
            command.env("HOME", home);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).spawn().map_err(self.fault())
    }

    /// Runs it to its end and gives its standard output. It must succeed within `limit`.
    ///
    /// # Errors
    /// [`PushError::Program`], [`PushError::ProgramFailed`], [`PushError::TooLong`].
    pub(super) async fn answer(
        &self,
        clock: &dyn Clock,
        limit: Duration,
    ) -> Result<String, PushError> {
        let mut child = self.start()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let finished = async { tokio::join!(all_of(stdout), end_of(stderr), child.wait()) };
        let (answer, messages, status) = tokio::select! {
            finished = finished => finished,
            () = clock.sleep(limit) => return Err(self.too_long(limit)),
        };
        if !status.map_err(self.fault())?.success() {
            let said = said(&messages);
            return Err(PushError::ProgramFailed { program: self.path.clone(), said });
        }
        let answer = answer.map_err(self.fault())?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Starts it and gives its standard output, for a thread to read.
    ///
    /// # Errors
    /// [`PushError::Program`].
    pub(super) fn stream(&self) -> Result<(Streaming, File), PushError> {
        let mut child = self.start()?;
        let pipe = child.stdout.take().ok_or_else(|| std::io::Error::other("it has no output"));
        let pipe = pipe.and_then(|pipe| pipe.into_owned_fd()).map_err(self.fault())?;
        let messages = tokio::spawn(end_of(child.stderr.take()));
        Ok((Streaming { program: self.path.clone(), child, messages }, File::from(pipe)))
    }

    fn too_long(&self, limit: Duration) -> PushError {
        PushError::TooLong { program: self.path.clone(), seconds: limit.as_secs() }
    }
}

impl Streaming {
    /// Waits for its end, which must be a success that its messages say in so many words, too.
    ///
    /// # Errors
    /// [`PushError::Program`], [`PushError::ProgramFailed`].
    pub(super) async fn succeed(mut self, words: &str) -> Result<(), PushError> {
        let program = self.program.clone();
        let status = self.child.wait().await;
        let status = status.map_err(|source| PushError::Program { program, source })?;
        let messages = (&mut self.messages).await.unwrap_or_default();
        if status.success() && String::from_utf8_lossy(&messages).contains(words) {
            return Ok(());
        }
        Err(PushError::ProgramFailed { program: self.program.clone(), said: said(&messages) })
    }
}

/// The end of a program's messages, for an error.
fn said(messages: &[u8]) -> String {
    let text = String::from_utf8_lossy(messages);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join(" / ")
}

async fn all_of(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut limited = pipe.take(ANSWER_BYTES_MAX);
        limited.read_to_end(&mut bytes).await?;
        if bytes.len() as u64 == ANSWER_BYTES_MAX {
            return Err(std::io::Error::other("its answer is too long"));
        }
    }
    Ok(bytes)
}

/// Reads all of a pipe and keeps the end. A pipe that breaks ends there: the exit status decides.
async fn end_of(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut pipe) = pipe else { return Vec::new() };
    let (mut kept, mut piece) = (Vec::new(), vec![0; 8 << 10]);
    while let Ok(length @ 1..) = pipe.read(&mut piece).await {
        kept.extend_from_slice(&piece[..length]);
        if kept.len() > 2 * MESSAGES_BYTES_MAX {
            kept.drain(..kept.len() - MESSAGES_BYTES_MAX);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::SystemClock;
    use std::io::Read;

    fn shell(script: &str) -> Program {
        Program { path: "/bin/sh".into(), args: vec!["-c".into(), script.into()] }
    }

    #[tokio::test]
    async fn answers_failures_and_limits() {
        let clock = SystemClock::new();
        let limit = Duration::from_secs(20);
        assert_eq!(shell("echo good").answer(&clock, limit).await.unwrap(), "good\n");
        let failed = shell("echo why >&2; exit 3").answer(&clock, limit).await.unwrap_err();
        assert!(failed.to_string().contains("why"), "{failed}");
        let late = shell("sleep 30").answer(&clock, Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(late, PushError::TooLong { .. }), "{late}");
        let missing = Program { path: "/no/such".into(), args: vec![] };
        assert!(matches!(missing.stream(), Err(PushError::Program { .. })));
    }

    #[tokio::test]
    async fn a_stream_counts_only_when_its_program_says_so() {
        for (script, is_good) in [
            ("echo data; echo 'completed OK!' >&2", true),
            ("echo data; echo 'completed OK!' >&2; exit 1", false),
            ("echo data", false),
        ] {
            let (running, mut pipe) = shell(script).stream().unwrap();
            let read = tokio::task::spawn_blocking(move || {
                let mut text = String::new();
                pipe.read_to_string(&mut text).unwrap();
                text
            });
            assert_eq!(read.await.unwrap(), "data\n");
            assert_eq!(running.succeed("completed OK!").await.is_ok(), is_good, "{script}");
        }
    }
}
