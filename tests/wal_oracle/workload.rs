//! What a database does that leaves records of many kinds and sizes in the log.

use crate::cluster::{Cluster, give, wait_for};
use btar::{
    domain::lsn::{Lsn, Segment, SegmentSize, Timeline},
    wal::page::PAGE_SIZE,
};
use std::fs;

pub(crate) const MIB: u64 = 1 << 20;

/// All that is below, one after the other, to the end of a segment.
pub(crate) fn everything(cluster: &Cluster) {
    transactions(cluster);
    many_files(cluster);
    rarities(cluster);
    page_images(cluster);
    message(cluster, 5);
    settings_change(cluster);
    crash(cluster);
    crash_in_a_message(cluster);
    cluster.psql("select pg_switch_wal();; select txid_current();; checkpoint");
}

/// Commits, aborts, subtransactions in plenty, prepared transactions, an origin.
pub(crate) fn transactions(cluster: &Cluster) {
    cluster.psql(
        "create table if not exists x (n int, t text);;
         insert into x select g, md5(g::text) from generate_series(1, 300) g;;
         begin; insert into x values (1); rollback;;
         begin; insert into x values (2); savepoint a; insert into x values (3);
           rollback to a; insert into x values (4); commit;;
         do $$ begin for n in 1..150 loop
           begin insert into x values (n); if n % 3 = 0 then raise exception 'no'; end if;
           exception when others then null; end; end loop; end $$;;
         begin; insert into x values (5); savepoint b; insert into x values (6);
           prepare transaction 'p';;
         begin; insert into x values (7); prepare transaction 'q';;
         commit prepared 'p';;
         rollback prepared 'q';;
         begin; select * from x where n = 1 for share; savepoint c;
           update x set t = 'y' where n = 1; commit;;
         update x set n = n + 1 where n % 5 = 0;;
         delete from x where n % 7 = 0;;
         vacuum x",
    );
    cluster.psql(
        "select pg_replication_origin_create('o')
           where not exists (select from pg_replication_origin);;
         select pg_replication_origin_session_setup('o');;
         begin; select pg_replication_origin_xact_setup('0/1', now());
           insert into x values (8); commit;;
         select pg_logical_emit_message(true, 'm', 'transactional');;
         select pg_create_restore_point('here')",
    );
}

/// A commit that drops so many files that its record spans pages, and indexes of every kind.
fn many_files(cluster: &Cluster) {
    cluster.psql(
        "do $$ begin for n in 1..700 loop
           execute format('create table f%s (n int primary key)', n); end loop; end $$;;
         do $$ begin for n in 1..700 loop
           execute format('drop table f%s', n); end loop; end $$;;
         create table k (n int, p point, a int[], t text);;
         insert into k select g, point(g, g), array[g, g + 1], g::text
           from generate_series(1, 3000) g;;
         create index on k (n);; create index on k using hash (n);;
         create index on k using gist (p);; create index on k using gin (a);;
         create index on k using spgist (p);; create index on k using brin (n);;
         insert into k select * from k where n < 500;;
         create sequence s;; select nextval('s') from generate_series(1, 100);;
         create database d;; drop database d;;
         create table g as select * from k;; truncate g;; alter table k add column z int;;
         cluster k using k_n_idx",
    );
}

