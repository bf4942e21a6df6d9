//! The log's reader against PostgreSQL itself: every record against `pg_waldump`, every stop against
//! a real recovery, every compression against pgBackRest.
#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "wal_oracle/cluster.rs"]
mod cluster;
#[path = "wal_oracle/dump.rs"]
mod dump;
#[path = "wal_oracle/recovery.rs"]
mod recovery;
#[path = "wal_oracle/workload.rs"]
mod workload;

use btar::{
    domain::{
        lsn::{Lsn, Segment, SegmentSize, Timeline},
        recovery::Codec,
    },
    wal::{
        decode,
        page::PAGE_SIZE,
        record::{Event, Record},
        scan::{Carry, Scanner},
        stop::Sum,
        timeline::TimelinePath,
    },
};
use cluster::{Cluster, command, give, postgres_bins, run};
use dump::{Line, Run, compare, line, waldump};
use proptest::prelude::*;
use recovery::{Fork, stops, targets, times_that_run_backwards};
use std::{
    fs,
    path::{Path, PathBuf},
};
use workload::{MIB, everything, message, transactions};

#[test]
fn small_segments_match_pg_waldump() {
    for bin in postgres_bins() {
        let cluster = Cluster::create(&bin, &["--wal-segsize=1", "-k"]);
        cluster.start();
        everything(&cluster);
        cluster.stop("fast");
        let read = Run::read(&cluster.wal(), Timeline(1), SegmentSize::new(MIB).unwrap());
        assert!(read.segments.len() > 20, "{} segments", read.segments.len());
        check(&bin, &cluster.wal(), &read);
        let seen = |what: &str| read.lines().iter().any(|line| line.what.starts_with(what));
        for what in [
            "COMMIT ",
            "ABORT ",
            "COMMIT_PREPARED",
            "ABORT_PREPARED",
            "CHECKPOINT",
            "RESTORE_POINT",
            "PARAMETER_CHANGE",
            "SWITCH",
        ] {
            assert!(seen(what), "the log has no {what}");
        }
        let given_up = |r: &Record| r.manager == 0 && r.info & 0xF0 == 0xD0;
        assert!(read.records.iter().any(given_up), "no record was given up");
        check_floor(&read);
        each_segment_by_itself(&read);
        flipped_bits(&read);
    }
}

#[test]
fn large_segments_match_pg_waldump() {
    let bin = postgres_bins().pop().unwrap();
    let cluster = Cluster::create(&bin, &[]);
    cluster.start();
    transactions(&cluster);
    message(&cluster, 40);
    transactions(&cluster);
    cluster.psql("checkpoint");
    // What the reader says of a checkpoint's time, which pg_waldump does not print.
    let control = cluster.psql(
        "select checkpoint_lsn, extract(epoch from c.checkpoint_time)::bigint \
         from pg_control_checkpoint() c",
    );
    cluster.stop("immediate");
    let read = Run::read(&cluster.wal(), Timeline(1), SegmentSize::DEFAULT);
    // The message alone lies on three segments.
    assert!(read.indexes.iter().any(|index| index.records == 0), "{:?}", read.indexes);
    assert!(read.indexes.last().unwrap().ends_early);
    check(&bin, &cluster.wal(), &read);
    let checkpoint = read.records.iter().rev().find_map(|record| {
        let Event::Checkpoint { time } = record.event else { return None };
        Some(format!("{}|{}", record.lsn, time.timestamp()))
    });
    assert_eq!(checkpoint, Some(control));
}

