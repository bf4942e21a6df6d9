//! The same with a copy in a bucket: replicated, verified, forked from, adopted.

use crate::{
    server::{ACCESS_KEY, BUCKET, Dialect, Manners, SECRET_KEY, Server},
    support::{
        engine::{Bucket, World},
        source::Recorded,
    },
};

/// Starts a server of buckets on a thread of its own; it ends with the runtime.
fn start() -> (String, tokio::runtime::Runtime) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let manners = Manners { page: 1000, ..Manners::of(Dialect::S3) };
    let server = runtime.block_on(Server::start(manners));
    (server.url, runtime)
}

#[test]
fn a_copy_in_a_bucket_is_verified_and_forked_from_with_the_primary_gone() {
    let (endpoint, _runtime) = start();
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
