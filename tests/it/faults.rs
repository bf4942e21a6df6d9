//! What goes wrong, and what the person is told.

use crate::{
    acceptance::module,
    support::{engine::World, pause, source::Recorded, terraform::Module, wait_for},
};
use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// A world whose copy covers every recorded moment.
fn replicated() -> (Recorded, World) {
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.start();
    world.enable();
    world.wait_covered(&recorded.restorable().last().unwrap().time);
    (recorded, world)
}

/// The files below `dir` whose path contains `part`, in order.
fn files(dir: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_str().unwrap().contains(part) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The WAL segments of the copy.
fn segments(world: &World) -> Vec<PathBuf> {
    files(&world.copy().join("archive"), "/0000000100000000/")
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "zst"))
        .collect()
}

#[test]
fn a_plan_names_the_nearest_valid_time_at_every_wrong_one() {
    let (recorded, world) = replicated();
    let (start, end) = world.window().unwrap();
    let module_dir = Module::new(&world.url, &module(None));
    assert_eq!(module_dir.apply().code, 0);
    let check = |time: &str, code: i32, words: &[&str]| {
        module_dir.write(&module(Some(time)));
        let run = module_dir.plan();
        assert_eq!(run.code, code, "{time}: {}", run.text);
        let text = run.text.replace(['\n', '│'], " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(text.contains(word), "{time}: no `{word}` in {text}");
        }
    };
    check(&start, 2, &["1 to add"]);
    check(&end, 2, &["1 to add"]);
    check(
        "2020-01-01T00:00:00Z",
        1,
        &["outside the restore window", "nearest valid time is", "recovery_target_time"],
    );
    check(&recorded.marks[0].time, 1, &["outside the restore window", "nearest valid time is"]);
    check(&recorded.marks.last().unwrap().time, 1, &["outside the restore window"]);
    check("2999-01-01T00:00:00Z", 1, &["is in the future"]);
    check("yesterday", 1, &["is not a time"]);
}

#[test]
fn a_hole_in_the_copied_log_ends_the_window_and_is_named() {
    let (recorded, mut world) = replicated();
    world.lose_primary();
    world.kill();
    let all = segments(&world);
    // The last segment is not needed by any backup: what lies behind the hole must not count.
    let hole = &all[all.len() - 2];
    let name = hole.file_name().unwrap().to_str().unwrap()[..24].to_owned();
    fs::remove_file(hole).unwrap();
    world.start();
    let last = &recorded.restorable().last().unwrap().time;
    wait_for("a shorter window", Duration::from_secs(20), || {
        let (_, end) = world.window()?;
        (end.as_str() < last.as_str()).then_some(())
    });
    let refused = world.fork("beyond", Some(last));
    assert_eq!(refused.status, 400, "{}", refused.body);
    let text = refused.body["message"].as_str().unwrap();
    assert!(
        text.contains("outside the restore window") && text.contains("nearest valid time"),
        "{text}"
    );
    let (_, status) = world.btar(&["status", "--url", &world.url]);
    assert!(status.contains(&name), "status names the missing segment {name}:\n{status}");
    // What the copy still covers is restored exactly.
    let mark = &recorded.restorable()[1];
    assert_eq!(world.fork("within", Some(&mark.time)).status, 200);
    let uri = world.wait_running("within");
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));
}

#[test]
fn a_truncated_segment_in_the_copy_is_repaired_from_the_primary() {
    let (recorded, world) = replicated();
    let all = segments(&world);
    let victim = &all[all.len() - 2];
    let whole = fs::read(victim).unwrap();
    fs::write(victim, &whole[..whole.len() / 2]).unwrap();
    wait_for("the repair", Duration::from_secs(20), || {
        (fs::read(victim).unwrap_or_default() == whole).then_some(())
    });
    world.wait_covered(&recorded.restorable().last().unwrap().time);
}

