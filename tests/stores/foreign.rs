//! Servers that others wrote, for a second opinion.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A server that ends with the test.
pub(crate) struct Foreign {
    child: Child,
    pub(crate) port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // A server that has ended by itself is ended all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Foreign {
    /// Starts a program with a free port, and waits until it listens there. `package` tells who
    /// misses the program how to get it.
    pub(crate) async fn start(
        program: &str,
        package: &str,
        args: impl Fn(u16, &str) -> Vec<String>,
    ) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new(find(program, package))
            .args(args(port, dir.path().to_str().unwrap()))
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut started = Self { child, port, _dir: dir };
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return started;
            }
            assert!(started.child.try_wait().unwrap().is_none(), "{program} has ended");
            pause(Duration::from_millis(50)).await;
        }
        panic!("{program} does not listen");
    }
}

impl Foreign {
    /// An empty PUT, for what stores do not do themselves. Gives the answer's first line.
    pub(crate) async fn put(url: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
        let request = format!(
            "PUT /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }
}

pub(crate) async fn pause(period: Duration) {
    tokio::time::timeout(period, std::future::pending::<()>()).await.ok();
}

/// The program that `make deps` installs below the target directory.
fn find(program: &str, package: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let places = ["moto/bin", "azurite/node_modules/.bin"];
    let mut files = places.iter().map(|place| target.join(place).join(program));
    files
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("`{program}` is missing: install {package} (make deps)"))
}
