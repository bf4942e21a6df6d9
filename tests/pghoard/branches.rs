//! A site whose database was set back three times: which life a moment is of, and what base backups of
//! all lives share. What must come out is in the `truth.json` of that site, which PostgreSQL confirmed.

use crate::{
    cluster::Cluster,
    site::{Site, block, chain},
    windows::{Restorable, expected, found, observe, plan_every_target, reader, time},
};
use btar::{
    domain::recovery::RecoveryTarget, engine::catalog::recover, restore::error::RestoreError,
    sealed::keys::Keys,
};
use chrono::Utc;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What `truth.json` says of base backups, by their places in the story.
fn backups(truth: &Value) -> BTreeMap<String, Value> {
    let all = truth["base_backups"].as_array().unwrap();
    all.iter().map(|backup| (text(&backup["role"]), backup.clone())).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(text).collect()
}

/// Compares windows. The base backup in one file does not say when it ended: it may be offered from a
/// little later on, and never earlier.
fn assert_windows(truth: &Value, mut found: Restorable, windows: &Value, name: &str) {
    let mut expected = expected(windows);
    let sixth = text(&backups(truth)["sixth"]["id"]);
    match (found.remove(&sixth), expected.remove(&sixth)) {
        (Some(offered), Some(real)) => {
            assert!(offered.0 >= real.0 && offered.0 <= real.1, "{name}: {offered:?} {real:?}");
            assert_eq!((offered.1, offered.2), (real.1, real.2), "{name}");
        }
        (offered, real) => assert_eq!(offered, real, "{name}"),
    }
    assert_eq!(found, expected, "{name}");
}

/// What each base backup leads to, whether that is offered or not.
fn all_windows(truth: &Value) -> impl Iterator<Item = &Value> {
    let list = |name: &str| truth["windows"][name].as_array().unwrap();
    list("restorable").iter().chain(list("given_up"))
}

#[test]
fn every_base_backup_reaches_the_end_of_the_newest_life_that_it_leads_to() {
    let site = Site::branches();
    let observed = observe(&mut reader(&site, site.keys()));
    assert_eq!(observed.catalog.problems, Vec::<String>::new());
    let truth = site.truth();
    assert_windows(&truth, found(&observed), &truth["windows"], "whole");
    for window in all_windows(&truth) {
        let run = &observed.runs[window["backup"].as_str().unwrap()];
        assert_eq!(u64::from(run.run.timeline.0), window["timeline"].as_u64().unwrap());
    }
    // They are whole, and still no answer: PostgreSQL itself finds no way from them to `latest`.
    let given_up = truth["windows"]["given_up"].as_array().unwrap();
    assert_eq!(given_up.len(), 3);
    for window in given_up {
        let name = window["backup"].as_str().unwrap();
        let backup = observed.catalog.backups.iter().find(|backup| backup.name == name).unwrap();
        assert_eq!((&backup.missing, &backup.range), (&vec![], &None), "{name}");
        let fatal = truth["abandoned_backups_with_latest"][name].as_str().unwrap();
        assert!(fatal.contains("could not locate required checkpoint record"), "{fatal}");
    }
    let frontier = observed.catalog.frontier.unwrap();
    assert_eq!(frontier.segment, truth["timelines"][3]["last_archived_segment"]);
}

/// Damages a site as a variant says; gives the files as they were.
fn damage(site: &Site, variant: &Value) -> Vec<(PathBuf, Vec<u8>)> {
    let mut whole = Vec::new();
    let mut take = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        whole.push((path.clone(), bytes.clone()));
        (path, bytes)
    };
    for key in texts(&variant["objects"]) {
        let (object, sidecar) = (site.path(&key), site.path(&format!("{key}.metadata")));
        match variant["damage"].as_str().unwrap() {
            "remove" => {
                fs::remove_file(take(object).0).unwrap();
                fs::remove_file(take(sidecar).0).unwrap();
            }
            "remove sidecar" => fs::remove_file(take(sidecar).0).unwrap(),
            "flip" => {
                let (path, mut bytes) = take(object);
                let at = variant["flip_byte_at_offset"].as_u64().unwrap();
                bytes[usize::try_from(at).unwrap()] ^= 0xff;
                fs::write(path, bytes).unwrap();
            }
            other => panic!("{other}"),
        }
    }
    whole
}