#[test]
fn a_damaged_segment_without_the_primary_ends_the_window_and_is_named() {
    let (recorded, mut world) = replicated();
    world.lose_primary();
    let all = segments(&world);
    let last = &recorded.restorable().last().unwrap().time;
    // Of the same size, so that only its contents tell.
    let flipped = &all[all.len() - 2];
    let mut bytes = fs::read(flipped).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(flipped, bytes).unwrap();
    let name = flipped.file_name().unwrap().to_str().unwrap()[..24].to_owned();
    wait_for("a shorter window", Duration::from_secs(20), || {
        let (_, end) = world.window()?;
        (end.as_str() < last.as_str()).then_some(())
    });
    let (_, status) = world.btar(&["status", "--url", &world.url]);
    let damaged = format!("WAL segment {name} is damaged");
    assert!(status.contains(&damaged), "{status}");
    // Cut short, and found by an engine that has never seen it whole.
    let cut = fs::read(&all[all.len() - 3]).unwrap();
    fs::write(&all[all.len() - 3], &cut[..cut.len() / 2]).unwrap();
    world.kill();
    fs::remove_file(world.place.path().join("engine/state.sqlite")).unwrap();
    world.start();
    world.enable();
    let name = all[all.len() - 3].file_name().unwrap().to_str().unwrap()[..24].to_owned();
    wait_for("the engine to name it", Duration::from_secs(20), || {
        let (_, status) = world.btar(&["status", "--url", &world.url]);
        status.contains(&format!("WAL segment {name} is damaged")).then_some(())
    });
    let refused = world.fork("beyond", Some(last));
    assert_eq!(refused.status, 400, "{}", refused.body);
}

#[test]
fn a_missing_data_file_makes_its_backup_not_restorable() {
    let (_, mut world) = replicated();
    world.lose_primary();
    world.kill();
    let victim = files(&world.copy().join("backup"), "PG_VERSION").remove(0);
    fs::remove_file(&victim).unwrap();
    world.start();
    wait_for("the window to close", Duration::from_secs(20), || {
        world.window().is_none().then_some(())
    });
    let refused = world.fork("none", None);
    assert_eq!(refused.status, 400, "{}", refused.body);
    let text = refused.body["message"].as_str().unwrap();
    assert!(text.contains("nothing can be restored"), "{text}");
    let (_, status) = world.btar(&["status", "--url", &world.url]);
    assert!(status.contains("PG_VERSION"), "status names the missing file:\n{status}");
}

#[test]
fn verify_finds_what_is_missing_and_deep_what_is_damaged() {
    let (_, mut world) = replicated();
    world.kill();
    let config = world.config();
    let verify = |more: &[&str]| {
        let mut arguments = vec!["verify", "--config", config.to_str().unwrap()];
        arguments.extend(more);
        world.btar(&arguments)
    };
    let (good, text) = verify(&[]);
    assert!(good && text.contains("demo/orders in aws-eu-central-1: good"), "{text}");
    let (good, text) = verify(&["--deep"]);
    assert!(good && text.contains("bytes proven") && text.contains("restorable: ["), "{text}");

    // Of the same size: only reading tells.
    let victim = files(&world.copy().join("backup"), "pg_control").remove(0);
    let whole = fs::read(&victim).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&victim, bytes).unwrap();
    assert!(verify(&[]).0, "the listing cannot tell");
    let (good, text) = verify(&["--deep", "--rate-mib", "512"]);
    assert!(!good && text.contains("pg_control") && text.contains("is damaged"), "{text}");

    fs::write(&victim, whole).unwrap();
    fs::remove_file(&victim).unwrap();
    let (good, text) = verify(&["--service", "demo/orders", "--region", "aws-eu-central-1"]);
    assert!(!good && text.contains("pg_control") && text.contains("is missing"), "{text}");
    let (good, text) = verify(&["--service", "demo/nothing"]);
    assert!(!good && text.contains("no such copy"), "{text}");
}

/// Flips a bit in the middle of a file.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// The same, so that nothing but the contents tells: file, times and inode stay what they were.
fn rot(file: &Path) {
    let before = fs::metadata(file).unwrap();
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let open = fs::OpenOptions::new().write(true).open(file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&open, &bytes, 0).unwrap();
    let times = fs::FileTimes::new().set_modified(before.modified().unwrap());
    open.set_times(times).unwrap();
}

fn status(world: &World) -> String {
    world.btar(&["status", "--url", &world.url]).1
}

