//! The fixture: a site, its keys, what is true about it; copies of it that may be damaged.

use btar::{
    layout::pghoard::metadata::{Raw, SegmentCoding},
    restore::{self, Order, Progress, Restored, error::RestoreError, tablespaces::Placement},
    sealed::{keys::Keys, segment},
    store::{
        BlobStore,
        key::Key,
        local::{LocalStore, Sidecars},
    },
};
use futures_util::TryStreamExt;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use tokio_util::sync::CancellationToken;

/// The three base backups of the site: two of chunks, one of delta mode with encryption.
pub(crate) const CHUNKS: &str = "2026-11-23_09-00_0";
pub(crate) const CHUNKS_LATER: &str = "2026-11-23_09-01_0";
pub(crate) const DELTA: &str = "2026-11-23_09-01_1";
pub(crate) const SITE: &str = "orders";

/// A directory with a copy of a fixture.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    /// Prefix of the site.
    pub(crate) prefix: &'static str,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::unpacked("pghoard/pghoard-orders.tar.zst", SITE)
    }

    /// The site whose database was set back three times.
    pub(crate) fn branches() -> Self {
        Self::unpacked("pghoard-branches/pghoard-branches.tar.zst", "branches")
    }

    fn unpacked(packed: &str, prefix: &'static str) -> Self {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(packed);
        let dir = tempfile::Builder::new().prefix("btar-pghoard-").tempdir().unwrap();
        let plain = zstd::decode_all(fs::File::open(packed).unwrap()).unwrap();
        tar::Archive::new(&*plain).unpack(dir.path()).unwrap();
        Self { dir, prefix }
    }

    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.dir.path().join(key)
    }

    pub(crate) fn store(&self) -> LocalStore {
        LocalStore::with_sidecars(self.dir.path().to_owned(), Sidecars::Json)
    }

    pub(crate) fn truth(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path("truth.json")).unwrap()).unwrap()
    }

    pub(crate) fn keys(&self) -> Keys {
        let mut keys = Keys::none();
        for entry in fs::read_dir(self.path("keys")).unwrap() {
            let path = entry.unwrap().path();
            let id = path.file_name().unwrap().to_str().unwrap().trim_end_matches(".pem");
            if !id.ends_with(".pub") {
                keys.add(id, &fs::read_to_string(&path).unwrap()).unwrap();
            }
        }
        keys
    }

    pub(crate) fn raw(&self, key: &str) -> Raw {
        block(self.store().user_metadata(&Key::parse(key).unwrap())).unwrap()
    }

    /// Every key of the site and its size.
    pub(crate) fn listing(&self) -> BTreeMap<String, u64> {
        let prefix = Key::parse(self.prefix).unwrap();
        let store = self.store();
        let listed: Vec<_> =
            block(async { store.list(&prefix, None).try_collect().await }).unwrap();
        listed
            .into_iter()
            .map(|meta| (meta.key.below(&prefix).unwrap().to_owned(), meta.size_bytes))
            .collect()
    }

    pub(crate) fn restore(&self, backup: &str, target: &Path) -> Result<Restored, RestoreError> {
        self.restore_with(backup, target, &self.keys())
    }

    pub(crate) fn restore_with(
        &self,
        backup: &str,
        target: &Path,
        keys: &Keys,
    ) -> Result<Restored, RestoreError> {
        restore_below(self.prefix, &self.store(), backup, target, keys, &Placement::default())
    }

    /// Every segment and history file, opened, under its name below `target`.
    pub(crate) fn open_log(&self, target: &Path) {
        fs::create_dir_all(target).unwrap();
        for kind in ["xlog", "timeline"] {
            for entry in fs::read_dir(self.path(self.prefix).join(kind)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name.ends_with(".metadata") {
                    continue;
                }
                let plain = self.open(&format!("{kind}/{name}")).unwrap();
                fs::write(target.join(name), plain).unwrap();
            }
        }
    }

    /// One segment or history file.
    pub(crate) fn open(&self, key: &str) -> Result<Vec<u8>, btar::sealed::SealedError> {
        let key = format!("{}/{key}", self.prefix);
        let coding = SegmentCoding::of(&self.raw(&key)).unwrap();
        let object = fs::read(self.path(&key)).unwrap();
        if key.contains("/timeline/") {
            segment::open_history(&object, &coding, &self.keys())
        } else {
            segment::open_segment(&object, &coding, &self.keys())
        }
    }
}

/// Restores from any store with the first site's prefix.
pub(crate) fn restore_from(
    store: &dyn BlobStore,
    backup: &str,
    target: &Path,
    keys: &Keys,
    tablespaces: &Placement,
) -> Result<Restored, RestoreError> {
    restore_below(SITE, store, backup, target, keys, tablespaces)
}

fn restore_below(
    prefix: &str,
    store: &dyn BlobStore,
    backup: &str,
    target: &Path,
    keys: &Keys,
    tablespaces: &Placement,
) -> Result<Restored, RestoreError> {
    let (prefix, stop) = (Key::parse(prefix).unwrap(), CancellationToken::new());
    let progress = |progress: Progress| assert!(progress.stored_bytes > 0);
    block(restore::restore(&Order {
        store,
        prefix: &prefix,
        backup,
        keys,
        target,
        tablespaces,
        parallel: NonZeroUsize::new(2).unwrap(),
        progress: &progress,
        stop: &stop,
    }))
}

/// Runs what is asynchronous.
pub(crate) fn block<F: Future>(future: F) -> F::Output {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap()).block_on(future)
}

/// An error and its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