#[test]
fn moments_stop_where_postgresql_stops() {
    let bin = postgres_bins().pop().unwrap();
    let source = Cluster::create(&bin, &["--wal-segsize=1"]);
    source.start();
    source.psql("create table t (n int, filler text)");
    let base = source.base_backup();
    let load = "insert into t select 1, repeat('x', 900) from generate_series(1, 20);";
    fs::write(source.dir.path().join("load.sql"), load).unwrap();
    for _ in 0..2 {
        run(command(bin.join("pgbench"))
            .args(["-n", "-c", "8", "-j", "2", "-t", "40", "-h"])
            .arg(source.dir.path())
            .arg("-f")
            .arg(source.dir.path().join("load.sql"))
            .arg("postgres"));
        transactions(&source);
        source.psql("select pg_create_restore_point('no stop');; checkpoint");
    }
    source.psql("select pg_switch_wal();; insert into t values (1);; select pg_switch_wal()");
    source.stop("fast");
    let label = fs::read_to_string(base.data().join("backup_label")).unwrap();
    let start: Lsn =
        label.split_once("LOCATION: ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let size = SegmentSize::new(MIB).unwrap();
    let all = Run::read(&source.wal(), Timeline(1), size);
    let log = Run::of(all.segments.into_iter().filter(|(s, _)| s.end(size) > start));
    let rows: Vec<u64> = targets(&log)
        .into_iter()
        .map(|target| stops(&base, &source.wal(), &log, target).rows)
        .collect();
    assert!(rows[0] < rows[2], "{rows:?}");
    let end = Sum::of(&log.indexes).at_end().unwrap();
    let settings = format!("recovery_target_lsn = '{}'", end.lsn);
    let latest = Fork::recover(&base, &source.wal(), &settings);
    assert_eq!(latest.replayed_to, end.replayed_to);
    assert!(rows[2] < latest.rows, "{rows:?} {}", latest.rows);
    let (wal, log, early) = times_that_run_backwards(&source, log);
    let fork = stops(&base, wal.path(), &log, early);
    assert!(fork.rows < latest.rows, "{} {}", fork.rows, latest.rows);
    a_new_timeline(&fork, wal.path(), &log);
}

/// Promotes the fork, which leaves the old timeline in the middle, and reads along both.
fn a_new_timeline(fork: &Fork, older: &Path, log: &Run) {
    let (replayed_to, fork) = (fork.replayed_to, &fork.cluster);
    fork.psql("select pg_promote()");
    transactions(fork);
    fork.psql("select pg_switch_wal()");
    transactions(fork);
    fork.stop("immediate");
    let history = fs::read_to_string(fork.wal().join("00000002.history")).unwrap();
    let path = TimelinePath::parse(Timeline(2), &history).unwrap();
    let left = path.end_on(Timeline(1)).unwrap();
    assert_eq!(left, replayed_to);
    assert!(Some(left) < Sum::of(&log.indexes).end(), "nothing was abandoned");
    let size = log.size();
    let first = log.segments[0].0.number;
    let files = (first..).map_while(|number| {
        path.candidates(number, size).into_iter().find_map(|segment| {
            let dir = if segment.timeline.0 == 1 { older.to_owned() } else { fork.wal() };
            Some((segment, fs::read(dir.join(segment.file_name(size))).ok()?))
        })
    });
    let both = Run::of(files);
    let switch = Segment::holding(Timeline(2), left, size);
    assert!(both.segments.iter().any(|(segment, _)| *segment == switch));
    let (begin, last) = (switch.start(size), both.names().1);
    let newer = waldump(&fork.bin, &fork.wal(), &switch.file_name(size), &last);
    let (first, last) = log.names();
    let old = waldump(&fork.bin, older, &first, &last);
    let theirs: Vec<Line> = old.into_iter().filter(|line| line.lsn < begin).chain(newer).collect();
    compare(&both.lines(), &theirs);
    let new = both.records.iter().filter(|record| record.lsn >= left);
    assert!(new.clone().any(|record| matches!(record.event, Event::EndOfRecovery { .. })));
    assert!(new.count() > 100);
}

#[test]
fn what_pgbackrest_archives_comes_out_the_same() {
    let bin = postgres_bins().pop().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join("pgbackrest").is_file());
    assert!(found, "pgbackrest is missing: install the package pgbackrest (make deps)");
    let cluster = Cluster::create(&bin, &[]);
    cluster.start();
    message(&cluster, 20);
    transactions(&cluster);
    cluster.psql("select pg_switch_wal()");
    let (data, home) = (cluster.data(), cluster.dir.path());
    let conf = home.join("pgbackrest.conf");
    let text = format!(
        "[global]\nrepo1-path={h}/repo\nlog-path={h}\nlock-path={h}\nlog-level-file=off\n\
         [s]\npg1-path={}\npg1-socket-path={h}\n",
        data.display(),
        h = home.display()
    );
    fs::write(&conf, text).unwrap();
    give(&conf);
    let pgbackrest = |arguments: &[&str]| {
        run(command("pgbackrest")
            .arg(format!("--config={}", conf.display()))
            .arg("--stanza=s")
            .args(arguments));
    };
    pgbackrest(&["stanza-create"]);
    // A first segment full of pages, and a second full of one message.
    let codecs = [
        ("none", Codec::None, ""),
        ("gz", Codec::Gz, ".gz"),
        ("lz4", Codec::Lz4, ".lz4"),
        ("zst", Codec::Zst, ".zst"),
        ("bz2", Codec::Bz2, ".bz2"),
    ];
    for (name, codec, ending) in codecs {
        for segment in ["000000010000000000000001", "000000010000000000000002"] {
            let plain = fs::read(cluster.wal().join(segment)).unwrap();
            let file = cluster.wal().join(segment);
            let kind = format!("--compress-type={name}");
            pgbackrest(&[&kind, "archive-push", file.to_str().unwrap()]);
            let object = archived(&home.join("repo/archive/s"), segment);
            let name = object.file_name().unwrap().to_str().unwrap();
            let sum = name.strip_suffix(ending).unwrap().strip_prefix(segment).unwrap();
            let bytes = fs::read(&object).unwrap();
            let decoded = decode::decode(codec, &bytes).unwrap();
            assert!(decoded == plain, "{name} decodes to other bytes");
            decode::check_sha1(&decoded, &sum[1..]).unwrap();
            for part in [4, bytes.len() / 2, bytes.len() - 4] {
                let part = decode::decode(codec, &bytes[..part]);
                assert!(codec == Codec::None || part.is_err(), "a part of {name} passes");
            }
            fs::remove_file(object).unwrap(); // The next one is of the same name.
        }
    }
    cluster.stop("immediate");
}

