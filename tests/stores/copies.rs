//! Objects that a store takes over from another bucket of its provider, and what goes wrong with that.

use crate::{
    foreign::{Foreign, pause},
    server::{ACCESS_KEY, Dialect, Manners, PRIMARY, SECRET_KEY, Server, fault::Fault},
    support::{QuickClock, get, key, large_contents, names, open_with, options, write},
};
use btar::{
    store::{
        BlobStore, Condition, Contents, StoreError, Stored, UserMetadata, body_of,
        memory::MemoryStore,
        open::open,
        proof::{Checksum, Crc64, Proof},
        read_all,
        takeover::{ObjectName, Original},
        transfer::{Check, Destination, Landed, Means, Origin, transfer},
        wrap::{
            bandwidth::{Bandwidth, SlowedStore},
            faulty::{self, FaultyStore},
            limit::{Memory, Turns},
            metrics::{Meter, MeteredStore, Operation},
            retry::{RetryPolicy, RetryingStore},
        },
    },
    sys::clock::SystemClock,
};
use bytes::Bytes;
use http::StatusCode;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const KEYS: &[(&str, &str)] = &[("ID", ACCESS_KEY), ("KEY", SECRET_KEY)];
const NAMES: &str =
    "allow_http = true\naccess_key_id_env = \"ID\"\nsecret_access_key_env = \"KEY\"\n";
/// What a URL and a header must not garble.
const NAME: &str = "a+b/ü €'&<%41>.gz";
const CRC64: Proof = Proof::Checksum(Checksum::Crc64Nvme);
const PART: usize = 8 << 20;
const LARGE: usize = (17 << 20) + 1;

fn source(url: &str) -> Arc<dyn BlobStore> {
    open_with("s3://primary/so urce", &format!("endpoint = \"{url}\"\n{NAMES}"), KEYS)
}

fn target(url: &str, more: &str) -> Arc<dyn BlobStore> {
    let toml = format!("endpoint = \"{url}\"\n{NAMES}server_side_copy = true\n{more}");
    open_with("s3://backups/copies", &toml, KEYS)
}

async fn server() -> Server {
    Server::start(Manners::of(Dialect::S3)).await
}

fn metadata() -> UserMetadata {
    let json = "{\"files\": [1,  2], \"a\": \"b;c, d\"}";
    UserMetadata::from([
        ("start-wal-segment".to_owned(), "x".to_owned()),
        ("json".to_owned(), json.to_owned()),
    ])
}

/// Writes the object that is copied. Gives its contents.
async fn original(source: &dyn BlobStore, size: usize) -> Bytes {
    let (bytes, contents) = large_contents(size);
    let contents = Contents { user_metadata: metadata(), ..contents };
    source.write(&key(NAME), contents, &Condition::None).await.unwrap();
    bytes
}

fn to(store: &Arc<dyn BlobStore>) -> Destination {
    Destination {
        store: store.clone(),
        key: key(NAME),
        condition: Condition::IfAbsent,
        quit: CancellationToken::new(),
        turns: Turns::default(),
    }
}

async fn carried(
    source: &Arc<dyn BlobStore>,
    size: usize,
    check: Option<Box<dyn Check>>,
    to: &[Destination],
) -> Vec<Landed> {
    let origin = Origin { store: source.clone(), key: key(NAME), size_bytes: size as u64 };
    let means = Means {
        memory: Memory::new(16 << 20),
        clock: Arc::new(SystemClock::new()),
        turns: Turns::default(),
    };
    let mut landed: Vec<_> = to.iter().map(|_| None).collect();
    let mut tell = |at: usize, what| assert!(landed[at].replace(what).is_none(), "told twice");
    transfer(&origin, check, to, &means, &mut tell).await;
    assert_eq!(means.memory.free_bytes(), 16 << 20, "memory is given back");
    landed.into_iter().map(|landed| landed.expect("everyone is told of")).collect()
}

/// Copies the object to one target.
async fn copied(
    source: &Arc<dyn BlobStore>,
    size: usize,
    target: &Arc<dyn BlobStore>,
) -> Result<Stored, StoreError> {
    match carried(source, size, None, &[to(target)]).await.pop().unwrap() {
        Landed::Stored(stored) => Ok(stored),
        Landed::Failed(error) => Err(error),
        landed @ (Landed::Damaged(_) | Landed::LeftBehind) => panic!("{landed:?}"),
    }
}

