//! The engine's copying, for `tests/bench/copy.py`, which compares it with others:
//!
//! * `copy AT_ONCE SOURCE TARGET…` copies all objects of a store, and says what it has copied. A
//!   store is a directory or `s3=ENDPOINT/BUCKET`.
//! * `serve LATENCY_MS` serves S3 from memory.
//! * `loopback` says how many bytes pass in a second between two connections of this machine.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

mod memory_s3;

use btar::{
    domain::cloud::CloudName,
    engine::replicate::{
        copying::{Budget, MEMORY_MIB},
        execute::{Lane, NoRecorder, Progress, Side},
        plan::{Proof, Stage, Step},
    },
    store::{
        BlobStore,
        config::{ProofChoice, StoreOptions, process_environment},
        key::Key,
        open::open,
    },
    sys::clock::{Clock, SystemClock},
};
use futures_util::TryStreamExt;
use std::{
    io::{Read, Write},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

fn main() {
    // `cargo bench` gives `--bench` besides.
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match args[..] {
        ["serve", latency] => {
            let latency = Duration::from_millis(latency.parse().unwrap());
            runtime.block_on(memory_s3::serve(latency, |url| println!("{url}")));
        }
        ["copy", at_once, source, ref targets @ ..] => {
            runtime.block_on(copy(at_once.parse().unwrap(), source, targets));
        }
        ["loopback"] => println!("{:.2} GB/s", loopback()),
        _ => println!("see tests/bench/copy.sh"),
    }
}

async fn copy(at_once: usize, source: &str, targets: &[&str]) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let side = |address: &str| Side { store: store(address, &clock), prefix: Key::default() };
    let source = side(source);
    let listed: Vec<_> = source.store.list(&Key::default(), None).try_collect().await.unwrap();
    let steps = listed.into_iter().map(|meta| Step::Copy {
        key: meta.key.to_string(),
        size_bytes: meta.size_bytes,
        proof: Proof::Size,
        replace: false,
    });
    let stages = [Stage { name: "files", steps: steps.collect() }];
    let budget = Budget::new(MEMORY_MIB, targets.len()).paced(clock.clone());
    let progress: Vec<_> = targets.iter().map(|_| Progress::default()).collect();
    let lanes: Vec<_> = targets
        .iter()
        .zip(&progress)
        .enumerate()
        .map(|(at, (target, progress))| {
            let name = format!("aws-eu-west-{}", at + 1);
            Lane {
                memory: budget.of(&CloudName::parse(&name).unwrap()),
                name,
                target: side(target),
                stages: &stages,
                progress,
                stop: CancellationToken::new(),
            }
        })
        .collect();
    let copier = budget.copier(source, at_once, clock.clone(), Arc::new(NoRecorder));
    let mut failed = 0;
    let mut ended = |_, errors: Vec<_>| {
        failed += errors.len();
        if let Some(error) = errors.first() {
            println!("{error:?}");
        }
    };
    copier.run(&lanes, &mut ended).await;
    assert_eq!(failed, 0, "steps failed");
    let done: u64 = progress.iter().map(|p| p.done_bytes.load(Ordering::Relaxed)).sum();
    println!("{done} bytes");
}

fn store(address: &str, clock: &Arc<dyn Clock>) -> Arc<dyn BlobStore> {
    let Some((endpoint, bucket)) =
        address.strip_prefix("s3=").and_then(|address| address.rsplit_once('/'))
    else {
        let options = StoreOptions { proof: ProofChoice::ReadBack, ..StoreOptions::default() };
        return open(&format!("file://{address}"), &options, clock.clone(), &process_environment)
            .unwrap();
    };
    let options = StoreOptions {
        endpoint: Some(endpoint.to_owned()),
        allow_http: true,
        // Named, so that nothing else is asked for keys when they are missing.
        access_key_id_env: Some("AWS_ACCESS_KEY_ID".to_owned()),
        secret_access_key_env: Some("AWS_SECRET_ACCESS_KEY".to_owned()),
        // As with https, which a server of a benchmark does without.
        unsigned_payload: true,
        ..StoreOptions::default()
    };
    open(&format!("s3://{bucket}"), &options, clock.clone(), &process_environment).unwrap()
}

/// Two connections, as a copy needs one to read and one to write.
fn loopback() -> f64 {
    const BYTES: usize = 8 << 30;
    const PIECE: usize = 1 << 20;
    let clock = SystemClock::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let begun = clock.monotonic();
    let send = move || {
        let (mut stream, piece) = (std::net::TcpStream::connect(address).unwrap(), vec![7; PIECE]);
        (0..BYTES / 2 / PIECE).for_each(|_| stream.write_all(&piece).unwrap());
    };
    let senders = [std::thread::spawn(send), std::thread::spawn(send)];
    let receivers = [(), ()].map(|()| {
        let (mut stream, _) = listener.accept().unwrap();
        std::thread::spawn(move || {
            let mut piece = vec![0; PIECE];
            while stream.read(&mut piece).unwrap() > 0 {}
        })
    });
    senders.into_iter().chain(receivers).for_each(|thread| thread.join().unwrap());
    BYTES as f64 / 1e9 / (clock.monotonic() - begun).as_secs_f64()
}
