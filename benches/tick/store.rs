//! A store that holds a long log of names only, and what is written to it.

use crate::log;
use async_trait::async_trait;
use btar::{
    domain::recovery::Codec,
    engine::catalog::{
        binlogs::BinlogMemory,
        hash,
        learned::{KnownCarry, Learned, LogMemory},
        segment::{Found, Packed, Place},
    },
    layout::pgbackrest::keys,
    store::{
        BlobStore, Condition, Contents, Object, ObjectMeta, StoreError, Stored, key::Key,
        memory::MemoryStore,
    },
};
use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::{StreamExt, stream, stream::BoxStream};
use std::{
    ops::Range,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

pub(crate) const DIRECTORY: &str = "archive/m/15-1";

/// The store. Keys of the long log are made when they are listed.
#[derive(Clone, Debug)]
pub(crate) struct LongLog {
    pub(crate) prefix: &'static str,
    pub(crate) numbers: Range<u64>,
    /// Whatever lies behind the long log, and the files of base backups.
    pub(crate) written: MemoryStore,
}

impl LongLog {
    pub(crate) fn meta(&self, number: u64) -> ObjectMeta {
        let name = log::place(number).name();
        let key = keys::segment_key(DIRECTORY, &name, &log::promised_sha1(number), Codec::Zst);
        let tag = hash::mix(number, hash::bytes(self.prefix.as_bytes()));
        ObjectMeta {
            key: Key::parse(&format!("{}/{key}", self.prefix)).unwrap(),
            size_bytes: (4 << 20) + number % 4096,
            modified_at: log::time(number) + TimeDelta::seconds(30),
            etag: Some(format!("\"{tag:032x}\"")),
        }
    }

    fn packed(&self, number: u64) -> Packed {
        let meta = self.meta(number);
        let found = Found::new(meta.size_bytes, meta.modified_at, meta.etag.as_deref());
        let sha1 = log::promised_sha1(number);
        Packed::new(log::place(number), &sha1, Codec::Zst, &found).unwrap()
    }

    /// The first number whose key lies behind `after`.
    fn first_behind(&self, after: Option<&Key>) -> u64 {
        let Some(after) = after else { return self.numbers.start };
        let name = after.as_str().rsplit('/').next().unwrap_or_default();
        let place = name.get(..24).and_then(Place::parse).unwrap();
        place.segment(log::SIZE).unwrap().number + 1
    }
}

#[async_trait]
impl BlobStore for LongLog {
    fn name(&self) -> &str {
        self.prefix
    }

    fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        let written = self.written.list(prefix, after);
        if !prefix.as_str().ends_with("archive/m") {
            return written;
        }
        let long = self.clone();
        let numbers = self.first_behind(after).min(self.numbers.end)..self.numbers.end;
        stream::iter(numbers).map(move |number| Ok(long.meta(number))).chain(written).boxed()
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        self.written.head(key).await
    }

    async fn get(&self, key: &Key) -> Result<Object, StoreError> {
        self.written.get(key).await
    }

    async fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectMeta, Bytes), StoreError> {
        self.written.get_range(key, range).await
    }

    async fn write(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        self.written.write(key, contents, condition).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.written.delete(key).await
    }

    fn local_root(&self) -> Option<PathBuf> {
        None
    }
}

/// Remembers the whole long log, so that nothing of it is read.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) of: Arc<LongLog>,
    pub(crate) carry: OnceLock<KnownCarry>,
}

impl BinlogMemory for Remembered {}

impl LogMemory for Remembered {
    fn recall(&self, _: &str, give: &mut dyn FnMut(Learned)) {
        let mut previous = 0;
        for number in self.of.numbers.clone() {
            let packed = self.of.packed(number);
            give(Learned {
                place: log::place(number),
                proof: packed.proof(),
                previous,
                index: log::summary(number),
                carry: None,
                forget_carry_of: None,
            });
            previous = packed.link();
        }
    }

    fn carry(&self, _: &str, first: Place, last: Place) -> Option<(Place, KnownCarry)> {
        let number = self.of.numbers.end - 1;
        let proof = self.of.packed(number).proof();
        let known = || KnownCarry { proof, carry: log::carry(number) };
        let place = log::place(number);
        (first..=last).contains(&place).then(|| (place, self.carry.get_or_init(known).clone()))
    }

    fn keep(&self, _: &str, _: &Learned) {}

    fn forget_before(&self, _: &str, _: Place) {}
}
