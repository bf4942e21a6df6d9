//! Every record of a version's log, as its own `pg_waldump` prints it.

use crate::{
    cluster::Cluster,
    dump::{MANAGERS, Run, compare, waldump},
    postgres,
    workload::{MIB, everything},
};
use btar::domain::lsn::{SegmentSize, Timeline};

/// Writes a log with all that a database does, and compares what is read of it.
pub(crate) fn check(major: u32) {
    let bin = postgres::bin(major);
    let cluster = Cluster::create(&bin, &["--wal-segsize=1", "-k"]);
    cluster.configure("track_commit_timestamp = on");
    cluster.start();
    everything(&cluster);
    let version = cluster.psql("show server_version");
    cluster.stop("fast");
    let read = Run::read(&cluster.wal(), Timeline(1), SegmentSize::new(MIB).unwrap());
    assert!(read.indexes.iter().all(|index| index.postgres_major == major));
    let (first, last) = read.names();
    let (ours, theirs) = (read.lines(), waldump(&bin, &cluster.wal(), &first, &last));
    compare(&ours, &theirs);
    // Only extensions write records of this one.
    let lacks = |manager: &&&str| !theirs.iter().any(|line| line.manager == **manager);
    let lacking: Vec<&&str> = MANAGERS.iter().filter(lacks).collect();
    assert_eq!(lacking, [&"Generic"]);
    for what in ["COMMIT_PREPARED", "ABORT_PREPARED", "CHECKPOINT", "PARAMETER_CHANGE", "SWITCH"] {
        assert!(theirs.iter().any(|line| line.what.starts_with(what)), "the log has no {what}");
    }
    println!(
        "versions: {version}: log: {} records in {} segments of 1 MiB, all as pg_waldump has them",
        ours.len(),
        read.segments.len()
    );
}
