//! What the tests share: users, programs, waiting; a source cluster; an engine; a Terraform module.

pub(crate) mod engine;
pub(crate) mod source;
pub(crate) mod terraform;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// The unprivileged user that PostgreSQL runs as when the tests run as root.
pub(crate) fn postgres_user() -> Option<(u32, u32)> {
    let id = |flag: &str, who: &[&str]| -> Option<u32> {
        let out = Command::new("id").arg(flag).args(who).output().ok()?;
        String::from_utf8(out.stdout).ok()?.trim().parse().ok()
    };
    if id("-u", &[]) != Some(0) {
        return None;
    }
    let user = id("-u", &["postgres"]).zip(id("-g", &["postgres"]));
    assert!(
        user.is_some(),
        "there is no user postgres: install the package postgresql (make deps)"
    );
    user
}

/// A command that runs as the unprivileged user.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/");
    command
}

/// Runs it and gives its output; fails with everything that it said.
pub(crate) fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    assert!(out.status.success(), "{command:?} gave {}\n{}", out.status, both(&out));
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

/// Standard output and standard error, one after the other.
pub(crate) fn both(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Where a program is; fails with the package that has it.
pub(crate) fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("`{name}` is missing: install {package} (make deps)"))
}

/// The newest PostgreSQL on this machine, or that of the folder that `BTAR_TEST_POSTGRES` names.
pub(crate) fn postgres_bin() -> PathBuf {
    if let Some(folder) = std::env::var_os("BTAR_TEST_POSTGRES") {
        return Path::new(&folder).join("bin");
    }
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let major = path.file_name()?.to_str()?.parse().ok()?;
            Some((major, path.join("bin"))).filter(|(_, bin)| bin.join("postgres").is_file())
        })
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is missing: install the package postgresql (make deps)").1
}

/// A temporary directory that the unprivileged user owns.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("btar-it-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        give(dir.path());
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A directory in it that the unprivileged user owns.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let dir = self.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        give(&dir);
        dir
    }
}

/// Hands a file or directory to the unprivileged user.
pub(crate) fn give(path: &Path) {
    if let Some((uid, gid)) = postgres_user() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// Asks until `ask` has an answer; fails with `what` after `limit`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} for {what}");
        pause(Duration::from_millis(50));
    }
}

#[allow(clippy::disallowed_methods, reason = "the tests wait for real processes")]
pub(crate) fn pause(period: Duration) {
    std::thread::sleep(period);
}

#[allow(clippy::disallowed_methods, reason = "the tests wait for real processes")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The first of ten ports in a row that are free and stay so: they lie below those from which the system
/// takes the ports of outgoing connections, and each call gives others.
pub(crate) fn ten_free_ports() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    // From 10000 to 31999; tests run in processes of their own or in threads.
    let block = |attempt: u32| (std::process::id() + 401 * calls + attempt) % 2200;
    let first = |attempt| 10_000 + 10 * u16::try_from(block(attempt)).unwrap();
    let is_free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let found = (0..2200).map(first).find(|first| (*first..first + 10).all(is_free));
    found.expect("ten free ports in a row")
}

/// A port of the loopback interface that is free and stays so.
pub(crate) fn free_port() -> u16 {
    ten_free_ports()
}
