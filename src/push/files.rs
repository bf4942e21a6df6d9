//! The server's binary logs as files: what they hold, and how they are compressed and sent.

use crate::{
    binlog::{
        fault::{Damage, Fault},
        summary::{Summary, summarize},
    },
    push::error::PushError,
    store::{Body, Contents, StoreError, UserMetadata, body_of, key::Key},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use sha1::{Digest, Sha1};
use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};
use tokio::sync::mpsc;

/// Compression of everything that is pushed: as fast as disks, and the default of the tools.
const LEVEL: i32 = 3;
/// A compressed file that is larger is not kept in memory but compressed again for sending.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// Pieces in which a file is read and sent.
const PIECE_BYTES: usize = 256 << 10;
/// What is read of a file of which only the beginning is asked for.
const HEAD_BYTES: u64 = 256 << 10;

/// A closed binary log.
#[derive(Debug)]
pub(super) struct Inspected {
    /// What it holds, up to what is wrong with it.
    pub(super) summary: Summary,
    /// What is wrong with it.
    pub(super) damage: Option<Damage>,
    /// Size when compressed, in bytes.
    pub(super) stored_bytes: u64,
    /// SHA-1 of it compressed.
    pub(super) sha1: [u8; 20],
    kept: Option<Vec<u8>>,
}

/// Reads and compresses a whole file.
///
/// # Errors
/// [`PushError::Purged`], [`PushError::File`], and [`PushError::Unusable`] when nobody could restore
/// from it.
pub(super) async fn inspect(path: &Path, name: &str) -> Result<Inspected, PushError> {
    inspect_with(path, name, KEPT_BYTES_MAX).await
}

async fn inspect_with(path: &Path, name: &str, kept_max: usize) -> Result<Inspected, PushError> {
    let (path, name) = (path.to_owned(), name.to_owned());
    blocking(move || {
        let file = open(&path, &name)?;
        let sink = Sink { sha1: Sha1::new(), bytes: 0, kept: Some(Vec::new()), kept_max };
        let fault = || PushError::file("reading", &path);
        let mut tee = Tee { file, encoder: encoder(sink).map_err(fault())? };
        let read = summarize(BufReader::with_capacity(PIECE_BYTES, &mut tee));
        let (summary, damage) = usable(read, &name)?;
        // What is wrong ends the reading. The file goes on.
        io::copy(&mut tee, &mut io::sink()).map_err(fault())?;
        let sink = tee.encoder.finish().map_err(fault())?;
        let sha1 = sink.sha1.finalize().into();
        Ok(Inspected { summary, damage, stored_bytes: sink.bytes, sha1, kept: sink.kept })
    })
    .await
}

/// What the beginning of a file says: when it was begun, and the transactions before it.
///
/// # Errors
/// Those of [`inspect`].
pub(super) async fn head(path: &Path, name: &str) -> Result<Summary, PushError> {
    let (path, name) = (path.to_owned(), name.to_owned());
    blocking(move || {
        let file = open(&path, &name)?;
        Ok(usable(summarize(BufReader::new(file.take(HEAD_BYTES))), &name)?.0)
    })
    .await
}

/// Whether there is anything in the file that is being written, before byte `end`.
///
/// # Errors
/// Those of [`inspect`].
pub(super) async fn holds_anything(path: &Path, name: &str, end: u64) -> Result<bool, PushError> {
    Ok(end > head(path, name).await?.first_group_start)
}

impl Inspected {
    /// The compressed file, for a store.
    ///
    /// # Errors
    /// [`PushError::Purged`], [`PushError::File`].
    pub(super) fn contents(&mut self, path: &Path, name: &str) -> Result<Contents, PushError> {
        let size = self.stored_bytes;
        let body = match self.kept.take() {
            Some(bytes) => body_of(Bytes::from(bytes)),
            None => again(open(path, name)?, self.sha1),
        };
        Ok(Contents::new(size, UserMetadata::new(), body))
    }
}

/// The summary of a binary log of an object in a store, and what is wrong with it.
///
/// # Errors
/// [`StoreError`], [`PushError::Unusable`].
pub(super) async fn summary_of_object(
    body: Body,
    name: &str,
    is_compressed: bool,
) -> Result<Summary, PushError> {
    let name = name.to_owned();
    reading(body, is_compressed, move |plain| Ok(usable(summarize(plain), &name)?.0)).await
}