/// The object that holds a segment.
fn archived(dir: &Path, segment: &str) -> PathBuf {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().unwrap().to_str().unwrap().starts_with(segment) {
                return path;
            }
        }
    }
    panic!("pgBackRest archived no {segment}");
}

/// Compares a run with `pg_waldump`, and each record's end with the next one's start.
fn check(bin: &Path, dir: &Path, read: &Run) {
    let (first, last) = read.names();
    compare(&read.lines(), &waldump(bin, dir, &first, &last));
    for pair in read.records.windows(2) {
        let gap = pair[1].lsn.0 - pair[0].end.0;
        let border = pair[0].end.0.is_multiple_of(PAGE_SIZE as u64);
        let given_up = pair[1].manager == 0 && pair[1].info & 0xF0 == 0xD0;
        assert!(gap == 0 || border && [24, 40].contains(&gap) || given_up, "{pair:?}");
    }
    for pair in read.indexes.windows(2) {
        assert!(!pair[0].ends_early, "{:?}", pair[0]);
    }
}

/// A scan may begin with any segment, and then gives exactly the records that begin there.
fn each_segment_by_itself(read: &Run) {
    let size = read.size();
    for (segment, bytes) in &read.segments {
        let mut seen = vec![];
        Scanner::new().segment(*segment, bytes, &mut |record| seen.push(line(record))).unwrap();
        let inside =
            |record: &&Record| record.lsn >= segment.start(size) && record.end <= segment.end(size);
        let expected: Vec<Line> = read.records.iter().filter(inside).map(line).collect();
        compare(&seen, &expected);
    }
}

/// A flipped bit is found, or changes nothing that counts; it never makes the log longer. One that
/// lengthens a record over the segment's end is found in the next segment, where the rest is missed.
fn flipped_bits(read: &Run) {
    let size = read.size().bytes();
    let mut carries: Vec<Option<Carry>> = vec![None];
    let mut scanner = Scanner::new();
    for (segment, bytes) in &read.segments {
        scanner.segment(*segment, bytes, &mut |_| {}).unwrap();
        carries.push(scanner.carry());
    }
    let bits = usize::try_from(size * 8).unwrap();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) };
    proptest!(config, |(n in 0..read.segments.len(), bit in 0..bits)| {
        let Some(carry) = carries[n].clone() else { return Ok(()) };
        let (segment, mut bytes) = read.segments[n].clone();
        let scan = |bytes: &[u8]| {
            let mut seen = vec![];
            let mut scanner = Scanner::resume(carry.clone());
            let index = scanner.segment(segment, bytes, &mut |record| seen.push(record.clone()));
            (seen, index, scanner)
        };
        let (whole, _, _) = scan(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (seen, index, mut scanner) = scan(&bytes);
        prop_assert!(seen.len() <= whole.len() && seen[..] == whole[..seen.len()]);
        if let Ok(index) = index && !index.ends_early && seen.len() < whole.len() {
            prop_assert!(bit / 8 >= bytes.len() - PAGE_SIZE, "only the last page has such records");
            if let Some((segment, bytes)) = read.segments.get(n + 1) {
                let next = scanner.segment(*segment, bytes, &mut |_| {});
                prop_assert!(next.is_err(), "the missing rest went unnoticed");
            }
        }
    });
    lengthened_records(read, &carries);
}

/// The last record of each segment that lies wholly on its last page, made longer than the page.
fn lengthened_records(read: &Run, carries: &[Option<Carry>]) {
    let size = read.size();
    let mut checked = 0;
    for (pair, carry) in read.segments.windows(2).zip(carries) {
        let [(segment, bytes), (next, next_bytes)] = pair else { continue };
        let last_page = segment.end(size).0 - PAGE_SIZE as u64;
        let whole = |record: &&Record| record.lsn.0 >= last_page && record.end <= segment.end(size);
        let Some((record, carry)) = read.records.iter().rfind(whole).zip(carry.clone()) else {
            continue;
        };
        let mut bytes = bytes.clone();
        let at = usize::try_from(record.lsn.0 - segment.start(size).0).unwrap();
        bytes[at + 2] ^= 1; // The length is little-endian: 64 KiB longer.
        let mut scanner = Scanner::resume(carry);
        let refused = scanner.segment(*segment, &bytes, &mut |_| {}).is_err()
            || scanner.segment(*next, next_bytes, &mut |_| {}).is_err();
        assert!(refused, "a lengthened record at {} went unnoticed", record.lsn);
        checked += 1;
    }
    assert!(checked > 10, "only {checked} segments have such a record");
}

fn check_floor(read: &Run) {
    let floors: Vec<[u32; 5]> =
        read.indexes.iter().filter_map(|index| index.parameter_floor).collect();
    assert!(floors.iter().any(|floor| floor[0] == 137 && floor[4] == 99), "{floors:?}");
}
