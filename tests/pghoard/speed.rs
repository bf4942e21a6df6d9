//! How fast a larger base backup is restored, against `zstd -dc | tar x`. Prints figures; run it
//! with `cargo nextest run --release --test pghoard --run-ignored all -E 'test(speed)' --no-capture`.

use crate::site::{SITE, restore_from};
use btar::{
    restore::tablespaces::Placement,
    sealed::keys::Keys,
    store::local::{LocalStore, Sidecars},
};
use serde_json::json;
use std::{fs, path::Path, process::Command, time::Instant};

const ID: &str = "2026-12-01_10-00_0";
const CHUNKS: u32 = 8;
const FILES: u32 = 8;
const ROUNDS: u32 = 5;
/// 1 GiB in all.
const FILE_BYTES: usize = (1 << 30) / (CHUNKS as usize * FILES as usize);

/// A file that compresses about as a table does: half of each page is the same everywhere.
fn contents(seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut out = Vec::with_capacity(FILE_BYTES);
    while out.len() < FILE_BYTES {
        for _ in 0..16 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            out.extend_from_slice(&state.to_le_bytes());
        }
        out.extend_from_slice(&[b'a'; 64]);
    }
    out
}

fn put(root: &Path, key: &str, tar: &[u8], mut metadata: serde_json::Value) -> usize {
    let object = zstd::encode_all(tar, 3).unwrap();
    metadata["compression-algorithm"] = json!("zstd");
    metadata["original-file-size"] = json!(tar.len().to_string());
    let path = root.join(SITE).join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &object).unwrap();
    fs::write(format!("{}.metadata", path.display()), metadata.to_string()).unwrap();
    object.len()
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, contents: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(contents.len() as u64);
    tar.append_data(&mut header, name, contents).unwrap();
}

#[test]
#[ignore = "prints figures"]
fn restoring_a_gibibyte() {
    let dir = tempfile::tempdir().unwrap();
    let mut chunks = Vec::new();
    for number in 1..=CHUNKS {
        let mut tar = tar::Builder::new(Vec::new());
        for file in 0..FILES {
            let name = format!("pgdata/base/{number}/{file}");
            append(&mut tar, &name, &contents(number * 100 + file));
        }
        if number == 1 {
            append(&mut tar, "pgdata/PG_VERSION", b"15\n");
        }
        let (tar, file) = (tar.into_inner().unwrap(), format!("{ID}/{ID}.{number:08}.pghoard"));
        let size = put(dir.path(), &format!("basebackup_chunk/{file}"), &tar, json!({}));
        chunks.push(json!({"chunk_filename": file, "input_size": tar.len(), "result_size": size}));
    }
    let mut tar = tar::Builder::new(Vec::new());
    let index = json!({"chunks": chunks, "tablespaces": {}}).to_string();
    append(&mut tar, ".pghoard_tar_metadata.json", index.as_bytes());
    append(&mut tar, "pgdata/global/pg_control", b"control");
    append(&mut tar, "pgdata/backup_label", b"label");
    let metadata = json!({
        "format": "pghoard-bb-v2",
        "start-time": "2026-12-01T10:00:00+00:00", "end-time": "2026-12-01T10:00:01+00:00",
        "start-wal-segment": "000000010000000000000002",
        "end-wal-segment": "000000010000000000000002",
    });
    let key = format!("basebackup/{ID}.00000000.pghoard");
    put(dir.path(), &key, &tar.into_inner().unwrap(), metadata);

    let store = LocalStore::with_sidecars(dir.path().to_owned(), Sidecars::Json);
    let (mut ours, mut theirs, mut disk) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let target = dir.path().join(format!("data{round}"));
        ours.push(measured(&target, || {
            let (keys, spaces) = (Keys::none(), Placement::default());
            let restored = restore_from(&store, ID, &target, &keys, &spaces).unwrap();
            assert!(restored.bytes > 1 << 30);
        }));
        let script = format!(
            "mkdir {0} && cd {0} && for c in {1}/{SITE}/basebackup_chunk/{ID}/*.pghoard; do \
             zstd -dcq $c | tar x; done; sync -f .",
            target.display(),
            dir.path().display()
        );
        theirs.push(measured(&target, || shell(&script)));
        let file = contents(round + 1);
        disk.push(measured(&target, || {
            fs::create_dir(&target).unwrap();
            for name in 0..CHUNKS * FILES {
                fs::write(target.join(name.to_string()), &file).unwrap();
            }
            shell(&format!("sync -f {}", target.display()));
        }));
        let load = fs::read_to_string("/proc/loadavg").unwrap();
        println!("round {round}, load {}", load.split(' ').next().unwrap());
    }
    println!("seconds by the clock and of processors, medians of {ROUNDS} rounds:");
    let ours = median("ours (2 at a time)", &ours);
    let theirs = median("zstd and tar", &theirs);
    let disk = median("the files alone, written by one thread and synced", &disk);
    println!("zstd and tar by ours: {:.2} by the clock", theirs.clock / ours.clock);
    println!("zstd and tar by ours: {:.2} by processor time", theirs.processor / ours.processor);
    println!("ours by the files alone: {:.2} by the clock", ours.clock / disk.clock);
}

/// Seconds.
#[derive(Clone, Copy)]
struct Seconds {
    clock: f64,
    processor: f64,
}

/// What `work` takes, which fills `target`, with all threads and with processes that it waited for.
#[allow(clippy::disallowed_methods, reason = "it measures")]
fn measured(target: &Path, work: impl FnOnce()) -> Seconds {
    shell("sync");
    let (began, before) = (Instant::now(), processor_seconds());
    work();
    let seconds =
        Seconds { clock: began.elapsed().as_secs_f64(), processor: processor_seconds() - before };
    fs::remove_dir_all(target).unwrap();
    seconds
}

/// Processor time of this process and of those that it has waited for.
fn processor_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may hold anything: times from the 14th field on, in ticks of 10 ms.
    let fields = text.rsplit(')').next().unwrap().split_whitespace().skip(11).take(4);
    fields.map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

fn shell(script: &str) {
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
}

#[allow(clippy::print_stdout, reason = "it prints figures")]
fn median(what: &str, rounds: &[Seconds]) -> Seconds {
    let of = |one: fn(&Seconds) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(one).collect();
        all.sort_by(f64::total_cmp);
        println!("  {what}: {all:.2?}");
        all[all.len() / 2]
    };
    Seconds { clock: of(|seconds| seconds.clock), processor: of(|seconds| seconds.processor) }
}
