//! Base backups that the tests make themselves: other formats and codings, tablespaces, hostile tar files.

use crate::{
    cluster::Cluster,
    oracle::{hex, pipe},
    site::{SITE, Site, block, chain, restore_from},
    windows::observe,
};
use btar::{
    domain::recovery::RecoveryTarget,
    engine::catalog::{learned::NoMemory, observe::Reader, recover},
    layout::{BackupFormat, BackupPlace},
    restore::{Restored, error::RestoreError, tablespaces::Placement},
    sealed::keys::Keys,
    store::{
        key::Key,
        local::{LocalStore, Sidecars},
    },
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

const ID: &str = "2026-12-01_10-00_0";

/// A site that is written by hand. Objects are encrypted with openssl for the fixture's key.
struct Made {
    site: Site,
    dir: tempfile::TempDir,
    compression: &'static str,
    sealed: bool,
}

/// An entry of a tar file.
enum Entry<'a> {
    File(&'a str, &'a [u8]),
    Dir(&'a str),
    /// Name, kind and target.
    Odd(&'a str, tar::EntryType, &'a str),
}
use Entry::{Dir, File, Odd};

fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o4777); // Never taken over.
        let (name, kind, target, contents): (_, _, _, &[u8]) = match entry {
            File(name, contents) => (name, tar::EntryType::Regular, "", contents),
            Dir(name) => (name, tar::EntryType::Directory, "", b""),
            Odd(name, kind, target) => (name, *kind, *target, b""),
        };
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        // Written by hand: the library does not write what would lead elsewhere.
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        out.append(&header, contents).unwrap();
    }
    out.into_inner().unwrap()
}

impl Made {
    fn new(compression: &'static str, sealed: bool) -> Self {
        Self { site: Site::new(), dir: tempfile::tempdir().unwrap(), compression, sealed }
    }

    fn pack(&self, plain: &[u8]) -> Vec<u8> {
        match self.compression {
            "zstd" => pipe("zstd", &["-q", "-c"], plain),
            "lzma" => pipe("xz", &["-c"], plain),
            "snappy" => {
                let mut out = snap::write::FrameEncoder::new(Vec::new());
                out.write_all(plain).unwrap();
                out.into_inner().unwrap()
            }
            other => panic!("{other}"),
        }
    }

    fn seal(&self, data: &[u8]) -> Vec<u8> {
        let secrets: Vec<u8> = pipe("openssl", &["rand", "64"], &[]);
        let (aes, counter) = (hex(&secrets[..16]), hex(&secrets[16..32]));
        let key = self.site.path("keys/k1.pub.pem");
        let args = ["pkeyutl", "-encrypt", "-pubin", "-inkey", key.to_str().unwrap()];
        let oaep = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1"];
        let block = pipe("openssl", &[&args[..], &oaep].concat(), &secrets);
        let data = pipe("openssl", &["enc", "-aes-128-ctr", "-K", &aes, "-iv", &counter], data);
        let mac_key = format!("hexkey:{}", hex(&secrets[32..]));
        let args = ["dgst", "-sha256", "-mac", "HMAC", "-macopt", &mac_key, "-binary"];
        let footer = pipe("openssl", &args, &data);
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [b"pghoa1".as_slice(), &length, &block, &data, &footer].concat()
    }

