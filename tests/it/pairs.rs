//! Two engines on the same pair of stores at once, each with a state of its own: nobody means to do that,
//! and it happens when a machine that was thought dead comes back.

use crate::support::{
    command,
    engine::{TOKEN, World},
    free_port, give, pause, run,
    source::Source,
    wait_for,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

/// The other engine: the world's configuration with another port and data directory.
struct Other {
    place: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Other {
    fn new(world: &World) -> Self {
        let (place, port) = (world.place.path().to_owned(), free_port());
        world.place.dir("other");
        let text = fs::read_to_string(world.config()).unwrap();
        let ours = world.url.strip_prefix("http://").unwrap();
        let text = text.replace(ours, &format!("127.0.0.1:{port}"));
        let text = text.replace(&format!("{}/engine", place.display()), &data_dir(&place));
        fs::write(place.join("other.toml"), text).unwrap();
        Self { place, port, process: None }
    }

    fn start(&mut self) {
        let path = self.place.join("other.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        give(&path);
        let child = Command::new(self.place.join("btar"))
            .args(["serve", "--config"])
            .arg(self.place.join("other.toml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.process = Some(child.unwrap());
        wait_for("the other engine", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    fn enable(&self) {
        let url = format!("http://127.0.0.1:{}/v1/project/demo/service/orders", self.port);
        let body = r#"{"user_config": {"additional_backup_regions": ["aws-eu-central-1"]}}"#;
        run(Command::new("curl")
            .args(["-sSf", "-X", "PUT", "-H", "Content-Type: application/json", "-d", body, "-H"])
            .arg(format!("Authorization: aivenv1 {TOKEN}"))
            .arg(url));
    }

    /// `kill -9`.
    fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.join("other.log")).unwrap_or_default()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.kill();
    }
}

fn data_dir(place: &Path) -> String {
    place.join("other").display().to_string()
}

/// The files below a repository that must be the same in its copy, by name.
fn contents(repository: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![repository.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(repository).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// A running source with a full backup in the primary region's store.
fn backed_up_source(world: &World) -> (Source, PathBuf) {
    let repository = world.store("aws-eu-west-1").join("pgbackrest");
    fs::create_dir(&repository).unwrap();
    give(&repository);
    let source = Source::start(&world.place.dir("source"), &repository);
    source.insert(50);
    source.pgbackrest("--type=full backup");
    (source, repository)
}

/// Commits, archives and backs up while both engines run, and one after the other is killed.
fn live(source: &Source, world: &mut World, other: &mut Other) {
    for round in 0..6 {
        source.insert(20);
        source.archive();
        match round {
            1 => source.pgbackrest("--type=incr backup"),
            // The oldest backup expires: both engines find it to be removed.
            3 => source.pgbackrest("--type=full --repo1-retention-full=1 backup"),
            2 | 4 => {
                world.kill();
                source.insert(10);
                world.start();
            }
            _ => {
                other.kill();
                source.archive();
                other.start();
            }
        }
    }
}

#[test]
fn two_engines_on_one_pair_lose_nothing_and_one_of_them_is_enough() {
    let mut world = World::empty();
    world.retention(
        "copy_retention = { keep_expired_for = \"1s\", keep_restorable = 1, confirm_after = \"2s\" }",
    );
    world.scrub("scrub = { every = \"1h\", rate_mib = 64 }");
    let (source, repository) = backed_up_source(&world);
    world.start();
    let mut other = Other::new(&world);
    other.start();
    world.enable();
    other.enable();
    live(&source, &mut world, &mut other);

    // One dies for good in the middle of the work, the other goes on alone.
    other.kill();
    pause(Duration::from_millis(1100));
    source.insert(30);
    let mark = source.mark();
    source.insert(10);
    source.archive();
    world.wait_covered(&mark.time);
    source.stop();
    drop(source);
    let primary = contents(&repository);
    wait_for("the copy to hold what the primary holds", Duration::from_secs(30), || {
        let copied = |name: &String| fs::read(world.copy().join(name)).ok();
        primary.iter().all(|(name, bytes)| copied(name).as_ref() == Some(bytes)).then_some(())
    });
    for log in [world.log(), other.log()] {
        assert!(!log.contains("ERROR"), "{log}");
    }
    world.lose_primary();
    for config in [world.config(), world.place.path().join("other.toml")] {
        let (good, text) = world.btar(&["verify", "--deep", "--config", config.to_str().unwrap()]);
        assert!(good && text.contains("demo/orders in aws-eu-central-1: good"), "{text}");
    }

    // An engine that knows nothing takes the manifests that both wrote.
    world.stop();
    world.forget_all_but_the_copy();
    world.start();
    world.wait_covered(&mark.time);
    let (_, status) = world.btar(&["status", "--url", &world.url]);
    assert!(!status.contains("damaged"), "{status}");
    assert_eq!(world.fork("after-two", Some(&mark.time)).status, 200);
    let uri = world.wait_running("after-two");
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));

    let verified = run(command("pgbackrest")
        .args(["--stanza=orders", "--log-level-file=off", "--config=/dev/null"])
        .arg(format!("--repo1-path={}", world.copy().display()))
        .args(["--log-level-console=info", "verify"]));
    assert!(verified.contains("completed successfully"), "{verified}");
}
