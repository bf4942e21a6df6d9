//! Finds the programs that a fork needs.

use crate::{
    engine::fork::{
        error::ForkError,
        process::{self, Program},
    },
    sys::clock::Clock,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a program may take to tell its version.
const LIMIT: Duration = Duration::from_secs(30);

/// The programs of one major version of PostgreSQL.
#[derive(Clone, Debug)]
pub(super) struct Postgres {
    /// Where they are; `None` when the search path has them.
    bin: Option<PathBuf>,
}

impl Postgres {
    /// Looks where Debian's packages put them, and then in the search path.
    ///
    /// # Errors
    /// [`ForkError::PostgresMissing`].
    pub(super) async fn find(major: u32, clock: &dyn Clock) -> Result<Self, ForkError> {
        let bin = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        if bin.join("pg_ctl").is_file() && bin.join("postgres").is_file() {
            return Ok(Self { bin: Some(bin) });
        }
        let asked = Program {
            path: "pg_ctl".into(),
            args: vec!["--version".into()],
            dir: PathBuf::from("/"),
        };
        match process::succeed(&asked, clock, LIMIT).await {
            Ok(version) if major_of(&version) == Some(major) => Ok(Self { bin: None }),
            Ok(_) | Err(_) => Err(ForkError::PostgresMissing { major, looked_at: bin }),
        }
    }

    /// One of the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.as_deref().map_or_else(|| PathBuf::from(name), |bin: &Path| bin.join(name))
    }
}

/// Major version out of `pg_ctl (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(major_of("pg_ctl (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_of("pg_ctl (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_of("nonsense"), None);
    }
}