/// The copy has the contents, the metadata and the etag that it should have.
async fn is_right(target: &dyn BlobStore, bytes: &Bytes, stored: &Stored) {
    let (meta, read) = read_all(target, &key(NAME), 1 << 30).await.unwrap();
    assert!(read == *bytes, "the contents are those of the source");
    let mut sum = Crc64::new();
    sum.update(bytes);
    assert_eq!((stored.size_bytes, stored.crc64), (bytes.len() as u64, sum.finish()));
    assert_eq!(stored.etag, meta.etag);
    assert_eq!(target.user_metadata(&key(NAME)).await.unwrap(), metadata());
}

/// What a store that has read the object knows of it.
async fn read(source: &dyn BlobStore) -> Original {
    let (meta, bytes) = read_all(source, &key(NAME), 1 << 30).await.unwrap();
    let mut sum = Crc64::new();
    sum.update(&bytes);
    Original {
        name: source.object_name(&key(NAME)).unwrap(),
        etag: meta.etag.unwrap(),
        size_bytes: meta.size_bytes,
        crc64: sum.finish(),
        user_metadata: metadata(),
    }
}

fn is_copy(line: &str) -> bool {
    line.contains(" from ")
}

fn text(error: &StoreError) -> String {
    let StoreError::Unavailable { source, .. } = error else { return error.to_string() };
    format!("{error}: {source}")
}

#[tokio::test]
async fn what_was_read_is_copied_by_the_provider_and_not_sent() {
    for size in [0, 1000, LARGE] {
        let server = server().await;
        let (source, target) = (source(&server.url), target(&server.url, ""));
        let bytes = original(&*source, size).await;
        server.log();
        server.taken_bytes();
        let stored = copied(&source, size, &target).await.unwrap();
        assert_eq!(stored.proof, CRC64);
        assert_eq!((server.taken_bytes(), server.objects().uploads()), (0, 0), "{size}");
        // The object once (in parts, and what it is), whether the key is free, and the copy.
        let log = server.log();
        let reads = if size < PART { 1 } else { size.div_ceil(PART) + 1 };
        assert_eq!(log.len(), reads + 2, "{log:#?}");
        let last = log.last().unwrap();
        assert!(last.starts_with("PUT /backups/copies/a%2Bb/") && is_copy(last), "{log:#?}");
        is_right(&*target, &bytes, &stored).await;
    }
}

#[tokio::test]
async fn of_two_targets_the_other_gets_the_bytes() {
    for size in [1000, LARGE] {
        let server = server().await;
        let (source, target) = (source(&server.url), target(&server.url, ""));
        let plain = format!("endpoint = \"{}\"\n{NAMES}", server.url);
        let plain = open_with("s3://backups/plain", &plain, KEYS);
        let memory: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
        let bytes = original(&*source, size).await;
        server.log();
        server.taken_bytes();
        let all = [plain.clone(), target.clone(), memory.clone(), target.clone()];
        let mut to: Vec<_> = all.iter().map(to).collect();
        to[3].key = key("second");
        let landed = carried(&source, size, None, &to).await;
        assert!(landed.iter().all(|landed| matches!(landed, Landed::Stored(_))), "{landed:?}");
        let log = server.log();
        let reads = log.iter().filter(|line| line.starts_with("GET /primary/")).count();
        assert_eq!(reads, size.div_ceil(PART), "{log:#?}");
        assert_eq!(log.iter().filter(|line| is_copy(line)).count(), 2, "{log:#?}");
        let taken = server.taken_bytes();
        assert!((size as u64..size as u64 + 2000).contains(&taken), "{taken}");
        for (store, landed) in all.iter().zip(&landed).take(3) {
            let Landed::Stored(stored) = landed else { unreachable!() };
            is_right(&**store, &bytes, stored).await;
        }
    }
}

/// Finds everything bad.
struct Bad;

impl Check for Bad {
    fn take(&mut self, _: &[u8]) {}

    fn verdict(&mut self) -> Result<(), String> {
        Err("it is bad".to_owned())
    }
}

