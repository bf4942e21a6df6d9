//! Asks a command for a private key, once, and shows what it says when it fails, but never the key.

use crate::{
    engine::fork::process::{Ended, Output, Program, run},
    sys::clock::Clock,
};
use std::{io, path::Path, time::Duration};

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Lines of its messages that are shown: the last ones.
const LINES_MAX: usize = 8;

/// A command gave no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// It does not say where the program is.
    #[error("command must begin with the absolute path of a program")]
    NotAbsolute,
    /// It cannot be started.
    #[error("starting {program} failed")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It did not end.
    #[error("{program} has not ended within {} s", .limit.as_secs())]
    Late {
        /// The program.
        program: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// The program.
        program: String,
        /// The end of its messages.
        said: String,
    },
}

/// What the command writes to its standard output. It is run without a shell, and of the environment it
/// gets the search path only.
///
/// # Errors
/// [`AskError`], which does not show what was written to the standard output.
pub(super) fn ask(command: &[String], clock: &dyn Clock) -> Result<String, AskError> {
    ask_within(command, clock, LIMIT)
}

fn ask_within(command: &[String], clock: &dyn Clock, limit: Duration) -> Result<String, AskError> {
    let Some((program, args)) = command.split_first().filter(|(p, _)| Path::new(p).is_absolute())
    else {
        return Err(AskError::NotAbsolute);
    };
    let call = Program {
        path: program.into(),
        args: args.iter().map(Into::into).collect(),
        dir: "/".into(),
    };
    // A thread of its own: whoever reads the configuration may be in a runtime already.
    let ended = std::thread::scope(|scope| {
        let wait = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { run(&call, clock, clock.sleep(limit)).await })
        };
        scope.spawn(wait).join().expect("waiting for a program does not panic")
    });
    let program = program.clone();
    match ended {
        Ok(Ended::Exited(Output { success: true, stdout, .. })) => Ok(stdout),
        Ok(Ended::Exited(Output { stderr, .. })) => {
            Err(AskError::Failed { program, said: messages(&stderr) })
        }
        Ok(Ended::Interrupted(())) => Err(AskError::Late { program, limit }),
        Err(source) => Err(AskError::Start { program, source }),
    }
}

/// The last lines of a program's messages; none of them when a key is among them.
fn messages(stderr: &str) -> String {
    if stderr.contains("PRIVATE KEY") {
        return "its messages hold a private key and are not shown".to_owned();
    }
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return "without a message".to_owned();
    }
    lines[lines.len().saturating_sub(LINES_MAX)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::SystemClock;

    fn shell(script: &str, limit: Duration) -> Result<String, AskError> {
        let command = ["/bin/sh", "-c", script, "sh", "k1"].map(str::to_owned);
        ask_within(&command, &SystemClock::new(), limit)
    }

    #[test]
    fn what_it_writes_is_the_key_and_what_it_says_is_shown() {
        let limit = Duration::from_secs(20);
        assert_eq!(shell("echo \"the $1\"; echo noise >&2", limit).unwrap(), "the k1\n");
        for (script, words) in [
            ("echo SECRET; echo no such key >&2; exit 3", "failed: no such key"),
            ("echo SECRET; exit 1", "without a message"),
            ("echo -----BEGIN PRIVATE KEY----- SECRET >&2; exit 1", "are not shown"),
        ] {
            let error = shell(script, limit).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("SECRET"), "{error}");
        }
        let late = shell("echo SECRET; sleep 60", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(&late, AskError::Late { .. }), "{late}");
        let relative = ask(&["fetch-key".to_owned()], &SystemClock::new()).unwrap_err();
        assert!(matches!(relative, AskError::NotAbsolute));
        let absent = ask(&["/no/such/program".to_owned()], &SystemClock::new()).unwrap_err();
        assert!(absent.to_string().contains("/no/such/program"), "{absent}");
    }

    #[tokio::test]
    async fn it_can_be_asked_from_within_a_runtime() {
        let limit = Duration::from_secs(20);
        assert_eq!(shell("echo good", limit).unwrap(), "good\n");
    }
}
