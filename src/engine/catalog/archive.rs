//! The log of one cluster in one store: an ordered chain of blocks of segments.
//!
//! A copy of an archive shares its blocks, so it is cheap, and each block has digests, so that two
//! archives are compared block by block. Keys are not kept: the layout derives them.

use crate::{
    domain::lsn::Timeline,
    engine::catalog::{
        blocks::Blocks,
        hash,
        segment::{BlockId, Packed, Place, StoredSegment},
    },
    layout::{Naming, pgbackrest::keys},
};
use std::{collections::BTreeMap, sync::Arc};

/// Segments of up to 256 neighbouring places, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    segments: Vec<Packed>,
    digest: [u64; 2],
    identity: u64,
    bytes: u64,
}

impl Block {
    /// A block of segments in the order of their slots, one for each.
    #[must_use]
    pub fn new(mut segments: Vec<Packed>) -> Self {
        segments.shrink_to_fit();
        let (mut digest, mut identity, mut bytes) = ([0_u64; 2], 0_u64, 0_u64);
        for segment in &segments {
            let part = segment.digest();
            digest = [digest[0].wrapping_add(part[0]), digest[1].wrapping_add(part[1])];
            let known = hash::mix(segment.slot().into(), segment.proof());
            identity = identity.wrapping_add(known);
            bytes = bytes.saturating_add(segment.size_bytes());
        }
        Self { segments, digest, identity, bytes }
    }

    /// The segments.
    #[must_use]
    pub fn segments(&self) -> &[Packed] {
        &self.segments
    }

    /// The segment in a slot.
    #[must_use]
    pub fn get(&self, slot: u8) -> Option<&Packed> {
        let at = self.segments.binary_search_by_key(&slot, Packed::slot).ok()?;
        Some(&self.segments[at])
    }

    /// Where segments from a slot on begin.
    #[must_use]
    pub fn place_of(&self, slot: u64) -> usize {
        self.segments.partition_point(|segment| u64::from(segment.slot()) < slot)
    }

    /// Equal when places, contents, compressions and sizes are.
    #[must_use]
    pub fn digest(&self) -> [u64; 2] {
        self.digest
    }

    /// Equal when places, contents and versions are.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// Size of the objects, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The log of one cluster, such as `15-1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// Key below which the objects are.
    pub(super) directory: String,
    /// How their keys follow from their places.
    naming: Naming,
    /// Names of the key pairs that segments are encrypted for. Segments have their place here, from
    /// 1 on.
    key_ids: Vec<String>,
    /// One trusted segment for each name.
    pub(super) blocks: Blocks<Block>,
    /// All objects of names under which more than one is stored, in the order of their keys. When
    /// they promise the same contents, the last of them is in its block; when not, none is.
    pub(super) doubles: BTreeMap<Place, Vec<Packed>>,
    /// Names of the keys that segments are encrypted with; 1 is the first one's number.
    encryption_keys: Vec<String>,
    /// Keys of the timeline history files.
    pub histories: BTreeMap<Timeline, String>,
    /// Changes whenever something here changes.
    pub generation: u64,
    /// Number and size of the segments' objects.
    extent: (u64, u64),
    len: usize,
}

impl Archive {
    /// An empty archive below a key.
    #[must_use]
    pub fn new(directory: String, naming: Naming) -> Self {
        Self { directory, naming, ..Self::default() }
    }

    /// How keys follow from places.
    #[must_use]
    pub fn naming(&self) -> Naming {
        self.naming
    }

    /// The number of a key pair, 0 for none; `None` when there are too many.
    pub(super) fn number_of_key(&mut self, key_id: Option<&str>) -> Option<u8> {
        let Some(key_id) = key_id else { return Some(0) };
        let at = self.key_ids.iter().position(|known| known == key_id).unwrap_or_else(|| {
            self.key_ids.push(key_id.to_owned());
            self.key_ids.len() - 1
        });
        u8::try_from(at + 1).ok()
    }

    /// Names of the key pairs that segments are encrypted for, in the order of their numbers.
    pub(super) fn key_ids(&self) -> &[String] {
        &self.key_ids
    }

    pub(super) fn key_id(&self, segment: &Packed) -> Option<&String> {
        self.key_ids.get(usize::from(segment.encryption()).checked_sub(1)?)
    }

    /// Key below which the objects are.
    #[must_use]
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The number of an encryption key, by its name; `None` when there are too many.
    pub fn encryption_key_number(&mut self, name: &str) -> Option<u8> {
        let known = self.encryption_keys.iter().position(|known| known == name);
        let at = known.unwrap_or(self.encryption_keys.len());
        let number = u8::try_from(at + 1).ok()?;
        if known.is_none() {
            self.encryption_keys.push(name.to_owned());
        }
        Some(number)
    }

