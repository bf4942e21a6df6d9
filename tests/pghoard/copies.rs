//! Copies of the site by the plan's own steps: what arrives late, changes or disappears on the way.

use crate::{
    oracle::{hex, pipe},
    site::{CHUNKS, DELTA, SITE, Site, block},
    windows::{observe, reader},
};
use btar::{
    domain::recovery::RecoveryTarget,
    engine::{
        catalog::{
            learned::NoMemory,
            listing::Extent,
            observe::Reader,
            recover::{self, RecoverError},
        },
        error::AppError,
        replicate::{
            execute::{Progress, Sides, execute},
            plan::{CopyPlan, plan},
        },
    },
    layout::{BackupFormat, BackupPlace},
    sealed::keys::Keys,
    store::{
        key::Key,
        local::{LocalStore, Sidecars},
    },
};
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};
use tokio_util::sync::CancellationToken;

/// A site and its copy, which is empty at first.
struct Copying {
    site: Site,
    dir: tempfile::TempDir,
}

impl Copying {
    fn new() -> Self {
        Self { site: Site::new(), dir: tempfile::tempdir().unwrap() }
    }

    fn whole() -> Self {
        let copying = Self::new();
        assert_eq!(copying.passes(), Vec::<String>::new());
        copying
    }

    fn target(&self) -> LocalStore {
        LocalStore::with_sidecars(self.dir.path().to_owned(), Sidecars::Json)
    }

    fn copy_reader(&self, keys: Keys) -> Reader {
        let place =
            BackupPlace { format: BackupFormat::PgHoard, prefix: Key::parse(SITE).unwrap() };
        Reader::new(Arc::new(self.target()), place, String::new(), Arc::new(NoMemory))
            .with_keys(Arc::new(keys))
    }

    fn plan(&self, damaged: &[&str]) -> CopyPlan {
        let (mut from, mut to) =
            (reader(&self.site, self.site.keys()), self.copy_reader(self.site.keys()));
        let source = block(from.look(Extent::Everything)).unwrap();
        let target = block(to.look(Extent::Everything)).unwrap();
        let damaged: BTreeSet<String> = damaged.iter().map(|key| (*key).to_owned()).collect();
        plan(&BackupFormat::PgHoard, &source, &target, &damaged)
    }

    /// Carries a plan out; gives what failed.
    fn carry_out(&self, plan: &CopyPlan) -> Vec<String> {
        let prefix = Key::parse(SITE).unwrap();
        let sides = Sides {
            source: Arc::new(self.site.store()),
            source_prefix: prefix.clone(),
            target: Arc::new(self.target()),
            target_prefix: prefix,
        };
        let (progress, stop) = (Progress::default(), CancellationToken::new());
        let run = |stages| block(execute(&sides, stages, 4, &progress, &stop));
        let errors = run(&plan.log).into_iter().chain(run(&plan.data));
        errors.map(|error| error.to_string()).collect()
    }

    /// Passes until nothing is left to do; gives what failed.
    fn passes(&self) -> Vec<String> {
        let mut errors = Vec::new();
        for _ in 0..4 {
            let plan = self.plan(&[]);
            if steps(&plan).is_empty() {
                return errors;
            }
            errors.extend(self.carry_out(&plan));
        }
        assert!(!errors.is_empty(), "the copy does not come to rest");
        errors
    }

    fn copied(&self, key: &str) -> PathBuf {
        self.dir.path().join(SITE).join(key)
    }

    fn primary(&self, key: &str) -> PathBuf {
        self.site.path(SITE).join(key)
    }

    /// Writes an object of the primary region and its metadata over what is there.
    fn put(&self, key: &str, bytes: &[u8], change: impl FnOnce(&mut Value)) {
        let path = self.primary(key);
        let sidecar = format!("{}.metadata", path.display());
        let mut metadata = fs::read_to_string(&sidecar)
            .map_or_else(|_| Value::Object(<_>::default()), |text| text.parse().unwrap());
        metadata["Content-Length"] = bytes.len().to_string().into();
        metadata["_hash"] = hex(&pipe("openssl", &["sha256", "-binary"], bytes)).into();
        change(&mut metadata);
        fs::write(path, bytes).unwrap();
        fs::write(sidecar, metadata.to_string()).unwrap();
    }
}

fn steps(plan: &CopyPlan) -> Vec<&str> {
    let stages = plan.log.iter().chain(&plan.data);
    stages.flat_map(|stage| stage.steps.iter().map(|step| step.key())).collect()
}

const SEGMENT: &str = "xlog/00000001000000000000000C";

fn chunk() -> String {
    format!("basebackup_chunk/{CHUNKS}/{CHUNKS}.00000001.pghoard")
}

fn index() -> String {
    format!("basebackup/{CHUNKS}.00000000.pghoard")
}

#[test]
fn a_copy_is_the_site_and_comes_to_rest() {
    let copying = Copying::whole();
    let (there, copy) = (
        observe(&mut reader(&copying.site, copying.site.keys())),
        observe(&mut copying.copy_reader(copying.site.keys())),
    );
    assert_eq!(there.catalog.backups, copy.catalog.backups);
    assert_eq!(copying.plan(&[]).problems, Vec::<String>::new());
}

