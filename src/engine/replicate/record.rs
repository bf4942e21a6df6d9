//! What is known of each object of one copy: it is noted while it is written, kept in the state, and
//! looked up when the object is read again.

use crate::{
    domain::{cloud::CloudName, ids::ServiceId},
    engine::{
        catalog::{observe::Reader, repository::Repository},
        error::chain,
        manifest,
        replicate::{execute::Recorder, pass::Shared},
        state::{
            State, StateError,
            damage::Damage,
            records::{CopyNumber, Record},
        },
    },
    layout::BackupPlace,
    store::{BlobStore, Stored, key::Key},
    sys::clock::Clock,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;
use tracing::warn;

/// Objects that are noted before they go to the state together.
const PENDING_MAX: usize = 1024;
/// Objects that wait when the state cannot be written; beyond that they are read again later.
const PENDING_LOST: usize = 1 << 16;

/// Where the primary's objects lie.
#[derive(Clone, Debug)]
pub(super) struct Primary {
    pub(super) store: Arc<dyn BlobStore>,
    pub(super) prefix: Key,
}

impl Primary {
    pub(super) fn of(reader: &Reader) -> Self {
        Self { store: reader.store().clone(), prefix: reader.place().prefix.clone() }
    }
}

/// The ledgers of all copies of a service, by region.
#[derive(Debug, Default)]
pub(super) struct Ledgers(pub(super) BTreeMap<CloudName, Arc<Ledger>>);

impl Ledgers {
    /// A ledger for each target. `wakes` are what has the copies judged, and read, anew.
    pub(super) fn of(
        id: &ServiceId,
        targets: &BTreeMap<CloudName, Reader>,
        shared: &Shared,
        wakes: (&Arc<Notify>, &Arc<Notify>),
    ) -> Self {
        let ledger = |(cloud, reader): (&CloudName, &Reader)| {
            let at = (reader.store().clone(), reader.place().clone());
            let wakes = (wakes.0.clone(), wakes.1.clone());
            let ledger = Ledger::new(id.clone(), cloud.clone(), at, shared, wakes);
            (cloud.clone(), Arc::new(ledger))
        };
        Self(targets.iter().map(ledger).collect())
    }
}

impl Recorder for Ledgers {
    fn wrote(&self, lane: &str, key: &str, stored: &Stored) {
        if let Some((_, ledger)) = self.0.iter().find(|(cloud, _)| cloud.as_str() == lane) {
            ledger.wrote(key, stored);
        }
    }
}

/// What is known of the objects of one copy.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) id: ServiceId,
    pub(super) region: CloudName,
    pub(super) store: Arc<dyn BlobStore>,
    pub(super) place: BackupPlace,
    pub(super) state: Arc<State>,
    pub(super) clock: Arc<dyn Clock>,
    number: OnceLock<CopyNumber>,
    /// Written and not in the state yet.
    pending: Mutex<BTreeMap<String, Stored>>,
    /// To be read again at once.
    urgent: Mutex<BTreeSet<String>>,
    /// Whether the manifests in the store have been read: before that none is written.
    pub(super) recalled: AtomicBool,
    /// Why retention removes nothing, for people.
    held: Mutex<Option<String>>,
    /// Before that, on the monotonic clock, nothing is tried again.
    pub(super) waits: Mutex<Waits>,
    /// What could not be repaired is tried again after so long.
    pub(super) repair_every: Duration,
    /// Woken when the copy is to be judged anew.
    pub(super) judge: Arc<Notify>,
    /// Woken when there is something to read again.
    pub(super) read: Arc<Notify>,
}

/// When what failed may be tried again, on the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) manifests: Duration,
    pub(super) repairs: Duration,
}

impl Ledger {
    pub(super) fn new(
        id: ServiceId,
        region: CloudName,
        (store, place): (Arc<dyn BlobStore>, BackupPlace),
        shared: &Shared,
        (judge, read): (Arc<Notify>, Arc<Notify>),
    ) -> Self {
        let (state, clock) = (shared.state.clone(), shared.clock.clone());
        let (number, pending, urgent, recalled, held, waits) = Default::default();
        Self {
            id,
            region,
            store,
            place,
            state,
            clock,
            number,
            pending,
            urgent,
            recalled,
            held,
            waits,
            repair_every: shared.full_scan_interval,
            judge,
            read,
        }
    }