/// One reader sees all of them, one after the other, as an engine does: what it remembers of the whole
/// site must not hide a damage, and what it remembers of a damage must not outlast it.
#[test]
fn every_damage_makes_the_windows_as_small_as_it_must_until_it_is_mended() {
    let site = Site::branches();
    let truth = site.truth();
    let mut reader = reader(&site, site.keys());
    let variants = truth["variants"].as_array().unwrap();
    assert!(variants.len() >= 18);
    for variant in variants {
        let name = variant["name"].as_str().unwrap();
        let whole = damage(&site, variant);
        let observed = observe(&mut reader);
        assert_windows(&truth, found(&observed), &variant["expected"], name);
        // What is listed and cannot be restored, and what has become shorter, is told.
        let told = !observed.catalog.problems.is_empty();
        let silent = ["abandoned-backup-gone", "switch-3-of-timeline-1-missing"];
        assert!(told || silent.contains(&name), "{name} is not told");
        for (path, bytes) in whole {
            fs::write(path, bytes).unwrap();
        }
    }
    let observed = observe(&mut reader);
    assert_windows(&truth, found(&observed), &truth["windows"], "mended");
    assert_eq!(observed.catalog.problems, Vec::<String>::new());
}

#[test]
fn a_moment_is_of_the_present_life_whichever_others_have_it() {
    let (restored, refused) = plan_every_target(&Site::branches(), |name, plan| {
        assert_eq!(plan.timeline.0, 4, "{name}");
    });
    assert!(restored >= 28 && refused == 3, "{restored} and {refused}");
}

/// Restores a base backup and recovers to the end of a timeline.
fn check(site: &Site, log: &Path, window: &Value) {
    let (cluster, backup) = (Cluster::new(), window["backup"].as_str().unwrap());
    site.restore(backup, &cluster.data()).unwrap();
    fs::create_dir(cluster.log()).unwrap();
    for entry in fs::read_dir(log).unwrap() {
        let entry = entry.unwrap();
        fs::hard_link(entry.path(), cluster.log().join(entry.file_name())).unwrap();
    }
    cluster.recover(None, window["timeline"].as_u64().unwrap());
    let (rows, sum) = cluster.ledger();
    assert_eq!(rows, window["row_count_at_latest"].as_u64().unwrap(), "{backup}");
    assert_eq!(sum, window["rows_sha256_at_latest"].as_str().unwrap(), "{backup}");
    // Every page of every file: the cluster has checksums.
    let accounts = cluster.sql("select count(*), sum(id), min(length(name)) from accounts");
    assert_eq!(accounts.as_deref(), Ok("4000|8002000|32"), "{backup}");
    assert_eq!(cluster.sql("show data_checksums").as_deref(), Ok("on"), "{backup}");
}

#[test]
fn every_base_backup_is_whole_whatever_it_shares_with_those_of_other_lives() {
    let site = Site::branches();
    let truth = site.truth();
    assert_eq!(all_windows(&truth).count(), 7);
    let log = site.path("log");
    site.open_log(&log);
    for window in all_windows(&truth) {
        check(&site, &log, window);
    }
}