#[test]
fn a_segment_that_was_uploaded_again_stays_and_another_one_of_its_name_is_told() {
    let copying = Copying::whole();
    let before = fs::read(copying.copied(SEGMENT)).unwrap();
    let plain = copying.site.open(SEGMENT).unwrap();
    for level in ["-1", "-19"] {
        let again = pipe("zstd", &["-q", "-c", level], &plain);
        assert_ne!(again.len(), before.len());
        copying.put(SEGMENT, &again, |metadata| {
            metadata["compression-algorithm"] = "zstd".into();
            metadata.as_object_mut().unwrap().remove("encryption-key-id");
        });
        let plan = copying.plan(&[]);
        assert_eq!(steps(&plan), Vec::<&str>::new());
        assert_eq!(plan.problems, Vec::<String>::new());
    }
    let plan = copying.plan(&[SEGMENT]);
    assert_eq!(steps(&plan), [SEGMENT], "what is damaged is replaced");

    copying.put(SEGMENT, b"other", |metadata| metadata["hash"] = "ab".repeat(20).into());
    let plan = copying.plan(&[]);
    assert_eq!(steps(&plan), Vec::<&str>::new());
    let problems = plan.problems.join("\n");
    assert!(problems.contains("00000001000000000000000C has other contents"), "{problems}");
    assert_eq!(fs::read(copying.copied(SEGMENT)).unwrap(), before);
}

#[test]
fn what_has_no_metadata_yet_waits_for_them() {
    for key in [chunk(), "timeline/00000002.history".to_owned(), SEGMENT.to_owned()] {
        let copying = Copying::new();
        let sidecar = format!("{}.metadata", copying.primary(&key).display());
        let aside = copying.site.path("aside");
        fs::rename(&sidecar, &aside).unwrap();
        copying.passes();
        assert!(!copying.copied(&key).exists(), "{key}");
        fs::rename(&aside, &sidecar).unwrap();
        assert_eq!(copying.passes(), Vec::<String>::new());
        assert!(copying.copied(&format!("{key}.metadata")).exists(), "{key}");
    }
}

#[test]
fn a_copy_without_metadata_is_replaced() {
    let copying = Copying::whole();
    let sidecar = copying.copied(&format!("{SEGMENT}.metadata"));
    fs::remove_file(&sidecar).unwrap();
    assert_eq!(copying.passes(), Vec::<String>::new());
    assert!(sidecar.exists());
}

#[test]
fn a_primary_that_was_truncated_later_truncates_nothing() {
    let copying = Copying::whole();
    for key in [chunk(), index(), SEGMENT.to_owned()] {
        let whole = fs::read(copying.copied(&key)).unwrap();
        fs::write(copying.primary(&key), &whole[..whole.len() / 2]).unwrap();
        copying.passes();
        assert_eq!(fs::read(copying.copied(&key)).unwrap(), whole, "{key}");
    }
    let copy = observe(&mut copying.copy_reader(copying.site.keys()));
    assert!(copy.catalog.backups.iter().all(|backup| backup.range.is_some()));
}

#[test]
fn a_truncated_copy_is_replaced_by_what_the_index_names() {
    let copying = Copying::whole();
    let whole = fs::read(copying.primary(&chunk())).unwrap();
    fs::write(copying.copied(&chunk()), &whole[1..]).unwrap();
    assert_eq!(copying.passes(), Vec::<String>::new());
    assert_eq!(fs::read(copying.copied(&chunk())).unwrap(), whole);
}

#[test]
fn a_backup_that_expires_while_it_is_copied_is_not_published() {
    for gone in [vec![index()], vec![chunk()], vec![index(), chunk(), SEGMENT.to_owned()]] {
        let copying = Copying::new();
        let plan = copying.plan(&[]);
        for key in &gone {
            fs::remove_file(copying.primary(key)).unwrap();
        }
        copying.carry_out(&plan);
        copying.passes();
        assert!(!copying.copied(&index()).exists(), "{gone:?}");
    }
}

