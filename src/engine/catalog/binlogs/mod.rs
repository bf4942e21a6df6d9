//! The log of MySQL and MariaDB: reads each binary log once, and follows the chain behind a backup.
//!
//! 1. The layout gives the chain by names and notes ([`BinlogChain`]).
//! 2. `BinlogIndex` reads the files that it has not read in this version, and keeps a summary.
//! 3. [`ReadChain::of`] (pure) goes along as far as each file is sound and follows the one before.
//! 4. `judge` (pure) says what that covers; `recover` works out one recovery.

pub mod judge;
pub mod reading;
pub mod recover;

use crate::{
    binlog::summary::{Summary, follows},
    engine::catalog::{
        learned::{LogMemory, NoMemory},
        reading::LogSource,
        repository::Repository,
    },
    layout::binlogs::{BinlogChain, ListedBinlog},
    sealed::keys::Keys,
    store::StoreError,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

/// Where summaries are kept over restarts. Losing them costs time and nothing else, so that nothing needs
/// to be kept.
pub trait BinlogMemory: Send + Sync + fmt::Debug {
    /// What was kept of the file `key` of `scope` in this version.
    fn recall(&self, _scope: &str, _key: &str, _version: u64) -> Option<FileRead> {
        None
    }
    /// Keeps what was read of it, and forgets other versions.
    fn keep(&self, _scope: &str, _key: &str, _version: u64, _read: &FileRead) {}
    /// Forgets what was read of a file.
    fn forget(&self, _scope: &str, _key: &str) {}
    /// Forgets the files that are not among these.
    fn retain(&self, _scope: &str, _keys: &BTreeSet<&str>) {}
}

/// What a reader of a place keeps over restarts.
pub trait ReaderMemory: LogMemory + BinlogMemory {}

impl<T: LogMemory + BinlogMemory> ReaderMemory for T {}

impl BinlogMemory for NoMemory {}

/// What came of reading a binary log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileRead {
    /// It is sound to its end.
    Sound(Arc<Summary>),
    /// It is not: nothing of it is used.
    Damaged {
        /// What is wrong, for people.
        what: String,
    },
    /// It is encrypted, and the private key is not there.
    Sealed {
        /// Name of the key.
        key_id: String,
    },
}

/// The binary logs behind a backup, as far as they can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadChain {
    /// The chain by names and notes.
    pub chain: Arc<BinlogChain>,
    /// Its first files, each sound and following the one before.
    pub files: Vec<Arc<Summary>>,
    /// Name of the private key that is missing to read the next file.
    pub lacks_key: Option<String>,
    /// What is wrong with the next file or behind it, for people.
    pub end: Option<String>,
}

impl ReadChain {
    /// Goes along the chain.
    #[must_use]
    pub fn of(chain: Arc<BinlogChain>, read: impl Fn(&ListedBinlog) -> Option<FileRead>) -> Self {
        let mut files: Vec<Arc<Summary>> = Vec::new();
        let (mut lacks_key, mut end) = (None, None);
        for (at, object) in chain.objects.iter().enumerate() {
            let summary = match read(object) {
                None => {
                    end = Some(format!("{} is damaged or has disappeared", object.key));
                    break;
                }
                Some(FileRead::Sealed { key_id }) => {
                    lacks_key = Some(key_id);
                    break;
                }
                Some(FileRead::Damaged { what }) => {
                    end = Some(format!("{} cannot be used: {what}", object.key));
                    break;
                }
                Some(FileRead::Sound(summary)) => summary,
            };
            if summary.incidents > 0 {
                end = Some(format!(
                    "{} has a mark of the server that events were lost: nothing behind it is exact; \
                     make a new base backup",
                    object.key
                ));
                break;
            }
            let joint = files.last().map_or(Ok(()), |before| match object.joins {
                true => joins(before, &summary),
                false => follows(before, &chain.objects[at - 1].name, &summary, &object.name),
            });
            if let Err(what) = joint {
                end = Some(format!("{} does not follow: {what}", object.key));
                break;
            }
            files.push(summary);
        }
        if files.len() == chain.objects.len() && end.is_none() {
            end = chain.gap.clone().map(|gap| match chain.behind_gap {
                0 => gap,
                behind => format!("{gap}: {behind} later ones cannot be used"),
            });
        }
        Self { chain, files, lacks_key, end }
    }
}