#[test]
fn a_damaged_data_file_closes_the_window_until_the_primary_has_repaired_it() {
    let (recorded, world) = replicated();
    let last = &recorded.restorable().last().unwrap().time;
    // Both backups need it.
    let victim = files(&world.copy().join("backup"), "PG_VERSION").remove(0);
    let whole = fs::read(&victim).unwrap();
    world.lose_primary();
    flip(&victim);
    wait_for("the window to close", Duration::from_secs(30), || {
        world.window().is_none().then_some(())
    });
    let text = status(&world);
    assert!(text.contains("PG_VERSION") && text.contains("is damaged"), "{text}");
    assert_eq!(world.fork("none", None).status, 400);
    // The primary is there again, and its file is no better.
    let below = victim.strip_prefix(world.copy()).unwrap().to_owned();
    world.find_primary();
    let primary = world.store("aws-eu-west-1").join("pgbackrest").join(below);
    flip(&primary);
    wait_for("the engine to say so", Duration::from_secs(30), || {
        let text = status(&world);
        let told = "the primary region's object is not good either";
        (text.contains("PG_VERSION") && text.contains(told)).then_some(())
    });
    assert!(world.window().is_none());
    fs::write(&primary, &whole).unwrap();
    world.wait_covered(last);
    assert_eq!(fs::read(&victim).unwrap(), whole, "repaired");
    let mark = recorded.restorable().last().unwrap();
    assert_eq!(world.fork("whole", Some(&mark.time)).status, 200);
    let uri = world.wait_running("whole");
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));
}

#[test]
fn rot_that_no_listing_shows_is_found_by_reading_in_turn() {
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.scrub("scrub = { every = \"2s\", rate_mib = 512 }");
    world.start();
    world.enable();
    let last = &recorded.restorable().last().unwrap().time;
    world.wait_covered(last);
    let file = files(&world.copy().join("backup"), "PG_VERSION").remove(0);
    let all = segments(&world);
    let segment = &all[all.len() - 2];
    for victim in [&file, segment] {
        let whole = fs::read(victim).unwrap();
        rot(victim);
        wait_for("the repair", Duration::from_secs(60), || {
            (fs::read(victim).unwrap_or_default() == whole).then_some(())
        });
        world.wait_covered(last);
    }
    // Without the primary the log ends before the rotten segment.
    world.lose_primary();
    rot(segment);
    let name = segment.file_name().unwrap().to_str().unwrap()[..24].to_owned();
    wait_for("a shorter window", Duration::from_secs(60), || {
        let (_, end) = world.window()?;
        (end.as_str() < last.as_str()).then_some(())
    });
    assert!(status(&world).contains(&format!("WAL segment {name} is damaged")));
}

#[test]
fn verify_compares_with_the_manifests_and_goes_on_when_it_was_interrupted() {
    let (_, mut world) = replicated();
    // An orderly end writes the manifests.
    world.stop();
    let config = world.config();
    let memory = world.place.path().join("memory");
    let verify = |more: &[&str]| {
        let mut arguments = vec!["verify", "--json", "--config", config.to_str().unwrap()];
        arguments.extend(more);
        let (code, text) = world.btar_code(&arguments);
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        (code, found[0].clone())
    };
    let (code, fast) = verify(&[]);
    assert_eq!((code, &fast["verdict"]), (0, &"good".into()), "{fast}");
    assert!(fast["recorded"].as_u64().unwrap() > 100 && fast["recorded"] == fast["objects"]);
    let resumed = ["--deep", "--resume", memory.to_str().unwrap()];
    let (code, deep) = verify(&resumed);
    assert_eq!((code, deep["faults"].as_array().unwrap().len()), (0, 0), "{deep}");
    assert!(deep["proven_bytes"].as_u64().unwrap() > 1 << 20, "{deep}");
    assert!(fs::read_dir(&memory).unwrap().next().is_none(), "it is emptied at the end");

    // Only the manifests tell: no checksum of pgBackRest covers this one.
    let label = files(&world.copy().join("archive"), ".backup").remove(0);
    rot(&label);
    assert_eq!(verify(&[]).0, 0, "the listing cannot tell");
    let (code, deep) = verify(&resumed);
    let fault = deep["faults"][0].as_str().unwrap();
    assert!(code == 1 && fault.contains(".backup is damaged: its CRC-64"), "{fault}");
    fs::remove_file(&label).unwrap();
    let (code, fast) = verify(&[]);
    let fault = fast["faults"][0].as_str().unwrap();
    assert!(code == 1 && fault.contains(".backup is missing, and was recorded"), "{fault}");
    fs::remove_dir_all(world.store("aws-eu-central-1")).unwrap();
    let (code, gone) = verify(&["--region", "aws-eu-central-1"]);
    assert_eq!((code, &gone["verdict"]), (2, &"unreadable".into()), "{gone}");
}

