//! go-plugin's handshake: a private socket, and one line on stdout that says where it is.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// The version of go-plugin's handshake, which has never changed.
const CORE_PROTOCOL: u32 = 1;

/// The version of Terraform's plugin protocol.
pub(super) const PROTOCOL: u32 = 6;

/// A directory that only this user may enter, with the socket in it. Dropping it removes both.
pub(super) struct SocketDirectory {
    path: PathBuf,
}

impl SocketDirectory {
    /// Private from its first moment: the mode is given when it is made, not afterwards.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        // Short, because the path of a socket may have 107 bytes at most.
        let path = parent.join(format!("tfplugin-{:08x}", rand::random::<u32>()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        UnixListener::bind(self.socket())
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path.join("s")
    }
}

impl Drop for SocketDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, "could not remove the directory of the socket");
        }
    }
}

/// Tells Terraform, which waits for this line, where to connect and whom to expect there.
pub(super) fn announce(socket: &Path, certificate: Option<&str>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line(socket, certificate).as_bytes())?;
    stdout.flush()
}

fn line(socket: &Path, certificate: Option<&str>) -> String {
    format!(
        "{CORE_PROTOCOL}|{PROTOCOL}|unix|{}|grpc|{}\n",
        socket.display(),
        certificate.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_directory_is_private_and_goes_away() {
        let parent = tempfile::tempdir().unwrap();
        let directory = SocketDirectory::create(parent.path()).unwrap();
        let mode = fs::metadata(&directory.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::write(directory.socket(), "").unwrap();
        drop(directory);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_line_names_socket_and_certificate() {
        assert_eq!(line(Path::new("/t/s"), Some("AbC")), "1|6|unix|/t/s|grpc|AbC\n");
        assert_eq!(line(Path::new("/t/s"), None), "1|6|unix|/t/s|grpc|\n");
    }
}
