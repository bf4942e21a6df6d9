//! What lies where in a fork's directory, the markers that say what is done, and the space for it.

use crate::{
    domain::{lsn::Lsn, recovery::RecoveryPlan},
    engine::fork::{ForkSite, error::ForkError},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs,
    io::{self, Write as _},
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

/// Longest path of a socket, in bytes (`sun_path` of `unix(7)`, without the final zero).
const SOCKET_PATH_MAX: usize = 107;
/// How often a directory is removed in which something appears meanwhile.
const REMOVALS_MAX: u32 = 10;
/// Version of the markers.
const VERSION: u32 = 1;

/// The base backup is restored, and its configuration is put aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Restored {
    version: u32,
    backup: String,
}

impl Restored {
    pub(super) fn of(plan: &RecoveryPlan) -> Self {
        Self { version: VERSION, backup: plan.backup_name.clone() }
    }
}

/// Cluster and position were compared with the plan, so that the server may be promoted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verified {
    version: u32,
    replayed_to: Lsn,
    system_identifier: u64,
}

impl Verified {
    pub(super) fn of(plan: &RecoveryPlan) -> Self {
        Self {
            version: VERSION,
            replayed_to: plan.stop.replayed_to,
            system_identifier: plan.system_identifier,
        }
    }
}

impl ForkSite {
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn tablespaces(&self) -> PathBuf {
        self.dir.join("tablespaces")
    }

    pub(super) fn server_log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    pub(super) fn pgbackrest_conf(&self) -> PathBuf {
        self.dir.join("pgbackrest.conf")
    }

    pub(super) fn pgbackrest_files(&self) -> PathBuf {
        self.dir.join("pgbackrest")
    }

    pub(super) fn fetch_plan(&self) -> PathBuf {
        self.dir.join("wal-fetch.json")
    }

    /// There while a server is being stopped.
    pub(super) fn stopping(&self) -> PathBuf {
        self.dir.join("stopping")
    }

    fn restored(&self) -> PathBuf {
        self.dir.join("restored")
    }

    fn verified(&self) -> PathBuf {
        self.dir.join("verified")
    }

    /// Whether this plan's base backup is restored here.
    pub(super) fn is_restored(&self, plan: &RecoveryPlan) -> Result<bool, ForkError> {
        Ok(read_json::<Restored>(&self.restored())?.as_ref() == Some(&Restored::of(plan)))
    }

    /// Whether this plan's position was reached and compared.
    pub(super) fn is_verified(&self, plan: &RecoveryPlan) -> Result<bool, ForkError> {
        Ok(read_json::<Verified>(&self.verified())?.as_ref() == Some(&Verified::of(plan)))
    }

    pub(super) fn mark_restored(&self, plan: &RecoveryPlan) -> Result<(), ForkError> {
        write_json(&self.restored(), &Restored::of(plan))
    }

    pub(super) fn mark_verified(&self, plan: &RecoveryPlan) -> Result<(), ForkError> {
        write_json(&self.verified(), &Verified::of(plan))
    }

    /// Removes the markers, before what they speak of is removed: otherwise a crash in between
    /// leaves a marker that is wrong.
    pub(super) fn unmark(&self) -> Result<(), ForkError> {
        remove_file(&self.verified())?;
        remove_file(&self.restored())?;
        sync_dir(&self.dir).map_err(|source| file_fault("syncing", &self.dir, source))
    }

    /// Makes both directories, open to this user alone, and checks their paths.
    pub(super) fn prepare(&self) -> Result<(), ForkError> {
        self.check_paths()?;
        make_private_dir(&self.dir)?;
        make_private_dir(&self.socket_dir)
    }

