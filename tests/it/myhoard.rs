//! A site of MyHoard: copied while it arrives, judged exactly, and every fault told.

use crate::support::{engine::World, pause, wait_for};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// With the site's private key.
const WITH_KEY: &str = r#"backup = { format = "myhoard", path = "default", private_key = "k1" }"#;
/// The last moment of the fixture: its last binary log was closed in this second.
const END: &str = "2026-11-23T08:07:56.000000Z";
/// When the base backup ended.
const BEGIN: &str = "2026-11-23T08:06:15.720755Z";

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("btar-myhoard-").tempdir().unwrap();
        let packed = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/myhoard/myhoard-default.tar.zst");
        let plain = zstd::decode_all(fs::File::open(packed).unwrap()).unwrap();
        tar::Archive::new(&*plain).unpack(dir.path()).unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("myhoard-default")
    }

    fn truth(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.root().join("truth.json")).unwrap()).unwrap()
    }

    fn stream(&self) -> String {
        self.truth()["stream"].as_str().unwrap().to_owned()
    }

    fn key(&self) -> String {
        fs::read_to_string(self.root().join("keys/private.pem")).unwrap()
    }

    /// The keys below the stream, markers before what they speak of: the worst order.
    fn keys(&self) -> Vec<String> {
        let stream = self.root().join("default").join(self.stream());
        let mut keys = Vec::new();
        let mut dirs = vec![stream.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&stream).unwrap().to_str().unwrap().to_owned();
                match path.is_dir() {
                    true => dirs.push(path),
                    false if name.ends_with(".metadata") => {}
                    false => keys.push(name),
                }
            }
        }
        keys.sort_by_key(|key| {
            (!key.ends_with(".json"), key.starts_with("basebackup"), key.clone())
        });
        keys
    }

    fn place(&self, world: &World, key: &str) -> PathBuf {
        world.store("aws-eu-west-1").join("default").join(self.stream()).join(key)
    }

    /// An object arrives in the primary, its metadata behind it.
    fn arrive(&self, world: &World, key: &str) {
        for name in [key.to_owned(), format!("{key}.metadata")] {
            let to = self.place(world, &name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            // Without the permissions, which are of whoever made the fixture.
            let bytes = fs::read(self.root().join("default").join(self.stream()).join(&name));
            fs::write(to, bytes.unwrap()).unwrap();
        }
    }

    fn arrive_all(&self, world: &World) {
        self.keys().iter().for_each(|key| self.arrive(world, key));
    }
}

fn world(backup: &'static str) -> World {
    let mut world = World::empty();
    world.mysql(backup, true, "");
    world
}

fn status(world: &World) -> String {
    world.btar(&["status", "--url", &world.url]).1
}

fn wait_told(world: &World, text: &str) {
    let mut said = String::new();
    for _ in 0..150 {
        said = status(world);
        if said.contains(text) {
            return;
        }
        pause(Duration::from_millis(200));
    }
    panic!("waited for `{text}`, and the status is\n{said}");
}

#[test]
fn a_stream_that_arrives_in_the_worst_order_has_the_exact_window_in_the_copy() {
    let fixture = Fixture::new();
    let mut world = world(WITH_KEY);
    world.private_key(&fixture.key());
    world.start();
    world.enable();
    for (at, key) in fixture.keys().iter().enumerate() {
        fixture.arrive(&world, key);
        pause(Duration::from_millis(250));
        let copied = world.copy().join(fixture.stream()).join("completed.json");
        let first = world.copy().join(fixture.stream()).join("binlogs/0/1_31");
        let base = world.copy().join(fixture.stream()).join("basebackup.xbstream");
        assert!(!copied.exists() || (first.exists() && base.exists()), "the mark came first");
        if at % 4 == 2 {
            world.kill();
            world.start();
        }
    }
    world.wait_covered(END);
    assert_eq!(world.window().unwrap(), (BEGIN.to_owned(), END.to_owned()));
    world.lose_primary();
    let config = world.config();
    for depth in [&[][..], &["--deep"]] {
        let mut verify = vec!["verify", "--config", config.to_str().unwrap()];
        verify.extend(depth);
        let (good, said) = world.btar(&verify);
        assert!(good, "{said}");
    }
    for key in fixture.keys() {
        let copy = world.copy().join(fixture.stream());
        for name in [key.clone(), format!("{key}.metadata")] {
            let original =
                fs::read(fixture.root().join("default").join(fixture.stream()).join(&name));
            let copied = fs::read(copy.join(&name)).unwrap();
            if name.ends_with(".metadata") {
                let [original, copied]: [Value; 2] =
                    [original.unwrap(), copied].map(|text| serde_json::from_slice(&text).unwrap());
                assert_eq!(original["json"], copied["json"], "{name}");
            } else {
                assert_eq!(original.unwrap(), copied, "{name}");
            }
        }
    }
    for target in fixture.truth()["targets"].as_array().unwrap() {
        if target["verdict"] == "refused" {
            let answer = world.fork("never", target["at"].as_str());
            assert_eq!(answer.status, 400, "{}", answer.body);
            let text = answer.body.to_string();
            let nearest = if target["at"].as_str().unwrap() < BEGIN { BEGIN } else { END };
            let nearest = nearest.trim_end_matches(".000000Z");
            assert!(text.contains(nearest), "the nearest moment is named: {text}");
        }
    }
    let report = world.call("GET", "/v1/btar/status", None).body;
    assert_eq!(report["copies"][0]["flavour"], "MySQL", "{report}");
}