#[test]
fn a_backup_in_one_file_is_offered_when_the_log_tells_its_end() {
    let copying = Copying::whole();
    let key = "basebackup/2026-11-23_08-00_0";
    copying.put(key, b"a tar file", |metadata| {
        metadata["start-time"] = "2026-11-23T08:00:00+00:00".into();
        metadata["start-wal-segment"] = "000000010000000000000001".into();
    });
    assert_eq!(copying.passes(), Vec::<String>::new());
    assert_eq!(fs::read(copying.copied(key)).unwrap(), b"a tar file");
    let offered = |keys: Keys| {
        let copy = observe(&mut copying.copy_reader(keys));
        let backups = copy.catalog.backups.into_iter();
        let found = backups.filter(|backup| key.ends_with(&backup.name)).find_map(|b| b.range);
        (found, copy.catalog.problems.join("\n"))
    };
    let (none, why) = offered(copying.site.keys());
    assert!(none.is_none() && why.contains("does not say it (yet)"), "{why}");

    // The log knows the end of the one that began where another one of the site did.
    let truth = copying.site.truth();
    let real = truth["windows"]["restorable"].as_array().unwrap();
    let real = real.iter().find(|entry| entry["backup"] == CHUNKS).unwrap();
    let end: DateTime<Utc> = real["earliest"].as_str().unwrap().parse().unwrap();
    let started = copying.site.raw(&format!("{SITE}/{}", index()))["start-wal-segment"].clone();
    let change = |sealed: bool| {
        copying.put(key, b"a tar file", |metadata| {
            metadata["start-wal-segment"] = started.clone().into();
            if sealed {
                metadata["encryption-key-id"] = "k1".into();
            }
        });
        fs::remove_file(copying.copied(key)).unwrap();
        assert_eq!(copying.passes(), Vec::<String>::new());
    };
    change(false);
    let (range, why) = offered(copying.site.keys());
    let range = range.unwrap_or_else(|| panic!("{why}"));
    assert!(range.earliest >= end && range.earliest <= range.latest, "{range:?} {end}");
    change(true);
    let (none, why) = offered(Keys::none());
    assert!(none.is_none() && why.contains("does not say when it ended"), "{why}");
    assert!(why.contains("`k1`, whose private key is not configured"), "{why}");
    let (none, why) = offered(copying.site.keys());
    assert!(none.is_none() && why.contains("it does not begin as an encrypted object"), "{why}");
}

#[test]
fn without_the_key_a_recovery_is_refused_by_the_name_of_the_key() {
    let site = Site::new();
    let mut reader = reader(&site, Keys::none());
    let observed = observe(&mut reader);
    let newest = observed.catalog.backups.iter().rev().find_map(|b| b.range.clone()).unwrap();
    for target in [RecoveryTarget::LatestTransaction, RecoveryTarget::PointInTime(newest.earliest)]
    {
        let refused = block(recover::plan(&reader, &observed, target, Utc::now())).unwrap_err();
        let AppError::Refused { code, text } = refused.into() else { panic!("another refusal") };
        assert_eq!(code, "private_key_missing");
        assert!(text.contains("`k1`") && text.contains("[[private_key]]"), "{text}");
    }
}

#[test]
fn a_key_that_does_not_fit_is_told_and_nothing_is_offered() {
    let site = Site::new();
    let other = pipe("openssl", &["genpkey", "-algorithm", "RSA", "-quiet"], &[]);
    let mut keys = Keys::none();
    keys.add("k1", &String::from_utf8(other).unwrap()).unwrap();
    let mut reader = reader(&site, keys);
    let observed = observe(&mut reader);
    let problems = observed.catalog.problems.join("\n");
    assert!(problems.contains("private key") && problems.contains("`k1`"), "{problems}");
    // The first base backups and their log are not encrypted. What is, is not offered.
    let offered = observed.catalog.backups.iter().filter(|backup| backup.range.is_some());
    let offered: Vec<&str> = offered.map(|backup| backup.name.as_str()).collect();
    assert!(!offered.contains(&DELTA));
    let truth = site.truth();
    let end: DateTime<Utc> = truth["windows"]["spans"][0][1].as_str().unwrap().parse().unwrap();
    let at = RecoveryTarget::PointInTime(end);
    let refused = block(recover::plan(&reader, &observed, at, Utc::now())).unwrap_err();
    assert!(matches!(refused, RecoverError::Violation(_)), "{refused}");
    // What can be read is not the latest transaction.
    let latest = RecoveryTarget::LatestTransaction;
    let refused = block(recover::plan(&reader, &observed, latest, Utc::now())).unwrap_err();
    let AppError::Refused { code, text } = refused.into() else { panic!("another refusal") };
    assert_eq!(code, "private_key_wrong");
    assert!(text.contains("`k1`") && text.contains(DELTA), "{text}");
    // Also when it is the log alone that cannot be read.
    fs::remove_file(site.path(&format!("{SITE}/basebackup/{DELTA}.00000000.pghoard"))).unwrap();
    let observed = observe(&mut reader);
    assert!(observed.look.wrong_keys.is_empty());
    let refused = block(recover::plan(&reader, &observed, latest, Utc::now())).unwrap_err();
    assert!(matches!(&refused, RecoverError::WrongKey { what, .. } if what.contains("xlog/")));
}

#[test]
fn a_damaged_object_of_the_right_size_ends_what_it_carried() {
    let site = Site::new();
    let mut reader = reader(&site, site.keys());
    let offered = |reader: &mut Reader| {
        let backups = observe(reader).catalog.backups;
        let whole = backups.into_iter().filter(|backup| backup.range.is_some());
        whole.map(|backup| backup.name).collect::<Vec<_>>()
    };
    let all = offered(&mut reader);
    for key in [chunk(), index()] {
        reader.heed(BTreeSet::from([key.clone()]));
        let left = offered(&mut reader);
        assert!(left.len() + 1 == all.len() && !left.contains(&CHUNKS.to_owned()), "{key}");
        reader.heed(BTreeSet::new());
        assert_eq!(offered(&mut reader), all, "{key}");
    }
}
