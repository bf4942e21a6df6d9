//! What these tests ask of a server besides: a table, and rows in it.

use crate::mysql_server::{Product, Server};
use std::path::Path;

/// Makes a server with binary logs and an empty table in `dir`, whose path must be short.
pub(crate) fn with_table(product: Product, dir: &Path, id: u32) -> Server {
    let server = Server::make(product, dir, &[&format!("--server-id={id}")]);
    if product == Product::MySql {
        server.sql("SET sql_log_bin = 0; INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
    }
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT, b TEXT)");
    server
}

impl Server {
    /// Adds rows, each in a transaction of its own.
    pub(crate) fn add(&self, rows: usize) {
        let row = "INSERT INTO d.t (b) VALUES (HEX(RANDOM_BYTES(400)));";
        self.sql(&row.repeat(rows));
    }

    /// Adds some 4 MB that cannot be compressed.
    pub(crate) fn fill(&self) {
        self.sql("INSERT INTO d.t (b) VALUES (HEX(RANDOM_BYTES(1000)))");
        let double = "INSERT INTO d.t (b) SELECT HEX(RANDOM_BYTES(1000)) FROM d.t;";
        self.sql(&double.repeat(12));
    }

    /// What the table holds.
    pub(crate) fn contents(&self) -> String {
        self.sql("SELECT COUNT(*), MAX(a), SUM(CRC32(b)) FROM d.t")
    }

    /// The names of the binary logs.
    pub(crate) fn logs(&self) -> Vec<String> {
        let rows = self.sql("SHOW BINARY LOGS");
        rows.lines().map(|row| row.split('\t').next().unwrap().to_owned()).collect()
    }
}