/// Whether an object holds exactly the contents of a file.
///
/// # Errors
/// [`StoreError`], [`PushError::Purged`], [`PushError::File`].
pub(super) async fn is_same(
    body: Body,
    is_compressed: bool,
    path: &Path,
    name: &str,
) -> Result<bool, PushError> {
    let (path, name) = (path.to_owned(), name.to_owned());
    reading(body, is_compressed, move |mut plain| {
        let mut file = BufReader::with_capacity(PIECE_BYTES, open(&path, &name)?);
        let (mut ours, mut theirs) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
        let fault = || PushError::file("comparing", &path);
        loop {
            let length = fill(&mut file, &mut ours).map_err(fault())?;
            // Contents that cannot be decompressed are others.
            let Ok(other) = fill(&mut plain, &mut theirs) else { return Ok(false) };
            if ours[..length] != theirs[..other] {
                return Ok(false);
            }
            if length == 0 {
                return Ok(true);
            }
        }
    })
    .await
}

/// An encoder as everything that is pushed is compressed with.
pub(super) fn encoder<W: Write>(sink: W) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(sink, LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

/// Runs what blocks on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PushError> + Send + 'static,
) -> Result<T, PushError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(PushError::Setting("this program is being ended")),
        },
    }
}

fn open(path: &Path, name: &str) -> Result<File, PushError> {
    File::open(path).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            return PushError::Purged(name.to_owned());
        }
        PushError::File { doing: "reading", path: path.to_owned(), source }
    })
}

/// A file with a damaged end is stored as it is: what is before that can be restored. One that is no
/// binary log, or that only the server can read, must not look as if it were a backup.
fn usable(
    read: Result<Summary, Fault>,
    name: &str,
) -> Result<(Summary, Option<Damage>), PushError> {
    match read {
        Ok(summary) => Ok((summary, None)),
        Err(Fault { damage: source @ Damage::Encrypted, .. }) => {
            Err(PushError::Unusable { name: name.to_owned(), source })
        }
        Err(Fault { damage, so_far: Some(summary), .. }) => Ok((*summary, Some(damage))),
        Err(Fault { damage, so_far: None, .. }) => {
            Err(PushError::Unusable { name: name.to_owned(), source: damage })
        }
    }
}

/// Gives what it reads to an encoder, too.
struct Tee {
    file: File,
    encoder: zstd::Encoder<'static, Sink>,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.encoder.write_all(&buffer[..length])?;
        Ok(length)
    }
}