#[tokio::test]
async fn what_is_damaged_or_cannot_be_read_is_not_copied() {
    for size in [1000, LARGE] {
        let server = server().await;
        let (source, target) = (source(&server.url), target(&server.url, ""));
        original(&*source, size).await;
        server.log();
        let landed = carried(&source, size, Some(Box::new(Bad)), &[to(&target)]).await;
        assert!(
            matches!(&landed[..], [Landed::Damaged(what)] if what == "it is bad"),
            "{landed:?}"
        );
        server.faults(|seen| match seen.line.starts_with("GET /primary/") {
            true => Fault::Status(StatusCode::FORBIDDEN, "AccessDenied"),
            false => Fault::None,
        });
        let denied = copied(&source, size, &target).await;
        assert!(matches!(denied, Err(StoreError::Denied { .. })), "{denied:?}");
        assert!(server.log().iter().all(|line| !line.starts_with("PUT")));
        // It has another size than it was listed with.
        server.faults(|_| Fault::None);
        let changed = copied(&source, size + 1, &target).await;
        assert!(matches!(changed, Err(StoreError::Changed(_))), "{changed:?}");
        assert!(server.log().iter().all(|line| !line.starts_with("PUT")));
    }
}

#[tokio::test]
async fn whoever_gives_up_is_not_read_for() {
    let server = server().await;
    let (source, target) = (source(&server.url), target(&server.url, ""));
    let size = 80 << 20;
    original(&*source, size).await;
    server.log();
    let to = to(&target);
    to.quit.cancel();
    let landed = carried(&source, size, None, &[to]).await;
    assert!(matches!(&landed[..], [Landed::Failed(_)]), "{landed:?}");
    let log = server.log();
    assert!(log.len() < 8 && !log.iter().any(|line| is_copy(line)), "{log:#?}");
}

#[tokio::test]
async fn a_source_that_was_replaced_after_it_was_read_is_not_copied() {
    let server = server().await;
    let (source, target) = (source(&server.url), target(&server.url, ""));
    original(&*source, 1000).await;
    // The target's turn is waited for between reading and writing.
    let (mut to, turns) = (to(&target), Turns::new(1));
    to.turns = turns.clone();
    let turn = turns.take().await;
    server.log();
    let copying = tokio::spawn({
        let source = source.clone();
        async move { carried(&source, 1000, None, &[to]).await }
    });
    while !server.log().iter().any(|line| line.starts_with("GET /primary/")) {
        pause(Duration::from_millis(5)).await;
    }
    write(&*source, NAME, "other contents", &Condition::None).await.unwrap();
    drop(turn);
    let landed = copying.await.unwrap();
    assert!(matches!(&landed[..], [Landed::Failed(StoreError::Changed(_))]), "{landed:?}");
    assert!(names(&*target, "", None).await.is_empty());

    // The same where the object is to be replaced, and where the source is gone.
    let stale = Original { etag: "\"stale\"".to_owned(), ..read(&*source).await };
    write(&*target, NAME, "kept", &Condition::None).await.unwrap();
    let changed = target.take_over(&key(NAME), &stale, &Condition::None).await;
    assert!(matches!(changed, Err(StoreError::Changed(_))), "{changed:?}");
    source.delete(&key(NAME)).await.unwrap();
    let gone = target.take_over(&key(NAME), &stale, &Condition::None).await;
    let Err(StoreError::NotFound(gone)) = gone else { panic!("{gone:?}") };
    assert_eq!(gone.as_str(), format!("so urce/{NAME}"));
    assert_eq!(get(&*target, NAME).await.unwrap(), "kept");
}