    /// Checks that the paths can hold a fork. What a mistake here would delete is not a fork's.
    pub(super) fn check_paths(&self) -> Result<(), ForkError> {
        for path in [&self.dir, &self.socket_dir] {
            let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
            if !path.is_absolute() || !plain || path.components().count() < 3 {
                let why = "write an absolute path of at least two directories without `..`";
                return Err(ForkError::Path { path: path.clone(), why });
            }
            let text = path.to_str().unwrap_or("\n");
            if text.contains(|c: char| c.is_control()) || text.contains(',') {
                let why = "use a path of printable UTF-8 characters without commas";
                return Err(ForkError::Path { path: path.clone(), why });
            }
        }
        let socket = self.socket_dir.join(format!(".s.PGSQL.{}", self.port));
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            let why = "the path of a socket has at most 107 bytes; choose a shorter directory";
            return Err(ForkError::Path { path: socket, why });
        }
        Ok(())
    }
}

/// Checks that base backup, log and reserve fit on the disk.
pub(super) fn check_space(
    site: &ForkSite,
    plan: &RecoveryPlan,
    disk_reserve_bytes: u64,
) -> Result<(), ForkError> {
    let log_bytes = plan.segment_size.bytes().saturating_mul(plan.log.len() as u64);
    check_room(site, plan.restored_bytes, log_bytes, disk_reserve_bytes)
}

/// Checks that so much fits on the disk.
pub(super) fn check_room(
    site: &ForkSite,
    base_bytes: u64,
    log_bytes: u64,
    reserve_bytes: u64,
) -> Result<(), ForkError> {
    let existing = site.dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(existing)
        .map_err(|source| file_fault("looking at the disk of", existing, source.into()))?;
    let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed_bytes = base_bytes.saturating_add(log_bytes).saturating_add(reserve_bytes);
    if needed_bytes > free_bytes {
        return Err(ForkError::DiskSpace {
            dir: existing.to_owned(),
            needed_bytes,
            base_bytes,
            log_bytes,
            reserve_bytes,
            free_bytes,
        });
    }
    Ok(())
}

/// Checks that nobody listens on the fork's public port.
pub(super) fn check_port(site: &ForkSite) -> Result<(), ForkError> {
    let (host, port) = (site.host.clone(), site.port);
    match TcpListener::bind((host.as_str(), port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(ForkError::PortTaken { host, port })
        }
        Err(source) => Err(ForkError::PortUnusable { host, port, source }),
    }
}

/// Writes a file in one step: a reader sees the old or the new one, also after a power cut.
pub(super) fn write_file(path: &Path, text: &str) -> Result<(), ForkError> {
    let fault = |source| file_fault("writing", path, source);
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&staged)
        .map_err(fault)?;
    file.write_all(text.as_bytes()).map_err(fault)?;
    file.sync_all().map_err(fault)?;
    fs::rename(&staged, path).map_err(fault)?;
    sync_dir(path.parent().unwrap_or(Path::new("/"))).map_err(fault)
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ForkError> {
    write_file(path, &serde_json::to_string(value).expect("a marker has no maps"))
}

/// A marker that cannot be read stands for nothing.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ForkError> {
    Ok(read_file(path)?.and_then(|text| serde_json::from_str(&text).ok()))
}

/// A small file, or `None` when there is none.
pub(super) fn read_file(path: &Path) -> Result<Option<String>, ForkError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(file_fault("reading", path, source)),
    }
}

/// Removes a file that may be missing.
pub(super) fn remove_file(path: &Path) -> Result<(), ForkError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file_fault("removing", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a directory that may be missing, with all that is in it. Links are not followed.
pub(super) async fn remove_dir(path: &Path) -> Result<(), ForkError> {
    let mut removals = 1;
    loop {
        match tokio::fs::remove_dir_all(path).await {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A run that was broken off may still have finished a file of its own.
            Err(error)
                if error.kind() == io::ErrorKind::DirectoryNotEmpty && removals < REMOVALS_MAX =>
            {
                removals += 1;
            }
            Err(error) => return Err(file_fault("removing", path, error)),
        }
    }
}

/// Makes a directory, and its parents, for this user alone.
pub(super) fn make_private_dir(path: &Path) -> Result<(), ForkError> {
    let fault = |source| file_fault("making", path, source);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fault)?;
    // It may have been there with another mode.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(path, mode).map_err(fault)
}