#[test]
fn an_emptied_primary_does_not_empty_the_copy() {
    let (recorded, world) = replicated();
    let before = files(&world.copy(), "").len();
    fs::remove_dir_all(world.store("aws-eu-west-1").join("pgbackrest")).unwrap();
    pause(Duration::from_secs(2));
    assert_eq!(files(&world.copy(), "").len(), before);
    let mark = recorded.restorable().last().unwrap();
    assert_eq!(world.fork("still", Some(&mark.time)).status, 200);
    let uri = world.wait_running("still");
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));
}

#[test]
fn a_new_engine_that_knows_only_the_copy_forks_from_it() {
    let (recorded, mut world) = replicated();
    world.lose_primary();
    world.forget_all_but_the_copy();
    world.start();
    let mark = recorded.restorable().last().unwrap();
    world.wait_covered(&mark.time);
    let (_, status) = world.btar(&["status", "--url", &world.url]);
    assert!(status.contains("known from its copy alone"), "{status}");
    assert_eq!(world.fork("found", Some(&mark.time)).status, 200);
    let uri = world.wait_running("found");
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));
}

#[test]
fn an_engine_killed_while_it_copies_goes_on() {
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.start();
    world.enable();
    for round in 0..4 {
        pause(Duration::from_millis(60 + 90 * round));
        world.kill();
        world.start();
    }
    let mark = recorded.restorable().last().unwrap();
    world.wait_covered(&mark.time);
    world.lose_primary();
    assert_eq!(world.fork("after", Some(&mark.time)).status, 200);
    let uri = world.wait_running("after");
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));
}

#[test]
fn an_engine_killed_while_it_restores_goes_on() {
    let (recorded, mut world) = replicated();
    world.lose_primary();
    let mark = &recorded.restorable()[5];
    assert_eq!(world.fork("survivor", Some(&mark.time)).status, 200);
    for _ in 0..3 {
        pause(Duration::from_millis(700));
        world.kill();
        world.start();
    }
    let uri = world.wait_running("survivor");
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));
}

