//! The copy in a bucket is a repository like any other: with nothing of ours at hand, pgBackRest itself
//! lists it, verifies it and restores a moment from it.

use crate::{
    server::{ACCESS_KEY, BUCKET, Dialect, Manners, SECRET_KEY, Server, tls::tls},
    support::{
        command,
        engine::{Bucket, World},
        free_port, give, postgres_bin, run,
        source::{Mark, Recorded},
        wait_for,
    },
};
use std::{fs, path::PathBuf, process::Stdio, time::Duration};

/// A machine that has pgBackRest, PostgreSQL and the keys of the bucket.
struct Machine {
    dir: PathBuf,
    port: u16,
}

impl Machine {
    fn new(world: &World, tls_port: u16, certificate: &str) -> Self {
        let dir = world.place.dir("tool");
        world.place.dir("tool/data");
        fs::write(dir.join("ca.pem"), certificate).unwrap();
        let text = format!(
            "[global]\nrepo1-type=s3\nrepo1-path=/copies/demo/orders\nrepo1-s3-bucket={BUCKET}\n\
             repo1-s3-endpoint=localhost\nrepo1-s3-region=eu-central-1\nrepo1-s3-uri-style=path\n\
             repo1-s3-key={ACCESS_KEY}\nrepo1-s3-key-secret={SECRET_KEY}\n\
             repo1-storage-port={tls_port}\nrepo1-storage-ca-file={d}/ca.pem\n\
             log-level-file=off\nlock-path={d}\nlog-path={d}\n[orders]\npg1-path={d}/data\n",
            d = dir.display(),
        );
        fs::write(dir.join("pgbackrest.conf"), text).unwrap();
        give(&dir.join("pgbackrest.conf"));
        Self { dir, port: free_port() }
    }

    fn tool(&self, arguments: &[&str]) -> String {
        run(command("pgbackrest")
            .arg(format!("--config={}", self.dir.join("pgbackrest.conf").display()))
            .arg("--stanza=orders")
            .args(arguments))
    }

    fn control(&self, arguments: &[&str]) {
        run(command(postgres_bin().join("pg_ctl"))
            .args(["-w", "-D"])
            .arg(self.dir.join("data"))
            .args(["-l".as_ref(), self.dir.join("postgresql.log").as_os_str()])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null()));
    }

    fn psql(&self, sql: &str) -> String {
        run(command(postgres_bin().join("psql"))
            .args(["-X", "-At", "-d", "postgres", "-c", sql, "-p", &self.port.to_string(), "-h"])
            .arg(&self.dir))
    }

    /// Starts what was restored, and gives rows and sum when it has come to the end of its recovery.
    fn rows(&self) -> (u64, u64) {
        let conf = self.dir.join("data/postgresql.conf");
        let settings = format!(
            "\nport = {}\nunix_socket_directories = '{}'\narchive_mode = off\n",
            self.port,
            self.dir.display()
        );
        let text = fs::read_to_string(&conf).unwrap() + &settings;
        fs::write(&conf, text).unwrap();
        self.control(&["start"]);
        wait_for("the end of the recovery", Duration::from_secs(60), || {
            (self.psql("select pg_is_in_recovery()") == "f").then_some(())
        });
        let text = self.psql("select count(*), coalesce(sum(id), 0) from orders");
        self.control(&["-m", "immediate", "stop"]);
        let (rows, sum) = text.split_once('|').unwrap();
        (rows.parse().unwrap(), sum.parse().unwrap())
    }

    fn restore(&self, mark: &Mark) -> (u64, u64) {
        let time = mark.time.replace('T', " ").replace('Z', "+00");
        let target = format!("--target={time}");
        self.tool(&["--delta", "--type=time", &target, "--target-action=promote", "restore"]);
        self.rows()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.dir.join("data/postmaster.pid").exists() {
            let data = self.dir.join("data");
            let stop = ["-m", "immediate", "stop", "-D"];
            let _ = command(postgres_bin().join("pg_ctl")).args(stop).arg(data).output();
        }
    }
}

#[test]
fn the_tool_itself_restores_from_the_bucket_with_the_primary_and_the_engine_gone() {
    // The engine speaks plainly with the server, the tool demands TLS.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let manners = Manners { page: 10, ..Manners::of(Dialect::S3) };
    let server = runtime.block_on(Server::start(manners));
    let (tls_port, certificate) = runtime.block_on(tls(&server));
    let endpoint = server.url;
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.bucket(Bucket { endpoint, name: BUCKET, access_key: ACCESS_KEY, secret_key: SECRET_KEY });
    world.start();
    world.enable();
    let marks = recorded.restorable();
    let last = marks.last().unwrap();
    world.wait_covered(&last.time);
    wait_for("both backups", Duration::from_secs(30), || {
        let answer = world.call("GET", "/v1/project/demo/service/orders/backups", None);
        let region = &answer.body["pitr"]["additional_regions"][0];
        (region["base_backups"].as_array()?.len() == 2).then_some(())
    });
    world.stop();
    world.lose_primary();

    let machine = Machine::new(&world, tls_port, &certificate);
    let listed = machine.tool(&["info"]);
    assert!(listed.contains("status: ok"), "{listed}");
    assert_eq!(listed.matches(" backup: ").count(), 2, "{listed}");
    let verified = machine.tool(&["--log-level-console=info", "verify"]);
    assert!(verified.contains("completed successfully"), "{verified}");
    assert!(!verified.contains("ERROR") && !verified.contains("WARN"), "{verified}");
    for mark in [&marks[1], last] {
        assert_eq!(machine.restore(mark), (mark.rows, mark.sum), "at {}", mark.time);
    }
}
