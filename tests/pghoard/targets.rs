//! Every base backup is restored, and PostgreSQL recovers from it to what `truth.json` says.

use crate::{
    cluster::Cluster,
    site::{CHUNKS, CHUNKS_LATER, DELTA, Site},
};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// Restores `backup`, recovers to the target, compares every row.
fn check(site: &Site, backup: &str, target: &Value) {
    let cluster = Cluster::new();
    site.restore(backup, &cluster.data()).unwrap();
    site.open_log(&cluster.log());
    let last = &target["last_applied"];
    let name = target["name"].as_str().unwrap();
    // After the very last record of the archive there is none to stop at.
    let end = target["first_not_applied"].is_null();
    let lsn = (!end).then(|| last["lsn"].as_str().unwrap());
    let timeline = if end { 2 } else { last["timeline"].as_u64().unwrap() };
    cluster.recover(lsn, timeline);
    let (rows, hash) = cluster.ledger();
    assert_eq!(rows, target["row_count"].as_u64().unwrap(), "{backup} to {name}");
    assert_eq!(hash, target["rows_sha256"].as_str().unwrap(), "{backup} to {name}");
    let accounts = cluster.sql("select count(*) from pgbench_accounts");
    assert_eq!(accounts.as_deref(), Ok("100000"), "{name}");
}

/// All targets that this backup is usable for; of several at least `first..`.
fn every_target_of(backup: &str, step: usize) {
    let site = Site::new();
    let truth = site.truth();
    let usable = |target: &&Value| {
        target["expect"] == "restore"
            && target["usable_backups"].as_array().unwrap().iter().any(|name| name == backup)
    };
    let targets: Vec<&Value> = truth["targets"].as_array().unwrap().iter().filter(usable).collect();
    assert!(targets.len() >= 9, "{backup} has {} targets", targets.len());
    let last = targets.len() - 1;
    for (at, target) in targets.iter().enumerate() {
        if at % step == 0 || at == last {
            check(&site, backup, target);
        }
    }
}

#[test]
fn chunks_to_several_targets() {
    every_target_of(CHUNKS, 3);
}

#[test]
fn later_chunks_to_several_targets() {
    every_target_of(CHUNKS_LATER, 4);
}

#[test]
fn delta_mode_with_encryption_to_every_target() {
    every_target_of(DELTA, 1);
}

#[test]
fn a_restored_directory_is_private_and_whole() {
    let site = Site::new();
    for backup in [CHUNKS, DELTA] {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("data");
        let restored = site.restore(backup, &target).unwrap();
        let mut files = 0;
        walk(&target, &mut |path, meta| {
            let mode = meta.permissions().mode() & 0o7777;
            assert_eq!(mode, if meta.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
            files += u64::from(meta.is_file());
        });
        assert_eq!(files, restored.files);
        for name in ["backup_label", "global/pg_control", "pg_wal/archive_status", "pg_tblspc"] {
            assert!(target.join(name).exists(), "{backup}: {name}");
        }
        for name in [".pghoard_tar_metadata.json", ".btar-restore", "pgdata"] {
            assert!(!target.join(name).exists(), "{backup}: {name}");
        }
    }
}

pub(crate) fn walk(dir: &Path, look: &mut dyn FnMut(&Path, &fs::Metadata)) {
    look(dir, &fs::symlink_metadata(dir).unwrap());
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() { walk(&path, look) } else { look(&path, &meta) }
    }
}