/// Whether the log of another server goes on where this one ends, or repeats some of it. The layout has said
/// so, with what that server had executed; its first file itself may say less, never more.
fn joins(this: &Summary, next: &Summary) -> Result<(), String> {
    match (&this.after, &next.before) {
        (Some(after), Some(before)) if after.contains(before) => Ok(()),
        (Some(after), Some(before)) => {
            Err(format!("it goes on after {before}, and the one before it ends with {after}"))
        }
        (None, _) | (_, None) => Err("it has no transaction ids to compare".to_owned()),
    }
}

/// What was read of the binary logs of one place.
#[derive(Debug)]
pub struct BinlogIndex {
    memory: Arc<dyn BinlogMemory>,
    scope: String,
    known: HashMap<String, (u64, FileRead)>,
}

impl BinlogIndex {
    /// Nothing is read yet; `scope` names the place in the memory.
    #[must_use]
    pub fn new(memory: Arc<dyn BinlogMemory>, scope: String) -> Self {
        Self { memory, scope, known: HashMap::new() }
    }

    /// Reads the files of a chain that were not read in their present version.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn read(
        &mut self,
        source: LogSource<'_>,
        repository: &Repository,
        chain: &BinlogChain,
    ) -> Result<(), StoreError> {
        for object in &chain.objects {
            let Some(found) = repository.get(&object.key) else { break };
            let version = found.version;
            if !self.is_settled(object, version, source.keys) {
                let kept = self.memory.recall(&self.scope, &object.key, version);
                let read = match kept {
                    Some(kept) => kept,
                    None => match self.learn(source, object, version).await? {
                        Some(read) => read,
                        None => break,
                    },
                };
                self.known.insert(object.key.clone(), (version, read));
            }
            if !matches!(self.known.get(&object.key), Some((_, FileRead::Sound(_)))) {
                break;
            }
        }
        Ok(())
    }

    /// Whether reading a file would tell nothing new.
    fn is_settled(&self, object: &ListedBinlog, version: u64, keys: &Keys) -> bool {
        match self.known.get(&object.key).filter(|(then, _)| *then == version) {
            None => false,
            // The key may have been configured since.
            Some((_, FileRead::Sealed { key_id })) => !keys.has(key_id),
            Some((_, FileRead::Sound(_) | FileRead::Damaged { .. })) => true,
        }
    }

    /// Reads a file, and keeps what came of it; `None` when it has disappeared.
    async fn learn(
        &self,
        source: LogSource<'_>,
        object: &ListedBinlog,
        version: u64,
    ) -> Result<Option<FileRead>, StoreError> {
        let mut read = reading::read(source, object).await?;
        // Damage is remembered until the object changes: the fault must be the object's, not the way's.
        if matches!(read, Some(FileRead::Damaged { .. })) {
            read = reading::read(source, object).await?;
        }
        if let Some(read @ (FileRead::Sound(_) | FileRead::Damaged { .. })) = &read {
            self.memory.keep(&self.scope, &object.key, version, read);
        }
        Ok(read)
    }

    /// Goes along a chain whose files have been read. Files that are known to be damaged end it.
    #[must_use]
    pub fn follow(
        &self,
        repository: &Repository,
        chain: Arc<BinlogChain>,
        damaged: &BTreeSet<String>,
    ) -> ReadChain {
        ReadChain::of(chain, |object| {
            let found = repository.get(&object.key)?;
            let (_, read) = self.known.get(&object.key).filter(|(v, _)| *v == found.version)?;
            (!damaged.contains(&object.key)).then(|| read.clone())
        })
    }

    /// Forgets what is not there any more.
    pub fn retain(&mut self, repository: &Repository) {
        let before = self.known.len();
        self.known.retain(|key, _| repository.contains(key));
        if self.known.len() != before {
            let kept = self.known.keys().map(String::as_str).collect();
            self.memory.retain(&self.scope, &kept);
        }
    }

    /// The object with this key is to be read anew.
    pub fn distrust(&mut self, key: &str) {
        self.known.remove(key);
        self.memory.forget(&self.scope, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            binlog::Flavour,
            recovery::{BaseImage, BaseTool, Codec},
        },
        engine::catalog::segment::Found,
        layout::binlogs::Said,
        store::{
            BlobStore, PutMode, UserMetadata, body_of,
            key::Key,
            memory::MemoryStore,
            wrap::{
                faulty::{Call, Fault, FaultyStore},
                metrics::Operation,
            },
        },
        sys::clock::SystemClock,
    };
    use bytes::Bytes;
    use chrono::DateTime;
    use std::{
        collections::BTreeMap,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    const FILE: &[u8] = include_bytes!("../../../../tests/fixtures/binlog/mysql-gtid/bin.000001");
    const KEY: &str = "binlogs/bin.000001";

    #[derive(Debug, Default)]
    struct Remembered(Mutex<Vec<FileRead>>);

    impl BinlogMemory for Remembered {
        fn keep(&self, _: &str, _: &str, _: u64, read: &FileRead) {
            self.0.lock().unwrap().push(read.clone());
        }
    }

    fn chain_of_one() -> Arc<BinlogChain> {
        let object = ListedBinlog {
            key: KEY.to_owned(),
            name: "bin.000001".to_owned(),
            size_bytes: FILE.len() as u64,
            file_bytes: None,
            codec: Codec::None,
            key_id: None,
            sha1: None,
            joins: false,
            said: Said::default(),
        };
        let (parts, wrapped_key) = (Vec::new(), None);
        Arc::new(BinlogChain {
            flavour: Flavour::MySql,
            server_version: None,
            base: BaseImage { tool: BaseTool::XtraBackup, parts, codec: Codec::None, wrapped_key },
            executed: None,
            unusable: None,
            start_offset: None,
            consistent_at: (0, 0),
            objects: vec![object],
            gap: None,
            behind_gap: 0,
        })
    }

    fn repository() -> Repository {
        let found = Found::new(FILE.len() as u64, DateTime::UNIX_EPOCH, Some("one"));
        let others = BTreeMap::from([(KEY.to_owned(), found)]);
        Repository {
            others: BTreeMap::from([(String::new(), Arc::new(others))]),
            ..Repository::default()
        }
    }

    /// Reads a chain of one file three times, of which the first `wrong` reads of the store give a wrong
    /// bit. Gives the chain, the number of reads and what was remembered.
    async fn read_with(wrong: usize) -> (ReadChain, usize, Vec<FileRead>) {
        let inner = MemoryStore::new();
        let key = Key::parse(KEY).unwrap();
        let (size, about, body) =
            (FILE.len() as u64, UserMetadata::new(), body_of(Bytes::from_static(FILE)));
        inner.put(&key, size, &about, body, PutMode::IfAbsent).await.unwrap();
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = reads.clone();
        let clock = Arc::new(SystemClock::new());
        let store = FaultyStore::new(Arc::new(inner), clock, move |call: &Call| {
            if call.operation != Operation::Get {
                return Fault::None;
            }
            match counted.fetch_add(1, Ordering::Relaxed) < wrong {
                true => Fault::Flip(600),
                false => Fault::None,
            }
        });
        let (prefix, keys, memory) =
            (Key::default(), Keys::none(), Arc::new(Remembered::default()));
        let mut index = BinlogIndex::new(memory.clone(), "s".to_owned());
        let source = LogSource { store: &store, prefix: &prefix, keys: &keys };
        let (repository, chain) = (repository(), chain_of_one());
        for _ in 0..3 {
            index.read(source, &repository, &chain).await.unwrap();
        }
        let read = index.follow(&repository, chain, &BTreeSet::new());
        let kept = memory.0.lock().unwrap().clone();
        (read, reads.load(Ordering::Relaxed), kept)
    }

    #[tokio::test]
    async fn a_file_that_is_read_wrong_once_is_not_called_damaged() {
        let (read, reads, kept) = read_with(1).await;
        assert_eq!((read.files.len(), &read.end), (1, &None));
        assert_eq!(reads, 2);
        assert!(matches!(kept[..], [FileRead::Sound(_)]), "{kept:?}");
    }

    #[tokio::test]
    async fn a_damaged_file_ends_the_chain_and_is_read_no_more() {
        let (read, reads, kept) = read_with(usize::MAX).await;
        assert_eq!(read.files.len(), 0);
        assert!(read.end.unwrap().contains("bin.000001 cannot be used"));
        assert_eq!(reads, 2);
        assert!(matches!(kept[..], [FileRead::Damaged { .. }]), "{kept:?}");
    }
}