/// What the others leave out: multixacts, frozen and pruned rows, catalogues that are written anew,
/// truncated files, tablespaces, origins that go, rows that are large, indexes that are vacuumed, and
/// more subtransactions than a page of the commit log holds.
fn rarities(cluster: &Cluster) {
    let space = cluster.dir.path().join("space");
    fs::create_dir_all(&space).unwrap();
    give(&space);
    cluster.psql(&format!("create tablespace rare location '{}'", space.display()));
    cluster.psql(
        "create table r (n int primary key, t text) with (fillfactor = 50) tablespace rare;;
         insert into r select g, repeat(md5(g::text), 4) from generate_series(1, 3000) g;;
         create table toasted (t text);; alter table toasted alter t set storage external;;
         insert into toasted select repeat(md5(g::text), 9000) from generate_series(1, 5) g;;
         update r set t = t || 'x' where n % 3 = 0;; update r set t = t || 'y' where n % 3 = 0;;
         select count(*) from r;;
         begin; select * from r where n < 50 for key share; savepoint a;
           update r set t = 'z' where n < 50; savepoint b;
           select count(*) from (select * from r where n < 90 for share) l; commit;;
         insert into r values (1, 'a') on conflict (n) do update set t = 'upsert';;
         delete from r where n > 1000;; vacuum (freeze, verbose) r;;
         vacuum k",
    );
    cluster.psql(
        "create table many (n int);;
         do $$ begin for n in 1..33000 loop
           begin insert into many values (n); exception when others then null; end;
         end loop; end $$;;
         vacuum full pg_class;; truncate toasted, g;; reindex table k;;
         select pg_replication_origin_create('gone');;
         select pg_replication_origin_advance('gone', '0/1');;
         select pg_replication_origin_drop('gone');;
         alter table r set tablespace pg_default;; drop tablespace rare;;
         create materialized view m as select * from k;; refresh materialized view m;;
         alter sequence s restart with 7;; select setval('s', 1000);;
         delete from k where n % 2 = 0;; vacuum k;; vacuum (freeze) pg_catalog.pg_attribute;;
         select brin_summarize_new_values(c.oid) from pg_class c join pg_am a on a.oid = c.relam
           where a.amname = 'brin'",
    );
}

/// Page images with holes and without, in each compression that the server knows.
fn page_images(cluster: &Cluster) {
    let known = cluster.psql(
        "select unnest(coalesce(enumvals, '{off,on}')) from pg_settings \
         where name = 'wal_compression'",
    );
    cluster.psql(
        "create table i (n int, t text) with (fillfactor = 30);;
         insert into i select g, repeat(md5(g::text), 10) from generate_series(1, 400) g;;
         create table j (n int, t text);;
         alter table j alter t set storage plain;;
         insert into j select g, repeat(md5(g::text), 60) from generate_series(1, 200) g",
    );
    for method in known.lines() {
        cluster.psql(&format!(
            "checkpoint;; set wal_compression = {method};; update i set n = n + 1;;
             update j set n = n + 1;; checkpoint;; select count(*) from i;; select count(*) from j"
        ));
    }
}

pub(crate) fn message(cluster: &Cluster, mib: u64) {
    cluster.psql(&format!(
        "select pg_logical_emit_message(false, 'm', repeat('0123456789abcdef', {}))",
        mib * MIB / 16
    ));
}

/// Records with the settings of a hot standby.
fn settings_change(cluster: &Cluster) {
    cluster.psql(
        "alter system set max_connections = 137;; alter system set max_worker_processes = 11;;
         alter system set max_wal_senders = 13;; alter system set max_locks_per_transaction = 99",
    );
    cluster.stop("fast");
    cluster.start();
}

/// A crash in the middle of a transaction.
fn crash(cluster: &Cluster) {
    let size = || cluster.psql("select pg_current_wal_lsn()").parse::<Lsn>().unwrap();
    let before = size();
    let mut session =
        cluster.psql_behind("insert into x select 1 from generate_series(1, 9999999)");
    wait_for("the log to grow", || size().0 > before.0 + 2 * MIB);
    cluster.stop("immediate");
    session.wait().unwrap();
    cluster.start();
    transactions(cluster);
}

/// A crash in the middle of a record: its last part never reached the disk, so PostgreSQL gives the
/// record up and says so in its place.
fn crash_in_a_message(cluster: &Cluster) {
    message(cluster, 3);
    let end: Lsn = cluster.psql("select pg_current_wal_insert_lsn()").parse().unwrap();
    cluster.stop("immediate");
    let cut = (end.0 - 3 * MIB / 2) / PAGE_SIZE as u64 * PAGE_SIZE as u64;
    let size = SegmentSize::new(MIB).unwrap();
    let mut segment = Segment::holding(Timeline(1), Lsn(cut), size);
    let mut from = usize::try_from(cut - segment.start(size).0).unwrap();
    loop {
        let file = cluster.wal().join(segment.file_name(size));
        let Ok(mut bytes) = fs::read(&file) else { break };
        bytes[from..].fill(0);
        fs::write(&file, bytes).unwrap();
        (segment, from) = (segment.next(), 0);
    }
    cluster.start();
    transactions(cluster);
}