pub(super) fn file_fault(doing: &'static str, path: &Path, source: io::Error) -> ForkError {
    ForkError::File { doing, path: path.to_owned(), source }
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// Size of the files below a directory, in bytes. What cannot be read counts nothing.
pub(super) fn size_below(dir: &Path) -> u64 {
    let mut open = vec![dir.to_owned()];
    let mut bytes = 0;
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => open.push(entry.path()),
                Ok(meta) if meta.is_file() => bytes += meta.len(),
                Ok(_) | Err(_) => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        domain::{
            lsn::{SegmentSize, Timeline},
            recovery::StopPoint,
        },
        engine::fork::runner::preflight,
    };
    use chrono::DateTime;

    pub(crate) fn plan() -> RecoveryPlan {
        RecoveryPlan {
            backup_name: "20261123-075157F".to_owned(),
            backup_finished_at: DateTime::UNIX_EPOCH,
            restored_bytes: 1000,
            system_identifier: 7_711_271_521_840_637_771,
            postgres_major: 15,
            timeline: Timeline(1),
            segment_size: SegmentSize::DEFAULT,
            stop: StopPoint {
                lsn: Lsn(0x0900_0060),
                inclusive: true,
                replayed_to: Lsn(0x0900_00A0),
            },
            recovered_to: DateTime::UNIX_EPOCH,
            log: Vec::new(),
            histories: Vec::new(),
            parameter_floor: None,
        }
    }

    fn site(dir: &Path) -> ForkSite {
        ForkSite {
            dir: dir.join("fork"),
            socket_dir: dir.join("socket"),
            host: "127.0.0.1".to_owned(),
            port: 0,
        }
    }

    #[test]
    fn a_marker_counts_for_its_own_plan_only() {
        let dir = tempfile::tempdir().unwrap();
        let site = site(dir.path());
        site.prepare().unwrap();
        let mut plan = plan();
        assert!(!site.is_restored(&plan).unwrap());
        site.mark_restored(&plan).unwrap();
        site.mark_verified(&plan).unwrap();
        assert!(site.is_restored(&plan).unwrap() && site.is_verified(&plan).unwrap());
        plan.stop.replayed_to = Lsn(1);
        assert!(site.is_restored(&plan).unwrap() && !site.is_verified(&plan).unwrap());
        plan.backup_name = "other".to_owned();
        assert!(!site.is_restored(&plan).unwrap());
        site.unmark().unwrap();
        assert!(!site.is_verified(&tests::plan()).unwrap());
    }

    #[test]
    fn space_and_port_are_looked_at_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut site = site(dir.path());
        preflight(&site, &plan(), 0).unwrap();
        let full = preflight(&site, &plan(), u64::MAX).unwrap_err().to_string();
        assert!(full.contains("disk space"), "{full}");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        site.port = listener.local_addr().unwrap().port();
        let taken = preflight(&site, &plan(), 0).unwrap_err().to_string();
        assert!(taken.contains("port") && taken.contains("taken"), "{taken}");
    }

    #[test]
    fn paths_that_would_harm_are_refused() {
        let mut site = site(Path::new("/srv/btar"));
        assert!(site.check_paths().is_ok());
        for bad in ["/", "/srv", "relative/dir", "/srv/../etc", "/srv/a,b"] {
            site.dir = PathBuf::from(bad);
            assert!(site.check_paths().is_err(), "{bad}");
        }
        site.dir = PathBuf::from("/srv/btar/fork");
        site.socket_dir = PathBuf::from(format!("/srv/{}", "s".repeat(100)));
        assert!(site.check_paths().unwrap_err().to_string().contains("107 bytes"));
    }
}