#[test]
fn without_the_key_the_window_is_an_estimate_and_no_fork_is_made() {
    let fixture = Fixture::new();
    let mut world = world(r#"backup = { format = "myhoard", path = "default" }"#);
    fixture.arrive_all(&world);
    world.start();
    world.enable();
    wait_told(&world, "is an estimate");
    let answer = world.call("GET", "/v1/project/demo/service/orders/backups", None);
    assert_eq!(answer.body["pitr"]["additional_regions"][0]["exact"], false, "{}", answer.body);
    assert_eq!(world.window().unwrap().0, BEGIN);
    let answer = world.fork("never", Some("2026-11-23T08:07:00Z"));
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body.to_string().contains("private"), "{}", answer.body);
}

#[test]
fn what_is_missing_damaged_or_marked_is_told_and_shrinks_the_window() {
    let fixture = Fixture::new();
    let check = |spoil: &dyn Fn(&World), told: &str, end: Option<&str>| {
        let mut world = world(WITH_KEY);
        world.private_key(&fixture.key());
        fixture.arrive_all(&world);
        spoil(&world);
        world.start();
        world.enable();
        wait_told(&world, told);
        match end {
            Some(end) => {
                world.wait_covered(end);
                assert_eq!(world.window().unwrap().1, end, "{told}");
            }
            None => assert_eq!(world.window(), None, "{told}"),
        }
    };
    let remove = |world: &World, key: &str| {
        for name in [key.to_owned(), format!("{key}.metadata")] {
            fs::remove_file(fixture.place(world, &name)).unwrap();
        }
    };
    // Up to binary log 3, which was closed then.
    let third = Some("2026-11-23T08:06:55.000000Z");
    check(&|w| remove(w, "binlogs/0/4_31"), "binary log 4 of server 31 is missing", third);
    let cut = |world: &World| {
        let file = fs::OpenOptions::new().write(true).open(fixture.place(world, "binlogs/0/4_31"));
        file.unwrap().set_len(2000).unwrap();
    };
    check(&cut, "binlogs/0/4_31", third);
    check(&|w| remove(w, "binlogs/0/1_31"), "binary log 1 of server 31 is missing", None);
    check(&|w| remove(w, "promotions/31"), "promotions is empty", None);
    let other = |world: &World| {
        let from = fixture.place(world, "binlogs/0/4_31");
        fs::rename(&from, fixture.place(world, "binlogs/0/4_32")).unwrap();
        let from = fixture.place(world, "binlogs/0/4_31.metadata");
        fs::rename(&from, fixture.place(world, "binlogs/0/4_32.metadata")).unwrap();
    };
    check(&other, "there is one of server 32 only", third);
}

#[test]
fn a_mark_of_a_broken_stream_comes_and_goes_in_the_copy() {
    let fixture = Fixture::new();
    let mut world = world(WITH_KEY);
    world.private_key(&fixture.key());
    fixture.arrive_all(&world);
    world.start();
    world.enable();
    world.wait_covered(END);
    let mark = fixture.place(&world, "broken.json");
    let metadata = fixture.place(&world, "broken.json.metadata");
    fs::write(&metadata, r#"{"json": "{\"broken_at\": 1795421300.5}"}"#).unwrap();
    fs::write(&mark, r#"{"broken_at": 1795421300.5}"#).unwrap();
    wait_told(&world, "has marked it as broken");
    wait_for("no window", Duration::from_secs(30), || world.window().is_none().then_some(()));
    assert!(world.copy().join(fixture.stream()).join("broken.json").exists());
    fs::remove_file(&mark).unwrap();
    fs::remove_file(&metadata).unwrap();
    world.wait_covered(END);
    assert!(!world.copy().join(fixture.stream()).join("broken.json").exists());
    // A primary that is gone takes nothing back.
    fs::write(&metadata, r#"{"json": "{\"broken_at\": 1795421300.5}"}"#).unwrap();
    fs::write(&mark, r#"{"broken_at": 1795421300.5}"#).unwrap();
    wait_for("no window", Duration::from_secs(30), || world.window().is_none().then_some(()));
    fs::remove_dir_all(world.store("aws-eu-west-1").join("default")).unwrap();
    pause(Duration::from_secs(3));
    assert!(world.window().is_none());
}
