//! What lies where in the directory of a MySQL or MariaDB fork, and the markers that say what is done.

use crate::{
    domain::{binlog::GtidSet, hex, recovery::BinlogPlan},
    engine::fork::{
        ForkSite,
        error::ForkError,
        mysql::{conf, error::MySqlError},
        site::{file_fault, read_json, remove_file, sync_dir, write_json},
    },
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Version of the markers.
const VERSION: u32 = 1;

/// The paths of one fork.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paths<'a>(pub(super) &'a ForkSite);

/// A step that is done, or that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The binary logs in the fork's directory are of this plan.
    Opening,
    /// The base backup is restored, and the log lies beside it.
    Restored,
    /// The replay has begun: what the server holds is neither the base backup nor the target.
    Replaying,
    /// What the server holds was compared with the plan, and is on the disk.
    Verified,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    version: u32,
    /// SHA-256 of the plan that the step belongs to.
    plan: String,
}

impl Marker {
    fn of(plan: &BinlogPlan) -> Self {
        let text = serde_json::to_vec(plan).expect("a plan has texts as its keys");
        Self { version: VERSION, plan: hex::lower(&Sha256::digest(text)) }
    }
}

impl Paths<'_> {
    /// The binary logs of the source.
    pub(super) fn binlogs(&self) -> PathBuf {
        self.0.dir.join("binlogs")
    }

    /// The fork's own binary logs.
    pub(super) fn own_logs(&self) -> PathBuf {
        self.0.dir.join("log")
    }

    /// What the names of the fork's own binary logs begin with.
    pub(super) fn own_log(&self) -> PathBuf {
        self.own_logs().join("fork")
    }

    pub(super) fn relay_log(&self) -> PathBuf {
        self.own_logs().join("relay")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.0.dir.join("tmp")
    }

    pub(super) fn server_conf(&self) -> PathBuf {
        self.0.dir.join("server.cnf")
    }

    pub(super) fn client_conf(&self) -> PathBuf {
        self.0.dir.join("client.cnf")
    }

    pub(super) fn init_file(&self) -> PathBuf {
        self.0.dir.join("init.sql")
    }

    pub(super) fn backup_key(&self) -> PathBuf {
        self.0.dir.join("backup.key")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.0.dir.join("server.pid")
    }

    /// What the base backup had executed.
    pub(super) fn base_executed(&self) -> PathBuf {
        self.0.dir.join("base-executed.json")
    }

    pub(super) fn identity(&self) -> PathBuf {
        self.0.dir.join("identity.json")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.socket_dir.join("mysql.sock")
    }

    fn marker(&self, step: Step) -> PathBuf {
        self.0.dir.join(match step {
            Step::Opening => "opening",
            Step::Restored => "restored",
            Step::Replaying => "replaying",
            Step::Verified => "verified",
        })
    }

    /// Whether the step was marked for this plan.
    pub(super) fn is_marked(&self, step: Step, plan: &BinlogPlan) -> Result<bool, ForkError> {
        Ok(read_json::<Marker>(&self.marker(step))?.as_ref() == Some(&Marker::of(plan)))
    }

    /// Notes what the restored base backup has executed.
    pub(super) fn note_executed(&self, executed: &GtidSet) -> Result<(), ForkError> {
        write_json(&self.base_executed(), executed)
    }

    /// What the base backup has executed, where that was noted.
    pub(super) fn noted_executed(&self) -> Result<Option<GtidSet>, ForkError> {
        read_json(&self.base_executed())
    }

    pub(super) fn mark(&self, step: Step, plan: &BinlogPlan) -> Result<(), ForkError> {
        write_json(&self.marker(step), &Marker::of(plan))
    }

    /// Whether the base backup is restored and nothing was replayed on it.
    pub(super) fn is_untouched(&self, plan: &BinlogPlan) -> Result<bool, ForkError> {
        Ok(self.is_marked(Step::Restored, plan)? && !self.marker(Step::Replaying).exists())
    }

    /// Removes the markers of what is restored, before it is removed itself: otherwise a crash in
    /// between leaves a marker that is wrong.
    pub(super) fn unmark(&self) -> Result<(), ForkError> {
        for step in [Step::Verified, Step::Restored, Step::Replaying] {
            remove_file(&self.marker(step))?;
        }
        sync_dir(&self.0.dir).map_err(|source| file_fault("syncing", &self.0.dir, source))
    }

    /// Checks that the paths can stand in the server's configuration.
    pub(super) fn check(&self) -> Result<(), ForkError> {
        self.0.check_paths()?;
        for path in [&self.0.dir, &self.0.socket_dir] {
            if !path.to_str().is_some_and(conf::is_writable) {
                return Err(MySqlError::Unwritable { path: path.clone() }.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::{
        binlog::{Flavour, GtidSet},
        recovery::{BaseImage, BaseTool, BinlogObject, Codec},
    };
    use chrono::DateTime;
    use std::path::Path;

    pub(crate) fn plan() -> BinlogPlan {
        BinlogPlan {
            backup_name: "full-1".to_owned(),
            backup_finished_at: DateTime::UNIX_EPOCH,
            restored_bytes: 1000,
            flavour: Flavour::MariaDb,
            server_version: "10.11.19-MariaDB-log".to_owned(),
            base: BaseImage {
                tool: BaseTool::MariaDbBackup,
                parts: vec![("full-1/backup.xb".to_owned(), 500)],
                codec: Codec::None,
                wrapped_key: None,
            },
            log: vec![BinlogObject {
                name: "bin.000001".to_owned(),
                key: "binlogs/bin.000001".to_owned(),
                size_bytes: 2000,
                file_bytes: 2000,
                codec: Codec::None,
                key_id: None,
            }],
            start_offset: Some(500),
            stop_offset: 2000,
            executed: Some(GtidSet::parse(Flavour::MariaDb, "0-11-16").unwrap()),
            anonymous: false,
            transactions: None,
            recovered_to: DateTime::UNIX_EPOCH,
        }
    }

    pub(crate) fn site(dir: &Path) -> ForkSite {
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
        let (paths, mut plan) = (Paths(&site), plan());
        assert!(!paths.is_untouched(&plan).unwrap());
        paths.mark(Step::Restored, &plan).unwrap();
        assert!(paths.is_untouched(&plan).unwrap());
        paths.mark(Step::Replaying, &plan).unwrap();
        paths.mark(Step::Verified, &plan).unwrap();
        assert!(!paths.is_untouched(&plan).unwrap());
        assert!(paths.is_marked(Step::Verified, &plan).unwrap());
        plan.stop_offset += 1;
        assert!(!paths.is_marked(Step::Verified, &plan).unwrap());
        paths.unmark().unwrap();
        plan.stop_offset -= 1;
        assert!(!paths.is_marked(Step::Verified, &plan).unwrap());
        assert!(!paths.is_untouched(&plan).unwrap());
    }

    #[test]
    fn a_path_must_fit_into_a_configuration() {
        let mut site = site(Path::new("/srv/btar"));
        assert!(Paths(&site).check().is_ok());
        site.dir = "/srv/btar/a\"b".into();
        assert!(Paths(&site).check().unwrap_err().to_string().contains("without quotes"));
    }
}
