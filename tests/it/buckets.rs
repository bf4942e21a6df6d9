//! The same with a copy in a bucket: replicated, verified, forked from, adopted.

use crate::{
    server::{ACCESS_KEY, BUCKET, Dialect, Manners, PRIMARY, SECRET_KEY, Server},
    support::{
        engine::{Bucket, World},
        source::Recorded,
    },
};
use btar::{
    store::{BlobStore, Condition, Contents, config::StoreOptions, key::Key, open::open},
    sys::clock::SystemClock,
};
use std::{path::Path, sync::Arc};

/// Starts a server of buckets on a thread of its own; it ends with the runtime.
fn start() -> (Server, tokio::runtime::Runtime) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let manners = Manners { page: 1000, ..Manners::of(Dialect::S3) };
    let server = runtime.block_on(Server::start(manners));
    (server, runtime)
}

#[test]
fn a_copy_in_a_bucket_is_verified_and_forked_from_with_the_primary_gone() {
    let (server, _runtime) = start();
    let endpoint = server.url;
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.bucket(Bucket { endpoint, name: BUCKET, access_key: ACCESS_KEY, secret_key: SECRET_KEY });
    world.start();
    world.enable();
    let last = recorded.restorable().last().unwrap();
    world.wait_covered(&last.time);
    let config = world.config();
    let (good, text) = world.btar(&["verify", "--deep", "--config", config.to_str().unwrap()]);
    assert!(good && text.contains("demo/orders in aws-eu-central-1: good"), "{text}");

    // Nothing is left but the bucket: another engine finds the copy there.
    world.lose_primary();
    world.forget_all_but_the_copy();
    world.start();
    world.wait_covered(&last.time);
    let mark = &recorded.restorable()[4];
    let answer = world.fork("from-bucket", Some(&mark.time));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let uri = world.wait_running("from-bucket");
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));
    assert!(!world.log().contains(SECRET_KEY), "the key is in the log");

    // A second one is interrupted while its objects are being brought here.
    assert_eq!(world.fork("again", Some(&last.time)).status, 200);
    for _ in 0..2 {
        crate::support::pause(std::time::Duration::from_millis(150));
        world.kill();
        world.start();
    }
    let uri = world.wait_running("again");
    assert_eq!(world.rows(&uri), (last.rows, last.sum));
}

/// Writes all files below a directory into a store, below `prefix`.
async fn upload(dir: &Path, prefix: &str, store: &dyn BlobStore) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = format!("{prefix}/{}", name.to_str().unwrap());
        // Links are shown by the objects that they point at.
        if entry.file_type().unwrap().is_symlink() {
            continue;
        }
        if path.is_dir() {
            Box::pin(upload(&path, &name, store)).await;
        } else {
            let contents = Contents::of(std::fs::read(&path).unwrap().into());
            store.write(&Key::parse(&name).unwrap(), contents, &Condition::None).await.unwrap();
        }
    }
}

#[test]
fn a_copy_that_the_provider_makes_is_whole_and_restorable() {
    let (server, runtime) = start();
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    let options = StoreOptions {
        endpoint: Some(server.url.clone()),
        allow_http: true,
        ..StoreOptions::default()
    };
    let keys = |name: &str| match name {
        "AWS_ACCESS_KEY_ID" => Some(ACCESS_KEY.to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some(SECRET_KEY.to_owned()),
        _ => None,
    };
    let clock = Arc::new(SystemClock::new());
    let primary = open(&format!("s3://{PRIMARY}"), &options, clock, &keys).unwrap();
    let dir = world.store("aws-eu-west-1").join("pgbackrest");
    runtime.block_on(upload(&dir, "pgbackrest", &*primary));
    server.log();
    server.taken_bytes();

    let endpoint = server.url.clone();
    world.bucket(Bucket { endpoint, name: BUCKET, access_key: ACCESS_KEY, secret_key: SECRET_KEY });
    world.copied_by_the_provider(PRIMARY);
    world.start();
    world.enable();
    let last = recorded.restorable().last().unwrap();
    world.wait_covered(&last.time);
    let log = server.log();
    let written = log.iter().filter(|line| line.starts_with("PUT "));
    let (copies, sent): (Vec<&String>, Vec<&String>) =
        written.partition(|line| line.contains(" from "));
    // Sent are only what the engine has made itself, and its snapshots of the catalogues.
    let is_made = |line: &str| {
        ["/.btar/", "/archive.info", "/backup.info"].iter().any(|name| line.contains(name))
    };
    assert!(copies.len() > 100, "{log:#?}");
    assert!(sent.iter().all(|line| is_made(line)), "{sent:#?}");
    assert!(log.iter().all(|line| !line.starts_with("POST ")), "nothing is sent in parts");
    let (taken, held) = (server.taken_bytes(), dir_bytes(&dir));
    assert!(taken * 10 < held, "{taken} of {held} bytes were sent");

    let config = world.config();
    let (good, text) = world.btar(&["verify", "--deep", "--config", config.to_str().unwrap()]);
    assert!(good && text.contains("demo/orders in aws-eu-central-1: good"), "{text}");
    world.forget_all_but_the_copy();
    world.start();
    world.wait_covered(&last.time);
    let mark = &recorded.restorable()[4];
    assert_eq!(world.fork("from-copy", Some(&mark.time)).status, 200);
    let uri = world.wait_running("from-copy");
    assert_eq!(world.rows(&uri), (mark.rows, mark.sum));
    assert!(!world.log().contains(SECRET_KEY), "the key is in the log");
}

fn dir_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let bytes = entries.map(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => dir_bytes(&entry.path()),
        _ => entry.metadata().unwrap().len(),
    });
    bytes.sum()
}
