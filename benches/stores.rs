//! How fast stores are: `cargo bench --bench stores -- [directory|s3]`.
//!
//! Small files show what durability costs; large objects show throughput and memory.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]
#![allow(dead_code, reason = "the server knows faults, which are for tests")]

#[path = "../tests/stores/server/mod.rs"]
mod server;

use btar::{
    store::{
        BlobStore, Body, Condition, Contents, UserMetadata, config::StoreOptions, key::Key,
        local::LocalStore, open::open,
    },
    sys::clock::{Clock, SystemClock},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::Arc,
};

const MIB: usize = 1 << 20;

fn main() {
    let which = std::env::args().nth(1).filter(|arg| !arg.starts_with('-'));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if which.as_deref().is_none_or(|which| which == "directory") {
            directory().await;
        }
        if which.as_deref().is_none_or(|which| which == "s3") {
            s3().await;
        }
        if which.as_deref() == Some("serve") {
            serve().await;
        }
    });
}

async fn directory() {
    let base = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    for (count, size, at_once) in [
        (1000, 16 << 10, 1),
        (4000, 16 << 10, 16),
        (8000, 16 << 10, 64),
        (400, MIB, 16),
        (2, 512 * MIB, 2),
    ] {
        let dir = tempfile::tempdir_in(&base).unwrap();
        let store: Arc<dyn BlobStore> = Arc::new(LocalStore::new(dir.path().to_owned()));
        run("directory", store, count, size, at_once).await;
    }
}

/// The server of the benchmark, in a process of its own so that its memory is not counted.
async fn serve() {
    let manners = server::Manners { page: 1000, ..server::Manners::of(server::Dialect::S3) };
    let server = server::Server::start(manners).await;
    println!("{}", server.url);
    std::future::pending::<()>().await;
}

async fn s3() {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let url = url.trim();
    let options = StoreOptions {
        endpoint: Some(url.to_owned()),
        allow_http: true,
        access_key_id_env: Some("ID".to_owned()),
        secret_access_key_env: Some("KEY".to_owned()),
        ..StoreOptions::default()
    };
    let environment = |name: &str| match name {
        "ID" => Some(server::ACCESS_KEY.to_owned()),
        "KEY" => Some(server::SECRET_KEY.to_owned()),
        _ => None,
    };
    let clock = Arc::new(SystemClock::new());
    let store = open("s3://backups/bench", &options, clock, &environment).unwrap();
    for (count, size, at_once) in [(4000, 16 << 10, 32), (400, MIB, 32), (2, 512 * MIB, 2)] {
        run("s3", store.clone(), count, size, at_once).await;
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

async fn run(what: &str, store: Arc<dyn BlobStore>, count: usize, size: usize, at_once: usize) {
    let clock = SystemClock::new();
    let key = move |at: usize| Key::parse(&format!("{size}/{:02}/{at:06}", at % 16)).unwrap();
    let begun = clock.monotonic();
    let write = |at| {
        let store = store.clone();
        tokio::spawn(async move {
            let user_metadata = UserMetadata::new();
            let contents = Contents::new(size as u64, user_metadata, body(size));
            store.write(&key(at), contents, &Condition::IfAbsent).await.unwrap();
        })
    };
    stream::iter(0..count)
        .map(write)
        .buffer_unordered(at_once)
        .for_each(|done| async { done.unwrap() })
        .await;
    let written = (clock.monotonic() - begun).as_secs_f64();
    let begun = clock.monotonic();
    let listed = store.list(&Key::default(), None).count().await;
    let listing = (clock.monotonic() - begun).as_secs_f64();
    let begun = clock.monotonic();
    let read = |at| {
        let store = store.clone();
        tokio::spawn(async move {
            let body = store.get(&key(at)).await.unwrap().body;
            body.try_fold(0, |sum, piece| async move { Ok(sum + piece.len()) }).await.unwrap()
        })
    };
    let sum = stream::iter(0..count).map(read).buffer_unordered(at_once);
    let bytes = sum.fold(0, |sum, read| async move { sum + read.unwrap() }).await;
    let reading = (clock.monotonic() - begun).as_secs_f64();
    assert_eq!(bytes, count * size);
    let rate = |seconds: f64| {
        format!("{:6.0}/s {:5.0} MB/s", count as f64 / seconds, bytes as f64 / 1e6 / seconds)
    };
    println!(
        "{what:9} {count:5} x {size:9} B, {at_once:2} at once: written {}, read {}, listed {listed} in {listing:.3} s, peak {} MiB",
        rate(written),
        rate(reading),
        peak_mib()
    );
    for at in 0..count {
        store.delete(&key(at)).await.unwrap();
    }
}

/// Contents that take no memory of their own: one piece again and again.
fn body(size: usize) -> Body {
    let piece = Bytes::from(vec![7; size.min(256 << 10)]);
    stream::iter((0..size.div_ceil(piece.len())).map(move |_| Ok(piece.clone()))).boxed()
}

/// The largest resident set so far.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
