//! A directory as a store.
//!
//! An object is written under a name of its own below `.btar-staging`, synced, and only then
//! renamed to its key: nobody sees a part of it, whenever the process or the machine dies.
//! Symbolic links are not followed in listings (pgBackRest's `latest` is one). User metadata is
//! kept in sidecars when the settings say so; else writing any is refused.

mod sidecar;
mod stage;
mod sync;
mod walk;

use crate::store::{
    BlobStore, Condition, Contents, Object, ObjectMeta, StoreError, Stored, UserMetadata, key::Key,
    pool::Buffer, proof::Proof,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use rustix::fs::FlockOperation;
use std::{
    fs,
    io::{self, Read, Seek},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::OnceCell;

const STAGING: &str = ".btar-staging";
/// What is read at once. A small file is one trip to another thread.
const PIECE_BYTES: u64 = 4 << 20;
/// Objects that a listing reads ahead, in batches of this many.
const LISTED_AT_ONCE: usize = 256;

/// A store whose keys are files below one directory. Clones share it.
#[derive(Clone, Debug)]
pub struct LocalStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    name: String,
    sidecars: Sidecars,
    reads_back: bool,
    dirs: sync::DirSync,
    prepared: OnceCell<()>,
}

/// Whether files have their user metadata in a file beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecars {
    /// They have none: every file is an object.
    None,
    /// In `<key>.metadata`, as PGHoard and MyHoard write it.
    Json,
}

impl Sidecars {
    /// What the file system knows of the sidecar of a file, where there is one.
    fn beside(self, path: &Path) -> Option<fs::Metadata> {
        match self {
            Self::None => None,
            // One that cannot be looked at cannot be read either, which says more.
            Self::Json => fs::metadata(sidecar::path(path)).ok(),
        }
    }
}

impl LocalStore {
    /// A store below `root`, which must exist when it is used.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self::with_sidecars(root, Sidecars::None)
    }

    /// A store below `root` whose files have user metadata.
    #[must_use]
    pub fn with_sidecars(root: PathBuf, sidecars: Sidecars) -> Self {
        let name = format!("file://{}", root.display());
        let (dirs, prepared) = (sync::DirSync::default(), OnceCell::new());
        let reads_back = false;
        Self { shared: Arc::new(Shared { root, name, sidecars, reads_back, dirs, prepared }) }
    }

    /// The same, reading back what it has written or not. Not for one that is in use already.
    #[must_use]
    pub fn reading_back(self, reads_back: bool) -> Self {
        let Shared { root, sidecars, .. } = &*self.shared;
        let mut store = Self::with_sidecars(root.clone(), *sidecars);
        if let Some(shared) = Arc::get_mut(&mut store.shared) {
            shared.reads_back = reads_back;
        }
        store
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.shared.root.join(key.as_str())
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "every other kind is one and the same case")]
    fn fault(&self, doing: &'static str, key: &Key, error: io::Error) -> StoreError {
        let there = self.shared.root.is_dir();
        let store = self.shared.name.clone();
        if error.get_ref().is_some_and(|inner| inner.is::<stage::NotTheSame>()) {
            return StoreError::Changed(key.clone());
        }
        match error.kind() {
            io::ErrorKind::NotFound if there => StoreError::NotFound(key.clone()),
            io::ErrorKind::NotADirectory if there && doing == "writing" => {
                StoreError::refused(&store, key, "a part of its name is a file")
            }
            io::ErrorKind::NotADirectory if there => StoreError::NotFound(key.clone()),
            io::ErrorKind::AlreadyExists => StoreError::AlreadyExists(key.clone()),
            io::ErrorKind::PermissionDenied => {
                StoreError::Denied { store, key: key.clone(), why: error.to_string() }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::NoSpace { store, key: key.clone() }
            }
            _ if there => StoreError::unavailable(&store, doing, key, error),
            _ => {
                let what = format!("the directory {} does not exist", self.shared.root.display());
                StoreError::unavailable(&store, doing, key, what)
            }
        }
    }

    /// Refuses what this directory could not give back.
    fn check(&self, key: &Key, user_metadata: &UserMetadata) -> Result<(), StoreError> {
        let refused = |what: &str| Err(StoreError::refused(&self.shared.name, key, what));
        match self.shared.sidecars {
            Sidecars::None if !user_metadata.is_empty() => refused(
                "a directory has no user metadata; set sidecars = true in the store's options to \
                 keep it in files beside the objects",
            ),
            Sidecars::Json if sidecar::hides(key.as_str(), sidecar::ENDING) => {
                refused("its name is that of a sidecar, which holds user metadata")
            }
            Sidecars::None | Sidecars::Json => Ok(()),
        }
    }

    fn sidecar(&self, path: &Path) -> io::Result<UserMetadata> {
        match self.shared.sidecars {
            Sidecars::None => Ok(UserMetadata::new()),
            Sidecars::Json => sidecar::read(path),
        }
    }

    /// Opens a file and looks at it.
    async fn open(
        &self,
        doing: &'static str,
        key: &Key,
    ) -> Result<(fs::File, ObjectMeta, UserMetadata), StoreError> {
        let (path, store) = (self.path(key), self.clone());
        let opened = stage::blocking(move || {
            let file = fs::File::open(&path)?;
            let meta = file.metadata()?;
            if meta.is_dir() {
                return Err(io::ErrorKind::NotFound.into());
            }
            let beside = store.shared.sidecars.beside(&path);
            Ok((file, meta, beside, store.sidecar(&path)?))
        });
        let (file, meta, beside, user_metadata) =
            opened.await.map_err(|error| self.fault(doing, key, error))?;
        Ok((file, walk::describe(key.clone(), &meta, beside.as_ref()), user_metadata))
    }
}

