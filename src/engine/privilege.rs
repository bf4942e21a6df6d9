//! PostgreSQL does not run as root, so neither does the engine: started as root it begins anew as
//! the user that the configuration names.

use std::{
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

/// The engine cannot become another user.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// No such user.
    #[error(
        "there is no user {0} to continue as; set [engine] user in the configuration to one that \
         may read and write the stores, or install the package postgresql, which makes `postgres`"
    )]
    NoUser(String),
    /// The user is root.
    #[error("[engine] user must not be root: PostgreSQL does not run as root")]
    Root,
    /// Something could not be made or changed.
    #[error("{doing} failed")]
    System {
        /// What was being done.
        doing: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Whether this is run by root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Does nothing unless run by root. Otherwise hands `data_dir` to `user`, replaces this process by
/// the same program under that user, and returns only when that fails.
///
/// # Errors
/// [`PrivilegeError`].
pub fn drop_root(user: &str, data_dir: &Path) -> Result<(), PrivilegeError> {
    if !is_root() {
        return Ok(());
    }
    let (uid, gid) = ids(user)?;
    if uid == 0 {
        return Err(PrivilegeError::Root);
    }
    let fault = |doing: String| move |source| PrivilegeError::System { doing, source };
    std::fs::create_dir_all(data_dir)
        .map_err(fault(format!("making the data directory {}", data_dir.display())))?;
    std::os::unix::fs::chown(data_dir, Some(uid), Some(gid))
        .map_err(fault(format!("handing {} to {user}", data_dir.display())))?;
    let program = std::env::current_exe().map_err(fault("finding this program".to_owned()))?;
    // `uid` also takes root's supplementary groups away.
    let failed = Command::new(program).args(std::env::args_os().skip(1)).uid(uid).gid(gid).exec();
    Err(PrivilegeError::System { doing: format!("continuing as {user}"), source: failed })
}

/// User and group number, as the system's name service knows them.
fn ids(user: &str) -> Result<(u32, u32), PrivilegeError> {
    let ask = |what: &str| -> Result<Option<u32>, PrivilegeError> {
        let out =
            Command::new("id").args([what, "--", user]).stderr(Stdio::null()).output().map_err(
                |source| PrivilegeError::System { doing: "running id".to_owned(), source },
            )?;
        let text = String::from_utf8_lossy(&out.stdout);
        Ok(text.trim().parse().ok().filter(|_| out.status.success()))
    };
    let no_user = || PrivilegeError::NoUser(user.to_owned());
    Ok((ask("-u")?.ok_or_else(no_user)?, ask("-g")?.ok_or_else(no_user)?))
}
