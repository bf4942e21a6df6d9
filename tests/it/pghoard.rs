//! A site of PGHoard: replicated while it arrives, then forked from with the primary gone.

use crate::support::{engine::World, pause, postgres_bin, run, wait_for};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Where a fixture was unpacked, and what is true about it.
struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::unpacked("pghoard/pghoard-orders.tar.zst")
    }

    /// The site whose database was set back three times. It is `orders` here, as the service is.
    fn branches() -> Self {
        let fixture = Self::unpacked("pghoard-branches/pghoard-branches.tar.zst");
        let at = |name| fixture.dir.path().join(name);
        fs::rename(at("branches"), at("orders")).unwrap();
        fixture
    }

    fn unpacked(packed: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("btar-site-").tempdir().unwrap();
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(packed);
        let plain = zstd::decode_all(fs::File::open(packed).unwrap()).unwrap();
        tar::Archive::new(&*plain).unpack(dir.path()).unwrap();
        Self { dir }
    }

    fn key(&self, id: &str) -> String {
        fs::read_to_string(self.dir.path().join(format!("keys/{id}.pem"))).unwrap()
    }

    fn truth(&self) -> Value {
        let text = fs::read_to_string(self.dir.path().join("truth.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Every file of the site, in an order that looks random, but each sidecar behind its object.
    fn arrivals(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut dirs = vec![self.dir.path().join("orders")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { dirs.push(path) } else { files.push(path) }
            }
        }
        files.sort_by_cached_key(|path| {
            let name = path.to_str().unwrap();
            let object = name.trim_end_matches(".metadata");
            let relative = object.strip_prefix(self.dir.path().to_str().unwrap()).unwrap();
            (Sha256::digest(relative).to_vec(), name.len())
        });
        files.into_iter().map(|p| p.strip_prefix(self.dir.path()).unwrap().to_owned()).collect()
    }

    fn arrive(&self, world: &World, file: &Path) {
        let to = world.store("aws-eu-west-1").join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(self.dir.path().join(file), to).unwrap();
    }
}

/// Number of rows, and the hash over all of them as `truth.json` has it.
fn ledger(uri: &str) -> (u64, String) {
    let sql = "select id || '|' || to_char(at at time zone 'UTC', \
               'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') || '|' || note from ledger order by id";
    let rows = run(Command::new(postgres_bin().join("psql")).args(["-X", "-At", uri, "-c", sql]));
    let text = rows.lines().fold(String::new(), |text, row| text + row + "\n");
    let sum = Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect();
    (rows.lines().count() as u64, sum)
}

#[test]
fn a_site_that_arrives_in_any_order_is_copied_and_forked_from_with_the_primary_gone() {
    let fixture = Fixture::new();
    let truth = fixture.truth();
    let mut world = World::empty();
    let keys = world.site(&fs::read_to_string(fixture.dir.path().join("keys/k1.pem")).unwrap());
    world.start();
    world.enable();
    for (at, file) in fixture.arrivals().iter().enumerate() {
        fixture.arrive(&world, file);
        if at % 40 == 20 {
            pause(Duration::from_millis(300));
            world.kill();
            world.start();
        }
    }
    let end = truth["windows"]["spans"][0][1].as_str().unwrap();
    world.wait_covered(end);
    world.lose_primary();
    let config = world.config();
    for depth in [&[][..], &["--deep"]] {
        let mut verify = vec!["verify", "--config", config.to_str().unwrap()];
        verify.extend(depth);
        let (good, said) = world.btar(&verify);
        assert!(good, "{said}");
    }
    let (start, _) = world.window().unwrap();
    assert_eq!(start, truth["windows"]["spans"][0][0].as_str().unwrap());

    let targets = truth["targets"].as_array().unwrap();
    let (restored, refused): (Vec<&Value>, Vec<&Value>) =
        targets.iter().partition(|target| target["expect"] == "restore");
    for target in refused {
        let answer = world.fork("never", target["time"].as_str());
        assert_eq!(answer.status, 400, "{}: {}", target["name"], answer.body);
    }
    for (at, target) in restored.iter().enumerate() {
        let (name, fork) = (target["name"].as_str().unwrap(), format!("fork-{at}"));
        let answer = world.fork(&fork, target["time"].as_str());
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        let uri = world.wait_running(&fork);
        let (rows, sum) = ledger(&uri);
        assert_eq!(rows, target["row_count"].as_u64().unwrap(), "{name}");
        assert_eq!(sum, target["rows_sha256"].as_str().unwrap(), "{name}");
        let path = format!("/v1/project/demo/service/{fork}");
        assert_eq!(world.call("DELETE", &path, None).status, 200);
    }
    let uri = {
        assert_eq!(world.fork("latest", None).status, 200);
        world.wait_running("latest")
    };
    assert_eq!(ledger(&uri).0, truth["final_state"]["row_count"].as_u64().unwrap());
    let log = world.log();
    assert!(keys.lines().all(|line| !log.contains(line)), "a key is in the log");
}

/// Several lives of one database: the copy alone gives what PostgreSQL gives for each moment.
#[test]
fn a_database_that_was_set_back_is_forked_in_its_present_life_with_the_primary_gone() {
    let fixture = Fixture::branches();
    let truth = fixture.truth();
    let mut world = World::empty();
    world.site(&fixture.key("k1"));
    world.second_key("k2", &fixture.key("k2"));
    world.start();
    world.enable();
    for file in fixture.arrivals() {
        fixture.arrive(&world, &file);
    }
    let targets = truth["targets"].as_array().unwrap();
    let (restored, refused): (Vec<&Value>, Vec<&Value>) =
        targets.iter().partition(|target| target["expect"] == "restore");
    let (first, last) = (restored[0], restored[restored.len() - 1]);
    world.wait_covered(last["time"].as_str().unwrap());
    // Those of other lives, too: they are newer, and must not be taken.
    wait_for("all seven base backups", Duration::from_secs(60), || {
        let files = fs::read_dir(world.copy().join("basebackup")).ok()?;
        let indexes = files.filter(|file| {
            let name = file.as_ref().unwrap().file_name().into_string().unwrap();
            name.ends_with(".metadata")
        });
        (indexes.count() == 7 && world.window()?.0 == first["time"].as_str()?).then_some(())
    });
    world.lose_primary();
    for target in refused {
        let answer = world.fork("never", target["time"].as_str());
        assert_eq!(answer.status, 400, "{}: {}", target["name"], answer.body);
    }
    for several in restored.chunks(4) {
        for target in several {
            let answer = world.fork(target["name"].as_str().unwrap(), target["time"].as_str());
            assert_eq!(answer.status, 200, "{}: {}", target["name"], answer.body);
        }
        for target in several {
            let name = target["name"].as_str().unwrap();
            let (rows, sum) = ledger(&world.wait_running(name));
            assert_eq!(rows, target["row_count"].as_u64().unwrap(), "{name}");
            assert_eq!(sum, target["rows_sha256"].as_str().unwrap(), "{name}");
            let path = format!("/v1/project/demo/service/{name}");
            assert_eq!(world.call("DELETE", &path, None).status, 200);
        }
    }
    assert_eq!(world.fork("latest", None).status, 200);
    let (rows, sum) = ledger(&world.wait_running("latest"));
    assert_eq!(rows, last["row_count"].as_u64().unwrap());
    assert_eq!(sum, last["rows_sha256"].as_str().unwrap());
}

#[test]
fn a_key_that_is_missing_or_wrong_is_told_before_anything_is_made() {
    let fixture = Fixture::new();
    let truth = fixture.truth();
    let end = truth["windows"]["spans"][0][1].as_str().unwrap();
    let mut world = World::empty();
    let right = fs::read_to_string(fixture.dir.path().join("keys/k1.pem")).unwrap();
    world.site(&right);
    for file in fixture.arrivals() {
        fixture.arrive(&world, &file);
    }
    let status = |world: &World| world.btar(&["status", "--url", &world.url]).1;
    let wait_told = |world: &World, text: &str| {
        wait_for(text, Duration::from_secs(60), || status(world).contains(text).then_some(()));
    };
    let not_made = |world: &World| {
        assert_eq!(world.call("GET", "/v1/project/demo/service/never", None).status, 404);
        assert!(!world.place.path().join("engine/forks").exists(), "something was made");
    };

    world.key_id("another");
    world.start();
    world.enable();
    wait_told(&world, "2026-11-23_09-01_1 covers is an estimate");
    let answer = world.fork("never", None);
    assert_eq!(answer.status, 400, "{}", answer.body);
    let text = answer.body.to_string();
    assert!(text.contains("`k1`") && text.contains("not configured"), "{text}");
    not_made(&world);
    world.kill();

    let wrong = run(Command::new("openssl").args(["genpkey", "-algorithm", "RSA"]));
    world.key_id("k1");
    world.site(&wrong);
    world.start();
    wait_told(&world, "not for the private key that was given as `k1`");
    let answer = world.fork("never", Some(end));
    assert_eq!(answer.status, 400, "{}", answer.body);
    not_made(&world);
    world.kill();

    world.site(&right);
    world.start();
    world.wait_covered(end);
    wait_for("the right key to help", Duration::from_secs(60), || {
        (!status(&world).contains("k1")).then_some(())
    });
    assert_eq!(world.fork("latest", None).status, 200);
    let uri = world.wait_running("latest");
    assert_eq!(ledger(&uri).0, truth["final_state"]["row_count"].as_u64().unwrap());
    let log = world.log();
    let secret = |line: &&str| !line.contains("PRIVATE KEY");
    let keys = [right, wrong].concat();
    assert!(keys.lines().filter(secret).all(|line| !log.contains(line)), "a key is in the log");
}