#[async_trait]
impl BlobStore for LocalStore {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        let walk = walk::Walk {
            root: self.shared.root.clone(),
            prefix: prefix.clone(),
            after: after.cloned(),
            sidecars: self.shared.sidecars,
        };
        let (store, (give, take)) = (self.clone(), tokio::sync::mpsc::channel(4));
        tokio::task::spawn_blocking(move || store.run(&walk, &give));
        stream::unfold(take, |mut take| async { take.recv().await.map(|batch| (batch, take)) })
            .map(|batch: Vec<_>| stream::iter(batch))
            .flatten()
            .boxed()
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        let path = self.path(key);
        let meta = fs::metadata(&path).map_err(|e| self.fault("looking at", key, e))?;
        if meta.is_dir() {
            return Err(StoreError::NotFound(key.clone()));
        }
        let beside = self.shared.sidecars.beside(&path);
        Ok(walk::describe(key.clone(), &meta, beside.as_ref()))
    }

    async fn describe(&self, key: &Key) -> Result<(ObjectMeta, UserMetadata), StoreError> {
        let (_, meta, user_metadata) = self.open("looking at", key).await?;
        Ok((meta, user_metadata))
    }

    async fn get(&self, key: &Key) -> Result<Object, StoreError> {
        let (file, meta, user_metadata) = self.open("reading", key).await?;
        let state = (self.clone(), key.clone(), Arc::new(file), 0);
        let size = meta.size_bytes;
        let body = stream::try_unfold(state, move |(store, key, file, at)| async move {
            if at >= size {
                return Ok(None);
            }
            let (reading, most) = (file.clone(), PIECE_BYTES.min(size - at));
            let read = stage::blocking(move || read_piece(&reading, at, most)).await;
            let piece = read.map_err(|error| store.fault("reading", &key, error))?;
            let at = at + piece.len() as u64;
            Ok((!piece.is_empty()).then_some((piece, (store, key, file, at))))
        });
        Ok(Object { meta, user_metadata, body: body.boxed() })
    }

    async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Bytes), StoreError> {
        let (file, meta, _) = self.open("reading", key).await?;
        if range.start > range.end || range.end > meta.size_bytes {
            return Err(outside(self.name(), key, &range, meta.size_bytes));
        }
        let length = range.end - range.start;
        let read = stage::blocking(move || match read_piece(&file, range.start, length)? {
            bytes if bytes.len() as u64 == length => Ok(bytes),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        });
        let bytes = read.await.map_err(|error| self.fault("reading", key, error))?;
        Ok((meta, bytes))
    }

    async fn write(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        self.check(key, &contents.user_metadata)?;
        let fault = |error| self.fault("writing", key, error);
        let path = self.path(key);
        if *condition == Condition::IfAbsent && path.exists() {
            return Err(StoreError::AlreadyExists(key.clone()));
        }
        let root = self.shared.root.clone();
        if !root.is_dir() {
            return Err(fault(io::ErrorKind::NotFound.into()));
        }
        let prepare = || stage::blocking(move || stage::prepare(&root));
        self.shared.prepared.get_or_try_init(prepare).await.map_err(fault)?;
        let (staged, crc64) = stage::stage(self, key, contents.size_bytes, contents.body).await?;
        let mut beside = None;
        if !contents.user_metadata.is_empty() {
            let text = Bytes::from(sidecar::text(&contents.user_metadata));
            let (size, body) = (text.len() as u64, crate::store::body_of(text));
            beside = Some(stage::stage(self, key, size, body).await?.0);
        }
        let (store, condition) = (self.clone(), condition.clone());
        let placing = move || store.place(&staged, beside.as_ref(), &path, &condition);
        let etag = Some(stage::blocking(placing).await.map_err(fault)?);
        let proof = if self.shared.reads_back { Proof::ReadBack } else { Proof::Synced };
        Ok(Stored { size_bytes: contents.size_bytes, etag, crc64, proof })
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let (store, path) = (self.clone(), self.path(key));
        let removed = stage::blocking(move || {
            // Nobody compares and replaces where nothing was ever written.
            let _shared = stage::lock(&store.shared.root, FlockOperation::LockShared).ok();
            if store.shared.sidecars == Sidecars::Json {
                // First: an object without its sidecar is one whose writing has not ended.
                match fs::remove_file(sidecar::path(&path)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
            fs::remove_file(&path)?;
            // Directories are no objects: those that hold nothing any more go, too.
            let mut left = path.parent().unwrap_or(&store.shared.root);
            while left != store.shared.root && fs::remove_dir(left).is_ok() {
                left = left.parent().unwrap_or(&store.shared.root);
            }
            store.shared.dirs.sync(left)
        });
        match removed.await.map_err(|error| self.fault("deleting", key, error)) {
            Err(StoreError::NotFound(_)) => Ok(()),
            done => done,
        }
    }

    fn local_root(&self) -> Option<PathBuf> {
        Some(self.shared.root.clone())
    }
}

impl LocalStore {
    /// Places an object, then its sidecar, and syncs their directory. Gives the object's etag.
    fn place(
        &self,
        staged: &stage::Staged,
        beside: Option<&stage::Staged>,
        path: &Path,
        condition: &Condition,
    ) -> io::Result<String> {
        let root = &self.shared.root;
        let parent = path.parent().unwrap_or(root);
        let sidecars = self.shared.sidecars;
        let beside_it = beside.map(|beside| fs::metadata(&beside.path)).transpose()?;
        let etag = walk::etag(&fs::metadata(&staged.path)?, beside_it.as_ref());
        let placed = || {
            walk::make_dirs(root, parent)?;
            staged.place(root, path, condition, sidecars)
        };
        // A deletion may take the directory away between its making and its use: once more, then.
        let again =
            |e: io::Error| if e.kind() == io::ErrorKind::NotFound { placed() } else { Err(e) };
        placed().or_else(again)?;
        // The sidecar comes last: it says that the object is complete.
        match (beside, sidecars) {
            (Some(beside), _) => fs::rename(&beside.path, sidecar::path(path))?,
            (None, Sidecars::Json) => match fs::remove_file(sidecar::path(path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            },
            (None, Sidecars::None) => {}
        }
        self.shared.dirs.sync(parent)?;
        Ok(etag)
    }

    /// Lists into a channel until nobody listens any more.
    fn run(
        &self,
        walk: &walk::Walk,
        give: &tokio::sync::mpsc::Sender<Vec<Result<ObjectMeta, StoreError>>>,
    ) {
        let fault = |error| self.fault("listing", &walk.prefix, error);
        if !walk.root.is_dir() {
            let gone = fault(io::ErrorKind::NotFound.into());
            return drop(give.blocking_send(vec![Err(gone)]));
        }
        let mut batch = Vec::with_capacity(LISTED_AT_ONCE);
        let walked = walk.run(&mut |meta| {
            batch.push(Ok(meta));
            batch.len() < LISTED_AT_ONCE || {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(LISTED_AT_ONCE));
                give.blocking_send(full).is_ok()
            }
        });
        batch.extend(walked.map_err(fault).err().map(Err));
        // Whoever does not listen any more does not miss it.
        drop(give.blocking_send(batch));
    }
}

/// At most `most` bytes from `at` on; fewer when the file ends. The buffer is not cleared first.
fn read_piece(mut file: &fs::File, at: u64, most: u64) -> io::Result<Bytes> {
    let mut buffer = Buffer::with_room(usize::try_from(most).map_err(io::Error::other)?);
    file.seek(io::SeekFrom::Start(at))?;
    file.take(most).read_to_end(&mut buffer)?;
    Ok(buffer.into_bytes())
}

/// A range that does not lie within the object.
pub(crate) fn outside(store: &str, key: &Key, range: &Range<u64>, size_bytes: u64) -> StoreError {
    let (start, end) = (range.start, range.end);
    StoreError::refused(
        store,
        key,
        format!("bytes {start} to {end} of {size_bytes} were asked for"),
    )
}