/// An etag does not cover metadata: those are written that were read with the contents.
#[tokio::test]
async fn metadata_that_were_replaced_after_they_were_read_are_not_copied() {
    let server = server().await;
    let (source, target) = (source(&server.url), target(&server.url, ""));
    let bytes = original(&*source, 1000).await;
    let known = read(&*source).await;
    let other = UserMetadata::from([("json".to_owned(), "other".to_owned())]);
    let contents = Contents::new(1000, other, body_of(bytes.clone()));
    source.write(&key(NAME), contents, &Condition::None).await.unwrap();
    let stored = target.take_over(&key(NAME), &known, &Condition::IfAbsent).await.unwrap();
    is_right(&*target, &bytes, &stored).await;
    let long = UserMetadata::from([("a".to_owned(), "x".repeat(4000))]);
    let refused = Original { user_metadata: long, ..known };
    let refused = target.take_over(&key("b"), &refused, &Condition::IfAbsent).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_error_in_an_answer_that_looks_well_is_an_error() {
    let server = server().await;
    let (source, target) = (source(&server.url), target(&server.url, ""));
    let bytes = original(&*source, 1000).await;
    for code in ["InternalError", "SlowDown"] {
        let once = AtomicBool::new(true);
        server.faults(move |seen| {
            match is_copy(&seen.line) && once.swap(false, Ordering::SeqCst) {
                true => Fault::Hidden(code),
                false => Fault::None,
            }
        });
        let stored = copied(&source, 1000, &target).await.unwrap();
        is_right(&*target, &bytes, &stored).await;
        target.delete(&key(NAME)).await.unwrap();
        server.faults(move |seen| match is_copy(&seen.line) {
            true => Fault::Hidden(code),
            false => Fault::None,
        });
        let failed = copied(&source, 1000, &target).await.unwrap_err();
        assert!(failed.is_transient() && text(&failed).contains(code), "{failed:?}");
        assert!(names(&*target, "", None).await.is_empty());
    }
    server.faults(|seen| match is_copy(&seen.line) {
        true => Fault::Hidden("AccessDenied"),
        false => Fault::None,
    });
    let denied = copied(&source, 1000, &target).await.unwrap_err();
    assert!(denied.to_string().contains("s3:GetObject"), "{denied}");
    // One that breaks off says nothing.
    let once = AtomicBool::new(true);
    server.faults(move |seen| match is_copy(&seen.line) && once.swap(false, Ordering::SeqCst) {
        true => Fault::Break(50),
        false => Fault::None,
    });
    let stored = copied(&source, 1000, &target).await.unwrap();
    assert_eq!(stored.proof, Proof::ReadBack, "the copy had been made");
    is_right(&*target, &bytes, &stored).await;
}

#[tokio::test]
async fn copies_are_proven_as_writes_are() {
    let read_back = "proof = \"read_back\"";
    let store_only = "proof = \"store_only\"";
    for (tells_checksums, tells_of_copies, more, expect) in [
        (true, true, "", CRC64),
        (true, false, "", CRC64),
        (false, false, "", Proof::ReadBack),
        (true, true, read_back, Proof::ReadBack),
        (true, false, store_only, CRC64),
        (false, false, store_only, Proof::Unproven),
    ] {
        let manners = Manners { tells_checksums, tells_of_copies, ..Manners::of(Dialect::S3) };
        let server = Server::start(manners).await;
        let (source, target) = (source(&server.url), target(&server.url, more));
        for size in [1000, LARGE] {
            original(&*source, size).await;
            assert_eq!(copied(&source, size, &target).await.unwrap().proof, expect, "{more}");
            target.delete(&key(NAME)).await.unwrap();
            if expect == Proof::Unproven {
                continue;
            }
            // Once: it is copied again. Always: it is an error, and nothing damaged is left.
            let once = AtomicBool::new(true);
            server.faults(move |seen| {
                let damages = is_copy(&seen.line) && once.swap(false, Ordering::SeqCst);
                if damages { Fault::Damage } else { Fault::None }
            });
            assert_eq!(copied(&source, size, &target).await.unwrap().proof, expect, "{more}");
            target.delete(&key(NAME)).await.unwrap();
            server.faults(|seen| if is_copy(&seen.line) { Fault::Damage } else { Fault::None });
            let wrong = copied(&source, size, &target).await.unwrap_err();
            assert!(text(&wrong).contains("is not what was read; it was removed"), "{wrong:?}");
            server.faults(|_| Fault::None);
            assert!(names(&*target, "", None).await.is_empty());
        }
    }
}

#[tokio::test]
async fn whoever_may_not_read_the_source_is_told_what_is_missing() {
    let server = server().await;
    let (source, target) = (source(&server.url), target(&server.url, ""));
    for size in [1000, LARGE] {
        original(&*source, size).await;
        server.objects().unreadable = Some(PRIMARY);
        server.log();
        server.taken_bytes();
        let denied = copied(&source, size, &target).await.unwrap_err();
        assert!(matches!(denied, StoreError::Denied { .. }), "{denied:?}");
        let said = format!("{denied} {denied:?}");
        for words in ["AccessDenied", "s3:GetObject", "remove server_side_copy"] {
            assert!(said.contains(words), "{said}");
        }
        assert!(!said.contains(SECRET_KEY) && !said.contains(ACCESS_KEY), "{said}");
        let log = server.log();
        assert_eq!(log.iter().filter(|line| line.starts_with("PUT")).count(), 1, "{log:#?}");
        assert_eq!(server.taken_bytes(), 0);
        assert!(names(&*target, "", None).await.is_empty());
    }
}

#[tokio::test]
async fn a_copy_whose_answer_was_lost_is_known_again() {
    for condition in [Condition::IfAbsent, Condition::None] {
        for size in [1000, LARGE] {
            let server = server().await;
            let (source, target) = (source(&server.url), target(&server.url, ""));
            let bytes = original(&*source, size).await;
            let once = AtomicBool::new(true);
            server.faults(move |seen| {
                let loses = is_copy(&seen.line) && once.swap(false, Ordering::SeqCst);
                if loses { Fault::Lost } else { Fault::None }
            });
            let known = read(&*source).await;
            let stored = target.take_over(&key(NAME), &known, &condition).await.unwrap();
            let is_looked_at = condition == Condition::IfAbsent;
            assert_eq!(stored.proof, if is_looked_at { Proof::ReadBack } else { CRC64 });
            is_right(&*target, &bytes, &stored).await;
        }
    }
}

#[tokio::test]
async fn what_others_have_written_stays() {
    for more in ["", "conditional_writes = \"unsupported\""] {
        let server = server().await;
        let (source, target) = (source(&server.url), target(&server.url, more));
        original(&*source, 1000).await;
        write(&*target, NAME, "theirs", &Condition::None).await.unwrap();
        let taken = copied(&source, 1000, &target).await;
        assert!(matches!(taken, Err(StoreError::AlreadyExists(_))), "{taken:?}");
        // Written between the look and the copy, it is seen by the store alone.
        server.faults(|seen| match (seen.number, seen.line.starts_with("HEAD /backups/")) {
            (0..=1, true) => Fault::Status(StatusCode::NOT_FOUND, "NoSuchKey"),
            _ => Fault::None,
        });
        let known = read(&*source).await;
        let raced = target.take_over(&key(NAME), &known, &Condition::IfAbsent).await;
        if more.is_empty() {
            assert!(matches!(raced, Err(StoreError::AlreadyExists(_))), "{raced:?}");
            assert_eq!(get(&*target, NAME).await.unwrap(), "theirs");
        }
        server.faults(|_| Fault::None);
        let replaced = target.take_over(&key(NAME), &known, &Condition::None).await.unwrap();
        assert_eq!(replaced.proof, CRC64);
        let compared = Condition::IfMatch(replaced.etag.unwrap());
        let refused = target.take_over(&key(NAME), &known, &compared).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn only_what_the_provider_can_copy_is_taken_over() {
    let target = target("http://127.0.0.1:9", "");
    let name = source("http://127.0.0.1:9/").object_name(&key("a")).unwrap();
    assert_eq!((name.bucket.as_str(), name.key.as_str()), ("primary", "so urce/a"));
    assert!(target.takes_over(&name, 5 << 30));
    assert!(!target.takes_over(&name, (5 << 30) + 1), "S3 copies no larger ones in one request");
    let elsewhere = source("http://127.0.0.1:10").object_name(&key("a")).unwrap();
    assert!(!target.takes_over(&elsewhere, 1));
    assert!(!source("http://127.0.0.1:9").takes_over(&name, 1), "nobody has asked for it");
    assert_eq!(MemoryStore::new().object_name(&key("a")), None);
    let google = open_with("gs://primary", "anonymous = true", &[]);
    assert_eq!(google.object_name(&key("a")), None);

    let aws = |more: &str| open_with("s3://b", &format!("region = \"eu-west-1\"\n{more}"), &[]);
    let here = aws("").object_name(&key("a")).unwrap();
    assert!(aws("server_side_copy = true").takes_over(&here, 1));
    assert!(!target.takes_over(&here, 1));
    let original = Original {
        name: here,
        etag: "\"1\"".to_owned(),
        size_bytes: 1,
        crc64: 1,
        user_metadata: UserMetadata::new(),
    };
    for store in [&target, &google] {
        let refused = store.take_over(&key("a"), &original, &Condition::None).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    }
}

#[test]
fn settings_that_do_not_fit_are_told() {
    for (address, more, words) in [
        ("gs://b", "anonymous = true", "for buckets of S3"),
        ("az://b", "account = \"a\"", "for buckets of S3"),
        ("s3://b", "region = \"eu-west-1\"\nanonymous = true", "needs credentials"),
        ("file:///srv", "", "a directory takes only"),
    ] {
        let options = options(&format!("server_side_copy = true\n{more}"));
        let error = open(address, &options, Arc::new(QuickClock::default()), &|_| None);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(words), "{address}: {error}");
    }
}

#[derive(Debug, Default)]
struct Copies(Mutex<Vec<(Operation, bool, u64)>>);

impl Meter for Copies {
    fn called(&self, _: &str, operation: Operation, _: Duration, error: Option<&StoreError>) {
        self.0.lock().unwrap().push((operation, error.is_some(), 0));
    }

    fn moved(&self, _: &str, operation: Operation, bytes: u64) {
        self.0.lock().unwrap().push((operation, false, bytes));
    }
}

#[tokio::test]
async fn stores_around_a_store_pass_it_on_and_move_no_bytes() {
    let server = server().await;
    let (source, target) = (source(&server.url), target(&server.url, ""));
    let bytes = original(&*source, 1000).await;
    let (clock, meter) = (Arc::new(QuickClock::default()), Arc::new(Copies::default()));
    let faulty = FaultyStore::new(target.clone(), clock.clone(), |call| match call.number {
        0 => faulty::Fault::Before,
        1 => faulty::Fault::After,
        _ => faulty::Fault::None,
    });
    let line = Bandwidth::new(1, clock.clone());
    let slowed = Arc::new(SlowedStore::new(Arc::new(faulty), line));
    let metered = Arc::new(MeteredStore::new(slowed, meter.clone(), clock.clone()));
    let around = RetryingStore::new(metered, clock.clone(), RetryPolicy::default(), None);
    let known = read(&*source).await;
    assert_eq!(around.object_name(&key(NAME)), target.object_name(&key(NAME)));
    assert!(around.takes_over(&known.name, 1000));
    let mut found = Vec::new();
    for _ in 0..3 {
        let taken = around.take_over(&key(NAME), &known, &Condition::None).await;
        found.push(taken.is_err());
        if let Ok(stored) = taken {
            is_right(&*target, &bytes, &stored).await;
        }
    }
    assert_eq!(found, [true, true, false]);
    let seen = meter.0.lock().unwrap().clone();
    let called = |is_error| (Operation::TakeOver, is_error, 0);
    assert_eq!(seen, [called(true), called(true), called(false)]);
    assert_eq!(clock.slept(), Duration::ZERO);
}

/// Others' server: it ignores both conditions of a copy, and may tell a CRC-32 as CRC-64.
#[tokio::test]
async fn moto_copies_too() {
    let args = |port: u16, _: &str| vec!["-p".to_owned(), port.to_string()];
    let moto = Foreign::start("moto_server", "moto[server] from PyPI", args).await;
    let url = format!("http://127.0.0.1:{}", moto.port);
    for bucket in ["primary", "backups"] {
        let made = Foreign::put(&format!("{url}/{bucket}")).await;
        assert!(made.contains(" 200 "), "{made}");
    }
    let (source, target) = (source(&url), target(&url, ""));
    for size in [0, 1000, LARGE] {
        let bytes = original(&*source, size).await;
        let stored = copied(&source, size, &target).await.unwrap();
        assert_ne!(stored.proof, Proof::Unproven);
        is_right(&*target, &bytes, &stored).await;
        let taken = copied(&source, size, &target).await;
        assert!(matches!(taken, Err(StoreError::AlreadyExists(_))), "{taken:?}");
        target.delete(&key(NAME)).await.unwrap();
    }
    let known = read(&*source).await;
    write(&*source, NAME, "other contents", &Condition::None).await.unwrap();
    let wrong = target.take_over(&key(NAME), &known, &Condition::IfAbsent).await.unwrap_err();
    assert!(text(&wrong).contains("it was removed"), "{wrong:?}");
    assert!(names(&*target, "", None).await.is_empty());
    let name = ObjectName { bucket: "nobody".to_owned(), ..known.name.clone() };
    let missing = Original { name, ..known };
    let missing = target.take_over(&key(NAME), &missing, &Condition::IfAbsent).await;
    assert!(missing.is_err(), "{missing:?}");
}
