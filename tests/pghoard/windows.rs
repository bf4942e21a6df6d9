//! What the engine's catalogue says of the site and of every variant of it that breaks something.

use crate::site::{CHUNKS, DELTA, SITE, Site, block};
use btar::{
    domain::recovery::{RecoveryPlan, RecoveryTarget},
    engine::catalog::{
        learned::NoMemory,
        listing::Extent,
        observe::{Observed, Reader},
        recover,
    },
    layout::{BackupFormat, BackupPlace},
    sealed::keys::Keys,
    store::key::Key,
};
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::{collections::BTreeMap, fs, sync::Arc};

pub(crate) fn reader(site: &Site, keys: Keys) -> Reader {
    let place =
        BackupPlace { format: BackupFormat::PgHoard, prefix: Key::parse(site.prefix).unwrap() };
    Reader::new(Arc::new(site.store()), place, String::new(), Arc::new(NoMemory))
        .with_keys(Arc::new(keys))
}

pub(crate) fn observe(reader: &mut Reader) -> Observed {
    block(reader.observe(Extent::Everything)).unwrap()
}

pub(crate) fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// Backup, first moment, last commit, last gapless segment.
pub(crate) type Restorable = BTreeMap<String, (DateTime<Utc>, DateTime<Utc>, String)>;

pub(crate) fn expected(windows: &Value) -> Restorable {
    let one = |entry: &Value| {
        let segment = entry["last_gapless_segment"].as_str().unwrap().to_owned();
        let range = (time(&entry["earliest"]), time(&entry["latest_commit"]["time"]), segment);
        (entry["backup"].as_str().unwrap().to_owned(), range)
    };
    windows["restorable"].as_array().unwrap().iter().map(one).collect()
}

pub(crate) fn found(observed: &Observed) -> Restorable {
    let restorable = observed.catalog.backups.iter().filter_map(|backup| {
        let range = backup.range.as_ref()?;
        assert!(range.exact, "{range:?}");
        let run = &observed.runs[&backup.name];
        let commit = run.sum().last_xact_time.unwrap();
        assert!(commit <= range.latest);
        let segment = run.last().unwrap().1.place.name();
        Some((backup.name.clone(), (range.earliest, commit, segment)))
    });
    restorable.collect()
}

fn damage(site: &Site, variant: &Value) {
    let texts = |name: &str| variant[name].as_array().unwrap().clone();
    for key in texts("remove_object_and_sidecar") {
        let path = site.path(key.as_str().unwrap());
        fs::remove_file(&path).unwrap();
        fs::remove_file(format!("{}.metadata", path.display())).unwrap();
    }
    for key in texts("remove_sidecar_only") {
        let key = format!("{}.metadata", key.as_str().unwrap().trim_end_matches(".metadata"));
        fs::remove_file(site.path(&key)).unwrap();
    }
    for (key, size) in variant["truncate_object_to_bytes"].as_object().unwrap() {
        let file = fs::OpenOptions::new().write(true).open(site.path(key)).unwrap();
        file.set_len(size.as_u64().unwrap()).unwrap();
    }
    for (key, offset) in variant["flip_one_byte_at_offset"].as_object().unwrap() {
        let mut bytes = fs::read(site.path(key)).unwrap();
        bytes[usize::try_from(offset.as_u64().unwrap()).unwrap()] ^= 0xff;
        fs::write(site.path(key), bytes).unwrap();
    }
}

#[test]
fn the_whole_site_is_restorable_as_it_really_is() {
    let site = Site::new();
    let observed = observe(&mut reader(&site, site.keys()));
    assert_eq!(observed.catalog.problems, Vec::<String>::new());
    assert_eq!(found(&observed), expected(&site.truth()["windows"]));
    assert_eq!(observed.catalog.backups.len(), 3);
}

#[test]
fn every_damage_makes_the_window_as_small_as_it_really_is() {
    let truth = Site::new().truth();
    let variants = truth["variants"].as_array().unwrap();
    assert!(variants.len() >= 11);
    for variant in variants {
        let (site, name) = (Site::new(), variant["name"].as_str().unwrap());
        damage(&site, variant);
        let observed = observe(&mut reader(&site, site.keys()));
        assert_eq!(found(&observed), expected(&variant["expected"]), "{name}");
        let problems = observed.catalog.problems.join("\n");
        assert!(!problems.is_empty() || name == "index-before-its-wal", "{name} is not told");
    }
}

#[test]
fn a_damage_that_is_mended_is_seen_by_the_same_reader() {
    let site = Site::new();
    let mut reader = reader(&site, site.keys());
    let whole = found(&observe(&mut reader));
    for key in ["timeline/00000002.history", "xlog/00000001000000000000000C"] {
        let (from, to) = (site.path(SITE).join(key), site.path("aside"));
        fs::rename(&from, &to).unwrap();
        assert_ne!(found(&observe(&mut reader)), whole, "{key}");
        fs::rename(&to, &from).unwrap();
        assert_eq!(found(&observe(&mut reader)), whole, "{key}");
    }
}

/// Plans a recovery to every target of a site and compares it with the truth; `also` looks at more of each
/// plan. Gives how many targets can be restored and how many are refused.
pub(crate) fn plan_every_target(site: &Site, also: impl Fn(&str, &RecoveryPlan)) -> (usize, usize) {
    let mut reader = reader(site, site.keys());
    let observed = observe(&mut reader);
    let (mut restored, mut refused) = (0, 0);
    for target in site.truth()["targets"].as_array().unwrap() {
        let name = target["name"].as_str().unwrap();
        let at = RecoveryTarget::PointInTime(time(&target["time"]));
        let plan = block(recover::plan(&reader, &observed, at, Utc::now()));
        if target["expect"] == "refuse" {
            assert!(plan.is_err(), "{name} must be refused");
            refused += 1;
            continue;
        }
        let plan = plan.unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(next) = target["first_not_applied"]["lsn"].as_str() {
            assert_eq!(plan.stop.lsn, next.parse().unwrap(), "{name}");
            assert!(!plan.stop.inclusive, "{name}");
        }
        let usable = target["usable_backups"].as_array().unwrap();
        let is_usable = usable.iter().any(|backup| *backup == plan.backup_name.as_str());
        assert!(is_usable, "{name}: {}", plan.backup_name);
        also(name, &plan);
        restored += 1;
    }
    (restored, refused)
}

#[test]
fn every_target_stops_where_postgresql_stops() {
    let (restored, refused) = plan_every_target(&Site::new(), |_, _| ());
    assert!(restored >= 12 && refused >= 3, "{restored} and {refused}");
}

#[test]
fn without_the_key_what_is_covered_is_an_estimate_that_promises_no_more() {
    let site = Site::new();
    let exact = observe(&mut reader(&site, site.keys()));
    let observed = observe(&mut reader(&site, Keys::none()));
    let problems = observed.catalog.problems.join("\n");
    assert!(problems.contains("is an estimate") && problems.contains("`k1`"), "{problems}");
    for (with, without) in exact.catalog.backups.iter().zip(&observed.catalog.backups) {
        assert_eq!(with.name, without.name);
        let (with, range) = (with.range.as_ref().unwrap(), without.range.as_ref());
        if let Some(range) = range {
            assert_eq!(range.earliest, with.earliest, "{}", without.name);
            assert!(range.latest <= with.latest, "{range:?} {with:?}");
        }
    }
    let sealed = observed.catalog.backups.iter().find(|backup| backup.name == DELTA).unwrap();
    assert!(!sealed.range.as_ref().unwrap().exact);
    assert!(observed.catalog.backups.iter().any(|backup| backup.name == CHUNKS));
}