    /// This copy in the state.
    pub(super) fn number(&self) -> Result<CopyNumber, StateError> {
        if let Some(number) = self.number.get() {
            return Ok(*number);
        }
        let number = self.state.copy(&self.id, &self.region, self.place.prefix.as_str())?;
        Ok(*self.number.get_or_init(|| number))
    }

    /// An object was written.
    pub(super) fn wrote(&self, key: &str, stored: &Stored) {
        let waiting = {
            let mut pending = lock(&self.pending);
            pending.insert(key.to_owned(), stored.clone());
            pending.len()
        };
        if waiting % PENDING_MAX == 0 {
            self.flush_or_warn(None);
        }
        if waiting > PENDING_LOST {
            lock(&self.pending).clear();
        }
    }

    /// Brings what was noted into the state, with the tags of the objects in the source.
    pub(super) fn flush(&self, source: Option<&Repository>) -> Result<(), StateError> {
        let pending = lock(&self.pending).clone();
        if pending.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let records = pending.iter().map(|(key, stored)| Record {
            part: manifest::part_of(&self.place.format, key),
            key: key.clone(),
            size_bytes: stored.size_bytes,
            crc64: stored.crc64,
            etag: stored.etag.clone(),
            source_version: source
                .and_then(|source| source.get(key))
                .map(|found| format!("{:016x}", found.version)),
            written_at: now,
        });
        let records: Vec<Record> = records.collect();
        self.state.record(self.number()?, &records, now)?;
        // What was written once more meanwhile stays for the next time.
        lock(&self.pending).retain(|key, stored| pending.get(key) != Some(stored));
        Ok(())
    }

    pub(super) fn flush_or_warn(&self, source: Option<&Repository>) {
        if let Err(error) = self.flush(source) {
            warn!(service = %self.id, region = %self.region, error = %chain(&error),
                "what was written is not recorded; it is read again later");
        }
    }

    /// What is recorded of an object.
    pub(super) fn recorded(&self, key: &str) -> Result<Option<Record>, StateError> {
        self.flush(None)?;
        let part = manifest::part_of(&self.place.format, key);
        self.state.recorded(self.number()?, &part, key)
    }

    /// The objects that are known to be damaged.
    pub(super) fn damaged(&self) -> BTreeMap<String, Damage> {
        // What was repaired just now is in the buffer.
        self.flush_or_warn(None);
        let damaged = self.number().and_then(|copy| self.state.damaged(copy));
        damaged.unwrap_or_else(|error| {
            warn!(service = %self.id, error = %chain(&error), "damaged objects are not known");
            BTreeMap::new()
        })
    }

    /// What is wrong with the copy's objects and with removing them, for people.
    pub(super) fn problems(&self) -> Vec<String> {
        let damaged = self.damaged().into_iter().map(|(key, damage)| {
            let Damage { what, unrepaired } = damage;
            match unrepaired {
                Some(why) => format!("{key} is damaged: {what}; it is not repaired: {why}"),
                None => format!("{key} is damaged: {what}; it is to be repaired"),
            }
        });
        damaged.chain(lock(&self.held).clone()).collect()
    }

    /// Why retention removes nothing.
    pub(super) fn hold_back(&self, why: Option<String>) {
        *lock(&self.held) = why;
    }

    /// Has objects read again at once.
    pub(super) fn suspect(&self, keys: BTreeSet<String>) {
        if !keys.is_empty() {
            lock(&self.urgent).extend(keys);
            self.read.notify_one();
        }
    }

    /// Some could not be read now; the next turn begins with them.
    pub(super) fn put_back(&self, keys: BTreeSet<String>) {
        lock(&self.urgent).extend(keys);
    }

    pub(super) fn take_suspects(&self) -> BTreeSet<String> {
        std::mem::take(&mut *lock(&self.urgent))
    }

    pub(super) fn is_recalled(&self) -> bool {
        self.recalled.load(Ordering::Relaxed)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
