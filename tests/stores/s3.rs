//! S3, against our own server.

use crate::{
    foreign::pause,
    server::{ACCESS_KEY, Dialect, Manners, SECRET_KEY, Server, fault::Fault},
    suite::{Traits, keeps_its_promises},
    support::{get, key, large_contents, names, open_with, write},
};
use btar::store::{
    BlobStore, Condition, Contents, StoreError,
    proof::{Checksum, Proof},
    read_all,
    transfer::{Destination, Landed, Means, Origin, transfer},
    wrap::limit::{Memory, Turns},
};
use btar::sys::clock::SystemClock;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::StatusCode;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const KEYS: &[(&str, &str)] = &[("ID", ACCESS_KEY), ("KEY", SECRET_KEY)];
const NAMES: &str =
    "allow_http = true\naccess_key_id_env = \"ID\"\nsecret_access_key_env = \"KEY\"\n";

fn open(server: &Server, more: &str) -> Arc<dyn BlobStore> {
    let toml = format!("endpoint = \"{}\"\n{NAMES}{more}", server.url);
    open_with("s3://backups/some/prefix", &toml, KEYS)
}

async fn server() -> Server {
    Server::start(Manners::of(Dialect::S3)).await
}

#[tokio::test]
async fn keeps_promises() {
    let server = server().await;
    keeps_its_promises(&*open(&server, ""), Traits::ALL).await;
    assert_eq!(server.objects().uploads(), 0, "failed uploads are ended");
}

#[tokio::test]
async fn keeps_promises_without_a_prefix_and_with_keys_of_the_environment() {
    let server = server().await;
    let toml = format!("endpoint = \"{}\"\nallow_http = true", server.url);
    let environment = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    keeps_its_promises(&*open_with("s3://backups", &toml, &environment), Traits::ALL).await;
}

#[tokio::test]
async fn keeps_promises_where_conditions_are_not_kept() {
    let server = server().await;
    let traits = Traits { conditions: false, ..Traits::ALL };
    let store = open(&server, "conditional_writes = \"unsupported\"");
    keeps_its_promises(&*store, traits).await;
}

/// As behind TLS: then the call gives the checksum of a small object, and not the client.
#[tokio::test]
async fn keeps_promises_where_contents_are_not_signed() {
    let server = server().await;
    let store = open(&server, "unsigned_payload = true");
    keeps_its_promises(&*store, Traits::ALL).await;
    assert_eq!(server.objects().uploads(), 0, "failed uploads are ended");
}

#[tokio::test]
async fn proves_writes_by_its_checksum_or_by_reading_back() {
    let read_back = "proof = \"read_back\"";
    for (tells_checksums, more, expect) in [
        (true, "unsigned_payload = true", Proof::Checksum(Checksum::Crc64Nvme)),
        (false, "unsigned_payload = true", Proof::ReadBack),
        (true, "", Proof::Checksum(Checksum::Crc64Nvme)),
        (false, "", Proof::ReadBack),
        (true, read_back, Proof::ReadBack),
        (false, "proof = \"store_only\"", Proof::Unproven),
    ] {
        let manners = Manners { tells_checksums, ..Manners::of(Dialect::S3) };
        let server = Server::start(manners).await;
        let store = open(&server, more);
        let small = write(&*store, "small", "x", &Condition::None).await.unwrap();
        assert_eq!(small.proof, expect);
        let (_, contents) = large_contents(17 << 20);
        let large = store.write(&key("large"), contents, &Condition::IfAbsent).await.unwrap();
        assert_eq!(large.proof, expect);
    }
}

/// Copies `s/object` to `t/object` in the same store.
async fn copied(store: &Arc<dyn BlobStore>, size_bytes: u64) -> Landed {
    let origin = Origin { store: store.clone(), key: key("s/object"), size_bytes };
    let to = Destination {
        store: store.clone(),
        key: key("t/object"),
        condition: Condition::IfAbsent,
        quit: CancellationToken::new(),
        turns: Turns::default(),
    };
    let means = Means {
        memory: Memory::new(16 << 20),
        clock: Arc::new(SystemClock::new()),
        turns: Turns::default(),
    };
    let mut landed = None;
    transfer(&origin, None, &[to], &means, &mut |_, what| landed = Some(what)).await;
    landed.unwrap()
}

#[tokio::test]
async fn a_copy_within_a_store_of_one_request_at_a_time_does_not_wait_for_itself() {
    for size in [1000, (17 << 20) + 1] {
        let server = server().await;
        let store = open(&server, "requests_max = 1");
        let (bytes, contents) = large_contents(size);
        store.write(&key("s/object"), contents, &Condition::IfAbsent).await.unwrap();
        server.log();
        let Landed::Stored(stored) = copied(&store, size as u64).await else { panic!() };
        assert_eq!(stored.proof, Proof::Checksum(Checksum::Crc64Nvme));
        // A small object: one request to read it and one to write it.
        let (part, log) = (8 << 20, server.log());
        let expect = if size < part { 2 } else { 2 * size.div_ceil(part) + 5 };
        assert_eq!(log.len(), expect, "{log:#?}");
        assert!(read_all(&*store, &key("t/object"), 1 << 30).await.unwrap().1 == bytes);
    }
}

