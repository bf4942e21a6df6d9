//! The engine as a process, with its regions' stores as directories, and calls of its API.

use super::{
    Place, both, free_port, give, pause, postgres_bin, program, run, source::Recorded,
    ten_free_ports, wait_for,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The token that the tests use; it opens nothing else.
pub(crate) const TOKEN: &str = "test-token-of-the-suite";
/// A service with backups, and one of a type that has none in another region.
const SERVICES: &str = r#"
[[service]]
project = "demo"
name = "orders"
type = "pg"
cloud = "aws-eu-west-1"
plan = "startup-4"
backup = { format = "pgbackrest", stanza = "orders", path = "pgbackrest" }
#retention

[[service]]
project = "demo"
name = "events"
type = "kafka"
cloud = "aws-eu-west-1"
plan = "business-4"
"#;
const PGBACKREST: &str =
    r#"backup = { format = "pgbackrest", stanza = "orders", path = "pgbackrest" }"#;
const TOKEN_SHA256_INPUT: &str = TOKEN;

/// A place with two regions of one provider, one of another, a service and an engine.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) url: String,
    port: u16,
    fork_ports: String,
    disk_reserve: String,
    copy_only: bool,
    retention: &'static str,
    scrub: &'static str,
    bucket: Option<Bucket>,
    /// The primary region's store is this bucket, and the copies are its provider's.
    primary: Option<&'static str>,
    /// The type of the service that has backups.
    service_type: &'static str,
    /// Where they lie, as the configuration has it.
    backup: &'static str,
    /// The stores keep user metadata.
    sidecars: bool,
    /// More settings of forks.
    fork_settings: String,
    /// The name that the configuration gives its key.
    key_id: &'static str,
    second_key: Option<&'static str>,
    engine: Option<Child>,
    binary: PathBuf,
}

/// A bucket of S3.
pub(crate) struct Bucket {
    pub(crate) endpoint: String,
    pub(crate) name: &'static str,
    pub(crate) access_key: &'static str,
    pub(crate) secret_key: &'static str,
}

