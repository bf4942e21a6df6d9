//! PostgreSQL of one major version: what the machine has, or what `.ci/postgresql` gets.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The programs that the tests call.
const PROGRAMS: &[&str] =
    &["initdb", "pg_ctl", "postgres", "psql", "pg_waldump", "pg_controldata", "pg_basebackup"];

/// The directory of its programs.
pub(crate) fn bin(major: u32) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/postgresql");
    let asked =
        Command::new(script).arg(major.to_string()).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success(), "PostgreSQL {major} is missing\n{said}");
    let bin = PathBuf::from(String::from_utf8(asked.stdout).unwrap().trim_end()).join("bin");
    for program in PROGRAMS {
        let program = bin.join(program);
        assert!(program.is_file(), "{} is missing", program.display());
    }
    bin
}