#[test]
fn each_shared_file_is_opened_as_it_was_stored_and_needs_the_key_of_that_time() {
    let site = Site::branches();
    let of = backups(&site.truth());
    let only = |id: &str| {
        let mut keys = Keys::none();
        keys.add(id, &fs::read_to_string(site.path(&format!("keys/{id}.pem"))).unwrap()).unwrap();
        keys
    };
    let restore = |role: &str, keys: &Keys| {
        let dir = tempfile::tempdir().unwrap();
        site.restore_with(of[role]["id"].as_str().unwrap(), &dir.path().join("data"), keys)
    };
    // Neither the first nor the second is encrypted; the third and what it shares need k1.
    for (role, keys) in [("second", Keys::none()), ("third", only("k1")), ("fourth", only("k2"))] {
        restore(role, &keys).unwrap_or_else(|error| panic!("{role}: {}", chain(&error)));
    }
    // The seventh is for k1, and shares a file with the abandoned fourth, which was for k2.
    assert_eq!(texts(&of["seventh"]["encryption_key_ids"]), ["k1", "k2"]);
    for (id, missing) in [("k1", "`k2`"), ("k2", "`k1`")] {
        let error = chain(&restore("seventh", &only(id)).unwrap_err());
        assert!(error.contains(missing), "{error}");
    }
}

#[test]
fn a_flipped_byte_in_what_base_backups_share_is_found_and_named() {
    let of = backups(&Site::branches().truth());
    let objects = |role: &str, kind: &str| texts(&of[role][kind]);
    let shared = objects("second", "delta_objects");
    let deployed = objects("fourth", "delta_objects");
    let deployed: Vec<_> = deployed.iter().filter(|key| !shared.contains(key)).collect();
    for (key, roles) in [
        (&objects("first", "chunk_objects")[2], &["first"][..]),
        (&objects("third", "chunk_objects")[0], &["third"]),
        (&shared[7], &["second", "seventh"]),
        (deployed[0], &["fourth"]),
        (&text(&of["sixth"]["index_object"]), &["sixth"]),
    ] {
        let site = Site::branches();
        let path = site.path(key);
        let whole = fs::read(&path).unwrap();
        for at in [3, whole.len() / 3, whole.len() - 2] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            for role in roles {
                let dir = tempfile::tempdir().unwrap();
                let target = dir.path().join("data");
                let error = site.restore(of[*role]["id"].as_str().unwrap(), &target).unwrap_err();
                assert!(!matches!(error, RestoreError::MissingObject(_)), "{error}");
                assert!(chain(&error).contains(key.as_str()), "{}", chain(&error));
                assert!(!target.join("global/pg_control").exists());
            }
        }
    }
}

#[test]
fn a_fork_at_the_latest_transaction_needs_to_know_where_the_newest_timeline_begins() {
    let site = Site::branches();
    let truth = site.truth();
    let of = backups(&truth);
    let mut reader = reader(&site, site.keys());
    let mut latest = || {
        let observed = observe(&mut reader);
        block(recover::plan(&reader, &observed, RecoveryTarget::LatestTransaction, Utc::now()))
    };
    let plan = latest().unwrap();
    assert_eq!((plan.timeline.0, &plan.backup_name), (4, &text(&of["seventh"]["id"])));
    // The seventh base backup is on timeline 4 itself, and leads to its end without the file.
    fs::remove_file(site.path("branches/timeline/00000004.history")).unwrap();
    assert_eq!(latest().unwrap().timeline.0, 4);
    // The others would end with timeline 3, in what was abandoned.
    fs::remove_file(site.path(of["seventh"]["index_object"].as_str().unwrap())).unwrap();
    let error = latest().unwrap_err();
    assert!(matches!(error, recover::RecoverError::UnknownTimeline(_)), "{error}");
    assert!(error.to_string().contains("00000004.history"), "{error}");
}

/// Removes all segments but those of one timeline.
fn keep_segments(site: &Site, timeline: &str) {
    for entry in fs::read_dir(site.path("branches/xlog")).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with(timeline) {
            fs::remove_file(&path).unwrap();
        }
    }
}