    /// Writes an object with its metadata, and gives its size.
    fn put(&self, key: &str, plain: &[u8], mut metadata: Value) -> usize {
        let mut object = self.pack(plain);
        metadata["compression-algorithm"] = json!(self.compression);
        metadata["original-file-size"] = json!(plain.len().to_string());
        if self.sealed {
            object = self.seal(&object);
            metadata["encryption-key-id"] = json!("k1");
        }
        let path = self.dir.path().join(SITE).join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &object).unwrap();
        fs::write(format!("{}.metadata", path.display()), metadata.to_string()).unwrap();
        object.len()
    }

    /// A base backup of one chunk with these entries.
    fn chunks(&self, entries: &[Entry<'_>], tablespaces: Value) {
        let tar = tar_of(entries);
        let file = format!("{ID}/{ID}.00000001.pghoard");
        let size = self.put(&format!("basebackup_chunk/{file}"), &tar, json!({}));
        let chunk = json!({"chunk_filename": file, "input_size": tar.len(), "result_size": size});
        self.index("pghoard-bb-v2", json!({"chunks": [chunk], "tablespaces": tablespaces}));
    }

    fn index(&self, format: &str, mut index: Value) {
        index["backup_start_wal_segment"] = json!("000000010000000000000002");
        let text = index.to_string();
        let tar = tar_of(&[
            File(".pghoard_tar_metadata.json", text.as_bytes()),
            File("pgdata/global/pg_control", b"control"),
            File("pgdata/backup_label", b"label"),
            Dir("pgdata/pg_wal"),
        ]);
        let mut metadata = marked();
        metadata["format"] = json!(format);
        self.put(&format!("basebackup/{ID}.00000000.pghoard"), &tar, metadata);
    }

    fn store(&self) -> LocalStore {
        LocalStore::with_sidecars(self.dir.path().to_owned(), Sidecars::Json)
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn restore(&self, placement: &Placement) -> Result<Restored, RestoreError> {
        restore_from(&self.store(), ID, &self.target(), &self.site.keys(), placement)
    }
}

fn marked() -> Value {
    json!({
        "start-time": "2026-12-01T10:00:00+00:00",
        "end-time": "2026-12-01 10:00:01.000001+00:00",
        "start-wal-segment": "000000010000000000000002",
        "end-wal-segment": "000000010000000000000002",
        "pg-version": "150018",
    })
}

const VERSION: Entry<'static> = File("pgdata/PG_VERSION", b"15\n");

#[test]
fn every_coding_of_our_own_objects_and_tablespaces() {
    for (compression, sealed) in
        [("zstd", false), ("snappy", false), ("snappy", true), ("lzma", false), ("lzma", true)]
    {
        let made = Made::new(compression, sealed);
        let big: Vec<u8> = (0..900_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let entries = [
            VERSION,
            File("pgdata/base/1/2", &big),
            File("pgdata/conf/a.conf", b"x"),
            Odd("pgdata/a.conf", tar::EntryType::Symlink, "conf/a.conf"),
            Odd("pgdata/again", tar::EntryType::Link, "pgdata/base/1/2"),
            Dir("tablespaces/fast"),
            File("tablespaces/fast/PG_15_202209061/5/16385", b"in a tablespace"),
        ];
        made.chunks(&entries, json!({"fast": {"oid": 16384, "path": "/mnt/fast"}}));

        let nowhere = made.restore(&Placement::default()).unwrap_err();
        assert!(chain(&nowhere).contains("`fast`") && chain(&nowhere).contains("/mnt/fast"));
        let inside = Placement::below(made.target().join("spaces"));
        assert!(matches!(made.restore(&inside), Err(RestoreError::NoTablespace { .. })));

        let spaces = made.dir.path().join("spaces");
        made.restore(&Placement::below(&spaces)).unwrap();
        let data = made.target();
        assert!(fs::read(data.join("base/1/2")).unwrap() == big, "{compression}");
        assert!(fs::read(data.join("again")).unwrap() == big);
        assert_eq!(fs::read(data.join("a.conf")).unwrap(), b"x");
        assert_eq!(fs::read_link(data.join("pg_tblspc/16384")).unwrap(), spaces.join("16384"));
        let through = data.join("pg_tblspc/16384/PG_15_202209061/5/16385");
        assert_eq!(fs::read(through).unwrap(), b"in a tablespace");
        assert_eq!(fs::read(data.join("global/pg_control")).unwrap(), b"control");
    }
}

#[test]
fn what_is_no_part_of_a_data_directory_is_refused() {
    use tar::EntryType as Kind;
    for (entry, word) in [
        (File("../escaped", b"x"), ".."),
        (File("pgdata/../../escaped", b"x"), ".."),
        (File("/escaped", b"x"), "absolute"),
        (File("elsewhere", b"x"), "neither below"),
        (File("pgdata/PG_VERSION/x", b"x"), "directory"),
        (VERSION, "twice"),
        (Odd("pgdata/pg_wal2", Kind::Symlink, "/etc"), "link out of"),
        (Odd("pgdata/x", Kind::Symlink, "../.."), "link out of"),
        (Odd("pgdata/x", Kind::Link, "/etc/passwd"), "absolute"),
        (Odd("pgdata/x", Kind::Link, "pgdata/absent"), "not there"),
        (Odd("pgdata/null", Kind::Char, ""), "no file"),
        (Odd("pgdata/sda", Kind::Block, ""), "no file"),
        (Odd("pgdata/pipe", Kind::Fifo, ""), "no file"),
        (File("tablespaces/other/x", b"x"), "tablespace"),
        (File("pgdata/.btar-restore", b"x"), "marker"),
    ] {
        let made = Made::new("zstd", false);
        made.chunks(&[VERSION, entry], json!({}));
        let error = made.restore(&Placement::default()).unwrap_err();
        let text = chain(&error);
        assert!(text.contains(word), "{word}: {text}");
        assert!(text.contains("basebackup_chunk") || word == "directory", "{word}: {text}");
        assert!(!made.dir.path().join("escaped").exists() && !Path::new("/escaped").exists());
        assert!(!made.target().join("global/pg_control").exists());
    }
}

#[test]
fn a_link_never_leads_a_later_file_elsewhere() {
    let made = Made::new("zstd", false);
    let entries =
        [VERSION, Odd("pgdata/a", tar::EntryType::Symlink, "base"), File("pgdata/a/file", b"x")];
    made.chunks(&entries, json!({}));
    // Links are made in the end, and find a directory in their place.
    assert!(made.restore(&Placement::default()).is_err());
    assert!(!made.target().join("base/file").exists());
}

#[test]
fn a_tar_file_that_ends_early_is_refused() {
    let made = Made::new("zstd", false);
    let tar = tar_of(&[VERSION, File("pgdata/base/1/2", &[7; 5000])]);
    let cut = &tar[..2048];
    let file = format!("{ID}/{ID}.00000001.pghoard");
    let size = made.put(&format!("basebackup_chunk/{file}"), cut, json!({}));
    let chunk = json!({"chunk_filename": file, "input_size": cut.len(), "result_size": size});
    made.index("pghoard-bb-v2", json!({"chunks": [chunk], "tablespaces": {}}));
    let error = made.restore(&Placement::default()).unwrap_err();
    assert!(chain(&error).contains("base/1/2"), "{}", chain(&error));
}

#[test]
fn delta_mode_with_files_that_share_contents() {
    let made = Made::new("snappy", true);
    let contents = vec![42; 100_000];
    let digest = {
        use blake2::Digest;
        hex(&blake2::Blake2s256::digest(&contents))
    };
    made.put(&format!("basebackup_delta/{digest}"), &contents, json!({}));
    let bundle = tar_of(&[File("base/1/3", b"small"), File("pgdata/own", b"theirs")]);
    let file = format!("{ID}/{ID}.00000001.pghoard");
    let size = made.put(&format!("basebackup_delta_chunk/{file}"), &bundle, json!({}));
    let entry = |path: &str, more: Value| {
        let mut entry = json!({"relative_path": path, "file_size": contents.len(), "mtime_ns": 1});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    let shared = json!({"hexdigest": digest, "stored_file_size": 1, "content_b64": null});
    let mut files = vec![
        entry("base/1/1", shared.clone()),
        entry("base/1/2", shared),
        entry("base/1/3", json!({"should_be_bundled": true, "missing_ok": false})),
        entry("base/1/4", json!({"should_be_bundled": true, "missing_ok": true})),
        entry("PG_VERSION", json!({"file_size": 3, "content_b64": "MTUK", "hexdigest": ""})),
    ];
    let chunk = json!({"chunk_filename": file, "input_size": bundle.len(), "result_size": size});
    let index = |files: &[Value]| {
        let state = json!({"root_globs": ["**/*"], "files": files, "empty_dirs": [".", "base"]});
        json!({"chunks": [chunk], "tablespaces": {},
            "manifest": {"snapshot_result": {"state": state}}})
    };
    made.index("pghoard-delta-v2", index(&files));
    made.restore(&Placement::default()).unwrap();
    for name in ["base/1/1", "base/1/2"] {
        assert!(fs::read(made.target().join(name)).unwrap() == contents);
    }
    assert_eq!(fs::read(made.target().join("pgdata/own")).unwrap(), b"theirs");

    // A file that was not allowed to vanish.
    files.push(entry("base/1/5", json!({"should_be_bundled": true, "missing_ok": false})));
    made.index("pghoard-delta-v2", index(&files));
    fs::remove_dir_all(made.target()).unwrap();
    let error = made.restore(&Placement::default()).unwrap_err();
    assert!(matches!(&error, RestoreError::MissingFile(name) if name == "base/1/5"), "{error}");
    // The same as a chunked backup, which it is not.
    made.index("pghoard-bb-v2", index(&files));
    let error = made.restore(&Placement::default()).unwrap_err();
    assert!(chain(&error).contains("different formats"), "{}", chain(&error));
}

/// Modes `basic` and `pipe`: what `pg_basebackup` writes, in one object.
#[test]
fn one_tar_file_of_pg_basebackup_starts() {
    let source = Cluster::new();
    source.init();
    source.sql("create table t as select generate_series(1, 1000) as n").unwrap();
    let tar = source.base_backup();
    source.sql("insert into t values (0)").unwrap();
    for (compression, sealed) in [("snappy", true), ("lzma", false)] {
        let made = Made::new(compression, sealed);
        let mut metadata = marked();
        for name in ["end-time", "end-wal-segment"] {
            metadata.as_object_mut().unwrap().remove(name);
        }
        made.put(&format!("basebackup/{ID}"), &tar, metadata);
        let copy = Cluster::new();
        fs::create_dir(copy.log()).unwrap();
        let (store, keys) = (made.store(), made.site.keys());
        restore_from(&store, ID, &copy.data(), &keys, &Placement::default()).unwrap();
        // The log that it needs is in it.
        copy.recover(None, 1);
        assert_eq!(copy.sql("select count(*) from t"), Ok("1000".to_owned()));
    }
}

/// A base backup in one file, sealed, of a server that goes on; the segments from its start on to its end
/// and behind it, archived by nobody yet; and a moment just behind its end.
fn one_file_of(source: &Cluster) -> (Made, Vec<String>, Vec<String>, DateTime<Utc>) {
    let tar = source.base_backup();
    let ended = Utc::now();
    let ended_in = source.sql("select pg_walfile_name(pg_current_wal_lsn() - 1)").unwrap();
    for n in 1..=2 {
        source.sql(&format!("insert into t values (-{n})")).unwrap();
        source.sql("select pg_switch_wal()").unwrap();
    }
    source.sql("insert into t values (-3)").unwrap(); // Not archived any more.
    let label = String::from_utf8_lossy(&tar).into_owned();
    let start = label.split_once("(file ").unwrap().1[..24].to_owned();
    let made = Made::new("zstd", true);
    let mut metadata = marked();
    for name in ["end-time", "end-wal-segment"] {
        metadata.as_object_mut().unwrap().remove(name);
    }
    metadata["start-wal-segment"] = json!(start);
    made.put(&format!("basebackup/{ID}"), &tar, metadata);
    let files = fs::read_dir(source.data().join("pg_wal")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut segments: Vec<String> =
        names.filter(|name| name.len() == 24 && *name >= start).collect();
    segments.sort();
    let current = source.sql("select pg_walfile_name(pg_current_wal_lsn())").unwrap();
    let whole = segments.into_iter().filter(|name| *name < current);
    let (before, behind): (Vec<_>, Vec<_>) = whole.partition(|name| *name <= ended_in);
    assert!(!before.is_empty() && behind.len() >= 2, "{before:?} {behind:?}");
    (made, before, behind, ended)
}

/// The end of such a base backup is a record of the log, and what is later is offered.
#[test]
fn the_log_tells_when_one_tar_file_of_pg_basebackup_ended() {
    let source = Cluster::new();
    source.init();
    source.sql("create table t as select generate_series(1, 1000) as n").unwrap();
    let (made, before, behind, ended) = one_file_of(&source);
    let archive = |name: &String| {
        let plain = fs::read(source.data().join("pg_wal").join(name)).unwrap();
        let sum = hex(&pipe("openssl", &["sha1", "-binary"], &plain));
        made.put(&format!("xlog/{name}"), &plain, json!({"hash": sum, "hash-algorithm": "sha1"}));
    };
    let place = BackupPlace { format: BackupFormat::PgHoard, prefix: Key::parse(SITE).unwrap() };
    let store = Arc::new(made.store());
    let mut reader = Reader::new(store, place, String::new(), Arc::new(NoMemory))
        .with_keys(Arc::new(made.site.keys()));
    before.iter().for_each(archive);
    let early = observe(&mut reader).catalog;
    let why = early.problems.join("\n");
    assert!(early.backups.is_empty() && why.contains("has no later time than its end"), "{why}");

    behind.iter().for_each(archive);
    let first = observe(&mut reader);
    let seen = observe(&mut reader);
    assert_eq!((first.catalog.problems.len(), &first.catalog), (0, &seen.catalog));
    let range = seen.catalog.backups[0].range.clone().unwrap();
    // The server's clock is ours, and nothing was committed before the first row.
    assert!(ended <= range.earliest && range.earliest < range.latest, "{range:?} {ended}");
    let plan = |target| block(recover::plan(&reader, &seen, target, Utc::now())).unwrap();
    let first = plan(RecoveryTarget::PointInTime(range.earliest));
    let last = plan(RecoveryTarget::LatestTransaction);
    let listed = &seen.look.backups[0];
    let end = seen.runs[&listed.label].consistent_at(listed).unwrap();
    assert!(end < first.stop.replayed_to && first.stop.replayed_to < last.stop.replayed_to);

    let copy = Cluster::new();
    fs::create_dir(copy.log()).unwrap();
    for name in before.iter().chain(&behind) {
        fs::copy(source.data().join("pg_wal").join(name), copy.log().join(name)).unwrap();
    }
    let (store, keys) = (made.store(), made.site.keys());
    restore_from(&store, ID, &copy.data(), &keys, &Placement::default()).unwrap();
    copy.recover(Some(&last.stop.lsn.to_string()), 1);
    assert_eq!(copy.sql("select count(*) from t"), Ok("1002".to_owned()));
}

#[test]
fn a_restore_that_is_called_off_leaves_its_marker() {
    use btar::restore;
    let site = Site::new();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("data");
    let stop = tokio_util::sync::CancellationToken::new();
    // Called off by the first progress that is reported.
    let progress = |_| stop.cancel();
    let (store, prefix) = (site.store(), Key::parse(SITE).unwrap());
    let result = block(restore::restore(&restore::Order {
        store: &store,
        prefix: &prefix,
        backup: crate::site::CHUNKS,
        keys: &Keys::none(),
        target: &target,
        tablespaces: &Placement::default(),
        parallel: std::num::NonZeroUsize::MIN,
        progress: &progress,
        stop: &stop,
    }));
    assert!(matches!(result, Err(RestoreError::Interrupted)), "{result:?}");
    assert!(target.join(".btar-restore").exists());
    assert!(!target.join("global/pg_control").exists());
    site.restore(crate::site::CHUNKS, &target).unwrap();
}