#[tokio::test]
async fn a_store_that_throttles_is_given_time() {
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS] {
        let server = server().await;
        let store = open(&server, "");
        let size = (17 << 20) + 1;
        let (bytes, contents) = large_contents(size);
        store.write(&key("s/object"), contents, &Condition::IfAbsent).await.unwrap();
        server.faults(move |seen| match seen.number % 2 {
            0 => Fault::Status(status, "SlowDown"),
            _ => Fault::None,
        });
        let landed = copied(&store, size as u64).await;
        assert!(matches!(landed, Landed::Stored(_)), "{landed:?}");
        server.faults(|_| Fault::None);
        assert!(read_all(&*store, &key("t/object"), 1 << 30).await.unwrap().1 == bytes);
    }
}

#[tokio::test]
async fn a_store_that_damages_what_it_takes_is_found_out() {
    let server = server().await;
    let store = open(&server, "");
    // Once: it is written again. Always: it is an error, and nothing damaged is left.
    server.faults(|seen| if seen.number == 0 { Fault::Damage } else { Fault::None });
    write(&*store, "once", "contents", &Condition::IfAbsent).await.unwrap();
    assert_eq!(get(&*store, "once").await.unwrap(), "contents");
    server.faults(|_| Fault::Damage);
    let failed = write(&*store, "always", "contents", &Condition::IfAbsent).await;
    assert!(matches!(failed, Err(StoreError::Unavailable { .. })), "{failed:?}");
    server.faults(|seen| if seen.line.starts_with("POST") { Fault::Damage } else { Fault::None });
    let (_, contents) = large_contents(17 << 20);
    let failed = store.write(&key("large"), contents, &Condition::IfAbsent).await;
    assert!(matches!(failed, Err(StoreError::Unavailable { .. })), "{failed:?}");
    server.faults(|_| Fault::None);
    assert_eq!(names(&*store, "", None).await, ["once"]);
}