/// PGHoard was set up, or the log has expired, after the timeline had begun.
#[test]
fn a_site_that_begins_on_a_later_timeline_needs_no_history() {
    let site = Site::branches();
    let truth = site.truth();
    let seventh = text(&backups(&truth)["seventh"]["id"]);
    for entry in fs::read_dir(site.path("branches/basebackup")).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with(&seventh) {
            fs::remove_file(&path).unwrap();
        }
    }
    keep_segments(&site, "00000004");
    fs::remove_dir_all(site.path("branches/timeline")).unwrap();
    let observed = observe(&mut reader(&site, site.keys()));
    assert_eq!(observed.catalog.problems, Vec::<String>::new());
    let whole = expected(&truth["windows"]);
    assert_eq!(found(&observed), Restorable::from([(seventh.clone(), whole[&seventh].clone())]));
}

/// A standby was promoted, wrote its history file and nothing else, and was thrown away.
#[test]
fn a_timeline_whose_log_is_not_there_hides_no_base_backup_of_the_one_that_goes_on() {
    let site = Site::branches();
    let truth = site.truth();
    let of = backups(&truth);
    for role in ["fifth", "sixth", "seventh"] {
        fs::remove_file(site.path(of[role]["index_object"].as_str().unwrap())).unwrap();
    }
    keep_segments(&site, "00000001");
    for timeline in [3, 4] {
        fs::remove_file(site.path(&format!("branches/timeline/{timeline:08X}.history"))).unwrap();
    }
    let mut reader = reader(&site, site.keys());
    let observed = observe(&mut reader);
    let fourth = text(&of["fourth"]["id"]);
    let given_up = truth["windows"]["given_up"].as_array().unwrap();
    let window = given_up.iter().find(|window| window["backup"] == fourth.as_str()).unwrap();
    let latest = time(&window["latest_commit"]["time"]);
    let (from, to, _) = &found(&observed)[&fourth];
    assert_eq!((*from, *to), (time(&window["earliest"]), latest));
    let plan = recover::plan(&reader, &observed, RecoveryTarget::PointInTime(latest), Utc::now());
    let plan = block(plan).unwrap();
    assert_eq!((plan.backup_name, plan.timeline.0), (fourth, 1));
}

#[test]
fn without_a_key_no_more_is_promised_and_no_other_life_is_taken_instead() {
    let site = Site::branches();
    let truth = site.truth();
    let whole = expected(&truth["windows"]);
    for (first, id) in ["k2", "k1"].into_iter().enumerate() {
        let mut keys = Keys::none();
        keys.add(id, &fs::read_to_string(site.path(&format!("keys/{id}.pem"))).unwrap()).unwrap();
        let mut reader = reader(&site, keys);
        let observed = observe(&mut reader);
        // The file that says where timeline 4 begins is for k1: without it 3 is the newest that is known.
        let lost = (id == "k2").then_some(["last-moment", "abandoned-with-timeline-3"]);
        for backup in &observed.catalog.backups {
            let Some(range) = &backup.range else { continue };
            let (earliest, latest, _) = &whole[&backup.name];
            assert!(range.earliest >= *earliest && range.latest <= *latest, "{id}: {backup:?}");
        }
        // Each takes a segment to be read: half of them with one key, half with the other.
        let (mut restored, targets) = (0, truth["targets"].as_array().unwrap());
        for target in targets.iter().skip(first).step_by(2) {
            let at = RecoveryTarget::PointInTime(time(&target["time"]));
            let plan = block(recover::plan(&reader, &observed, at, Utc::now()));
            let (name, Ok(plan)) = (target["name"].as_str().unwrap(), plan) else { continue };
            assert_eq!(target["expect"], "restore", "{id}: {name}");
            if lost.is_some_and(|lost| lost.contains(&name)) {
                continue;
            }
            let next = target["first_not_applied"]["lsn"].as_str().map(|lsn| lsn.parse().unwrap());
            assert!(next.is_none_or(|next| plan.stop.lsn == next), "{id}: {name}");
            restored += 1;
        }
        assert!(restored >= 3, "{id}: {restored}");
    }
}