/// An answer: HTTP status and body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl World {
    /// A world whose primary store holds the recorded repository. The engine does not run yet.
    pub(crate) fn new(recorded: &Recorded) -> Self {
        let world = Self::empty();
        recorded.copy_to(&world.store("aws-eu-west-1").join("pgbackrest"));
        world
    }

    /// A world with empty stores.
    pub(crate) fn empty() -> Self {
        let place = Place::new();
        let port = free_port();
        let binary = place.path().join("btar");
        let built = Path::new(env!("CARGO_BIN_EXE_btar"));
        if fs::hard_link(built, &binary).is_err() {
            fs::copy(built, &binary).unwrap();
        }
        for cloud in ["aws-eu-west-1", "aws-eu-central-1", "google-europe-west3"] {
            place.dir(&format!("stores-{cloud}"));
        }
        place.dir("engine");
        let first = ten_free_ports();
        Self {
            url: format!("http://127.0.0.1:{port}"),
            port,
            fork_ports: format!("{first}-{}", first + 9),
            disk_reserve: "16MiB".to_owned(),
            copy_only: false,
            retention: "",
            scrub: "",
            bucket: None,
            primary: None,
            service_type: "pg",
            backup: PGBACKREST,
            sidecars: false,
            fork_settings: String::new(),
            key_id: "k1",
            second_key: None,
            engine: None,
            binary,
            place,
        }
    }

    pub(crate) fn store(&self, cloud: &str) -> PathBuf {
        self.place.path().join(format!("stores-{cloud}"))
    }

    /// Where the copy of the service lies.
    pub(crate) fn copy(&self) -> PathBuf {
        self.store("aws-eu-central-1").join("demo/orders")
    }

    pub(crate) fn fork_ports(&mut self, ports: &str) {
        ports.clone_into(&mut self.fork_ports);
    }

    /// The secondary region's store is a bucket.
    pub(crate) fn bucket(&mut self, bucket: Bucket) {
        self.bucket = Some(bucket);
    }

    /// The primary region's store is a bucket beside that of the secondary region, whose provider makes
    /// the copies.
    pub(crate) fn copied_by_the_provider(&mut self, primary: &'static str) {
        self.primary = Some(primary);
    }

    /// The backups are a site of PGHoard below `orders`, encrypted with the key `k1`. Gives the key.
    pub(crate) fn site(&mut self, pem: &str) -> String {
        self.sidecars = true;
        self.backup = "backup = { format = \"pghoard\", path = \"orders\" }";
        fs::write(self.key_file(), pem).unwrap();
        give(&self.key_file());
        pem.to_owned()
    }

    /// The service is of MySQL or MariaDB, with its backups as `backup` says.
    pub(crate) fn mysql(&mut self, backup: &'static str, sidecars: bool, fork_settings: &str) {
        (self.service_type, self.backup, self.sidecars) = ("mysql", backup, sidecars);
        fork_settings.clone_into(&mut self.fork_settings);
    }

    /// The configuration has this private key, under the name `k1`.
    pub(crate) fn private_key(&self, pem: &str) {
        fs::write(self.key_file(), pem).unwrap();
        give(&self.key_file());
    }

    /// The configuration has the key under this name.
    pub(crate) fn key_id(&mut self, id: &'static str) {
        self.key_id = id;
    }

    /// The configuration has one more private key.
    pub(crate) fn second_key(&mut self, id: &'static str, pem: &str) {
        self.second_key = Some(id);
        let file = self.second_key_file();
        fs::write(&file, pem).unwrap();
        give(&file);
    }

    fn key_file(&self) -> PathBuf {
        self.place.path().join("k1.pem")
    }

    fn second_key_file(&self) -> PathBuf {
        self.place.path().join("second.pem")
    }

    /// What the program finds in its environment.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("AIVEN_TOKEN", TOKEN.to_owned())];
        if let Some(bucket) = &self.bucket {
            all.push(("AWS_ACCESS_KEY_ID", bucket.access_key.to_owned()));
            all.push(("AWS_SECRET_ACCESS_KEY", bucket.secret_key.to_owned()));
        }
        all
    }

    /// What expired backups leave the copy by.
    pub(crate) fn retention(&mut self, setting: &'static str) {
        self.retention = setting;
    }

    /// How copies are read again.
    pub(crate) fn scrub(&mut self, setting: &'static str) {
        self.scrub = setting;
    }

    pub(crate) fn disk_reserve(&mut self, size: &str) {
        size.clone_into(&mut self.disk_reserve);
    }

    /// From now on the engine knows nothing but the secondary region's store.
    pub(crate) fn forget_all_but_the_copy(&mut self) {
        self.kill();
        fs::remove_dir_all(self.place.path().join("engine")).unwrap();
        self.place.dir("engine");
        self.copy_only = true;
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.place.path().join("btar.toml")
    }

    /// The regions, as the configuration has them.
    fn regions(&self) -> String {
        let clouds: &[&str] = if self.copy_only {
            &["aws-eu-central-1"]
        } else {
            &["aws-eu-west-1", "aws-eu-central-1", "google-europe-west3"]
        };
        clouds
            .iter()
            .map(|cloud| {
                let store = match (&self.bucket, self.primary) {
                    (Some(Bucket { endpoint, .. }), Some(primary)) if *cloud == "aws-eu-west-1" => {
                        format!(
                            "store = \"s3://{primary}\"\n\
                             store_options = {{ endpoint = \"{endpoint}\", allow_http = true }}"
                        )
                    }
                    (Some(Bucket { name, endpoint, .. }), primary)
                        if *cloud == "aws-eu-central-1" =>
                    {
                        format!(
                            "store = \"s3://{name}/copies\"\n\
                             store_options = {{ endpoint = \"{endpoint}\", allow_http = true, \
                             server_side_copy = {} }}",
                            primary.is_some()
                        )
                    }
                    _ if self.sidecars => format!(
                        "store = \"file://{}\"\nstore_options = {{ sidecars = true }}",
                        self.store(cloud).display()
                    ),
                    _ => format!("store = \"file://{}\"", self.store(cloud).display()),
                };
                format!("[[region]]\ncloud = \"{cloud}\"\n{store}\n")
            })
            .collect()
    }

    fn write_config(&self) {
        let sum = {
            let mut child = Command::new("sha256sum")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(
                &mut child.stdin.take().unwrap(),
                TOKEN_SHA256_INPUT.as_bytes(),
            )
            .unwrap();
            String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()[..64].to_owned()
        };
        let regions = self.regions();
        let services = SERVICES.replace("#retention", self.retention);
        let services = services
            .replace(PGBACKREST, self.backup)
            .replace("type = \"pg\"", &format!("type = \"{}\"", self.service_type));
        let (id, file) = (self.key_id, self.key_file());
        let services = if file.exists() {
            let key = format!("[[private_key]]\nid = \"{id}\"\nfile = \"{}\"\n", file.display());
            key + &services
        } else {
            services
        };
        let services = match self.second_key {
            Some(id) => {
                let file = self.second_key_file();
                format!("[[private_key]]\nid = \"{id}\"\nfile = \"{}\"\n{services}", file.display())
            }
            None => services,
        };
        let services = if self.copy_only { "" } else { services.as_str() };
        let text = format!(
            "[engine]\nlisten = \"127.0.0.1:{}\"\ndata_dir = \"{}/engine\"\npoll_interval = \"200ms\"\nfull_scan_interval = \"1s\"\n{}\n\
             [[token]]\nname = \"tests\"\nsha256 = \"{sum}\"\n\
             [forks]\nports = \"{}\"\ndisk_reserve = \"{}\"\n{}\n{regions}{services}",
            self.port,
            self.place.path().display(),
            self.scrub,
            self.fork_ports,
            self.disk_reserve,
            self.fork_settings,
        );
        fs::write(self.config(), text).unwrap();
    }

    /// Starts the engine, as whoever runs the tests: as root it drops to its own user.
    pub(crate) fn start(&mut self) {
        self.write_config();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.place.path().join("engine.log"))
            .unwrap();
        give(&self.place.path().join("engine.log"));
        let child = Command::new(&self.binary)
            .args(["serve", "--config"])
            .arg(self.config())
            .envs(self.environment())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        self.engine = Some(child);
        wait_for("the engine", Duration::from_secs(20), || {
            let ended = self.engine.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the engine ended: {ended:?}\n{}", self.log());
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("engine.log")).unwrap_or_default()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.engine.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and the engine's own orderly end.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.engine.take() {
            run(Command::new("kill").arg(child.id().to_string()));
            let ended = child.wait().unwrap();
            assert!(ended.success(), "{ended}\n{}", self.log());
        }
    }

    /// The primary region's store is there again.
    pub(crate) fn find_primary(&self) {
        fs::rename(self.place.path().join("taken-away"), self.store("aws-eu-west-1")).unwrap();
    }

    /// The primary region's store disappears.
    pub(crate) fn lose_primary(&self) {
        fs::rename(self.store("aws-eu-west-1"), self.place.path().join("taken-away")).unwrap();
    }

    /// Calls the API.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut curl = Command::new(program("curl", "the Debian package curl"));
        curl.args(["-sS", "-X", method, "-w", "\n%{http_code}", "-H"])
            .arg(format!("Authorization: aivenv1 {TOKEN}"))
            .args(["-H", "Content-Type: application/json"]);
        if let Some(body) = body {
            curl.args(["-d", &body.to_string()]);
        }
        let text = run(curl.arg(format!("{}{path}", self.url)));
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
        Answer {
            status: status.parse().unwrap(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    /// Enables the secondary region.
    pub(crate) fn enable(&self) {
        let body =
            serde_json::json!({"user_config": {"additional_backup_regions": ["aws-eu-central-1"]}});
        let answer = self.call("PUT", "/v1/project/demo/service/orders", Some(body));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// The published window of the secondary region: start, end.
    pub(crate) fn window(&self) -> Option<(String, String)> {
        let answer = self.call("GET", "/v1/project/demo/service/orders/backups", None);
        let region = answer.body["pitr"]["additional_regions"].get(0)?.clone();
        let end = |key: &str| region[key].as_str().map(str::to_owned);
        end("pitr_range_start").zip(end("pitr_range_end"))
    }

    /// Waits until the copy covers `time`.
    pub(crate) fn wait_covered(&self, time: &str) {
        wait_for(&format!("the copy to cover {time}"), Duration::from_secs(60), || {
            let (_, end) = self.window()?;
            (end.as_str() >= time).then_some(())
        });
    }

    /// Asks for a fork.
    pub(crate) fn fork(&self, name: &str, time: Option<&str>) -> Answer {
        let mut config = serde_json::json!({"service_to_fork_from": "orders"});
        if let Some(time) = time {
            config["recovery_target_time"] = time.into();
        }
        let body = serde_json::json!({
            "service_name": name, "service_type": self.service_type, "plan": "startup-4",
            "cloud": "aws-eu-central-1", "user_config": config,
        });
        self.call("POST", "/v1/project/demo/service", Some(body))
    }

    /// Waits until a fork is running, and gives its connection URI to the source's database.
    pub(crate) fn wait_running(&self, name: &str) -> String {
        let service = wait_for(&format!("fork {name}"), Duration::from_secs(90), || {
            let answer = self.call("GET", &format!("/v1/project/demo/service/{name}"), None);
            let service = answer.body["service"].clone();
            let error = &service["metadata"]["btar"]["error"];
            assert!(error.is_null(), "fork {name} failed: {error}\n{}", self.log());
            (service["state"] == "RUNNING").then_some(service)
        });
        let uri = service["service_uri"].as_str().expect("a running fork has a URI").to_owned();
        let (server, _) = uri.rsplit_once('/').unwrap();
        format!("{server}/postgres")
    }

    /// Waits until a fork has failed, and gives the reason.
    pub(crate) fn wait_failed(&self, name: &str) -> String {
        wait_for(&format!("fork {name} to fail"), Duration::from_secs(60), || {
            let answer = self.call("GET", &format!("/v1/project/demo/service/{name}"), None);
            let service = answer.body["service"].clone();
            assert_ne!(service["state"], "RUNNING", "the fork must not run");
            service["metadata"]["btar"]["error"].as_str().map(str::to_owned)
        })
    }

    /// Rows and sum of the table `orders` of a fork.
    pub(crate) fn rows(&self, uri: &str) -> (u64, u64) {
        let text = run(Command::new(postgres_bin().join("psql")).args([
            "-X",
            "-At",
            uri,
            "-c",
            "select count(*), coalesce(sum(id), 0) from orders",
        ]));
        let (rows, sum) = text.split_once('|').unwrap();
        (rows.parse().unwrap(), sum.parse().unwrap())
    }

    /// Runs `btar` with some arguments and gives the exit code and standard output.
    pub(crate) fn btar_code(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(&self.binary);
        let out = command.args(arguments).envs(self.environment()).output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    }

    /// Runs `btar` with some arguments and gives status and output.
    pub(crate) fn btar(&self, arguments: &[&str]) -> (bool, String) {
        let out =
            Command::new(&self.binary).args(arguments).envs(self.environment()).output().unwrap();
        (out.status.success(), both(&out))
    }
}

impl Drop for World {
    #[allow(clippy::print_stderr, reason = "a failed test shows what the engine said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the engine's log:\n{}", self.log());
        }
        self.kill();
        for entry in walk(&self.place.path().join("engine")) {
            if entry.file_name().is_some_and(|name| name == "postmaster.pid") {
                let text = fs::read_to_string(&entry).unwrap_or_default();
                if let Some(pid) = text.lines().next() {
                    let _ = Command::new("kill").args(["-QUIT", pid]).output();
                }
            }
        }
        pause(Duration::from_millis(100));
    }
}

/// All files below a directory, links not followed.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(walk(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}