#[test]
fn ctrl_c_during_a_fork_keeps_it_and_the_next_apply_goes_on() {
    let (recorded, world) = replicated();
    let mark = &recorded.restorable()[3];
    let module_dir = Module::new(&world.url, &module(None));
    assert_eq!(module_dir.apply().code, 0);
    module_dir.write(&module(Some(&mark.time)));
    // Ctrl-C reaches the whole process group: Terraform and its plugins.
    let child = module_dir
        .command()
        .args(["apply", "-input=false", "-auto-approve", "-no-color"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    wait_for("the fork to be accepted", Duration::from_secs(30), || {
        let answer = world.call("GET", "/v1/project/demo/service/orders-dr", None);
        (answer.status == 200).then_some(())
    });
    let group = format!("-{}", child.id());
    let killed = Command::new("kill").args(["-INT", "--", &group]).status().unwrap();
    assert!(killed.success());
    let out = child.wait_with_output().unwrap();
    let state = fs::read_to_string(module_dir.path().join("terraform.tfstate")).unwrap();
    assert!(state.contains("\"demo/orders-dr\""), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(!state.contains("tainted"), "the next apply would destroy the recovering database");
    let uri = world.wait_running("orders-dr");
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));
    let next = module_dir.apply();
    assert_eq!(next.code, 0, "{}", next.text);
    assert!(next.text.contains("0 destroyed"), "{}", next.text);
    assert_eq!(module_dir.plan().code, 0);
}

#[test]
fn regions_services_and_tokens_that_are_wrong_are_refused_at_plan() {
    let (_, world) = replicated();
    let good = module(None);
    let module_dir = Module::new(&world.url, &good);
    let check = |from: &str, to: &str, words: &[&str]| {
        module_dir.write(&good.replace(from, to));
        let run = module_dir.plan();
        assert_eq!(run.code, 1, "{to}: {}", run.text);
        let text = run.text.replace(['\n', '│'], " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(text.contains(word), "{to}: no `{word}` in {text}");
        }
    };
    check(
        "aws-eu-central-1",
        "google-europe-west3",
        &["google-europe-west3 (google) is not of the same cloud provider as aws-eu-west-1 (aws)"],
    );
    check("aws-eu-central-1", "aws-eu-west-1", &["already holds the primary backups"]);
    check("aws-eu-central-1", "aws-mars-1", &["aws-mars-1 is not offered", "aws-eu-central-1"]);
    check("\"orders\"\n  region", "\"nothing\"\n  region", &["nothing", "does not exist"]);
    check(
        "\"orders\"\n  region",
        "\"events\"\n  region",
        &["services of type kafka have no backup to another region", "pg and mysql"],
    );
    module_dir.write(&good);
    let out = module_dir
        .command()
        .args(["plan", "-input=false", "-no-color"])
        .env("AIVEN_TOKEN", "wrong")
        .output()
        .unwrap();
    let text = crate::support::both(&out);
    assert!(!out.status.success() && text.contains("AIVEN_TOKEN"), "{text}");
    assert!(!text.contains("\"wrong\""), "the token is not printed: {text}");
}

#[test]
fn an_unreachable_engine_is_named_with_what_to_do() {
    let mut world = World::empty();
    let module_dir = Module::new(&world.url, &module(None));
    let run = module_dir.plan();
    assert_eq!(run.code, 1);
    assert!(run.text.contains("cannot reach"), "{}", run.text);
    assert!(run.text.contains("btar serve") || run.text.contains("api_url"), "{}", run.text);

    // In the middle of an apply: planned with the engine, applied without it.
    let recorded = Recorded::get();
    recorded.copy_to(&world.store("aws-eu-west-1").join("pgbackrest"));
    world.start();
    let planned = module_dir.run(&["plan", "-input=false", "-out=saved"]);
    assert_eq!(planned.code, 0, "{}", planned.text);
    world.kill();
    let applied = module_dir.run(&["apply", "-input=false", "saved"]);
    assert_eq!(applied.code, 1, "{}", applied.text);
    assert!(applied.text.contains("cannot reach"), "{}", applied.text);
    world.start();
    let again = module_dir.apply();
    assert_eq!(again.code, 0, "{}", again.text);
}

#[test]
fn a_fork_without_disk_or_port_is_refused_before_anything_is_made() {
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.disk_reserve("900TiB");
    world.start();
    world.enable();
    world.wait_covered(&recorded.restorable().last().unwrap().time);
    let refused = world.fork("large", None);
    assert_eq!(refused.status, 400, "{}", refused.body);
    let text = refused.body["message"].as_str().unwrap().to_owned();
    assert!(text.contains("disk") || text.contains("space"), "{text}");

    world.kill();
    world.disk_reserve("16MiB");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    world.fork_ports(&format!("{port}-{port}"));
    world.start();
    let refused = world.fork("portless", None);
    assert_eq!(refused.status, 400, "{}", refused.body);
    let text = refused.body["message"].as_str().unwrap();
    assert!(text.contains("port"), "{text}");
    drop(listener);
    assert_eq!(world.fork("portless", None).status, 200);
    world.wait_running("portless");
}

#[test]
fn a_segment_that_vanishes_after_the_check_fails_the_fork_and_opens_nothing() {
    let (recorded, mut world) = replicated();
    world.lose_primary();
    let mark = recorded.restorable().last().unwrap();
    assert_eq!(world.fork("holed", Some(&mark.time)).status, 200);
    // The engine is stopped before it can replay, and the copy loses a segment meanwhile.
    world.kill();
    let all = segments(&world);
    fs::remove_file(&all[all.len() - 2]).unwrap();
    world.start();
    let reason = world.wait_failed("holed");
    assert!(reason.contains("segment") || reason.contains("WAL"), "{reason}");
}
