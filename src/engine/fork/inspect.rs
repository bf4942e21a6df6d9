//! What the system says of processes: who works where, how much it has done, whether it is gone.

use rustix::process::Pid;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// How many words of a dynamic loader's command line come before the program's own arguments.
const LOADER_WORDS_MAX: usize = 5;
/// Servers of MySQL and MariaDB.
const MYSQL_SERVERS: &[&str] = &["mariadbd", "mysqld"];

/// Whether process `pid` is a PostgreSQL that works in `data`. A number alone proves nothing: after
/// a reboot it may be anybody's.
pub(super) fn is_server(pid: i32, data: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    comm(&process).as_deref() == Some("postgres")
        && fs::read_link(process.join("cwd")).is_ok_and(|cwd| same_dir(&cwd, data))
}

/// The server of MySQL or MariaDB that works in `data`, its data directory.
pub(super) fn mysql_server_in(data: &Path) -> Option<i32> {
    working_in(data, MYSQL_SERVERS).first().map(|pid| pid.as_raw_nonzero().get())
}

/// Whether a process has ended with all of its threads: until then it may write, and holds its port.
pub(super) fn is_gone(pid: i32) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let Ok(stat) = fs::read_to_string(process.join("stat")) else { return true };
    // One that only waits for its parent has the state Z and no thread but the first (`proc(5)`).
    let ended = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'));
    ended && fs::read_dir(process.join("task")).map_or(0, Iterator::count) <= 1
}

/// Time that a process has used on a core, in clock ticks. It grows as long as the process works.
pub(super) fn ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets and may hold anything (`proc(5)`).
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The file below `dir` that a process reads, and how far it is, in bytes.
pub(super) fn reads_below(pid: i32, dir: &Path) -> Option<(PathBuf, u64)> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let open = fs::read_dir(process.join("fd")).ok()?.flatten();
    let file = |entry: fs::DirEntry| {
        let path = fs::read_link(entry.path()).ok().filter(|path| path.starts_with(dir))?;
        let info = fs::read_to_string(process.join("fdinfo").join(entry.file_name())).ok()?;
        let at = info.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()?;
        Some((path, at))
    };
    open.filter_map(file).next()
}

/// Programs named in `names` whose working directory lies in `dir`.
pub(super) fn working_in(dir: &Path, names: &[&str]) -> Vec<Pid> {
    let Ok(dir) = fs::canonicalize(dir) else { return Vec::new() };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let works_here = |process: &Path| {
        fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&dir))
            && is_one_of(process, names)
    };
    let own = std::process::id().to_string();
    processes
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| *name != *own) && works_here(path))
        .filter_map(|path| Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?))
        .collect()
}

/// Whether a process is one of these programs, also when a dynamic loader was called to load it.
fn is_one_of(process: &Path, names: &[&str]) -> bool {
    match comm(process) {
        Some(name) if name.starts_with("ld-linux") => {
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0).take(LOADER_WORDS_MAX);
            words.any(|word| {
                let name = word.rsplit(|byte| *byte == b'/').next();
                name.is_some_and(|name| names.iter().any(|known| known.as_bytes() == name))
            })
        }
        Some(name) => names.contains(&name.as_str()),
        None => false,
    }
}

fn comm(process: &Path) -> Option<String> {
    Some(fs::read_to_string(process.join("comm")).ok()?.trim_end().to_owned())
}

fn same_dir(one: &Path, other: &Path) -> bool {
    fs::canonicalize(other).is_ok_and(|other| one == other)
}