/// Counts and sums what is written, and keeps it as long as it is not too much.
struct Sink {
    sha1: Sha1,
    bytes: u64,
    kept: Option<Vec<u8>>,
    kept_max: usize,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sha1.update(bytes);
        self.bytes += bytes.len() as u64;
        if let Some(kept) =
            self.kept.as_mut().filter(|kept| kept.len() + bytes.len() <= self.kept_max)
        {
            kept.extend_from_slice(bytes);
        } else {
            self.kept = None;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses a file once more while it is sent. It fails when it is not what it was.
fn again(mut file: File, sha1: [u8; 20]) -> Body {
    let (give, take) = mpsc::channel::<io::Result<Bytes>>(2);
    tokio::task::spawn_blocking(move || {
        let sender = Sender { give: give.clone(), sha1: Sha1::new(), piece: Vec::new() };
        let compressed = || -> io::Result<()> {
            let mut encoder = encoder(sender)?;
            io::copy(&mut file, &mut encoder)?;
            let mut sender = encoder.finish()?;
            // Before the last piece is given, otherwise the object would be complete.
            let found: [u8; 20] = sender.sha1.clone().finalize().into();
            if found != sha1 {
                return Err(io::Error::other("the file has changed while it was read"));
            }
            sender.give()
        };
        if let Err(error) = compressed() {
            // Whoever does not listen any more has an error of his own.
            let _ = give.blocking_send(Err(error));
        }
    });
    let pieces = stream::unfold(take, |mut take| async { take.recv().await.map(|p| (p, take)) });
    let key = Key::default();
    pieces
        .map_err(move |error| StoreError::unavailable("the binary log", "reading", &key, error))
        .boxed()
}

struct Sender {
    give: mpsc::Sender<io::Result<Bytes>>,
    sha1: Sha1,
    piece: Vec<u8>,
}

impl Sender {
    fn give(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.give.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // First what came before: the last piece is given by whoever has compared the sum.
        if self.piece.len() >= PIECE_BYTES {
            self.give()?;
        }
        self.sha1.update(bytes);
        self.piece.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Shows the plain contents of an object to `work`, on a thread.
async fn reading<T: Send + 'static>(
    mut body: Body,
    is_compressed: bool,
    work: impl FnOnce(Box<dyn Read>) -> Result<T, PushError> + Send + 'static,
) -> Result<T, PushError> {
    let (give, take) = mpsc::channel::<Bytes>(2);
    let thread = blocking(move || {
        let pieces = Pieces { take, piece: Bytes::new() };
        if !is_compressed {
            return work(Box::new(pieces));
        }
        let decoder = zstd::Decoder::new(pieces);
        work(Box::new(
            decoder.map_err(PushError::file("decompressing", PathBuf::from("an object")))?,
        ))
    });
    let fetching = async move {
        while let Some(piece) = body.try_next().await? {
            if give.send(piece).await.is_err() {
                break; // It has seen enough.
            }
        }
        Ok::<(), StoreError>(())
    };
    let (fetched, done) = tokio::join!(fetching, thread);
    fetched?;
    done
}

/// Pieces as one contents.
struct Pieces {
    take: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.take.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = self.piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

/// Reads until a buffer is full or nothing comes any more.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BlobStore, Condition, memory::MemoryStore, read_all};

    fn fixture() -> PathBuf {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        dir.join("tests/fixtures/binlog/mysql-gtid/bin.000001")
    }

    async fn store(mut file: Inspected, path: &Path) -> Result<(MemoryStore, Key), PushError> {
        let (store, key) = (MemoryStore::new(), Key::parse("x").unwrap());
        store.write(&key, file.contents(path, "x")?, &Condition::IfAbsent).await?;
        let (meta, bytes) = read_all(&store, &key, 1 << 30).await.unwrap();
        assert_eq!(meta.size_bytes, file.stored_bytes);
        assert_eq!(<[u8; 20]>::from(Sha1::digest(&bytes)), file.sha1);
        assert_eq!(zstd::decode_all(&bytes[..]).unwrap(), std::fs::read(path).unwrap());
        Ok((store, key))
    }

    async fn body(store: &MemoryStore, key: &Key) -> Body {
        store.get(key).await.unwrap().body
    }

    #[tokio::test]
    async fn a_file_is_the_same_kept_or_read_again() {
        let path = fixture();
        let kept = inspect(&path, "bin.000001").await.unwrap();
        let again = inspect_with(&path, "bin.000001", 0).await.unwrap();
        assert!(kept.damage.is_none() && kept.kept.is_some() && again.kept.is_none());
        assert_eq!((kept.sha1, kept.stored_bytes), (again.sha1, again.stored_bytes));
        let summary = kept.summary.clone();
        for file in [kept, again] {
            let (store, key) = store(file, &path).await.unwrap();
            let read = summary_of_object(body(&store, &key).await, "bin.000001", true);
            assert_eq!(read.await.unwrap(), summary);
            assert!(is_same(body(&store, &key).await, true, &path, "x").await.unwrap());
            assert!(!is_same(body(&store, &key).await, false, &path, "x").await.unwrap());
        }
        assert_eq!(head(&path, "x").await.unwrap().created_at, summary.created_at);
        let begin = summary.first_group_start;
        assert!(!holds_anything(&path, "x", begin).await.unwrap());
        assert!(holds_anything(&path, "x", begin + 1).await.unwrap());
    }

    #[tokio::test]
    async fn large_files_are_compressed_the_same_twice() {
        // A binary log with much behind its end: compressed in many blocks, and in several pieces.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bin.000001");
        let mut plain = std::fs::read(fixture()).unwrap();
        let mut state = 1_u64;
        for _ in 0..3_000_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            plain.push(state.to_be_bytes()[0] % 16);
        }
        std::fs::write(&path, &plain).unwrap();
        let file = inspect_with(&path, "bin.000001", 1 << 20).await.unwrap();
        assert!(file.kept.is_none() && file.damage.is_some());
        store(file, &path).await.unwrap();
        // One that changes between the two is not stored.
        let file = inspect_with(&path, "bin.000001", 1 << 20).await.unwrap();
        plain[2_000_000] ^= 1;
        std::fs::write(&path, &plain).unwrap();
        let error = store(file, &path).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert!(matches!(error, PushError::Store(_)), "{error}: {source}");
    }

    #[tokio::test]
    async fn a_damaged_end_is_stored_and_what_is_no_log_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bin.000001");
        let plain = std::fs::read(fixture()).unwrap();
        std::fs::write(&path, &plain[..plain.len() - 7]).unwrap();
        let cut = inspect(&path, "bin.000001").await.unwrap();
        assert!(cut.damage.as_ref().unwrap().only_the_end_is_missing());
        store(cut, &path).await.unwrap();
        for bytes in [&b"not a binary log"[..], b"\xfdbin encrypted", b""] {
            std::fs::write(&path, bytes).unwrap();
            let error = inspect(&path, "bin.000001").await.unwrap_err();
            assert!(matches!(error, PushError::Unusable { .. }), "{error}");
        }
        let gone = inspect(&dir.path().join("bin.000002"), "bin.000002").await.unwrap_err();
        assert!(matches!(gone, PushError::Purged(name) if name == "bin.000002"));
    }
}