#[tokio::test]
async fn tries_again_what_passes() {
    let server = server().await;
    let store = open(&server, "");
    write(&*store, "a", "x", &Condition::IfAbsent).await.unwrap();
    for code in [503, 500, 429] {
        let status = StatusCode::from_u16(code).unwrap();
        server.faults(move |seen| match seen.number {
            0..4 => Fault::Status(status, "SlowDown"),
            _ => Fault::None,
        });
        assert_eq!(get(&*store, "a").await.unwrap(), "x");
    }
    // Each page of a listing has its own failures, and nothing is told twice.
    for at in 0..20 {
        write(&*store, &format!("n{at:02}"), "x", &Condition::None).await.unwrap();
    }
    server.faults(|seen| match seen.number % 2 {
        0 => Fault::Lost,
        _ => Fault::None,
    });
    assert_eq!(names(&*store, "", None).await.len(), 21);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_known_again() {
    let server = server().await;
    let store = open(&server, "");
    server.faults(|seen| if seen.number == 0 { Fault::Lost } else { Fault::None });
    write(&*store, "a", "x", &Condition::IfAbsent).await.unwrap();
    let etag = store.head(&key("a")).await.unwrap().etag.unwrap();
    server.faults(|seen| if seen.number == 0 { Fault::Lost } else { Fault::None });
    write(&*store, "a", "y", &Condition::IfMatch(etag)).await.unwrap();
    // Of somebody else it is not.
    server.faults(|seen| match seen.number {
        0 => Fault::Status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        _ => Fault::None,
    });
    let taken = write(&*store, "a", "z", &Condition::IfAbsent).await;
    assert!(matches!(taken, Err(StoreError::AlreadyExists(_))), "{taken:?}");

    let once = std::sync::atomic::AtomicBool::new(true);
    server.faults(move |seen| {
        let complete = seen.line.starts_with("POST") && seen.line.contains("uploadId");
        let first = complete && once.swap(false, std::sync::atomic::Ordering::SeqCst);
        if first { Fault::Lost } else { Fault::None }
    });
    let (bytes, contents) = large_contents(17 << 20);
    store.write(&key("large"), contents, &Condition::IfAbsent).await.unwrap();
    assert!(read_all(&*store, &key("large"), 1 << 30).await.unwrap().1 == bytes);
}

#[tokio::test]
async fn a_body_that_breaks_off_goes_on_where_it_was() {
    let server = server().await;
    let store = open(&server, "");
    let (bytes, contents) = large_contents(20 << 20);
    store.write(&key("large"), contents, &Condition::None).await.unwrap();
    server.faults(|seen| match seen.number {
        0 => Fault::Break(5_000_000),
        1 => Fault::Break(100),
        2 => Fault::Lost,
        _ => Fault::None,
    });
    assert!(read_all(&*store, &key("large"), 1 << 30).await.unwrap().1 == bytes);
    // Replaced meanwhile, its rest is not that of the same object.
    server.faults(|seen| if seen.number == 0 { Fault::Break(1_000_000) } else { Fault::None });
    let object = store.get(&key("large")).await.unwrap();
    write(&*store, "large", "other", &Condition::None).await.unwrap();
    let read: Result<Vec<_>, _> = object.body.try_collect().await;
    assert!(read.is_err());
}

#[tokio::test]
async fn parts_are_sent_again_and_failed_uploads_are_ended() {
    let server = server().await;
    let store = open(&server, "");
    server.faults(|seen| match seen.line.contains("partNumber=2") && seen.number < 8 {
        true => Fault::Status(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        false => Fault::None,
    });
    let (bytes, contents) = large_contents(30 << 20);
    store.write(&key("large"), contents, &Condition::IfAbsent).await.unwrap();
    assert!(read_all(&*store, &key("large"), 1 << 30).await.unwrap().1 == bytes);

    server.faults(|seen| match seen.line.contains("partNumber=3") {
        true => Fault::Status(StatusCode::FORBIDDEN, "AccessDenied"),
        false => Fault::None,
    });
    let (_, contents) = large_contents(30 << 20);
    let failed = store.write(&key("denied"), contents, &Condition::IfAbsent).await;
    assert!(matches!(failed, Err(StoreError::Denied { .. })), "{failed:?}");
    for _ in 0..200 {
        if server.objects().uploads() == 0 {
            break;
        }
        pause(Duration::from_millis(10)).await;
    }
    assert_eq!(server.objects().uploads(), 0);
}

#[tokio::test]
async fn what_is_lasting_is_told_at_once_and_without_secrets() {
    let server = server().await;
    let toml = format!("endpoint = \"{}\"\n{NAMES}", server.url);
    let wrong = [("ID", ACCESS_KEY), ("KEY", "wrong-secret")];
    let store = open_with("s3://backups", &toml, &wrong);
    let denied = write(&*store, "a", "x", &Condition::None).await.unwrap_err();
    let said = format!("{denied} {denied:?} {store:?}");
    assert!(said.contains("SignatureDoesNotMatch"), "{said}");
    assert!(!said.contains("wrong-secret") && !said.contains(SECRET_KEY), "{said}");
    assert_eq!(server.log().len(), 1, "it is not tried again");

    let store = open_with("s3://no-bucket", &toml, KEYS);
    for error in [
        write(&*store, "a", "x", &Condition::None).await.unwrap_err(),
        get(&*store, "a").await.unwrap_err(),
        store.list(&key(""), None).try_collect::<Vec<_>>().await.unwrap_err(),
    ] {
        let StoreError::Unavailable { source, .. } = &error else { panic!("{error:?}") };
        assert!(source.to_string().contains("NoSuchBucket"), "{error:?}");
        assert!(!error.is_transient());
    }

    let gone = "endpoint = \"http://127.0.0.1:9\"\nallow_http = true\nanonymous = true";
    let store = open_with("s3://backups", gone, &[]);
    let error = store.head(&key("a")).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_listing_begins_where_it_is_asked_to() {
    let server = server().await;
    let store = open(&server, "");
    for at in 0..10 {
        write(&*store, &format!("wal/{at}"), "x", &Condition::None).await.unwrap();
    }
    server.log();
    assert_eq!(names(&*store, "wal", Some("wal/7")).await, ["wal/8", "wal/9"]);
    let log = server.log();
    assert_eq!(log.len(), 1, "one page of 3 is enough: {log:?}");
    assert!(log[0].contains("start-after=some%2Fprefix%2Fwal%2F7"), "{log:?}");
}

#[tokio::test]
async fn a_small_object_is_one_request() {
    let server = server().await;
    let store = open(&server, "");
    server.log();
    let contents = Contents::of(Bytes::from(vec![7; 1 << 20]));
    store.write(&key("a"), contents, &Condition::IfAbsent).await.unwrap();
    let log = server.log();
    assert_eq!(log.len(), 1, "{log:?}");
}

#[tokio::test]
async fn a_slow_answer_is_waited_for() {
    let server = server().await;
    let store = open(&server, "");
    server.faults(|_| Fault::Late(Duration::from_millis(200)));
    write(&*store, "a", "x", &Condition::IfAbsent).await.unwrap();
}