    /// Name of the key that a segment is encrypted with; `None` when it is not.
    #[must_use]
    pub fn encryption_key(&self, segment: &Packed) -> Option<&str> {
        let at = usize::from(segment.encryption()).checked_sub(1)?;
        self.encryption_keys.get(at).map(String::as_str)
    }

    /// Number of trusted segments.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no trusted segment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of the segments' objects, trusted or not, and their size together, in bytes.
    #[must_use]
    pub fn extent(&self) -> (u64, u64) {
        self.extent
    }

    /// The blocks.
    #[must_use]
    pub fn blocks(&self) -> &Blocks<Block> {
        &self.blocks
    }

    /// The trusted segment at a place.
    #[must_use]
    pub fn at(&self, place: Place) -> Option<&Packed> {
        self.blocks.get(place.block())?.get(place.slot())
    }

    /// The trusted segment of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<StoredSegment> {
        let place = Place::parse(name)?;
        self.at(place).map(|segment| self.stored(place, segment))
    }

    /// Whether there is a trusted segment of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        Place::parse(name).is_some_and(|place| self.at(place).is_some())
    }

    /// The first trusted segment.
    #[must_use]
    pub fn first(&self) -> Option<StoredSegment> {
        self.iter().next().map(|(place, segment)| self.stored(place, segment))
    }

    /// The trusted segments in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &Packed)> {
        self.blocks.all().iter().flat_map(|(id, block)| {
            block.segments.iter().map(|segment| (id.place(segment.slot()), segment))
        })
    }

    /// The trusted segment that has `count - 1` behind it.
    #[must_use]
    pub fn nth_last(&self, count: usize) -> Option<StoredSegment> {
        let mut left = count;
        for (id, block) in self.blocks.all().iter().rev() {
            if let Some(at) = block.segments.len().checked_sub(left) {
                let segment = block.segments.get(at)?;
                return Some(self.stored(id.place(segment.slot()), segment));
            }
            left -= block.segments.len();
        }
        None
    }

    /// The timelines that have trusted segments, in order.
    pub fn timelines(&self) -> impl Iterator<Item = Timeline> {
        let mut last = None;
        let all = self.blocks.all().iter().map(|(id, _)| id.place(0).timeline);
        all.filter(move |timeline| last.replace(*timeline) != Some(*timeline))
    }

    /// Every object of a segment whose name is stored more than once.
    pub fn doubles(&self) -> impl Iterator<Item = (Place, &Packed)> {
        let doubles = self.doubles.iter();
        doubles.flat_map(|(place, all)| all.iter().map(|segment| (*place, segment)))
    }

    /// Names under which different segments are stored: none of them can be trusted.
    pub fn ambiguous(&self) -> impl Iterator<Item = String> {
        let names = self.doubles.keys().filter(|place| self.at(**place).is_none());
        names.map(|place| place.name())
    }

    /// The object of the same name, by contents and compression.
    #[must_use]
    pub fn named_like(&self, place: Place, segment: &Packed) -> Option<&Packed> {
        let trusted = self.at(place).into_iter();
        let mut all = trusted.chain(self.doubles.get(&place).into_iter().flatten());
        all.find(|other| other.is_named_like(segment))
    }

    /// The object of a segment with this key, trusted or not.
    #[must_use]
    pub fn by_key(&self, key: &str) -> Option<(Place, &Packed)> {
        let file = key.strip_prefix(&*self.directory)?.rsplit_once('/')?.1;
        let place = Place::parse(file.get(..24)?)?;
        let trusted = self.at(place).into_iter();
        let mut all = trusted.chain(self.doubles.get(&place).into_iter().flatten());
        all.find(|segment| self.key(place, segment) == key).map(|segment| (place, segment))
    }

    /// Key of a segment's object.
    #[must_use]
    pub fn key(&self, place: Place, segment: &Packed) -> String {
        match self.naming {
            Naming::WithSha1 => {
                let (name, sha1) = (place.name(), segment.sha1());
                keys::segment_key(&self.directory, &name, &sha1, segment.codec())
            }
            Naming::Plain => format!("{}/{}", self.directory, place.name()),
        }
    }

    /// A segment with its key.
    #[must_use]
    pub fn stored(&self, place: Place, segment: &Packed) -> StoredSegment {
        StoredSegment {
            place,
            key: self.key(place, segment),
            sha1: segment.sha1(),
            codec: segment.codec(),
            key_id: self.key_id(segment).cloned(),
            found: segment.found(),
        }
    }

    /// The trusted segments from `first` to `last` that `other` may lack or have differently, each
    /// with the trusted one of the same name there. Equal blocks are passed over.
    pub fn differing<'a>(
        &'a self,
        other: Option<&'a Self>,
        first: Place,
        last: Place,
    ) -> impl Iterator<Item = (Place, &'a Packed, Option<&'a Packed>)> {
        let blocks = self.blocks.from(first.block()).iter();
        let mut hint = 0;
        let pairs =
            blocks.take_while(move |(id, _)| *id <= last.block()).map(move |(id, block)| {
                (id, block, other.and_then(|other| other.blocks.near(*id, &mut hint)))
            });
        let unequal = pairs.filter(|(_, block, there)| {
            there.is_none_or(|there| {
                there.digest != block.digest || there.segments.len() != block.segments.len()
            })
        });
        unequal
            .flat_map(|(id, block, there)| {
                let segments = block.segments.iter().map(|mine| (id.place(mine.slot()), mine));
                segments.map(move |(place, mine)| {
                    (place, mine, there.and_then(|there| there.get(mine.slot())))
                })
            })
            .filter(move |(place, _, _)| (first..=last).contains(place))
    }

    /// Counts what is there, after changes.
    pub(super) fn count(&mut self) {
        let blocks = self.blocks.all().iter();
        self.len = blocks.clone().map(|(_, block)| block.segments.len()).sum();
        let bytes: u64 = blocks.map(|(_, block)| block.bytes).sum();
        let untrusted: Vec<&Packed> = self
            .doubles()
            .filter(|(place, segment)| self.at(*place) != Some(segment))
            .map(|(_, segment)| segment)
            .collect();
        let more: u64 = untrusted.iter().map(|segment| segment.size_bytes()).sum();
        self.extent = ((self.len + untrusted.len()) as u64, bytes + more);
    }

    /// Puts the objects of a block in place of those that were there.
    pub(super) fn put(&mut self, id: BlockId, mut objects: Vec<Packed>, known: Option<&Self>) {
        let in_order = objects.is_sorted_by(|a, b| a.slot() < b.slot());
        for slot in self.doubled_slots(id) {
            self.doubles.remove(&id.place(slot));
        }
        if !in_order {
            // As their keys are ordered.
            objects.sort_by_key(|s| (s.slot(), s.sha1(), keys::extension(s.codec())));
            objects.dedup_by(|later, kept| {
                let again = later.is_named_like(kept);
                if again {
                    *kept = *later;
                }
                again
            });
            let mut single = Vec::with_capacity(objects.len());
            for same in objects.chunk_by(|a, b| a.slot() == b.slot()) {
                let last = same[same.len() - 1];
                if same.len() > 1 {
                    self.doubles.insert(id.place(last.slot()), same.to_vec());
                }
                if same.iter().all(|segment| segment.has_contents_of(&last)) {
                    single.push(last);
                }
            }
            objects = single;
        }
        match known.and_then(|known| known.blocks.get(id)) {
            _ if objects.is_empty() => drop(self.blocks.remove(id)),
            Some(block) if *block.segments == objects => self.blocks.insert(id, block.clone()),
            _ => self.blocks.insert(id, Arc::new(Block::new(objects))),
        }
    }

    /// Takes the objects of a block out, in the order of their slots.
    pub(super) fn take(&mut self, id: BlockId) -> Vec<Packed> {
        let block = self.blocks.remove(id);
        let mut objects = block.map_or_else(Vec::new, |block| block.segments.clone());
        for slot in self.doubled_slots(id) {
            let all = self.doubles.remove(&id.place(slot)).unwrap_or_default();
            objects.retain(|segment| segment.slot() != slot);
            objects.extend(all);
        }
        objects.sort_by_key(Packed::slot);
        objects
    }

    fn doubled_slots(&self, id: BlockId) -> Vec<u8> {
        let of_block = self.doubles.range(id.place(0)..=id.place(u8::MAX));
        of_block.map(|(place, _)| place.slot()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::recovery::Codec, engine::catalog::samples::found};

    #[test]
    fn keys_that_encrypt_have_short_numbers() {
        let mut archive = Archive::new("archive/m/15-1".to_owned(), Naming::WithSha1);
        let segment = Packed::new(Place::FIRST, &"a".repeat(40), Codec::Zst, &found(1)).unwrap();
        assert_eq!(archive.encryption_key(&segment), None);
        for (name, number) in [("old", 1), ("new", 2), ("old", 1)] {
            assert_eq!(archive.encryption_key_number(name), Some(number));
            assert_eq!(archive.encryption_key(&segment.encrypted_with(number)), Some(name));
        }
        for n in 3..=255 {
            assert_eq!(archive.encryption_key_number(&n.to_string()), Some(n));
        }
        assert_eq!(archive.encryption_key_number("one too many"), None);
    }
}
