//! A server whose base backup and log are stored as PGHoard stores them.

use crate::{
    cluster::{Cluster, command},
    support::{Place, source::Mark},
};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

/// Where the site lies in the store.
pub(crate) const SITE: &str = "orders";

/// A server and its site.
pub(crate) struct Backed {
    pub(crate) place: Place,
    pub(crate) source: Cluster,
    version: String,
    /// The last segment that was archived.
    archived: String,
}

impl Backed {
    /// Starts a server with these settings, and the table `orders`.
    pub(crate) fn start(bin: &Path, settings: &str) -> Self {
        let source = Cluster::create(bin, &["--wal-segsize=1"]);
        source.configure(settings);
        source.start();
        source.psql("create table orders (id bigint primary key, note text)");
        let version = source.psql("show server_version_num");
        let place = Place::new();
        place.dir("store");
        Self { place, source, version, archived: String::new() }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.place.path().join("store")
    }

    /// The object of a segment.
    pub(crate) fn segment(&self, name: &str) -> PathBuf {
        self.store().join(SITE).join("xlog").join(name)
    }

    /// Adds `count` orders, ten in a transaction.
    pub(crate) fn insert(&self, count: u64) {
        for _ in 0..count.div_ceil(10) {
            self.source.psql(
                "insert into orders select (select coalesce(max(id), 0) from orders) + n, \
                 repeat(md5(n::text), 20) from generate_series(1, 10) n",
            );
        }
    }

    /// What the table holds now, with a moment at which nothing else was committed.
    pub(crate) fn mark(&self) -> Mark {
        self.mark_between("select 1", "select 1")
    }

    /// The same, with a statement right before it and one right behind it, in the same session.
    pub(crate) fn mark_between(&self, before: &str, behind: &str) -> Mark {
        let said = self.source.psql(&format!(
            "{before};; select pg_sleep(0.02);; select to_char(clock_timestamp() at time zone 'UTC', \
             'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), count(*), coalesce(sum(id), 0) from orders;; \
             select pg_sleep(0.02);; {behind}"
        ));
        let row = said.lines().find(|line| line.contains('|')).unwrap();
        let parts: Vec<&str> = row.split('|').collect();
        let number = |at: usize| parts[at].parse().unwrap();
        Mark { time: parts[0].to_owned(), rows: number(1), sum: number(2) }
    }

    /// Stores a full base backup of one file.
    pub(crate) fn base_backup(&self, name: &str) {
        self.try_base_backup(name, &[]).unwrap();
    }

    /// Stores a base backup of the kind that these arguments make.
    pub(crate) fn try_base_backup(&self, name: &str, arguments: &[&OsStr]) -> Result<(), String> {
        let started = self.mark().time;
        let made = command(self.source.bin.join("pg_basebackup"))
            .args(["-c", "fast", "-X", "none", "-Ft", "-D", "-", "-h"])
            .arg(self.source.dir.path())
            .args(arguments)
            .output()
            .unwrap();
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned());
        }
        let label = String::from_utf8_lossy(&made.stdout).into_owned();
        let start = &label.split_once("(file ").unwrap().1[..24];
        let metadata = json!({
            "start-time": started, "start-wal-segment": start, "pg-version": self.version,
        });
        self.put(&format!("basebackup/{name}"), &made.stdout, metadata);
        Ok(())
    }

    /// The manifest that `pg_basebackup` wrote into a base backup, as a file.
    pub(crate) fn manifest(&self, name: &str) -> PathBuf {
        let packed = fs::File::open(self.store().join(SITE).join("basebackup").join(name)).unwrap();
        let tar = zstd::decode_all(packed).unwrap();
        let mut archive = tar::Archive::new(&*tar);
        let is_manifest =
            |entry: &tar::Entry<'_, &[u8]>| entry.path().unwrap().as_os_str() == "backup_manifest";
        let mut entry = archive.entries().unwrap().map(Result::unwrap).find(is_manifest).unwrap();
        let file = self.place.path().join("backup_manifest");
        std::io::copy(&mut entry, &mut fs::File::create(&file).unwrap()).unwrap();
        file
    }

    /// Closes the segment and stores all that are closed.
    pub(crate) fn archive(&mut self) {
        self.source.psql("select pg_switch_wal();; select txid_current()");
        let current = self.source.psql("select pg_walfile_name(pg_current_wal_insert_lsn())");
        let files = fs::read_dir(self.source.wal()).unwrap();
        let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let is_new = |name: &String| name.len() == 24 && *name > self.archived && *name < current;
        let mut names: Vec<String> = names.filter(is_new).collect();
        names.sort();
        for name in &names {
            let plain = fs::read(self.source.wal().join(name)).unwrap();
            let hash: String = Sha1::digest(&plain).iter().map(|b| format!("{b:02x}")).collect();
            let metadata = json!({
                "hash": hash, "hash-algorithm": "sha1", "pg-version": self.version,
            });
            self.put(&format!("xlog/{name}"), &plain, metadata);
        }
        self.archived = names.pop().unwrap();
    }

    fn put(&self, key: &str, plain: &[u8], mut metadata: Value) {
        metadata["compression-algorithm"] = json!("zstd");
        metadata["original-file-size"] = json!(plain.len().to_string());
        let path = self.store().join(SITE).join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, zstd::encode_all(plain, 1).unwrap()).unwrap();
        fs::write(format!("{}.metadata", path.display()), metadata.to_string()).unwrap();
    }
}
